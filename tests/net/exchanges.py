"""What the tests of connections share: permits, bodies, and a pool beside a server, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from sidecar.gate.codes import Ground
from sidecar.gate.verdict import Facts, Forward
from sidecar.net.connection import Fault, Response, Timeouts
from sidecar.net.pool import Origin, Pool
from sidecar.net.upstream import Upstream
from sidecar.record.reasons import FaultKind
from tests.net.hostile_upstream import Play, unique_target, upstream
from tests.net.hostile_upstream import Upstream as Server
from tests.permits import Permit

SHORT = Timeouts(connect=5.0, head=0.3, idle=0.3)
"""For what is late once there is a connection, which a busy machine makes late too."""
NOT_CONNECTED = Timeouts(connect=0.3)
"""For what never gives one."""


NewLoop = Callable[[], asyncio.AbstractEventLoop]


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on the standard library's event loop, and on the one that the sidecar uses."""

    def run(new_loop: NewLoop, **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(**arguments))

    parameters = [inspect.Parameter("new_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    run.__signature__ = inspect.Signature([*parameters, *inspect.signature(test).parameters.values()])  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    marked: Callable[..., None] = pytest.mark.parametrize("new_loop", loops, ids=["asyncio", "uvloop"])(run)
    return marked


def permit(method: str = "GET", target: bytes | None = None) -> Forward:
    headers = ((b"host", b"app.test"), (b"x-auth-subject", b"alice"))
    return Permit(method.encode(), target or unique_target(), headers, Ground.ALLOWED, Facts("id", method, "/"))


class Upload:
    """A request's body: pieces, and in between seconds to wait, futures to await or errors to raise."""

    def __init__(self, *pieces: object, length: int | None = None, complete: bool = False) -> None:
        self.length = length
        self.complete = complete
        self.taken = 0
        self.released = False  # whether a read that waited was cancelled
        self._pieces = list(pieces)

    async def read(self) -> bytes:
        while self._pieces:
            piece = self._pieces.pop(0)
            if isinstance(piece, bytes):
                self.taken += len(piece)
                return piece
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            elif isinstance(piece, BaseException):
                raise piece
            elif isinstance(piece, asyncio.Event):
                try:
                    await piece.wait()
                except asyncio.CancelledError:
                    self.released = True
                    raise
        return b""


async def rest(response: Response) -> bytes:
    parts = []
    try:
        while data := await response.read():
            parts.append(data)
    finally:
        response.close()
    return b"".join(parts)


def send(pool: Pool[Forward], allowed: Forward, body: Upload | None = None) -> Coroutine[Any, Any, Response]:
    """What a permit says, sent by the connections of a pool."""
    return Upstream(pool).send(allowed, body)


async def fetch(pool: Pool[Forward], allowed: Forward | None = None, body: Upload | None = None) -> tuple[int, bytes]:
    response = await send(pool, allowed or permit(), body)
    return response.status, await rest(response)


async def fault_of(action: Awaitable[object]) -> Fault:
    with pytest.raises(Fault) as raised:
        await action
    return raised.value


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def pool_of(origin: Origin, timeouts: Timeouts | None = None, **options: Any) -> AsyncIterator[Pool[Forward]]:
    pool: Pool[Forward] = Pool(origin, timeouts=timeouts, **options)
    tasks = asyncio.all_tasks()
    try:
        yield pool
    finally:
        await pool.aclose()
        assert (pool.open, pool.idle) == (0, 0)
        # nothing of the pool's own may outlive it; the server's tasks are the server's
        assert not {task for task in asyncio.all_tasks() - tasks if "upload" in repr(task.get_coro())}


@contextlib.asynccontextmanager
async def both(
    play: Play | str = "none", timeouts: Timeouts | None = None, **options: Any
) -> AsyncIterator[tuple[Server, Pool[Forward]]]:
    async with upstream(play) as server, pool_of(server.origin, timeouts, **options) as pool:
        yield server, pool


HEAD_FAULTS = {
    "closed_before_answer": FaultKind.UNAVAILABLE,
    "silent": FaultKind.TIMEOUT,
    "drip_head": FaultKind.TIMEOUT,
    "truncated_head": FaultKind.PARTIAL,
    "status_199": FaultKind.PARTIAL,  # one more interim answer, and then none
    "garbage": FaultKind.PROTOCOL,
    "two_framings": FaultKind.PROTOCOL,
    "two_lengths": FaultKind.PROTOCOL,
    "unsolicited_101": FaultKind.PROTOCOL,
    "status_600": FaultKind.PROTOCOL,
    "status_999": FaultKind.PROTOCOL,
    "long_head": FaultKind.PROTOCOL,
    "many_interims": FaultKind.PROTOCOL,
}


BODY_FAULTS = {
    "truncated_length": FaultKind.PARTIAL,
    "truncated_chunk": FaultKind.PARTIAL,
    "no_last_chunk": FaultKind.PARTIAL,
    "stalled_body": FaultKind.TIMEOUT,
    "broken_chunk": FaultKind.PROTOCOL,
}
