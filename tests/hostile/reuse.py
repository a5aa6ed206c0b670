"""What an upstream sends too much, or wrongly, must not become the next client's answer."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable

from tests.hostile.attempts import Case
from tests.hostile.wire import Client, Reply
from tests.hostile.world import World
from tests.stack import Answer, Recorder, Seen, echo


def once(data: bytes, seen_by: list[int]) -> Answer:
    """Send `data` to the first request, and answer all others well. `seen_by`: the connection of each request."""

    def answer(recorder: Recorder, connection: socket.socket, seen: Seen) -> None:
        seen_by.append(id(connection))
        if len(seen_by) == 1:
            connection.sendall(data)
        else:
            echo(recorder, connection, seen)

    return answer


def ask(world: World, line: str, user: str) -> Reply:
    """One request of a user, on a connection of its own."""
    client = Client(world.sidecar.port)
    with client.socket:
        client.send(f"{line} HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {world.token(user)}\r\n\r\n".encode())
        return client.reply(line.partition(" ")[0])


def run(world: World, case: Case) -> None:
    """Let alice get the odd reply, then ask as root: at once, and a moment later."""
    line, replies = case["send"]["line"], [case["send"]["upstream_reply"]]
    if case["id"] == "s24":
        replies.append(replies[0].replace("204 No Content", "304 Not Modified"))
    for text in replies:
        for pause in (0.0, 0.05):
            _poison(world, line, text.encode("latin-1"), pause, MUST[case["expect"]["must"]])


def _poison(world: World, line: str, data: bytes, pause: float, must: Callable[[Reply], None]) -> None:
    world.fresh()
    seen_by: list[int] = []
    world.upstream.answer = once(data, seen_by)
    first = ask(world, line, "alice")
    time.sleep(pause)
    second = ask(world, "GET /docs/1?me=root", "root")
    assert second.status == 200
    assert json.loads(second.body) == {"method": "GET", "target": "/docs/1?me=root"}
    assert seen_by[0] != seen_by[1], "the connection with bytes left over was used again"
    assert world.upstream.seen[1].values("x-auth-subject") == ["r-1"]
    must(first)


def _any(first: Reply) -> None:
    assert b"EVIL" not in first.body


def _bad_gateway(first: Reply) -> None:
    assert first.status == 502


def _one_framing(first: Reply) -> None:
    # Client.reply() fails where there are two
    assert first.status == 502 or first.body == b"ok"


MUST: dict[str, Callable[[Reply], None]] = {
    "next client's answer is its own": _any,
    "502": _bad_gateway,
    "502, or one framing only towards the client; connection not reused": _one_framing,
}
