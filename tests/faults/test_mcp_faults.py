"""The column of the fault matrix for lists of MCP: a fault in judging them is an error of the request, or ends the stream."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest

from tests.faults.fakes import FakeCerbos, Scripted, allow, answers
from tests.faults.test_batch_faults import BATCH
from tests.faults.test_faults import GOOD_HOOK, World, environment, token
from tests.faults.test_items_faults import of_items
from tests.stack import ROOT, Got, Recorder, Web, reply, running_sidecar, wait_for
from tests.tokens import key_set

ROUTES = "version: 1\nroutes:\n  - {path: /mcp, mcp: {server: crm}}\n"
LISTED = {"jsonrpc": "2.0", "id": 7, "result": {"tools": [{"name": f"secret-{at}"} for at in range(60)]}}
WHOLE = json.dumps(LISTED).encode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, cerbos, upstream = Web(), FakeCerbos(), Recorder()
    keys.json("/jwks", key_set())
    environ = {**environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}"}
    folder, where = tmp_path_factory.mktemp("mcp-faults"), f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(folder, ROUTES, ROOT / "policies", where, environ) as sidecar:
        yield World(cerbos, Scripted(answers(GOOD_HOOK)), upstream, sidecar, token())
    for part in (keys, cerbos, upstream):
        part.close()


def ask(world: World, method: str = "tools/list") -> Got:
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method}).encode()
    return world.sidecar.request("POST", "/mcp", world.token, body, content_type="application/json")


@pytest.fixture
def world(shared: World) -> World:
    """Everything well again, the breakers closed."""
    shared.cerbos.check = allow
    shared.upstream.reset(reply(200, WHOLE, "Content-Type: application/json"))
    wait_for(lambda: ask(shared).body == WHOLE, 10, "all is well")
    return shared


@pytest.mark.parametrize("fault", BATCH)
def test_a_fault_in_judging_a_list_is_an_error_of_its_request(world: World, fault: str) -> None:
    check, _ = BATCH[fault]
    world.cerbos.check = of_items(check)
    got = ask(world)
    assert (got.status, b"secret" in got.body) == (200, False)
    told = json.loads(got.body)
    assert (told["id"], told["error"]["code"]) == (7, -32603)


def test_a_fault_in_judging_an_event_ends_the_stream(world: World) -> None:
    first = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
    stream = first + b"data: " + WHOLE + b"\n\n"
    world.upstream.reset(reply(200, stream, "Content-Type: text/event-stream"))
    check, code = BATCH["wrong status: internal"]
    world.cerbos.check = of_items(check)
    with pytest.raises((OSError, http.client.HTTPException)) as broken:
        ask(world)
    assert b"secret" not in getattr(broken.value, "partial", b"")
    wait_for(lambda: world.sidecar.decisions()[-1]["event"] == "broken_off")
    assert world.sidecar.decisions()[-1]["code"] == code
