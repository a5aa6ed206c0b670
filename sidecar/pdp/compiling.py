"""Compiles policies by `cerbos compile`, and reads its report: every problem with its file, line and column."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sidecar.config.yaml_nodes import Place, YamlDocument
from sidecar.config.yaml_text import NoYaml
from sidecar.pdp.cerbos_binary import EXPECTED, NoCerbos, environment
from sidecar.pdp.policy_files import (
    Changing,
    PolicyFault,
    PolicyProblem,
    PolicySnapshot,
    policy_files,
    read_policies,
    write_files,
)
from sidecar.pdp.policy_names import PolicyName, disabled_at, policy_name

_SCHEMAS, _ANY = "_schemas/", b"{}"
_NO_PARENT = "missing_scope_details"
_CRASH = "crash"
_STRUCTURE = ("load_failures", "duplicate_defs", "missing_imports", _NO_PARENT, _CRASH)
"""Lists of Cerbos' report, and what keeps it from writing one: where one of them has something, no expression was
compiled."""
_CONSEQUENCES = ("missing_imports", _NO_PARENT)
"""Those that may come of what was left out."""
_LAST_WORDS = ("panic: ", "fatal error: ")
"""First words of a program in Go that ends by a fault of its own, before the stacks of all that it did."""


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
    """Compile what was read of a folder, but for the files and folders `without`, named as in problems; a schema among
    them takes anything, so that Cerbos finds it. Raises OSError."""
    files = {
        name: _ANY if _is_among(folder, name, without) else content
        for name, content in policies.files.items()
        if name.startswith(_SCHEMAS) or not _is_among(folder, name, without)
    }
    with tempfile.TemporaryDirectory(prefix="sidecar-policies-") as copy:
        # `cerbos compile` follows no links to folders
        write_files(Path(copy), files)
        return _compile(binary, Path(copy), folder)


def _is_among(folder: Path, name: str, without: Collection[str]) -> bool:
    """Return whether a file is one of these, or in one: Cerbos tells of a folder `_schemas` in the wrong place."""
    places = folder / name, *(folder / above for above in PurePosixPath(name).parents[:-1])
    return any(str(place) in without for place in places)


class Compiled(NamedTuple):
    """All problems of a policy folder. `stopped` is true where one of them kept Cerbos from compiling expressions: no
    file was found that could be left out."""

    problems: list[PolicyProblem]
    stopped: bool = False


def all_problems_of(binary: Path, folder: Path, policies: PolicySnapshot, without: Collection[str]) -> Compiled:
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
            return Compiled(found, any(problem.kind in _STRUCTURE or problem.file == str(folder) for problem in told))
        out |= more


def compile_policies(binary: Path, folder: Path, source: Path | None = None) -> list[str]:
    """Compile a policy folder: its problems, a line each, with file, line and column, as of `source` where `folder` is
    a copy of it. Raises OSError."""
    return [str(problem) for problem in _compile(binary, folder, source or folder)]


def _compile(binary: Path, folder: Path, shown: Path) -> list[PolicyProblem]:
    done = _run(binary, folder)
    if done.returncode == 0:
        return []
    if not (done.stdout + done.stderr).strip():
        raise NoCerbos(f"found {binary}, whose `compile` ended with {done.returncode} and said nothing, {EXPECTED}")
    try:
        report = json.loads(done.stdout or done.stderr)
    except ValueError:
        if (crash := _last_words(done)) is not None:
            file = shown / (_crashing(binary, folder) or "")
            said = f"found what ends Cerbos itself ({crash}), expected one policy"
            return [PolicyProblem(str(file), said, opaque=True, kind=_CRASH)]
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        return [PolicyProblem(str(shown), line) for line in said.splitlines()]
    return [*faults_in(report, shown), *_orphans(report, folder, shown)] or [
        PolicyProblem(str(shown), json.dumps(report))
    ]


def _run(binary: Path, folder: Path) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - the binary is the operator's
            [str(binary), "compile", "--skip-tests", "--output=json", str(folder)],
            capture_output=True, timeout=60, check=False, env=environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise OSError(f"Cerbos did not compile {folder} within {error.timeout:g} s") from None


def _last_words(done: subprocess.CompletedProcess[bytes]) -> str | None:
    """Return what Cerbos said when it ended by a fault of its own; None where it did not."""
    lines = done.stderr.decode("utf-8", "replace").splitlines() if done.returncode else []
    return next((line for line in lines if line.startswith(_LAST_WORDS)), None)


def _crashing(binary: Path, folder: Path) -> Path | None:
    """Find the file at which Cerbos ends by halves, and return its path below the folder; None where it is no file
    alone."""
    paths = policy_files(folder)[0]
    while len(paths) > 1:
        half = paths[: len(paths) // 2]
        paths = half if _ends_at(half, binary, folder) else paths[len(half) :]
    return paths[0].relative_to(folder) if paths and _ends_at(paths, binary, folder) else None


def _ends_at(paths: list[Path], binary: Path, folder: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix="sidecar-policies-") as copy:
        write_files(Path(copy), {str(path.relative_to(folder)): path.read_bytes() for path in paths})
        return _last_words(_run(binary, Path(copy))) is not None


def faults_in(report: object, folder: Path, name: str = "") -> list[PolicyProblem]:
    """Cerbos' report -> its faults: it has lists of them under several names, each with a file and words."""
    if isinstance(report, list):
        return [problem for item in report for problem in faults_in(item, folder, name)]
    if not isinstance(report, dict):
        return []
    file = report.get("file") or report.get("importing_file") or report.get("policy")
    said = report.get("desc") or report.get("description") or report.get("error") or report.get("message")
    if "other_file" in report:
        said = f"defines {report.get('policy')}, as {report['other_file']} does"
    if isinstance(file, str) and isinstance(said, str):
        place = _position(report)
        return [PolicyProblem(str(folder / file), said, *place, opaque=name == "load_failures", kind=name)]
    return [problem for key, value in report.items() for problem in faults_in(value, folder, key)]


def _orphans(report: object, folder: Path, shown: Path) -> Iterator[PolicyProblem]:
    """Find the policies without those of their parent scopes, which Cerbos names without their files."""
    faults = report.get("lintErrors") if isinstance(report, dict) else None
    missing: dict[str, list[str]] = {}
    for fault in (faults.get(_NO_PARENT) if isinstance(faults, dict) else None) or ():
        for key in fault.get("descendants") or ():
            missing.setdefault(str(key), []).append(str(fault.get("missing_policy")))
    unread = {problem.file for problem in faults_in(report, folder) if problem.opaque}
    unloaded = {named.key for file in unread if missing and (named := _name_in(Path(file))) is not None}
    places = _places(folder, missing.keys(), unread)
    disabled = _disabled(folder, shown) if missing else {}
    for key, parents in missing.items():
        # a policy that is there, and could not be loaded, is told by itself
        if not (absent := [parent for parent in parents if parent not in unloaded]):
            continue
        remedy = ", ".join(_remedies(absent, disabled))
        expected = f"expected one for each of its parent scopes, too: {remedy}, or change its scope"
        if (place := places.get(key)) is None:
            said = f"found the policy {key}, in a file that could not be told, {expected}"
            yield PolicyProblem(str(shown), said, kind=_NO_PARENT)
        else:
            said = f"found the policy {key}, {expected}"
            file, line, column = _shown(place, folder, shown)
            yield PolicyProblem(file, said, line, column, kind=_NO_PARENT)


def _shown(place: Place, folder: Path, shown: Path) -> Place:
    return place._replace(file=str(shown / Path(place.file).relative_to(folder)))


def _remedies(absent: list[str], disabled: Mapping[str, Place]) -> Iterator[str]:
    """Tell what to do about policies that are not there, or are there and disabled."""
    if missing := [name for name in absent if name not in disabled]:
        yield f"add {' and '.join(missing)}"
    yield from (f"enable {name}, which is disabled in {disabled[name]}" for name in absent if name in disabled)


def _disabled(folder: Path, shown: Path) -> dict[str, Place]:
    """Find the policies that are disabled: name -> where its file says so."""
    found: dict[str, Place] = {}
    for path in policy_files(folder)[0]:
        with contextlib.suppress(NoYaml, OSError):
            # YAML is read only where it may say so, as it takes long
            if b"disabled" in path.read_bytes():
                document = YamlDocument(path, str(path))
                place, named = disabled_at(document), policy_name(document)
                if place is not None and named is not None:
                    found.setdefault(named.key, _shown(place, folder, shown))
    return found


def _places(folder: Path, keys: Collection[str], without: Collection[str]) -> dict[str, Place]:
    """Find where the policies of these names say their scopes. Cerbos takes the first file of those that say the same,
    and none of the files `without`."""
    found: dict[str, Place] = {}
    scopes = {key.rpartition("/")[2].encode() for key in keys}
    paths = [path for path in policy_files(folder)[0] if str(path) not in without] if keys else []
    # to look for a text takes far less than to read YAML, in which it may be written otherwise
    paths.sort(key=lambda path: not any(scope in path.read_bytes() for scope in scopes))
    for path in paths:
        named = _name_in(path)
        if named is not None and named.key in keys:
            found.setdefault(named.key, named.scope_place)
        if len(found) == len(keys):
            break
    return found


def _name_in(path: Path) -> PolicyName | None:
    """Return which policy a file holds, None of one that is disabled or that our parser of YAML does not take."""
    with contextlib.suppress(NoYaml, OSError):
        document = YamlDocument(path, str(path))
        return policy_name(document) if disabled_at(document) is None else None
    return None


def _position(report: dict[str, object]) -> tuple[int, int]:
    details = report.get("error_details") or report.get("errorDetails")
    place = report.get("position") or (details.get("position") if isinstance(details, dict) else None)
    if not isinstance(place, dict):
        return 1, 1
    return int(place.get("line", 1)), int(place.get("column", 1))
