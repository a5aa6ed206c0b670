"""Processes of ours that fork from one that has imported what they need, which takes a second each time.

Such a process has its own environment, folder, files, session and end, as one that was started by its command line has them;
tests/test_cli.py, tests/demo and tests/run/test_workers.py start that. So have the workers of a forked sidecar.
"""

from __future__ import annotations

import array
import asyncio
import atexit
import contextlib
import ctypes
import fcntl
import functools
import gc
import json
import os
import resource
import runpy
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
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
BY_COMMAND = {"FORKED_WORKERS": "off"}
"""In the environment of a sidecar whose workers start by their command line."""
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
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with self._lock:
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


class _Ground:
    """The process from which stems fork, as processes of tests ask for them. It ends with the one that made it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        with socket.socket(socket.AF_UNIX) as listening:
            self.address = f"\0tests-forked-{secrets.token_hex(16)}"
            listening.bind(self.address)
            listening.listen()
            self._process = subprocess.Popen(
                tethered([sys.executable, "-m", "tests.forked", str(listening.fileno())]),
                cwd=ROOT, pass_fds=[listening.fileno()], stdin=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip

    def close(self) -> None:
        """End it, when all that forked from it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Stem:
    """The process that forks for this one, from our side. It ends when we do."""

    def __init__(self, module: str) -> None:
        with socket.socket(socket.AF_UNIX) as ours:
            ours.connect(plant().address)
            ours.sendall(json.dumps([module, *REMEMBERED]).encode())
            self._file = ours.makefile("rw")
        self._lock = threading.Lock()
        self._module = module
        # nothing is to be read with what was asked
        self._file.readline()

    def ask(self, *order: Any) -> Any:
        """Return the answer to an order."""
        with self._lock:
            try:
                self._file.write(json.dumps(order) + "\n")
                self._file.flush()
                return json.loads(self._file.readline())
            except BaseException:
                # the next who asks is not to be given this answer
                _stems.pop(self._module, None)
                self._file.close()
                raise

    def close(self) -> None:
        """End it."""
        self._file.close()


_ground: _Ground | None = None
_stems: dict[str, Stem] = {}
_lock = threading.Lock()
"""Some tests start several at once."""


def plant() -> _Ground:
    """Make the ground of this process and of those that fork from it later: what takes long to import is imported once for all
    of them."""
    global _ground
    _ground = _ground or _Ground()
    return _ground


def stem_of(module: str) -> Stem:
    """The one of a module for this process of tests."""
    with _lock:
        if module not in _stems:
            _stems[module] = Stem(module)
        return _stems[module]


def close_stems() -> None:
    """End them all."""
    global _ground
    for stem in _stems.values():
        stem.close()
    _stems.clear()
    if _ground is not None and _ground.owner == os.getpid():
        _ground.close()
        _ground = None


# --- in the ground, in what has imported a module, and in a stem ---


def _grow(listening: socket.socket) -> socket.socket:
    """Fork a process for each module that is asked for, with the answers that it remembers, and hand it who asks. Return in a
    stem: to whom it listens."""
    grown: dict[bytes, socket.socket] = {}
    while listening in select.select([sys.stdin, listening], [], [])[0]:
        asking, _ = listening.accept()
        with asking:
            asked = asking.recv(65536)
            if asked and asked not in grown:
                grown[asked], theirs = socket.socketpair()
                parent = os.getpid()
                if not os.fork():
                    tether(parent)
                    for each in (listening, asking, *grown.values()):
                        each.close()
                    with open(os.devnull) as nothing:
                        os.dup2(nothing.fileno(), 0)
                    return _branch(theirs, *json.loads(asked))
                theirs.close()
            if asked:
                socket.send_fds(grown[asked], [b"."], [asking.fileno()])
    for each in grown.values():
        each.close()
    _wait_for_all()


def _wait_for_all() -> NoReturn:
    """End when those that forked from this one have: who waits for it learns what all of them took."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    os._exit(0)


def _branch(handed: socket.socket, module: str, *remembered: str) -> socket.socket:
    """Import a module, and fork a stem for each who asks. Return in a stem: to whom it listens."""
    read_key = READ_KEY.get(module)
    if read_key is not None:
        _find_primes_once()
    for each in (module, *LATER.get(module, ())):
        import_module(each)
    if read_key is not None:
        read_key()
    if remembered and module == "sidecar.cli":
        from sidecar.pdp import cerbos_version, compiling
        from tests.cerbos_answers import remembering

        compiling.compile_policies, cerbos_version.version_of = remembering(*map(Path, remembered))
    # it reads its variables as it is imported
    assert "opentelemetry" not in sys.modules
    # it runs anew, as `python -m` does; what it imports is there
    del sys.modules[module]
    sys.argv[:] = [module]
    gc.freeze()
    parent = os.getpid()
    while asking := socket.recv_fds(handed, 1, 1)[1]:
        if not os.fork():
            tether(parent)
            handed.close()
            return socket.socket(fileno=asking[0])
        os.close(asking[0])
    _wait_for_all()


def _read_pool_key() -> None:
    from sidecar.demo.pool import pool_key

    pool_key()


def _read_motos_key() -> None:
    from joserfc.jwk import RSAKey
    from moto.utilities.utils import load_resource

    RSAKey.import_key(load_resource("cognitoidp/resources/jwks-private.json"))


READ_KEY = {"sidecar.demo.authorization_server": _read_pool_key, "moto.server": _read_motos_key}
"""How a process that serves reads the private key of pools, by its module."""


def _find_primes_once() -> None:
    """Let what is imported later find the primes of the same private key once. Moto's file tells none, and to find them takes
    longer than a start."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    rsa.rsa_recover_prime_factors = functools.cache(rsa.rsa_recover_prime_factors)


def _serve(control: socket.socket) -> None:
    """Carry out orders until nobody gives them, or as a child return."""
    file = control.makefile("rw")
    file.write("\n")
    file.flush()
    for line in file:
        what, *about = json.loads(line)
        answer = _poll(*about) if what == "poll" else _fork(*about)
        if what == "fork" and answer == 0:
            file.detach().close()
            control.close()
            return
        file.write(json.dumps(answer) + "\n")
        file.flush()
    os._exit(0)


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
    if environ.get("SIDECAR_WORKERS", "1") != "1" and BY_COMMAND.items().isdisjoint(environ.items()):
        _fork_workers()
    return 0


# --- workers ---

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
_ORDER = 1 << 18
"""Bytes of an order at most: an environment."""


def _fork_workers() -> None:
    """Let what this process starts by our command line fork from it as it is now, before it has threads and a loop. Return in
    a worker, too.

    A nursery forks them, by one between that ends at once, so that they become children of this process.
    """
    parent = os.getpid()
    own_name = Path("/proc/self/comm").read_bytes().strip()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        _start_by(ours, sys.argv[0])
        return
    tether(parent)
    ours.close()
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"nursery", 0, 0, 0)
    # it is in the group of the sidecar, and ends with that
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    files = array.array("i")
    while True:
        order, ancillary, _, _ = theirs.recvmsg(_ORDER, socket.CMSG_SPACE(64 * files.itemsize))
        if not order:
            os._exit(0)
        files = array.array("i", b"".join(data for _, _, data in ancillary))
        if not (between := os.fork()):
            between = os.getpid()
            if worker := os.fork():
                theirs.send(str(worker).encode())
                os._exit(0)
            theirs.close()
            ctypes.CDLL(None).prctl(PR_SET_NAME, own_name, 0, 0, 0)
            signal.signal(signal.SIGTERM, handler)
            _become_worker((between, parent), list(files), *json.loads(order))
            return
        os.waitpid(between, 0)
        for file in files:
            os.close(file)


def _become_worker(
    parents: tuple[int, int], given: list[int], numbers: list[int], environ: dict[str, str], arguments: list[str]
) -> None:
    first, parent = parents
    while os.getppid() == first:
        time.sleep(0.001)
    tether(parent)
    # beyond all numbers that are to be had, so that none is taken by another
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, max([*numbers, *given]) + 1) for file in given]
    for file in given:
        os.close(file)
    for file, number in zip(moved, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv[1:] = arguments


def _start_by(nursery: socket.socket, module: str) -> None:
    """Let a nursery start what `asyncio` is to start by our command line."""
    start = asyncio.create_subprocess_exec

    async def create(*command: Any, **how: Any) -> Any:
        wanted = command[len(tethered([])) :]
        if wanted[:3] != (sys.executable, "-m", module):
            return await start(*command, **how)
        order = [list(how["pass_fds"]), dict(how["env"]), wanted[3:]]
        socket.send_fds(nursery, [json.dumps(order).encode()], how["pass_fds"])
        return _Worker(int(nursery.recv(20)))

    asyncio.create_subprocess_exec = create


class _Worker:
    """What the parent of workers needs of one: `asyncio.subprocess.Process` of one that a nursery has forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        self._end = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._end, self._note)

    def _note(self) -> None:
        asyncio.get_running_loop().remove_reader(self._end)
        os.close(self._end)
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._ended.set()

    async def wait(self) -> int | None:
        await self._ended.wait()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _end(code: int) -> NoReturn:
    """End as Python does, but for its modules: to take them all apart takes as long as a start."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as ground, _grow(ground) as control:
        _serve(control)
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            raise
        _end(ended.code or 0)
