"""Runs the Cerbos binary on a private unix socket, watches it, and takes it down with us whatever way we end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidecar.pdp import cerbos_version, compiling
from sidecar.pdp.cerbos_binary import EXPECTED, NoCerbos, environment, find_binary
from sidecar.pdp.policy_files import Changing, PolicyFault, PolicySnapshot, Snapshot, read_policies
from sidecar.tether import tethered

log = logging.getLogger("sidecar.cerbos")

ADMIN = "authz:authz"
"""Of its Admin API, for `policy_reload`. Who may use it is who has the socket, in a folder that is ours alone."""
_ADMIN_HASH = "JDJiJDA0JEZxeGtyZ0RsNE5kNk4ySHA1bUJ6RS5LVm5zYlZSakc4UTc0ZTYxSHdWN2J6ZEZ6UkZ2dUdP"
"""The password as Cerbos wants it: bcrypt, then base64. It is known to all, so of the least cost: each call pays it."""
START_WITHIN = 10.0
STOP_WITHIN = 3.0
_FIRST_BACKOFF, _MAX_BACKOFF = 0.1, 5.0
_GOOD_RUN = 10.0
"""Seconds after which a Cerbos that ended is started again without delay."""
_MAX_SOCKET_PATH = 103
"""Bytes of a unix socket's path (unix(7) has room for 107, other systems for 103)."""


async def try_to_serve(binary: Path, environ: Mapping[str, str]) -> None:
    """Start a program as a Cerbos without policies, and stop it. `environ` are variables of its environment. Raises
    OSError, NoCerbos where it tells no version either."""
    with tempfile.TemporaryDirectory(prefix="sidecar-policies-") as folder:
        cerbos = EmbeddedCerbos(Path(folder), binary=str(binary), environ=environ, strict=False, empty=True)
        try:
            await cerbos.start()
        finally:
            await cerbos.stop()


class EmbeddedCerbos:
    """One Cerbos of our own for `policies`. Raises OSError when made, if there is no binary or no such folder.

    It reads a `snapshot` of them, which `PolicyReload` changes whole and only for one that compiles: one that starts
    again starts with that, whatever has become of the folder.
    `environ` are variables of its environment besides what it always gets. With `strict` an action is denied where a
    condition of one of its rules cannot be evaluated, by a Cerbos that can do so. It starts without any policy, and so
    denies everything, if the folder may be `empty`.
    """

    def __init__(
        self, policies: Path, *, binary: str | None = None, environ: Mapping[str, str] | None = None,
        strict: bool = True, empty: bool = False,
    ) -> None:  # fmt: skip
        if not policies.is_dir():
            raise OSError(f"found no folder {policies}, expected the policies (SIDECAR_POLICIES)")
        self._binary = find_binary(binary)
        self._policies = policies.absolute()
        self._environ = dict(environ or {})
        self._strict = strict
        self._empty = empty
        self._folder = Path(tempfile.gettempdir()) / f"cerbos-{secrets.token_hex(6)}"
        if len(os.fsencode(self._folder / "grpc.sock")) > _MAX_SOCKET_PATH:
            raise OSError(f"the path of {self._folder} is too long for a socket in it: set TMPDIR to a shorter one")
        self.snapshot = Snapshot(self._policies, self._folder)
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.restarts = 0
        self._last_lines: list[str] = []
        self._readers: set[asyncio.Task[None]] = set()

    @property
    def target(self) -> str:
        """Where it can be asked, for gRPC."""
        return f"unix:{self._folder / 'grpc.sock'}"

    async def start(self) -> None:
        """Start it, and return when it listens. Raises OSError with what it said, if it ends instead, or with what is
        wrong with the policies."""
        # who else is on this machine can neither ask it nor take its place: the folder is new, and ours alone
        self._folder.mkdir(mode=0o700)
        try:
            written = await asyncio.to_thread(self._take_policies)
        except OSError:
            await self.stop()
            raise
        version = await self._version()
        self._write_config(cerbos_version.engine(version, self._strict))
        # beside the start: Cerbos itself ends at what does not compile, and serves with a schema that is broken
        compiled = asyncio.ensure_future(
            asyncio.to_thread(compiling.compile_policies, self._binary, written, self._policies)
        )
        try:
            await self._begin_as(version)
            problems = await compiled
        except BaseException:
            await asyncio.gather(compiled, return_exceptions=True)
            await self.stop()
            raise
        if problems:
            await self.stop()
            raise OSError("\n".join(problems))
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def compile(self, policies: PolicySnapshot) -> list[str]:
        """Compile a version of the policies. Raises OSError."""
        return compiling.problems_of(self._binary, self._policies, policies)

    def _take_policies(self) -> Path:
        try:
            policies = read_policies(self._policies, empty=self._empty)
        except PolicyFault as fault:
            raise OSError("\n".join(fault.problems)) from None
        except Changing:
            raise OSError(f"{self._policies} changes while it is read, expected it to stay as it is") from None
        written = self.snapshot.write(policies)
        self.snapshot.put_in_force(written, policies.stamp, policies.digest)
        return written

    async def _begin_as(self, version: cerbos_version.Version) -> None:
        try:
            await self._begin()
        except OSError as error:
            if version != cerbos_version.UNKNOWN:
                raise
            # what is no Cerbos says nothing that would tell so
            said = f"found {self._binary}, which tells no version and does not serve ({error}), {EXPECTED}"
            raise NoCerbos(said) from None

    async def _begin(self) -> None:
        await self._spawn()
        process = self._process
        assert process is not None  # noqa: S101 - for the type checker
        try:
            async with asyncio.timeout(START_WITHIN):
                while not await self._listens():
                    if process.returncode is not None:
                        break
                    await asyncio.sleep(0.005)
        except TimeoutError:
            await self.stop()
            raise OSError(f"Cerbos did not listen within {START_WITHIN:g} s") from None
        if process.returncode is not None:
            await self.stop()  # reads its last words, too
            said = f": {'; '.join(self._last_lines[-4:])}" if self._last_lines else ""
            raise OSError(f"Cerbos ended with {process.returncode}{said}")

    async def _listens(self) -> bool:
        path = self._folder / "grpc.sock"
        # to look is cheaper than to try; a socket has a path before it takes connections
        if not path.exists():
            return False
        try:
            _, writer = await asyncio.open_unix_connection(str(path))
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def _version(self) -> cerbos_version.Version:
        version = await asyncio.to_thread(cerbos_version.version_of, self._binary)
        if lax := cerbos_version.lax(version, self._strict):
            log.warning("%s", lax)
        return version

    def _write_config(self, engine: dict[str, Any]) -> None:
        config = {
            "engine": engine,
            "server": {
                "grpcListenAddr": self.target,
                "httpListenAddr": f"unix:{self._folder / 'http.sock'}",
                "metricsEnabled": False,
                "requestLimits": {"maxActionsPerResource": 50, "maxResourcesPerRequest": 50},
                "adminAPI": {
                    "enabled": True,
                    "adminCredentials": {"username": ADMIN.partition(":")[0], "passwordHash": _ADMIN_HASH},
                },
            },
            "storage": {"driver": "disk", "disk": {"directory": str(self.snapshot.link), "watchForChanges": False}},
            # attributes that do not fit a policy's schema are told in the answer, and refused by the gate
            "schema": {"enforcement": "reject"},
            "telemetry": {"disabled": True},
            "audit": {"enabled": False},
        }
        # JSON is YAML
        (self._folder / "cerbos.yaml").write_text(json.dumps(config), encoding="utf-8")

    async def _spawn(self) -> None:
        for name in ("grpc.sock", "http.sock"):
            (self._folder / name).unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *tethered([str(self._binary), "server", f"--config={self._folder / 'cerbos.yaml'}", "--log-level=warn"]),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=environment() | self._environ, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        reader = asyncio.get_running_loop().create_task(self._fold(self._process.stdout))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)

    async def _fold(self, stream: asyncio.StreamReader) -> None:
        """Fold its log lines into ours, to the end: a process whose output nobody reads stands still."""
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # a line beyond the stream's limit, which is dropped
                continue
            if not line:
                return
            self._log(line.decode("utf-8", "replace").rstrip())

    def _log(self, line: str) -> None:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            fields = {"message": line}
        message, level = str(fields.pop("message", "")), str(fields.pop("log.level", "info")).upper()
        if fields.get("log.logger") == "cerbos.otel":
            # that it has no exporter of traces is what we chose, or its exporter's affair
            return
        words = f"{message} {fields.get('error', '')}".strip()
        self._last_lines = [*self._last_lines[-9:], *map(str, compiling.faults_in(fields, self._policies)), words]
        number = logging.getLevelNamesMapping().get(level, logging.INFO)
        log.log(number, "%s", message, extra={"fields": {"cerbos": fields}})

    async def _watch(self) -> None:
        """Start it again whenever it ends, ever later while it keeps ending."""
        loop, backoff = asyncio.get_running_loop(), _FIRST_BACKOFF
        while True:
            process, since = self._process, loop.time()
            assert process is not None  # noqa: S101 - for the type checker
            code = await process.wait()
            backoff = _FIRST_BACKOFF if loop.time() - since > _GOOD_RUN else min(backoff * 2, _MAX_BACKOFF)
            log.error("Cerbos ended with %s, starting it again in %.1f s", code, backoff)
            await asyncio.sleep(backoff)
            self.restarts += 1
            try:
                await self._spawn()
            except OSError as error:
                log.error("Cerbos cannot be started: %s", error)  # noqa: TRY400 - the reason is in the message

    async def stop(self) -> None:
        """Stop it, and remove its folder."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        process = self._process
        if process is not None:
            if process.returncode is None:
                _signal_group(process.pid, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), STOP_WITHIN)
            # what it has started may live on, and hold the pipe that is read
            _signal_group(process.pid, signal.SIGKILL)
            await process.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def _signal_group(leader: int, number: signal.Signals) -> None:
    """Send a signal to a process of ours, which leads a group of its own, and to all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
