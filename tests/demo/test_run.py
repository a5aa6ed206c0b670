"""What stops the demo from starting is said before anything is started, all of it at once."""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sidecar.demo import Ports, main, run_demo
from sidecar.demo.processes import can_listen


@pytest.fixture
def ports(free_port: Callable[[], int]) -> Ports:
    return Ports(free_port(), free_port(), free_port(), free_port(), free_port())


def run(project: Path, ports: Ports) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a demo that cannot start."""
    out, err = io.StringIO(), io.StringIO()
    return run_demo(project, ports, os.environ, out, err), out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("field", "what", "option"),
    [
        ("traffic", "the sidecar", "--port"),
        ("admin", "the sidecar's health and metrics", "--admin-port"),
        ("app", "the protected app", "--app-port"),
        ("cognito", "the local Cognito", "--cognito-port"),
    ],
)
def test_a_port_in_use_is_named_with_who_wants_it_and_the_option_that_changes_it(
    checkout: Path, ports: Ports, field: str, what: str, option: str
) -> None:
    """Nothing is started: not a line of progress is printed."""
    with socket.create_server(("127.0.0.1", getattr(ports, field))):
        status, out, err = run(checkout, ports)
    expected = f"port {getattr(ports, field)} is in use, and {what} wants it: choose another with {option} N"
    expected += f', or make demo ARGS="{option} N"'
    assert (status, out) == (1, "")
    assert err == f"\nsidecar demo: {expected}\n"


def test_every_reason_is_said_at_once(tmp_path: Path, ports: Ports) -> None:
    """An empty folder, a port in use, and a port that two servers were given."""
    with socket.create_server(("127.0.0.1", ports.cognito)):
        status, out, err = run(tmp_path, ports._replace(app=ports.admin))
    assert (status, out) == (1, "")
    reasons = err.splitlines()[2:]
    assert [line.split()[0] for line in reasons[:3]] == ["routes.yaml", "policies", "node_modules"]
    assert reasons[3].startswith(f"  --admin-port {ports.admin} (the sidecar's health and metrics): another option")
    assert reasons[4].startswith(f"  --app-port {ports.admin} (the protected app): another option names this port too")
    assert reasons[5].startswith(f"  port {ports.cognito} is in use")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([f"--app-port={port}"])
    assert f"argument --app-port: found '{port}', expected a port from 1 to 65535" in capsys.readouterr().err


@pytest.mark.e2e
def test_a_part_that_fails_is_quoted_and_the_others_are_stopped(checkout: Path, tmp_path: Path, ports: Ports) -> None:
    """With a route file that cannot be read the sidecar does not start, after Cognito and the app did."""
    (tmp_path / "node_modules").symlink_to(checkout / "node_modules")
    (tmp_path / "policies").symlink_to(checkout / "policies")
    (tmp_path / "routes.yaml").write_text("version: 1\nroutes: nowhere\n")
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    status, out, err = run(tmp_path, ports)
    assert status == 1
    assert [line.split("  ")[0] for line in out.splitlines()[:3]] == [
        "a local Cognito (moto)", "its hosted UI", "the app (json-server)",
    ]  # fmt: skip
    assert "sidecar demo: sidecar ended with status 1" in err
    assert "routes.yaml:2:" in err
    assert all(can_listen(port) for port in ports)
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_a_checkout_without_a_cerbos_binary_is_told_so(checkout: Path, tmp_path: Path, ports: Ports) -> None:
    """Nothing is started: not a line of progress is printed."""
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/json-server").symlink_to(checkout / "node_modules/json-server")
    (tmp_path / "policies").mkdir()
    (tmp_path / "routes.yaml").touch()
    status, out, err = run(tmp_path, ports)
    assert (status, out) == (1, "")
    assert "@cerbos: run make setup" in err


def test_a_second_ctrl_c_right_after_the_first_does_not_cut_the_end_short(checkout: Path, ports: Ports) -> None:
    class Interrupts(dict[str, str]):
        """The variables; whoever reads them is interrupted."""

        def items(self) -> NoReturn:
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("nothing interrupted")

    class Out(io.StringIO):
        """A terminal at which somebody stops the demo again while it says that it stops."""

        def write(self, text: str) -> int:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.raise_signal(number)
            return super().write(text)

    out, err = Out(), io.StringIO()
    assert run_demo(checkout, ports, Interrupts(), out, err) == 0
    assert (out.getvalue(), err.getvalue()) == ("\nStopping ...\n", "")


def test_a_ctrl_c_whose_exception_gets_lost_stops_the_demo_all_the_same(
    checkout: Path, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python raises nothing out of a finalizer, and the signals after the first one are ignored."""
    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: lost.append(told.exc_type))

    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    class Interrupts(dict[str, str]):
        """The variables; while they are read, something is finalized."""

        def items(self) -> Any:
            Finalized()
            return super().items()

    out, err = io.StringIO(), io.StringIO()
    assert run_demo(checkout, ports, Interrupts(), out, err) == 0
    assert (lost, out.getvalue(), err.getvalue()) == ([KeyboardInterrupt], "\nStopping ...\n", "")
