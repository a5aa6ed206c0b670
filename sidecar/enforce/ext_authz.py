"""PEP for Envoy: its question (ext_authz, gRPC v3) -> `Raw`, and the gate's verdict -> its answer.

What is decided is what Envoy forwards: the path and headers that it is told to send are those of the permit, wherever
they differ from what it holds.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import NamedTuple

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse, DeniedHttpResponse
from google.protobuf.message import DecodeError

from sidecar.clients.unary import CallFailed, Status
from sidecar.enforce import answer
from sidecar.enforce.foreign import handover
from sidecar.enforce.refusal import Refusals
from sidecar.gate.gate import Clock, Gate
from sidecar.gate.request import Header, Raw
from sidecar.gate.verdict import Code, Forward, Preflight, Refuse, Refused
from sidecar.journal import Journal, Outcome, code_of

SERVICE = "envoy.service.auth.v3.Authorization"
CHECK = f"/{SERVICE}/Check".encode("ascii")

PARTIAL_BODY = b"x-envoy-auth-partial-body"
"""Whether the body in the question is only its beginning; Envoy says it where it gives bodies at all
(api/envoy/extensions/filters/http/ext_authz/v3, `BufferSettings`), and takes it out of what a client sends."""
_PSEUDO = {b":method": "method", b":path": "path", b":authority": "host", b":scheme": "scheme"}
_APPEND = HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
_OVERWRITE = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
# of an answer that Envoy frames itself
_FRAMING = frozenset((b"content-length", b"connection", b"transfer-encoding"))


class Question(NamedTuple):
    """What Envoy asks. `exact`: header values are those of the wire; `body` is None where none was given."""

    raw: Raw
    body: bytes | None
    partial: bool
    exact: bool
    grpc: bool

    async def whole_body(self, limit: int) -> bytes:
        """The body, of at most so many bytes. Raises Refused: BODY_TOO_LARGE, BODY_INVALID."""
        if self.body is None:
            if _has_body(self.raw.headers):
                raise Refused(Code.BODY_INVALID, "no body from Envoy, expected `with_request_body` in its filter")
            return b""
        if self.partial or len(self.body) > limit:
            raise Refused(Code.BODY_TOO_LARGE, f"more than {limit} bytes, or than Envoy's `max_request_bytes`")
        return self.body


def _has_body(headers: list[Header]) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers)


def read_question(message: bytes, request_id: str) -> Question:
    """A CheckRequest as a request. Raises Refused(REQUEST_INVALID) where it does not say one thing only, ValueError
    where it is none."""
    try:
        attributes = CheckRequest.FromString(message).attributes
    except DecodeError as error:
        raise ValueError(f"no CheckRequest: {error}") from None
    http = attributes.request.http
    exact = http.HasField("header_map")
    if exact and http.headers:
        raise Refused(Code.REQUEST_INVALID, "headers in two forms")
    partial, headers = b"", [(b"host", _bytes(http.host))]
    for name, value in _headers_of(http, exact):
        if name[:1] == b":":
            _require_same(http, name, value)
        elif name == b"host":
            if value != headers[0][1]:
                raise Refused(Code.REQUEST_INVALID, "a Host that is not :authority")
        elif name == PARTIAL_BODY:
            partial = value
        else:
            headers.append((name, value))
    seen = dict(headers)
    body = (http.raw_body or _bytes(http.body)) if partial else None
    if body and b"content-length" not in seen and b"transfer-encoding" not in seen:
        # over HTTP/2 a body needs no header that tells of it
        headers.append((b"transfer-encoding", b"chunked"))
    peer = _peer(attributes)
    _without_own_hop(headers, peer)
    websocket = http.method == "GET" and seen.get(b"upgrade", b"").lower() == b"websocket"
    scheme = seen.get(b"x-forwarded-proto", b"").decode("latin-1")
    raw = Raw(
        http.method, _bytes(http.path), headers, peer, scheme if scheme in ("http", "https") else "http", request_id,
        websocket,
    )  # fmt: skip
    kind = seen.get(b"content-type", b"")
    grpc = kind == b"application/grpc" or kind.startswith(b"application/grpc+")
    return Question(raw, body, partial != b"false", exact, grpc)


def _headers_of(http: AttributeContext.HttpRequest, exact: bool) -> Iterable[Header]:
    if exact:
        return [(_bytes(each.key), each.raw_value or _bytes(each.value)) for each in http.header_map.headers]
    return [(_bytes(name), _bytes(value)) for name, value in http.headers.items()]


def _require_same(http: AttributeContext.HttpRequest, name: bytes, value: bytes) -> None:
    """What stands in two places must say the same in both; a byte that is not UTF-8 was replaced in one of them."""
    field = _PSEUDO.get(name)
    if field is not None and value != _bytes(getattr(http, field)):
        raise Refused(Code.REQUEST_INVALID, f"two values of {name.decode('ascii')}")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _peer(attributes: AttributeContext) -> str:
    """The client's address as Envoy knows it, "" where it has none."""
    address: str = attributes.source.address.socket_address.address
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return ""
    return address


def _without_own_hop(headers: list[Header], peer: str) -> None:
    """Envoy has said already who its client is, as any proxy adds to what it forwards: the gate does it once."""
    for at, (name, value) in enumerate(headers):
        if name == b"x-forwarded-for":
            before, _, last = value.rpartition(b",")
            if last.strip() == peer.encode("ascii"):
                headers[at] = (name, before.rstrip())


def grpc_status(status: int) -> Status:
    """The gRPC status of a refused call (github.com/grpc/grpc, doc/statuscodes.md), by the HTTP status of its code."""
    return _STATUSES.get(status, Status.UNKNOWN)


_STATUSES = {
    400: Status.INVALID_ARGUMENT, 401: Status.UNAUTHENTICATED, 403: Status.PERMISSION_DENIED, 404: Status.NOT_FOUND,
    405: Status.UNIMPLEMENTED, 408: Status.DEADLINE_EXCEEDED, 413: Status.RESOURCE_EXHAUSTED,
    414: Status.INVALID_ARGUMENT, 415: Status.INVALID_ARGUMENT, 421: Status.INVALID_ARGUMENT,
    429: Status.RESOURCE_EXHAUSTED, 431: Status.INVALID_ARGUMENT, 500: Status.INTERNAL, 503: Status.UNAVAILABLE,
}  # fmt: skip


class ExtAuthz:
    """Answers Envoy's questions. `timer` gives monotonic seconds."""

    def __init__(
        self, gate: Gate, journal: Journal, timer: Clock, new_id: Callable[[], str], refusals: Refusals
    ) -> None:
        self._gate = gate
        self._journal = journal
        self._timer = timer
        self._new_id = new_id
        self._refusals = refusals

    async def check(self, message: bytes) -> bytes:
        """One CheckRequest -> one CheckResponse, both as bytes. Raises CallFailed where it is no CheckRequest."""
        started, request_id = self._timer(), self._new_id()
        try:
            question = read_question(message, request_id)
        except ValueError as error:
            raise CallFailed(Status.INVALID_ARGUMENT, str(error)) from None
        except Refused as refused:
            self._journal.refused_unread(answer.status_of(refused.code), refused.code, "", request_id)
            return _bytes_of(_denied(answer.of(refused.code, request_id), refused.code, grpc=False))
        verdict = await self._gate.decide(question.raw, question.whole_body)
        if isinstance(verdict, Forward):
            made: CheckResponse | Refuse = _allowed(verdict, question)
            if isinstance(made, Refuse):
                verdict = made
            else:
                return self._recorded(Outcome(verdict, 200, self._timer() - started), made)
        if isinstance(verdict, Preflight):
            made = _denied(answer.Answer(204, list(verdict.headers), b""), "", grpc=False)
            return self._recorded(Outcome(verdict, 204, self._timer() - started), made)
        refusal = self._refusals.whole(verdict, verdict.code, question.raw)
        outcome = Outcome(verdict, answer.status_of(verdict.code), self._timer() - started)
        return self._recorded(outcome, _denied(refusal, verdict.code, question.grpc))

    def _recorded(self, outcome: Outcome, made: CheckResponse) -> bytes:
        """The one exit of what was decided: its line in the journal, and what Envoy may write in its own log."""
        self._journal.record(outcome)
        facts, fields = outcome.verdict.facts, made.dynamic_metadata.fields
        fields["principal"].string_value = facts.principal
        fields["route"].string_value = facts.route
        fields["code"].string_value = code_of(outcome)
        fields["request_id"].string_value = facts.request_id
        return _bytes_of(made)


def _bytes_of(made: CheckResponse) -> bytes:
    data: bytes = made.SerializeToString()
    return data


def _allowed(permit: Forward, question: Question) -> CheckResponse | Refuse:
    """The permit as changes to what Envoy holds, or a refusal where it cannot be told of one."""
    raw, told = question.raw, handover(permit, question.raw)
    changes = list(told.set)
    if told.target != raw.target or not question.exact:
        changes.append((b":path", told.target))
    if not question.exact:
        # values that were joined, or whose bytes were replaced, are sent as they were read
        named = {name for name, _ in changes}
        changes += [
            (name, value) for name, value in permit.headers
            if name not in named and name != b"host" and (b"," in value or b"!" in value)
        ]  # fmt: skip
    made = CheckResponse()
    ok = made.ok_response
    try:
        ok.headers.extend([_option(name, value, _OVERWRITE) for name, value in changes])
        ok.headers_to_remove.extend([name.decode("ascii") for name in told.remove])
        ok.response_headers_to_add.extend([_reply(name, value) for name, value in told.reply])
    except UnicodeDecodeError:
        return Refuse(Code.HEADER_AMBIGUOUS, permit.facts, "a value that is not UTF-8, which Envoy cannot be told")
    return made


def _reply(name: bytes, value: bytes) -> HeaderValueOption:
    return _option(name, value, _APPEND if name == b"set-cookie" else _OVERWRITE)


def _option(name: bytes, value: bytes, action: HeaderValueOption.HeaderAppendAction.ValueType) -> HeaderValueOption:
    header = HeaderValue(key=name.decode("ascii"), value=value.decode("utf-8"))
    return HeaderValueOption(header=header, append_action=action)


def _denied(made: answer.Answer, code: str, grpc: bool) -> CheckResponse:
    """An answer of ours, which Envoy sends in place of the app's: to a gRPC client as trailers alone."""
    response = CheckResponse()
    unauthenticated = made.status == 401
    response.status.code = Status.UNAUTHENTICATED if unauthenticated else Status.PERMISSION_DENIED
    denied = response.denied_response
    if grpc:
        _deny_call(denied, made, code)
        return response
    denied.status.code = made.status
    denied.headers.extend([_reply(name, value) for name, value in made.headers if name not in _FRAMING])
    denied.body = made.body.decode("utf-8")
    return response


def _deny_call(denied: DeniedHttpResponse, made: answer.Answer, code: str) -> None:
    """Envoy makes trailers of an HTTP status, with the body as `grpc-message`; its mapping knows few of them, so that
    the status is said."""
    denied.status.code = made.status
    denied.body = code
    denied.headers.append(_option(b"grpc-status", b"%d" % grpc_status(made.status), _OVERWRITE))
    denied.headers.extend([_reply(name, value) for name, value in made.headers if name in _TOLD_TO_CALLS])


_TOLD_TO_CALLS = (b"x-request-id", b"retry-after", b"www-authenticate")
