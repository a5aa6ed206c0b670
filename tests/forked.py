"""Processes of ours that fork from one that has imported what they need, which takes a second each time.

Such a process has its own environment, folder, files, session and end, as one that was started by its command line has them;
tests/test_cli.py, tests/demo and tests/run/test_workers.py start that.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from sidecar.demo.processes import Process
from sidecar.tether import tether, tethered

ROOT = Path(__file__).parent.parent
READ_AT_START = ("PYTHON", "LD_", "COVERAGE_")
"""Beginnings of variables that say how a process is to begin; but for PYTHONPATH, which a fork has in `sys.path`."""
LATER = {
    "sidecar.cli": (
        "sidecar.run.workers",
        "sidecar.run.sign_in",
        "sidecar.record.exposition",
        "sidecar.doors.relay",
        "jinja2",
        "uvicorn.lifespan.off",
        "uvicorn.loops.uvloop",
    ),
    "sidecar.demo.authorization_server": (
        "anyio._backends._asyncio",
        "httpcore",
        "uvicorn.lifespan.on",
        "uvicorn.loops.uvloop",
        "uvicorn.protocols.http.auto",
        "uvicorn.protocols.websockets.auto",
    ),
    "moto.server": ("moto.cognitoidp.responses", "moto.cognitoidp.urls"),
}
"""What a process that serves imports later, by its module."""
REMEMBERED: list[str] = []
"""Where Cerbos' answers are remembered, and the Cerbos (tests/cerbos_answers.py)."""


class Forked(Process):
    """A started child whose `command` is `python -m MODULE ARGUMENT...`, as `Process` is."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, environ: Mapping[str, str], *, speaks: bool = False
    ) -> None:
        if speaks or not may_fork(environ):
            super().__init__(name, command, folder, environ, speaks=speaks)
            return
        self.name = name
        self._log = folder / f"{name}.log"
        _, _, module, *arguments = command
        order = [
            arguments,
            str(folder),
            str(self._log),
            dict(environ),
            resource.getrlimit(resource.RLIMIT_NOFILE),
        ]
        self._child = _Child(stem_of(module), stem_of(module).ask("fork", *order))  # type: ignore[assignment]


def may_fork(environ: Mapping[str, str]) -> bool:
    """Return whether a process of this environment begins as one of ours does. Each counts its lines for itself."""
    names = {name for name in {*os.environ, *environ} if name.startswith(READ_AT_START)} - {"PYTHONPATH"}
    return not any(name.startswith("COVERAGE_") or os.environ.get(name) != environ.get(name) for name in names)


class _Child:
    """What `Process` needs of a child: `subprocess.Popen` of one that is the stem's child, and not ours."""

    def __init__(self, stem: Stem, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._stem = stem
        self._end = os.pidfd_open(pid)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._stem.ask("poll", self.pid)
            if self.returncode is not None:
                os.close(self._end)
        return self.returncode

    def wait(self, seconds: float | None = None) -> int:
        if self.returncode is None and not select.select([self._end], [], [], seconds)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), seconds or 0.0)
        ended = self.poll()
        assert ended is not None
        return ended


class Stem:
    """The process that forks, from our side. It ends when we do."""

    def __init__(self, module: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                tethered([sys.executable, "-m", "tests.forked", module, str(theirs.fileno()), *REMEMBERED]),
                cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._lock = threading.Lock()
        self._file = ours.makefile("rw")
        ours.close()

    def ask(self, *order: Any) -> Any:
        """Return the answer to an order."""
        with self._lock:
            self._file.write(json.dumps(order) + "\n")
            self._file.flush()
            return json.loads(self._file.readline())

    def close(self) -> None:
        """End it."""
        self._file.close()
        self._process.wait()


_stems: dict[str, Stem] = {}


def stem_of(module: str) -> Stem:
    """The one of a module in this process of tests."""
    if module not in _stems:
        _stems[module] = Stem(module)
    return _stems[module]


def close_stems() -> None:
    """End them all."""
    for stem in _stems.values():
        stem.close()
    _stems.clear()


# --- in the stem ---


def _serve(control: socket.socket) -> None:
    """Carry out orders until nobody gives them, or as a child return."""
    file = control.makefile("rw")
    for line in file:
        what, *about = json.loads(line)
        answer = _poll(*about) if what == "poll" else _fork(*about)
        if what == "fork" and answer == 0:
            file.detach().close()
            control.close()
            return
        file.write(json.dumps(answer) + "\n")
        file.flush()
    sys.exit()


def _poll(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _fork(arguments: list[str], folder: str, log: str, environ: dict[str, str], files: tuple[int, int]) -> int:
    parent = os.getpid()
    reading, writing = os.pipe()
    if pid := os.fork():
        os.close(writing)
        # it has become what it is to be: that is when `Popen` returns
        os.read(reading, 1)
        os.close(reading)
        return pid
    os.close(reading)
    os.setsid()
    tether(parent)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    os.chdir(folder)
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for number in (1, 2):
        os.dup2(words, number)
    os.close(words)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[1:1] = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path not in (*sys.path, "")]
    sys.argv[1:] = arguments
    os.close(writing)
    return 0


def _end(code: int) -> NoReturn:
    """End as Python does, but for its modules: to take them all apart takes as long as a start."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    name, number, *remembered = sys.argv[1:]
    for each in (name, *LATER.get(name, ())):
        import_module(each)
    if remembered and name == "sidecar.cli":
        from sidecar.pdp import cerbos_version, embedded
        from tests.cerbos_answers import remembering

        embedded.compile_policies, cerbos_version.version_of = remembering(*map(Path, remembered))
    # it reads its variables as it is imported
    assert "opentelemetry" not in sys.modules
    gc.freeze()
    with contextlib.closing(socket.socket(fileno=int(number))) as control:
        _serve(control)
    # it runs anew, as `python -m` does; what it imports is there
    del sys.modules[name]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            raise
        _end(ended.code or 0)
