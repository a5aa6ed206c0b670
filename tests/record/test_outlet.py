"""Outlets that never wait: held against real pipes, files, sockets, terminals and a full device."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.record import outlet as module
from sidecar.record.outlet import Outlet
from tests.stack import ROOT, wait_for

LINES = [f"{number:06d} {'x' * 600}\n" for number in range(1000)]


@contextlib.contextmanager
def instead_of_stdout(fd: int) -> Iterator[Outlet]:
    """The outlet of file descriptor 1 while it is this one."""
    before = os.dup(1)
    os.dup2(fd, 1)
    try:
        made = Outlet.standard(1)
    finally:
        os.dup2(before, 1)
        os.close(before)
    yield made
    made.close()


def read_all(fd: int, outlet: Outlet) -> bytes:
    """What comes of all that it holds."""
    data, done = b"", False
    while not done or select.select([fd], [], [], 0.05)[0]:
        done = outlet.send()
        if select.select([fd], [], [], 0)[0]:
            data += os.read(fd, 65536)
    return data


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_its_lines_come_whole() -> None:
    reading, writing = os.pipe()
    with instead_of_stdout(writing) as outlet:
        outlet.put(LINES)
        assert not outlet.send()
        assert 500_000 < outlet.waiting < 600_000
        # the parent's shell has the same opening, and would find it changed
        assert os.get_blocking(writing)
        assert read_all(reading, outlet) == "".join(LINES).encode()
        assert outlet.waiting == 0
    os.close(writing)
    os.close(reading)


def test_two_writers_of_one_pipe_break_no_line_of_each_other() -> None:
    reading, writing = os.pipe()
    with instead_of_stdout(writing) as one, instead_of_stdout(writing) as two:
        one.put([f"1{line}" for line in LINES])
        two.put([f"2{line}" for line in LINES])
        data = b""
        while one.waiting or two.waiting or select.select([reading], [], [], 0)[0]:
            one.send()
            two.send()
            data += os.read(reading, 5000)
    assert sorted(data.decode().splitlines(True)) == sorted(mark + line for mark in "12" for line in LINES)
    os.close(writing)
    os.close(reading)


@contextlib.contextmanager
def ends(kind: str) -> Iterator[tuple[int, int]]:
    """Both ends of a pipe, a socket or a terminal: where to read, and where to write."""
    with contextlib.ExitStack() as stack:
        if kind == "socket":
            ours, theirs = (stack.enter_context(one) for one in socket.socketpair())
            yield theirs.fileno(), ours.fileno()
            return
        reading, writing = os.pipe() if kind == "pipe" else pty.openpty()
        stack.callback(os.close, reading)
        stack.callback(os.close, writing)
        yield reading, writing


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_a_line_that_stdout_has_half_written_is_finished_before_stderr_writes(kind: str) -> None:
    with ends(kind) as (reading, writing), instead_of_stdout(writing) as one, instead_of_stdout(writing) as two:
        one.put(["a" * 6000 + "\n"] * 100)
        assert not one.send()
        two.put(["b\n"])
        data = b""
        while one.waiting or two.waiting or select.select([reading], [], [], 0)[0]:
            data += os.read(reading, 1000)
            two.send()
            one.send()
    assert set(data.decode().split()) == {"a" * 6000, "b"}
    assert data.count(b"b") == 1


def test_a_line_that_one_process_has_half_written_is_finished_before_another_writes() -> None:
    program = (
        "from sidecar.record.outlet import Outlet\nout = Outlet.standard(1)\n"
        "out.put(['b\\n'])\nraise SystemExit(0 if out.send() else 3)"
    )
    with ends("pipe") as (reading, writing), instead_of_stdout(writing) as outlet:
        outlet.put(["a" * 100_000 + "\n"])
        assert not outlet.send()
        data = os.read(reading, 50_000)
        assert subprocess.run([sys.executable, "-c", program], stdout=writing, cwd=ROOT).returncode == 3
        data += read_all(reading, outlet)
        assert subprocess.run([sys.executable, "-c", program], stdout=writing, cwd=ROOT).returncode == 0
        assert data + os.read(reading, 10) == b"a" * 100_000 + b"\nb\n"


def test_two_carriers_to_one_pipe_break_no_line_of_each_other() -> None:
    with ends("pipe") as (reading, writing):
        outlets = [Outlet(module._carried(writing)) for _ in range(2)]
        for mark, outlet in zip("ab", outlets, strict=True):
            outlet.put([mark * 6000 + "\n"] * 100)
        data = b""
        while len(data) < 2 * 100 * 6001:
            for outlet in outlets:
                outlet.send()
            data += os.read(reading, 1000)
        for outlet in outlets:
            outlet.close()
    assert set(data.decode().split()) == {"a" * 6000, "b" * 6000}


def test_an_outlet_that_goes_with_a_line_half_written_lets_the_other_write() -> None:
    with ends("pipe") as (reading, writing), instead_of_stdout(writing) as two:
        with instead_of_stdout(writing) as one:
            one.put(["a" * 100_000 + "\n"])
            assert not one.send()
        two.put(["b\n"])
        assert read_all(reading, two).endswith(b"b\n")


def test_a_line_longer_than_a_pipe_takes_at_once_is_written_in_parts() -> None:
    reading, writing = os.pipe()
    with instead_of_stdout(writing) as outlet:
        outlet.put(["a" * 200_000 + "\n", "b\n"])
        assert not outlet.send()
        assert read_all(reading, outlet) == b"a" * 200_000 + b"\nb\n"
    os.close(writing)
    os.close(reading)


def test_a_pipe_whose_reader_has_gone_is_an_error() -> None:
    reading, writing = os.pipe()
    with instead_of_stdout(writing) as outlet:
        os.close(reading)
        outlet.put(["a\n"])
        with pytest.raises(BrokenPipeError):
            outlet.send()
        assert outlet.waiting == 2
    os.close(writing)


def test_a_socket_as_systemd_gives_one_does_not_wait_either() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, instead_of_stdout(ours.fileno()) as outlet:
        outlet.put(LINES)
        assert not outlet.send()
        assert ours.getblocking()
        assert read_all(theirs.fileno(), outlet) == "".join(LINES).encode()


def test_a_terminal_that_is_held_does_not_wait_either() -> None:
    master, slave = pty.openpty()
    with instead_of_stdout(slave) as outlet:
        outlet.put(LINES)
        assert not outlet.send()
        assert read_all(master, outlet).replace(b"\r\n", b"\n") == "".join(LINES).encode()
    os.close(master)
    os.close(slave)


def test_a_pipe_that_cannot_be_opened_anew_is_written_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    opened = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if path == "/proc/self/fd/1":
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    with instead_of_stdout(writing):
        pass
    # as another process that has the pipe may leave it
    os.set_blocking(writing, False)
    target = module._carried(writing)
    outlet = Outlet(target)
    outlet.put(LINES)
    assert not outlet.send()
    assert read_all(reading, outlet) == "".join(LINES).encode()
    outlet.close()
    assert target.carrier is not None
    assert not target.carrier.is_alive()
    os.close(writing)
    os.close(reading)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a pipe to another user")
def test_another_users_pipe_is_written_too() -> None:
    program = (
        "import os\nfrom sidecar.record.outlet import Outlet\nos.setuid(65534)\n"
        "try: os.open('/proc/self/fd/1', os.O_WRONLY)\nexcept PermissionError: pass\nelse: raise SystemExit('could')\n"
        "out = Outlet.standard(1); out.put(['here\\n']); assert out.send(); out.close()"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    assert done.stdout == "here\n"


def test_a_full_disk_is_an_error_and_the_lines_are_kept() -> None:
    outlet = Outlet.of_file("/dev/full")
    outlet.put(["a\n"])
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            outlet.send()
    assert outlet.waiting == 2
    outlet.close()


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text("before\n")
    outlet = Outlet.of_file(str(path))
    outlet.follow()
    outlet.put(LINES)
    assert outlet.send()
    # copytruncate
    path.write_text("")
    outlet.follow()
    outlet.put(["after\n"])
    assert outlet.send()
    outlet.close()
    assert path.read_text() == "after\n"


def test_a_file_that_was_renamed_or_removed_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    outlet = Outlet.of_file(str(path))
    for number in range(2):
        outlet.put([f"{number}\n"])
        assert outlet.send()
        path.rename(tmp_path / f"decisions.jsonl.{number}")
        outlet.follow()
        assert path.read_text() == ""
    path.unlink()
    outlet.follow()
    outlet.put(["2\n"])
    assert outlet.send()
    outlet.close()
    read = {one.name: one.read_text() for one in tmp_path.iterdir()}
    assert read == {"decisions.jsonl": "2\n", "decisions.jsonl.0": "0\n", "decisions.jsonl.1": "1\n"}


def test_a_file_that_cannot_be_made_anew_is_written_on_while_it_has_a_name_and_then_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "decisions.jsonl"
    outlet = Outlet.of_file(str(path))
    kept = path.rename(tmp_path / "kept")
    folder.rmdir()
    outlet.follow()
    outlet.put(["1\n"])
    assert outlet.send()
    assert kept.read_text() == "1\n"
    kept.unlink()
    with pytest.raises(FileNotFoundError):
        outlet.follow()
    outlet.put(["2\n"])
    with pytest.raises(FileNotFoundError):
        outlet.send()
    folder.mkdir()
    outlet.follow()
    assert outlet.send()
    outlet.close()
    assert path.read_text() == "2\n"


def test_a_line_that_was_half_written_is_whole_in_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    outlet = Outlet.of_file(str(path))
    outlet.put(["a" * 100_000 + "\n"])
    assert not outlet.send()
    path.unlink()
    outlet.follow()
    assert outlet.waiting == 100_001
    assert outlet.send()
    outlet.close()
    os.close(reading)
    assert path.read_text() == "a" * 100_000 + "\n"


def test_a_pipe_with_a_name_that_nobody_reads_is_told_at_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        Outlet.of_file(str(tmp_path / "pipe"))


def test_the_last_lines_are_carried_before_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    outlet = Outlet(module._carried(1))
    outlet.put(["here\n"])
    assert outlet.send()
    outlet.close()
    wait_for(lambda: capfd.readouterr().out == "here\n")
