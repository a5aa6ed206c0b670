"""PEP for Envoy that sees the app's answers: its stream about one request (ext_proc, gRPC v3) -> `Raw`, the verdict ->
what Envoy sends, and the app's answer -> what is released.

Envoy waits with each part of a request or an answer until it has heard of it, and where a stream ends badly it refuses
by itself. Where a stream ends well, it goes on by itself: so one ends well only when all is said.
"""

from __future__ import annotations

from typing import NamedTuple

from envoy.config.core.v3.base_pb2 import HeaderMap
from envoy.service.ext_proc.v3.external_processor_pb2 import HttpBody, ProcessingRequest
from google.protobuf.message import DecodeError

from sidecar.doors import answer
from sidecar.doors.door import Door, Visit
from sidecar.doors.envoy import (
    BESIDE,
    FRAMING,
    TOLD_TO_CALLS,
    EnvoyRequest,
    address,
    facts_of,
    grpc_status,
    plain_headers,
    removed_hops,
    request_of,
)
from sidecar.doors.handover import header_changes
from sidecar.doors.held_body import LentBody
from sidecar.doors.holding import JUDGED
from sidecar.doors.lines import WINDOW, room_of
from sidecar.doors.process_answer import (
    REQUEST_BODY,
    REQUEST_HEADERS,
    REQUEST_TRAILERS,
    RESPONSE_BODY,
    RESPONSE_HEADERS,
    RESPONSE_TRAILERS,
    BodyMode,
    HeaderMutation,
    difference,
    go_on,
    instead,
    metadata,
    mode,
    without_trailers,
)
from sidecar.doors.proxy import CLIENT_GONE, with_marks
from sidecar.gate.body import Show, Viewer
from sidecar.gate.codes import Code
from sidecar.gate.obligation import (
    Decide,
    HeldAnswer,
    Reduce,
    ReduceEither,
    ReduceLines,
    Units,
    chosen,
    most_held,
    need_body,
    undecided,
)
from sidecar.gate.settle import Released, settle, settle_whole
from sidecar.gate.verdict import Forward, Preflight, Refuse, Refused
from sidecar.net.answer_headers import clean_headers
from sidecar.net.grpc_limits import GrpcLimits
from sidecar.net.grpc_server_stream import Conversation
from sidecar.net.room import Lent, NoRoom, Room, owner_of
from sidecar.release.lines import Windows
from sidecar.wire.grammar import HOP_BY_HOP, Header
from sidecar.wire.grpc import CallFailed, Status

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
PROCESS = f"/{SERVICE}/Process".encode("ascii")

MAX_HELD = 16 * 1024 * 1024
"""Bytes of an answer that can come from Envoy as one message, and go back."""
LIMITS = GrpcLimits(message=MAX_HELD, unsent=4 * MAX_HELD, held=8 * MAX_HELD, frames=20_000)
"""Envoy ends each stream by a frame that is no part of a call."""

_SOURCE = "source.address"
"""The attribute of the request that tells of the client."""
_OF_CONNECTION = HOP_BY_HOP - {b"content-length"}
_NAMES = {
    "request_headers": REQUEST_HEADERS, "response_headers": RESPONSE_HEADERS, "request_body": REQUEST_BODY,
    "response_body": RESPONSE_BODY, "request_trailers": REQUEST_TRAILERS, "response_trailers": RESPONSE_TRAILERS,
}  # fmt: skip


class EnvoyRequestHead(NamedTuple):
    """Beginning of a stream: a request, and unless it is `complete` a body. `shows_body` and `shows_answer` are how
    Envoy shows it and the app's answer, by its configuration."""

    request: EnvoyRequest
    complete: bool
    shows_body: BodyMode
    shows_answer: BodyMode


def read_head(said: ProcessingRequest, request_id: str) -> EnvoyRequestHead:
    """Read the first message of a stream. Raises Refused: REQUEST_INVALID, HEADER_AMBIGUOUS, PROXY_UNABLE."""
    shows_body = _SHOWS.get(said.protocol_config.request_body_mode, BodyMode.NONE)
    shows_answer = _SHOWS.get(said.protocol_config.response_body_mode, BodyMode.NONE)
    given = _given(said.request_headers.headers)
    pseudo = [header for header in given if header[0][:1] == b":"]
    own = dict(pseudo)
    if len(own) < len(pseudo):
        raise Refused(Code.REQUEST_INVALID, "a pseudo-header twice")
    method, target, host = (own.get(name, b"") for name in (b":method", b":path", b":authority"))
    headers = plain_headers(given, True, method, target, host)
    complete = said.request_headers.end_of_stream
    request = request_of(
        method.decode("latin-1"), target, headers, _peer(said), request_id, has_body=not complete,
        holds_answer=shows_answer is not BodyMode.NONE,
    )  # fmt: skip
    return EnvoyRequestHead(request, complete, shows_body, shows_answer)


_SHOWS = {int(body): body for body in BodyMode}
# all of it in one message, or what is not all of it and says so
_WHOLE = frozenset((BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL))
# nothing of it passes that was not answered
_PIECES = frozenset((BodyMode.BUFFERED, BodyMode.STREAMED))


def _given(headers: HeaderMap) -> list[Header]:
    """The headers of a message as on the wire. Raises Refused(PROXY_UNABLE) where Envoy has replaced bytes."""
    given = []
    for each in headers.headers:
        if each.value:
            raise Refused(Code.PROXY_UNABLE, "headers as text, expected their bytes, as Envoy sends them since 1.28")
        given.append((each.key.encode(), each.raw_value))
    return given


def _peer(said: ProcessingRequest) -> str:
    """The client as Envoy knows it, "" where its filter does not tell (`request_attributes`)."""
    for attributes in said.attributes.values():
        if _SOURCE in attributes.fields:
            host, _, _ = attributes.fields[_SOURCE].string_value.rpartition(":")
            return address(host.strip("[]"))
    return ""


class ExtProc:
    """Answers Envoy's streams, one for each request."""

    def __init__(self, door: Door, memory: Room) -> None:
        self._door = door
        self._memory = memory

    async def process(self, call: Conversation) -> None:
        """Decide one request, and settle the app's answer. Raises CallFailed where Envoy says something else than is
        due, or nothing: then it lets nothing through."""
        await _Stream(self._door, self._memory, call).run()


class _Stream:
    """One request, from its head to the end of its answer. `due` is the part that Envoy waits to hear of."""

    def __init__(self, door: Door, memory: Room, call: Conversation) -> None:
        self._door = door
        self._memory = memory
        self._call = call
        self._due = b""
        self._ended = True  # the app's answer, as far as we have a say in it
        self._head: EnvoyRequestHead
        self._body: LentBody

    async def run(self) -> None:
        door = self._door
        started, request_id = door.timer(), door.new_id()
        said = await self._next()
        if said is not None and self._due == RESPONSE_HEADERS:
            self._own_answer(said)
            return
        if said is None or self._due != REQUEST_HEADERS:
            raise _out_of_order(self._due)
        try:
            self._head = read_head(said, request_id)
        except Refused as refused:
            door.journal.refused_unread(answer.status_of(refused.code), refused.code, "", request_id)
            self._answer(answer.of(refused.code, request_id), refused.code, None)
            return
        visit = Visit(door.traced(self._head.request.raw), started, delegated=True)
        self._body = LentBody(self._memory, visit.raw.peer)
        try:
            verdict = await door.decide(visit.raw, self._show_body)
        finally:
            self._body.close()
        if isinstance(verdict, Forward) and verdict.given is None:
            verdict = self._able(verdict)
        if isinstance(verdict, Forward):
            if verdict.given is None:
                await self._forward(verdict, visit)
            else:
                await self._give(verdict, verdict.given, visit)
            return
        code = "" if isinstance(verdict, Preflight) else verdict.client_code
        self._answer(door.answer(visit, verdict), code, verdict)

    async def _next(self) -> ProcessingRequest | None:
        """The next part that Envoy holds, None where it holds none any more. Raises CallFailed."""
        message = await self._call.receive()
        if message is None:
            self._due = b""
            return None
        try:
            said = ProcessingRequest.FromString(message)
        except DecodeError as error:
            raise CallFailed(Status.INVALID_ARGUMENT, f"no ProcessingRequest: {error}") from None
        if said.observability_mode:
            raise CallFailed(Status.FAILED_PRECONDITION, "observability_mode, in which Envoy waits for nobody")
        self._due = _NAMES.get(said.WhichOneof("request") or "", b"")
        return said

    def _own_answer(self, said: ProcessingRequest) -> None:
        """Let Envoy refuse what it can't read, so that we never saw it. Raises CallFailed for any other answer to a
        request that nobody has decided."""
        status = _status(_given(said.response_headers.headers))
        if status < _BAD_REQUEST:
            raise _out_of_order(self._due)
        # its status alone: a filter that shows us no request would have come here by an answer of the app
        self._call.send(instead(status, HeaderMutation(), b""))

    def _able(self, permit: Forward) -> Forward | Refuse:
        """Return the permit where Envoy shows the app's answer as its obligations need it."""
        shows, missing = self._head.shows_answer, ""
        for obligation in permit.obligations:
            if isinstance(obligation, Reduce | Decide) and shows not in _WHOLE:
                missing = "BUFFERED_PARTIAL"
            # where Envoy does not let it be changed to STREAMED, no other passes nothing unseen and holds the head back
            elif isinstance(obligation, ReduceEither) and shows is not BodyMode.BUFFERED:
                missing = "BUFFERED"
            elif isinstance(obligation, ReduceLines) and shows not in _PIECES:
                missing = "STREAMED"
        if not missing:
            return permit
        detail = f"found `response_body_mode: {shows.name}` in Envoy's filter, expected {missing}"
        return Refuse(Code.PROXY_UNABLE, permit.facts, detail, (), permit.reply_headers, permit.cookies)

    # --- the request ---

    async def _show_body(self, limit: int, show: Show, viewer: Viewer) -> None:
        """Show the body, of at most so many bytes. Raises Refused: BODY_TOO_LARGE, BODY_INVALID, PROXY_UNABLE."""
        head = self._head
        if head.complete:
            return
        if head.shows_body not in _WHOLE:
            raise Refused(Code.PROXY_UNABLE, "no body from Envoy, expected `request_body_mode: BUFFERED_PARTIAL`")
        length = next((value for name, value in head.request.raw.headers if name == b"content-length"), None)
        if length is not None and int(length) > limit:
            raise Refused(Code.BODY_TOO_LARGE, f"more than {limit} bytes")
        self._call.send(go_on(REQUEST_HEADERS, more=mode(head.shows_body, head.shows_answer)))
        said = await self._next()
        if said is None or self._due != REQUEST_BODY:
            # Envoy has answered by itself, and holds that answer
            by_size = said is not None and _status(_given(said.response_headers.headers)) == _TOO_LARGE
            raise (
                Refused(Code.BODY_TOO_LARGE, "more than Envoy holds")
                if by_size
                else Refused(Code.BODY_INVALID, "the body broke off")
            )
        body: bytes = said.request_body.body
        if len(body) > limit or not _is_whole(said.request_body, head.shows_body, length):
            raise Refused(Code.BODY_TOO_LARGE, f"more than {limit} bytes")
        if length is not None and length != b"%d" % len(body):
            raise Refused(Code.BODY_INVALID, f"{len(body)} bytes from Envoy, of {length.decode('latin-1')}")
        self._body.take(body, viewer)
        show(body)

    def _release_request(self, permit: Forward, visit: Visit) -> None:
        """Let Envoy send what is permitted."""
        request = self._head.request
        ours, gone = header_changes(permit, request.raw)
        changed = [*ours]
        if permit.target != request.raw.target:
            changed.append((b":path", permit.target))
        if permit.method != request.raw.method.encode("ascii"):
            changed.append((b":method", permit.method))
        more = metadata(facts_of(permit))
        if self._due == REQUEST_HEADERS:
            more += mode(BodyMode.NONE, self._head.shows_answer)
        change = HeaderMutation((*gone, *removed_hops(visit.raw, request.grpc)), changed)
        self._call.send(go_on(self._due, change, more=more))

    # --- the answer ---

    async def _give(self, permit: Forward, given: HeldAnswer, visit: Visit) -> None:
        """Answer in place of the app."""
        settled = await settle_whole(permit, given._replace(headers=with_marks(given.headers, permit)))
        if isinstance(settled, Refuse):
            self._door.record(visit, permit, answer.status_of(settled.code), settled.code, settled.detail)
            self._answer(self._door.refusals.whole(permit, settled.code, visit.raw), settled.code, permit)
            return
        self._door.record(visit, permit, settled.status)
        headers = [*settled.headers, *((b"set-cookie", cookie) for cookie in permit.cookies)]
        self._answer(answer.Answer(settled.status, headers, settled.body or b""), "", permit)

    async def _forward(self, permit: Forward, visit: Visit) -> None:
        status: int = CLIENT_GONE
        said: int | None = None
        refused: Refuse | None = None
        settled: Released | Refuse | None = None
        try:
            self._release_request(permit, visit)
            held = await self._answer_head(permit)
            if held is not None:
                said = _status(_given(held.response_headers.headers))
                settled = await self._settled(permit, held)
                if isinstance(settled, Refuse):
                    refused, status = settled, answer.status_of(settled.client_code)
                elif settled is not None:
                    status = settled.status
        finally:
            # one record whatever happened, a cancelled request included
            fault, detail = (None, "") if refused is None else (refused.code, refused.detail)
            # where the decision is made from the answer, the refusal is the verdict
            verdict = permit if refused is None or undecided(permit.obligations) is None else refused
            self._door.record(visit, verdict, status, fault, detail, said)
        if refused is not None:
            self._answer(self._door.refusals.whole(permit, refused.client_code, visit.raw), refused.client_code, permit)
        elif not self._ended:
            await self._rest(permit, settled.lines if isinstance(settled, Released) else None)

    async def _rest(self, permit: Forward, demand: ReduceLines | None) -> None:
        """Release what is left of an answer whose head has gone out: lines, and no trailers. Raises CallFailed: then it
        breaks off."""
        try:
            with Lent(self._memory, owner_of(permit.facts.asker, permit.facts.peer)) as lent:
                await self._judge_lines(demand, lent)
        except Refused as refused:
            self._door.journal.broken_off(permit.facts, refused.code, refused.detail)
            raise CallFailed(Status.ABORTED, "a line that can't be judged") from None
        except NoRoom as error:
            self._door.journal.broken_off(permit.facts, Code.UPSTREAM_BUSY, str(error))
            raise CallFailed(Status.ABORTED, "no room for a line") from None

    async def _judge_lines(self, demand: ReduceLines | None, lent: Lent) -> None:
        windows: Units = demand.rule.units() if demand is not None else Windows()
        while (said := await self._next()) is not None:
            if self._due == RESPONSE_TRAILERS:
                windows.end()
                if windows.lines:
                    raise Refused(Code.ITEMS_UNREADABLE, "a last line without an end, before trailers")
                self._drop_trailers(said)
                return
            if self._due != RESPONSE_BODY or demand is None:
                raise _out_of_order(self._due)
            ended = said.response_body.end_of_stream
            windows.add(said.response_body.body)
            lent.holds(room_of(JUDGED * windows.size))
            if ended:
                windows.end()
            self._call.send(go_on(RESPONSE_BODY, None, await self._judged(windows, demand)))
            lent.holds(room_of(windows.size))
            if ended:
                return

    async def _judged(self, windows: Units, demand: ReduceLines) -> bytes:
        """Judge the lines that have come, and return those that may go out. Raises Refused."""
        parts = []
        while windows.lines:
            lines = windows.take(WINDOW)
            # the answer to HEAD has no content, and so nothing to judge
            parts.append(
                b"" if self._head.request.raw.method == "HEAD" else await demand.rule.window(lines, demand.judge)
            )
        return b"".join(parts)

    async def _answer_head(self, permit: Forward) -> ProcessingRequest | None:
        """The head of the app's answer, None where none comes. Raises CallFailed."""
        while True:
            said = await self._next()
            if said is None or self._due == RESPONSE_HEADERS:
                return said
            if self._due not in (REQUEST_BODY, REQUEST_TRAILERS):
                raise _out_of_order(self._due)
            # what nobody asked for: Envoy does not let its mode be changed
            self._call.send(go_on(self._due) if self._due == REQUEST_BODY else without_trailers(self._due, ()))

    async def _settled(self, permit: Forward, said: ProcessingRequest) -> Released | Refuse | None:
        """Settle an answer, and release what is not refused; None where Envoy holds it no more. Raises CallFailed."""
        given = _given(said.response_headers.headers)
        before = [header for header in given if header[0][:1] != b":" and header[0] not in _OF_CONNECTION]
        held = HeldAnswer(_status(given), with_marks(clean_headers(before), permit))
        if not (need_body(permit.obligations) and need_body(obligations := chosen(permit.obligations, held))):
            settled = settle(permit, held, streams=True)
            if isinstance(settled, Released):
                # without lines the stream ends here, and Envoy goes on by itself
                self._ended = settled.lines is None or said.response_headers.end_of_stream
                more = self._mode_after_head()
                self._release(permit, before, settled, more)
            return settled
        most = min(most_held(obligations), MAX_HELD)
        return await self._settled_whole(permit, before, held, most, complete=said.response_headers.end_of_stream)

    def _mode_after_head(self) -> bytes:
        """Return how Envoy shows what is left of an answer whose head goes out: not at all, or piece by piece."""
        if self._ended:
            return mode(BodyMode.NONE, BodyMode.NONE)
        return b"" if self._head.shows_answer is BodyMode.STREAMED else mode(BodyMode.NONE, BodyMode.STREAMED)

    async def _settled_whole(
        self, permit: Forward, before: list[Header], held: HeldAnswer, most: int, *, complete: bool
    ) -> Released | Refuse | None:
        length = next((value for name, value in before if name == b"content-length"), b"")
        body: bytes | None = b""
        more = b""
        if not complete and length.isdigit() and int(length) > most:
            body, more = None, mode(BodyMode.NONE, BodyMode.NONE)
        elif not complete:
            self._call.send(go_on(RESPONSE_HEADERS))
            said = await self._next()
            if said is None:
                return None
            if self._due != RESPONSE_BODY:
                raise _out_of_order(self._due)
            shown, complete = said.response_body.body, said.response_body.end_of_stream
            whole = len(shown) <= most and _is_whole(said.response_body, self._head.shows_answer, length)
            body = shown if whole else None
        owner = owner_of(permit.facts.asker, permit.facts.peer)
        try:
            settled: Released | Refuse
            with self._memory.taken(owner, JUDGED * len(body or b"")):
                settled = await settle_whole(permit, held._replace(body=body))
        except NoRoom as error:
            settled = Refuse(Code.UPSTREAM_BUSY, permit.facts, str(error), (), permit.reply_headers, permit.cookies)
        if isinstance(settled, Released):
            # shadow mode releases what was too large to be judged, and Envoy goes on by itself
            self._ended = complete or settled.body is None
            self._release(permit, before, settled, more)
        return settled

    def _release(self, permit: Forward, before: list[Header], released: Released, more: bytes = b"") -> None:
        """Let Envoy send an answer as it is settled."""
        after = [*released.headers, *((b"set-cookie", cookie) for cookie in permit.cookies)]
        body = None
        if self._due == RESPONSE_BODY and self._head.request.raw.method == "HEAD":
            # its length would be that of the body that GET gets, and Envoy takes no other than that of this one
            body = b""
        elif self._due == RESPONSE_BODY and released.body is not None:
            body = released.body
            after.append((b"content-length", b"%d" % len(body)))
        elif released.lines is None:
            after += [header for header in before if header[0] == b"content-length"]
        self._call.send(go_on(self._due, difference(before, after), body, more))

    def _drop_trailers(self, said: ProcessingRequest) -> None:
        """Leave out trailers, which tell of the answer as it was."""
        names = [each.key.encode() for each in said.response_trailers.trailers.headers]
        self._call.send(without_trailers(RESPONSE_TRAILERS, names))

    def _answer(self, made: answer.Answer, code: str, verdict: Forward | Refuse | Preflight | None) -> None:
        """Let Envoy send an answer of ours, in place of all that it holds."""
        more = b"" if verdict is None else metadata(facts_of(verdict))
        grpc = verdict is not None and self._head.request.grpc
        if grpc:
            headers = [pair for pair in made.headers if pair[0] in TOLD_TO_CALLS]
            self._call.send(
                instead(made.status, HeaderMutation((), headers), code.encode("ascii"), grpc_status(made.status), more)
            )
            return
        headers = [pair for pair in made.headers if pair[0] not in FRAMING]
        change = HeaderMutation(
            (), [pair for pair in headers if pair[0] not in BESIDE], [pair for pair in headers if pair[0] in BESIDE]
        )  # fmt: skip
        self._call.send(instead(made.status, change, made.body, None, more))


def _is_whole(body: HttpBody, shows: BodyMode, length: bytes | None) -> bool:
    """Return whether a body is all of it, where Envoy may show its beginning alone."""
    return body.end_of_stream or shows is BodyMode.BUFFERED or length == b"%d" % len(body.body)


_BAD_REQUEST, _TOO_LARGE = 400, 413


def _status(given: list[Header]) -> int:
    """The status of an answer. Raises CallFailed where there is none."""
    status = dict(given).get(b":status", b"")
    if not status.isdigit():
        raise CallFailed(Status.INVALID_ARGUMENT, "an answer without a status")
    return int(status)


def _out_of_order(due: bytes) -> CallFailed:
    name = next((name for name, tag in _NAMES.items() if tag == due), "nothing")
    return CallFailed(Status.FAILED_PRECONDITION, f"{name}, which was not due")
