"""Every dependency with every fault: the status, the code, nothing upstream, a log line and a count; never a pass."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc
import pytest
from cerbos.effect.v1 import effect_pb2
from cerbos.response.v1 import response_pb2
from cerbos.schema.v1 import schema_pb2

from tests.faults import fakes
from tests.faults.fakes import FakeCerbos, Scripted, answers, changed, dripping, json_answer
from tests.stack import ROOT, Recorder, Sidecar, Web, free_port, running_sidecar, wait_for
from tests.tokens import CLIENT, POOL, claims, key_set, mint

GOOD_HOOK = json_answer(b'{"id": "1", "owner_id": "a-1"}')
ROUTES = """\
version: 1
lookups:
  contact: {{url: "http://127.0.0.1:{hook}/c/{{id}}", attributes: {{owner: owner_id}}, echo: id, timeout: 800ms}}
  many: {{url: "http://127.0.0.1:{hook}/c?id={{ids}}", batch: true, attributes: {{owner: owner_id}}, echo: id, timeout: 800ms}}
  keyed: {{url: "http://127.0.0.1:{hook}/c?id={{ids}}", batch: true, attributes: {{owner: owner_id}}, timeout: 800ms}}
routes:
  - {{path: /many, resource: contact, query: [id], each: {{at: "{{query.id}}", lookup: many}}, actions: {{GET: list}}}}
  - {{path: /keyed, resource: contact, query: [id], each: {{at: "{{query.id}}", lookup: keyed}}, actions: {{GET: list}}}}
  - {{path: "/one/{{id}}", resource: contact, id: "{{path.id}}", lookup: many, actions: {{GET: read}}}}
  - {{path: /plain, resource: contact, actions: {{GET: list}}}}
  - {{path: /each, resource: contact, query: [id], each: {{at: "{{query.id}}"}}, actions: {{GET: list}}}}
  - {{path: /looked-up, resource: contact, query: [id], each: {{at: "{{query.id}}", lookup: contact}}, actions: {{GET: list}}}}
  - {{path: "/contacts/{{id}}", resource: contact, id: "{{path.id}}", lookup: contact, actions: {{GET: read}}}}
"""


@dataclass
class World:
    """One sidecar, and beside it everything that may fail."""

    cerbos: FakeCerbos
    hook: Scripted
    upstream: Recorder
    sidecar: Sidecar
    token: str


def environment(keys: int) -> dict[str, str]:
    return {
        "AWS_REGION": "eu-west-1",
        "AWS_COGNITO_POOL_ID": POOL,
        "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys}/jwks",
        "SIDECAR_CERBOS_TIMEOUT": "800ms",
        "SIDECAR_UPSTREAM_HEAD_TIMEOUT": "500ms",
    }


def token() -> str:
    return mint(claims(time.time())).decode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, cerbos, hook, upstream = Web(), FakeCerbos(), Scripted(answers(GOOD_HOOK)), Recorder()
    keys.json("/jwks", key_set())
    environ = {**environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}"}
    folder = tmp_path_factory.mktemp("faults")
    routes = ROUTES.format(hook=hook.port)
    with running_sidecar(folder, routes, ROOT / "policies", f"http://127.0.0.1:{upstream.port}", environ) as sidecar:
        yield World(cerbos, hook, upstream, sidecar, token())
    for part in (keys, cerbos, hook, upstream):
        part.close()


@pytest.fixture
def world(shared: World) -> World:
    """Everything well again, the breakers closed."""
    shared.cerbos.check = fakes.allow
    shared.hook.script = answers(GOOD_HOOK)
    shared.upstream.reset()
    wait_for(lambda: shared.sidecar.get("/contacts/1", shared.token).status == 200, 10, "all is well")
    shared.upstream.reset()
    return shared


LASTING = ("lookup_auth", "lookup_status")


def assert_refused(world: World, path: str, status: int, code: str, dep: str, fault: str) -> None:
    before = world.sidecar.metric("sidecar_dep_errors_total", dep=dep, fault=fault)
    started = time.monotonic()
    got = world.sidecar.get(path, world.token)
    assert time.monotonic() - started < 5
    assert (got.status, got.code) == (status, code)
    assert got.header("retry-after") == (None if status != 503 else "60" if code in LASTING else "2")
    assert world.upstream.received == b""
    line = world.sidecar.decisions()[-1]
    assert (line["event"], line["outcome"], line["code"], line["status"]) == ("decision", "refuse", code, status)
    assert (line["dep"], line["fault"], line["principal"]) == (dep, fault, "a-1")
    assert world.sidecar.metric("sidecar_dep_errors_total", dep=dep, fault=fault) == before + 1
    assert world.sidecar.metric("sidecar_requests_total", code=code, status=str(status)) >= 1


# --- Cerbos ---


def of_another_action(message: response_pb2.CheckResourcesResponse) -> None:
    actions = message.results[0].actions
    actions.clear()
    actions.update({"x": effect_pb2.EFFECT_ALLOW})


PDP = {
    "slow": (fakes.late(1.2), "pdp_timeout"),
    "garbage": (lambda *_: b"\xff\xff\xff\xff", "pdp_bad_answer"),
    "garbage: an unknown effect": (
        changed(lambda m: m.results[0].actions.update({"list": cast("effect_pb2.Effect", 77)})),
        "pdp_mismatch",
    ),
    "wrong status: too many": (fakes.status(grpc.StatusCode.RESOURCE_EXHAUSTED), "pdp_status"),
    "wrong status: invalid": (fakes.status(grpc.StatusCode.INVALID_ARGUMENT), "pdp_status"),
    "wrong status: denied": (fakes.status(grpc.StatusCode.PERMISSION_DENIED), "pdp_status"),
    "wrong status: unavailable": (fakes.status(grpc.StatusCode.UNAVAILABLE), "pdp_unavailable"),
    "partial": (fakes.status(grpc.StatusCode.DATA_LOSS), "pdp_partial"),
    "partial: no results": (changed(lambda m: m.results.pop()), "pdp_mismatch"),
    "partial: empty": (lambda *_: b"", "pdp_mismatch"),
    "contradicting: request id": (changed(lambda m: setattr(m, "request_id", "other")), "pdp_mismatch"),
    "contradicting: kind": (changed(lambda m: setattr(m.results[0].resource, "kind", "other")), "pdp_mismatch"),
    "contradicting: id": (changed(lambda m: setattr(m.results[0].resource, "id", "2")), "pdp_mismatch"),
    "contradicting: action": (changed(lambda m: m.results[0].actions.pop("list")), "pdp_mismatch"),
    "contradicting: another action": (changed(of_another_action), "pdp_mismatch"),
    "contradicting: two results": (changed(lambda m: m.results.append(m.results[0])), "pdp_mismatch"),
    "contradicting: schema": (
        changed(lambda m: m.results[0].validation_errors.append(schema_pb2.ValidationError(path="/x"))),
        "pdp_mismatch",
    ),
    "contradicting: no match": (
        changed(lambda m: m.results[0].actions.update({"list": effect_pb2.EFFECT_NO_MATCH})),
        "pdp_mismatch",
    ),
}


@pytest.mark.parametrize("fault", PDP)
def test_a_cerbos_that_fails_is_503(world: World, fault: str) -> None:
    world.cerbos.check, code = PDP[fault]
    # about one resource, and about two in one question
    for path in ("/plain", "/each?id=1&id=2"):
        assert_refused(world, path, 503, code, "pdp", code.removeprefix("pdp_"))


def test_a_deny_of_cerbos_is_403_and_no_fault(world: World) -> None:
    before = world.sidecar.metric("sidecar_dep_errors_total", dep="pdp")
    world.cerbos.check = changed(lambda m: m.results[0].actions.update({"list": effect_pb2.EFFECT_DENY}))
    got = world.sidecar.get("/plain", world.token)
    assert (got.status, got.code) == (403, "denied_by_policy")
    assert world.sidecar.metric("sidecar_dep_errors_total", dep="pdp") == before
    assert world.upstream.received == b""


def test_a_cerbos_that_flaps_is_refused_exactly_when_it_fails(world: World) -> None:
    broken = fakes.status(grpc.StatusCode.UNAVAILABLE)
    statuses = []
    for turn in range(12):
        world.cerbos.check = broken if turn % 2 else fakes.allow
        statuses.append(world.sidecar.get("/plain", world.token).status)
    assert statuses == [200, 503] * 6


def test_a_cerbos_that_keeps_failing_is_left_alone_and_taken_back(world: World) -> None:
    world.cerbos.check = fakes.status(grpc.StatusCode.UNAVAILABLE)
    for _ in range(5):
        assert world.sidecar.get("/plain", world.token).code == "pdp_unavailable"
    asked = world.cerbos.asked
    assert_refused(world, "/plain", 503, "pdp_open", "pdp", "open")
    assert world.cerbos.asked == asked
    world.cerbos.check = fakes.allow
    started = time.monotonic()
    wait_for(lambda: world.sidecar.get("/plain", world.token).status == 200, 5)
    assert time.monotonic() - started > 1


@pytest.mark.parametrize("how", ["down", "silent", "drip", "reset"])
def test_a_cerbos_that_is_no_grpc_server_is_503(world: World, how: str, tmp_path: Path) -> None:
    script = {"silent": fakes.silent, "drip": dripping(b"\0\0\0\4\0\0\0\0\0" * 30), "reset": fakes.resetting}.get(how)
    server = Scripted(script) if script else None
    port = server.port if server else free_port()
    keys = Web()
    keys.json("/jwks", key_set())
    environ = {**environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{port}"}
    upstream = f"http://127.0.0.1:{world.upstream.port}"
    with running_sidecar(tmp_path, ROUTES.format(hook=1), ROOT / "policies", upstream, environ, ready=False) as sidecar:
        wait_for(lambda: b'"keys":true' in sidecar.admin("/readyz").body)
        for _ in range(3):
            got = sidecar.get("/plain", world.token)
            assert got.status == 503
            assert got.code in ("pdp_unavailable", "pdp_timeout")
        assert sidecar.admin("/readyz").status == 503
        assert {line["dep"] for line in sidecar.decisions()} == {"pdp"}
        if how == "down":
            assert "connection_refused" in sidecar.decisions()[0]["detail"]
            assert f"SIDECAR_CERBOS: 127.0.0.1:{port}: found connection_refused" in sidecar.log()
        assert sidecar.metric("sidecar_dep_errors_total", dep="pdp") == 3
    keys.close()
    assert world.upstream.received == b""


# --- the lookup hook ---


def dripping_body(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(GOOD_HOOK[:-20])
    dripping(GOOD_HOOK[-20:])(connection)


HOOK = {
    "slow": (fakes.silent, "lookup_timeout"),
    "drip": (dripping(GOOD_HOOK), "lookup_timeout"),
    "drip: the body": (dripping_body, "lookup_timeout"),
    "garbage": (answers(b"nonsense\r\n\r\n"), "lookup_bad_answer"),
    "garbage: JSON": (answers(json_answer(b'{"id": "1", "owner_id": ')), "lookup_bad_answer"),
    "garbage: NaN": (answers(json_answer(b'{"id": "1", "owner_id": NaN}')), "lookup_bad_answer"),
    "garbage: doubled": (answers(json_answer(b'{"id":"1","owner_id":"b","owner_id":"a-1"}')), "lookup_bad_answer"),
    "garbage: nested": (answers(json_answer(b"[" * 60000)), "lookup_bad_answer"),
    "garbage: large": (answers(json_answer(b'{"owner_id": "' + b"a" * 70000 + b'"}')), "lookup_bad_answer"),
    "wrong type": (answers(json_answer(b"{}", kind="text/html")), "lookup_status"),
    "wrong status: 500": (answers(json_answer(b"{}", 500)), "lookup_status"),
    "wrong status: 302": (answers(b"HTTP/1.1 302 X\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), "lookup_status"),
    "wrong status: 401": (answers(json_answer(b"{}", 401)), "lookup_auth"),
    "partial": (answers(GOOD_HOOK[:-5], then_wait=False), "lookup_partial"),
    "partial: no head": (answers(GOOD_HOOK[:30], then_wait=False), "lookup_partial"),
    "partial: reset": (fakes.resetting, "lookup_unavailable"),
    "contradicting: id": (answers(json_answer(b'{"id": "2", "owner_id": "a-1"}')), "lookup_mismatch"),
    "contradicting: missing": (answers(json_answer(b'{"id": "1"}')), "lookup_mismatch"),
    "contradicting: type": (answers(json_answer(b'{"id": "1", "owner_id": ["a-1"]}')), "lookup_mismatch"),
}  # fmt: skip


REASONS = {
    "slow": "http_response_timeout", "garbage": "not_http", "garbage: large": "http_response_body_size",
    "partial": "http_response_incomplete", "partial: reset": "connection_terminated",
}  # fmt: skip
"""Of the faults of a hook that are faults of HTTP: the reason."""


# --- a hook that is asked about many in one call ---


def told(*documents: str) -> fakes.Script:
    return answers(json_answer(b"[" + ",".join(documents).encode() + b"]"))


ONE, TWO = '{"id": 1, "owner_id": "a-1"}', '{"id": "2", "owner_id": "a-1"}'
BATCH = {
    **{fault: row for fault, row in HOOK.items() if not fault.startswith(("contradicting", "garbage: large"))},
    "garbage: large": (answers(json_answer(b'["' + b"a" * 1_100_000 + b'"]')), "lookup_bad_answer"),
    "wrong status: 404": (answers(json_answer(b"{}", 404)), "lookup_status"),
    "contradicting: another id": (told(ONE, TWO, '{"id": 3, "owner_id": "a-1"}'), "lookup_bad_answer"),
    "contradicting: one twice": (told(ONE, TWO, ONE), "lookup_bad_answer"),
    "contradicting: no id": (told(ONE, '{"owner_id": "a-1"}'), "lookup_bad_answer"),
    "contradicting: missing": (told(ONE, '{"id": 2}'), "lookup_mismatch"),
    "contradicting: type": (told(ONE, '{"id": 2, "owner_id": ["a-1"]}'), "lookup_mismatch"),
    "contradicting: form": (answers(json_answer(b'{"1": {"owner_id": "a-1"}, "2": {"owner_id": "a-1"}}')), "lookup_bad_answer"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BATCH)
def test_a_hook_that_fails_about_many_is_503_for_all(world: World, fault: str) -> None:
    world.hook.script = told(TWO, ONE)
    wait_for(lambda: world.sidecar.get("/many?id=1&id=2", world.token).status == 200, 10, "all is well")
    assert world.sidecar.get("/many?id=1&id=4", world.token).code == "lookup_bad_answer"
    world.upstream.reset()
    world.hook.script, code = BATCH[fault]
    asked = world.cerbos.asked
    assert_refused(world, "/many?id=1&id=2", 503, code, "lookup", code.removeprefix("lookup_"))
    assert world.cerbos.asked == asked


def test_a_hook_that_answers_by_id_must_name_no_other(world: World) -> None:
    world.hook.script = answers(json_answer(b'{"1": {"owner_id": "a-1"}, "2": null}'))
    assert world.sidecar.get("/keyed?id=1", world.token).code == "lookup_bad_answer"
    assert world.sidecar.get("/keyed?id=1&id=2", world.token).code == "denied_by_policy"
    world.hook.script = answers(json_answer(b"[]"))
    assert world.sidecar.get("/one/7", world.token).code == "denied_by_policy"
    assert world.sidecar.decisions()[-1]["code"] == "resource_missing"


@pytest.mark.parametrize("fault", HOOK)
def test_a_hook_that_fails_is_503(world: World, fault: str) -> None:
    script, code = HOOK[fault]
    world.hook.script = script
    asked = world.cerbos.asked
    assert_refused(world, "/contacts/1", 503, code, "lookup", code.removeprefix("lookup_"))
    assert world.cerbos.asked == asked
    if fault in REASONS:
        assert world.sidecar.decisions()[-1]["detail"].startswith(f"lookups.contact: {REASONS[fault]}")
        place = f"lookups.contact: http://127.0.0.1:{world.hook.port}"
        assert f"{place}: found {REASONS[fault]}" in world.sidecar.log()


@pytest.mark.parametrize("fault", [fault for fault in HOOK if not fault.startswith("drip")])
def test_a_hook_that_fails_about_one_of_many_is_503(world: World, fault: str) -> None:
    world.hook.script, code = HOOK[fault]
    asked = world.cerbos.asked
    assert_refused(world, "/looked-up?id=1", 503, code, "lookup", code.removeprefix("lookup_"))
    assert world.cerbos.asked == asked
    assert world.sidecar.decisions()[-1]["each"] == {"asked": 1, "ids": ["1"]}


def test_a_hook_that_knows_no_such_thing_is_403_and_no_fault(world: World) -> None:
    before = world.sidecar.metric("sidecar_dep_errors_total", dep="lookup")
    world.hook.script = answers(json_answer(b"{}", 404))
    assert world.sidecar.get("/contacts/1", world.token).code == "denied_by_policy"
    assert world.sidecar.decisions()[-1]["code"] == "resource_missing"
    assert world.sidecar.metric("sidecar_dep_errors_total", dep="lookup") == before


def test_a_hook_that_keeps_failing_is_left_alone_and_taken_back(world: World) -> None:
    world.hook.script = fakes.resetting
    for _ in range(5):
        assert world.sidecar.get("/contacts/1", world.token).status == 503
    connections = world.hook.connections
    assert_refused(world, "/contacts/1", 503, "lookup_open", "lookup", "open")
    assert world.hook.connections == connections
    # the route without a lookup does not care
    assert world.sidecar.get("/plain", world.token).status == 200
    world.hook.script = answers(GOOD_HOOK)
    wait_for(lambda: world.sidecar.get("/contacts/1", world.token).status == 200, 5)


# --- the key server, from the start ---

KEYS = {
    "slow": (fakes.silent, "timeout"),
    "drip": (dripping(json_answer(json.dumps(key_set()).encode())), "timeout"),
    "garbage": (answers(json_answer(b"{")), "bad_set"),
    "wrong type": (answers(json_answer(b"<html>", kind="text/html")), "bad_set"),
    "wrong status": (answers(json_answer(b"{}", 500)), "status"),
    "wrong status: 302": (answers(b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), "redirect"),
    "partial": (answers(json_answer(json.dumps(key_set()).encode())[:-9], then_wait=False), "unavailable"),
    "contradicting": (answers(json_answer(json.dumps({"keys": [{"kty": "oct", "kid": "k1"}]}).encode())), "bad_set"),
    "down": (None, "unavailable"),
}  # fmt: skip


@pytest.mark.parametrize("fault", KEYS)
def test_a_key_server_that_fails_from_the_start_is_503_and_not_ready(world: World, fault: str, tmp_path: Path) -> None:
    script, counted = KEYS[fault]
    server = Scripted(script) if script else None
    port = server.port if server else free_port()
    environ = {**environment(port), "SIDECAR_CERBOS": f"127.0.0.1:{world.cerbos.port}"}
    upstream = f"http://127.0.0.1:{world.upstream.port}"
    with running_sidecar(tmp_path, ROUTES.format(hook=1), ROOT / "policies", upstream, environ, ready=False) as sidecar:
        wait_for(lambda: sidecar.metric("sidecar_dep_errors_total", dep="jwks", fault=counted) >= 1, 6)
        assert sidecar.admin("/readyz").status == 503
        got = sidecar.get("/plain", world.token)
        assert (got.status, got.code) == (503, "keys_unavailable")
        line = sidecar.decisions()[-1]
        assert line["dep"] == "jwks"
        why = "unavailable connection_refused" if fault == "down" else counted
        assert line["detail"].startswith(f"the issuer's keys could not be fetched: {why}")
    if server:
        server.close()
    assert world.upstream.received == b""


# --- the upstream ---

UPSTREAM = {
    "slow": (lambda *_: time.sleep(1), 504, "upstream_timeout", "http_response_timeout"),
    "drip": (
        lambda _, c, __: dripping_to(c, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        504,
        "upstream_timeout",
        "http_response_timeout",
    ),
    "garbage": (lambda _, c, __: c.sendall(b"nonsense\r\n\r\n"), 502, "upstream_protocol", "not_http"),
    "garbage: head": (
        lambda _, c, __: c.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000),
        502,
        "upstream_protocol",
        "http_response_header_section_size",
    ),
    "wrong status": (
        lambda _, c, __: c.sendall(b"HTTP/1.1 600 X\r\n\r\n"),
        502,
        "upstream_protocol",
        "status_line_invalid",
    ),
    "partial": (
        lambda _, c, __: (c.sendall(b"HTTP/1.1 200 OK\r\nConte"), c.close()),
        502,
        "upstream_partial",
        "http_response_incomplete",
    ),
    "contradicting": (
        lambda _, c, __: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        502,
        "upstream_protocol",
        "length_repeated",
    ),
    "folded": (
        lambda _, c, __: c.sendall(b"HTTP/1.1 200 OK\r\nX-Policy: a;\r\n b\r\nContent-Length: 0\r\n\r\n"),
        502,
        "upstream_protocol",
        "header_folded",
    ),
}


def dripping_to(connection: socket.socket, data: bytes) -> None:
    for at in range(len(data)):
        connection.sendall(data[at : at + 1])
        time.sleep(0.05)


@pytest.mark.parametrize("fault", UPSTREAM)
def test_an_upstream_that_fails_is_502_or_504_and_the_log_says_that_it_was_allowed(world: World, fault: str) -> None:
    answer, status, code, reason = UPSTREAM[fault]
    world.upstream.reset(answer)
    before = world.sidecar.metric("sidecar_dep_errors_total", dep="upstream", fault=code.removeprefix("upstream_"))
    told = world.sidecar.metric("sidecar_dep_fault_reasons_total", dep="upstream", reason=reason)
    got = world.sidecar.get("/plain", world.token)
    assert (got.status, got.code) == (status, code)
    line = world.sidecar.decisions()[-1]
    assert (line["outcome"], line["code"], line["status"]) == ("allow", code, status)
    assert world.sidecar.metric("sidecar_dep_errors_total", dep="upstream", fault=line["fault"]) == before + 1
    # the reason is for those who run it, and no client is told
    assert line["detail"].partition(":")[0] == reason
    assert world.sidecar.metric("sidecar_dep_fault_reasons_total", dep="upstream", reason=reason) == told + 1
    assert f"SIDECAR_UPSTREAM: http://127.0.0.1:{world.upstream.port}: found {reason}" in world.sidecar.log()
    assert reason.encode() not in got.body


def test_an_upstream_that_is_down_is_502_then_left_alone_and_taken_back(world: World, tmp_path: Path) -> None:
    port = free_port()
    keys = Web()
    keys.json("/jwks", key_set())
    environ = {**environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{world.cerbos.port}"}
    routes = ROUTES.format(hook=1)
    with running_sidecar(tmp_path, routes, ROOT / "policies", f"http://127.0.0.1:{port}", environ) as sidecar:
        codes = [sidecar.get("/plain", world.token).code for _ in range(7)]
        assert codes == ["upstream_unavailable"] * 5 + ["upstream_open"] * 2
        refused, *_, last = sidecar.decisions()
        assert refused["detail"].startswith("connection_refused: 127.0.0.1: ")
        # what opened the breaker is still said
        assert last["detail"] == f"breaker_open: {refused['detail']}"
        # one line for each reason, however many requests
        assert sidecar.log().count("found connection_refused") == 1
        assert sidecar.log().count("found breaker_open") == 1
    keys.close()


def test_the_matrix_has_no_empty_cell() -> None:
    """Five dependencies come with sessions; these four are here: each fault of the matrix has a test."""
    faults = ("slow", "drip", "garbage", "wrong", "partial", "contradicting")
    for cells, elsewhere in ((PDP, ("drip",)), (HOOK, ()), (KEYS, ()), (UPSTREAM, ())):
        for fault in faults:
            assert fault in elsewhere or any(name.startswith(fault) for name in cells), fault
