"""Calls of functions that users wrote: off the event loop, so many at once, and left behind where they do not end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

Outcome = bytes | BaseException | None
"""A function's document, or None for no such thing, or what it raised."""
Ended = Callable[[Outcome], None]
"""Told of the outcome of a call, once, in whatever thread."""
Cancel = Callable[[], None]


class Runner(Protocol):
    """Runs calls of one function."""

    def start(self, call: Callable[[], Any], ended: Ended, running: int) -> Cancel:
        """Begin a call, the last of so many that are `running`. Returns what asks it to end."""

    def close(self) -> None:
        """Give back what waits for calls. Waits for none."""


class Late(Exception):
    """No outcome within its time. `begun` is False where all places were taken for so long."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__(begun)
        self.begun = begun


class Calls:
    """Calls of one function: a call keeps its place until it ends, whether or not anybody still waits for it."""

    def __init__(self, runner: Runner, places: int) -> None:
        self._runner = runner
        self._places = places
        self._free = asyncio.Semaphore(places)
        self._running = 0
        self.overdue = 0
        """Calls that go on, though their time is over."""

    async def call(self, function: Callable[[], Any], seconds: float) -> Outcome:
        """The outcome of a call. Raises Late."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError:
            raise Late(begun=False) from None
        self._running += 1
        outcome: asyncio.Future[Outcome] = loop.create_future()
        cancel = self._runner.start(function, partial(_tell, loop, partial(self._ended, outcome)), self._running)
        try:
            async with asyncio.timeout_at(deadline):
                return await outcome
        except TimeoutError:
            raise Late(begun=True) from None
        finally:
            if outcome.cancelled():
                self.overdue += 1
                cancel()

    def _ended(self, waiting: asyncio.Future[Outcome], outcome: Outcome) -> None:
        self._running -= 1
        self._free.release()
        if waiting.cancelled():
            self.overdue -= 1
        else:
            waiting.set_result(outcome)

    def close(self) -> None:
        """Begin no more calls. Waits for none."""
        self._runner.close()


def _tell(loop: asyncio.AbstractEventLoop, ended: Ended, outcome: Outcome) -> None:
    try:
        loop.call_soon_threadsafe(ended, outcome)
    except RuntimeError:
        # the loop was closed meanwhile: nobody waits any more
        return


class Threads:
    """A `Runner` for plain functions: a thread for each call that runs, which is used again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Callable[[], Any], Ended] | None] = SimpleQueue()
        self._threads = 0

    def start(self, call: Callable[[], Any], ended: Ended, running: int) -> Cancel:
        """Begin a call. Nothing ends it but itself."""
        if self._threads < running:
            self._threads += 1
            # a daemon: the process ends without it
            threading.Thread(target=_serve, args=(self._calls,), name=self._name, daemon=True).start()
        self._calls.put((call, ended))
        return _nothing

    def close(self) -> None:
        """Let the threads end that have nothing to do, and the others when they have."""
        for _ in range(self._threads):
            self._calls.put(None)


def _nothing() -> None:
    """A thread cannot be told to end."""


def _serve(calls: SimpleQueue[tuple[Callable[[], Any], Ended] | None]) -> None:
    while (taken := calls.get()) is not None:
        call, ended = taken
        try:
            outcome = call()
        except BaseException as error:  # noqa: BLE001 - whatever a user's function raises, SystemExit too, is its outcome
            outcome = error
        ended(outcome)
        del taken, call, ended, outcome


class OtherLoop:
    """A `Runner` for async functions: an event loop in a thread of its own. One that blocks it blocks those alone that
    run there, and no request of the sidecar."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Outcome]] = set()

    def start(self, call: Callable[[], Coroutine[Any, Any, Outcome]], ended: Ended, running: int) -> Cancel:
        """Begin a call. What ends it cancels it."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.new_event_loop()
            threading.Thread(target=_run, args=(loop,), name=self._name, daemon=True).start()
        begun: list[asyncio.Task[Outcome]] = []

        def begin() -> None:
            task = loop.create_task(call())
            begun.append(task)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda done: ended(_outcome_of(done)))

        def cancel() -> None:
            for task in begun:
                task.cancel()

        loop.call_soon_threadsafe(begin)
        return lambda: _post(loop, cancel)

    def close(self) -> None:
        """Leave the loop to the other functions."""

    def stop(self) -> None:
        """Cancel what runs there, and stop the loop."""
        loop, self._loop = self._loop, None
        if loop is not None:
            _post(loop, partial(_stop, loop, self._tasks))


def _post(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(work)
    except RuntimeError:
        # it was closed meanwhile, with all that ran there
        return


def _stop(loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[Outcome]]) -> None:
    for task in tasks:
        task.cancel()
    # behind the ends of those that let themselves be cancelled
    loop.call_later(0.1, loop.stop)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    is_stopped = False
    while not is_stopped:
        # asyncio passes on what is no Exception of a task, as SystemExit, and the others go on without it
        with suppress(BaseException):
            loop.run_forever()
            is_stopped = True
    loop.close()


def _outcome_of(task: asyncio.Task[Outcome]) -> Outcome:
    if task.cancelled():
        return asyncio.CancelledError()
    return task.exception() or task.result()
