"""Says yes to Envoy or nginx, whatever they ask: what the protocol itself costs.

    python always_yes.py grpc.aio|own|http PORT

`grpc.aio` is the gRPC library's server with uvloop, and does not even parse the question; `own` is the same answer
from the sidecar's server; `http` is a raw ASGI answer on uvicorn, with uvloop and httptools.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import uvloop

CHECK = "/envoy.service.auth.v3.Authorization/Check"
HEALTH = "/grpc.health.v1.Health/Check"
YES = b"\x1a\x00"  # CheckResponse with an empty ok_response
SERVING = b"\x08\x01"


async def by_library(port: int) -> None:
    """The library's server."""
    import grpc
    import grpc.aio

    async def check(message: bytes, context: object) -> bytes:
        return YES

    async def health(message: bytes, context: object) -> bytes:
        return SERVING

    class Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            method = {CHECK: check, HEALTH: health}.get(details.method)
            return grpc.unary_unary_rpc_method_handler(method) if method is not None else None

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Methods(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def by_our_server(port: int) -> None:
    """The sidecar's server."""
    from sidecar.net.grpc_server import GrpcServer

    async def check(message: bytes) -> bytes:
        return YES

    async def health(message: bytes) -> bytes:
        return SERVING

    server = GrpcServer({CHECK.encode(): check, HEALTH.encode(): health})
    await server.start(socket.create_server(("127.0.0.1", port), backlog=2048))
    await asyncio.Event().wait()


def by_http(port: int) -> None:
    """A raw answer by HTTP."""
    import uvicorn

    async def yes(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    uvicorn.run(
        yes, host="127.0.0.1", port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False,
        log_level="error", interface="asgi3",
    )  # fmt: skip


if __name__ == "__main__":
    kind, where = sys.argv[1:]
    if kind == "http":
        by_http(int(where))
        sys.exit()
    uvloop.run(by_library(int(where)) if kind == "grpc.aio" else by_our_server(int(where)))
