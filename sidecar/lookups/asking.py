"""PIP: asks the source of a lookup. Coalesces equal questions, caches replies, applies breaker and fair queueing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from sidecar.bounded import LONGEST_KEY, Expiring
from sidecar.gate.batch import batch_of, parts_of, replies_of
from sidecar.gate.codes import Code, Dependency
from sidecar.gate.lookup import Call, Inquiry, Lookup, Reply
from sidecar.gate.verdict import Refused
from sidecar.net.breaker import Breaker
from sidecar.net.connection import Fault
from sidecar.net.shares import Shares
from sidecar.record.reasons import FaultKind, Reason, ReportFault, report_nothing

CACHED = 16 * 1024 * 1024
"""Bytes of the replies that are kept for all lookups together: about 16,000 usual ones; the oldest makes room."""
MAX_RUNNING = 256
"""Questions to one lookup at once, where its source answers no fewer."""
PATIENCE = 0.5
"""Part of its time that a request waits for a call about several ids that another one began."""

CODES = {
    FaultKind.UNAVAILABLE: Code.LOOKUP_UNAVAILABLE,
    FaultKind.TIMEOUT: Code.LOOKUP_TIMEOUT,
    FaultKind.PROTOCOL: Code.LOOKUP_BAD_ANSWER,
    FaultKind.PARTIAL: Code.LOOKUP_PARTIAL,
    FaultKind.OPEN: Code.LOOKUP_OPEN,
    FaultKind.BUSY: Code.LOOKUP_BUSY,
    FaultKind.AUTH: Code.LOOKUP_AUTH,
}
_KEPT = frozenset((200, 404))
"""Statuses that say something about the resource; a fault is never kept."""
_COUNTS = frozenset((FaultKind.UNAVAILABLE, FaultKind.TIMEOUT, FaultKind.PARTIAL))
"""Faults that open the breaker: the source does not answer. A reply that cannot be used may be about one resource only,
and whoever asks for it must not close the source to all others."""
_ABOUT_ONE = frozenset((Reason.FUNCTION_RAISED,))
"""Reasons that may be about one resource only, though their kind is not."""

_Key = tuple[str, str, str | bytes, bytes]
_Task = asyncio.Task[Mapping[_Key, Reply]]


class _Flight(NamedTuple):
    """A call that is under way: -> the reply to each question that it answers, of which it has so many."""

    task: _Task
    questions: int


class _Trip(NamedTuple):
    """How a request asks about several ids: until when, how long it waits for a flight of somebody else about several,
    whether it `joins` such a one, and whether it has waited before."""

    deadline: float
    patience: float
    joins: bool = True
    waited: bool = False


Count = Callable[[str, str], None]
"""Callback for each cache lookup: (its name, `hit` or `miss`)."""


class Source(Protocol):
    """Answers to one type of inquiry. Of one lookup `places` questions are asked at once; one principal's are half of
    them at most."""

    places: int

    async def ask(self, call: Call, seconds: float) -> Reply:
        """Ask within so many seconds. Raises Fault where there is no answer; anything else it raises is one too."""

    async def retain(self, lookups: Collection[Lookup]) -> None:
        """Give back what was opened for others than these, which ask nothing any more."""

    async def aclose(self) -> None:
        """Give back everything that was opened."""


class Lookups:
    """Asks for the gate, each type of inquiry at its own of `sources`. `now` gives monotonic seconds. `count` is told
    of each use of the cache, `report` of each fault of a source."""

    def __init__(
        self,
        sources: Mapping[type[Inquiry], Source],
        *,
        now: Callable[[], float],
        count: Count = lambda cache, outcome: None,
        report: ReportFault = report_nothing,
    ) -> None:
        self._sources = sources
        self._now = now
        self._count = count
        self._report = report
        self._breakers: dict[str, Breaker] = {}
        self.shares: dict[str, Shares] = {}
        """Lookup -> the places for its questions."""
        self._cache: Expiring[_Key, Reply] = Expiring(CACHED, 0.0)
        self._flights: dict[_Key, _Flight] = {}
        self._tasks: set[_Task] = set()

    def breakers(self) -> dict[str, bool]:
        """The lookups that were asked so far -> whether the breaker turns their calls away."""
        return {name: breaker.is_open for name, breaker in self._breakers.items()}

    @property
    def remembered(self) -> int:
        """Bytes of the answers that are kept."""
        return self._cache.weight

    async def ask(self, call: Call) -> Reply:
        """The answer, cached or fresh. Raises Refused with a LOOKUP_* code where there is none."""
        lookup = call.lookup
        if lookup.batch is not None:
            (reply,) = await self.ask_all((call,))
            return reply
        asked_as = b"" if call.app is None else call.app.asked_as
        key = (lookup.name, lookup.inquiry.source, _short(call.question), asked_as)
        if lookup.cache:
            cached = self._cache.get(key, self._now())
            if cached is not None:
                self._count("lookup", "hit")
                return cached
            self._count("lookup", "miss")
        flight = self._flights.get(key)
        if flight is None:
            shares = self._shares(lookup)
            if not shares.take(call.asker):
                return await self._ask_in_turn(key, call, shares)
            flight = self._start((key,), call, shares, lookup.timeout)
        return await self._landing(flight, key, lookup)

    async def ask_all(self, calls: Sequence[Call]) -> list[Reply]:
        """The answers to calls of one lookup with `batch`, in order: each cached, of a flight that is under way, or of
        one of as few new ones as can be. Raises Refused where one of them has none."""
        lookup = calls[0].lookup
        asked = {self._key_of(call): call for call in calls}
        now = asyncio.get_running_loop().time()
        trip = _Trip(now + lookup.timeout, now + lookup.timeout * PATIENCE)
        replies = await self._ask_once(asked, trip, self._known(asked))
        left = {key: call for key, call in asked.items() if key not in replies}
        if left:
            # the others of that call, or their ids, may be what is wrong with it: these are asked about without them
            trip = trip._replace(joins=False, waited=True)
            replies |= await self._ask_once(left, trip, self._known(left, joins=False))
        return [replies[self._key_of(call)] for call in calls]

    async def _ask_once(
        self, asked: Mapping[_Key, Call], trip: _Trip, found: dict[_Key, Reply | _Flight]
    ) -> dict[_Key, Reply]:
        """The answers to questions, without those that a flight of somebody else does not answer in time. Raises
        Refused."""
        lookup = next(iter(asked.values())).lookup
        if lookup.cache and trip.joins:
            for key in asked:
                self._count("lookup", "hit" if isinstance(found.get(key), Reply) else "miss")
        own, waited = set[_Key](), trip.waited
        for part in parts_of([call for key, call in asked.items() if key not in found]):
            joined, started, in_turn = await self._start_all({self._key_of(call): call for call in part}, trip)
            found |= joined | started
            own |= started.keys()
            waited |= in_turn
        try:
            async with asyncio.timeout_at(trip.deadline if waited else None):
                replies = {
                    key: await self._reply(found[key], key, lookup)
                    if key in own
                    else await self._joined(found[key], key, lookup, trip)
                    for key in asked
                }
        except TimeoutError:
            raise self._fault(FaultKind.TIMEOUT, lookup) from None
        return {key: reply for key, reply in replies.items() if reply is not None}

    async def _start_all(
        self, asked: Mapping[_Key, Call], trip: _Trip
    ) -> tuple[dict[_Key, Reply | _Flight], dict[_Key, _Flight], bool]:
        """Start one flight, when it is its asker's turn, for what nobody has asked meanwhile; -> what is known, what
        was started, and whether it had to wait."""
        first = next(iter(asked.values()))
        lookup, shares = first.lookup, self._shares(first.lookup)
        waited = not shares.take(first.asker)
        if waited and not await shares.wait(first.asker, trip.deadline):
            raise self._fault(FaultKind.BUSY, lookup)
        found = self._known(asked, joins=trip.joins)
        rest = {key: call for key, call in asked.items() if key not in found}
        if not rest:
            shares.give_back(first.asker)
            return found, {}, waited
        in_part = waited or trip.waited
        seconds = trip.deadline - asyncio.get_running_loop().time() if in_part else lookup.timeout
        flight = self._start(tuple(rest), batch_of([*rest.values()]), shares, seconds)
        return found, dict.fromkeys(rest, flight), waited

    def _known(self, asked: Iterable[_Key], *, joins: bool = True) -> dict[_Key, Reply | _Flight]:
        """Find what is cached, and what is under way where it `joins` that."""
        now, found = self._now(), dict[_Key, Reply | _Flight]()
        for key in asked:
            known = self._cache.get(key, now) or (self._flights.get(key) if joins else None)
            if known is not None:
                found[key] = known
        return found

    async def _joined(self, found: Reply | _Flight, key: _Key, lookup: Lookup, trip: _Trip) -> Reply | None:
        """The reply of a flight that somebody else began; None where one about several ids failed, or takes long."""
        if isinstance(found, Reply) or found.questions == 1:
            return await self._reply(found, key, lookup)
        try:
            async with asyncio.timeout_at(trip.patience):
                return await self._reply(found, key, lookup)
        except (Refused, TimeoutError):
            if found.task.cancelled():
                raise
            return None

    async def _reply(self, found: Reply | _Flight, key: _Key, lookup: Lookup) -> Reply:
        if isinstance(found, Reply):
            return found
        if found.task.done() and not found.task.cancelled():
            return found.task.result()[key]
        return await self._landing(found, key, lookup)

    def _key_of(self, call: Call) -> _Key:
        """Key of what a lookup with `batch` says of one: it is the same whichever others it is asked about with."""
        question = _short(f"{call.question}\n{call.resource_id}")
        return call.lookup.name, call.lookup.inquiry.source, question, b""

    def _shares(self, lookup: Lookup) -> Shares:
        shares = self.shares.get(lookup.name)
        if shares is None:
            source = self._sources.get(type(lookup.inquiry))
            shares = self.shares[lookup.name] = Shares(MAX_RUNNING if source is None else source.places)
        return shares

    async def _ask_in_turn(self, key: _Key, call: Call, shares: Shares) -> Reply:
        """As `ask`, when it is this asker's turn.

        Askers wait before there is a flight: nobody joins one whose asker has a long queue.
        """
        loop, lookup = asyncio.get_running_loop(), call.lookup
        deadline = loop.time() + lookup.timeout
        if not await shares.wait(call.asker, deadline):
            raise self._fault(FaultKind.BUSY, lookup)
        if key in self._flights or self._cache.get(key, self._now()) is not None:
            # somebody else has asked meanwhile
            shares.give_back(call.asker)
            answered = self.ask(call)
        else:
            answered = self._landing(self._start((key,), call, shares, deadline - loop.time()), key, lookup)
        try:
            async with asyncio.timeout_at(deadline):
                return await answered
        except TimeoutError:
            raise self._fault(FaultKind.TIMEOUT, lookup) from None

    def _start(self, keys: tuple[_Key, ...], call: Call, shares: Shares, seconds: float) -> _Flight:
        """A flight of so many seconds, in the place that its asker has taken."""
        task = asyncio.get_running_loop().create_task(self._fly(keys, call, seconds))
        flight = _Flight(task, len(keys))
        self._tasks.add(task)
        for key in keys:
            self._flights[key] = flight

        def landed(done: _Task) -> None:
            self._tasks.remove(done)
            for key in keys:
                # whoever asks again, alone, has put another one there
                if self._flights.get(key) is flight:
                    del self._flights[key]
            shares.give_back(call.asker)
            if not done.cancelled():
                # everybody who waited may have left: then nobody else takes note of what it raised
                done.exception()

        task.add_done_callback(landed)
        return flight

    async def _landing(self, flight: _Flight, key: _Key, lookup: Lookup) -> Reply:
        # not awaited itself: neither does one who leaves take the answer from the others, nor does its end cancel them
        landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        flight.task.add_done_callback(partial(_tell, landed))
        await landed
        if flight.task.cancelled():
            raise Refused(Code.LOOKUP_UNAVAILABLE, f"lookups.{lookup.name}: closed")
        return flight.task.result()[key]

    async def _fly(self, keys: tuple[_Key, ...], call: Call, seconds: float) -> Mapping[_Key, Reply]:
        reply = await self._answered(call, seconds)
        # of many, in the order of its ids
        replies = dict(zip(keys, replies_of(call, reply).values() if call.ids else (reply,), strict=True))
        if call.lookup.cache:
            for key, one in replies.items():
                if one.status in _KEPT:
                    self._cache.put(key, one, self._now(), seconds=call.lookup.cache)
        return replies

    async def _answered(self, call: Call, seconds: float) -> Reply:
        lookup = call.lookup
        breaker = self._breakers.setdefault(lookup.name, Breaker(self._now))
        if not breaker.allows():
            raise self._fault(FaultKind.OPEN, lookup)
        try:
            reply = await self._sources[type(lookup.inquiry)].ask(call, seconds)
        except Fault as fault:
            if _counts(fault, lookup, seconds):
                breaker.failed()
            self._report(
                Dependency.LOOKUP, f"lookups.{lookup.name}: {lookup.inquiry.source}", fault.reason, fault.detail
            )
            raise self._fault(fault.kind, lookup, str(fault)) from fault
        except Refused:
            # the source took no offence at itself, but at the values of this request
            raise
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in asking is a source that did not answer
            raise self._fault(FaultKind.PROTOCOL, lookup, type(error).__name__) from None
        breaker.succeeded()
        return reply

    def _fault(self, kind: FaultKind, lookup: Lookup, detail: str = "") -> Refused:
        return Refused(CODES[kind], f"lookups.{lookup.name}: {detail or kind}")

    async def retain(self, in_force: Callable[[], Collection[Lookup]]) -> None:
        """Give back what is kept for others than those that are in force when all that is under way now has ended. One
        that is asked all the same begins anew."""
        under_way = set(self._tasks)
        if under_way:
            await asyncio.wait(under_way)
        # a reload may have come meanwhile
        lookups = in_force()
        names = {lookup.name for lookup in lookups}
        for gone in self._breakers.keys() - names:
            del self._breakers[gone]
        for gone in self.shares.keys() - names:
            del self.shares[gone]
        for source in self._sources.values():
            await source.retain(lookups)

    async def aclose(self) -> None:
        """Cancel what is under way, and close."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for source in self._sources.values():
            await source.aclose()


def _counts(fault: Fault, lookup: Lookup, seconds: float) -> bool:
    """Return whether a fault says that the source does not answer: not one that had only the time that the wait for a
    place left."""
    in_full = fault.kind is not FaultKind.TIMEOUT or seconds >= lookup.timeout
    return fault.kind in _COUNTS and fault.reason not in _ABOUT_ONE and in_full


def _short(question: str) -> str | bytes:
    """A question that can be a key: of a long one its digest."""
    return question if len(question) <= LONGEST_KEY else hashlib.sha256(question.encode("utf-8")).digest()


def _tell(landed: asyncio.Future[None], _: _Task) -> None:
    if not landed.done():
        landed.set_result(None)
