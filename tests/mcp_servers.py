"""MCP servers as people write them, by the official package and by fastmcp, in one process for the tests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import certifi
import pytest
import uvicorn

from tests.stack import free_port, wait_for

TOOLS = ("get_contact", "count_slowly", "delete_contact", "secret_report")
RESOURCES = ("crm://readme", "crm://secret/salaries")
PROMPTS = ("summarize", "secret_prompt")


def get_contact(id: str) -> str:
    """Get a contact."""
    return f"contact {id}"


def delete_contact(id: str, force: bool = False) -> str:
    """Delete a contact."""
    return f"deleted {id}, force {force}"


def secret_report() -> str:
    """Tell what nobody may know."""
    return "a secret"


def readme() -> str:
    """What the server is for."""
    return "contacts"


def salaries() -> str:
    """What nobody may know."""
    return "a secret"


def contact(id: str) -> str:
    """One contact."""
    return f"the contact {id}"


def summarize(topic: str) -> str:
    """Summarize a topic."""
    return f"Summarize {topic}"


def secret_prompt() -> str:
    """Tell what nobody may know."""
    return "a secret"


def official(*, json_response: bool) -> Any:
    """Return a server by the official package, as an ASGI app."""
    from mcp.server.mcpserver import Context, MCPServer

    server = MCPServer("crm")

    async def count_slowly(ctx: Context) -> str:
        """Count, and tell how far."""
        for at in range(3):
            await ctx.report_progress(at, 3)
        return "counted"

    count_slowly.__annotations__["ctx"] = Context
    for tool in (get_contact, count_slowly, delete_contact, secret_report):
        server.tool()(tool)
    server.resource("crm://readme")(readme)
    server.resource("crm://secret/salaries")(salaries)
    server.resource("crm://contacts/{id}")(contact)
    for prompt in (summarize, secret_prompt):
        server.prompt()(prompt)
    return server.streamable_http_app(json_response=json_response)


def fast(*, json_response: bool) -> Any:
    """Return the same by fastmcp."""
    from fastmcp import FastMCP

    server: FastMCP[Any] = FastMCP("crm")

    def count_slowly() -> str:
        """Count."""
        return "counted"

    for tool in (get_contact, count_slowly, delete_contact, secret_report):
        server.tool(tool)
    server.resource("crm://readme")(readme)
    server.resource("crm://secret/salaries")(salaries)
    server.resource("crm://contacts/{id}")(contact)
    for prompt in (summarize, secret_prompt):
        server.prompt(prompt)
    return server.http_app(path="/mcp", json_response=json_response)


SERVERS: dict[str, Callable[[], Any]] = {
    "official": lambda: official(json_response=False),
    "official-json": lambda: official(json_response=True),
    "fast": lambda: fast(json_response=False),
    "fast-json": lambda: fast(json_response=True),
}


LISTED = {"tools": [{"name": name, "inputSchema": {}} for name in TOOLS]}

GO_ON = threading.Event()


async def odd(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Answer whatever comes with a list of tools, as a server does that mixes up two requests of one id. A request of
    the id `json` is answered whole, any other by a stream, and one of the id `slow` by one that goes on at `GO_ON`."""
    message = await receive()
    asked = json.loads(message["body"] or b"{}")
    listed = json.dumps({"jsonrpc": "2.0", "id": asked.get("id", 1), "result": LISTED}).encode()
    streams = asked.get("id") != "json"
    kind = b"text/event-stream" if streams else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    body = b"id: 8\r\nevent: message\r\ndata: " + listed + b"\r\n\r\n" if streams else listed
    if asked.get("id") == "slow":
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.to_thread(GO_ON.wait, 10)
    await send({"type": "http.response.body", "body": body})


class Servers:
    """All of them at one port, each below its name; `seen` are the bodies of requests that came to them, and
    `sessions` the ids of sessions that they named."""

    def __init__(self) -> None:
        self.port = free_port()
        self.seen: list[bytes] = []
        self.sessions: list[str] = []
        self._apps = {name: make() for name, make in SERVERS.items()}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Pass a request on to the server that its path names."""
        _, name, path = scope["path"].split("/", 2)
        self.sessions += [value.decode() for key, value in scope["headers"] if key == b"mcp-session-id"]

        async def heard() -> Any:
            message = await receive()
            self.seen.append(message.get("body", b""))
            return message

        app = self._apps.get(name, odd)
        await app({**scope, "path": f"/{path}", "raw_path": f"/{path}".encode()}, heard, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the sessions of all."""
        async with AsyncExitStack() as stack:
            for app in self._apps.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield


def read_one_root(patch: pytest.MonkeyPatch) -> None:
    """Let clients read one root certificate, as those of httpx do in all tests: the system's take 30 ms for each client."""
    patch.setenv("SSL_CERT_FILE", certifi.where())


@contextmanager
def running_servers() -> Iterator[Servers]:
    """Serve all of them, in a thread."""
    servers = Servers()
    server = uvicorn.Server(
        uvicorn.Config(servers, port=servers.port, log_level="warning", lifespan="off", loop="asyncio")
    )

    async def serve() -> None:
        async with servers.running():
            await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield servers
    finally:
        server.should_exit = True
        thread.join(10)
