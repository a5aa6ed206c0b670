"""Several workers share the ports, and one that dies is replaced."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

from sidecar.run.deciding import TREE_KEY
from tests.conftest import Stack, policies
from tests.forked import BY_COMMAND
from tests.stack import Sidecar, running_sidecar, wait_for


def children(pid: int, of: str) -> set[int]:
    listed = subprocess.run(["pgrep", "-P", str(pid), "-f", of], capture_output=True, text=True, check=False).stdout
    return set(map(int, listed.split()))


def workers_of(pid: int) -> set[int]:
    """Those of a process that may have forked them (tests/forked.py)."""
    listed = subprocess.run(["pgrep", "-P", str(pid), "python"], capture_output=True, text=True, check=False).stdout
    return set(map(int, listed.split()))


def key_of(pid: int) -> bytes:
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (key,) = [line for line in environ if line.startswith(TREE_KEY.encode() + b"=")]
    return key


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def ask(sidecar: Sidecar, stack: Stack) -> int:
    return sidecar.get("/contacts/1", stack.tokens["alice"]).status


def test_two_workers_serve_one_dies_and_is_replaced_and_all_stop(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, **BY_COMMAND, "SIDECAR_WORKERS": "2"}
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path, stack.routes, policies(), upstream, environ) as sidecar:
        workers = children(sidecar.pid, "sidecar.cli")
        assert len(workers) == 2
        # what stands in for a secret of sessions is one for all of them
        keys = {key_of(worker) for worker in workers}
        assert len(keys) == 1
        (cerbos,) = children(sidecar.pid, "cerbos.*server")
        assert [ask(sidecar, stack) for _ in range(20)] == [200] * 20
        wait_for(lambda: sidecar.metric("sidecar_requests_total", code="allowed") == 20, what="both count as one")
        victim = min(workers)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(children(sidecar.pid, "sidecar.cli") - {victim}) == 2, what="a new worker")
        wait_for(lambda: [ask(sidecar, stack) for _ in range(5)] == [200] * 5)
        assert {key_of(worker) for worker in children(sidecar.pid, "sidecar.cli")} == keys
        everybody = children(sidecar.pid, "sidecar.cli") | {cerbos}
    wait_for(lambda: not any(map(alive, everybody)), what="nobody is left")


def test_as_many_files_are_allowed_as_the_clients_need(stack: Stack, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        environ = {**stack.environ, "SIDECAR_MAX_CONNECTIONS": "1000"}
        with running_sidecar(tmp_path, stack.routes, policies(), "http://127.0.0.1:1", environ, shared=True) as sidecar:
            limits = Path(f"/proc/{sidecar.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert int(line.split()[3]) == min(2512, hard)


def test_workers_die_with_their_parent_however_it_ends(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, **BY_COMMAND, "SIDECAR_WORKERS": "2"}
    with running_sidecar(tmp_path, stack.routes, policies(), "http://127.0.0.1:1", environ) as sidecar:
        everybody = children(sidecar.pid, "sidecar.cli") | children(sidecar.pid, "cerbos.*server")
        assert len(everybody) == 3
        os.kill(sidecar.pid, signal.SIGKILL)
        wait_for(lambda: not any(map(alive, everybody)), what="nobody is left")
