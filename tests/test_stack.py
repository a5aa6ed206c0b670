"""Ports of tests: nobody takes one between the test that was given it and the server that listens there, now or again."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests import stack
from tests.stack import ROOT, Recorder, free_port


def test_a_kernel_gives_none_of_these_ports_to_anybody() -> None:
    ranges = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not ranges.exists():
        pytest.skip("this kernel does not say which ports it gives out")
    first, last = map(int, ranges.read_text().split())
    if first < 32_000:
        pytest.skip(f"this kernel gives out {first} to {last}")
    assert not first <= free_port() <= last


def test_a_port_that_somebody_uses_at_another_address_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = free_port(), free_port()
    monkeypatch.setattr(stack, "_PORTS", iter((taken, free)))
    with contextlib.closing(socket.create_server(("127.0.0.2", taken))):
        assert free_port() == free


@pytest.mark.process
def test_one_that_forks_tries_ports_in_an_order_of_its_own() -> None:
    code = """if 1:
        import os
        from tests import stack
        forked = os.fork()
        print([next(stack._PORTS) for _ in range(5)], flush=True)
        if forked: os.wait()
        """
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    one, other = said.splitlines()
    assert one != other


@pytest.mark.process
def test_another_process_is_not_given_the_same() -> None:
    script = f"from tests import stack; stack._PORTS = iter(({free_port()}, {free_port()})); stack.free_port()"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.endswith("AssertionError: every port is used\n")


def test_what_has_stopped_listening_answers_nobody_any_more() -> None:
    before = threading.active_count()
    for _ in range(200):
        # nobody has connected: its thread may not wait yet, or already
        recorder = Recorder()
        recorder.close()
        assert threading.active_count() == before
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", recorder.port))
        recorder.close()
