"""A real Redis as a process, which tests may stop, pause, and set up as they like."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.paused import pause, resume
from tests.stack import free_port

PATIENT = 5.0
"""Seconds of an operation where a test is not about them: a machine with much to do is no fault of Redis."""
BINARY = shutil.which("redis-server")
NEEDS_REDIS = pytest.mark.skipif(BINARY is None, reason="redis-server is not installed")


class RedisServer:
    """An empty Redis in `folder` on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.client = Redis(host="127.0.0.1", port=self.port, socket_timeout=5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.kill()

    def start(self) -> None:
        """Start it, with nothing of what it had."""
        assert BINARY is not None
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([BINARY, *options, "--dir", str(self._folder)], stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, "Redis did not start within 10 s"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once: its port is closed, and what it had is gone."""
        if self._process is not None:
            self.resume()
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it hang: connections are taken by the kernel, and nothing is answered."""
        assert self._process is not None
        pause(self._process.pid)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        resume(self._process.pid)

    def clean(self) -> None:
        """As if just started."""
        if self._process is None:
            self.start()
        self.resume()
        self.command("REPLICAOF", "NO", "ONE")
        self.command("CONFIG", "SET", "maxmemory", "0")
        self.command("FLUSHALL")

    def command(self, *words: str | bytes | int) -> Any:
        """What it answers to a command."""
        return self.client.execute_command(*words)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return bool(self.client.ping())
        except (OSError, RedisError):
            return False
