"""The column of the fault matrix for a call that several requests share: each is told the fault, and none is let pass.

Four requests of one person wait for one answer of the hook, and so ask Cerbos in one turn of the loop.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
import pytest
from cerbos.effect.v1 import effect_pb2
from cerbos.request.v1 import request_pb2
from cerbos.response.v1 import response_pb2
from cerbos.schema.v1 import schema_pb2

from tests.faults import fakes
from tests.faults.fakes import Check, FakeCerbos, Scripted, allow, allowing, answers, changed
from tests.faults.test_faults import GOOD_HOOK, World, environment, token
from tests.stack import ROOT, Got, Recorder, Web, running_sidecar, wait_for
from tests.tokens import key_set

ROUTES = """\
version: 1
lookups:
  contact: {{url: "http://127.0.0.1:{hook}/c/{{id}}", attributes: {{owner: owner_id}}, echo: id, timeout: 5s}}
routes:
  - path: "/contacts/{{id}}"
    resource: contact
    id: "{{path.id}}"
    lookup: contact
    actions: {{GET: read, PUT: edit, PATCH: change, DELETE: drop}}
"""
ACTIONS = {"GET": "read", "PUT": "edit", "PATCH": "change", "DELETE": "drop"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, cerbos, hook, upstream = Web(), FakeCerbos(), Scripted(answers(GOOD_HOOK)), Recorder()
    keys.json("/jwks", key_set())
    environ = {**environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}"}
    folder, where = tmp_path_factory.mktemp("batch-faults"), f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(folder, ROUTES.format(hook=hook.port), ROOT / "policies", where, environ) as sidecar:
        yield World(cerbos, hook, upstream, sidecar, token())
    for part in (keys, cerbos, hook, upstream):
        part.close()


@pytest.fixture
def world(shared: World) -> World:
    """Everything well again, the breakers closed."""
    shared.cerbos.check = allow
    shared.hook.script = answers(GOOD_HOOK)
    wait_for(lambda: shared.sidecar.get("/contacts/1", shared.token).status == 200, 10, "all is well")
    shared.upstream.reset()
    return shared


def together(world: World, check: Check) -> dict[str, Got]:
    """Send one request of each method, and let Cerbos do `check` with the call that all four are in: action -> answer."""
    release, sizes = threading.Event(), list[int]()

    def holds(connection: socket.socket) -> None:
        while connection.recv(65536):
            release.wait(5)
            connection.sendall(GOOD_HOOK)

    def noted(request: request_pb2.CheckResourcesRequest, context: grpc.ServicerContext) -> bytes:
        sizes.append(len(request.resources))
        return check(request, context)

    world.hook.script, world.cerbos.check = holds, noted
    with ThreadPoolExecutor(len(ACTIONS)) as pool:
        sent = {
            action: pool.submit(world.sidecar.request, method, "/contacts/1", world.token)
            for method, action in ACTIONS.items()
        }
        wait_for(lambda: world.sidecar.metric("sidecar_connections") >= len(ACTIONS))
        # the last head may still be on its way
        world.sidecar.settle()
        threading.Timer(0.05, release.set).start()
        got = {action: future.result() for action, future in sent.items()}
    assert sizes[0] == len(ACTIONS), "they did not ask in one turn"
    return got


def at_second(change: Callable[[response_pb2.CheckResourcesResponse.ResultEntry], Any]) -> Check:
    """An answer that is right but for its second place."""
    return changed(lambda message: change(message.results[1]))


def swapped(message: response_pb2.CheckResourcesResponse) -> None:
    message.results.append(message.results.pop(0))


BATCH = {
    "slow": (fakes.late(1.2), "pdp_timeout"),
    "garbage": (lambda *_: b"\xff\xff\xff\xff", "pdp_bad_answer"),
    "garbage: an unknown effect": (
        at_second(
            lambda one: [one.actions.update({name: cast("effect_pb2.Effect", 77)}) for name in list(one.actions)]
        ),
        "pdp_mismatch",
    ),
    "wrong status: unavailable": (fakes.status(grpc.StatusCode.UNAVAILABLE), "pdp_unavailable"),
    "wrong status: internal": (fakes.status(grpc.StatusCode.INTERNAL), "pdp_bad_answer"),
    "wrong status: denied": (fakes.status(grpc.StatusCode.PERMISSION_DENIED), "pdp_status"),
    "wrong status: invalid": (fakes.status(grpc.StatusCode.INVALID_ARGUMENT), "pdp_status"),
    "partial": (fakes.status(grpc.StatusCode.DATA_LOSS), "pdp_partial"),
    "partial: one less": (changed(lambda m: m.results.pop()), "pdp_mismatch"),
    "partial: empty": (lambda *_: b"", "pdp_mismatch"),
    "contradicting: request id": (changed(lambda m: setattr(m, "request_id", "other")), "pdp_mismatch"),
    "contradicting: kind": (at_second(lambda one: setattr(one.resource, "kind", "other")), "pdp_mismatch"),
    "contradicting: id": (at_second(lambda one: setattr(one.resource, "id", "2")), "pdp_mismatch"),
    "contradicting: no action": (at_second(lambda one: one.actions.clear()), "pdp_mismatch"),
    "contradicting: another order": (changed(swapped), "pdp_mismatch"),
    "contradicting: one more": (changed(lambda m: m.results.append(m.results[0])), "pdp_mismatch"),
}


@pytest.mark.parametrize("fault", BATCH)
def test_a_fault_of_a_call_is_503_for_each_request_in_it(world: World, fault: str) -> None:
    check, code = BATCH[fault]
    before = world.sidecar.metric("sidecar_dep_errors_total", dep="pdp", fault=code.removeprefix("pdp_"))
    got = together(world, check)
    assert {action: (one.status, one.code) for action, one in got.items()} == dict.fromkeys(
        ACTIONS.values(), (503, code)
    )
    assert world.upstream.received == b""
    lines = world.sidecar.decisions()[-4:]
    assert {line["action"]: line["code"] for line in lines} == dict.fromkeys(ACTIONS.values(), code)
    assert len({line["request_id"] for line in lines}) == 4
    assert world.sidecar.metric("sidecar_dep_errors_total", dep="pdp", fault=code.removeprefix("pdp_")) == before + 4


def test_each_request_of_a_call_has_its_own_answer_and_line_with_one_call_id(world: World) -> None:
    def check(request: request_pb2.CheckResourcesRequest, _: grpc.ServicerContext) -> bytes:
        message = allowing(request)
        for result in message.results:
            if "edit" in result.actions:
                result.actions["edit"] = effect_pb2.EFFECT_DENY
        return message.SerializeToString()

    got = together(world, check)
    assert {action: one.status for action, one in got.items()} == {"read": 200, "edit": 403, "change": 200, "drop": 200}
    lines = world.sidecar.decisions()[-4:]
    assert {line["action"]: line["outcome"] for line in lines} == {
        "read": "allow", "edit": "refuse", "change": "allow", "drop": "allow",
    }  # fmt: skip
    assert len({line["request_id"] for line in lines}) == 4
    assert {line["call_id"] for line in lines} == {"fake"}


def test_what_is_wrong_with_one_request_alone_is_no_fault_of_the_others(world: World) -> None:
    def refuses_edits(request: request_pb2.CheckResourcesRequest, context: grpc.ServicerContext) -> bytes:
        if any("edit" in entry.actions for entry in request.resources):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "on demand")
        return allow(request, context)

    def misfits(request: request_pb2.CheckResourcesRequest, _: grpc.ServicerContext) -> bytes:
        message = allowing(request)
        for result in message.results:
            if "edit" in result.actions:
                result.validation_errors.append(schema_pb2.ValidationError(path="/x"))
        return message.SerializeToString()

    for check, code in ((refuses_edits, "pdp_status"), (misfits, "pdp_mismatch")):
        got = together(world, check)
        assert {action: one.status for action, one in got.items()} == {
            "read": 200, "edit": 503, "change": 200, "drop": 200,
        }  # fmt: skip
        assert got["edit"].code == code


def test_the_column_has_no_empty_cell() -> None:
    for fault in ("slow", "garbage", "wrong", "partial", "contradicting"):
        assert any(name.startswith(fault) for name in BATCH), fault
