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
from collections.abc import Iterator, Mapping
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


class PolicyFault(Exception):
    """The folder cannot be used; `problems` are all of its faults, a line each, with their places."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


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
    try:
        return frozenset(_stamped(name, path) for name, path in _walk(folder, follow=True))
    except (OSError, PolicyFault):
        return frozenset()  # changed while we looked, or broken: to read it tells which


def _stamped(name: str, path: Path) -> tuple[str, int, int, int, int]:
    stat = path.stat()
    return name, stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev


def read_policies(folder: Path, *, follow: bool = True, empty: bool = False) -> PolicySnapshot:
    """Read a policy folder as it is at one moment. With `follow` links to folders are read as folders; without, they
    are a fault, for a Cerbos that reads the folder itself. A folder without a policy is a fault unless it may be
    `empty`. Raises PolicyFault, Changing."""
    for _ in range(TRIES):
        before, fault, files = stamp_of(folder), None, dict[str, bytes]()
        try:
            files = {name: path.read_bytes() for name, path in _walk(folder, follow=follow)}
        except OSError as error:
            fault = PolicyFault([f"{error.filename or folder}: cannot be read: {error.strerror}"])
        except PolicyFault as error:
            fault = error
        if fault is not None:
            # a link that leads nowhere may be one that is about to be taken away
            time.sleep(PAUSE)
        if stamp_of(folder) == before:
            policies = PolicySnapshot(before, files)
            fault = fault or _fault(folder, policies, empty=empty)
            if fault is not None:
                raise fault
            return policies
    raise Changing(folder)


def _fault(folder: Path, policies: PolicySnapshot, *, empty: bool) -> PolicyFault | None:
    if not policies.names and not empty:
        return PolicyFault([f"{folder}: found no policy, expected a .yaml, .yml or .json file with one"])
    problems = [
        f"{folder / name}:{error}"
        for name, content in policies.files.items()
        if name.startswith("_schemas/") and name.lower().endswith(".json") and (error := _no_json(content))
    ]
    return PolicyFault(problems) if problems else None


def _no_json(content: bytes) -> str:
    """Why a schema is no JSON, with line and column, "" where it is."""
    place, reason = "1:1", ""
    try:
        # a number is not made: Python refuses one of many digits
        json.loads(content.decode("utf-8", "replace"), parse_int=str, parse_float=str, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        place, reason = f"{error.lineno}:{error.colno}", error.msg
    except ValueError as error:
        reason = str(error)
    except RecursionError:
        reason = "nested too deeply"
    return f"{place}: no JSON, expected a JSON Schema: {reason}" if reason else ""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _is_policy(path: PurePosixPath) -> bool:
    return path.parts[0] != "_schemas" and "testdata" not in path.parts and not _TEST.fullmatch(path.name)


def policy_files(folder: Path) -> list[Path]:
    """The files of a folder that hold policies. Raises OSError, PolicyFault."""
    return [path for name, path in _walk(folder, follow=True) if _is_policy(PurePosixPath(name))]


def _walk(folder: Path, *, follow: bool) -> Iterator[tuple[str, Path]]:
    """Every file below a folder that Cerbos may read, by its path below it. Raises OSError, PolicyFault."""
    yield from _below(folder, "", (os.path.realpath(folder),), follow)


def _below(folder: Path, prefix: str, above: tuple[str, ...], follow: bool) -> Iterator[tuple[str, Path]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name, path = prefix + entry.name, Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and not path.exists():
            raise PolicyFault([f"{path}: a link to nothing"])
        if entry.is_dir():
            if entry.is_symlink() and not follow:
                raise PolicyFault(
                    [f"{path}: a link to a folder, which Cerbos does not read: expected the folder itself"]
                )
            real = os.path.realpath(path)
            if real in above:
                raise PolicyFault([f"{path}: a link to a folder that holds it"])
            yield from _below(path, name + "/", (*above, real), follow)
        elif entry.name.lower().endswith(_SUFFIXES) or prefix.startswith("_schemas/"):
            if not entry.is_file():
                # to read a pipe would wait for ever
                raise PolicyFault([f"{path}: found neither a file nor a folder, expected a file"])
            yield name, path


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
