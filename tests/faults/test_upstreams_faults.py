"""The column of the fault matrix for one of several apps: what fails there is told of it alone, while the others serve."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.conftest import policies
from tests.faults.fakes import FakeCerbos
from tests.faults.test_faults import UPSTREAM, environment
from tests.stack import Answer, Recorder, Seen, Sidecar, Web, free_port, reply, running_sidecar, wait_for
from tests.tokens import key_set

ROUTES = """\
version: 1
upstreams:
  broken: {{url: "http://127.0.0.1:{broken}", head_timeout: 300ms}}
  slow: "http://127.0.0.1:{slow}"
  down: "http://127.0.0.1:{down}"
  well: "http://127.0.0.1:{well}"
routes:
  - {{path: "/app/**", hosts: [broken.test], upstream: broken, access: public}}
  - {{path: "/app/**", hosts: [slow.test], upstream: slow, access: public}}
  - {{path: "/app/**", hosts: [down.test], upstream: down, access: public}}
  - {{path: "/app/**", hosts: [well.test], upstream: well, access: public}}
"""
SHARE = 256
"""Connections to one app that one client gets, of 512."""


@dataclass
class World:
    """One sidecar before four apps; nobody listens where `down` was."""

    sidecar: Sidecar
    broken: Recorder
    slow: Recorder
    well: Recorder

    def well_serves(self) -> None:
        """Ask the app that is well, which has nothing to do with the others' faults."""
        self.well.reset()
        started = time.monotonic()
        assert self.sidecar.get("/app/a", Host="well.test").status == 200
        assert time.monotonic() - started < 2
        assert len(self.well.seen) == 1

    def left_alone(self, name: str) -> bool:
        """Whether the breaker of an app is open, as the metrics say."""
        text = self.sidecar.admin("/metrics").body.decode()
        return f'sidecar_breaker_open{{dep="upstream",name="{name}"}} 1.0' in text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, cerbos = Web(), FakeCerbos()
    keys.json("/jwks", key_set())
    broken, slow, well = Recorder(), Recorder(), Recorder()
    routes = ROUTES.format(broken=broken.port, slow=slow.port, well=well.port, down=free_port())
    environ = {**environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}"}
    environ["SIDECAR_UPSTREAM_HEAD_TIMEOUT"] = "30s"
    with running_sidecar(tmp_path_factory.mktemp("upstreams-faults"), routes, policies(), "", environ) as sidecar:
        yield World(sidecar, broken, slow, well)
    for part in (keys, cerbos, broken, slow, well):
        part.close()


@pytest.mark.parametrize("fault", UPSTREAM)
def test_an_app_that_fails_is_told_of_it_alone(world: World, fault: str) -> None:
    answer, status, code, reason = UPSTREAM[fault]
    world.broken.reset(answer)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(world.sidecar.get, "/app/a", Host="broken.test")
        wait_for(lambda: world.broken.seen, what="the request is at the app")
        world.well_serves()
        got = asking.result(10)
    assert (got.status, got.code) == (status, code)
    lines = {line["upstream"]: line for line in world.sidecar.decisions()[-2:]}
    assert (lines["broken"]["outcome"], lines["broken"]["code"], lines["broken"]["host"]) == (
        "allow",
        code,
        "broken.test",
    )
    assert lines["broken"]["detail"].partition(":")[0] == reason
    assert (lines["well"]["code"], lines["well"]["status"]) == ("public", 200)
    assert f"upstreams.broken: http://127.0.0.1:{world.broken.port}: found {reason}" in world.sidecar.log()
    assert f"upstreams.well: http://127.0.0.1:{world.well.port}: found" not in world.sidecar.log()
    assert not world.left_alone("well")


def test_an_app_that_is_down_is_left_alone_while_the_others_serve(world: World) -> None:
    codes = []
    for _ in range(7):
        codes.append(world.sidecar.get("/app/a", Host="down.test").code)
        world.well_serves()
    assert codes == ["upstream_unavailable"] * 5 + ["upstream_open"] * 2
    assert world.sidecar.admin("/readyz").status == 200
    assert [name for name in ("broken", "slow", "down", "well") if world.left_alone(name)] == ["down"]


def held(until: threading.Event) -> Answer:
    def answer(app: Recorder, connection: socket.socket, seen: Seen) -> None:
        until.wait(30)
        reply()(app, connection, seen)

    return answer


def test_an_app_that_keeps_its_connections_takes_none_of_the_others(world: World) -> None:
    let_go = threading.Event()
    world.slow.reset(held(let_go))

    def used() -> float:
        return world.sidecar.metric("sidecar_upstream_connections", upstream="slow", state="busy")

    with ExitStack() as clients:
        for _ in range(SHARE):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", world.sidecar.port)))
            client.sendall(b"GET /app/a HTTP/1.1\r\nHost: slow.test\r\n\r\n")
        wait_for(lambda: used() == SHARE, 10, "the share of this client is used up")
        assert world.sidecar.get("/app/a", Host="slow.test").code == "upstream_busy"
        for _ in range(3):
            world.well_serves()
        let_go.set()
    wait_for(lambda: world.sidecar.get("/app/a", Host="slow.test").status == 200, 10, "the app is taken back")
