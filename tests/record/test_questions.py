"""What the question log keeps: nothing that is not listed, rare cells whole, and totals that are exact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code, Ground
from sidecar.gate.decision import Question, Resource
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import EachAsked, Facts, Refuse
from sidecar.record.line import QuestionLine, read, write
from sidecar.record.questions import (
    FIRST,
    HOUR,
    MAX_ATTRIBUTE,
    MAX_ATTRIBUTES,
    MAX_PRINCIPALS,
    DecidedRequest,
    Sampler,
    VisibleAttributes,
    cell_of,
    question_of,
)
from tests.permits import Permit

TIME = "2026-01-31T12:00:00.000+00:00"
FEW = 10
assert FEW < FIRST
SHOWN = VisibleAttributes.of(("resource.owner", "resource.size", "principal.level"))


def asked_about(*resources: Resource, level: Any = 3, **attributes: Any) -> Question:
    told = {"level": level, "email": "SECRET@example.com"}
    principal = Principal("alice", ("user",), told, "https://i", 9.0, {"sub": "SECRET"})
    return Question("r1", principal, resources or (Resource("doc", "7", "view", attributes),))


def facts(asked: Question | None = None, **more: Any) -> Facts:
    made = {
        "route": "/docs/{id}",
        "principal": "alice",
        "roles": ("user",),
        "kind": "doc",
        "resource_id": "7",
        "action": "view",
        **more,
    }
    return Facts("r1", "GET", "/docs/7", "10.0.0.9", **made, asked=asked)  # fmt: skip


def seen(known: Facts, **more: Any) -> DecidedRequest:
    verdict = Permit(b"GET", b"/docs/7?token=SECRET", (), Ground.ALLOWED, known)
    return DecidedRequest(**{
        "verdict": verdict, "mode": "enforce", "effect": "allow", "code": "allowed", "status": 200, "seconds": 0.005, **more
    })  # fmt: skip


def line_of(known: Facts, **more: Any) -> QuestionLine:
    """The line of a request, as it is read back."""
    data = write(question_of(seen(known, **more), TIME, SHOWN, "0123456789abcdef")).encode()
    assert b"SECRET" not in data
    found = read(data)
    assert isinstance(found, QuestionLine)
    assert not found.extra
    return found


def test_a_line_has_the_question_the_verdict_and_what_the_app_said() -> None:
    known = facts(
        asked_about(owner="alice", phone="SECRET"), query=b"page=2&token=SECRET", host="app.test", call_id="c",
        policy="resource.doc.vdefault", stages={"identity": 0.001, "decision": 0.001},
    )  # fmt: skip
    assert line_of(known, app_status=200) == QuestionLine(
        TIME, "r1", "enforce", "allow", "allowed", 200, "GET", "app.test", "/docs/7", "/docs/{id}", "alice", ("user",), "doc", "7", "view",
        5.0, 1, True, 200, 3.0, {"owner": "alice"}, {"level": 3}, None, ("principal.email", "resource.phone"), ("owner",), ("page", "token"),
        "resource.doc.vdefault", "0123456789abcdef",
    )  # fmt: skip


def test_one_that_asked_nobody_has_no_question() -> None:
    refused = Refuse(Code.TOKEN_MISSING, facts(principal="", roles=()), "no token")
    found = line_of(facts(), verdict=refused, effect="refuse", code="token_missing", status=401)
    assert (found.asked, found.attributes, found.principal_attributes, found.app_status, found.app_ms) == (
        False,
        *[None] * 4,
    )
    assert (found.detail, found.redacted, found.owner, found.policy) == ("no token", None, None, None)


@pytest.mark.parametrize(
    ("value", "is_shown"),
    [
        ("x" * (MAX_ATTRIBUTE - 2), True), ("x" * MAX_ATTRIBUTE, False), ([1, {"a": None}], True), (float("nan"), False), ("\ud800", False),
        (b"", False),
    ],
)  # fmt: skip
def test_a_value_that_is_too_long_or_no_json_is_left_out(value: Any, is_shown: bool) -> None:
    found = line_of(facts(asked_about(owner=value)))
    assert (found.attributes, found.redacted) == (
        ({"owner": value}, ("principal.email",)) if is_shown else ({}, ("principal.email", "resource.owner"))
    )


@pytest.mark.parametrize("value", ["x" * 5000, [1] * 5000, dict.fromkeys(map(str, range(5000)))])
def test_what_is_plainly_too_long_is_not_written_to_be_measured(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    dumps = json.dumps

    def noting(one: Any, **how: Any) -> str:
        written.append(one)
        return dumps(one, **how)

    monkeypatch.setattr(json, "dumps", noting)
    assert line_of(facts(asked_about(owner=value))).attributes == {}
    assert value not in written


def test_attributes_nested_too_deeply_are_left_out() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert line_of(facts(asked_about(owner=deep))).attributes == {}
    while isinstance(deep, list):
        deep = deep.pop()


def test_a_request_about_many_has_each_with_its_answer_and_a_bound_in_all() -> None:
    resources = [Resource("doc", str(number), "view", {"owner": "alice", "size": "x" * 1000}) for number in range(100)]
    each = EachAsked((*map(str, range(100)), "gone"), ("1", "gone"), (True, False, *[True] * 98))
    found = line_of(facts(asked_about(*resources), each=each, resource_id=""))
    assert found.resources is not None
    assert [one["allowed"] for one in found.resources[:3]] == [True, False, True]
    assert found.resources[0] == {"id": "0", "allowed": True, "attributes": {"owner": "alice", "size": "x" * 1000}}
    assert found.resources[99]["attributes"] == {"owner": "alice"}
    assert (found.attributes, found.missing, found.owner) == (None, 1, ("owner",))
    assert found.redacted == ("principal.email", "resource.size")
    assert len(write(found)) < 2 * MAX_ATTRIBUTES
    unanswered = line_of(facts(asked_about(*resources), each=EachAsked(each.ids)))
    assert (unanswered.resources, unanswered.attributes, unanswered.asked) == (None, None, True)


@pytest.mark.parametrize(
    ("attributes", "owner"),
    [
        ({"owner": "alice", "phone": "alice", "size": 1}, ("owner", "phone")), ({"owner": "bob"}, None), ({"owner": ["alice"]}, None), ({}, None),
    ],
)  # fmt: skip
def test_an_owner_is_an_attribute_that_is_the_principals_id(attributes: dict[str, Any], owner: Any) -> None:
    assert line_of(facts(asked_about(**attributes))).owner == owner


def test_an_owner_may_be_a_number_and_is_one_of_all_resources() -> None:
    asked = asked_about(
        Resource("doc", "1", "view", {"a": 7, "b": 7}), Resource("doc", "2", "view", {"a": 7, "b": True})
    )
    asked = asked._replace(principal=asked.principal._replace(id="7"))
    assert line_of(facts(asked)).owner == ("a",)


# --- sampling ---


class World:
    """Cells, and what became of the requests that were told them. `draws` are the numbers that come by chance."""

    def __init__(self, remembered: int = 1024 * 1024) -> None:
        self.cells = Sampler(lambda most: (most + 1) // 2, remembered, FEW)
        self.lines: list[QuestionLine] = []
        self.told: dict[str, int] = {}

    def tell(self, code: str, principal: str = "alice", now: float = 0.0, times: int = 1, **more: Any) -> None:
        for _ in range(times):
            request = seen(facts(asked_about(**more), principal=principal), code=code)
            self.told[code] = self.told.get(code, 0) + 1
            self.lines += self.cells.take(cell_of(request), principal, now, partial(question_of, request, TIME, SHOWN))

    def end(self) -> Mapping[str, int]:
        """Write what is left -> the requests that lines stand for, by code."""
        self.lines += self.cells.rests()
        found: dict[str, int] = {}
        for one in self.lines:
            found[one.code] = found.get(one.code, 0) + one.weight
        return found


def test_the_first_of_an_hour_are_all_kept_and_then_one_in_ever_more() -> None:
    world = World()
    world.tell("common", times=FEW)
    assert [one.weight for one in world.lines] == [1] * FEW
    world.tell("common", times=9 * FEW)
    rest = world.lines[FEW:]
    weights = [one.weight for one in rest]
    assert weights == sorted(weights)
    assert max(weights) > 5
    assert len(rest) < 4 * FEW
    world.tell("rare", times=3)
    assert [one.weight for one in world.lines if one.code == "rare"] == [1, 1, 1]
    before = len(world.lines)
    world.tell("common", now=HOUR, times=FEW)
    assert len(world.lines) == before + FEW
    assert world.end() == world.told


def test_a_principal_who_is_new_to_a_cell_is_kept() -> None:
    world = World()
    world.tell("common", times=50 * FEW)
    before = len(world.lines)
    for number in range(2 * MAX_PRINCIPALS):
        world.tell("common", f"u{number}")
    new = world.lines[before:]
    assert {f"u{number}" for number in range(MAX_PRINCIPALS - 1)} <= {one.principal for one in new}
    # of more than that none is new: nobody fills the disk by being many
    assert len(new) < MAX_PRINCIPALS + 200
    assert world.end() == world.told


def test_cells_differ_by_what_a_report_tells_apart_and_by_nothing_that_clients_choose() -> None:
    base = seen(facts(asked_about(owner="alice")))
    others = [
        seen(facts(asked_about(owner="bob"))), seen(facts(None)), seen(facts(asked_about(owner="alice"), action="edit")),
        seen(facts(asked_about(owner="alice"), roles=())), base._replace(app_status=403), base._replace(code="denied_by_policy"),
        base._replace(mode="shadow"),
    ]  # fmt: skip
    assert len({cell_of(one) for one in (base, *others)}) == len(others) + 1
    strange = [
        Facts("r1", method, path, host=host, query=b"a=1")
        for method, path, host in (("BREW", "/a", "a"), ("PROPFIND", "/b", "b"))
    ]
    assert len({cell_of(seen(one)) for one in strange}) == 1


def test_cells_are_bounded_and_the_one_that_is_forgotten_leaves_its_rest() -> None:
    world = World(64 * 1024)
    for number in range(100):
        world.tell(f"code{number}", times=2 * FEW + 7)
        assert world.cells.remembered <= 64 * 1024
    assert world.end() == world.told


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["alice", "bob", ""]), st.integers(0, 2), st.integers(1, 40)),
        max_size=12,
    ),
    st.sampled_from([1, 4 * 1024, 1024 * 1024]),
)  # fmt: skip
def test_the_weights_add_up_to_the_requests(turns: list[tuple[str, str, int, int]], remembered: int) -> None:
    world = World(remembered)
    for code, principal, hour, times in turns:
        world.tell(code, principal, hour * HOUR, times)
        if times % 3 == 0:
            world.lines += world.cells.rests()
    assert world.end() == world.told
    assert all(one.weight > 0 for one in world.lines)


def test_a_line_is_json_of_ascii() -> None:
    known = facts(asked_about(owner="\u2028é"), host="é")
    text = write(question_of(seen(known), TIME, SHOWN))
    assert text.isascii()
    assert text.count("\n") == 1
    assert json.loads(text)["attributes"] == {"owner": "\u2028é"}


def test_a_request_for_several_things_has_of_each_what_is_not_that_of_the_line() -> None:
    resources = [
        Resource("doc", "-", "view", {}),
        Resource("note", "-", "view", {}),
        Resource("doc", "-", "delete", {}, (), "s"),
    ]
    found = line_of(facts(asked_about(*resources), each=EachAsked(("a", "b", "c"), (), (True,) * 3), resource_id=""))
    common = {"id": "-", "allowed": True, "attributes": {}}
    assert found.resources == (common, {**common, "kind": "note"}, {**common, "action": "delete", "scope": "s"})
    assert found.missing is None
