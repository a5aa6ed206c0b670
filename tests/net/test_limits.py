"""The clock of all connections, with connections that are nothing but a deadline."""

from __future__ import annotations

import asyncio
import functools
import math
from itertools import pairwise

from uvicorn.server import ServerState

from sidecar.net.limits import Crowd, Limits, Patience, Ticker, Timed, Turns, ticker_of


class Connection:
    def __init__(self, connections: set[Timed], deadline: float, idle: bool = True) -> None:
        self.deadline = self.idle_since = deadline
        self.owner = ""
        self.idle = idle
        self.events: list[str] = []
        self._connections = connections
        connections.add(self)

    def expire(self) -> None:
        self.events.append("expired")
        self.deadline = math.inf
        self._connections.discard(self)

    def close(self) -> None:
        self.events.append("closed")
        self.idle = False


async def test_what_is_over_expires_once_and_the_rest_stays() -> None:
    loop = asyncio.get_running_loop()
    connections: set[Timed] = set()
    ticker = Ticker(loop, connections, 0.01)
    over, later, never = (Connection(connections, loop.time() + wait) for wait in (0.05, 60, math.inf))
    ticker.start()
    ticker.start()
    assert over.events == []
    await asyncio.sleep(0.2)
    assert (over.events, later.events, never.events) == (["expired"], [], [])
    assert ticker.now > loop.time() - 0.1


async def test_the_clock_stands_still_without_connections_and_starts_again() -> None:
    loop = asyncio.get_running_loop()
    connections: set[Timed] = set()
    ticker = Ticker(loop, connections, 0.01)
    ticker.start()
    await asyncio.sleep(0.05)
    stopped = ticker.now
    await asyncio.sleep(0.05)
    assert ticker.now == stopped
    connection = Connection(connections, loop.time())
    ticker.start()
    assert ticker.now > stopped
    await asyncio.sleep(0.05)
    assert connection.events == ["expired"]


async def test_the_longest_idle_makes_room_first_and_busy_ones_never() -> None:
    loop = asyncio.get_running_loop()
    connections: set[Timed] = set()
    ticker = Ticker(loop, connections, 0.01)
    newer, older, busy = (
        Connection(connections, deadline, idle) for deadline, idle in ((9, True), (5, True), (1, False))
    )
    assert ticker.shed()
    assert (newer.events, older.events) == ([], ["closed"])
    assert ticker.shed()
    assert not ticker.shed()
    assert (newer.events, busy.events) == (["closed"], [])


async def test_one_that_is_no_longer_idle_is_not_closed() -> None:
    connections: set[Timed] = set()
    ticker = Ticker(asyncio.get_running_loop(), connections, 0.01)
    first, second = Connection(connections, 1), Connection(connections, 2)
    third = Connection(connections, 3)
    assert ticker.shed()
    second.idle = False
    assert ticker.shed()
    assert (first.events, second.events, third.events) == (["closed"], [], ["closed"])


async def test_default_headers_are_rendered_again_only_when_the_server_renews_them() -> None:
    ticker = Ticker(asyncio.get_running_loop(), set(), 0.01)
    headers = [(b"date", b"now"), (b"x-a", b"b")]
    first = ticker.render(headers)
    assert first == b"\r\ndate: now\r\nx-a: b"
    assert ticker.render(headers) is first
    assert ticker.render([(b"date", b"later")]) == b"\r\ndate: later"
    assert ticker.render([]) == b""


async def test_each_server_has_one_clock() -> None:
    loop = asyncio.get_running_loop()
    one, other = ServerState(), ServerState()
    assert ticker_of(one, set(), loop, 1) is ticker_of(one, set(), loop, 1)
    assert ticker_of(one, set(), loop, 1) is not ticker_of(other, set(), loop, 1)


async def test_one_owner_makes_room_by_connections_of_its_own() -> None:
    connections: set[Timed] = set()
    ticker = Ticker(asyncio.get_running_loop(), connections, 0.5)
    mine, other = Connection(connections, 2.0), Connection(connections, 1.0)
    mine.owner, other.owner = "a", "b"
    assert ticker.shed("a")
    assert (mine.events, other.events) == (["closed"], [])
    assert not ticker.shed("a")
    assert ticker.shed()
    assert other.events == ["closed"]


# --- shares ---


def test_one_owner_gets_as_many_places_as_are_free() -> None:
    crowd = Crowd(Limits(connections=90))

    def entered(owner: str) -> int:
        count = 0
        while not crowd.is_full and crowd.has_share_for(owner):
            crowd.enter(owner)
            count += 1
        return count

    assert [entered("a"), entered("b"), entered("c")] == [45, 23, 11]
    # nobody's are a trusted proxy's, which may have all that is left
    assert entered("") == 11
    assert crowd.is_full
    for _ in range(45):
        crowd.leave("a")
    assert entered("d") == 23


class SlowOne:
    def __init__(self, owner: str, number: int, cut: list[int]) -> None:
        self.owner, self._number, self._cut = owner, number, cut

    def cut(self) -> None:
        self._cut.append(self._number)


def test_of_the_clients_that_take_nothing_each_owner_has_a_share() -> None:
    """The one that waits for longest is cut off; never another owner's."""
    cut: list[int] = []
    crowd = Crowd(Limits(blocked=10))
    other = SlowOne("b", 99, cut)
    crowd.block(other)
    slow = [SlowOne("a", number, cut) for number in range(8)]
    for each in slow:
        crowd.block(each)
        crowd.block(each)
    assert cut == [0, 1, 2, 3]
    crowd.unblock(slow[7])
    crowd.unblock(slow[7])
    crowd.block(slow[7])
    assert cut == [0, 1, 2, 3]


def test_all_of_them_together_have_a_bound() -> None:
    cut: list[int] = []
    crowd = Crowd(Limits(blocked=10))
    for number in range(15):
        crowd.block(SlowOne("", number, cut))
    assert cut == [0, 1, 2, 3, 4]


def test_a_client_has_to_take_its_answers_at_a_least_rate() -> None:
    patience = Patience(Limits(stall=60, answer_rate=500, tick=0.5))
    assert patience.begin(0, 100_000) == 60
    # 20 bytes a second: the time that it has runs out
    assert patience.credit(30, 100_000 - 600)
    assert patience.begin(30, 99_400) == 30 + 60 - 30 + 1.2
    assert patience.credit(60, 99_400 - 600)
    assert not patience.credit(60 + 30, 99_400 - 1200)
    # 500 bytes a second may go on for ever
    patience = Patience(Limits(stall=60, answer_rate=500, tick=0.5))
    for minute in range(100):
        patience.begin(60.0 * minute, 100_000)
        assert patience.credit(60.0 * minute + 50, 75_000)


async def test_pipelined_requests_take_a_few_turns_each_and_leave_the_rest_to_others() -> None:
    """However many wait: what the loop does besides is done after each few of them."""
    loop = asyncio.get_running_loop()
    turns = Turns(loop, 8)
    begun: list[int] = []
    seen: list[int] = []

    def look() -> None:
        seen.append(len(begun))
        if len(begun) < 100:
            loop.call_soon(look)

    for number in range(100):
        turns.wait(functools.partial(begun.append, number))
    loop.call_soon(look)
    while len(begun) < 100:
        await asyncio.sleep(0)
    assert begun == list(range(100))
    assert max(after - before for before, after in pairwise(seen)) == 8


async def test_one_that_asks_again_waits_behind_the_others() -> None:
    turns, begun = Turns(asyncio.get_running_loop(), 8), []

    def greedy() -> None:
        begun.append("greedy")
        if begun.count("greedy") < 3:
            turns.wait(greedy)

    turns.wait(greedy)
    turns.wait(lambda: begun.append("other"))
    while len(begun) < 4:
        await asyncio.sleep(0)
    assert begun == ["greedy", "other", "greedy", "greedy"]


def test_places_that_idle_connections_would_give_up_are_free_for_a_share() -> None:
    crowd = Crowd(Limits(connections=10))
    for owner in "aaabbbbbb":
        crowd.enter(owner)
    assert not crowd.has_share_for("a")
    assert not crowd.has_share_for("a", idle=2)
    assert crowd.has_share_for("a", idle=3)
