"""Functions of users as a source: found by name, judged before a request comes, and what they return is read as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import jmespath
import pytest

from sidecar.api import BatchLookupRequest, LookupRequest, Principal
from sidecar.gate.codes import Code
from sidecar.gate.function import Function
from sidecar.gate.hook import Hook
from sidecar.gate.identity import Principal as Sender
from sidecar.gate.lookup import Attribute, Batch, Call, Lookup, Missing, attributes_from, call_for
from sidecar.gate.references import Material
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.verdict import Refused
from sidecar.lookups.asking import Lookups
from sidecar.lookups.function import PLACES, FunctionSource, find
from sidecar.lookups.http import MAX_BATCH, MAX_BODY
from sidecar.record.reasons import Reason
from tests.fakes import Clock, refusal, until

OWNER = {"owner": Attribute(jmespath.compile("owner").search)}
REQUEST = read(Raw("GET", b"/", [(b"host", b"x")], "", "http", "r"), Reading())
ALICE = Sender("alice", ("user",), {"tenant": "t1"}, "https://issuer", 1.0, {})


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that users could have written."""
    made = ModuleType("acme_authz")
    monkeypatch.setitem(sys.modules, "acme_authz", made)
    return made


@pytest.fixture
def source() -> FunctionSource:
    return FunctionSource()


@pytest.fixture
async def lookups(source: FunctionSource) -> AsyncIterator[Lookups]:
    made = Lookups({Function: source}, now=Clock(), report=lambda *told: FAULTS.append(told))
    FAULTS.clear()
    yield made
    await made.aclose()


FAULTS: list[tuple[object, ...]] = []


def lookup(name: str = "team_of", **more: Any) -> Lookup:
    function = Function(f"acme_authz:{name}", more.pop("as_principal", False), "batch" in more)
    return Lookup(**{"name": "team", "inquiry": function, "attributes": OWNER, "timeout": 5.0, **more})


def call(asked: Lookup, resource_id: str = "7", sender: Sender = ALICE) -> Call:
    return call_for(asked, "order", resource_id, Material(REQUEST, {}, sender))


async def told(lookups: Lookups, asked: Call) -> dict[str, Any]:
    """What the gate does."""
    return attributes_from(asked, await lookups.ask(asked))


# --- what it gets, and what it gives ---


async def test_a_function_gets_the_resource_and_nobody(module: ModuleType, lookups: Lookups) -> None:
    got: list[LookupRequest] = []

    def team_of(asked: LookupRequest) -> dict[str, Any]:
        got.append(asked)
        return {"owner": "alice"}

    module.team_of = team_of  # type: ignore[attr-defined]
    assert await told(lookups, call(lookup())) == {"owner": "alice"}
    (asked,) = got
    assert (asked.kind, asked.id, asked.principal) == ("order", "7", None)
    assert 4.5 < asked.timeout <= 5.0


async def test_a_function_gets_who_asks_where_it_says_so(module: ModuleType, lookups: Lookups) -> None:
    got: list[LookupRequest] = []

    async def team_of(asked: LookupRequest) -> dict[str, Any]:
        got.append(asked)
        return {"owner": asked.principal.id if asked.principal else None}

    module.team_of = team_of  # type: ignore[attr-defined]
    assert await told(lookups, call(lookup(as_principal=True))) == {"owner": "alice"}
    assert got[0].principal == Principal("alice", ("user",), {"tenant": "t1"}, "https://issuer")


async def test_an_answer_is_kept_for_whom_it_was_asked(module: ModuleType, lookups: Lookups) -> None:
    count = 0

    def team_of(asked: LookupRequest) -> dict[str, Any]:
        nonlocal count
        count += 1
        return {"owner": asked.principal.id if asked.principal else "shared"}

    module.team_of = team_of  # type: ignore[attr-defined]
    bob = ALICE._replace(id="bob")
    each = lookup(as_principal=True, cache=60.0)
    for sender in (ALICE, bob, ALICE, bob, ALICE._replace(roles=("admin",))):
        assert await told(lookups, call(each, sender=sender)) == {"owner": sender.id}
    assert count == 3
    shared = lookup(name="team_of", cache=60.0)._replace(name="shared")
    for sender in (ALICE, bob):
        assert await told(lookups, call(shared, sender=sender)) == {"owner": "shared"}
    assert count == 4


@pytest.mark.parametrize("missing", [Missing.DENY, Missing.HIDE, Missing.EMPTY])
async def test_none_says_that_there_is_no_such_thing(module: ModuleType, lookups: Lookups, missing: Missing) -> None:
    module.team_of = lambda asked: None  # type: ignore[attr-defined]
    work = told(lookups, call(lookup(missing=missing)))
    if missing is Missing.EMPTY:
        assert await work == {}
    else:
        assert await refusal(work) is (Code.RESOURCE_MISSING if missing is Missing.DENY else Code.RESOURCE_HIDDEN)


async def test_an_answer_about_another_id_is_refused(module: ModuleType, lookups: Lookups) -> None:
    module.team_of = lambda asked: {"owner": "alice", "id": 7}  # type: ignore[attr-defined]
    asked = lookup(echo=jmespath.compile("id").search)
    assert await told(lookups, call(asked)) == {"owner": "alice"}
    assert await refusal(told(lookups, call(asked, "07"))) is Code.LOOKUP_MISMATCH


async def test_what_a_function_changes_is_its_own(module: ModuleType, lookups: Lookups) -> None:
    def team_of(asked: LookupRequest) -> dict[str, Any]:
        assert asked.principal is not None
        asked.principal.attributes.clear()  # type: ignore[attr-defined]
        return {"owner": "alice"}

    module.team_of = team_of  # type: ignore[attr-defined]
    await told(lookups, call(lookup(as_principal=True)))
    assert ALICE.attributes == {"tenant": "t1"}


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


CYCLE: dict[str, Any] = {"owner": "alice"}
CYCLE["self"] = CYCLE
WRONG: dict[str, tuple[Any, Code, str]] = {
    "a list": ([{"owner": "alice"}], Code.LOOKUP_BAD_ANSWER, "found list, expected a dict or None"),
    "a text": ("alice", Code.LOOKUP_BAD_ANSWER, "found str"),
    "True": (True, Code.LOOKUP_BAD_ANSWER, "found bool"),
    "a Decimal": ({"owner": "alice", "n": Decimal(1)}, Code.LOOKUP_BAD_ANSWER, "found a Decimal"),
    "a date": ({"owner": "alice", "at": datetime.now(UTC)}, Code.LOOKUP_BAD_ANSWER, "found a datetime"),
    "a set": ({"owner": {"alice"}}, Code.LOOKUP_BAD_ANSWER, "found a set"),
    "octets": ({"owner": b"alice"}, Code.LOOKUP_BAD_ANSWER, "found a bytes"),
    "NaN": ({"owner": float("nan")}, Code.LOOKUP_BAD_ANSWER, ""),
    "a number beyond 2^53": ({"owner": 2**60}, Code.LOOKUP_BAD_ANSWER, "2^53"),
    "a surrogate": ({"owner": "\ud800"}, Code.LOOKUP_BAD_ANSWER, ""),
    "a name that is no text": ({1: "x", "owner": "alice"}, Code.LOOKUP_BAD_ANSWER, "a name that is no string"),
    "too deep": ({"owner": "alice", "x": deep(40)}, Code.LOOKUP_BAD_ANSWER, "nested too deeply"),
    "a cycle": (CYCLE, Code.LOOKUP_BAD_ANSWER, "nested too deeply"),
    "too much": ({"owner": "a" * MAX_BODY}, Code.LOOKUP_BAD_ANSWER, f"expected at most {MAX_BODY}"),
    "no owner": ({}, Code.LOOKUP_MISMATCH, ""),
    "an owner that is None": ({"owner": None}, Code.LOOKUP_MISMATCH, ""),
    "an owner of another type": ({"owner": ["alice"]}, Code.LOOKUP_MISMATCH, ""),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
async def test_a_wrong_result_never_becomes_attributes(
    module: ModuleType, lookups: Lookups, name: str, plain: bool
) -> None:
    value, code, says = WRONG[name]

    async def later(asked: LookupRequest) -> Any:
        return value

    module.team_of = (lambda asked: value) if plain else later  # type: ignore[attr-defined]
    assert await refusal(told(lookups, call(lookup()))) is code
    assert all(says in str(fault[3]) and fault[2] is Reason.FUNCTION_RESULT for fault in FAULTS)


async def test_a_plain_function_that_gives_a_coroutine_is_told_of(module: ModuleType, lookups: Lookups) -> None:
    async def inner() -> dict[str, Any]:
        return {"owner": "alice"}

    module.team_of = lambda asked: inner()  # type: ignore[attr-defined]
    assert await refusal(told(lookups, call(lookup()))) is Code.LOOKUP_BAD_ANSWER
    assert "found coroutine" in str(FAULTS[0][3])


# --- many ids in one call ---


async def told_all(lookups: Lookups, asked: Lookup, *ids: str) -> list[dict[str, Any] | Code]:
    calls = [call(asked, one) for one in ids]
    found: list[dict[str, Any] | Code] = []
    for one, reply in zip(calls, await lookups.ask_all(calls), strict=True):
        try:
            found.append(attributes_from(one, reply))
        except Refused as refused:
            found.append(refused.code)
    return found


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
async def test_a_function_is_asked_about_many_in_one_call(module: ModuleType, lookups: Lookups, plain: bool) -> None:
    got: list[BatchLookupRequest] = []

    def teams_of(asked: BatchLookupRequest) -> dict[str, Any]:
        got.append(asked)
        return {one: {"owner": f"of {one}"} if one != "8" else None for one in asked.ids if one != "9"}

    async def later(asked: BatchLookupRequest) -> dict[str, Any]:
        return teams_of(asked)

    module.team_of = teams_of if plain else later  # type: ignore[attr-defined]
    many = lookup(batch=Batch(4), cache=60.0, as_principal=True)
    gone = Code.RESOURCE_MISSING
    assert await told_all(lookups, many, "7", "8", "9", "ä") == [{"owner": "of 7"}, gone, gone, {"owner": "of ä"}]
    assert await told(lookups, call(many, "7")) == {"owner": "of 7"}
    (asked,) = got
    assert (asked.kind, asked.ids, asked.principal) == (
        "order", ("7", "8", "9", "ä"), Principal("alice", ("user",), {"tenant": "t1"}, "https://issuer"),
    )  # fmt: skip
    assert 4.5 < asked.timeout <= 5.0
    assert await told_all(lookups, many, "7", "1", "2", "3", "4", "5") == [{"owner": f"of {one}"} for one in "712345"]
    assert [asked.ids for asked in got[1:]] == [("1", "2", "3", "4"), ("5",)]


async def test_items_of_many_are_told_apart_by_echo(module: ModuleType, lookups: Lookups) -> None:
    module.team_of = lambda asked: [{"id": 8, "owner": "b"}]  # type: ignore[attr-defined]
    many = lookup(batch=Batch(4), echo=jmespath.compile("id").search)
    assert await told_all(lookups, many, "7", "8") == [Code.RESOURCE_MISSING, {"owner": "b"}]


MANY_WRONG: dict[str, tuple[Any, str]] = {
    "None": (None, "found NoneType, expected a dict, id: dict"),
    "a text": ("alice", "found str"),
    "a list without echo": ([{"id": "7", "owner": "alice"}], ""),
    "an id that nobody asked for": ({"7": {"owner": "alice"}, "9": {"owner": "bob"}}, ""),
    "a name that is no text": ({7: {"owner": "alice"}}, "a name that is no string"),
    "too much": ({"7": {"owner": "a" * MAX_BATCH}}, f"expected at most {MAX_BATCH}"),
}


@pytest.mark.parametrize("name", MANY_WRONG)
async def test_a_wrong_result_about_many_is_one_about_none(module: ModuleType, lookups: Lookups, name: str) -> None:
    value, says = MANY_WRONG[name]
    module.team_of = lambda asked: value  # type: ignore[attr-defined]
    assert await refusal(told_all(lookups, lookup(batch=Batch(4)), "7", "8")) is Code.LOOKUP_BAD_ANSWER
    assert says in str(FAULTS)


# --- what goes wrong in it ---


def fails(asked: LookupRequest) -> None:
    raise ValueError("postgres://user:secret@db")


async def fails_later(asked: LookupRequest) -> None:
    raise SystemExit("secret")


@pytest.mark.parametrize(("function", "named"), [(fails, "ValueError"), (fails_later, "SystemExit")])
async def test_an_exception_is_unavailable_and_its_text_is_not_told(
    module: ModuleType, lookups: Lookups, function: Callable[..., Any], named: str
) -> None:
    """One id that a function cannot cope with closes the lookup to nobody else."""
    module.team_of = function  # type: ignore[attr-defined]
    for _ in range(8):
        assert await refusal(told(lookups, call(lookup()))) is Code.LOOKUP_UNAVAILABLE
    _, place, reason, detail = FAULTS[0]
    assert (place, reason) == ("lookups.team: acme_authz:team_of", Reason.FUNCTION_RAISED)
    assert str(detail).startswith(f"{named} in test_function.py:")
    assert "secret" not in str(FAULTS)
    assert lookups.breakers() == {"team": False}


async def test_a_time_out_of_what_it_calls_is_its_exception(module: ModuleType, lookups: Lookups) -> None:
    def team_of(asked: LookupRequest) -> None:
        raise TimeoutError

    module.team_of = team_of  # type: ignore[attr-defined]
    assert await refusal(told(lookups, call(lookup()))) is Code.LOOKUP_UNAVAILABLE


async def test_a_hang_ends_at_the_deadline_is_counted_and_opens_the_breaker(
    module: ModuleType, lookups: Lookups, source: FunctionSource
) -> None:
    gate = threading.Event()

    def team_of(asked: LookupRequest) -> dict[str, Any]:
        gate.wait(20)
        return {"owner": "alice"}

    module.team_of = team_of  # type: ignore[attr-defined]
    started = time.monotonic()
    codes = [await refusal(told(lookups, call(lookup(timeout=0.05), str(number)))) for number in range(6)]
    assert time.monotonic() - started < 5
    assert codes == [Code.LOOKUP_TIMEOUT] * 5 + [Code.LOOKUP_OPEN]
    assert source.overdue() == {"team": 5}
    gate.set()
    await until(lambda: source.overdue() == {"team": 0})


async def test_where_all_places_hang_the_next_one_is_late_too(
    module: ModuleType, lookups: Lookups, source: FunctionSource
) -> None:
    gate = threading.Event()
    module.team_of = lambda asked: gate.wait(20) and None  # type: ignore[attr-defined]
    asked = call(lookup(timeout=0.05))
    for number in range(PLACES):
        lookups._breakers.clear()
        assert await refusal(lookups.ask(asked._replace(question=call(lookup(), str(number)).question)))
    lookups._breakers.clear()
    assert await refusal(lookups.ask(asked)) is Code.LOOKUP_TIMEOUT
    assert FAULTS[-1][2:] == (Reason.FUNCTION_PLACES, f"{PLACES} calls go on though their time is over")
    gate.set()
    await until(lambda: source.overdue() == {"team": 0})


async def test_one_principal_has_half_of_the_places(module: ModuleType, lookups: Lookups) -> None:
    gate = threading.Event()
    module.team_of = lambda asked: gate.wait(20) and {"owner": asked.id}  # type: ignore[attr-defined]
    slow = [asyncio.ensure_future(told(lookups, call(lookup(), str(number)))) for number in range(PLACES)]
    await until(lambda: "team" in lookups.shares and lookups.shares["team"].under_way == PLACES // 2)
    quick = asyncio.ensure_future(told(lookups, call(lookup(), "q", ALICE._replace(id="bob"))))
    await until(lambda: lookups.shares["team"].under_way == PLACES // 2 + 1)
    gate.set()
    assert await quick == {"owner": "q"}
    assert await asyncio.gather(*slow) == [{"owner": str(number)} for number in range(PLACES)]


async def test_another_function_of_the_same_lookup_is_called_after_a_reload(
    module: ModuleType, lookups: Lookups
) -> None:
    module.team_of = lambda asked: {"owner": "old"}  # type: ignore[attr-defined]
    module.other = lambda asked: {"owner": "new"}  # type: ignore[attr-defined]
    for name, owner in (("team_of", "old"), ("other", "new")):
        for _ in range(2):
            assert await told(lookups, call(lookup(name))) == {"owner": owner}


async def test_one_that_is_gone_is_unavailable(module: ModuleType, lookups: Lookups) -> None:
    assert await refusal(told(lookups, call(lookup("gone")))) is Code.LOOKUP_UNAVAILABLE


async def test_another_inquiry_is_a_mistake_of_ours(lookups: Lookups, source: FunctionSource) -> None:
    asked = call(lookup())
    wrong = asked._replace(lookup=asked.lookup._replace(inquiry=Hook("http://h", ())))
    with pytest.raises(TypeError, match="not a function"):
        await source.ask(wrong, 1.0)


# --- how it is found ---


class Team:
    def __call__(self, asked: LookupRequest) -> None: ...

    def method(self, asked: LookupRequest) -> None: ...

    async def later(self, asked: LookupRequest) -> None: ...

    async def none(self) -> None: ...


async def stream(asked: LookupRequest) -> AsyncIterator[int]:
    yield 1


def every(asked: LookupRequest, *, retries: int = 3) -> None: ...


def needy(asked: LookupRequest, region: str) -> None: ...


@pytest.mark.parametrize("name", ["team", "team.method", "team.later", "every", "json.loads"])
def test_whatever_takes_one_request_can_be_called(module: ModuleType, name: str) -> None:
    module.team, module.every, module.json = Team(), every, json  # type: ignore[attr-defined]
    assert callable(find(f"acme_authz:{name}"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Team", "found a class at 'acme_authz:Team', expected a function that takes one LookupRequest"),
        ("team.none", "found the parameters ()"),
        ("needy", "found the parameters (asked: 'LookupRequest', region: 'str')"),
        ("stream", "found a generator"),
        ("number", "found int, which cannot be called,"),
        ("gone", "found no 'gone' in 'acme_authz'"),
        ("gone.method", "found no 'gone.method' in 'acme_authz'"),
    ],
)
def test_what_cannot_be_called_is_told_of_before_a_request_comes(module: ModuleType, name: str, says: str) -> None:
    vars(module).update(Team=Team, team=Team(), needy=needy, stream=stream, number=7)
    with pytest.raises(ValueError, match="expected") as told:
        find(f"acme_authz:{name}")
    assert says in str(told.value)


def evaluated(asked: Any) -> None: ...


evaluated.__annotations__["asked"] = BatchLookupRequest


def of_many(asked: BatchLookupRequest) -> None: ...


def test_a_function_is_asked_what_it_takes(module: ModuleType) -> None:
    vars(module).update(every=every, of_many=of_many, evaluated=evaluated, plain=lambda asked: None)
    assert find("acme_authz:plain") is find("acme_authz:plain", many=True)
    assert find("acme_authz:every") is every
    for name in ("of_many", "evaluated"):
        assert find(f"acme_authz:{name}", many=True) is vars(module)[name]
        with pytest.raises(ValueError, match=r"found one that takes a BatchLookupRequest at .*, or `batch: true`"):
            find(f"acme_authz:{name}")
    with pytest.raises(
        ValueError, match=r"found one that takes a LookupRequest at .* takes one BatchLookupRequest, plain"
    ):
        find("acme_authz:every", many=True)


def test_a_module_is_found_in_the_working_directory_after_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_of_cwd.py").write_text("def team_of(asked): ...")
    # a name that the standard library has
    (tmp_path / "colorsys.py").write_text("def team_of(asked): ...")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert find("acme_of_cwd:team_of").__module__ == "acme_of_cwd"
    with pytest.raises(ValueError, match="found no 'team_of' in 'colorsys'"):
        find("colorsys:team_of")
    assert sys.path.count(str(tmp_path)) == 1
    del sys.modules["acme_of_cwd"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise ValueError('postgres://u:secret@db')", "cannot import 'acme_bad': ValueError in acme_bad.py:1"),
        ("import sys; sys.exit(1)", "cannot import 'acme_bad': SystemExit in acme_bad.py:1"),
        ("def f(:", "invalid syntax"),
        ("import acme_nowhere", "No module named 'acme_nowhere'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    (tmp_path / "acme_bad.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="cannot import") as told:
        find("acme_bad:f")
    assert says in str(told.value)
    assert "secret" not in str(told.value)
