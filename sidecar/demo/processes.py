"""The demo's processes: each leads a group of its own, dies with us, and is stopped with all of its group."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from sidecar.tether import tethered

LOOPBACK = "127.0.0.1"
LAST_LINES = 15
STOP_SECONDS = 5.0
_POLL_SECONDS = 0.05


class DemoError(Exception):
    """The demo cannot run; the message is for its user and says what to do, or what a process said last."""


class Process:
    """A started child: `command` in `folder`, with this environment and no input; its words are in `<name>.log` there.

    With `speaks` its standard output stays ours, and only its errors go to the log.
    """

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environ: Mapping[str, str], *, speaks: bool = False
    ) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            # in a session of its own, it does not get the terminal's Ctrl-C: we stop all in order
            self._child = subprocess.Popen(  # noqa: S603 - our own command line, given as a list
                tethered(command),
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=None if speaks else log,
                stderr=log,
                start_new_session=True,
            )

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        ready: Callable[[], bool],
        *,
        speaks: bool = False,
    ) -> Self:
        """A child that is ready. Raises DemoError, and leaves none, when it does not get so far."""
        process = cls(name, command, folder, environ, speaks=speaks)
        try:
            process.wait_until(ready)
        except BaseException:
            process.stop()
            raise
        return process

    @property
    def pid(self) -> int:
        """The process id, which is that of its group too."""
        return self._child.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until(self, ready: Callable[[], bool], seconds: float = 60.0) -> None:
        """Return when `ready()`. Raises DemoError when the process ends before, or is not ready in time."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"{self.name} was not ready after {seconds:.0f} s{self._words()}")
            time.sleep(_POLL_SECONDS)
        # somebody else may have answered on its port
        self.check()

    def check(self) -> None:
        """Raises DemoError when the process has ended."""
        status = self._child.poll()
        if status is not None:
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            raise DemoError(f"{self.name} ended {how}{self._words()}")

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM to its group, SIGKILL to what is left of it after `seconds`; it is gone when this returns."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(seconds)
        self._signal(signal.SIGKILL)
        self._child.wait()

    def _signal(self, number: signal.Signals) -> None:
        # macOS answers EPERM for a group in which only a zombie is left
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return "".join(f"\n  | {line}" for line in lines) or ", without a word"


def can_listen(port: int) -> bool:
    """Return whether a server may listen on this port of the loopback interface.

    Asked with SO_REUSEADDR, as the servers do: connections of the last run that linger in TIME_WAIT are no obstacle.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
        return True


def status_of(port: int, path: str) -> int:
    """The status of GET `path` on this port, 0 where nobody answers."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
