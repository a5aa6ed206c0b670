"""The column of the fault matrix for lookups of a list's items: each fault refuses the list, and never shortens it.

The request is allowed and the app has answered. What fails is a lookup that is asked what its items are like.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

from tests.faults import fakes
from tests.faults.fakes import FakeCerbos, Script, Scripted, answers, json_answer, more
from tests.faults.test_faults import BATCH, LASTING, ONE, TWO, World, environment, token, told
from tests.stack import ROOT, Recorder, Seen, Web, reply, running_sidecar, wait_for
from tests.tokens import key_set

ROUTES = """\
version: 1
lookups:
  many: {{url: "http://127.0.0.1:{hook}/c?id={{ids}}", batch: true, attributes: {{owner: owner_id}}, echo: id, timeout: 800ms}}
routes:
  - {{path: /list, resource: contact, actions: {{GET: list}}, items: {{at: data, id: id, lookup: many}}}}
  - {{path: /lines, resource: contact, actions: {{GET: list}}, items: {{at: lines, id: id, lookup: many}}}}
  - {{path: /pages, resource: contact, actions: {{GET: list}}, items: {{at: data, id: id, lookup: many, refill: {{pages: 2, next: next}}}}}}
"""
JSON = "Content-Type: application/json"
ROWS = [{"id": at % 2 + 1, "phone": "secret"} for at in range(100)]
GOOD, NONE = json_answer(f"[{TWO}, {ONE}]".encode()), json_answer(b"[]")
FAULTS = {name: row for name, row in BATCH.items() if not name.startswith("drip")}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, cerbos, hook, upstream = Web(), FakeCerbos(), Scripted(answers(GOOD)), Recorder()
    keys.json("/jwks", key_set())
    environ = {**environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}"}
    folder, where = tmp_path_factory.mktemp("item-lookup-faults"), f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(folder, ROUTES.format(hook=hook.port), ROOT / "policies", where, environ) as sidecar:
        yield World(cerbos, hook, upstream, sidecar, token())
    for part in (keys, cerbos, hook, upstream):
        part.close()


@pytest.fixture
def world(shared: World) -> World:
    """Everything well again, the breaker closed."""
    shared.hook.script = answers(GOOD)
    shared.upstream.reset(reply(200, json.dumps({"data": ROWS}).encode(), JSON))
    wait_for(lambda: shared.sidecar.get("/list", shared.token).status == 200, 10, "all is well")
    shared.upstream.reset(reply(200, json.dumps({"data": ROWS}).encode(), JSON))
    return shared


def then(first: bytes, fault: Script) -> Script:
    """Answer the first question of all so, and do the other with each after it."""
    asked: list[bytes] = []

    def script(connection: socket.socket) -> None:
        if not asked:
            asked.append(more(connection))
            connection.sendall(first)
        fault(connection)

    return script


def test_a_list_whose_items_are_looked_up_is_released(world: World) -> None:
    got = world.sidecar.get("/list", world.token)
    assert (got.status, json.loads(got.body)) == (200, {"data": ROWS})


@pytest.mark.parametrize("fault", BATCH)
def test_a_lookup_that_fails_about_items_refuses_the_list(world: World, fault: str) -> None:
    world.hook.script, code = BATCH[fault]
    asked, fault = world.cerbos.asked, code.removeprefix("lookup_")
    before = world.sidecar.metric("sidecar_dep_errors_total", dep="lookup", fault=fault)
    got = world.sidecar.get("/list", world.token)
    assert (got.status, got.code) == (503, code)
    assert got.header("retry-after") == ("60" if code in LASTING else "2")
    assert b"secret" not in got.body
    # about the list alone
    assert world.cerbos.asked == asked + 1
    assert len(world.upstream.seen) == 1
    line = world.sidecar.decisions()[-1]
    assert (line["outcome"], line["code"], line["status"], line["dep"]) == ("allow", code, 503, "lookup")
    assert world.sidecar.metric("sidecar_dep_errors_total", dep="lookup", fault=fault) == before + 1


def test_an_item_that_the_hook_does_not_have_is_no_fault(world: World) -> None:
    world.hook.script = told(ONE)
    before = world.sidecar.metric("sidecar_dep_errors_total", dep="lookup")
    got = world.sidecar.get("/list", world.token)
    assert json.loads(got.body) == {"data": ROWS[::2]}
    assert world.sidecar.decisions()[-1]["items"] == {"seen": 100, "kept": 50, "masked": 0, "calls": 1}
    assert world.sidecar.metric("sidecar_dep_errors_total", dep="lookup") == before


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lookup_that_fails_in_the_middle_of_a_stream_breaks_it_off(world: World, fault: str) -> None:
    lines = [json.dumps(row).encode() + b"\n" for row in ROWS]

    def stream(_: Recorder, connection: socket.socket, __: Seen) -> None:
        body = b"".join(lines)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body)

    world.upstream.reset(stream)
    script, code = FAULTS[fault]
    world.hook.script = then(GOOD, script)
    logged = len(world.sidecar.decisions())
    with socket.create_connection(("127.0.0.1", world.sidecar.port), 10) as client:
        client.sendall(f"GET /lines HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {world.token}\r\n\r\n".encode())
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(65536):
                got += data
    # a window that was judged, and nothing of the next one
    assert got.count(b"secret") == 50
    assert not got.endswith(b"0\r\n\r\n")
    wait_for(lambda: world.sidecar.decisions()[-1]["event"] == "broken_off" and len(world.sidecar.decisions()) > logged)
    assert world.sidecar.decisions()[-1]["code"] == code


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lookup_that_fails_about_a_further_page_releases_nothing_of_it(world: World, fault: str) -> None:
    def page(_: Recorder, connection: socket.socket, seen: Seen) -> None:
        following = None if seen.target.endswith("p=2") else "?p=2"
        reply(200, json.dumps({"data": ROWS[:2], "next": following}).encode(), JSON)(_, connection, seen)

    world.upstream.reset(page)
    script, code = FAULTS[fault]
    # it has nothing of the first page
    world.hook.script = then(NONE, script)
    got = world.sidecar.get("/pages", world.token)
    assert (got.status, json.loads(got.body)) == (200, {"data": [], "next": "?p=2"})
    line = world.sidecar.decisions()[-1]
    assert (line["items"]["pages"], line["items"]["ended"]) == (1, code)
    world.upstream.reset(page)
    world.hook.script = then(NONE, answers(GOOD))
    got = world.sidecar.get("/pages", world.token)
    assert (got.status, json.loads(got.body)) == (200, {"data": ROWS[:2], "next": None})


def test_a_hook_that_keeps_failing_is_left_alone(world: World) -> None:
    world.hook.script = fakes.resetting
    for _ in range(5):
        assert world.sidecar.get("/list", world.token).code == "lookup_unavailable"
    connections = world.hook.connections
    assert world.sidecar.get("/list", world.token).code == "lookup_open"
    assert world.hook.connections == connections


def test_the_column_has_no_empty_cell() -> None:
    for fault in ("slow", "garbage", "wrong", "partial", "contradicting"):
        assert any(name.startswith(fault) for name in FAULTS), fault
