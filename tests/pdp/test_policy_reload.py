"""Policies in a ConfigMap's volume: the real Cerbos, told to read them again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.gate.decision import ALLOW, DENY, Question, Resource
from sidecar.gate.identity import Principal
from sidecar.net.grpc_client import Channel
from sidecar.net.grpc_client_connection import GrpcMethod
from sidecar.pdp import policy_reload
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.compiling import problems_of
from sidecar.pdp.embedded import EmbeddedCerbos
from sidecar.pdp.policy_files import PolicyFault, PolicySnapshot
from sidecar.pdp.policy_reload import FollowedPolicies, PolicyReload, PolicyState, Unproven, publish_to
from sidecar.wire.grpc import CallFailed, Status
from tests import configmap
from tests.deploy.changes import untouched
from tests.fakes import until
from tests.faults.test_faults import environment
from tests.stack import ROOT, Recorder, Sidecar, Web, binary, running_sidecar, wait_for
from tests.tokens import claims, key_set, mint

POLICIES = {path.name: path.read_text() for path in sorted((ROOT / "policies").glob("*.yaml"))}
OTHER = {**POLICIES, "more.yaml": POLICIES["contact.yaml"].replace("resource: contact", "resource: more")}
BROKEN = {**POLICIES, "contact.yaml": "broken: ["}
ADMIN = "authz:authz"
# htpasswd -nbBC 4 authz authz | cut -d: -f2 | base64
HASH = "JDJiJDA0JEZxeGtyZ0RsNE5kNk4ySHA1bUJ6RS5LVm5zYlZSakc4UTc0ZTYxSHdWN2J6ZEZ6UkZ2dUdP"


@contextlib.asynccontextmanager
async def cerbos(folder: Path, run: Path, program: Path | None = None) -> AsyncIterator[str]:
    run.mkdir()
    target = f"unix:{run}/grpc.sock"
    settings = {
        "server.grpcListenAddr": target, "server.httpListenAddr": f"unix:{run}/http.sock", "telemetry.disabled": "true",
        "server.adminAPI.enabled": "true", "server.adminAPI.adminCredentials.username": "authz",
        "server.adminAPI.adminCredentials.passwordHash": HASH,
        "storage.driver": "disk", "storage.disk.directory": str(folder), "storage.disk.watchForChanges": "false",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        str(program or binary()), "server", *(f"--set={name}={value}" for name, value in settings.items()),
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
    method = GrpcMethod("/cerbos.svc.v1.CerbosAdminService/ListPolicies", "localhost", 5.0, "Basic YXV0aHo6YXV0aHo=")
    channel = Channel(target, method)
    try:
        return await channel.call(method, b"", asyncio.get_running_loop().time() + 5)
    finally:
        await channel.aclose()


def reload_of(target: str, folder: Path, **more: Any) -> PolicyReload:
    return PolicyReload(target, more.pop("credentials", ADMIN), folder, now=lambda: 5.0, **more)


POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: {kind}
  version: default
  rules:
    - {{actions: [read], effect: {effect}, roles: [user]}}
"""
UNSOUND = POLICY.replace("roles: [user]", "roles: [user], condition: {{match: {{expr: 'R.attr.n === 1'}}}}")
UNDEFINED = POLICY.replace("roles: [user]", "roles: [user], condition: {{match: {{expr: 'V.nothing'}}}}")
KINDS = ("a", "b", "c")
_OLDER = ROOT / "node_modules/cerbos/node_modules/@cerbos" / binary().name / binary().name
_TRY_OLDER = _OLDER.is_file() and not untouched(
    ROOT, os.environ, ("sidecar/pdp", "tests/pdp/test_policy_reload.py", "package-lock.json")
)
BINARIES = [binary(), *([_OLDER.resolve()] if _TRY_OLDER else [])]
"""Cerbos 0.55, and 0.51 where npm has both: it starts slowly, so in CI and where something of this changed."""


class Play:
    """A real Cerbos, its policies and what reloads them."""

    def __init__(self, folder: Path, reload: PolicyReload, target: str, embedded: EmbeddedCerbos | None = None) -> None:
        self.folder = folder
        self.reload = reload
        self.embedded = embedded
        self._pdp = Cerbos(target, timeout=5.0, now=time.monotonic)
        self._target = target

    def write(self, kind: str, effect: str = ALLOW, policy: str = POLICY) -> None:
        (self.folder / f"{kind}.yaml").write_text(policy.format(kind=kind, effect=effect))

    async def effects(self) -> str:
        """A letter for each of the kinds: A, D, or - where there is no policy."""
        resources = tuple(Resource(kind, "1", "read", {}) for kind in KINDS)
        answer = await self._pdp.check(Question("r", Principal("u", ("user",), {}, "i", 0.0, {}), resources))
        letters = {ALLOW: "A", DENY: "D"}
        return "".join("-" if one.policy == "NO_MATCH" else letters[one.effects["read"]] for one in answer.results)

    async def look(self) -> tuple[str, int, str]:
        """Look once -> (what is decided, the generation, what is told of the last change)."""
        await self.reload.look()
        return await self.effects(), self.reload.state.generation, self.reload.state.readiness()

    async def restart(self) -> None:
        """Kill Cerbos, and wait for the one that takes its place."""
        assert self.embedded is not None
        before = self.embedded.restarts
        os.kill(self.embedded._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        await until(lambda: self.embedded.restarts > before)  # type: ignore[union-attr]
        async with asyncio.timeout(10):
            while not await self.embedded._listens():
                await asyncio.sleep(0.05)

    async def aclose(self) -> None:
        await self._pdp.aclose()
        await self.reload.aclose()
        if self.embedded is not None:
            await self.embedded.stop()


async def play_embedded(tmp_path: Path, program: Path, **more: Any) -> Play:
    folder = tmp_path / "policies"
    folder.mkdir()
    for kind, effect in (("a", ALLOW), ("b", DENY)):
        (folder / f"{kind}.yaml").write_text(POLICY.format(kind=kind, effect=effect))
    embedded = EmbeddedCerbos(folder, binary=str(program))
    await embedded.start()
    more = {"snapshot": embedded.snapshot, "compile_all": embedded.compile, **more}
    return Play(folder, reload_of(embedded.target, folder, **more), embedded.target, embedded)


@pytest.fixture(params=BINARIES, ids=lambda path: "0.51" if "cerbos/node_modules" in str(path) else "0.55")
async def play(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Play]:
    """The embedded Cerbos, of each version that is here: a is allowed, b is denied, c has no policy."""
    play = await play_embedded(tmp_path, request.param)
    assert await play.look() == ("AD-", 1, "ok")
    yield play
    await play.aclose()


async def test_a_change_is_in_force_when_it_is_told(play: Play) -> None:
    play.write("a", DENY)
    play.write("c", ALLOW)
    assert await play.look() == ("DDA", 2, "ok")
    assert await play.look() == ("DDA", 2, "ok")
    assert play.reload.state.loaded_at == 5.0
    await play.restart()
    assert await play.look() == ("DDA", 2, "ok")


@pytest.mark.parametrize(
    "broken", ["c: [", UNSOUND, UNDEFINED, POLICY.replace("{kind}", "a"), "schema", "link", "empty"]
)
async def test_a_broken_change_is_not_in_force_in_part(play: Play, broken: str) -> None:
    """A change of several files, of which one is broken: nothing of it, now or after Cerbos has started again."""
    play.write("b", ALLOW)
    place = f"{play.folder}/c.yaml"
    if broken == "schema":
        (play.folder / "_schemas").mkdir()
        (play.folder / "_schemas/x.json").write_text("{")
        place = f"{play.folder}/_schemas/x.json"
    elif broken == "link":
        (play.folder / "sub").symlink_to("nowhere")
        place = f"{play.folder}/sub"
    elif broken == "empty":
        for path in play.folder.glob("*.yaml"):
            path.unlink()
        place = f"{play.folder}"
    else:
        play.write("c", policy=broken)
    effects, generation, told = await play.look()
    assert (effects, generation) == ("AD-", 1)
    assert told.startswith(f"failed: {place}")
    await play.restart()
    assert await play.effects() == "AD-"
    # mended: the whole of it
    for path in (play.folder / "_schemas/x.json", play.folder / "sub"):
        path.unlink(missing_ok=True)
    play.write("a")
    play.write("b", ALLOW)
    play.write("c", ALLOW)
    assert await play.look() == ("AAA", 2, "ok")


async def test_the_next_change_is_looked_at_whatever_the_last_one_did(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(policies: PolicySnapshot) -> list[str]:
        raise ValueError("odd")

    compiles = play.reload._compile
    monkeypatch.setattr(play.reload, "_compile", broken)
    play.write("a", DENY)
    assert await play.look() == ("AD-", 1, f"failed: {play.folder}")
    assert play.reload.state.fault == f"{play.folder}: ValueError: odd"
    monkeypatch.setattr(play.reload, "_compile", compiles)
    play.write("c", ALLOW)
    assert await play.look() == ("DDA", 2, "ok")


async def test_one_proof_that_fails_is_tried_again(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Cerbos that has just started was seen to answer OK to a reload, and not to have what it read."""
    prove, failed = play.reload._admin.prove_digest, [2]

    async def late(digest: str, folder: Path) -> None:
        if failed[0]:
            failed[0] -= 1
            raise PolicyFault(["late"])
        await prove(digest, folder)

    monkeypatch.setattr(play.reload._admin, "prove_digest", late)
    play.write("c", ALLOW)
    assert await play.look() == ("ADA", 2, "ok")


async def test_what_is_never_proven_is_tried_again_at_the_next_look(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prove = play.reload._admin.prove_digest

    async def never(digest: str, folder: Path) -> None:
        raise Unproven(["not yet"])

    monkeypatch.setattr(policy_reload, "PROVE_AGAIN", 0.0)
    monkeypatch.setattr(play.reload._admin, "prove_digest", never)
    play.write("c", ALLOW)
    for _ in range(2):
        assert (await play.look())[1:] == (1, "failed: not yet")
    assert caplog.text.count("policies not reloaded") == 1
    monkeypatch.setattr(play.reload._admin, "prove_digest", prove)
    assert await play.look() == ("ADA", 2, "ok")


async def test_files_may_change_their_names(play: Play) -> None:
    """`watchForChanges` loses the policy of a renamed file, and never takes over two that swap theirs."""
    (play.folder / "a.yaml").rename(play.folder / "z.yaml")
    assert await play.look() == ("AD-", 2, "ok")
    (play.folder / "b.yaml").rename(play.folder / "t")
    (play.folder / "z.yaml").rename(play.folder / "b.yaml")
    (play.folder / "t").rename(play.folder / "z.yaml")
    assert await play.look() == ("AD-", 3, "ok")
    (play.folder / "b.yaml").unlink()
    assert await play.look() == ("-D-", 4, "ok")


async def test_folders_behind_links_are_read(play: Play, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "c.yaml").write_text(POLICY.format(kind="c", effect=ALLOW))
    (play.folder / "sub").symlink_to(other)
    assert await play.look() == ("ADA", 2, "ok")
    (other / "c.yaml").write_text(POLICY.format(kind="c", effect=DENY))
    assert await play.look() == ("ADD", 3, "ok")
    (other / "round").symlink_to(play.folder)
    assert (await play.look())[2] == f"failed: {play.folder}/sub/round"


async def test_ok_is_not_believed(tmp_path: Path) -> None:
    """Cerbos answers OK to a reload of what does not compile: without our compiler the proof alone finds it."""
    for number, program in enumerate(BINARIES):
        (tmp_path / str(number)).mkdir()
        play = await play_embedded(tmp_path / str(number), program, compile_all=None)
        await play.look()
        for policy in (UNSOUND, UNDEFINED):
            play.write("b", ALLOW)
            play.write("c", policy=policy)
            assert await play.look() == ("AD-", 1, f"failed: {play.folder}")
            assert "answered OK" in play.reload.state.fault
            await play.restart()
            assert await play.effects() == "AD-"
        await play.aclose()


# --- a Cerbos that we do not run ---


async def test_a_swapped_volume_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sidecar.cerbos")
    folder = tmp_path / "policies"
    configmap.put(folder, POLICIES, 1)
    async with cerbos(folder, tmp_path / "run") as target:
        reload = reload_of(target, folder)
        await reload.look()
        assert b"more.yaml" not in await listed(target)
        configmap.put(folder, OTHER, 2)
        await reload.look()
        assert b"more.yaml" in await listed(target)
        assert reload.state.generation == 2

        configmap.put(folder, BROKEN, 3)
        await reload.look()
        assert b"more.yaml" in await listed(target)
        assert "the running ones stay in force" in caplog.text
        assert reload.state.readiness().startswith("failed")
        said = len(caplog.records)
        await reload.look()
        assert len(caplog.records) == said  # told once

        configmap.put(folder, POLICIES, 4)
        await reload.look()
        assert b"more.yaml" not in await listed(target)
        assert (reload.state.generation, reload.state.readiness()) == (3, "ok")
        await reload.aclose()


@pytest.mark.parametrize("program", BINARIES)
async def test_what_does_not_compile_is_told_of_a_cerbos_elsewhere_too(
    tmp_path: Path, program: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "policies"
    configmap.put(folder, POLICIES, 1)
    unsound = {**POLICIES, "c.yaml": UNSOUND.format(kind="c", effect=ALLOW)}
    async with cerbos(folder, tmp_path / "run", program) as target:
        told: list[tuple[int, str]] = []
        # without a binary here Cerbos' Admin API proves it; with one nothing is told to Cerbos
        for compiler in (None, partial(problems_of, program, folder)):
            reload = reload_of(target, folder, compile_all=compiler)
            await reload.look()
            configmap.put(folder, unsound, len(told) + 2)
            await reload.look()
            told.append((reload.state.generation, reload.state.fault))
            assert (b"c.yaml" in await listed(target)) == (compiler is None)
            # nobody may rely on policies that Cerbos has put away
            assert ("the running ones stay in force" in caplog.text) == (compiler is not None)
            assert ("what it decides by now is not known" in caplog.text) == (compiler is None)
            caplog.clear()
            configmap.put(folder, POLICIES, len(told) + 20)
            await reload.look()
            assert (reload.state.generation, reload.state.readiness()) == (2, "ok")
            await reload.aclose()
    assert told[0] == (1, f"{folder}: {policy_reload._NOT_COMPILED}")
    assert told[1][0] == 1
    assert told[1][1].startswith(f"{folder}/c.yaml:6:")


async def test_a_cerbos_that_reads_another_folder_is_told(tmp_path: Path) -> None:
    folder, other = tmp_path / "policies", tmp_path / "other"
    configmap.put(folder, POLICIES, 1)
    configmap.put(other, OTHER, 1)
    async with cerbos(other, tmp_path / "run") as target:
        reload = reload_of(target, folder)
        await reload.look()
        assert reload.state.fault == f"{folder}: Cerbos has read other files than these: more.yaml"
        assert reload.state.generation == 0
        await reload.aclose()


async def test_a_link_to_a_folder_is_refused_where_cerbos_reads_the_folder_itself(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    configmap.put(folder, POLICIES, 1)
    configmap.put(tmp_path / "other", OTHER, 1)
    (folder / "sub").symlink_to(tmp_path / "other")
    async with cerbos(folder, tmp_path / "run") as target:
        reload = reload_of(target, folder)
        await reload.look()
        assert reload.state.fault.startswith(f"{folder}/sub: a link to a folder, which Cerbos does not read")
        await reload.aclose()


async def test_names_that_cerbos_reads_and_leaves_out_are_known(tmp_path: Path) -> None:
    names = (
        "a.yaml",
        "b.YML",
        "sub/c.json",
        "_d.yaml",
        "e_tests.yaml",
        "#f.yml",
        "g_test.yaml",
        "testdata/h.yaml",
        ".i.yaml",
    )
    folder = tmp_path / "policies"
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = POLICY.format(kind=f"k{number}", effect=ALLOW)
        (folder / name).write_text(json.dumps(yaml.safe_load(text)) if name.endswith("json") else text)
    (folder / "off.yaml").write_text("disabled: true\n" + POLICY.format(kind="off", effect=ALLOW))
    for program in BINARIES:
        async with cerbos(folder, tmp_path / str(BINARIES.index(program)), program) as target:
            reload = reload_of(target, folder)
            await reload.look()
            assert (reload.state.generation, reload.state.readiness()) == (1, "ok")
            await reload.aclose()


async def test_wrong_credentials_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "policies"
    configmap.put(folder, POLICIES, 1)
    async with cerbos(folder, tmp_path / "run") as target:
        reload = reload_of(target, folder, credentials="authz:wrong")
        await reload.look()
        await reload.aclose()
    assert "UNAUTHENTICATED" in caplog.text


async def test_a_cerbos_that_is_away_is_told_when_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_reload, "WATCH_EVERY", 0.05)
    folder = tmp_path / "policies"
    configmap.put(folder, POLICIES, 1)
    reload = reload_of(f"unix:{tmp_path}/run/grpc.sock", folder)
    await reload.look()
    assert reload.state.generation == 0
    async with cerbos(folder, tmp_path / "run") as target:
        configmap.put(folder, OTHER, 2)
        watching = asyncio.ensure_future(reload.watch())
        async with asyncio.timeout(10):
            while b"more.yaml" not in await listed(target):
                await asyncio.sleep(0.02)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await reload.aclose()


async def test_without_authorization_the_admin_api_answers_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    configmap.put(folder, POLICIES, 1)
    async with cerbos(folder, tmp_path / "run") as target:
        method = GrpcMethod("/cerbos.svc.v1.CerbosAdminService/ReloadStore", "localhost", 5.0)
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


ROUTES = "version: 1\nroutes: [{path: /, resource: contact, actions: {GET: export}}]\n"
REMEMBERING = ROUTES.replace("routes:", "cache: {decisions: 60s}\nroutes:")
# by its file alone each change looks sound
OPEN_TO = POLICIES["contact.yaml"] + "\n    - {actions: [export], effect: EFFECT_ALLOW, roles: [user]}\n"


@dataclass
class Followed:
    """A sidecar that follows its policies."""

    sidecar: Sidecar
    folder: Path
    token: str

    def readiness(self) -> tuple[object, ...]:
        """What it answers, and what it tells of its policies."""
        sidecar = self.sidecar
        got = sidecar.get("/", self.token)
        ready = json.loads(sidecar.admin("/readyz").body)
        shown = json.loads(sidecar.admin("/config").body)["policies"]
        # the first line of a worker may come after the other one has settled
        wait_for(sidecar.decisions)
        generations = {
            sidecar.decisions()[-1]["policies"], shown["generation"], sidecar.metric("sidecar_policies_generation"),
        }  # fmt: skip
        success = sidecar.metric("sidecar_policies_reload_success")
        return got.status, generations, success, {shown["reload"], ready["policies"]}, ready["ready"]

    def becomes(self, status: int, generation: int, success: int, state: str) -> None:
        """Wait until it answers so, and tells so, each time."""
        expected = (status, {generation}, success, {state}, True)
        with contextlib.suppress(AssertionError):
            # with two workers each says what it knows, up to a second late
            wait_for(lambda: [self.readiness() for _ in range(4)] == [expected] * 4, 15)
        assert self.readiness() == expected

    def tells_everywhere(self) -> None:
        """Begin with what is closed."""
        self.becomes(403, 1, 1, "ok")
        configmap.put(self.folder, {**POLICIES, "contact.yaml": OPEN_TO, "x.yaml": "x: ["}, 2)
        self.becomes(403, 1, 0, f"failed: {self.folder}/x.yaml:1:4")
        configmap.put(self.folder, {**POLICIES, "contact.yaml": OPEN_TO}, 3)
        self.becomes(200, 2, 1, "ok")
        assert self.sidecar.metric("sidecar_policies_loaded_timestamp_seconds") > 1e9
        assert self.sidecar.log().count("Cerbos has read the policies") == 1

    def forgets(self) -> None:
        """Begin with what is open."""
        assert [self.sidecar.get("/", self.token).status for _ in range(8)] == [200] * 8
        assert "hit" in [line["cache"] for line in self.sidecar.decisions()[-8:]]
        configmap.put(self.folder, POLICIES, 4)
        wait_for(lambda: [self.sidecar.get("/", self.token).status for _ in range(8)] == [403] * 8, 20)


@contextlib.contextmanager
def followed(tmp_path: Path, routes: str, policies: dict[str, str], workers: str = "1") -> Iterator[Followed]:
    folder = tmp_path / "policies"
    configmap.put(folder, policies, 1)
    keys, upstream = Web(), Recorder()
    keys.json("/jwks", key_set())
    environ = {**environment(keys.port), "SIDECAR_CERBOS_TIMEOUT": "5s", "SIDECAR_WORKERS": workers}
    token = mint(claims(time.time())).decode()
    with running_sidecar(tmp_path / "own", routes, folder, f"http://127.0.0.1:{upstream.port}", environ) as sidecar:
        yield Followed(sidecar, folder, token)
    keys.close()
    upstream.close()


def test_which_policies_are_in_force_is_told_everywhere(tmp_path: Path) -> None:
    with followed(tmp_path, ROUTES, POLICIES) as running:
        running.tells_everywhere()


def test_what_other_policies_decided_is_not_remembered(tmp_path: Path) -> None:
    with followed(tmp_path, REMEMBERING, {**POLICIES, "contact.yaml": OPEN_TO}) as running:
        running.forgets()


def test_workers_tell_and_forget_as_one(tmp_path: Path) -> None:
    with followed(tmp_path, REMEMBERING, POLICIES, workers="2") as running:
        running.tells_everywhere()
        running.forgets()


def test_a_generation_is_told_to_workers(tmp_path: Path) -> None:
    state, followed = (
        PolicyState(3, "x.yaml:1:1: broken", 7.0, "0123456789abcdef"),
        FollowedPolicies(tmp_path / "state.json"),
    )
    followed.read()
    assert followed.state == PolicyState()
    publish_to(tmp_path / "state.json")(state)
    followed.read()
    assert (followed.state, followed.state.readiness()) == (state, "failed: x.yaml:1:1")


def test_nowhere_does_cerbos_reload_beside_us() -> None:
    """Its own watch takes a change file by file."""
    files = [ROOT / "docker-compose.yaml", *(ROOT / "deploy").rglob("*"), *(ROOT / "sidecar").rglob("*")]
    texts = {path: path.read_text(errors="replace") for path in files if path.is_file()}
    assert [
        str(path) for path, text in texts.items() if re.search(r"watchForChanges\W+true", text, re.IGNORECASE)
    ] == []
