"""An allow is only what is exactly that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.decision import (
    ALLOW,
    DENY,
    PdpAnswer,
    Question,
    Resource,
    Result,
    deciding_policy,
    granted,
    judge,
    resources_of,
)
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused

ALICE = Principal("alice", ("user",), {}, "i", 1.0, {})
QUESTION = Question("r1", ALICE, (Resource("doc", "1", "read", {}), Resource("doc", "2", "edit", {})))
GOOD = (Result("doc", "1", {"read": ALLOW}), Result("doc", "2", {"edit": DENY, "read": ALLOW}))


def test_each_resource_has_its_own_answer() -> None:
    assert judge(QUESTION, PdpAnswer("r1", "c", GOOD)) == [True, False]


@pytest.mark.parametrize(
    "answer",
    [
        PdpAnswer("r2", "c", GOOD), PdpAnswer("", "c", GOOD), PdpAnswer("r1", "c", GOOD[:1]), PdpAnswer("r1", "c", ()),
        PdpAnswer("r1", "c", (*GOOD, GOOD[0])), PdpAnswer("r1", "c", GOOD[::-1]),
        PdpAnswer("r1", "c", (Result("Doc", "1", {"read": ALLOW}), GOOD[1])),
        PdpAnswer("r1", "c", (Result("doc", "01", {"read": ALLOW}), GOOD[1])),
        PdpAnswer("r1", "c", (Result("doc", "1", {"edit": ALLOW}), GOOD[1])),
        PdpAnswer("r1", "c", (Result("doc", "1", {}), GOOD[1])),
        PdpAnswer("r1", "c", (GOOD[0]._replace(invalid=True), GOOD[1])),
        *(PdpAnswer("r1", "c", (Result("doc", "1", {"read": effect}), GOOD[1])) for effect in (
            "EFFECT_NO_MATCH", "EFFECT_UNSPECIFIED", "effect_allow", "ALLOW", "", "?",
        )),
    ],
)  # fmt: skip
def test_an_answer_to_anything_else_is_no_answer(answer: PdpAnswer) -> None:
    for read in (judge, granted):
        with pytest.raises(Refused) as caught:
            read(QUESTION, answer)
        assert caught.value.code is Code.PDP_MISMATCH


EFFECTS = st.sampled_from([{"read": ALLOW, "see": DENY}, {"read": DENY, "see": ALLOW}, {"read": ALLOW, "see": ALLOW}])


@given(st.lists(st.tuples(st.sampled_from(["read", "see"]), st.sampled_from([(), ("see",), ("read",)]), EFFECTS)))
def test_of_each_resource_what_is_allowed_of_what_was_asked(
    rows: list[tuple[str, tuple[str, ...], dict[str, str]]],
) -> None:
    resources = tuple(Resource("doc", str(at), action, {}, more) for at, (action, more, _) in enumerate(rows))
    results = tuple(Result("doc", str(at), effects) for at, (_, _, effects) in enumerate(rows))
    expected = [{name for name in (action, *more) if effects[name] == ALLOW} for action, more, effects in rows]
    assert granted(Question("r1", ALICE, resources), PdpAnswer("r1", "c", results)) == expected


def test_resources_of_a_list_differ_in_id_and_attributes() -> None:
    assert resources_of("doc", ("read", "see"), ["1", "2"], [{"n": 1}, {"n": 2}], "acme") == (
        Resource("doc", "1", "read", {"n": 1}, ("see",), "acme"), Resource("doc", "2", "read", {"n": 2}, ("see",), "acme"),
    )  # fmt: skip
    with pytest.raises(ValueError, match="shorter"):
        resources_of("doc", ("read",), ["1", "2"], [{"n": 1}], "")


@given(
    st.text(),
    st.text(),
    st.text(),
    st.dictionaries(st.sampled_from(["read", "edit"]), st.sampled_from([ALLOW, DENY, "x"])),
    st.booleans(),
)
def test_nothing_but_a_plain_allow_for_this_question_allows(
    request_id: str, kind: str, identifier: str, effects: dict[str, str], invalid: bool
) -> None:
    question = Question("r1", ALICE, (Resource("doc", "1", "read", {}),))
    try:
        (allowed,) = judge(question, PdpAnswer(request_id, "", (Result(kind, identifier, effects, invalid),)))
    except Refused:
        return
    assert (request_id, kind, identifier, invalid) == ("r1", "doc", "1", False)
    assert allowed == (effects["read"] == ALLOW)


@pytest.mark.parametrize(
    ("matched", "scope", "allowed", "policy"),
    [
        ("resource.doc.vdefault/acme.hr", "acme.hr", True, "resource.doc.vdefault/acme.hr"),
        ("resource.doc.vdefault/acme.hr", "acme", True, "resource.doc.vdefault/acme"),
        ("resource.doc.vdefault/acme.hr", "acme", False, "resource.doc.vdefault/acme"),
        ("resource.doc.vdefault/acme.hr", "", True, "resource.doc.vdefault"),
        # the policy without a scope denied, or no rule was met: Cerbos says the same of both
        ("resource.doc.vdefault/acme.hr", "", False, "resource.doc.vdefault/acme.hr"),
        ("principal.bob.vdefault", "", False, "principal.bob.vdefault"),
        ("NO_MATCH", "", False, "NO_MATCH"),
        ("", "", True, ""),
    ],
)
def test_the_policy_that_decided_is_told_by_the_scope(matched: str, scope: str, allowed: bool, policy: str) -> None:
    assert deciding_policy(matched, scope, allowed) == policy
