"""A policy folder as one version: its files as they are at one moment, and a snapshot of them for a Cerbos of ours.

What Cerbos reads of a folder (docs.cerbos.dev, "Storage", measured with 0.51 and 0.55): `.yaml`, `.yml` and `.json` in
any case; no name that begins with a dot, no `*_test.*`, nothing in `testdata`; schemas in `_schemas` at the top. It
follows links to files, as in a ConfigMap's volume, and no links to folders.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

KIND = "authorization-sidecar"
"""The resource kind of the policy that a snapshot holds besides those of the folder: it tells which one is in force."""
ACTION, ROLE = "loaded", "sidecar"
TRIES = 3
"""Readings of a folder that changes meanwhile, before it is left for the next look."""
PAUSE = 0.05
"""Seconds after which a fault is believed, if nothing changed meanwhile."""
_SUFFIXES = (".yaml", ".yml", ".json")
_TEST = re.compile(r".*_test\.\w+", re.IGNORECASE)

Stamp = frozenset[tuple[str, int, int, int, int]]


class PolicyProblem(NamedTuple):
    """One fault of a policy folder: its file, or the folder, with line and column (1-based) where it has them. Where
    it is `opaque`, nothing of that file can be understood. `kind` is the list of Cerbos' report that has it."""

    file: str
    message: str
    line: int = 0
    column: int = 0
    opaque: bool = False
    kind: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}"


class PolicyFault(Exception):
    """The folder cannot be used; `problems` are all of its faults, a line each, with their places. `found` are those
    of its files, and `rest` what could be read all the same."""

    def __init__(
        self, problems: Sequence[PolicyProblem | str], rest: PolicySnapshot | None = None
    ) -> None:  # fmt: skip
        self.problems = [str(problem) for problem in problems]
        super().__init__("\n".join(self.problems))
        self.found = [problem for problem in problems if isinstance(problem, PolicyProblem)]
        self.rest = rest


class Changing(Exception):
    """The folder changed while it was read."""


class PolicySnapshot(NamedTuple):
    """One version of a folder: its files by their path below it, and what tells it from another version."""

    stamp: Stamp
    files: Mapping[str, bytes]

    @property
    def names(self) -> frozenset[str]:
        """The files that hold policies, as Cerbos names them."""
        return frozenset(name for name in self.files if _is_policy(PurePosixPath(name)))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits: SHA-256 of names and contents, cut."""
        whole = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            whole.update(f"{len(name)} {name} {len(content)} ".encode("utf-8", "surrogateescape") + content)
        return whole.hexdigest()[:16]


def stamp_of(folder: Path) -> Stamp:
    """Return a mark that tells one content of a policy folder from another without reading it: name, time of change,
    size, inode and device of each file that Cerbos reads, with what is behind links. An unreadable folder has an empty
    stamp."""
    paths, problems = _read_folder(folder, follow=True)
    try:
        # changed while we looked, or broken: to read it tells which
        return frozenset() if problems else frozenset(_stamped(name, path) for name, path in paths)
    except OSError:
        return frozenset()


def _stamped(name: str, path: Path) -> tuple[str, int, int, int, int]:
    stat = path.stat()
    return name, stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev


def read_policies(folder: Path, *, follow: bool = True, empty: bool = False) -> PolicySnapshot:
    """Read a policy folder as it is at one moment. With `follow` links to folders are read as folders; without, they
    are a fault, for a Cerbos that reads the folder itself. A folder without a policy is a fault unless it may be
    `empty`. Raises PolicyFault, Changing."""
    for _ in range(TRIES):
        before, files = stamp_of(folder), dict[str, bytes]()
        paths, problems = _read_folder(folder, follow=follow)
        for name, path in paths:
            try:
                files[name] = path.read_bytes()
            except OSError as error:
                problems.append(_unreadable(error, path))
        if problems:
            # a link that leads nowhere may be one that is about to be taken away
            time.sleep(PAUSE)
        if stamp_of(folder) == before:
            policies = PolicySnapshot(before, files)
            problems += _problems(folder, policies, empty=empty or bool(problems))
            if problems:
                raise PolicyFault(problems, policies)
            return policies
    raise Changing(folder)


def _problems(folder: Path, policies: PolicySnapshot, *, empty: bool) -> list[PolicyProblem]:
    if not policies.names and not empty:
        return [PolicyProblem(str(folder), "found no policy, expected a .yaml, .yml or .json file with one")]
    return [
        PolicyProblem(str(folder / name), f"no JSON, expected a JSON Schema: {error.reason}", error.line, error.column)
        for name, content in policies.files.items()
        if name.startswith("_schemas/") and name.lower().endswith(".json") and (error := _no_json(content)) is not None
    ]


class _NoJson(NamedTuple):
    reason: str
    line: int = 1
    column: int = 1


def _no_json(content: bytes) -> _NoJson | None:
    """Why a schema is no JSON, None where it is."""
    try:
        # a number is not made: Python refuses one of many digits
        json.loads(content.decode("utf-8", "replace"), parse_int=str, parse_float=str, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        return _NoJson(error.msg, error.lineno, error.colno)
    except ValueError as error:
        return _NoJson(str(error))
    except RecursionError:
        return _NoJson("nested too deeply")
    return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _is_policy(path: PurePosixPath) -> bool:
    return path.parts[0] != "_schemas" and "testdata" not in path.parts and not _TEST.fullmatch(path.name)


def policy_files(folder: Path) -> tuple[list[Path], list[PolicyProblem]]:
    """The files of a folder that hold policies, and what keeps others from being found."""
    paths, problems = _read_folder(folder, follow=True)
    return [path for name, path in paths if _is_policy(PurePosixPath(name))], problems


def _read_folder(folder: Path, *, follow: bool) -> tuple[list[tuple[str, Path]], list[PolicyProblem]]:
    """Every file below a folder that Cerbos may read, by its path below it, and what could not be."""
    problems: list[PolicyProblem] = []
    return list(_below(folder, "", (os.path.realpath(folder),), follow, problems)), problems


def _unreadable(error: OSError, path: Path) -> PolicyProblem:
    return PolicyProblem(str(error.filename or path), f"cannot be read: {error.strerror}", opaque=True)


def _below(
    folder: Path, prefix: str, above: tuple[str, ...], follow: bool, problems: list[PolicyProblem]
) -> Iterator[tuple[str, Path]]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        problems.append(_unreadable(error, folder))
        return
    for entry in entries:
        name, path = prefix + entry.name, Path(entry.path)
        if entry.name.startswith("."):
            continue
        try:
            fault, is_folder = _fault_of(entry, prefix, above, follow), entry.is_dir()
        except OSError as error:
            problems.append(_unreadable(error, path))
            continue
        if fault:
            problems.append(PolicyProblem(str(path), fault, opaque=True))
        elif is_folder:
            yield from _below(path, name + "/", (*above, os.path.realpath(path)), follow, problems)
        elif _may_be_read(entry, prefix):
            yield name, path


def _may_be_read(entry: os.DirEntry[str], prefix: str) -> bool:
    return entry.name.lower().endswith(_SUFFIXES) or prefix.startswith("_schemas/")


def _fault_of(entry: os.DirEntry[str], prefix: str, above: tuple[str, ...], follow: bool) -> str:
    """Say why an entry of a folder cannot be read, "" where it can, or need not be."""
    if entry.is_symlink() and not os.path.exists(entry.path):
        return "a link to nothing"
    if entry.is_dir():
        if entry.is_symlink() and not follow:
            return "a link to a folder, which Cerbos does not read: expected the folder itself"
        return "a link to a folder that holds it" if os.path.realpath(entry.path) in above else ""
    # to read a pipe would wait for ever
    odd = _may_be_read(entry, prefix) and not entry.is_file()
    return "found neither a file nor a folder, expected a file" if odd else ""


# --- what a Cerbos of ours reads ---


class Snapshot:
    """Versions of `source` in the folder `root`, which is ours alone. The link `root/policies` leads to the one in
    force: a Cerbos that starts again reads that, whatever has become of the source since."""

    def __init__(self, source: Path, root: Path) -> None:
        self.source = source
        self.link = root / "policies"
        self.stamp: Stamp = frozenset()
        self.digest = ""
        self._root = root
        self._number = 0

    def write(self, policies: PolicySnapshot) -> Path:
        """Write a version beside the one in force, with a policy that tells its digest. Raises OSError."""
        self._number += 1
        folder = self._root / f"policies-{self._number}"
        write_files(folder, policies.files)
        name = f"authorization-sidecar-{policies.digest}.json"
        (folder / name).write_text(json.dumps(_proof(policies.digest)), encoding="utf-8")
        return folder

    def put_in_force(self, folder: Path, stamp: Stamp, digest: str) -> None:
        """Let the link lead to a version that was written, at once, and remove all others but the one before."""
        before = self.link.resolve() if self.link.is_symlink() else None
        new = self._root / "policies-next"
        new.unlink(missing_ok=True)
        new.symlink_to(folder.name)
        os.replace(new, self.link)
        self.stamp, self.digest = stamp, digest
        for old in self._root.glob("policies-*"):
            if old.is_dir() and not old.is_symlink() and old not in (folder, before):
                shutil.rmtree(old, ignore_errors=True)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a new folder, which is made. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _proof(digest: str) -> dict[str, object]:
    """A policy that allows one action on one kind, in a version that is the digest."""
    rule = {"actions": [ACTION], "effect": "EFFECT_ALLOW", "roles": [ROLE]}
    policy = {"resource": KIND, "version": f"d{digest}", "rules": [rule]}
    return {"apiVersion": "api.cerbos.dev/v1", "resourcePolicy": policy}
