"""Calls of users' functions: never on the event loop, so many at once, left behind where they do not end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from sidecar.lookups.calls import Calls, Late, OtherLoop, Outcome, Threads
from tests.fakes import until


@pytest.fixture
async def plain() -> AsyncIterator[Calls]:
    calls = Calls(Threads("test"), 2)
    yield calls
    calls.close()


@pytest.fixture
async def other() -> AsyncIterator[OtherLoop]:
    runner = OtherLoop("test-loop")
    yield runner
    runner.stop()


def boom() -> None:
    raise SystemExit(3)


async def async_boom() -> bytes:
    raise SystemExit(3)


async def fine() -> Outcome:
    return threading.current_thread().name.encode()


async def test_a_plain_function_runs_in_a_thread_that_is_used_again(plain: Calls) -> None:
    idents = [await plain.call(lambda: str(threading.get_ident()).encode(), 5) for _ in range(5)]
    assert set(idents) != {str(threading.get_ident()).encode()}
    assert len(set(idents)) <= 2


async def test_what_a_function_raises_is_its_outcome(plain: Calls, other: OtherLoop) -> None:
    calls = Calls(other, 2)
    assert isinstance(await plain.call(boom, 5), SystemExit)
    assert isinstance(await calls.call(async_boom, 5), SystemExit)
    # the thread and the loop are still there
    assert await plain.call(lambda: b"1", 5) == b"1"
    assert await calls.call(fine, 5) == b"test-loop"


async def test_a_thread_that_hangs_keeps_its_place_until_it_ends(plain: Calls) -> None:
    gate = threading.Event()
    for _ in range(2):
        with pytest.raises(Late) as missed:
            await plain.call(gate.wait, 0.5)
        assert missed.value.begun
    assert plain.overdue == 2
    with pytest.raises(Late) as missed:
        await plain.call(lambda: b"1", 0.02)
    assert not missed.value.begun
    gate.set()
    await until(lambda: plain.overdue == 0)
    assert await plain.call(lambda: b"1", 5) == b"1"


async def test_no_more_than_the_places_run_at_once(plain: Calls) -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1

    await asyncio.gather(*(plain.call(work, 5) for _ in range(12)))
    assert most == 2


async def late(calls: Calls, work: Callable[[], Awaitable[Any]], begun: threading.Event) -> None:
    """Call what is late once it has begun: on a busy machine one may be late before."""
    for seconds in (0.02, 0.2, 2.0, 20.0):
        with pytest.raises(Late):
            await calls.call(work, seconds)
        if begun.is_set():
            return
    raise AssertionError("it did not begin")


async def test_an_async_function_that_blocks_blocks_no_request(other: OtherLoop) -> None:
    calls, begun, gate = Calls(other, 2), threading.Event(), threading.Event()

    async def blocks() -> None:
        begun.set()
        gate.wait()

    await late(calls, blocks, begun)
    # nor does one that waits behind it, which is cancelled before it begins
    with pytest.raises(Late):
        await calls.call(fine, 0.02)
    assert calls.overdue == 2
    gate.set()
    await until(lambda: calls.overdue == 0)
    assert await calls.call(fine, 5) == b"test-loop"


async def test_an_async_function_is_cancelled_at_its_deadline(other: OtherLoop) -> None:
    calls, begun, cancelled = Calls(other, 2), threading.Event(), threading.Event()

    async def hangs() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await late(calls, hangs, begun)
    await until(cancelled.is_set)
    await until(lambda: calls.overdue == 0)


async def test_one_that_will_not_be_cancelled_keeps_its_place(other: OtherLoop) -> None:
    calls, begun, gate = Calls(other, 1), threading.Event(), threading.Event()

    async def stays() -> None:
        begun.set()
        while not gate.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    await late(calls, stays, begun)
    with pytest.raises(Late) as missed:
        await calls.call(fine, 0.02)
    assert (missed.value.begun, calls.overdue) == (False, 1)
    gate.set()
    await until(lambda: calls.overdue == 0)


async def test_nobody_waits_for_what_hangs_when_all_ends(plain: Calls, other: OtherLoop) -> None:
    gate, calls = threading.Event(), Calls(other, 2)
    for work in (partial(plain.call, gate.wait, 0.01), partial(calls.call, fine, 5)):
        try:
            await work()
        except Late:
            continue
    plain.close()
    other.stop()
    assert all(one.daemon for one in threading.enumerate() if one.name in ("test", "test-loop"))
    gate.set()


async def test_an_end_after_the_loop_is_closed_is_told_to_nobody() -> None:
    gate, ended = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait()
        ended.set()

    async def leave() -> None:
        with pytest.raises(Late):
            await Calls(Threads("late"), 1).call(work, 0.01)

    await asyncio.to_thread(asyncio.run, leave())
    gate.set()
    await until(ended.is_set)
