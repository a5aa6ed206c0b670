"""Logs that cannot be written: stdout and stderr that nobody reads, and a disk that is full."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest

from sidecar.demo.processes import status_of
from tests.conftest import Stack, policies
from tests.forked import Forked
from tests.record.test_rotated_file import mounted
from tests.stack import Got, Sidecar, free_port, running_sidecar, wait_for

ROUTES = "version: 1\nroutes: [{path: /public, access: public}]\n"
LONG = "/" + "/".join(["a" * 60] * 120)


@pytest.fixture
def unread(stack: Stack, tmp_path: Path) -> Iterator[tuple[Sidecar, IO[bytes]]]:
    """A sidecar whose stdout and stderr are one pipe, which nobody reads."""
    (tmp_path / "routes.yaml").write_text(ROUTES)
    port, admin_port = free_port(), free_port()
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SIDECAR_", "AWS_"))},
        **stack.environ, "SIDECAR_UPSTREAM": f"http://127.0.0.1:{stack.upstream.port}", "SIDECAR_CERBOS": "127.0.0.1:1",
        "SIDECAR_LISTEN": f"127.0.0.1:{port}", "SIDECAR_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
        "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
    }  # fmt: skip
    command = [sys.executable, "-m", "sidecar.cli", "run"]
    os.mkfifo(tmp_path / "sidecar.log")
    # open before anybody writes, which nobody could otherwise
    with open(os.open(tmp_path / "sidecar.log", os.O_RDONLY | os.O_NONBLOCK), "rb") as said:
        os.set_blocking(said.fileno(), True)
        with Forked.start(
            "sidecar", command, tmp_path, environ, lambda: status_of(admin_port, "/livez") == 200
        ) as process:
            yield Sidecar(process, port, admin_port, tmp_path, 0.0), said


def fill(port: int) -> int:
    """Ask until a request is refused for the log; how many were not."""
    with closing(socket.create_connection(("127.0.0.1", port), 10)) as client:
        answers = client.makefile("rb")
        for count in range(2000):
            client.sendall(f"GET {LONG} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = list(iter(answers.readline, b"\r\n"))
            (length,) = (int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length"))
            if b"log_unavailable" in answers.read(length):
                return count
    raise AssertionError("never refused")


def test_a_log_that_nobody_reads_refuses_and_holds_nobody_up(stack: Stack, unread: tuple[Sidecar, IO[bytes]]) -> None:
    sidecar, said = unread
    stack.upstream.reset()
    taken = fill(sidecar.port)
    got: Got = sidecar.get("/public")
    assert (got.status, got.code, got.header("retry-after")) == (503, "log_unavailable", "2")
    assert sidecar.get("/_sidecar/whoami").code == "log_unavailable"
    assert stack.upstream.seen == []
    assert sidecar.admin("/livez").status == 200
    ready = sidecar.admin("/readyz")
    assert (ready.status, json.loads(ready.body)["log"]) == (503, False)
    assert sidecar.metric("sidecar_ready", part="log") == 0
    assert sidecar.metric("sidecar_decision_log_waiting_bytes") > 4_000_000
    assert sidecar.metric("sidecar_decision_log_lost_total") == 2

    lines: list[bytes] = []
    reader = threading.Thread(target=lambda: lines.extend(said))
    reader.start()
    wait_for(lambda: sidecar.get("/public").status == 200, what="the reader is back")
    assert sidecar.metric("sidecar_ready", part="log") == 1
    os.kill(sidecar.pid, signal.SIGTERM)
    assert sidecar.process._child.wait(10) == 0
    reader.join()
    decided = [json.loads(line) for line in lines if b'"event"' in line]
    assert [line["code"] for line in decided] == ["route_unmapped"] * taken + ["public"]
    assert any(b"nobody reads it" in line for line in lines)


def test_sigterm_ends_it_while_nobody_reads(unread: tuple[Sidecar, IO[bytes]]) -> None:
    sidecar, _ = unread
    fill(sidecar.port)
    os.kill(sidecar.pid, signal.SIGTERM)
    assert sidecar.process._child.wait(10) == 0


def test_a_question_log_on_a_full_disk_stops_and_requests_go_on(stack: Stack, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        (disk / "filling").write_bytes(b"x" * 64 * 1024)
        path = disk / "questions.jsonl"
        environ = {**stack.environ, "SIDECAR_QUESTION_LOG": str(path)}
        upstream = f"http://127.0.0.1:{stack.upstream.port}"
        with running_sidecar(tmp_path / "run", stack.routes, policies(), upstream, environ, shared=True) as sidecar:
            assert sidecar.get("/public").status == 200
            wait_for(lambda: sidecar.metric("sidecar_question_log_stopped") == 1)
            assert sidecar.get("/contacts/1", stack.tokens["alice"]).status == 200
            assert f"the question log {path} cannot be written (No space left on device)" in sidecar.log()
            assert json.loads(sidecar.admin("/config").body)["question_log"]["fault"] == "No space left on device"
            assert sidecar.admin("/readyz").status == 200
        assert "2 requests are not in it" in sidecar.log()
