"""The sidecar as a process: start, readiness, reload, a Cerbos that dies, shadow mode, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sidecar.config.settings import SETTINGS, SettingsError, read_settings
from sidecar.demo.cognito import LocalCognito
from sidecar.run import app
from sidecar.run.app import StartError, build
from tests.conftest import Stack, policies
from tests.stack import Recorder, Sidecar, Web, binary, free_port, reply, running_sidecar, wait_for
from tests.tokens import SESSION_SECRET


def upstream_of(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.upstream.port}"


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def test_it_is_small(stack: Stack) -> None:
    """A loose bound: the figures of the release, and how soon it is ready, are measured apart."""
    assert rss_mb(stack.sidecar.pid) < 100


def test_health_is_on_the_admin_port_alone(stack: Stack) -> None:
    assert stack.sidecar.admin("/livez").status == 200
    assert b'"ready":true' in stack.sidecar.admin("/readyz").body
    assert stack.sidecar.get("/livez").code == "route_unmapped"
    assert stack.sidecar.get("/metrics").code == "route_unmapped"
    assert stack.sidecar.admin("/contacts/1").status == 404


def test_what_is_remembered_and_who_waits_is_in_the_metrics(stack: Stack) -> None:
    stack.sidecar.get("/contacts/1", stack.tokens["alice"])
    shown = stack.sidecar.admin("/metrics").body.decode()
    assert stack.sidecar.metric("sidecar_remembered_bytes", cache="token") > 1000
    assert 'sidecar_remembered_bytes{cache="lookup"}' in shown
    for state in ("under_way", "waiting"):
        assert f'sidecar_questions{{dep="pdp",name="",state="{state}"}} 0.0' in shown


async def test_no_secret_of_any_setting_is_shown(tmp_path: Path) -> None:
    """Each secret setting, a password in a URL and a hook's token: what is shown and what is logged has none of them."""
    (tmp_path / "routes.yaml").write_text(
        "version: 1\nlookups: {c: {url: 'http://127.0.0.1:1/{id}', bearer_env: HOOK_TOKEN, attributes: {a: b}}}\n"
        "routes: [{path: '/c/{id}', resource: c, id: '{path.id}', lookup: c, actions: {GET: read}}]\n"
    )
    canaries = {
        setting.variable: f"CANARY-{number}-{SESSION_SECRET}" for number, setting in enumerate(SETTINGS) if setting.secret
    } | {
        "SIDECAR_REDIS_URL": "rediss://user:CANARY-redis@redis.internal:6379/0", "SIDECAR_CERBOS_ADMIN": "user:CANARY-admin",
    }  # fmt: skip
    assert set(canaries) == {
        "AWS_COGNITO_CLIENT_SECRET", "SIDECAR_SESSION_SECRET", "SIDECAR_REDIS_URL", "SIDECAR_PDP_TOKEN",
        "SIDECAR_CERBOS_ADMIN",
    }  # fmt: skip
    environ = {
        **canaries, "HOOK_TOKEN": "CANARY-hook", "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_PDP": "authzen+http://127.0.0.1:1",
        "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_A", "AWS_COGNITO_CLIENT_ID": "web",
        "AWS_COGNITO_DOMAIN": "shop", "SIDECAR_HOSTS": "shop.example",
    }  # fmt: skip
    sidecar = app.build(read_settings(environ, {}), environ)
    shown = repr(sidecar.config()) + sidecar.metrics.exposition().decode() + repr(sidecar.readiness())
    await sidecar.close()
    assert "CANARY" not in shown
    for variable in canaries:
        assert f"'{variable}': '(set)'" in shown
    for variable in canaries:
        # too short, no URL, not alone: what is wrong is told without what it is
        with pytest.raises(SettingsError) as caught:
            read_settings({**environ, variable: "CANARY", "SIDECAR_WORKERS": "0"}, {})
        assert "CANARY" not in str(caught.value)


def test_traces_need_what_they_are_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sidecar.record.tracing", None)
    environ = {
        "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_TRACES": "otlp", "SIDECAR_CERBOS": "127.0.0.1:1",
        "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
    }  # fmt: skip
    with pytest.raises(app.StartError, match=r"SIDECAR_TRACES: found otlp, expected OpenTelemetry: pip install"):
        app.build(read_settings(environ, {}), environ)


def test_the_configuration_is_shown_without_secrets(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, "AWS_COGNITO_CLIENT_SECRET": "S3CRET", "SIDECAR_HOSTS": "a.example"}
    with running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), environ) as sidecar:
        view = sidecar.admin("/config").body.decode()
    assert "S3CRET" not in view + sidecar.log()
    assert '"AWS_COGNITO_CLIENT_SECRET":"(set)"' in view
    assert "/contacts/{id}" in view
    assert "a.example" in view


@pytest.fixture
def own(stack: Stack, tmp_path: Path) -> contextlib.AbstractContextManager[Sidecar]:
    return running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), stack.environ)


def test_routes_reload_in_place_and_a_broken_file_leaves_the_old_ones_in_force(
    stack: Stack, own: contextlib.AbstractContextManager[Sidecar]
) -> None:
    with own as sidecar:
        assert sidecar.get("/extra").code == "route_unmapped"
        (sidecar.folder / "routes.yaml").write_text(stack.routes + "  - {path: /extra, access: public}\n")
        wait_for(lambda: sidecar.get("/extra").status == 200, what="the new route")
        (sidecar.folder / "routes.yaml").write_text("version: 1\nroutes: nonsense\n")
        wait_for(lambda: "not reloaded" in sidecar.log(), what="the fault is told")
        assert "routes.yaml:2:9" in sidecar.log()
        assert sidecar.get("/extra").status == 200
        (sidecar.folder / "routes.yaml").write_text(stack.routes)
        os.kill(sidecar.pid, signal.SIGHUP)
        wait_for(lambda: sidecar.get("/extra").status == 403, what="the route is gone")
        assert sidecar.get("/contacts/1", stack.tokens["alice"]).status == 200


def test_not_a_request_is_lost_while_routes_reload(
    stack: Stack, own: contextlib.AbstractContextManager[Sidecar]
) -> None:
    with own as sidecar:
        statuses: set[int] = set()
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                statuses.add(sidecar.get("/contacts/1", stack.tokens["alice"]).status)

        workers = [threading.Thread(target=ask) for _ in range(4)]
        for worker in workers:
            worker.start()
        for _ in range(20):
            os.kill(sidecar.pid, signal.SIGHUP)
            time.sleep(0.05)
        stop.set()
        for worker in workers:
            worker.join()
        assert statuses == {200}


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


def test_shadow_mode_forwards_what_enforcing_would_refuse_and_says_so(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, "SIDECAR_MODE": "shadow"}
    with running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), environ) as sidecar:
        for path, code in (
            ("/nowhere", "route_unmapped"), ("/contacts/1", "token_missing"), ("/a/../b", "target_ambiguous"),
        ):  # fmt: skip
            stack.upstream.reset(reply())
            assert sidecar.get(path, x_auth_subject="root").status == 200
            (seen,) = stack.upstream.seen
            assert seen.target == path
            assert seen.values("x-auth-subject") == []
            line = sidecar.decisions()[-1]
            assert (line["mode"], line["outcome"], line["code"]) == ("shadow", "shadow_refuse", code)
        stack.upstream.reset(reply())
        got = sidecar.request("PUT", "/contacts/2", stack.tokens["alice"])
        assert got.status == 200
        assert stack.upstream.seen[0].values("x-auth-subject") == ["alice"]
        assert sidecar.decisions()[-1]["code"] == "denied_by_policy"


def test_a_running_request_ends_before_the_sidecar_does(
    stack: Stack, own: contextlib.AbstractContextManager[Sidecar]
) -> None:
    go_on = threading.Event()

    def slow(_: Recorder, connection: socket.socket, __: object) -> None:
        go_on.wait(10)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    stack.upstream.reset(slow)
    with own as sidecar, closing(socket.create_connection(("127.0.0.1", sidecar.port), 10)) as client:
        client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: stack.upstream.seen)
        os.kill(sidecar.pid, signal.SIGTERM)
        wait_for(lambda: _refused(sidecar.port), what="no new connection is taken")
        go_on.set()
        data = b""
        while part := client.recv(65536):
            data += part
        assert data.endswith(b"late")
        assert b"connection: close" in data
        assert sidecar.process._child.wait(10) == 0


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_key_server_that_is_down_from_the_start_is_503_and_not_ready(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, "SIDECAR_JWKS_URL": f"http://127.0.0.1:{free_port()}/jwks"}
    with running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), environ, ready=False) as sidecar:
        wait_for(lambda: b'"cerbos":true' in sidecar.admin("/readyz").body)
        got = sidecar.admin("/readyz")
        assert (got.status, b'"keys":false' in got.body) == (503, True)
        assert sidecar.get("/me", stack.tokens["alice"]).code == "keys_unavailable"
        assert sidecar.metric("sidecar_dep_errors_total", dep="jwks", fault="unavailable") >= 1
    assert stack.upstream.received == b""


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


def test_id_tokens_are_taken_where_they_are_configured(stack: Stack, cognito: LocalCognito, tmp_path: Path) -> None:
    identity = (
        f"identity: [{{region: {cognito.region}, user_pool_id: {cognito.pool_id}, "
        f"client_ids: [{cognito.client_id}], token_use: [id]}}]\n"
    )
    routes = "version: 1\n" + identity + "routes: [{path: /me, access: authenticated}]\n"
    with running_sidecar(tmp_path, routes, policies(), upstream_of(stack), stack.environ) as sidecar:
        assert sidecar.get("/me", cognito.token("alice", "id")).status == 200
        assert sidecar.get("/me", stack.tokens["alice"]).code == "token_invalid"
    assert stack.sidecar.get("/me", cognito.token("alice", "id")).code == "token_invalid"


def test_hosts_and_trusted_proxies(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, "SIDECAR_HOSTS": "app.test", "SIDECAR_TRUSTED_PROXIES": "127.0.0.0/8"}
    with running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), environ) as sidecar:
        assert sidecar.get("/public", host="evil.test").code == "host_not_allowed"
        assert stack.upstream.received == b""
        told = {"x_forwarded_for": "203.0.113.7", "x_forwarded_proto": "https", "x_request_id": "abc-1"}
        assert sidecar.get("/public", host="APP.test:8080", **told).header("x-request-id") is None
        (seen,) = stack.upstream.seen
        assert seen.values("x-forwarded-for") == ["203.0.113.7, 127.0.0.1"]
        assert seen.values("x-forwarded-proto") == ["https"]
        assert seen.values("x-request-id") == ["abc-1"]


def test_a_load_balancers_headers_are_read_where_its_arn_is_listed(stack: Stack, tmp_path: Path) -> None:
    """Refused as far as no key is needed: those are AWS's alone (tests/trust/test_alb.py has the rest)."""
    arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188"
    said = {"x_amzn_oidc_accesstoken": stack.tokens["alice"], "x_amzn_oidc_data": "e30.e30.AAAA"}
    assert stack.sidecar.get("/me", **said).code == "token_missing"
    with running_sidecar(
        tmp_path, stack.routes, policies(), upstream_of(stack), {**stack.environ, "SIDECAR_ALB_SIGNER": arn}
    ) as sidecar:
        assert sidecar.get("/me").code == "token_missing"
        assert sidecar.get("/me", **said).code == "token_invalid"
        assert sidecar.get("/me", x_amzn_oidc_data="e30.e30.AAAA").code == "token_invalid"
        assert sidecar.request("POST", "/upload", **said).code == "origin_refused"
        assert stack.upstream.received == b""
        assert sidecar.get("/me", stack.tokens["alice"], **said, x_amzn_oidc_identity="root").status == 200
        (seen,) = stack.upstream.seen
        assert [name for name, _ in seen.headers if "oidc" in name.lower()] == []
        assert seen.values("x-auth-subject") == ["alice"]


def test_an_upstream_and_a_listener_may_be_unix_sockets(stack: Stack, tmp_path: Path) -> None:
    upstream_path, listen_path = tmp_path / "app.sock", tmp_path / "sidecar.sock"
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(upstream_path))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix")

        thread = threading.Thread(target=serve)
        thread.start()
        environ = {**stack.environ, "SIDECAR_LISTEN": f"unix:{listen_path}"}
        with (
            running_sidecar(tmp_path, stack.routes, policies(), f"unix:{upstream_path}", environ),
            closing(socket.socket(socket.AF_UNIX)) as client,
        ):
            client.connect(str(listen_path))
            client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            data = b""
            while part := client.recv(65536):
                data += part
        thread.join()
    assert data.endswith(b"unix")


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


def test_a_hook_is_cached_for_as_long_as_its_lookup_says(stack: Stack, tmp_path: Path) -> None:
    hook = Web()
    hook.json("/c/1", {"owner_id": "alice"})
    routes = (
        "version: 1\nprincipal: {id: username}\n"
        f"lookups: {{c: {{url: 'http://127.0.0.1:{hook.port}/c/{{id}}', attributes: {{owner: owner_id}}, cache: 1h}}}}\n"
        "routes: [{path: '/contacts/{id}', resource: contact, id: '{path.id}', lookup: c, actions: {GET: read}}]\n"
    )
    with running_sidecar(tmp_path, routes, policies(), upstream_of(stack), stack.environ) as sidecar:
        for _ in range(5):
            assert sidecar.get("/contacts/1", stack.tokens["alice"]).status == 200
    hook.close()
    assert len(hook.asked) == 1


def test_without_the_extra_envoy_is_not_answered_and_the_start_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "routes.yaml").write_text("version: 1\nroutes: [{path: /public, access: public}]\n")
    settings = read_settings(
        {
            "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
            "SIDECAR_CERBOS": "127.0.0.1:1", "SIDECAR_EXT_AUTHZ_LISTEN": "127.0.0.1:1",
        },
        {},
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "envoy.service.auth.v3.external_auth_pb2", None)
    monkeypatch.delitem(sys.modules, "sidecar.doors.ext_authz", raising=False)
    monkeypatch.delattr("sidecar.doors.ext_authz", raising=False)
    with pytest.raises(StartError, match=r"pip install 'authorization-sidecar\[envoy\]'"):
        build(settings, {})
