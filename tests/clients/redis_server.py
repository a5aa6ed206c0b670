"""A real Redis for tests: a process of its own on a free port, with nothing of an earlier one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Self

import pytest

from sidecar.demo.processes import Process
from tests.stack import free_port

BINARY = shutil.which("redis-server")
NEEDS_REDIS = pytest.mark.skipif(BINARY is None, reason="redis-server is not installed")


class RedisServer:
    """Running from the constructor on. `url` is how to reach it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        command = [
            str(BINARY), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", str(folder), *options,
        ]  # fmt: skip
        self._process = Process.start("redis", command, folder, os.environ, self._answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self._process.stop()

    def pause(self) -> None:
        """Let it answer nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self._process.pid, signal.SIGCONT)

    def say(self, *words: str) -> bytes:
        """Send a command, and give the first of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
            connection.sendall(b"*%d\r\n%s" % (len(words), parts))
            return connection.recv(65536)

    def _answers(self) -> bool:
        try:
            return self.say("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
