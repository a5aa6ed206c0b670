"""Places are never more than there are, none is lost, and nobody's queue delays another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.shares import WAITING, Asker, Shares
from tests.tries import tries

ALICE, BOB, CAROL = ("iss", "alice"), ("iss", "bob"), ("iss", "carol")


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock is set by hand."""

    now = 0.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


class World:
    """Work that takes places, and ends when it is told to."""

    def __init__(self, loop: Loop, places: int) -> None:
        self.loop = loop
        self.places = places
        self.shares = Shares(places)
        self.holding: dict[asyncio.Task[bool], Asker] = {}
        self.waiting: dict[asyncio.Task[bool], Asker] = {}
        self.ends: dict[asyncio.Task[bool], asyncio.Event] = {}
        self.served: list[Asker] = []

    def ask(self, asker: Asker, within: float = 1000.0) -> asyncio.Task[bool]:
        end = asyncio.Event()
        task = self.loop.create_task(self._work(asker, self.loop.now + within, end))
        self.waiting[task] = asker
        self.ends[task] = end
        task.add_done_callback(lambda _: self.waiting.pop(task, None))
        self.run()
        return task

    async def _work(self, asker: Asker, deadline: float, end: asyncio.Event) -> bool:
        me: Any = asyncio.current_task()
        if not self.shares.take(asker) and not await self.shares.wait(asker, deadline):
            return False
        self.waiting.pop(me, None)
        self.holding[me] = asker
        self.served.append(asker)
        try:
            await end.wait()
        finally:
            del self.holding[me]
            self.shares.give_back(asker)
        return True

    def run(self, *steps: Callable[[], object]) -> None:
        async def some() -> None:
            for step in steps:
                step()
                await asyncio.sleep(0)
            for _ in range(8):
                await asyncio.sleep(0)

        self.loop.run_until_complete(some())

    def check(self) -> None:
        held = list(self.holding.values())
        assert len(held) <= self.places
        share = max(self.places // 2, 1)
        assert all(held.count(asker) <= share for asker in held)
        assert self.shares.under_way == self.places - self.shares._free == len(held)
        assert self.shares.waiting == len(self.waiting) == sum(map(len, self.shares._queues.values()))
        # no place is idle that somebody who waits could have
        if len(held) < self.places:
            assert all(held.count(asker) == share for asker in self.waiting.values())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 3), st.sampled_from([0.5, 5.0, 50.0])),
        st.tuples(st.just("end"), st.integers(0, 99), st.just(0.0)),
        st.tuples(st.just("cancel"), st.integers(0, 99), st.just(0.0)),
        st.tuples(st.just("end and cancel"), st.integers(0, 99), st.just(0.0)),
        st.tuples(st.just("later"), st.just(0), st.sampled_from([0.4, 4.0, 40.0])),
    ),
    max_size=60,
)


@pytest.mark.slow
@tries(300)
@given(STEPS, st.integers(1, 5))
def test_whatever_comes_no_place_is_lost_or_given_twice(steps: list[tuple[str, int, float]], places: int) -> None:
    loop = Loop()
    world = World(loop, places)
    for step, number, seconds in steps:
        holding, waiting = list(world.holding), list(world.waiting)
        if step == "ask":
            world.ask(("iss", str(number)), seconds)
        elif step == "end" and holding:
            world.ends[holding[number % len(holding)]].set()
        elif step == "cancel" and (holding or waiting):
            (holding + waiting)[number % (len(holding) + len(waiting))].cancel()
        elif step == "end and cancel" and holding and waiting:
            # a place is handed to one who leaves before it knows
            world.run(world.ends[holding[number % len(holding)]].set, waiting[number % len(waiting)].cancel)
        elif step == "later":
            loop.now += seconds
        world.run()
        world.check()
    for task in [*world.holding, *world.waiting]:
        task.cancel()
    world.run()
    assert (world.shares._free, world.shares.waiting) == (places, 0)
    assert not world.shares._held
    assert not world.shares._queues
    loop.close()


def test_one_asker_holds_half_of_the_places_and_others_get_theirs_at_once(loop: Loop) -> None:
    world = World(loop, 8)
    for _ in range(20):
        world.ask(ALICE)
    assert world.served == [ALICE] * 4
    for _ in range(4):
        world.ask(BOB)
    assert world.served == [ALICE] * 4 + [BOB] * 4


def test_places_go_to_the_queues_in_turn(loop: Loop) -> None:
    world = World(loop, 2)
    first = [world.ask(ALICE), world.ask(BOB)]
    for asker in (ALICE, ALICE, BOB, BOB, CAROL):
        world.ask(asker)
    for task in first:
        world.ends[task].set()
    while world.holding:
        for task in list(world.holding):
            world.ends[task].set()
            world.run()
    assert world.served[2:5] == [ALICE, BOB, CAROL]
    assert sorted(world.served[2:]) == [ALICE] * 2 + [BOB] * 2 + [CAROL]


def test_a_queue_of_hundreds_delays_nobody_else(loop: Loop) -> None:
    world = World(loop, 4)
    for asker in (ALICE, BOB):
        for _ in range(16):
            world.ask(asker)
    world.ask(CAROL)
    for served in (6, 7):
        # at most one of each of the others comes before
        world.ends[next(iter(world.holding))].set()
        world.run()
        if CAROL in world.served:
            break
        assert len(world.served) <= served
    world.ends[next(iter(world.holding))].set()
    world.run()
    assert CAROL in world.served


def test_who_waits_too_long_is_turned_away_and_takes_nothing(loop: Loop) -> None:
    world = World(loop, 2)
    first = world.ask(ALICE)
    late = world.ask(ALICE, within=1.0)
    loop.now = 1.1
    world.run()
    assert late.done()
    assert late.result() is False
    world.ends[first].set()
    world.run()
    world.check()
    assert world.shares._free == 2


def test_a_place_that_is_handed_to_one_who_leaves_goes_to_the_next(loop: Loop) -> None:
    world = World(loop, 1)
    first = world.ask(ALICE)
    gone, last = world.ask(BOB), world.ask(CAROL)
    world.run(world.ends[first].set, gone.cancel)
    assert (gone.cancelled(), world.served) == (True, [ALICE, CAROL])
    world.ends[last].set()
    world.run()
    world.check()


def test_so_many_of_one_asker_wait_and_no_more(loop: Loop) -> None:
    world = World(loop, 4)
    tasks = [world.ask(ALICE) for _ in range(10)]
    assert [task.done() for task in tasks] == [False] * 6 + [True] * 4
    assert tasks[-1].result() is False
    assert not world.ask(BOB).done()
    world.check()


def test_where_all_wait_the_longest_queue_makes_room(loop: Loop) -> None:
    places = 4
    world = World(loop, places)
    askers = [("iss", str(number)) for number in range(WAITING + 1)]
    tasks = {asker: [world.ask(asker) for _ in range(2 * places)] for asker in askers}
    assert world.shares.waiting == WAITING * places
    newcomer = world.ask(CAROL)
    assert not newcomer.done()
    assert world.shares.waiting == WAITING * places
    world.check()
    # the newest of a queue was turned away, and the eldest of each wait on
    assert all(not mine[0].done() for mine in tasks.values())


def test_the_same_id_of_two_issuers_is_two(loop: Loop) -> None:
    world = World(loop, 2)
    world.ask(("here", "alice"))
    world.ask(("there", "alice"))
    assert len(world.served) == 2
