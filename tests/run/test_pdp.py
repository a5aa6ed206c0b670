"""Who is asked for decisions: a Cerbos of our own that dies, and one of the user's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import Stack, policies
from tests.stack import Sidecar, binary, free_port, running_sidecar, wait_for


def upstream_of(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.upstream.port}"


@pytest.fixture
def own(stack: Stack, tmp_path: Path) -> contextlib.AbstractContextManager[Sidecar]:
    return running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), stack.environ)


def test_a_killed_cerbos_is_503_until_it_is_back_and_never_a_pass(
    stack: Stack, own: contextlib.AbstractContextManager[Sidecar]
) -> None:
    with own as sidecar:
        outcomes: list[tuple[str, int]] = []
        stop = threading.Event()

        def ask(path: str) -> None:
            while not stop.is_set():
                outcomes.append((path, sidecar.request("PUT", path, stack.tokens["alice"]).status))

        workers = [threading.Thread(target=ask, args=(path,)) for path in ("/contacts/1", "/contacts/2")]
        for worker in workers:
            worker.start()
        wait_for(lambda: len(outcomes) > 20)
        (cerbos,) = subprocess.run(["pgrep", "-P", str(sidecar.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(cerbos), signal.SIGKILL)
        wait_for(lambda: ("/contacts/1", 503) in outcomes, what="a refusal")
        at = len(outcomes)
        wait_for(lambda: ("/contacts/1", 200) in outcomes[at:], 15, "allowed again")
        wait_for(lambda: sidecar.admin("/readyz").status == 200)
        stop.set()
        for worker in workers:
            worker.join()
    assert {status for path, status in outcomes if path == "/contacts/1"} == {200, 503}
    assert {status for path, status in outcomes if path == "/contacts/2"} <= {403, 503}
    assert all(seen.target == "/contacts/1" for seen in stack.upstream.seen)


def test_a_cerbos_of_the_users_own_is_asked_by_its_address(stack: Stack, tmp_path: Path) -> None:
    grpc_port, http_port = free_port(), free_port()
    command = [
        str(binary()), "server", f"--set=server.grpcListenAddr=127.0.0.1:{grpc_port}",
        f"--set=server.httpListenAddr=127.0.0.1:{http_port}", "--set=storage.driver=disk",
        f"--set=storage.disk.directory={policies()}", "--set=telemetry.disabled=true", "--log-level=error",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as cerbos, ExitStack() as ends:
        ends.callback(cerbos.kill)
        environ = {**stack.environ, "SIDECAR_CERBOS": f"127.0.0.1:{grpc_port}"}
        with running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), environ) as sidecar:
            assert sidecar.get("/contacts/1", stack.tokens["alice"]).status == 200
            cerbos.kill()
            cerbos.wait()
            stack.upstream.reset()
            assert sidecar.get("/contacts/1", stack.tokens["alice"]).code == "pdp_unavailable"
            wait_for(lambda: sidecar.admin("/readyz").status == 503)
    assert stack.upstream.received == b""


def test_attributes_that_do_not_fit_the_policys_schema_are_refused(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    (folder / "_schemas").mkdir(parents=True)
    (folder / "_schemas" / "thing.json").write_text(
        '{"type": "object", "properties": {"owner": {"type": "string"}}, "required": ["owner"]}'
    )
    (folder / "thing.yaml").write_text(
        "apiVersion: api.cerbos.dev/v1\nresourcePolicy:\n  resource: thing\n  version: default\n"
        "  rules: [{actions: [read], effect: EFFECT_ALLOW, roles: [user]}]\n"
        "  schemas: {resourceSchema: {ref: 'cerbos:///thing.json'}}\n"
    )
    routes = (
        "version: 1\nroutes: [{path: '/{kind}', resource: thing, actions: {GET: read}, "
        "attributes: {owner: '{path.kind}'}}, {path: /n/{n}, resource: thing, actions: {GET: read}, "
        "attributes: {owner: '{path.n:int}'}}]\n"
    )
    routes = routes.replace("path: /n/{n}", "path: '/n/{n}'")
    with running_sidecar(tmp_path, routes, folder, upstream_of(stack), stack.environ) as sidecar:
        assert sidecar.get("/alice", stack.tokens["alice"]).status == 200
        stack.upstream.reset()
        assert sidecar.get("/n/5", stack.tokens["alice"]).code == "pdp_mismatch"
    assert stack.upstream.received == b""
