"""`pdp/cerbos_plan.py` against the real Cerbos, and against a fake for what the real one cannot be made to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cerbos.engine.v1.engine_pb2 import PlanResourcesFilter
from cerbos.request.v1.request_pb2 import CheckResourcesRequest, PlanResourcesRequest
from cerbos.response.v1.response_pb2 import PlanResourcesResponse
from google.protobuf.json_format import ParseDict

from sidecar.gate.codes import Code
from sidecar.gate.identity import Principal
from sidecar.gate.narrowing import ListQuestion
from sidecar.gate.verdict import Refused
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.cerbos_messages import principal_of
from sidecar.pdp.cerbos_plan import MAX_DEPTH, MAX_NODES, CerbosPlans, message_of, plan_of
from sidecar.plans.plan import Always, Conditional, Constant, Node, PlanExpression, PlanVariable, UnknownNode
from tests.fakes import FakeCerbos, fails, hangs
from tests.policy_table import real_cerbos

ALICE = Principal("alice", ("user",), {"team": "x"}, "iss", 0.0, {})
QUESTION = ListQuestion("r-1", ALICE, "doc", "read", "acme")
POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: doc
  version: default
  rules:
    - {actions: [list], effect: EFFECT_ALLOW, roles: [user]}
    - actions: [read]
      effect: EFFECT_ALLOW
      roles: [user]
      condition: {match: {expr: "R.attr.owner == P.id || R.attr.team in [P.attr.team, 'all']"}}
    - actions: [broken]
      effect: EFFECT_ALLOW
      roles: [user]
      condition: {match: {expr: "R.attr.tags.exists(t, t in P.attr.absent)"}}
"""


@asynccontextmanager
async def client(target: str, **options: Any) -> AsyncIterator[Cerbos]:
    cerbos = Cerbos(target, **{"timeout": 2.0, "now": time.monotonic, **options})
    yield cerbos
    await cerbos.aclose()


async def refusal(asked: Awaitable[object]) -> Code:
    with pytest.raises(Refused) as refused:
        await asked
    return refused.value.code


@pytest.mark.process
async def test_the_real_cerbos(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "doc.yaml").write_text(POLICY)
    with real_cerbos(tmp_path, policies) as running:
        async with client(running.grpc) as cerbos:

            async def plan(action: str) -> object:
                return await CerbosPlans(cerbos).plan(ListQuestion("r-1", ALICE, "doc", action))

            assert await plan("list") is Always.ALLOWED
            assert await plan("delete") is Always.DENIED
            owner, team = (PlanVariable(f"request.resource.attr.{name}") for name in ("owner", "team"))
            either = (
                PlanExpression("eq", (owner, Constant("alice"))),
                PlanExpression("in", (team, Constant(("x", "all")))),
            )
            assert await plan("read") == Conditional(PlanExpression("or", either))
            # it cannot work this out, and is there for all other questions
            for _ in range(8):
                assert await refusal(plan("broken")) is Code.PDP_BAD_ANSWER
            assert await plan("list") is Always.ALLOWED
            assert (cerbos.calls, cerbos.shares.under_way, cerbos.is_open) == (12, 0, False)


def response(question: ListQuestion = QUESTION, **fields: Any) -> PlanResourcesResponse:
    said = {
        "requestId": question.request_id, "actions": [question.action], "resourceKind": question.kind,
        "filter": {"kind": "KIND_ALWAYS_ALLOWED"}, **fields,
    }  # fmt: skip
    return ParseDict(said, PlanResourcesResponse())


def conditional(operand: dict[str, Any]) -> Node:
    plan = plan_of(QUESTION, response(filter={"kind": "KIND_CONDITIONAL", "condition": operand}))
    assert isinstance(plan, Conditional)
    return plan.condition


def test_a_question_is_that_message_and_has_no_attribute_of_a_resource() -> None:
    message = PlanResourcesRequest.FromString(message_of(QUESTION, principal_of(ALICE)))
    assert (message.request_id, [*message.actions], message.principal.id) == ("r-1", ["read"], "alice")
    assert (message.resource.kind, message.resource.scope, dict(message.resource.attr)) == ("doc", "acme", {})


@pytest.mark.parametrize(
    "fields",
    [
        {"requestId": "r-2"}, {"resourceKind": "other"}, {"actions": ["write"]}, {"actions": ["read", "write"]},
        {"actions": []}, {"filter": {}}, {"filter": {"kind": "KIND_UNSPECIFIED"}},
    ],
)  # fmt: skip
def test_an_answer_to_something_else_is_none(fields: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        plan_of(QUESTION, response(**fields))
    assert refused.value.code is Code.PDP_MISMATCH


def test_of_a_principal_that_does_not_fit_the_schema_nothing_is_known() -> None:
    errors = [{"path": "/team", "message": "no"}]
    plan = plan_of(QUESTION, response(validationErrors=errors, filter={"kind": "KIND_ALWAYS_DENIED"}))
    assert plan == Conditional(UnknownNode())


@pytest.mark.parametrize(
    ("operand", "node"),
    [
        ({"value": "a"}, Constant("a")), ({"value": True}, Constant(True)), ({"value": 5}, Constant(5.0)),
        ({"value": None}, Constant(None)), ({"value": ["a", None]}, Constant(("a", None))),
        ({"value": {"a": 1}}, UnknownNode()), ({"value": [[1]]}, UnknownNode()), ({}, UnknownNode()),
        ({"variable": "request.resource.id"}, PlanVariable("request.resource.id")),
        ({"expression": {"operator": "new", "operands": [{}]}}, PlanExpression("new", (UnknownNode(),))),
    ],
)  # fmt: skip
def test_nodes(operand: dict[str, Any], node: Node) -> None:
    assert conditional(operand) == node


def test_what_is_too_deep_or_too_long_is_unknown() -> None:
    operand: dict[str, Any] = {"variable": "x"}
    for _ in range(MAX_DEPTH + 1):
        operand = {"expression": {"operator": "not", "operands": [operand]}}
    node = conditional(operand)
    while isinstance(node, PlanExpression):
        (node,) = node.operands
    assert node == UnknownNode()
    wide = conditional({"expression": {"operator": "or", "operands": [{"value": True}] * (MAX_NODES + 5)}})
    assert isinstance(wide, PlanExpression)
    assert [*map(type, wide.operands)].count(UnknownNode) == 6


Answering = Callable[[CheckResourcesRequest, Any], Awaitable[Any]]


def answers(message: PlanResourcesResponse | bytes) -> Answering:
    async def answer(_: CheckResourcesRequest, __: Any) -> PlanResourcesResponse | bytes:
        return message

    return answer


@pytest.mark.parametrize(
    ("check", "code"),
    [
        (fails(grpc.StatusCode.INTERNAL), Code.PDP_BAD_ANSWER), (fails(grpc.StatusCode.UNAVAILABLE), Code.PDP_UNAVAILABLE),
        (fails(grpc.StatusCode.INVALID_ARGUMENT), Code.PDP_STATUS), (answers(b"\xff"), Code.PDP_BAD_ANSWER),
        (answers(response()), None), (answers(response(requestId="other")), Code.PDP_MISMATCH),
    ],
)  # fmt: skip
async def test_faults_are_refusals(check: Any, code: Code | None) -> None:
    async with FakeCerbos(check) as fake, client(fake.target) as cerbos:
        asked = CerbosPlans(cerbos).plan(QUESTION)
        if code is None:
            assert await asked is Always.ALLOWED
        else:
            assert await refusal(asked) is code
        assert cerbos.shares.under_way == 0


async def test_no_answer_in_time() -> None:
    async with FakeCerbos(hangs) as fake, client(fake.target, timeout=0.2) as cerbos:
        assert await refusal(CerbosPlans(cerbos).plan(QUESTION)) is Code.PDP_TIMEOUT


async def test_nobody_there_opens_the_breaker() -> None:
    async with client("127.0.0.1:1") as cerbos:
        codes = [await refusal(CerbosPlans(cerbos).plan(QUESTION)) for _ in range(6)]
    assert codes == [Code.PDP_UNAVAILABLE] * 5 + [Code.PDP_OPEN]


async def test_a_place_is_waited_for() -> None:
    async with FakeCerbos(hangs) as fake, client(fake.target, timeout=0.3, limit=1) as cerbos:
        first, second = await asyncio.gather(*(refusal(CerbosPlans(cerbos).plan(QUESTION)) for _ in range(2)))
        assert (first, second) == (Code.PDP_TIMEOUT, Code.PDP_BUSY)


async def test_a_question_that_is_too_long_is_not_asked() -> None:
    long = ListQuestion("r-1", ALICE, "x" * 5_000_000, "read")
    async with FakeCerbos() as fake, client(fake.target) as cerbos:
        assert await refusal(CerbosPlans(cerbos).plan(long)) is Code.REFERENCE_INVALID
        assert fake.calls == []


def test_every_kind_of_filter_is_known() -> None:
    assert len(PlanResourcesFilter.Kind.items()) == 4
