"""Places for what may be under way at once, shared fairly among those who want them.

After fair queueing (J. Nagle, RFC 970): each principal waits in a queue of its own, and free places go to the queues in
turn, so that a principal with many questions delays its own alone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

Asker = tuple[str, str]
"""Principal that wants places: its issuer and id."""

WAITING = 4
"""Askers that may wait, for each place; of more, the longest queue loses its newest."""


class Shares:
    """So many places. One asker holds at most half of them, so that a burst of one leaves places to the others. Of one
    asker `longest` may wait, as many as there are places if it is 0."""

    __slots__ = ("_free", "_held", "_longest", "_most", "_queues", "_share", "waiting")

    def __init__(self, places: int, longest: int = 0) -> None:
        self._longest = longest or places
        self._free = places
        self._share = max(places // 2, 1)
        self._most = places
        self.waiting = 0
        """Askers that wait."""
        self._held: dict[Asker, int] = {}
        # those who wait, by asker in the order of their turns. While a place is free, all askers here hold their share
        self._queues: OrderedDict[Asker, deque[asyncio.Future[bool]]] = OrderedDict()

    @property
    def under_way(self) -> int:
        """Places that are taken."""
        return self._most - self._free

    def take(self, asker: Asker) -> bool:
        """Take a place at once; False where none is free for this asker. Each must be given back."""
        held = self._held.get(asker, 0)
        if not self._free or held >= self._share:
            return False
        self._free -= 1
        self._held[asker] = held + 1
        return True

    async def wait(self, asker: Asker, deadline: float, turn: asyncio.Future[bool] | None = None) -> bool:
        """Take a place when it is this asker's turn; False where that did not come until `deadline`, in the loop's
        time, or too many wait already. Whoever gives the future `turn` can `leave` for this one."""
        queue = self._queues.get(asker)
        if queue is not None and len(queue) >= self._longest:
            return False
        loop = asyncio.get_running_loop()
        turn = loop.create_future() if turn is None else turn
        if queue is None:
            queue = self._queues[asker] = deque()
        queue.append(turn)
        self.waiting += 1
        if self.waiting > WAITING * self._longest:
            self._turn_away()
        alarm = loop.call_at(deadline, self.leave, asker, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self.leave(asker, turn)
            elif turn.result():
                # its turn came in the same moment
                self.give_back(asker)
            raise
        finally:
            alarm.cancel()

    def give_back(self, asker: Asker) -> None:
        """Free a place."""
        held = self._held[asker] - 1
        if held:
            self._held[asker] = held
        else:
            del self._held[asker]
        self._free += 1
        if self._queues:
            self._hand_out()

    def _hand_out(self) -> None:
        while self._free and (asker := self._next()) is not None:
            queue = self._queues[asker]
            turn = queue.popleft()
            self.waiting -= 1
            if queue:
                self._queues.move_to_end(asker)
            else:
                del self._queues[asker]
            if not turn.done():
                self._free -= 1
                self._held[asker] = self._held.get(asker, 0) + 1
                turn.set_result(True)

    def _next(self) -> Asker | None:
        # at most two hold their share, which is half: this looks at three
        return next((asker for asker in self._queues if self._held.get(asker, 0) < self._share), None)

    def leave(self, asker: Asker, turn: asyncio.Future[bool]) -> None:
        """Wait no longer; nothing for one whose turn has come."""
        queue = self._queues.get(asker)
        if queue is None or turn not in queue:
            return
        queue.remove(turn)
        self.waiting -= 1
        if not queue:
            del self._queues[asker]
        if not turn.done():
            turn.set_result(False)

    def _turn_away(self) -> None:
        asker = max(self._queues, key=lambda asker: len(self._queues[asker]))
        self.leave(asker, self._queues[asker][-1])
