"""PEP for HTTP: forwards a request by its permit, or refuses it, streaming in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from functools import partial

from sidecar.doors.answer import Answer
from sidecar.doors.app_answer import report_fault, settled_whole
from sidecar.doors.door import Door, Receive, Visit
from sidecar.doors.held_body import HeldBody, weight_of
from sidecar.doors.holding import Holding
from sidecar.doors.lines import judged
from sidecar.doors.refill import refilled
from sidecar.doors.refusal import Send, send_whole, status_of
from sidecar.doors.watching import Watched, Watching
from sidecar.gate.body import Show, Viewer
from sidecar.gate.codes import Code
from sidecar.gate.cors import ANSWER_HEADERS
from sidecar.gate.obligation import HeldAnswer, ReduceLines, chosen, most_held, need_body, undecided
from sidecar.gate.settle import Released, settle, settle_whole
from sidecar.gate.verdict import Forward, Refuse, Refused
from sidecar.net.connection import Fault, Response
from sidecar.net.exchange import IncompleteAnswer
from sidecar.net.room import Lent, NoRoom, Rooms, owner_of
from sidecar.net.upstream import Upstream
from sidecar.record.journal import Outcome
from sidecar.wire.grammar import Header
from sidecar.wire.http1_request import Head

CLIENT_GONE = 499
"""The status in the log of a request whose client left before the answer; nginx's number for it."""

PIECE = 64 * 1024
"""Bytes of a large answer that are sent at once."""


class ClientGone(Exception):
    """The client left before its body was complete, or before its answer was."""


class ClientBody:
    """The body of a request as it arrives: shown whole to the gate, then given to the upstream as it came."""

    def __init__(
        self, headers: Iterable[tuple[bytes, bytes]], receive: Receive, rooms: Rooms, client: str
    ) -> None:  # fmt: skip
        self.length: int | None = None
        self.expected = False
        for name, value in headers:
            if name == b"content-length":
                self.length, self.expected = int(value), True
            elif name == b"transfer-encoding":
                self.expected = True
        self._ended = not self.expected
        self._receive = receive
        self._rooms = rooms
        self._client = client
        # most requests have nothing to hold
        self._held: HeldBody | None = None

    @property
    def complete(self) -> bool:
        """True if all that is left is in memory: who reads it waits for nothing."""
        return self._ended and (self._held is None or not self._held.is_in_file)

    async def read(self) -> bytes:
        """The next bytes, b"" at the end. Raises ClientGone, and OSError where what is held cannot be read."""
        if self._held is not None and self._held.size:
            data = await self._held.take()
            # it is decided: what was made of it is gone
            self._held.lighten()
            return data
        while not self._ended:
            data = await self._next()
            if data:
                return data
        return b""

    async def show(self, limit: int, show: Show, viewer: Viewer) -> None:
        """Show all of the body, which stays here to be forwarded. Raises Refused: BODY_TOO_LARGE, BODY_INVALID,
        BODY_NO_ROOM."""
        held = self._held = self._held or HeldBody(self._rooms, owner_of(viewer.asker, self._client))
        while not self._ended:
            try:
                piece = await self._next()
            except ClientGone:
                raise Refused(Code.BODY_INVALID, "the body broke off") from None
            try:
                await held.put(piece, weight_of(piece) if viewer.keeps else 0)
            except NoRoom as error:
                raise Refused(Code.BODY_NO_ROOM, str(error)) from None
            if held.size > limit:
                raise Refused(Code.BODY_TOO_LARGE, f"more than {limit} bytes")
            show(piece)

    def close(self) -> None:
        """Let go of what is still held."""
        if self._held is not None:
            self._held.close()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientGone
        self._ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body


class ReverseProxy:
    """Forwards what the gate permits, and answers everything else itself. It can hold the app's whole answer."""

    def __init__(self, door: Door, upstream: Upstream, rooms: Rooms) -> None:
        self._door = door
        self._upstream = upstream
        self._rooms = rooms
        self._holding = Holding(rooms.memory)
        self._watching = Watching(door.journal)

    async def __call__(self, head: Head, peer: str, scheme: str, receive: Receive, send: Send) -> None:
        """Handle one request that is already parsed."""
        visit = self._door.enter(head, peer, scheme, holds_answer=True)
        body = ClientBody(head.headers if head.length else [], receive, self._rooms, peer)
        try:
            permit = await self._door.admit(visit, body.show)
            if isinstance(permit, Forward):
                if permit.given is None:
                    await self._forward(permit, visit, body, send)
                else:
                    await send_whole(await self._given(permit, permit.given, visit), send)
            else:
                await send_whole(permit, send)
        finally:
            body.close()

    async def aclose(self) -> None:
        """Record what is still being judged."""
        await self._watching.aclose()

    async def _given(self, permit: Forward, given: HeldAnswer, visit: Visit) -> Answer:
        """Answer in place of the app, and record it."""
        settled = await settle_whole(permit, given._replace(headers=with_marks(given.headers, permit)))
        if isinstance(settled, Refuse):
            self._door.record(visit, permit, status_of(permit.facts, settled.code), settled.code, settled.detail)
            return self._door.refusals.whole(permit, settled.code, visit.raw)
        self._door.record(visit, permit, settled.status)
        cookies = [(b"set-cookie", cookie) for cookie in permit.cookies]
        body = settled.body or b""
        length = (b"content-length", str(len(body)).encode("ascii"))
        return Answer(settled.status, [*settled.headers, *cookies, length], body)

    async def _forward(self, permit: Forward, visit: Visit, body: ClientBody, send: Send) -> None:
        status, response, detail = 500, None, ""
        settled: Released | Refuse | None = None
        fault: Code | None = Code.INTERNAL_ERROR
        try:
            response = await self._upstream.send(permit, body if body.expected else None)
            settled = self._settled_head(permit, response) or await self._settled_whole(permit, visit, body, response)
            if isinstance(settled, Refuse):
                status, fault, detail = status_of(permit.facts, settled.client_code), settled.code, settled.detail
            else:
                status, fault = settled.status, None
        except Fault as error:
            fault, detail = report_fault(self._door, self._upstream, permit, error)
            status = status_of(permit.facts, fault)
        except ClientGone:
            status, fault = CLIENT_GONE, None
        except asyncio.CancelledError:
            status, fault = CLIENT_GONE, None
            raise
        finally:
            # one record whatever happened, a cancelled request included
            verdict = permit if fault is None else _verdict(permit, settled, fault, detail)
            said = response.status if response is not None else None
            outcome = self._door.outcome(visit, verdict, status, fault, detail, said)
            watched = self._recorded(outcome, settled, response)
            if response is not None and (fault is not None or settled is None):
                response.close()
                self._holding.left(response)
        if fault is not None:
            told = settled.client_code if isinstance(settled, Refuse) else fault
            await send_whole(self._door.refusals.whole(permit, told, visit.raw), send)
        elif response is not None and isinstance(settled, Released):
            relay = self._relay if watched is None else partial(self._relay_watched, watched)
            await relay(response, settled, permit, send)

    def _recorded(
        self, outcome: Outcome, settled: Released | Refuse | None, response: Response | None
    ) -> Watched | None:
        """Record a request; where its answer is watched, return what does that later."""
        if response is None or not isinstance(settled, Released) or settled.watch is None:
            self._door.journal.record(outcome)
            return None
        return self._watching.begin(settled.watch, HeldAnswer(response.status, response.headers), outcome)

    async def _relay_watched(
        self, watched: Watched, response: Response, released: Released, permit: Forward, send: Send
    ) -> None:
        try:
            await self._relay(response, released, permit, watched.tap(send))
        finally:
            watched.end()

    def _settled_head(self, permit: Forward, response: Response) -> Released | Refuse | None:
        """Settle an answer of which the head is there; None where that takes the whole of it."""
        headers, obligations = with_marks(response.headers, permit), permit.obligations
        if not obligations:
            return Released(response.status, headers)
        held = HeldAnswer(response.status, headers)
        if need_body(obligations) and need_body(chosen(obligations, held)):
            return None
        return settle(permit, held, streams=True)

    async def _settled_whole(
        self, permit: Forward, visit: Visit, body: ClientBody, response: Response
    ) -> Released | Refuse:  # fmt: skip
        """Settle what needs all of an answer, with further pages of it where the route says so. Raises Fault."""
        held = HeldAnswer(response.status, with_marks(response.headers, permit))
        most = most_held(chosen(permit.obligations, held))
        settled = await settled_whole(self._holding, permit, response, held, most)
        # a request for a further page would be another one without the body
        if isinstance(settled, Refuse) or body.expected:
            return settled
        return await refilled(self._door, self._upstream, self._holding, visit.raw, permit, settled)

    async def _relay(self, response: Response, released: Released, permit: Forward, send: Send) -> None:
        headers, length, cookies = released.headers, response.length, released.cookies or permit.cookies
        if cookies:
            headers = [*headers, *((b"set-cookie", cookie) for cookie in cookies)]
        if released.body is not None:
            length = None if released.status in (204, 304) else len(released.body)
        if length is not None and released.lines is None:
            headers = [*headers, (b"content-length", str(length).encode("ascii"))]
        try:
            if released.lines is not None:
                await self._relay_lines(response, released._replace(headers=headers), released.lines, permit, send)
                return
            if released.body is not None or (response.complete and not released.before):
                # the answer to HEAD has the length of the body that GET gets (RFC 9110 section 9.3.2), which the server
                # of the client leaves out
                whole = response.whole() if released.body is None else released.body
                # the client may be slow, and the upstream has done its part
                response.close()
                made = Answer(released.status, headers, whole)
                await (_send_in_pieces if self._holding.is_leaving(response) else send_whole)(made, send)
                return
            await send({"type": "http.response.start", "status": released.status, "headers": headers})
            if released.before:
                await send({"type": "http.response.body", "body": released.before, "more_body": True})
            while data := await response.read():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientGone:
            raise IncompleteAnswer("the client left during its upload") from None
        except Fault as error:
            self._door.journal.broken_off(permit.facts, *report_fault(self._door, self._upstream, permit, error))
            raise IncompleteAnswer(error.kind) from None
        finally:
            response.close()
            self._holding.left(response)

    async def _relay_lines(
        self, response: Response, released: Released, demand: ReduceLines, permit: Forward, send: Send
    ) -> None:
        """Relay an answer of which each line is judged. One that cannot be judged, or held, breaks it off."""
        await send({"type": "http.response.start", "status": released.status, "headers": released.headers})
        if permit.facts.method != "HEAD":
            try:
                with Lent(self._rooms.memory, owner_of(permit.facts.asker, permit.facts.peer)) as lent:
                    async with aclosing(judged(response.read, demand, lent)) as lines:
                        async for data in lines:
                            await send({"type": "http.response.body", "body": data, "more_body": True})
            except Refused as refused:
                self._door.journal.broken_off(permit.facts, refused.code, refused.detail)
                raise IncompleteAnswer(refused.code) from None
            except NoRoom as error:
                self._door.journal.broken_off(permit.facts, Code.UPSTREAM_BUSY, str(error))
                raise IncompleteAnswer(Code.UPSTREAM_BUSY) from None
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_in_pieces(made: Answer, send: Send) -> None:
    """Send a large answer as fast as its client takes it, so that this ends when most of it has gone out."""
    await send({"type": "http.response.start", "status": made.status, "headers": made.headers})
    view = memoryview(made.body)
    for at in range(0, len(view), PIECE):
        await send({"type": "http.response.body", "body": bytes(view[at : at + PIECE]), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def with_marks(headers: list[Header], permit: Forward) -> list[Header]:
    """The head of the app's answer with what the permit puts in the place of the app's own."""
    if not permit.reply_headers:
        return headers
    return [pair for pair in headers if pair[0] not in ANSWER_HEADERS] + list(permit.reply_headers)


def _verdict(permit: Forward, settled: Released | Refuse | None, fault: Code, detail: str) -> Forward | Refuse:
    """Return the verdict for the log, where there is a fault: a refusal, where nothing was decided before the app was
    asked."""
    if undecided(permit.obligations) is None:
        return permit
    return settled if isinstance(settled, Refuse) else Refuse(fault, permit.facts, detail)
