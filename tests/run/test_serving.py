"""The real process: started, reloaded, drained and stopped under load, and no request is lost."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from sidecar.config.settings import read_settings, understand
from sidecar.net.limits import Drain
from sidecar.run import serving
from sidecar.run.parts import prepare
from tests.conftest import Stack, policies
from tests.run.test_workers import children, workers_of
from tests.stack import Recorder, Sidecar, running_sidecar, wait_for


def upstream_of(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.upstream.port}"


@pytest.fixture
def own(stack: Stack, tmp_path: Path) -> contextlib.AbstractContextManager[Sidecar]:
    return running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), stack.environ)


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_it_is_small(stack: Stack) -> None:
    """A loose bound: the figures of the release, and how soon it is ready, are measured apart."""
    assert rss_mb(stack.sidecar.pid) < 100


def test_a_running_request_ends_before_the_sidecar_does(
    stack: Stack, own: contextlib.AbstractContextManager[Sidecar]
) -> None:
    go_on = threading.Event()

    def slow(_: Recorder, connection: socket.socket, __: object) -> None:
        go_on.wait(10)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    stack.upstream.reset(slow)
    with own as sidecar, closing(socket.create_connection(("127.0.0.1", sidecar.port), 10)) as client:
        client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: stack.upstream.seen)
        os.kill(sidecar.pid, signal.SIGTERM)
        wait_for(lambda: _refused(sidecar.port), what="no new connection is taken")
        go_on.set()
        data = b""
        while part := client.recv(65536):
            data += part
        assert data.endswith(b"late")
        assert b"connection: close" in data
        assert sidecar.process._child.wait(10) == 0


async def test_the_server_keeps_idle_connections_as_long_as_the_setting_says(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(stack.routes)
    settings = {
        **stack.environ, "SIDECAR_UPSTREAM": upstream_of(stack), "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
        "SIDECAR_CERBOS": "127.0.0.1:1",
    }  # fmt: skip
    for given, seconds in (({}, 75), ({"SIDECAR_KEEP_ALIVE": "2m"}, 120)):
        environ = settings | given
        process = serving.Sidecar(prepare(understand(environ, {}), environ), None)
        assert process._traffic_server(Drain()).config.timeout_keep_alive == seconds
        await process.aclose()


def test_a_worker_inherits_each_socket_by_its_setting(tmp_path: Path) -> None:
    """Of the two of Envoy's doors either may be there alone."""
    environ = {
        "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_LISTEN": f"unix:{tmp_path}/traffic",
        "SIDECAR_ADMIN_LISTEN": f"unix:{tmp_path}/admin", "SIDECAR_EXT_PROC_LISTEN": f"unix:{tmp_path}/proc",
    }  # fmt: skip
    settings = read_settings(environ, {})
    opened = serving.Sockets.open(settings)
    inherited = serving.Sockets.inherit(settings, [os.dup(number) for number in opened.numbers()])
    assert inherited.ext_authz is None
    assert inherited.ext_proc is not None
    assert [sock.getsockname() for sock in inherited if sock is not None] == [
        f"{tmp_path}/traffic", f"{tmp_path}/admin", f"{tmp_path}/proc",
    ]  # fmt: skip
    for sock in (*opened, *inherited):
        if sock is not None:
            sock.close()


async def test_the_collector_is_on_again_when_it_serves(stack: Stack, tmp_path: Path) -> None:
    """`sidecar run` turns it off for the start."""
    (tmp_path / "routes.yaml").write_text(stack.routes)
    environ = {
        **stack.environ, "SIDECAR_UPSTREAM": upstream_of(stack), "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
        "SIDECAR_CERBOS": "127.0.0.1:1", "SIDECAR_DRAIN_DELAY": "0s",
        "SIDECAR_LISTEN": f"unix:{tmp_path}/traffic", "SIDECAR_ADMIN_LISTEN": f"unix:{tmp_path}/admin",
    }  # fmt: skip
    process = serving.Sidecar(prepare(understand(environ, {}), environ), None)
    sockets = serving.Sockets.open(read_settings(environ, {}))
    collects = []

    def started() -> None:
        collects.append(gc.isenabled())
        os.kill(os.getpid(), signal.SIGTERM)

    gc.disable()
    try:
        await process.run(sockets, started)
    finally:
        gc.enable()
    assert collects == [True]


CLIENTS = 4
PATIENT = {"SIDECAR_CERBOS_TIMEOUT": "30s"}
"""Nothing that only takes long, on a machine under load, is to look like a request that was lost."""


def patient(stack: Stack) -> str:
    """The routes, with as much time for the hook."""
    return stack.routes.replace("timeout: 2s", "timeout: 30s")


class Load:
    """Clients that keep their connections and ask one request after the other, as long as the load balancer finds us ready."""

    def __init__(self, sidecar: Sidecar, token: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self._sidecar = sidecar
        self._token = token
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_for(lambda: self.outcomes["200"] > 2 * CLIENTS)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def lost(self) -> dict[str, int]:
        return {outcome: count for outcome, count in self.outcomes.items() if outcome != "200"}

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._sidecar.port, timeout=20)
        with contextlib.closing(connection):
            while not self._stop.is_set():
                try:
                    connection.request("GET", "/contacts/1", headers={"authorization": f"Bearer {self._token}"})
                    answer = connection.getresponse()
                    body = answer.read()
                    self.outcomes["200" if answer.status == 200 else json.loads(body)["code"]] += 1
                except (OSError, http.client.HTTPException) as error:
                    self.outcomes[type(error).__name__] += 1
                    connection.close()
                # what is to be seen is a reload beside requests, not how many a machine can take
                self._stop.wait(0.005)


class ConfigMap:
    """A folder as kubelet keeps it: the file is a link into `..data`, a link to a folder that is replaced whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.path = folder / "routes.yaml"

    def put(self, text: str) -> None:
        """Replace the content as kubelet does: a new folder, and one rename."""
        self._count += 1
        made = self._folder / f"..v{self._count}"
        made.mkdir(parents=True)
        (made / "routes.yaml").write_text(text)
        link = self._folder / "..data_tmp"
        link.symlink_to(made.name)
        os.replace(link, self._folder / "..data")
        if not self.path.is_symlink():
            self.path.symlink_to("..data/routes.yaml")


def readyz(sidecar: Sidecar) -> tuple[int, dict[str, object]]:
    got = sidecar.admin("/readyz")
    return got.status, json.loads(got.body)


def allows(sidecar: Sidecar, path: str) -> bool:
    return sidecar.get(path).status == 200


def ended(connection: socket.socket) -> bool:
    connection.settimeout(10)
    return connection.recv(1) == b""


@pytest.fixture
def reloading(stack: Stack, tmp_path: Path) -> Iterator[tuple[Sidecar, ConfigMap]]:
    config = ConfigMap(tmp_path / "config")
    config.put(patient(stack))
    environ = {**stack.environ, **PATIENT, "SIDECAR_ROUTES": str(config.path), "SIDECAR_DRAIN_DELAY": "1s"}
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path, patient(stack), policies(), upstream, environ) as sidecar:
        yield sidecar, config


def test_a_hundred_reloads_and_a_drain_lose_no_request(
    stack: Stack, reloading: tuple[Sidecar, ConfigMap], record_property: Callable[[str, object], None]
) -> None:
    sidecar, config = reloading
    token, routes = stack.tokens["alice"], patient(stack)
    identity = (
        f"identity: [{{region: {stack.cognito.region}, user_pool_id: {stack.cognito.pool_id}, "
        f"client_ids: [{stack.cognito.client_id}, another]}}]\n"
    )
    with Load(sidecar, token) as load:
        for number in range(1, 101):
            # every other one changes who is trusted too: then keys are fetched anew
            text = routes if number % 2 else routes + identity
            config.put(text.replace("routes:\n", f"routes:\n  - {{path: /extra-{number}, access: public}}\n"))
            os.kill(sidecar.pid, signal.SIGHUP)
            wait_for(partial(allows, sidecar, f"/extra-{number}"), what=f"reload {number}")
        assert (load.lost, sidecar.get("/extra-100").status, sidecar.get("/extra-99").status) == ({}, 200, 403)
        reloaded = load.outcomes["200"]
        record_property("requests during 100 reloads", reloaded)
        assert reloaded > 100

        # a swap of the link alone is noticed; what cannot be used is told, and nothing else happens
        config.put(f"{routes}  - {{path: /swapped, access: public}}\n")
        wait_for(lambda: sidecar.get("/swapped").status == 200, what="the swap is noticed")
        config.put("version: 1\nroutes: nonsense\n")
        wait_for(lambda: readyz(sidecar)[1]["reload"] != "ok", what="the fault is told")
        status, said = readyz(sidecar)
        assert (status, said["ready"], said["reload"]) == (200, True, f"failed: {config.path}:2:9")
        assert "routes not reloaded" in sidecar.log()
        assert sidecar.metric("sidecar_config_reload_success") == 0
        # the watch may have come upon a change before the signal did
        assert sidecar.metric("sidecar_config_reloads_total", outcome="failed") >= 1
        assert sidecar.metric("sidecar_config_generation") >= 102
        assert sidecar.get("/swapped").status == 200
        config.put(routes)
        wait_for(lambda: readyz(sidecar)[1]["reload"] == "ok", what="the fault is mended")
        assert sidecar.metric("sidecar_config_reload_success") == 1
        assert sidecar.metric("sidecar_key_age_seconds") < 60
        assert time.time() - sidecar.metric("sidecar_config_loaded_timestamp_seconds") < 60

        noticed, gone = drain(sidecar, token, load)
        record_property("seconds from SIGTERM to 503, and to the end", (noticed, gone))
        assert load.lost == {}


def drain(sidecar: Sidecar, token: str, load: Load) -> tuple[float, float]:
    """Tell it to go; the load balancer looks at it every 20 ms. -> seconds until it was not ready, and to the end."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", sidecar.port))) as idle:
        began = time.monotonic()
        os.kill(sidecar.pid, signal.SIGTERM)
        wait_for(lambda: readyz(sidecar)[0] == 503, what="readiness ends first")
        noticed = time.monotonic() - began
        assert readyz(sidecar)[1] | {"reload": ""} == {
            "ready": False, "cerbos": True, "keys": True, "routes": True, "log": True, "serving": False, "reload": "",
            "policies": "ok", "mode": "enforce",
        }  # fmt: skip
        # one that has not noticed yet is still served, and asked to come no more
        late = sidecar.get("/contacts/1", token)
        assert (late.status, late.header("connection")) == (200, "close")
        load.stop()
        assert ended(idle)
    assert sidecar.process._child.wait(20) == 0
    return noticed, time.monotonic() - began


def test_every_worker_reloads_one_that_dies_is_counted_and_all_drain(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, **PATIENT, "SIDECAR_WORKERS": "2", "SIDECAR_DRAIN_DELAY": "1s"}
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    token, routes = stack.tokens["alice"], patient(stack)
    with running_sidecar(tmp_path, routes, policies(), upstream, environ) as sidecar:
        workers = workers_of(sidecar.pid)
        (cerbos,) = children(sidecar.pid, "cerbos.*server")
        wait_for(lambda: sidecar.metric("sidecar_workers") == 2, what="both are counted")
        assert sidecar.metric("sidecar_config_agreed") == 1
        (tmp_path / "routes.yaml").write_text(routes + "  - {path: /extra, access: public}\n")
        decisions, rotated = tmp_path / "decisions.jsonl", tmp_path / "decisions.jsonl.1"
        decisions.rename(rotated)
        os.kill(sidecar.pid, signal.SIGHUP)
        wait_for(lambda: sidecar.metric("sidecar_config_reloads_total", outcome="ok") >= 2, what="both reload")
        assert [sidecar.get("/extra").status for _ in range(20)] == [200] * 20
        # the log was opened anew by both
        wait_for(lambda: len(decisions.read_text().splitlines()) == 20)
        assert rotated.read_text() == ""

        assert [sidecar.get("/contacts/1", token).status for _ in range(20)] == [200] * 20
        wait_for(lambda: sidecar.metric("sidecar_requests_total", code="allowed") == 20, what="they count as one")
        # what they have counted outlives them
        time.sleep(2 * 0.5)
        victim = min(workers)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: sidecar.metric("sidecar_worker_restarts_total") == 1, what="the death is counted")
        assert "ended with -9, starting another in 0.1 s" in sidecar.log()
        wait_for(lambda: sidecar.metric("sidecar_workers") == 2, 60, "another serves in its place")
        assert sidecar.metric("sidecar_requests_total", code="allowed") == 20
        assert sidecar.metric("sidecar_stage_seconds_count", stage="decision") == 20
        assert sidecar.metric("sidecar_config_agreed") == 1
        wait_for(lambda: sidecar.metric("sidecar_ready", part="keys") == 1, 60, "all have keys")

        everybody = workers_of(sidecar.pid) | {cerbos}
        with Load(sidecar, token) as load:
            os.kill(sidecar.pid, signal.SIGTERM)
            wait_for(lambda: readyz(sidecar)[0] == 503, what="readiness ends first")
            load.stop()
            assert load.lost == {}
        assert sidecar.process._child.wait(20) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in everybody)
        for line in sidecar.log().splitlines():
            assert set(json.loads(line)) >= {"time", "level", "logger", "message"}, line
