"""PlanResources of Cerbos: a question about all resources of a kind, and its answer as a plan."""

from __future__ import annotations

from cerbos.engine.v1.engine_pb2 import PlanResourcesFilter
from cerbos.response.v1.response_pb2 import PlanResourcesResponse
from google.protobuf.struct_pb2 import Value

from sidecar.gate.codes import Code
from sidecar.gate.narrowing import ListQuestion
from sidecar.gate.verdict import Refused
from sidecar.pdp.cerbos import Cerbos
from sidecar.plans.plan import (
    Always,
    Conditional,
    Constant,
    Node,
    Plan,
    PlanExpression,
    PlanVariable,
    Scalar,
    UnknownNode,
)
from sidecar.wire.protobuf import sized, sized_tag

MAX_DEPTH = 32
"""Operations within each other that are read, and `MAX_NODES` of a plan: what is beyond is unknown."""
MAX_NODES = 2_000
_1, _4, _7 = (sized_tag(field) for field in (1, 4, 7))

_Operand = PlanResourcesFilter.Expression.Operand


class CerbosPlans:
    """Asks a Cerbos for plans, over the connection and with the deadlines of its checks."""

    def __init__(self, cerbos: Cerbos) -> None:
        self._cerbos = cerbos
        self._method = cerbos.method("PlanResources")

    async def plan(self, question: ListQuestion) -> Plan:
        """Ask. Raises Refused(PDP_*) where there is no answer to exactly this question."""
        encoded = self._cerbos.encoded_principal(question.principal)
        answer = await self._cerbos.ask(self._method, question.principal, message_of(question, encoded), question.trace)
        try:
            message = PlanResourcesResponse.FromString(answer)
        except Exception as error:  # noqa: BLE001 - whatever a broken answer does to the library is no plan
            raise Refused(Code.PDP_BAD_ANSWER, type(error).__name__) from None
        return plan_of(question, message)


def message_of(question: ListQuestion, principal: bytes) -> bytes:
    """A serialized PlanResourcesRequest; `principal` is what `cerbos_messages.principal_of` makes. It never has an
    attribute of a resource: with one, the plan is of another question."""
    resource = sized(_1, question.kind.encode("utf-8"))
    if question.scope:
        resource += sized(_4, question.scope.encode("utf-8"))
    request_id = sized(_1, question.request_id.encode("utf-8", "replace"))
    return b"".join((request_id, principal, sized(_4, resource), sized(_7, question.action.encode("utf-8"))))


def plan_of(question: ListQuestion, message: PlanResourcesResponse) -> Plan:
    """Cerbos' message as a plan. Raises Refused(PDP_MISMATCH)."""
    if message.request_id != question.request_id:
        raise Refused(Code.PDP_MISMATCH, "a plan for another request")
    if (message.resource_kind, [*message.actions]) != (question.kind, [question.action]):
        raise Refused(Code.PDP_MISMATCH, "a plan for another kind or action")
    if message.validation_errors:
        # a principal that does not fit the policy's schema: a check may see it in another way
        return Conditional(UnknownNode())
    match message.filter.kind:
        case PlanResourcesFilter.KIND_ALWAYS_ALLOWED:
            return Always.ALLOWED
        case PlanResourcesFilter.KIND_ALWAYS_DENIED:
            return Always.DENIED
        case PlanResourcesFilter.KIND_CONDITIONAL:
            return Conditional(read_node(message.filter.condition))
        case _:
            raise Refused(Code.PDP_MISMATCH, "a plan of no known kind")


def read_node(operand: _Operand) -> Node:
    """Read a condition, as far as its bounds reach."""
    return _Reader().node(operand, 0)


class _Reader:
    """Reads a tree as far as its bounds reach."""

    def __init__(self) -> None:
        self._rest = MAX_NODES

    def node(self, operand: _Operand, depth: int) -> Node:
        self._rest -= 1
        if self._rest < 0 or depth > MAX_DEPTH:
            return UnknownNode()
        match operand.WhichOneof("node"):
            case "value":
                return _constant(operand.value)
            case "variable":
                return PlanVariable(operand.variable)
            case "expression":
                said = operand.expression
                return PlanExpression(said.operator, tuple([self.node(each, depth + 1) for each in said.operands]))
            case _:
                return UnknownNode()


def _constant(value: Value) -> Node:
    if value.WhichOneof("kind") != "list_value":
        return Constant(_scalar(value)) if _is_scalar(value) else UnknownNode()
    values = value.list_value.values
    return Constant(tuple([_scalar(each) for each in values])) if all(map(_is_scalar, values)) else UnknownNode()


def _is_scalar(value: Value) -> bool:
    return value.WhichOneof("kind") in ("string_value", "bool_value", "number_value", "null_value")


def _scalar(value: Value) -> Scalar:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "number_value":
            return value.number_value
        case _:
            return None
