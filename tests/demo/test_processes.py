"""The demo's processes are ready when `start` returns, and gone, with all that they started, when `stop` does."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.demo.processes import DemoError, Process, can_listen, status_of

STUBBORN = """
trap '' TERM
exec 3>alive
sleep 30 &
echo up >&3
sleep 30
"""


def never() -> bool:
    return False


def test_a_group_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    """The pipe ends only when its last writer is gone: the shell, and the process that it left in the background."""
    os.mkfifo(tmp_path / "alive")
    process = Process("stubborn", ["sh", "-c", STUBBORN], tmp_path, os.environ)
    with (tmp_path / "alive").open() as alive:
        assert alive.readline() == "up\n"
        process.stop(seconds=0.2)
        assert alive.read() == ""


def test_a_child_that_obeys_sigterm_may_clean_up(tmp_path: Path) -> None:
    """SIGKILL comes only after SIGTERM was given its time."""
    script = "trap 'sleep 0.1; echo clean >done; exit 0' TERM; echo up >up; while :; do sleep 0.05; done"
    with Process.start("tidy", ["sh", "-c", script], tmp_path, os.environ, (tmp_path / "up").exists):
        pass
    assert (tmp_path / "done").read_text() == "clean\n"


def test_a_child_that_ends_before_it_is_ready_is_quoted(tmp_path: Path) -> None:
    """The last lines of both of its streams are in the message, and its exit status."""
    script = "for n in $(seq 30); do echo line $n; done; echo no such file >&2; exit 7"
    with pytest.raises(DemoError) as caught:
        Process.start("app", ["sh", "-c", script], tmp_path, os.environ, never)
    first, *quoted = str(caught.value).splitlines()
    assert first == "app ended with status 7"
    assert quoted[-2:] == ["  | line 30", "  | no such file"]
    assert len(quoted) == 15


def test_a_child_that_says_nothing_and_dies_by_a_signal_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match=r"^app ended by signal 9, without a word$"):
        Process.start("app", ["sh", "-c", "kill -9 $$"], tmp_path, os.environ, never)


def test_a_child_that_is_never_ready_is_given_up_and_named(tmp_path: Path) -> None:
    with (
        Process("app", ["sleep", "30"], tmp_path, os.environ) as process,
        pytest.raises(DemoError, match=r"^app was not ready after 0 s"),
    ):
        process.wait_until(never, seconds=0.1)


def test_somebody_elses_answer_does_not_make_a_dead_child_ready(tmp_path: Path) -> None:
    """A server that could not take its port ends, while whoever has the port answers in its place."""
    process = Process("app", ["sh", "-c", "exit 3"], tmp_path, os.environ)
    with process, pytest.raises(DemoError, match="status 3"):
        process.wait_until(lambda: bool(os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)))


def test_a_listening_port_is_not_free_and_another_is(free_port: Callable[[], int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not can_listen(server.getsockname()[1])
    assert can_listen(free_port())


def test_a_port_taken_on_every_interface_is_not_free() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert not can_listen(server.getsockname()[1])


def test_connections_of_the_last_run_do_not_hold_a_port(free_port: Callable[[], int]) -> None:
    """Whoever closes first keeps the pair in TIME_WAIT; a probe that is stricter than the servers would refuse it."""
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)) as server,
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        accepted, _ = server.accept()
        accepted.close()
        assert client.recv(1) == b""
    with socket.socket() as strict, pytest.raises(OSError, match="in use"):
        strict.bind(("127.0.0.1", port))
    assert can_listen(port)


def test_status_of_a_port_without_a_server_is_zero(free_port: Callable[[], int]) -> None:
    assert status_of(free_port(), "/") == 0


def test_status_of_a_server_that_talks_nonsense_is_zero(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    script = (
        "import socket\n"
        f"with socket.create_server(('127.0.0.1', {port})) as server:\n"
        "    while True:\n"
        "        peer, _ = server.accept()\n"
        "        peer.sendall(b'nonsense\\r\\n\\r\\n')\n"
        "        peer.close()\n"
    )
    with Process.start("odd", [sys.executable, "-c", script], tmp_path, os.environ, lambda: not can_listen(port)):
        assert status_of(port, "/") == 0
