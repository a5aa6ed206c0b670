"""Lists and fields in shadow: what enforcing would leave of an answer, judged from a copy after it has gone out.

The answer itself goes out as it comes and waits for nothing. The record of its request is written when it is judged, or
when it is known that it will not be.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol

from sidecar.doors.refusal import Send
from sidecar.gate.codes import Code
from sidecar.gate.obligation import Demand, HeldAnswer, Reduce, ReduceEither, ReduceLines
from sidecar.gate.verdict import Refused
from sidecar.record.journal import Outcome
from sidecar.wire.json_slices import JSON_SPACES

MOST = 32 * 1024 * 1024
"""Bytes of all copies together."""
MOST_OF_LINES, MOST_LINES = 1024 * 1024, 1000
"""Bytes and lines of an answer line by line: what comes after them is not judged."""
AT_ONCE = 2
"""Answers that are judged at once."""
WITHIN = 10.0
"""Seconds from the head of an answer on: what is not there by then is not judged, and neither is what takes longer."""
LAST_WITHIN = 2.0
"""Seconds in which the last ones are judged before the process ends."""
WINDOW = 50

BUSY, TOO_LARGE, SLOW, PARTIAL, ENCODED, STREAM = "busy", "too_large", "slow", "partial", "encoded", "stream"
"""Why an answer was not judged."""
UNJUDGED = "unjudged"
_INFLATED = frozenset((b"gzip", b"x-gzip", b"deflate"))


class Records(Protocol):
    """Port: takes the record of a request."""

    def record(self, outcome: Outcome) -> None: ...


class Watching:
    """The answers of one process that are watched. `most` in bytes, `within` in seconds."""

    def __init__(self, records: Records, *, most: int = MOST, within: float = WITHIN) -> None:
        self.within = within
        self.room = most
        """Bytes that may still be copied."""
        self._records = records
        self._places = asyncio.Semaphore(AT_ONCE)
        self._judging: set[asyncio.Task[None]] = set()

    def begin(self, demand: Demand, held: HeldAnswer, outcome: Outcome) -> Watched:
        """Begin with an answer of which the head is there, and with the record of its request."""
        return Watched(self, demand, held, outcome)

    def judge(self, watched: Watched) -> None:
        """Judge a copy beside everything else, and record its request then."""
        task = asyncio.get_running_loop().create_task(self._judge(watched))
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    async def _judge(self, watched: Watched) -> None:
        outcome = watched.outcome
        facts = outcome.verdict.facts
        try:
            async with asyncio.timeout(self.within), self._places:
                facts.items = await watched.counts() or None
        except Refused as refused:
            facts.would_refuse = refused.code
            outcome = outcome._replace(detail=refused.detail)
        except (TimeoutError, asyncio.CancelledError):
            facts.items = {UNJUDGED: SLOW}
        except Exception as error:  # noqa: BLE001 - a bug of ours would be a refusal where it is enforced
            facts.would_refuse = Code.INTERNAL_ERROR
            outcome = outcome._replace(detail=f"{type(error).__name__}: {error}")
        finally:
            self.record(watched, outcome)

    def record(self, watched: Watched, outcome: Outcome) -> None:
        """Record a request, and give back the room of its copy."""
        self.room += watched.give_back()
        self._records.record(outcome._replace(waited=watched.waited()))

    async def aclose(self) -> None:
        """Judge what is left; what takes too long is recorded without."""
        if self._judging:
            await asyncio.wait(self._judging, timeout=LAST_WITHIN)
        for task in list(self._judging):
            task.cancel()
        await asyncio.gather(*self._judging, return_exceptions=True)


class Watched:
    """One answer that goes out while a copy of it is made. `outcome` is the record of its request."""

    def __init__(self, watching: Watching, demand: Demand, held: HeldAnswer, outcome: Outcome) -> None:
        self.outcome = outcome
        self._watching = watching
        # of events that may come for hours nobody waits to tell what would have been left
        self._is_stream = isinstance(demand, ReduceEither) and demand.is_stream(held)
        demand = self._demand = demand.whole if isinstance(demand, ReduceEither) else demand
        self._held = held
        self._most = demand.rule.max_size if isinstance(demand, Reduce) else MOST_OF_LINES
        self._parts: list[bytes] = []
        self._size = 0
        self._taken = 0
        self._ended = False
        self._clock: Callable[[], float] = asyncio.get_running_loop().time
        self._since = self._clock()
        self._encoding = (
            b", ".join([value for name, value in held.headers if name == b"content-encoding"]).strip().lower()
        )
        self._unjudged = self._hopeless()

    def _hopeless(self) -> str:
        """Return why an answer with such a head cannot be judged, "" where it may be."""
        if self.outcome.verdict.facts.method == "HEAD" or self._held.status in (206, 304):
            # enforcing would have asked for the whole
            return PARTIAL
        if self._is_stream:
            return STREAM
        return ENCODED if self._encoding not in (b"", b"identity", *_INFLATED) else ""

    def tap(self, send: Send) -> Send:
        """Return what sends an answer on, and copies it."""

        async def tapped(message: MutableMapping[str, Any]) -> None:
            data = message.get("body")
            if isinstance(data, bytes) and data and not self._unjudged:
                self._add(data)
            if message["type"] != "http.response.start" and not message.get("more_body", False):
                self._ended = True
            await send(message)

        return tapped

    def _add(self, data: bytes) -> None:
        if self._clock() - self._since > self._watching.within:
            self._stop(SLOW)
        elif self._size + len(data) > self._most:
            self._stop(TOO_LARGE)
        elif len(data) > self._watching.room:
            self._stop(BUSY)
        else:
            self._watching.room -= len(data)
            self._taken += len(data)
            self._size += len(data)
            self._parts.append(data)

    def _stop(self, why: str) -> None:
        """Copy no more. Lines that are there already are judged all the same, at the end."""
        self._unjudged = why
        if isinstance(self._demand, Reduce) or why == BUSY:
            self._watching.room += self.give_back()

    def end(self) -> None:
        """The answer has gone out, or broken off."""
        if isinstance(self._demand, Reduce) and not self._ended:
            self._unjudged = self._unjudged or PARTIAL
        if self._parts and (not self._unjudged or isinstance(self._demand, ReduceLines)):
            self._watching.judge(self)
            return
        self.outcome.verdict.facts.items = {UNJUDGED: self._unjudged} if self._unjudged else None
        self._watching.record(self, self.outcome)

    def give_back(self) -> int:
        """Let go of the copy, and return its bytes."""
        taken, self._taken = self._taken, 0
        self._parts.clear()
        return taken

    def waited(self) -> float:
        """Return the seconds since the head was there."""
        return self._clock() - self._since

    async def counts(self) -> Mapping[str, int | str]:
        """Return the numbers of what enforcing would have left. Raises Refused where it would have refused."""
        headers = [header for header in self._held.headers if header[0] != b"content-encoding"]
        body = b"".join(self._parts)
        if self._encoding in _INFLATED:
            body = _inflated(body, self._most)
        held = self._held._replace(headers=headers, body=body)
        if isinstance(self._demand, ReduceLines):
            return await _counts_of_lines(self._demand, held, body, whole=self._ended and not self._unjudged)
        if len(body) > self._most:
            raise Refused(Code.ITEMS_TOO_MANY, f"an answer of more than {self._most} bytes")
        return (await self._demand.rule.reduce(held, self._demand.judge, self._demand.granted)).counts


def _inflated(body: bytes, most: int) -> bytes:
    """Return at most one byte more than so many of a body. Raises Refused where it is not what its encoding says."""
    try:
        # zlib and gzip alike, told apart by their first bytes
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, most + 1)
    except zlib.error:
        raise Refused(Code.ITEMS_UNREADABLE, "the content is not of its encoding") from None


async def _counts_of_lines(demand: ReduceLines, held: HeldAnswer, body: bytes, *, whole: bool) -> Mapping[str, int]:
    """Return how many lines there were and would have stayed; one without its end counts only in a `whole` answer."""
    _, has_lines = demand.rule.begin(held)
    if not has_lines:
        return {}
    windows, kept = demand.rule.units(), 0
    windows.add(body)
    if whole:
        windows.end()
    lines = windows.take(MOST_LINES)
    for at in range(0, len(lines), WINDOW):
        kept += _number((await demand.rule.window(lines[at : at + WINDOW], demand.judge)).split(b"\n"))
    return {"seen": _number(lines), "kept": kept}


def _number(lines: list[bytes]) -> int:
    return sum(1 for line in lines if line.strip(JSON_SPACES))
