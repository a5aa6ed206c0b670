"""Puts changed policies into force, whole or not at all, and proves it.

The reload is ours alone: Cerbos' own `watchForChanges` takes a change file by file, so that half of a broken one is in
force, and sees neither links nor the swap of a ConfigMap (Kubernetes, pkg/volume/util/atomic_writer.go: one link,
`..data`, is renamed). A version that cannot be used is never told. `ReloadStore` alone proves nothing: to 0.55 Cerbos
answers OK where an expression does not compile, and what it decides by then depends on its version.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cerbos.effect.v1 import effect_pb2
from cerbos.request.v1 import request_pb2
from cerbos.response.v1 import response_pb2

from sidecar.net.grpc_client import Channel
from sidecar.net.grpc_client_connection import GrpcMethod
from sidecar.pdp.policy_files import (
    ACTION,
    KIND,
    ROLE,
    Changing,
    PolicyFault,
    PolicySnapshot,
    Snapshot,
    Stamp,
    read_policies,
    stamp_of,
)
from sidecar.wire.grpc import CallFailed, Status

log = logging.getLogger("sidecar.cerbos")

WATCH_EVERY = 1.0
"""Seconds between two looks at the folder."""
PROOFS, PROVE_AGAIN = 8, 0.25
"""Reloads before a change counts as not taken, and seconds between two."""
RELOAD_WITHIN = 10.0
"""Seconds for Cerbos to compile what it reads."""
_AGAIN = frozenset((Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED))
_ADMIN = "/cerbos.svc.v1.CerbosAdminService/"

_NOT_COMPILED = "an expression does not compile, and Cerbos does not start with it: `cerbos compile` tells where"

_TAKEN = "not proven to be in force: Cerbos has read them, and what it decides by now is not known"

Compile = Callable[[PolicySnapshot], list[str]]
"""Compiles a version: its problems, a line each. Raises OSError where there is no compiler."""


@dataclass
class PolicyState:
    """Which policies are in force. `generation` is 1 for those of the start, one more for each change that was proven,
    and 0 until that is known. `fault` says why the last change is not in force, "" where it is. `revision` is the
    digest of those that are, "" where it is not known. `changed` is called whenever the generation is another."""

    generation: int = 0
    fault: str = ""
    loaded_at: float = 0.0
    revision: str = ""
    changed: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    def readiness(self) -> str:
        """Return the state for `/readyz`: `ok`, or the place of the fault. What stands there is for the log."""
        return f"failed: {self.fault.splitlines()[0].partition(': ')[0]}" if self.fault else "ok"

    def shown(self) -> dict[str, object]:
        """Return the state for `/config`."""
        return {"generation": self.generation, "revision": self.revision, "reload": self.readiness()}

    def loaded(self, now: float, revision: str) -> None:
        """Another version is in force."""
        self.set(self.generation + 1, "", now, revision)

    def set(self, generation: int, fault: str, loaded_at: float, revision: str) -> None:
        """Take over what is known of the last change."""
        before, self.generation = self.generation, generation
        self.fault, self.loaded_at, self.revision = fault, loaded_at, revision
        if generation != before:
            self.changed()


class Unproven(PolicyFault):
    """Cerbos was told of policies that compile, and does not decide by them."""


class PolicyReload:
    """Watches `folder` for the Cerbos at `target`, whose Admin API takes `credentials` (`user:password`).

    With a `snapshot` Cerbos reads that, and else the folder itself. `compile_all` compiles a version before Cerbos is
    told; None where no binary is here. `now` gives Unix seconds, `publish` is told of each change of the state.
    """

    def __init__(
        self, target: str, credentials: str, folder: Path, *, now: Callable[[], float],
        snapshot: Snapshot | None = None, compile_all: Compile | None = None,
        publish: Callable[[PolicyState], None] = lambda state: None, tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self.state = PolicyState()
        self._admin = _Admin(target, credentials, tls)
        self._folder = folder
        self._snapshot = snapshot
        self._compile = compile_all
        self._now = now
        self._publish = publish
        # whether Cerbos has read the folder itself for this change: then what it decides by is not the old any more
        self._taken = False
        # what a Cerbos that we do not run has read may be older than what is here now: the first look asks, too
        self._seen: Stamp | None = None

    async def watch(self) -> None:
        """Look at the folder for ever."""
        while True:
            await self.look()
            await asyncio.sleep(WATCH_EVERY)

    async def look(self) -> None:
        """Put the policies into force if they changed since they were last looked at."""
        self._begin()
        stamp = await asyncio.to_thread(stamp_of, self._folder)
        if stamp == self._seen:
            return
        self._taken = False
        try:
            policies = await asyncio.to_thread(read_policies, self._folder, follow=self._snapshot is not None)
            stamp = policies.stamp
            await self._put_in_force(policies)
        except Changing:
            return
        except Exception as error:  # noqa: BLE001 - whatever this change does to us, the next one is to be looked at
            if isinstance(error, CallFailed) and error.status in _AGAIN:
                return
            problems = _problems_of(error, self._folder)
            # what compiles and is not in force is tried again at each look, and told once
            again = isinstance(error, Unproven)
            if not again or self.state.fault != "\n".join(problems):
                self._failed(problems)
            if again:
                self._publish(self.state)
                return
        else:
            self.state.loaded(self._now(), policies.digest)
            log.info("Cerbos has read the policies in %s, generation %d", self._folder, self.state.generation)
        self._seen = stamp
        self._publish(self.state)

    def _begin(self) -> None:
        if self._snapshot is not None and self._seen is None:
            # a Cerbos that has started has read its snapshot whole
            self._seen = self._snapshot.stamp
            self.state.loaded(self._now(), self._snapshot.digest)
            self._publish(self.state)

    def _failed(self, problems: list[str]) -> None:
        self.state.fault = "\n".join(problems)
        if self._taken:
            self.state.revision = ""
        what = "not reloaded, the running ones stay in force" if not self._taken else _TAKEN
        log.error("policies %s:\n%s", what, self.state.fault)

    async def _put_in_force(self, policies: PolicySnapshot) -> None:
        """Raises PolicyFault, CallFailed, OSError."""
        if self._compile is not None and (problems := await asyncio.to_thread(self._compile, policies)):
            raise PolicyFault(problems)
        if self._snapshot is None:
            await self._reload_until(lambda: self._admin.prove_files(policies, self._folder))
            return
        before = self._snapshot.link.resolve(), self._snapshot.stamp, self._snapshot.digest
        written = await asyncio.to_thread(self._snapshot.write, policies)
        self._snapshot.put_in_force(written, policies.stamp, policies.digest)
        try:
            await self._reload_until(lambda: self._admin.prove_digest(policies.digest, self._folder))
        except (PolicyFault, CallFailed):
            # one that Cerbos does not take must not be what it starts with
            self._snapshot.put_in_force(*before)
            raise

    async def _reload_until(self, prove: Callable[[], Awaitable[None]]) -> None:
        """Have the policies read, until that is proven: one that has just started may answer before it has done so.
        Raises PolicyFault, CallFailed."""
        for left in reversed(range(PROOFS)):
            await self._admin.reload()
            self._taken = self._snapshot is None
            try:
                return await prove()
            except PolicyFault:
                if not left:
                    raise
            await asyncio.sleep(PROVE_AGAIN)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._admin.aclose()


def _problems_of(error: Exception, folder: Path) -> list[str]:
    match error:
        case PolicyFault():
            return error.problems
        case CallFailed():
            return [f"{folder}: Cerbos does not reload: {error.status.name} {error.detail}"]
        case OSError():
            return [f"{folder}: {error}"]
        case _:
            return [f"{folder}: {type(error).__name__}: {error}"]


class _Admin:
    """Cerbos' Admin API, and the check that proves a snapshot."""

    def __init__(self, target: str, credentials: str, tls: ssl.SSLContext | None) -> None:
        self._authority = "localhost" if target.startswith("unix:") else target
        self._basic = "Basic " + base64.b64encode(credentials.encode("ascii")).decode("ascii")
        self._secure = tls is not None
        self._reload = self._method(_ADMIN + "ReloadStore")
        self._channel = Channel(target, self._reload, tls)
        self.aclose = self._channel.aclose

    def _method(self, path: str) -> GrpcMethod:
        return GrpcMethod(path, self._authority, RELOAD_WITHIN, self._basic, secure=self._secure)

    async def _call(self, method: GrpcMethod, message: bytes) -> bytes:
        return await self._channel.call(method, message, asyncio.get_running_loop().time() + RELOAD_WITHIN)

    async def reload(self) -> None:
        """Have the policies read again, and wait until they are, or cannot be. Raises CallFailed."""
        await self._call(self._reload, request_pb2.ReloadStoreRequest(wait=True).SerializeToString())

    async def prove_digest(self, digest: str, folder: Path) -> None:
        """Raise PolicyFault unless the snapshot with this digest is in force; CallFailed."""
        asked = request_pb2.CheckResourcesRequest()
        asked.principal.id, asked.request_id = ROLE, digest
        asked.principal.roles.append(ROLE)
        entry = asked.resources.add(actions=[ACTION])
        entry.resource.kind, entry.resource.id, entry.resource.policy_version = KIND, "-", f"d{digest}"
        data = await self._call(self._method("/cerbos.svc.v1.CerbosService/CheckResources"), asked.SerializeToString())
        told = response_pb2.CheckResourcesResponse.FromString(data)
        if [dict(result.actions) for result in told.results] != [{ACTION: effect_pb2.EFFECT_ALLOW}]:
            raise Unproven([f"{folder}: Cerbos answered OK and did not put these policies into force"])

    async def prove_files(self, policies: PolicySnapshot, folder: Path) -> None:
        """Raise PolicyFault unless Cerbos has exactly these files, and their expressions compile; CallFailed."""
        message = request_pb2.ListPoliciesRequest(include_disabled=True).SerializeToString()
        data = await self._call(self._method(_ADMIN + "ListPolicies"), message)
        listed = frozenset(response_pb2.ListPoliciesResponse.FromString(data).policy_ids)
        # a policy that is disabled is not listed
        strange = sorted(listed - policies.names)
        missing = sorted(name for name in policies.names - listed if b"disabled" not in policies.files[name])
        if strange or missing:
            names = ", ".join([*(f"not {name}" for name in missing), *strange][:5])
            raise PolicyFault([f"{folder}: Cerbos has read other files than these: {names}"])
        try:
            await self._call(self._method(_ADMIN + "InspectPolicies"), b"")
        except CallFailed as error:
            if error.status is not Status.INTERNAL:
                raise
            raise PolicyFault([f"{folder}: {_NOT_COMPILED}"]) from None


# --- what several workers know of the one Cerbos that their parent runs ---


def publish_to(path: Path) -> Callable[[PolicyState], None]:
    """A `publish` that writes the state to a file, at once or not at all."""

    def publish(state: PolicyState) -> None:
        new = path.with_suffix(".new")
        new.write_text(json.dumps([state.generation, state.fault, state.loaded_at, state.revision]), encoding="utf-8")
        os.replace(new, path)

    return publish


class FollowedPolicies:
    """The state that another process publishes to `path`."""

    def __init__(self, path: Path) -> None:
        self.state = PolicyState()
        self._path = path

    async def watch(self) -> None:
        """Read it for ever."""
        while True:
            self.read()
            await asyncio.sleep(WATCH_EVERY)

    def read(self) -> None:
        """Read it; a file that is not there yet says nothing."""
        try:
            generation, fault, loaded_at, revision = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        self.state.set(int(generation), str(fault), float(loaded_at), str(revision))

    async def aclose(self) -> None:
        """There is nothing to close."""
