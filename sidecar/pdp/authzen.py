"""PDP: asks a decision point by OpenID AuthZEN's Authorization API 1.0, and gives its answer unjudged.

What stands beside a decision is read where Cerbos gives it: then its answer holds as much as the one by gRPC.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sidecar.gate.access_request import AccessRequest, access_request_of
from sidecar.gate.codes import Code
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Resource, Result, deciding_policy
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused
from sidecar.net.connection import Fault
from sidecar.net.fetch import Fetch, Fetched
from sidecar.net.pool import Origin
from sidecar.pdp.client import AT_ONCE, MAX_CALL, MAX_QUESTION, Client
from sidecar.record.reasons import FaultKind, ReportFault, report_nothing
from sidecar.together import together
from sidecar.wire import strict_json

CALL = 10
"""Evaluations in one message. Cerbos takes 50 resources, but tells of all of them again in each evaluation: for 100
resources messages of 10 took half the time of messages of 5 or of 20."""
MAX_BODY = 1024 * 1024
"""Bytes of an answer."""
MAX_NAMED = MAX_BODY // 4
"""Bytes of types, ids and actions in a message, counted as often as Cerbos says them again."""
PROBE_EVERY = 1.0
"""Seconds between two looks whether it answers."""
CERBOS_ROLES = "cerbos.roles"
"""The property of a subject in which Cerbos wants its roles (docs.cerbos.dev, "AuthZEN entity model mapping")."""
CERBOS_SCOPE = "cerbos.scope"
"""The property of a resource in which Cerbos wants its scope. No attribute has such a name: it has no dot."""
_EVALUATION, _EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"
_WELL_KNOWN = "/.well-known/authzen-configuration"

_SEMANTIC = b'"options":{"evaluations_semantic":"execute_all"}'
_OBLIGATIONS = frozenset(("obligations", "obligation"))
"""Members of an answer or of its `context` that an allow depends on (XACML 3.0 section 7.18)."""

_FAULTS = {
    FaultKind.UNAVAILABLE: Code.PDP_UNAVAILABLE,
    FaultKind.TIMEOUT: Code.PDP_TIMEOUT,
    FaultKind.PROTOCOL: Code.PDP_BAD_ANSWER,
    FaultKind.PARTIAL: Code.PDP_PARTIAL,
    FaultKind.BUSY: Code.PDP_BUSY,
    FaultKind.OPEN: Code.PDP_OPEN,
}


class Target(NamedTuple):
    """Where a PDP is: its origin, and the path below which its endpoints are."""

    origin: Origin
    path: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse `authzen+https://host[:port][/path]` or `authzen+unix:/path`. Raises ValueError."""
        url = text.removeprefix("authzen+")
        if url.startswith("unix:"):
            return cls(Origin.parse(url), "")
        parts = urlsplit(url)
        return cls(Origin.parse(f"{parts.scheme}://{parts.netloc}"), parts.path.rstrip("/"))


class AuthZen(Client):
    """A PDP at `target`. `timeout` in seconds, `now` monotonic seconds, `limit` calls at once. `token` is its bearer
    token, `roles` one more property of a subject that holds its roles, beside the one that Cerbos reads."""

    probe_every = PROBE_EVERY

    def __init__(
        self, target: str, *, timeout: float, now: Callable[[], float], token: str = "", roles: str = "",
        tls: ssl.SSLContext | None = None, limit: int = 256, report: ReportFault = report_nothing,
    ) -> None:  # fmt: skip
        origin, path = Target.parse(target)
        named = tuple(dict.fromkeys(name for name in (CERBOS_ROLES, roles) if name))
        super().__init__(
            timeout=timeout, now=now, limit=limit, tell=partial(subject_of, roles=named),
            place=f"SIDECAR_PDP: {target}", report=report,
        )  # fmt: skip
        self._fetch = Fetch(origin, tls=tls)
        self._one, self._many = (path + _EVALUATION).encode("ascii"), (path + _EVALUATIONS).encode("ascii")
        # "inserting a well-known URI string between the host component and the path" (AuthZEN 1.0, PDP metadata)
        self._metadata = (_WELL_KNOWN + path).encode("ascii")
        self._headers = [(b"accept", b"application/json")]
        if token:
            self._headers.append((b"authorization", b"Bearer " + token.encode("ascii")))

    async def check(self, question: Question) -> PdpAnswer:
        """Ask. Raises Refused: PDP_* when there is no answer, REFERENCE_INVALID for an attribute that JSON cannot tell
        exactly, NO_ROLES for a principal without a role: Cerbos' endpoint takes it for one that has all of them."""
        self.questions += 1
        subject = self.encoded_principal(question.principal)
        resource, deadline = question.resources[0], asyncio.get_running_loop().time() + self._timeout
        if len(question.resources) == 1 and not resource.more_actions:
            reply = await self._ask(self._one, question, [subject, *_item(resource, resource.action)], deadline)
            said = _read(question.request_id, _object(reply), resource, resource.action)
            # under the id of the request the PDP's own log knows the decision
            return PdpAnswer(_echoed(reply, question.request_id), question.request_id, (_result(resource, [said]),))
        request_id, said_of = question.request_id, [list[_Evaluation]() for _ in question.resources]
        calls = calls_for(question.resources)
        asks = [partial(self._ask, self._many, question, [subject, _evaluations(call)], deadline) for call in calls]
        for call, reply in zip(calls, await together(asks, AT_ONCE), strict=True):
            if request_id == question.request_id:
                request_id = _echoed(reply, request_id)
            for item, evaluation in zip(call, _list_of(reply, len(call)), strict=True):
                said_of[item.place].append(_read(question.request_id, evaluation, item.resource, item.action))
        results = tuple(map(_result, question.resources, said_of))
        return PdpAnswer(request_id, question.request_id, results)

    # --- one call ---

    async def _ask(self, target: bytes, question: Question, members: Sequence[bytes], deadline: float) -> Fetched:
        context = strict_json.dumps({"cerbos.requestId": question.request_id, "cerbos.includeMeta": True})
        body = b"".join((b"{", b",".join(members), b',"context":', context, b"}"))
        if len(body) > MAX_QUESTION:
            raise Refused(Code.REFERENCE_INVALID, f"a question of {len(body)} bytes, expected at most {MAX_QUESTION}")
        asker = (question.principal.issuer, question.principal.id)
        waited = not self.shares.take(asker)
        if waited and not await self.shares.wait(asker, deadline):
            raise Refused(Code.PDP_BUSY)
        try:
            if not self._breaker.allows():
                raise Refused(Code.PDP_OPEN)
            self.calls += 1
            reply = await self._answered(target, question, body, deadline, waited)
        finally:
            self.shares.give_back(asker)
        if reply.status != 200:
            raise Refused(Code.PDP_STATUS, f"HTTP status {reply.status}")
        if _kind(reply) != b"application/json":
            raise Refused(Code.PDP_STATUS, "an answer that is not application/json")
        return reply

    async def _answered(self, target: bytes, question: Question, body: bytes, deadline: float, waited: bool) -> Fetched:
        """Ask, and tell the breaker how it ended."""
        try:
            reply = await self._once_or_twice(target, question, body, deadline)
        except Fault as fault:
            code = _FAULTS[fault.kind]
            self._failed(code, waited)
            self._unreachable(fault.reason, fault.detail)
            raise Refused(code, str(fault)) from None
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in asking is a PDP that did not answer
            self._failed(Code.PDP_BAD_ANSWER, waited)
            raise Refused(Code.PDP_BAD_ANSWER, type(error).__name__) from None
        self._breaker.succeeded()
        return reply

    async def _once_or_twice(self, target: bytes, question: Question, body: bytes, deadline: float) -> Fetched:
        """Ask, and once more within the same deadline if nobody was there: an evaluation changes nothing."""
        headers = [
            *self._headers, (b"content-type", b"application/json"),
            (b"x-request-id", question.request_id.encode("ascii")), *question.trace,
        ]  # fmt: skip
        loop = asyncio.get_running_loop()
        left = max(deadline - loop.time(), 0.0)
        try:
            return await self._fetch.post(target, headers, body, max_body=MAX_BODY, deadline=left)
        except Fault as fault:
            left = deadline - loop.time()
            if fault.kind is not FaultKind.UNAVAILABLE or left <= 0:
                raise
        return await self._fetch.post(target, headers, body, max_body=MAX_BODY, deadline=left)

    async def serving(self) -> bool:
        """Return whether it answers: its metadata names the endpoint that we ask, or it has no metadata, which is
        optional.

        The metadata decides nothing else: where questions go is what the operator said.
        """
        return not await self.trouble()

    async def trouble(self) -> str:
        """Return why it does not serve, "" where it does."""
        try:
            reply = await self._fetch.get(self._metadata, self._headers, max_body=MAX_BODY, deadline=self._timeout)
        except Fault as fault:
            return str(fault)
        path = self._metadata.decode("ascii")
        if reply.status != 200:
            # 401, 403: it will not answer us; 429: not now
            optional = 400 <= reply.status < 500 and reply.status not in (401, 403, 429)
            return "" if optional else f"status {reply.status} of {path}"
        try:
            endpoint = urlsplit(_object(reply)["access_evaluation_endpoint"]).path
        except (Refused, KeyError, TypeError, ValueError, AttributeError):
            return f"no access_evaluation_endpoint in {path}"
        ours = isinstance(endpoint, str) and endpoint.endswith(_EVALUATION)
        return "" if ours else f"an access_evaluation_endpoint in {path} that does not end in {_EVALUATION}"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._fetch.aclose()


# --- messages ---


class Item(NamedTuple):
    """One evaluation of a message: `action` on `resource`, which is in this `place` of the question."""

    place: int
    resource: Resource
    action: str
    encoded: bytes
    """The evaluation as JSON."""


class _Message:
    """One message that is being put together."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._held: dict[tuple[str, str], int] = {}
        self._bytes = self._named = 0

    def takes(self, item: Item) -> bool:
        """Return whether the item fits; then it is in the message."""
        resource = item.resource
        named = 4 * (len(resource.kind) + len(resource.id) + len(item.action))
        full = len(self.items) >= CALL or self._bytes + len(item.encoded) > MAX_CALL
        # Cerbos tells of each item in the answer of every other
        full = full or (self._named + named) * (len(self.items) + 1) > MAX_NAMED
        if self.items and (full or self._held.get((resource.kind, resource.id), item.place) != item.place):
            return False
        self.items.append(item)
        self._held[resource.kind, resource.id] = item.place
        self._bytes, self._named = self._bytes + len(item.encoded), self._named + named
        return True


def calls_for(resources: Sequence[Resource]) -> list[list[Item]]:
    """The evaluations of a question, in as many messages as it takes.

    In no message do two resources have the same type and id: Cerbos 0.51 answers for all of such with the attributes of
    the first.
    """
    messages: list[_Message] = []
    for place, resource in enumerate(resources):
        for action in (resource.action, *resource.more_actions):
            item = Item(place, resource, action, b"{" + b",".join(_item(resource, action)) + b"}")
            if not any(message.takes(item) for message in messages):
                messages.append(_Message())
                messages[-1].takes(item)
    return [message.items for message in messages]


def subject_of(principal: Principal, roles: tuple[str, ...]) -> bytes:
    """The member `subject`: the attributes as its properties, its roles in those that `roles` names. Raises Refused:
    REFERENCE_INVALID, NO_ROLES."""
    if not principal.roles:
        raise Refused(Code.NO_ROLES)
    taken = [name for name in principal.attributes if name in roles]
    if taken:
        raise Refused(Code.REFERENCE_INVALID, f"the attribute {taken[0]}, which stands for the roles")
    properties = {**principal.attributes, **{name: list(principal.roles) for name in roles}}
    return b'"subject":' + _json_bytes({"type": "user", "id": principal.id, "properties": properties})


def _item(resource: Resource, action: str) -> tuple[bytes, bytes]:
    properties = dict(resource.attributes)
    if resource.scope:
        properties[CERBOS_SCOPE] = resource.scope
    told = _json_bytes({"type": resource.kind, "id": resource.id, "properties": properties})
    return b'"resource":' + told, b'"action":' + _json_bytes({"name": action})


def _evaluations(call: Sequence[Item]) -> bytes:
    # all of them, in their order: one that is denied says nothing of the others
    return _SEMANTIC + b',"evaluations":[' + b",".join([item.encoded for item in call]) + b"]"


def _json_bytes(value: Any) -> bytes:
    try:
        return strict_json.dumps(value)
    except ValueError as error:
        raise Refused(Code.REFERENCE_INVALID, f"a value that JSON cannot tell: {error}") from None


# --- answers ---


class _Evaluation(NamedTuple):
    """One evaluation, read."""

    action: str
    effect: str
    invalid: bool = False
    policy: str = ""
    derived_roles: tuple[str, ...] = ()
    access_request: AccessRequest | None = None


def _kind(reply: Fetched) -> bytes:
    kinds = [value for name, value in reply.headers if name == b"content-type"]
    return kinds[0].partition(b";")[0].strip().lower() if len(kinds) == 1 else b""


def _echoed(reply: Fetched, request_id: str) -> str:
    """The id of the request that is answered. It must be told back (AuthZEN 1.0, "Request Identification"), but Cerbos
    0.51 does not; one that is told must be ours."""
    told = [value.decode("latin-1") for name, value in reply.headers if name == b"x-request-id"]
    return next((value for value in told if value != request_id), request_id)


def _object(reply: Fetched) -> Mapping[str, Any]:
    try:
        value = strict_json.loads(reply.body)
    except ValueError as error:
        raise Refused(Code.PDP_BAD_ANSWER, str(error)) from None
    if not isinstance(value, dict):
        raise Refused(Code.PDP_BAD_ANSWER, "JSON that is no object")
    return value


def _list_of(reply: Fetched, count: int) -> list[Any]:
    whole = _object(reply)
    evaluations, context = whole.get("evaluations"), whole.get("context")
    if not isinstance(evaluations, list):
        raise Refused(Code.PDP_BAD_ANSWER, "no list of evaluations")
    if len(evaluations) != count:
        raise Refused(Code.PDP_MISMATCH, f"{len(evaluations)} evaluations for {count}")
    # what is asked for with all of them
    _refuse_obligations(whole)
    _refuse_obligations(context if isinstance(context, dict) else {})
    return evaluations


def _read(request_id: str, evaluation: Any, resource: Resource, action: str) -> _Evaluation:
    """Read one evaluation. Raises Refused: it is an allow or a deny only if `decision` is exactly true or false."""
    try:
        decision, context = evaluation.get("decision"), evaluation.get("context") or {}
        if decision is not True and decision is not False:
            raise Refused(Code.PDP_BAD_ANSWER, "a decision that is neither true nor false")
        if context.get("error") is not None:
            # "an error that is specific to that request" comes with false, and is no policy's answer all the same
            raise Refused(Code.PDP_STATUS, "an error in an evaluation")
        if decision:
            _refuse_obligations(evaluation)
            _refuse_obligations(context)
        effect = ALLOW if decision else DENY
        if (response := context.get("cerbos.response")) is None:
            return _Evaluation(action, effect, access_request=None if decision else access_request_of(context))
        return _evaluation_by_cerbos(response, request_id, resource, action, effect)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise Refused(Code.PDP_BAD_ANSWER, f"an evaluation of another shape: {type(error).__name__}") from None


def _refuse_obligations(context: Mapping[str, Any]) -> None:
    for name in context:
        if name.lower() in _OBLIGATIONS and context[name]:
            raise Refused(Code.OBLIGATION_UNKNOWN, f"an allow with {name}, which the sidecar does not execute")


def _evaluation_by_cerbos(
    response: Mapping[str, Any], request_id: str, resource: Resource, action: str, effect: str
) -> _Evaluation:
    """The CheckResources answer behind a decision of Cerbos: what stands in it must be the same (R16)."""
    if response["requestId"] != request_id:
        raise Refused(Code.PDP_MISMATCH, "an answer to another request")
    results = [
        result
        for result in response["results"]
        if (result["resource"]["kind"], result["resource"]["id"]) == (resource.kind, resource.id)
    ]
    if len(results) != 1 or results[0]["actions"].get(action) != effect:
        raise Refused(Code.PDP_MISMATCH, "a decision that its own explanation contradicts")
    result = results[0]
    meta = result.get("meta", {})
    told_of = meta.get("actions", {}).get(action, {})
    return _Evaluation(
        action, effect, bool(result.get("validationErrors")),
        deciding_policy(str(told_of.get("matchedPolicy", "")), str(told_of.get("matchedScope", "")), effect == ALLOW),
        tuple(map(str, meta.get("effectiveDerivedRoles", ()))),
    )  # fmt: skip


def _result(resource: Resource, evaluations: Sequence[_Evaluation]) -> Result:
    """Return the result for one resource, action by action. An evaluation has no kind and no id: its place tells."""
    effects = {one.action: one.effect for one in evaluations}
    invalid = any(one.invalid for one in evaluations)
    policies = {one.action: one.policy for one in evaluations if one.policy}
    first = evaluations[0]
    return Result(resource.kind, resource.id, effects, invalid, policies, first.derived_roles, first.access_request)
