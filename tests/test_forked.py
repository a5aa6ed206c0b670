"""Processes that fork from one that has imported what they need are as those that their command line starts."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo.processes import Process
from sidecar.tether import tethered
from tests import forked
from tests.forked import BY_COMMAND, ROOT, Forked, may_fork
from tests.stack import wait_for


def main() -> int:
    """Say what this process is, sleep where that is asked for, and end with status 3."""
    if sys.argv[1:] == ["workers"]:
        return asyncio.run(have_workers())
    if sys.argv[1:2] == ["worker"]:
        return work(*sys.argv[2:])
    ignored = [one.name for one in signal.Signals if signal.getsignal(one) is signal.SIG_IGN]
    where = [
        os.getcwd(),
        os.readlink("/proc/self/fd/0"),
        os.readlink("/proc/self/fd/1"),
        os.readlink("/proc/self/fd/2"),
    ]
    own = os.getsid(0) == os.getpgid(0) == os.getpid()
    named = find_spec("named_by_pythonpath") is not None
    print(json.dumps([sys.argv[1:], dict(os.environ), where, own, ignored, named]), flush=True)
    # what Python does at the end: nobody flushes
    atexit.register(print, "at the end")
    threading.Timer(0.1, print, ["a thread that is waited for"]).start()
    time.sleep(60 if sys.argv[1:] == ["sleep"] else 0)
    return 3


def work(file: str, *sleeps: str) -> int:
    """Say what this worker is to whoever has the other end of a socket, sleep where that is asked for, and end with status 4."""
    ignored = [one.name for one in signal.Signals if signal.getsignal(one) is signal.SIG_IGN]
    about = [sys.argv[1:], dict(os.environ), os.getcwd(), os.readlink("/proc/self/fd/1"), ignored]
    groups = os.getsid(0) == os.getsid(os.getppid()), os.getpgid(0) == os.getpgid(os.getppid())
    with socket.socket(fileno=int(file)) as told:
        told.sendall(json.dumps([os.getpid(), os.getppid(), [*about, groups]]).encode() + b"\n")
    time.sleep(60 if sleeps else 0)
    return 4


async def have_workers() -> int:
    """Start workers as a sidecar does, say what they are and how they end, and sleep beside one that does."""
    ours, theirs = socket.socketpair()
    file = theirs.fileno()
    heard = ours.makefile()

    async def begin(*arguments: str) -> tuple[asyncio.subprocess.Process, list[Any]]:
        process = await asyncio.create_subprocess_exec(
            *tethered([sys.executable, "-m", "tests.test_forked", "worker", str(file), *arguments]),
            env={**os.environ, "SIDECAR_WORKERS": "1", "SIDECAR_ODD": "worker"}, pass_fds=[file],
        )  # fmt: skip
        pid, parent, about = json.loads(await asyncio.to_thread(heard.readline))
        assert (pid, parent) == (process.pid, os.getpid())
        return process, about

    one, of_one = await begin()
    two, of_two = await begin("sleep")
    ends = [await one.wait(), two.returncode]
    two.terminate()
    ends.append(await two.wait())
    with contextlib.suppress(ProcessLookupError):
        two.kill()
        ends.append(None)
    another = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 5")
    ends.append(await another.wait())
    three, _ = await begin("sleep")
    for each in (of_one, of_two):
        each[0].remove(str(file))
    print(json.dumps([of_one, of_two, ends]), three.pid, flush=True)
    await asyncio.sleep(60)
    return 3


def workers_said(kind: type[Process], folder: Path, **more: str) -> tuple[list[Any], bool]:
    """-> (what workers say of themselves and how they end, whether they forked)."""
    environ = {**os.environ, "SIDECAR_WORKERS": "2", **more}
    log = folder / "odd.log"
    with kind("odd", [sys.executable, "-m", "tests.test_forked", "workers"], folder, environ) as process:
        wait_for(lambda: log.read_text().endswith("\n"))
        told, _, pid = log.read_text().rpartition(" ")
        is_forked = b"tests.forked" in Path(f"/proc/{int(pid)}/cmdline").read_bytes()
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: not runs(int(pid)), what="a worker ends with its parent")
    about: list[Any] = json.loads(told)
    for each in about[:2]:
        for name in more:
            del each[1][name]
    return about, is_forked


def test_workers_of_one_that_forked_are_as_those_of_the_command_line(tmp_path: Path) -> None:
    (started, *forks), (by_command, *none), (forked, *yes) = (
        workers_said(kind, tmp_path, **more) for kind, more in ((Process, {}), (Forked, BY_COMMAND), (Forked, {}))
    )
    assert (forks, none, yes) == ([False], [False], [True])
    assert started == by_command == forked
    assert started[-1] == [4, None, -signal.SIGTERM, 5]


def said(kind: type[Process], folder: Path, *arguments: str, stops: bool = False) -> tuple[list[Any], int, bool]:
    """-> (what it says of itself, its status, whether it forked)."""
    (folder / "more").mkdir(exist_ok=True)
    (folder / "more/named_by_pythonpath.py").touch()
    environ = {**os.environ, "SIDECAR_ODD": "yes", "PYTHONPATH": f"{ROOT}{os.pathsep}{folder / 'more'}"}
    environ.pop("HOME", None)
    log = folder / "odd.log"
    with kind("odd", [sys.executable, "-m", "tests.test_forked", *arguments], folder, environ) as process:
        if stops:
            wait_for(lambda: "\n" in log.read_text())
            process.stop()
        status = process._child.wait(20)
    first, *later = log.read_text().splitlines()
    assert later == ([] if stops else ["a thread that is waited for", "at the end"])
    return json.loads(first), status, not isinstance(process._child, subprocess.Popen)


@pytest.mark.parametrize(("arguments", "stops"), [(["a", "b c"], False), (["sleep"], True)])
def test_it_is_as_one_of_the_command_line(arguments: list[str], stops: bool, tmp_path: Path) -> None:
    (started, status, _), (forked, forked_status, is_forked) = (
        said(kind, tmp_path, *arguments, stops=stops) for kind in (Process, Forked)
    )
    assert is_forked
    # its PYTHONPATH is read
    assert started[-1] is True
    assert (started, status) == (forked, forked_status)
    assert status == (-signal.SIGTERM if stops else 3)


def test_processes_of_tests_share_what_was_imported_and_one_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("ours", "theirs")}

    def sleeping(name: str) -> Forked:
        folders[name].mkdir()
        process = Forked(
            "odd",
            [sys.executable, "-m", "tests.test_forked", "sleep"],
            folders[name],
            {**os.environ, "SIDECAR_ODD": "yes"},
        )
        wait_for(lambda: "\n" in (folders[name] / "odd.log").read_text())
        return process

    with sleeping("ours") as ours:
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            # of threads, which the child leaves alone
            warnings.simplefilter("ignore", DeprecationWarning)
            beside = os.fork()
        if not beside:
            try:
                forked._stems.clear()
                os.write(writing, str(sleeping("theirs").pid).encode())
                time.sleep(60)
            finally:
                os._exit(1)
        theirs = int(os.read(reading, 20))
        stems = [parent_of(ours.pid), parent_of(theirs)]
        assert stems[0] != stems[1]
        assert parent_of(stems[0]) == parent_of(stems[1]) != os.getpid()
        os.kill(beside, signal.SIGKILL)
        os.waitpid(beside, 0)
        wait_for(lambda: not runs(theirs), what="the one of the killed process is gone")
        wait_for(lambda: not runs(stems[1]), what="and its stem")
        ours.check()
        os.close(reading)
        os.close(writing)


def status_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def parent_of(pid: int) -> int:
    return int(status_of(pid)[1])


def runs(pid: int) -> bool:
    """Nobody may wait for one whose parent is gone."""
    try:
        return status_of(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_one_whose_environment_says_how_python_begins_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert may_fork({**os.environ, "SIDECAR_X": "y"})
    assert not may_fork({**os.environ, "PYTHONHASHSEED": "7"})
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", "x")
    assert not may_fork(os.environ)


if __name__ == "__main__":
    sys.exit(main())


def test_an_answer_that_nobody_heard_is_not_given_to_who_asks_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "tests.test_forked", "sleep"]

    def cut_off(*_: object) -> None:
        raise TimeoutError

    with Forked("one", command, tmp_path, os.environ) as one:
        with monkeypatch.context() as patch:
            patch.setattr(json, "loads", cut_off)
            with pytest.raises(TimeoutError):
                one._child.poll()
        with Forked("two", command, tmp_path, os.environ) as two:
            assert two._child.poll() is None
            assert os.getsid(two._child.pid) == two._child.pid
            two.stop()
        # the first ended with the one that it forked from
        with pytest.raises(ValueError, match="closed file"):
            one._child.poll()
        monkeypatch.setattr(one._child, "returncode", 0)
