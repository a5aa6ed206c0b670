"""Peers with a switch for each fault, and a clock that tests move. The real peers are used wherever they can show it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from cerbos.effect.v1 import effect_pb2
from cerbos.request.v1 import request_pb2
from cerbos.response.v1 import response_pb2

from sidecar.gate.codes import Code
from sidecar.gate.lookup import Call, Reply
from sidecar.gate.verdict import Refused
from tests.stack import free_port


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Return when `condition()`. Fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.005)


async def refusal(work: Awaitable[object]) -> Code:
    """The code with which it is refused. Fails if it is not."""
    try:
        got = await work
    except Refused as refused:
        return refused.code
    raise AssertionError(f"not refused, but answered with {got!r}")


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """These variables in the environment of this process, for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def without(package: str) -> Iterator[None]:
    """As if this package were not installed, for a while."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == package}
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(hidden)


class OneByOne:
    """Lookups that are asked about one at a time, of many too."""

    async def ask(self, call: Call) -> Reply:
        """Answer about one."""
        raise NotImplementedError

    async def ask_all(self, calls: Sequence[Call]) -> list[Reply]:
        """Answer about each."""
        return [await self.ask(call) for call in calls]


class Clock:
    """Time that stands still until a test moves it. `slept` is every pause that was asked for, in seconds."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been moved so far."""
        self.slept.append(seconds)
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, sleeper))
        await sleeper

    def advance(self, seconds: float) -> None:
        """Move time, and wake up whoever slept until then."""
        self.now += seconds
        for at, sleeper in list(self._sleepers):
            if at <= self.now:
                self._sleepers.remove((at, sleeper))
                if not sleeper.done():
                    sleeper.set_result(None)


class Reports:
    """Takes what is reported of dependencies: (name, fault)."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def __call__(self, dep: str, fault: str) -> None:
        self.all.append((dep, fault))


# --- HTTP ---

Behave = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""What a server does after the head of a request has come."""


def answer(status: int, body: bytes = b"", *headers: str, kind: str = "application/json") -> Behave:
    """A whole answer, and the connection is kept."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)


def json_answer(value: Any, status: int = 200, *headers: str) -> Behave:
    """JSON, and the connection is kept."""
    return answer(status, json.dumps(value).encode(), *headers)


def raw(data: bytes) -> Behave:
    """Exactly these bytes, and the connection is kept."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return behave


def cut(data: bytes = b"") -> Behave:
    """These bytes, and then the end of the connection."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return behave


def drip(data: bytes, every: float) -> Behave:
    """A byte each `every` seconds."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        for at in range(len(data)):
            writer.write(data[at : at + 1])
            await asyncio.sleep(every)

    return behave


def held(gate: asyncio.Event, then: Behave) -> Behave:
    """Nothing until the gate is opened."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await then(writer)

    return behave


async def silence(_: asyncio.StreamWriter) -> None:
    """No answer, on a connection that stays open."""
    await asyncio.Event().wait()


class Web:
    """An HTTP server that does what `behave` says. `asked`: the request line and the headers of each request, `bodies`
    what came with them."""

    def __init__(self, behave: Behave) -> None:
        self.behave = behave
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.port = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def origin(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", free_port())
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                while not writer.is_closing():
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                    fields = (line.partition(":") for line in head[1:] if line)
                    headers = {name.lower(): value.strip() for name, _, value in fields}
                    self.asked.append((head[0], headers))
                    self.bodies.append(await reader.readexactly(int(headers.get("content-length", "0"))))
                    await self.behave(writer)
                    await writer.drain()
        except asyncio.CancelledError:
            # the server is being closed: the protocol of streams would complain of a task that was cancelled
            return
        finally:
            writer.close()


# --- Cerbos ---

Check = Callable[[request_pb2.CheckResourcesRequest, Any], Awaitable[response_pb2.CheckResourcesResponse | bytes]]


async def allow(request: request_pb2.CheckResourcesRequest, _: Any) -> response_pb2.CheckResourcesResponse:
    """Yes to everything, as Cerbos would say it."""
    results = [
        response_pb2.CheckResourcesResponse.ResultEntry(
            resource={"kind": entry.resource.kind, "id": entry.resource.id},
            actions=dict.fromkeys(entry.actions, effect_pb2.EFFECT_ALLOW),
        )
        for entry in request.resources
    ]
    return response_pb2.CheckResourcesResponse(request_id=request.request_id, results=results)


def fails(status: grpc.StatusCode) -> Check:
    """A status other than OK."""

    async def check(_: request_pb2.CheckResourcesRequest, context: Any) -> bytes:
        await context.abort(status, "as the test wants it")
        return b""

    return check


async def hangs(_: request_pb2.CheckResourcesRequest, __: Any) -> bytes:
    """No answer."""
    await asyncio.Event().wait()
    return b""


class FakeCerbos(grpc.GenericRpcHandler):  # type: ignore[misc]  # the library has no types
    """CheckResources with a switch, for what the real one cannot be made to do. `calls` is what it was asked."""

    def __init__(self, check: Check = allow) -> None:
        self.check = check
        self.calls: list[request_pb2.CheckResourcesRequest] = []
        self.target = ""

    def service(self, _: Any) -> Any:
        """Take every method: only one is called. Answers are bytes, so that they need not be messages."""
        return grpc.unary_unary_rpc_method_handler(self._handle)

    async def _handle(self, data: bytes, context: Any) -> bytes:
        request = request_pb2.CheckResourcesRequest.FromString(data)
        self.calls.append(request)
        got = await self.check(request, context)
        return got if isinstance(got, bytes) else bytes(got.SerializeToString())

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._server.stop(None)
