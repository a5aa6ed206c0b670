"""The column of the fault matrix for the questions about a list's items: each fault is a refusal of the whole list.

The request is allowed and the app has answered. What fails is a question about what it said.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import grpc
import pytest
from cerbos.effect.v1 import effect_pb2
from cerbos.request.v1 import request_pb2

from tests.faults.fakes import Check, FakeCerbos, Scripted, allow, answers, changed
from tests.faults.test_batch_faults import BATCH
from tests.faults.test_faults import GOOD_HOOK, World, environment, token
from tests.stack import ROOT, Recorder, Seen, Web, reply, running_sidecar, wait_for
from tests.tokens import key_set

ROUTES = """\
version: 1
routes:
  - path: /list
    resource: contact
    actions: {GET: list}
    items: {at: data, id: id, attributes: {owner: owner_id}, fields: {phone: view_phone}}
  - path: /lines
    resource: contact
    actions: {GET: list}
    items: {at: lines, id: id, attributes: {owner: owner_id}}
  - path: /pages
    resource: contact
    actions: {GET: list}
    items: {at: data, id: id, attributes: {owner: owner_id}, refill: {pages: 2, next: next}}
"""
JSON = "Content-Type: application/json"
ROWS = [{"id": at, "owner_id": "secret", "phone": "secret"} for at in range(60)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, cerbos, upstream = Web(), FakeCerbos(), Recorder()
    keys.json("/jwks", key_set())
    environ = {**environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}"}
    folder, where = tmp_path_factory.mktemp("items-faults"), f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(folder, ROUTES, ROOT / "policies", where, environ) as sidecar:
        yield World(cerbos, Scripted(answers(GOOD_HOOK)), upstream, sidecar, token())
    for part in (keys, cerbos, upstream):
        part.close()


@pytest.fixture
def world(shared: World) -> World:
    """Everything well again, the breakers closed."""
    shared.cerbos.check = allow
    shared.upstream.reset(reply(200, b'{"data": []}', JSON))
    wait_for(lambda: shared.sidecar.get("/list", shared.token).status == 200, 10, "all is well")
    shared.upstream.reset(reply(200, json.dumps({"data": ROWS}).encode(), JSON))
    return shared


def of_items(check: Check) -> Check:
    """Allow the request, and do `check` with what is asked about more than one item."""

    def checked(request: request_pb2.CheckResourcesRequest, context: grpc.ServicerContext) -> bytes:
        return allow(request, context) if len(request.resources) == 1 else check(request, context)

    return checked


def test_a_list_whose_items_are_allowed_is_released(world: World) -> None:
    got = world.sidecar.get("/list", world.token)
    assert (got.status, json.loads(got.body)) == (200, {"data": ROWS})


@pytest.mark.parametrize("fault", BATCH)
def test_a_fault_in_judging_items_refuses_the_list(world: World, fault: str) -> None:
    check, code = BATCH[fault]
    world.cerbos.check = of_items(check)
    got = world.sidecar.get("/list", world.token)
    assert (got.status, got.code) == (503, code)
    assert got.header("retry-after") is not None
    assert b"secret" not in got.body
    assert len(world.upstream.seen) == 1
    line = world.sidecar.decisions()[-1]
    assert (line["outcome"], line["code"], line["status"], line["dep"]) == ("allow", code, 503, "pdp")


def test_a_fault_in_the_middle_of_a_stream_breaks_it_off(world: World) -> None:
    def stream(_: Recorder, connection: socket.socket, __: Seen) -> None:
        lines = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(lines)
        connection.sendall(head + lines)

    world.upstream.answer = stream
    check, code = BATCH["wrong status: internal"]
    world.cerbos.check = of_items(check)
    with pytest.raises(OSError, match=r".*"):
        _broken(world)
    wait_for(lambda: world.sidecar.decisions()[-1]["event"] == "broken_off")
    assert world.sidecar.decisions()[-1]["code"] == code


def _broken(world: World) -> None:
    """Read an answer that has to break off with nothing in it. Raises OSError."""
    with socket.create_connection(("127.0.0.1", world.sidecar.port), 10) as client:
        client.sendall(f"GET /lines HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {world.token}\r\n\r\n".encode())
        got = b""
        while data := client.recv(65536):
            got += data
        assert b"secret" not in got
        assert not got.endswith(b"0\r\n\r\n")
        raise ConnectionError("it broke off")


def page(_: Recorder, connection: socket.socket, seen: Seen) -> None:
    """The first page has what is not shown; the next one has the secret."""
    rows, following = (ROWS[:2], None) if seen.target.endswith("p=2") else ([{"id": 0, "owner_id": "x"}] * 2, "?p=2")
    reply(200, json.dumps({"data": rows, "next": following}).encode(), JSON)(_, connection, seen)


def of_page_two(check: Check) -> Check:
    """Deny the items of the first page, and do `check` with the question about the second."""

    def checked(request: request_pb2.CheckResourcesRequest, context: grpc.ServicerContext) -> bytes:
        if len(request.resources) == 1:
            return allow(request, context)
        owners = {entry.resource.attr["owner"].string_value for entry in request.resources}
        return check(request, context) if "secret" in owners else deny(request, context)

    return checked


deny = changed(lambda message: [result.actions.update({"read": effect_pb2.EFFECT_DENY}) for result in message.results])


def test_a_page_of_which_all_is_decided_is_added(world: World) -> None:
    world.upstream.reset(page)
    world.cerbos.check = of_page_two(allow)
    got = world.sidecar.get("/pages", world.token)
    assert (got.status, json.loads(got.body)) == (200, {"data": ROWS[:2], "next": None})


@pytest.mark.parametrize("fault", BATCH)
def test_a_fault_in_judging_a_further_page_releases_nothing_of_it(world: World, fault: str) -> None:
    world.upstream.reset(page)
    check, code = BATCH[fault]
    world.cerbos.check = of_page_two(check)
    got = world.sidecar.get("/pages", world.token)
    # the page that is there is whole: its cursor leads to the one that could not be judged
    assert (got.status, json.loads(got.body)) == (200, {"data": [], "next": "?p=2"})
    line = world.sidecar.decisions()[-1]
    assert (line["items"]["pages"], line["items"]["ended"]) == (1, code)
    assert len(world.upstream.seen) == 2
