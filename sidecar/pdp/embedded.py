"""Runs the Cerbos binary on a private unix socket, watches it, and takes it down with us whatever way we end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from sidecar.pdp import cerbos_version
from sidecar.pdp.policy_files import (
    Changing,
    PolicyFault,
    PolicyProblem,
    PolicySnapshot,
    Snapshot,
    read_policies,
    write_files,
)
from sidecar.tether import tethered

log = logging.getLogger("sidecar.cerbos")

ADMIN = "authz:authz"
"""Of its Admin API, for `policy_reload`. Who may use it is who has the socket, in a folder that is ours alone."""
_ADMIN_HASH = "JDJiJDA0JEZxeGtyZ0RsNE5kNk4ySHA1bUJ6RS5LVm5zYlZSakc4UTc0ZTYxSHdWN2J6ZEZ6UkZ2dUdP"
"""The password as Cerbos wants it: bcrypt, then base64. It is known to all, so of the least cost: each call pays it."""
_GOGC = 400
"""Of Go: a wide target, since a policy engine's garbage is short-lived and its live set small."""
START_WITHIN = 10.0
STOP_WITHIN = 3.0
_FIRST_BACKOFF, _MAX_BACKOFF = 0.1, 5.0
_GOOD_RUN = 10.0
"""Seconds after which a Cerbos that ended is started again without delay."""
_MAX_SOCKET_PATH = 103
"""Bytes of a unix socket's path (unix(7) has room for 107, other systems for 103)."""


_EXPECTED = (
    f"expected the Cerbos binary: install Cerbos {cerbos_version.ADVISED} (https://docs.cerbos.dev), and name it by "
    "SIDECAR_CERBOS_BINARY"
)


class NoCerbos(OSError):
    """A program that does not do what Cerbos does, and does not say why."""


def find_binary(explicit: str | None) -> Path:
    """The Cerbos binary: the one named, else `cerbos` on PATH, else that of the npm package below the current folder.

    Raises OSError that says what was looked for and how to get it.
    """
    machine = os.uname().machine
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(machine.lower(), machine)
    name = f"cerbos-{sys.platform}-{machine}"
    if explicit:
        named = shutil.which(explicit)
        if named is None:
            raise OSError(f"found no program at {explicit}, expected the Cerbos binary")
        return _behind_starter(Path(named).absolute(), name)
    on_path = shutil.which("cerbos")
    packaged = Path("node_modules/@cerbos") / name / name
    if on_path is not None:
        found = _behind_starter(Path(on_path), name)
        if "node_modules" not in on_path or found != Path(on_path):
            return found
    if not packaged.is_file():
        raise OSError(
            f"found neither `cerbos` on PATH nor {packaged}: install it (https://docs.cerbos.dev), "
            f"or `{cerbos_version.npm_install(name)}`, or name one by SIDECAR_CERBOS_BINARY"
        )
    return packaged.resolve()


def _behind_starter(program: Path, name: str) -> Path:
    """Return what a program starts, if it is the npm package's own starter, a script that passes no signal on."""
    parts = program.absolute().parts
    if "node_modules" not in parts:
        return program
    node_modules = Path(*parts[: parts.index("node_modules") + 1])
    packaged = node_modules / "@cerbos" / name / name
    with contextlib.suppress(OSError), program.open("rb") as file:
        if file.read(2) == b"#!" and packaged.is_file():
            return packaged.resolve()
    return program


def problems_of(
    binary: Path, folder: Path, policies: PolicySnapshot | None = None, *, empty: bool = False
) -> list[str]:  # fmt: skip
    """All that is wrong with a policy folder, or with `policies` that were read of it: a line each. It may be `empty`
    where that is said. Raises OSError."""
    try:
        read = policies or read_policies(folder, empty=empty)
    except PolicyFault as fault:
        return fault.problems
    except Changing:
        return [f"{folder}: it changes while it is read, expected it to stay as it is"]
    return [str(problem) for problem in compile_snapshot(binary, folder, read)]


def compile_snapshot(
    binary: Path, folder: Path, policies: PolicySnapshot, without: Collection[str] = ()
) -> list[PolicyProblem]:  # fmt: skip
    """Compile what was read of a folder, but for the files `without`, named as in problems; a schema among them takes
    anything, so that Cerbos finds it. Raises OSError."""
    files = {
        name: content if str(folder / name) not in without else _ANY
        for name, content in policies.files.items()
        if str(folder / name) not in without or name.startswith(_SCHEMAS)
    }
    with tempfile.TemporaryDirectory(prefix="sidecar-policies-") as copy:
        # `cerbos compile` follows no links to folders
        write_files(Path(copy), files)
        return _compile(binary, Path(copy), folder)


_SCHEMAS, _ANY = "_schemas/", b"{}"
_NO_PARENT = "missing_scope_details"
_STRUCTURE = ("load_failures", "duplicate_defs", "missing_imports", _NO_PARENT)
"""Lists of Cerbos' report: where one of them has something, no expression was compiled."""
_CONSEQUENCES = ("missing_imports", _NO_PARENT)
"""Those that may come of what was left out."""


def all_problems_of(
    binary: Path, folder: Path, policies: PolicySnapshot, without: Collection[str]
) -> list[PolicyProblem]:
    """Compile what was read of a folder but for the files `without`, and again without those that keep Cerbos from
    compiling the others, until all of them are looked at. Raises OSError."""
    found: list[PolicyProblem] = []
    out = set(without)
    while True:
        told = compile_snapshot(binary, folder, policies, out)
        partly = any(not file.startswith(str(folder / _SCHEMAS)) for file in out)
        found += [
            problem for problem in told if problem not in found and not (partly and problem.kind in _CONSEQUENCES)
        ]
        more = {problem.file for problem in told if problem.kind in _STRUCTURE} - out - {str(folder)}
        if not more:
            return found
        out |= more


def compile_policies(binary: Path, folder: Path, source: Path | None = None) -> list[str]:
    """Compile a policy folder: its problems, a line each, with file, line and column, as of `source` where `folder` is
    a copy of it. Raises OSError."""
    return [str(problem) for problem in _compile(binary, folder, source or folder)]


def _compile(binary: Path, folder: Path, shown: Path) -> list[PolicyProblem]:
    try:
        done = subprocess.run(  # noqa: S603 - the binary is the operator's
            [str(binary), "compile", "--skip-tests", "--output=json", str(folder)],
            capture_output=True, timeout=60, check=False, env=environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise OSError(f"Cerbos did not compile {folder} within {error.timeout:g} s") from None
    if done.returncode == 0:
        return []
    if not (done.stdout + done.stderr).strip():
        raise NoCerbos(f"found {binary}, whose `compile` ended with {done.returncode} and said nothing, {_EXPECTED}")
    try:
        report = json.loads(done.stdout or done.stderr)
    except ValueError:
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        return [PolicyProblem(str(shown), line) for line in said.splitlines()]
    return [*_problems(report, shown), *_orphans(report, folder, shown)] or [
        PolicyProblem(str(shown), json.dumps(report))
    ]


async def try_to_serve(binary: Path, environ: Mapping[str, str]) -> None:
    """Start a program as a Cerbos without policies, and stop it. `environ` are variables of its environment. Raises
    OSError, NoCerbos where it tells no version either."""
    with tempfile.TemporaryDirectory(prefix="sidecar-policies-") as folder:
        cerbos = EmbeddedCerbos(Path(folder), binary=str(binary), environ=environ, strict=False, empty=True)
        try:
            await cerbos.start()
        finally:
            await cerbos.stop()


def _problems(report: object, folder: Path, name: str = "") -> list[PolicyProblem]:
    """Cerbos' report -> its faults: it has lists of them under several names, each with a file and words."""
    if isinstance(report, list):
        return [problem for item in report for problem in _problems(item, folder, name)]
    if not isinstance(report, dict):
        return []
    file = report.get("file") or report.get("importing_file") or report.get("policy")
    said = report.get("desc") or report.get("description") or report.get("error") or report.get("message")
    if "other_file" in report:
        said = f"defines {report.get('policy')}, as {report['other_file']} does"
    if isinstance(file, str) and isinstance(said, str):
        place = _position(report)
        return [PolicyProblem(str(folder / file), said, *place, opaque=name == "load_failures", kind=name)]
    return [problem for key, value in report.items() for problem in _problems(value, folder, key)]


def _orphans(report: object, folder: Path, shown: Path) -> Iterator[PolicyProblem]:
    """Find the policies of a scope above which there is none, which Cerbos names without their files."""
    faults = report.get("lintErrors") if isinstance(report, dict) else None
    for fault in (faults.get(_NO_PARENT) if isinstance(faults, dict) else None) or ():
        below = [str(policy) for policy in fault.get("descendants") or ()]
        said = f"found {', '.join(below)}, expected {fault.get('missing_policy')} above it, too"
        place = next((place for policy in below for place in _places_of_scope(folder, policy)), None)
        if place is None:
            yield PolicyProblem(str(shown), said, kind=_NO_PARENT)
        else:
            yield PolicyProblem(str(shown / place[0].relative_to(folder)), said, *place[1:], kind=_NO_PARENT)


def _places_of_scope(folder: Path, policy: str) -> Iterator[tuple[Path, int, int]]:
    """Find where a policy, `resource.NAME.vVERSION/SCOPE`, may say its scope."""
    names, _, scope = policy.partition("/")
    name = names.partition(".")[2].rpartition(".v")[0]
    says = re.compile(rf"\bscope[\"']?\s*:\s*[\"']?{re.escape(scope)}(?![\w.-])")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines() if name in text else (), 1):
            if (found := says.search(line)) is not None:
                yield path, number, found.start() + 1


def _position(report: dict[str, object]) -> tuple[int, int]:
    details = report.get("error_details") or report.get("errorDetails")
    place = report.get("position") or (details.get("position") if isinstance(details, dict) else None)
    if not isinstance(place, dict):
        return 1, 1
    return int(place.get("line", 1)), int(place.get("column", 1))


def environment() -> dict[str, str]:
    """The environment of every Cerbos that we start."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "TZ")}
    return kept | {"CERBOS_NO_TELEMETRY": "1", "GOGC": str(_GOGC)}


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
        compiled = asyncio.ensure_future(asyncio.to_thread(compile_policies, self._binary, written, self._policies))
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
        return problems_of(self._binary, self._policies, policies)

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
            said = f"found {self._binary}, which tells no version and does not serve ({error}), {_EXPECTED}"
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
        self._last_lines = [*self._last_lines[-9:], *map(str, _problems(fields, self._policies)), words]
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
