"""PEP for Envoy: its question (ext_authz, gRPC v3) -> `Raw`, and the gate's verdict -> its answer.

What is decided is what Envoy forwards: the path and headers that it is told to send are those of the permit, wherever
they differ from what it holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf.message import DecodeError

from sidecar.bounded import remembered
from sidecar.doors import answer, check_answer
from sidecar.doors.check_answer import APPEND, OVERWRITE, REPLACE, Change
from sidecar.doors.door import Door, Visit
from sidecar.doors.envoy import (
    BESIDE,
    FRAMING,
    TOLD_TO_CALLS,
    address,
    facts_of,
    grpc_status,
    plain_headers,
    removed_hops,
    request_of,
)
from sidecar.doors.handover import Handover, handover
from sidecar.doors.held_body import LentBody
from sidecar.doors.refusal import UNAUTHORIZED
from sidecar.gate.body import Show, Viewer
from sidecar.gate.codes import Code
from sidecar.gate.obligation import KeepPrivate
from sidecar.gate.request import Raw
from sidecar.gate.verdict import Forward, Preflight, Refuse, Refused
from sidecar.net.room import Room
from sidecar.wire.caching import CONTROL, VARY, control_beside
from sidecar.wire.grpc import CallFailed, Status

SERVICE = "envoy.service.auth.v3.Authorization"
CHECK = f"/{SERVICE}/Check".encode("ascii")

PARTIAL_BODY = b"x-envoy-auth-partial-body"
"""Header that tells if Envoy sends only the beginning of the body; Envoy says it where it gives bodies at all
(api/envoy/extensions/filters/http/ext_authz/v3, `BufferSettings`), and takes it out of what a client sends."""


class EnvoyCheck(NamedTuple):
    """Question of Envoy. `exact`: header values are those of the wire; `body` is None where none was given."""

    raw: Raw
    body: bytes | None
    partial: bool
    exact: bool
    grpc: bool

    async def show_body(self, lent: LentBody, limit: int, show: Show, viewer: Viewer) -> None:
        """Show the body, of at most so many bytes. Raises Refused: BODY_TOO_LARGE, BODY_INVALID, BODY_NO_ROOM,
        PROXY_UNABLE."""
        if self.body is None:
            raise Refused(Code.PROXY_UNABLE, "no body from Envoy, expected `with_request_body` in its filter")
        if self.partial or len(self.body) > limit:
            raise Refused(Code.BODY_TOO_LARGE, f"more than {limit} bytes, or than Envoy's `max_request_bytes`")
        length = next((value for name, value in self.raw.headers if name == b"content-length"), None)
        if length is not None and length != b"%d" % len(self.body):
            raise Refused(Code.BODY_INVALID, f"{len(self.body)} bytes from Envoy, of {length.decode('latin-1')}")
        lent.take(self.body, viewer)
        show(self.body)


def read_question(message: bytes, request_id: str) -> EnvoyCheck:
    """Read a CheckRequest as a request. Raises Refused(REQUEST_INVALID) if it has two meanings, and ValueError if it is
    no CheckRequest."""
    try:
        attributes = CheckRequest.FromString(message).attributes
    except DecodeError as error:
        raise ValueError(f"no CheckRequest: {error}") from None
    http = attributes.request.http
    exact: bool = http.HasField("header_map")
    if exact and http.headers:
        raise Refused(Code.REQUEST_INVALID, "headers in two forms")
    if exact:
        given = [(each.key.encode(), each.raw_value or each.value.encode()) for each in http.header_map.headers]
    else:
        given = [(name.encode(), value.encode()) for name, value in http.headers.items()]
    method: str = http.method
    target: bytes = http.path.encode()
    headers = plain_headers(given, exact, method.encode(), target, http.host.encode())
    partial = next((value for name, value in headers if name == PARTIAL_BODY), b"")
    if partial:
        headers.remove((PARTIAL_BODY, partial))
    body = (http.raw_body or http.body.encode()) if partial else None
    peer = address(attributes.source.address.socket_address.address)
    raw, grpc = request_of(method, target, headers, peer, request_id, has_body=bool(body))
    return EnvoyCheck(raw, body, partial != b"false", exact, grpc)


class ExtAuthz:
    """Answers Envoy's questions. It holds nothing of the app's answer, whose head Envoy marks."""

    def __init__(self, door: Door, memory: Room) -> None:
        self._door = door
        self._memory = memory

    async def check(self, message: bytes) -> bytes:
        """One CheckRequest -> one CheckResponse, both as bytes. Raises CallFailed where it is no CheckRequest."""
        door = self._door
        started, request_id = door.timer(), door.new_id()
        try:
            question = read_question(message, request_id)
        except ValueError as error:
            raise CallFailed(Status.INVALID_ARGUMENT, str(error)) from None
        except Refused as refused:
            door.journal.refused_unread(answer.status_of(refused.code), refused.code, "", request_id)
            return _denied(answer.of(refused.code, request_id), refused.code, False, ())
        visit = Visit(door.traced(question.raw), started, delegated=True)
        body = LentBody(self._memory, visit.raw.peer)
        try:
            verdict = await door.decide(visit.raw, partial(question.show_body, body))
        finally:
            body.close()
        if isinstance(verdict, Forward):
            try:
                made = _allowed(verdict, question)
            except UnicodeDecodeError:
                verdict = Refuse(
                    Code.HEADER_AMBIGUOUS, verdict.facts, "a value that is not UTF-8: Envoy takes no other"
                )
            else:
                door.record(visit, verdict, ALLOWED)
                return made
        code = "" if isinstance(verdict, Preflight) else verdict.client_code
        return _denied(door.answer(visit, verdict), code, question.grpc, facts_of(verdict))


ALLOWED = 200
"""The status of an allow in the decision log: HTTP's, as of forward-auth."""


def _allowed(permit: Forward, question: EnvoyCheck) -> bytes:
    """The answer of an allow. Raises UnicodeDecodeError where Envoy cannot be told."""
    todo = handover(permit, question.raw)
    remove = (*todo.remove, *removed_hops(question.raw, question.grpc))
    reply = [_reply(*pair) for pair in todo.reply]
    if todo.privacy is not None:
        reply += _private_reply(todo.privacy)
    return check_answer.allowed(_changes(permit, todo, question), remove, reply, facts_of(permit))


def _changes(permit: Forward, todo: Handover, question: EnvoyCheck) -> list[Change]:
    """The permit as changes to the request that Envoy holds."""
    changes = [(name, value, OVERWRITE) for name, value in todo.set]
    if todo.target != question.raw.target or not question.exact:
        changes.append((b":path", todo.target, OVERWRITE))
    if not question.exact:
        # values that were joined, or whose bytes were replaced, are sent as they were read
        named = {name for name, _ in todo.set}
        changes += [
            (name, value, OVERWRITE) for name, value in permit.headers
            if name not in named and name != b"host" and (b"," in value or b"!" in value)
        ]  # fmt: skip
    return changes


def _reply(name: bytes, value: bytes) -> Change:
    return name, value, APPEND if name in BESIDE else OVERWRITE


@remembered(64 * 1024)
def _private_reply(privacy: KeepPrivate) -> tuple[Change, ...]:
    """List the headers that Envoy adds to the app's answer to a principal; what the app says of caches is not ours to
    see."""
    return (
        (CONTROL, control_beside(privacy.no_store), APPEND),
        (VARY, privacy.vary, APPEND),
        *((name, b"no-store", REPLACE) for name in _TARGETED),
        *((name, b"0", REPLACE) for name in (b"expires", b"x-accel-expires")),
    )


# of those that shared caches take before Cache-Control the ones in use, since Envoy is told names
_TARGETED = (
    b"surrogate-control", b"cdn-cache-control", b"cloudflare-cdn-cache-control", b"akamai-cache-control",
    b"netlify-cdn-cache-control", b"vercel-cdn-cache-control", b"edge-control",
)  # fmt: skip


def _denied(made: answer.Answer, code: str, grpc: bool, facts: Iterable[tuple[bytes, str]]) -> bytes:
    """An answer of ours, which Envoy sends in place of the app's: to a gRPC client as trailers alone.

    Of those Envoy makes by itself a status by that of HTTP, and `grpc-message` of the body
    (source/common/http/utility.cc, `sendLocalReply`). Its mapping knows few, so that the status is said.
    """
    ends = Status.UNAUTHENTICATED if made.status == UNAUTHORIZED else Status.PERMISSION_DENIED
    if not grpc:
        headers = [_reply(*pair) for pair in made.headers if pair[0] not in FRAMING]
        return check_answer.denied(made.status, ends, headers, made.body, facts)
    headers = [(b"grpc-status", b"%d" % grpc_status(made.status), OVERWRITE)]
    headers += [_reply(*pair) for pair in made.headers if pair[0] in TOLD_TO_CALLS]
    return check_answer.denied(made.status, ends, headers, code.encode("ascii"), facts)
