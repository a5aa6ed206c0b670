"""A sidecar that does not answer: the proxy asks it once, says so in its time, and sends nothing to the app."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sidecar.demo.processes import Process
from tests.foreign.ways import haproxy, listens, search_path
from tests.foreign.world import Guest, World
from tests.hostile.wire import Reply
from tests.stack import Recorder, Seen, Sidecar, free_port

HAPROXY = shutil.which("haproxy", path=search_path())
pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")


class Silent:
    """A sidecar that reads each question and answers none, and the app behind the proxy."""

    def __init__(self) -> None:
        self.app, self.sidecar = Recorder(), Recorder()
        self._over = threading.Event()
        self.sidecar.answer = self._wait

    def _wait(self, _: Recorder, __: Any, ___: Seen) -> None:
        self._over.wait()

    def close(self) -> None:
        """Let go of whoever waits."""
        self._over.set()
        self.app.close()
        self.sidecar.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    made = Silent()
    yield made
    made.close()


@contextlib.contextmanager
def before(app: Recorder, sidecar: int, folder: Path, time_out: str) -> Iterator[int]:
    """HAProxy with deploy/haproxy before an app and the port of a sidecar, where the question has this time: its port."""
    port = free_port()
    parts = SimpleNamespace(app=app), SimpleNamespace(port=sidecar)
    command, environ = haproxy(cast(World, parts[0]), folder, cast(Sidecar, parts[1]), port)
    file = folder / "haproxy.cfg"
    text = file.read_text()
    assert text.count("timeout server 5s") == 1
    file.write_text(text.replace("timeout server 5s", f"timeout server {time_out}"))
    command[0] = str(HAPROXY)
    with Process.start("haproxy", command, folder, {**os.environ, **environ}, lambda: listens(port)):
        yield port


def test_one_slow_answer_is_one_question(silent: Silent, tmp_path: Path) -> None:
    with before(silent.app, silent.sidecar.port, tmp_path, "300ms") as port:
        reply = _send(port)
        assert reply.status == 504
        assert [seen.target for seen in silent.sidecar.seen] == ["/_sidecar/authorize"]
        assert silent.app.seen == []


def test_a_sidecar_that_is_down_is_told_at_once(silent: Silent, tmp_path: Path) -> None:
    with before(silent.app, free_port(), tmp_path, "30s") as port:
        assert _send(port).status == 503
        assert silent.app.seen == []


def _send(port: int) -> Reply:
    client = Guest(port)
    with contextlib.closing(client.socket):
        client.send(b"GET /docs/1 HTTP/1.1\r\nHost: app.test\r\n\r\n")
        return client.reply("GET")
