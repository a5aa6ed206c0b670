"""The column of the fault matrix for a PDP that speaks AuthZEN: each fault is 503, with its code and nothing upstream."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import fakes
from tests.faults.fakes import Scripted, answers, dripping, json_answer
from tests.faults.test_faults import ROUTES, assert_refused, environment, token
from tests.stack import ROOT, Recorder, Sidecar, Web, free_port, running_sidecar, wait_for
from tests.tokens import key_set

ENDPOINT = "http://127.0.0.1/access/v1/evaluation"


def saying(value: Any, status: int = 200, kind: str = "application/json") -> bytes:
    """An answer that is metadata, too: so the one script also says that the PDP serves."""
    return json_answer(json.dumps({"access_evaluation_endpoint": ENDPOINT, **value}).encode(), status, kind)


GOOD = saying({"decision": True})


class World:
    """One sidecar, whose PDP may fail; in the shape that `assert_refused` takes."""

    def __init__(self, pdp: Scripted, upstream: Recorder, sidecar: Sidecar) -> None:
        self.pdp = pdp
        self.upstream = upstream
        self.sidecar = sidecar
        self.token = token()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, pdp, upstream = Web(), Scripted(answers(GOOD)), Recorder()
    keys.json("/jwks", key_set())
    environ = {**environment(keys.port), "SIDECAR_PDP": f"authzen+http://127.0.0.1:{pdp.port}"}
    folder = tmp_path_factory.mktemp("pdp-faults")
    where = f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(folder, ROUTES.format(hook=1), ROOT / "policies", where, environ) as sidecar:
        yield World(pdp, upstream, sidecar)
    for part in (keys, pdp, upstream):
        part.close()


@pytest.fixture
def world(shared: World) -> World:
    """Everything well again, the breaker closed."""
    shared.pdp.script = answers(GOOD)
    wait_for(lambda: shared.sidecar.get("/plain", shared.token).status == 200, 10, "all is well")
    shared.upstream.reset()
    return shared


PDP = {
    "slow": (fakes.silent, "pdp_timeout"),
    "drip": (dripping(GOOD), "pdp_timeout"),
    "garbage": (answers(b"nonsense\r\n\r\n"), "pdp_bad_answer"),
    "garbage: JSON": (answers(json_answer(b'{"decision": tru')), "pdp_bad_answer"),
    "garbage: doubled": (answers(json_answer(b'{"decision": false, "decision": true}')), "pdp_bad_answer"),
    "garbage: NaN": (answers(json_answer(b'{"decision": true, "x": NaN}')), "pdp_bad_answer"),
    "garbage: a string": (answers(saying({"decision": "true"})), "pdp_bad_answer"),
    "garbage: nested": (answers(json_answer(b"[" * 60000)), "pdp_bad_answer"),
    "garbage: large": (answers(saying({"decision": True, "x": "a" * 2**20})), "pdp_bad_answer"),
    "wrong type": (answers(saying({"decision": True}, kind="text/html")), "pdp_status"),
    "wrong status: 500": (answers(saying({"decision": True}, 500)), "pdp_status"),
    "wrong status: 401": (answers(saying({"decision": True}, 401)), "pdp_status"),
    "wrong status: 403": (answers(saying({"decision": True}, 403)), "pdp_status"),
    "wrong status: 302": (
        answers(b"HTTP/1.1 302 X\r\nLocation: /access/v1/other\r\nContent-Length: 0\r\n\r\n"), "pdp_status",
    ),
    "partial": (answers(GOOD[:-5], then_wait=False), "pdp_partial"),
    "partial: reset": (fakes.resetting, "pdp_unavailable"),
    "partial: an error inside": (
        answers(saying({"decision": False, "context": {"error": {"status": 500}}})), "pdp_status",
    ),
    "contradicting: an obligation": (
        answers(saying({"decision": True, "context": {"obligations": [{"id": "mask"}]}})), "obligation_unknown",
    ),
    "contradicting: a list": (answers(saying({"evaluations": [{"decision": True}]})), "pdp_bad_answer"),
    "contradicting: request id": (
        answers(GOOD.replace(b"\r\n\r\n", b"\r\nX-Request-ID: other\r\n\r\n", 1)), "pdp_mismatch",
    ),
    "contradicting: explanation": (
        answers(saying({"decision": True, "context": {"cerbos.response": {"requestId": "other", "results": []}}})),
        "pdp_mismatch",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", PDP)
def test_a_pdp_that_fails_is_503(world: World, fault: str) -> None:
    world.pdp.script, code = PDP[fault]
    assert_refused(world, "/plain", 503, code, "pdp", code.partition("_")[2])  # type: ignore[arg-type]


def test_a_deny_is_403_and_no_fault(world: World) -> None:
    before = world.sidecar.metric("sidecar_dep_errors_total", dep="pdp")
    world.pdp.script = answers(saying({"decision": False}))
    got = world.sidecar.get("/plain", world.token)
    assert (got.status, got.code) == (403, "denied_by_policy")
    assert world.sidecar.metric("sidecar_dep_errors_total", dep="pdp") == before
    assert world.upstream.received == b""


def test_one_that_flaps_is_refused_exactly_when_it_fails(world: World) -> None:
    statuses = []
    for turn in range(12):
        world.pdp.script = fakes.resetting if turn % 2 else answers(GOOD)
        statuses.append(world.sidecar.get("/plain", world.token).status)
    assert statuses == [200, 503] * 6


def test_one_that_keeps_failing_is_left_alone_and_taken_back(world: World) -> None:
    world.pdp.script = fakes.resetting
    for _ in range(5):
        assert world.sidecar.get("/plain", world.token).code == "pdp_unavailable"
    assert_refused(world, "/plain", 503, "pdp_open", "pdp", "open")  # type: ignore[arg-type]
    # it is not ready either, and becomes ready without anybody's request
    wait_for(lambda: world.sidecar.admin("/readyz").status == 503)
    world.pdp.script = answers(GOOD)
    wait_for(lambda: world.sidecar.admin("/readyz").status == 200)
    started = time.monotonic()
    wait_for(lambda: world.sidecar.get("/plain", world.token).status == 200, 10)
    assert time.monotonic() - started < 8


def test_one_that_is_down_is_503_and_not_ready(world: World, tmp_path: Path) -> None:
    keys = Web()
    keys.json("/jwks", key_set())
    environ = {**environment(keys.port), "SIDECAR_PDP": f"authzen+http://127.0.0.1:{free_port()}"}
    upstream = f"http://127.0.0.1:{world.upstream.port}"
    with running_sidecar(tmp_path, ROUTES.format(hook=1), ROOT / "policies", upstream, environ, ready=False) as sidecar:
        wait_for(lambda: b'"keys":true' in sidecar.admin("/readyz").body)
        assert sidecar.get("/plain", world.token).code == "pdp_unavailable"
        assert sidecar.admin("/readyz").status == 503
    keys.close()
    assert world.upstream.received == b""


def test_the_column_has_no_empty_cell() -> None:
    for fault in ("slow", "drip", "garbage", "wrong", "partial", "contradicting"):
        assert any(name.startswith(fault) for name in PDP), fault
