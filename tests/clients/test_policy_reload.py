"""Policies in a ConfigMap's volume: the real Cerbos, told to read them again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.clients import policy_reload
from sidecar.clients.policy_reload import PolicyReload, stamp_of
from sidecar.clients.unary import CallFailed, Channel, Method, Status
from tests import configmap
from tests.stack import ROOT, binary, running_sidecar, wait_for

POLICIES = {path.name: path.read_text() for path in sorted((ROOT / "policies").glob("*.yaml"))}
OTHER = {**POLICIES, "more.yaml": POLICIES["contact.yaml"].replace("resource: contact", "resource: more")}
BROKEN = {**POLICIES, "contact.yaml": "broken: ["}
ADMIN = "authz:authz"
# htpasswd -nbBC 10 authz authz | cut -d: -f2 | base64
HASH = "JDJiJDEwJGd2THIxbmgyMi9IaHZTMEwvZk44bXVidWJkR0dXdWN4T3NRNnUzMlBXdmhaNm5jZEVMcUlx"


@contextlib.asynccontextmanager
async def cerbos(folder: Path, run: Path) -> AsyncIterator[str]:
    run.mkdir()
    target = f"unix:{run}/grpc.sock"
    settings = {
        "server.grpcListenAddr": target, "server.httpListenAddr": f"unix:{run}/http.sock", "telemetry.disabled": "true",
        "server.adminAPI.enabled": "true", "server.adminAPI.adminCredentials.username": "authz",
        "server.adminAPI.adminCredentials.passwordHash": HASH,
        "storage.driver": "disk", "storage.disk.directory": str(folder), "storage.disk.watchForChanges": "true",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        str(binary()), "server", *(f"--set={name}={value}" for name, value in settings.items()),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(10):
            while not await listens(run / "grpc.sock"):
                await asyncio.sleep(0.01)
        yield target
    finally:
        process.kill()
        await process.wait()


async def listens(path: Path) -> bool:
    """A socket has a path before it takes connections."""
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def listed(target: str) -> bytes:
    """The names of the policies in force, as Cerbos' Admin API writes them."""
    method = Method("/cerbos.svc.v1.CerbosAdminService/ListPolicies", "localhost", 5.0, "Basic YXV0aHo6YXV0aHo=")
    channel = Channel(target, method)
    try:
        return await channel.call(method, b"", asyncio.get_running_loop().time() + 5)
    finally:
        await channel.aclose()


async def test_a_swapped_volume_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sidecar.cerbos")
    folder = tmp_path / "policies"
    configmap.put(folder, POLICIES, 1)
    async with cerbos(folder, tmp_path / "run") as target:
        reload = PolicyReload(target, ADMIN, folder)
        await reload.look()
        assert b"more.yaml" not in await listed(target)
        configmap.put(folder, OTHER, 2)
        await reload.look()
        assert b"more.yaml" in await listed(target)

        configmap.put(folder, BROKEN, 3)
        await reload.look()
        assert b"more.yaml" in await listed(target)
        assert "the running ones stay in force" in caplog.text
        said = len(caplog.records)
        await reload.look()
        assert len(caplog.records) == said  # told once

        configmap.put(folder, POLICIES, 4)
        await reload.look()
        assert b"more.yaml" not in await listed(target)
        await reload.aclose()


async def test_wrong_credentials_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "policies"
    configmap.put(folder, POLICIES, 1)
    async with cerbos(folder, tmp_path / "run") as target:
        reload = PolicyReload(target, "authz:wrong", folder)
        await reload.look()
        await reload.aclose()
    assert "UNAUTHENTICATED" in caplog.text


async def test_a_cerbos_that_is_away_is_told_when_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_reload, "WATCH_EVERY", 0.05)
    folder = tmp_path / "policies"
    configmap.put(folder, POLICIES, 1)
    reload = PolicyReload(f"unix:{tmp_path}/run/grpc.sock", ADMIN, folder)
    await reload.look()
    async with cerbos(folder, tmp_path / "run") as target:
        configmap.put(folder, OTHER, 2)
        watching = asyncio.ensure_future(reload.watch())
        async with asyncio.timeout(10):
            while b"more.yaml" not in await listed(target):
                await asyncio.sleep(0.02)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await reload.aclose()


def test_the_stamp_sees_what_is_behind_links(tmp_path: Path) -> None:
    assert stamp_of(tmp_path / "nowhere") == frozenset()
    configmap.put(tmp_path, POLICIES, 1)
    first = stamp_of(tmp_path)
    assert {name for name, *_ in first} == set(POLICIES)
    assert stamp_of(tmp_path) == first
    configmap.put(tmp_path, POLICIES, 2)
    assert stamp_of(tmp_path) != first


async def test_without_authorization_the_admin_api_answers_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    configmap.put(folder, POLICIES, 1)
    async with cerbos(folder, tmp_path / "run") as target:
        method = Method("/cerbos.svc.v1.CerbosAdminService/ReloadStore", "localhost", 5.0)
        channel = Channel(target, method)
        with pytest.raises(CallFailed) as refused:
            await channel.call(method, b"", asyncio.get_running_loop().time() + 5)
        await channel.aclose()
    assert refused.value.status is Status.UNAUTHENTICATED


async def test_a_sidecar_with_credentials_tells_its_cerbos_and_sees_swapped_routes(tmp_path: Path) -> None:
    folder, routes = tmp_path / "policies", "version: 1\nroutes: [{path: /, access: public}]\n"
    configmap.put(folder, POLICIES, 1)
    configmap.put(tmp_path / "routes", {"routes.yaml": routes}, 1)
    async with cerbos(folder, tmp_path / "run") as target:
        environ = {
            "SIDECAR_CERBOS": target, "SIDECAR_CERBOS_ADMIN": ADMIN, "SIDECAR_POLICIES": str(folder),
            "SIDECAR_ROUTES": str(tmp_path / "routes/routes.yaml"),
        }  # fmt: skip
        with running_sidecar(tmp_path / "own", routes, folder, "http://127.0.0.1:1", environ, ready=False) as sidecar:
            wait_for(lambda: sidecar.log().count("Cerbos has read the policies") == 1)
            configmap.put(folder, OTHER, 2)
            wait_for(lambda: sidecar.log().count("Cerbos has read the policies") == 2)
            assert b"more.yaml" in await listed(target)
            configmap.put(tmp_path / "routes", {"routes.yaml": routes.replace("path: /,", "path: /more,")}, 2)
            wait_for(lambda: "routes reloaded" in sidecar.log())
            assert sidecar.get("/").code == "route_unmapped"
            assert "authz:authz" not in sidecar.admin("/config").body.decode()


async def test_an_embedded_cerbos_is_told_without_a_setting(tmp_path: Path) -> None:
    folder, strict = tmp_path / "policies", POLICIES["contact.yaml"].replace("roles: [user]", "roles: [clerk]")
    configmap.put(folder, POLICIES, 1)
    routes = "version: 1\nroutes: [{path: /, access: public}]\n"
    for workers in ("1", "2"):
        with running_sidecar(
            tmp_path / workers, routes, folder, "http://127.0.0.1:1", {"SIDECAR_WORKERS": workers}, ready=False
        ) as sidecar:
            configmap.put(folder, {**POLICIES, "contact.yaml": strict}, int(workers) + 1)
            wait_for(lambda: "Cerbos has read the policies" in sidecar.log())
            assert sidecar.log().count("Cerbos has read the policies") == 1
