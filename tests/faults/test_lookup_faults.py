"""The app and Python functions as lookups, with every fault: the code, nothing permitted, a log line and a count."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.faults.fakes import FakeCerbos, Script, Scripted, answers, json_answer
from tests.faults.test_faults import GOOD_HOOK, HOOK, LASTING, environment, token
from tests.stack import ROOT, Sidecar, Web, running_sidecar, wait_for
from tests.tokens import key_set

ROUTES = """\
version: 1
lookups:
  app: {upstream: "/c/{id}", attributes: {owner: owner_id}, echo: id, timeout: 800ms}
  mine: {upstream: "/c/{id}", as: principal, attributes: {owner: owner_id}, echo: id, timeout: 800ms}
  plain: {function: "acme_faulty:plain", attributes: {owner: owner_id}, echo: id, timeout: 800ms}
  later: {function: "acme_faulty:later", as: principal, attributes: {owner: owner_id}, echo: id, timeout: 800ms}
routes:
  - {path: "/app/{id}", resource: contact, id: "{path.id}", lookup: app, actions: {GET: read}}
  - {path: "/mine/{id}", resource: contact, id: "{path.id}", lookup: mine, actions: {GET: read}}
  - {path: "/plain/{id}", resource: contact, id: "{path.id}", lookup: plain, actions: {GET: read}}
  - {path: "/later/{id}", resource: contact, id: "{path.id}", lookup: later, actions: {GET: read}}
"""
MODULE = """\
import asyncio
import time
from decimal import Decimal
from pathlib import Path

FAULT = Path(__file__).with_name("fault")


def said(request):
    good = {"id": request.id, "owner_id": "a-1"}
    nested = good
    for _ in range(40):
        nested = {"x": nested}
    match FAULT.read_text():
        case "raises": raise OSError("hunter2")
        case "exits": raise SystemExit(1)
        case "garbage": return "nonsense"
        case "garbage: a list": return [good]
        case "garbage: Decimal": return {**good, "n": Decimal(1)}
        case "garbage: NaN": return {**good, "n": float("nan")}
        case "garbage: nested": return nested
        case "garbage: large": return {**good, "owner_id": "a" * 70_000}
        case "contradicting: id": return {**good, "id": "2"}
        case "contradicting: missing": return {"id": request.id}
        case "contradicting: type": return {**good, "owner_id": ["a-1"]}
        case "none": return None
    return good


def plain(request):
    if FAULT.read_text() == "slow":
        time.sleep(1.5)
    return said(request)


async def later(request):
    if FAULT.read_text() == "slow":
        await asyncio.sleep(60)
    if FAULT.read_text() == "slow: it blocks":
        time.sleep(1.5)
    return said(request)
"""


@dataclass
class World:
    """One sidecar, and the two that its lookups ask."""

    app: Scripted
    fault: Path
    sidecar: Sidecar
    cerbos: FakeCerbos
    token: str
    asked: list[bytes]

    def script(self, script: Script) -> None:
        """What the app does from now on, which notes what it was asked first on each connection."""

        def noting(connection: socket.socket) -> None:
            self.asked.append(connection.recv(65536, socket.MSG_PEEK))
            script(connection)

        self.app.script = noting
        self.asked.clear()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, cerbos, app = Web(), FakeCerbos(), Scripted(answers(GOOD_HOOK))
    keys.json("/jwks", key_set())
    folder = tmp_path_factory.mktemp("lookup-faults")
    (folder / "acme_faulty.py").write_text(MODULE)
    (folder / "fault").write_text("")
    environ = {**environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}"}
    with running_sidecar(folder, ROUTES, ROOT / "policies", f"http://127.0.0.1:{app.port}", environ) as sidecar:
        yield World(app, folder / "fault", sidecar, cerbos, token(), [])
    for part in (keys, cerbos, app):
        part.close()


@pytest.fixture
def world(shared: World) -> World:
    """Everything well again, the breakers closed."""
    shared.script(answers(GOOD_HOOK))
    shared.fault.write_text("")
    for path in ("/app/1", "/mine/1", "/plain/1", "/later/1"):
        wait_for(partial(is_well, shared, path), 10, "all is well")
    return shared


def is_well(world: World, path: str) -> bool:
    return world.sidecar.get(path, world.token).status == 200


def assert_refused(world: World, path: str, code: str) -> None:
    fault = code.removeprefix("lookup_")
    before = world.sidecar.metric("sidecar_dep_errors_total", dep="lookup", fault=fault)
    asked, started = world.cerbos.asked, time.monotonic()
    got = world.sidecar.get(path, world.token)
    assert time.monotonic() - started < 5
    assert (got.status, got.code) == (503, code)
    assert got.header("retry-after") == ("60" if code in LASTING else "2")
    assert world.cerbos.asked == asked
    line = world.sidecar.decisions()[-1]
    assert (line["outcome"], line["code"], line["dep"], line["fault"]) == ("refuse", code, "lookup", fault)
    assert world.sidecar.metric("sidecar_dep_errors_total", dep="lookup", fault=fault) == before + 1


# --- the app ---


@pytest.mark.parametrize("fault", HOOK)
def test_an_app_that_fails_as_a_lookup_is_503_and_gets_no_request(world: World, fault: str) -> None:
    script, code = HOOK[fault]
    world.script(script)
    assert_refused(world, "/app/1", code)
    assert world.asked
    for head in world.asked:
        assert head.startswith(b"GET /c/1 HTTP/1.1\r\n")
        assert b"\r\nx-auth-lookup: app\r\n" in head.lower()


def test_an_app_that_keeps_it_from_the_principal_is_403(world: World) -> None:
    before = world.sidecar.metric("sidecar_dep_errors_total", dep="lookup")
    for status in (403, 404):
        world.script(answers(json_answer(b"{}", status)))
        assert world.sidecar.get("/mine/1", world.token).code == "denied_by_policy"
        assert world.sidecar.decisions()[-1]["code"] == "resource_missing"
    assert world.sidecar.metric("sidecar_dep_errors_total", dep="lookup") == before
    assert all(b"\r\nx-auth-subject: a-1\r\n" in head.lower() for head in world.asked)


# --- functions ---

FUNCTION = {
    "slow": "lookup_timeout",
    "raises": "lookup_unavailable",
    "exits": "lookup_unavailable",
    "garbage": "lookup_bad_answer",
    "garbage: a list": "lookup_bad_answer",
    "garbage: Decimal": "lookup_bad_answer",
    "garbage: NaN": "lookup_bad_answer",
    "garbage: nested": "lookup_bad_answer",
    "garbage: large": "lookup_bad_answer",
    "contradicting: id": "lookup_mismatch",
    "contradicting: missing": "lookup_mismatch",
    "contradicting: type": "lookup_mismatch",
}


@pytest.mark.parametrize("path", ["/plain/1", "/later/1"])
@pytest.mark.parametrize("fault", FUNCTION)
def test_a_function_that_fails_is_503(world: World, fault: str, path: str) -> None:
    world.fault.write_text(fault)
    assert_refused(world, path, FUNCTION[fault])
    assert "hunter2" not in world.sidecar.log()


def test_an_async_function_that_blocks_holds_up_nobody_else(world: World) -> None:
    world.fault.write_text("slow: it blocks")
    assert_refused(world, "/later/1", "lookup_timeout")
    started = time.monotonic()
    assert world.sidecar.get("/plain/1", world.token).status == 200
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("path", ["/plain/1", "/later/1"])
def test_a_function_that_knows_no_such_thing_is_403_and_no_fault(world: World, path: str) -> None:
    before = world.sidecar.metric("sidecar_dep_errors_total", dep="lookup")
    world.fault.write_text("none")
    assert world.sidecar.get(path, world.token).code == "denied_by_policy"
    assert world.sidecar.metric("sidecar_dep_errors_total", dep="lookup") == before


def test_the_matrix_has_no_empty_cell() -> None:
    """A function answers at once or not at all: nothing of it drips, and no part of it comes."""
    for fault in ("slow", "garbage", "contradicting"):
        assert any(name.startswith(fault) for name in FUNCTION)
