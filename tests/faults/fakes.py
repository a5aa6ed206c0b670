"""Servers that fail on demand, for the faults that the real ones cannot be made to show."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from cerbos.effect.v1 import effect_pb2
from cerbos.request.v1 import request_pb2
from cerbos.response.v1 import response_pb2

from tests.stack import Accepting

Script = Callable[[socket.socket], None]


class Scripted:
    """A TCP server on one port that does with each connection what `script` says at that time; `down` refuses all."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._live: set[socket.socket] = set()
        self.connections = 0
        self._accepting = Accepting(self._run)
        self.port = self._accepting.port

    @property
    def script(self) -> Script:
        """What is done with a connection; when it changes, those that are open are closed."""
        return self._script

    @script.setter
    def script(self, script: Script) -> None:
        self._script = script
        for connection in list(self._live):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _run(self, connection: socket.socket) -> None:
        self.connections += 1
        self._live.add(connection)
        with contextlib.suppress(OSError, EOFError), connection:
            self._script(connection)
        self._live.discard(connection)

    def close(self) -> None:
        """Refuse from now on."""
        self._accepting.close()


def more(connection: socket.socket) -> bytes:
    """What comes next. Raises EOFError at the end, where a loop that looks for something would turn for ever."""
    data = connection.recv(65536)
    if not data:
        raise EOFError
    return data


def answers(data: bytes, *, then_wait: bool = True) -> Script:
    """Answer every request with these bytes; without `then_wait`, only one and close."""

    def run(connection: socket.socket) -> None:
        while connection.recv(65536):
            connection.sendall(data)
            if not then_wait:
                return

    return run


def json_answer(body: bytes, status: int = 200, kind: str = "application/json") -> bytes:
    """A whole HTTP answer."""
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def silent(connection: socket.socket) -> None:
    """Take everything, say nothing."""
    while connection.recv(65536):
        pass


def dripping(data: bytes) -> Script:
    """One byte every 50 ms, so that no single read is late."""

    def run(connection: socket.socket) -> None:
        connection.recv(65536)
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            time.sleep(0.05)

    return run


def resetting(connection: socket.socket) -> None:
    """Take the request and reset."""
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


Check = Callable[[request_pb2.CheckResourcesRequest, grpc.ServicerContext], bytes]


def allow(request: request_pb2.CheckResourcesRequest, _: grpc.ServicerContext) -> bytes:
    """What a Cerbos that allows everything says."""
    return allowing(request).SerializeToString()


def allowing(request: request_pb2.CheckResourcesRequest) -> response_pb2.CheckResourcesResponse:
    """An allow for exactly what was asked."""
    message = response_pb2.CheckResourcesResponse(request_id=request.request_id, cerbos_call_id="fake")
    for entry in request.resources:
        result = message.results.add()
        result.resource.kind, result.resource.id = entry.resource.kind, entry.resource.id
        for action in entry.actions:
            result.actions[action] = effect_pb2.EFFECT_ALLOW
    return message


def changed(change: Callable[[response_pb2.CheckResourcesResponse], Any]) -> Check:
    """An allow that `change` makes an answer to something else."""

    def check(request: request_pb2.CheckResourcesRequest, _: grpc.ServicerContext) -> bytes:
        message = allowing(request)
        change(message)
        return message.SerializeToString()

    return check


def status(code: grpc.StatusCode) -> Check:
    """An error of gRPC."""

    def check(_: request_pb2.CheckResourcesRequest, context: grpc.ServicerContext) -> bytes:
        context.abort(code, "on demand")
        return b""

    return check


def late(seconds: float) -> Check:
    """An allow, too late."""

    def check(request: request_pb2.CheckResourcesRequest, context: grpc.ServicerContext) -> bytes:
        time.sleep(seconds)
        return allow(request, context)

    return check


class FakeCerbos(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """A Cerbos that answers as `check` says, and says that it serves."""

    def __init__(self) -> None:
        self.check: Check = allow
        self.asked = 0
        self._server = grpc.server(ThreadPoolExecutor(8), handlers=[self])
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, call: Any) -> Any:
        if call.method.endswith("Health/Check"):
            return grpc.unary_unary_rpc_method_handler(lambda _, __: b"\x08\x01")
        return grpc.unary_unary_rpc_method_handler(
            self._answer, request_deserializer=request_pb2.CheckResourcesRequest.FromString
        )

    def _answer(self, request: request_pb2.CheckResourcesRequest, context: grpc.ServicerContext) -> bytes:
        self.asked += 1
        return self.check(request, context)

    def close(self) -> None:
        """Stop."""
        self._server.stop(0).wait()
