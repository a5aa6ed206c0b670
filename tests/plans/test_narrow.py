"""Plans as what an app is asked for in addition."""

from __future__ import annotations

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.identity import Principal
from sidecar.gate.narrowing import ListQuestion, Narrowed, Push, PushedAttribute
from sidecar.gate.values import Type
from sidecar.gate.verdict import Refused
from sidecar.plans.filter import RowField
from sidecar.plans.narrow import Narrower, PlanTrust, Trusted, names_of
from sidecar.plans.plan import Always, Conditional, Constant, Node, Plan, PlanExpression, PlanVariable, UnknownNode
from sidecar.plans.translate import FieldNames

ALICE = Principal("alice", ("user",), {}, "iss", 0.0, {})
QUESTION = ListQuestion("r-1", ALICE, "contact", "read")
PUSH = Push(
    "json-server",
    "id",
    {"owner": PushedAttribute("owner_id", Type.STRING, required=True), "team": PushedAttribute("teams[0]")},
)
OWNED = PlanExpression("eq", (PlanVariable("request.resource.attr.owner"), Constant("alice")))
NOTHING_PUSHED = Narrowed()
ALL = PlanTrust(conditions=True, denied=True, allowed=True)


def warrants(trust: PlanTrust) -> Trusted:
    async def trusted(question: ListQuestion) -> PlanTrust:
        assert question is QUESTION
        return trust

    return trusted


trusted = warrants(ALL)


def narrowing(plan: Plan | Code, trust: Trusted = trusted) -> Narrower:
    async def ask(question: ListQuestion) -> Plan:
        assert question is QUESTION
        if isinstance(plan, Code):
            raise Refused(plan)
        return plan

    return Narrower(ask, trust)


async def narrowed(plan: Plan | Code, query: bytes = b"", trust: Trusted = trusted) -> Narrowed:
    return await narrowing(plan, trust).narrow(QUESTION, PUSH, query)


async def test_a_condition_is_said_in_the_apps_own_names() -> None:
    assert await narrowed(Conditional(OWNED)) == Narrowed((("owner_id", "alice"),), (), "exact")


@pytest.mark.parametrize(
    "node", [UnknownNode(), PlanExpression("eq", (PlanVariable("request.resource.attr.team"), Constant("a")))]
)
async def test_what_cannot_be_said_narrows_nothing(node: Node) -> None:
    assert await narrowed(Conditional(node)) == NOTHING_PUSHED


async def test_plans_without_a_condition() -> None:
    assert await narrowed(Always.ALLOWED) == Narrowed(pushed="exact")
    assert await narrowed(Always.DENIED) == Narrowed(pushed="exact", nothing=True)
    assert (await narrowed(Conditional(Constant(value=False)))).nothing


@pytest.mark.parametrize("query", [b"a;b", b"%zz"])
async def test_a_query_that_cannot_be_read_is_left_as_it_is_and_nobody_is_asked(query: bytes) -> None:
    assert await narrowed(Code.PDP_TIMEOUT, query) == NOTHING_PUSHED


async def test_a_plan_that_is_not_trusted_is_not_asked_for() -> None:
    assert await narrowed(Code.PDP_TIMEOUT, trust=warrants(PlanTrust())) == NOTHING_PUSHED


async def test_a_filter_in_a_header_is_signed_where_there_is_a_key() -> None:
    push = PUSH._replace(dialect="header")

    async def ask(question: ListQuestion) -> Plan:
        return Conditional(OWNED)

    plain = await Narrower(ask, trusted).narrow(QUESTION, push, b"")
    text = b'{"field":"owner_id","is":"eq","value":"alice"}'
    assert plain == Narrowed((), ((b"x-auth-filter", text),), "exact")
    signing = Narrower(ask, trusted, lambda principal, value, app: principal.id.encode() + b" signs " + value)
    assert (await signing.narrow(QUESTION, push, b"")).headers == ((b"x-auth-filter", b"alice signs " + text),)
    assert (await Narrower(ask, trusted, lambda *_: b"").narrow(QUESTION, PUSH, b"")).headers == ()


async def test_that_everything_is_denied_is_believed_or_not() -> None:
    assert await narrowed(Always.DENIED, trust=warrants(PlanTrust(conditions=True))) == NOTHING_PUSHED
    assert (await narrowed(Conditional(OWNED), trust=warrants(PlanTrust(conditions=True)))).pushed == "exact"


async def test_that_everything_is_allowed_is_believed_or_not() -> None:
    assert await narrowing(Always.ALLOWED).all_allowed(QUESTION)
    assert not await narrowing(Conditional(OWNED)).all_allowed(QUESTION)
    # a plan takes each test of presence for true
    assert not await narrowing(Always.ALLOWED, warrants(PlanTrust(True, True))).all_allowed(QUESTION)


async def test_no_plan_is_a_refusal() -> None:
    with pytest.raises(Refused) as refused:
        await narrowed(Code.PDP_BAD_ANSWER)
    assert refused.value.code is Code.PDP_BAD_ANSWER


def test_fields_are_plain_paths() -> None:
    owner = RowField(("owner_id",), Type.STRING, required=True)
    assert names_of(PUSH) == FieldNames({"owner": owner}, RowField(("id",), identifies=True))
    assert names_of(PUSH._replace(id="ids[0]")).id is None
