"""Builds of this version of Python on this machine: how one was built decides a fifth of what is measured."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sidecar.run.interpreter import is_optimized

ROOT = Path(__file__).parent.parent
SYSTEM = ("/usr/local/bin", "/usr/bin")
_PROBE = """
import platform
from sidecar.run.interpreter import is_optimized
print(platform.python_version(), is_optimized())
"""


class Build(NamedTuple):
    """An interpreter, its version, and whether it has profile-guided optimizations."""

    python: str
    version: str
    optimized: bool

    def __str__(self) -> str:
        return f"{self.version}, built with{'' if self.optimized else 'out'} optimizations"


def own_build() -> Build:
    """Return the one that runs the bench."""
    return Build(sys.executable, platform.python_version(), is_optimized())


def other_build(path: str | None = None) -> Build | None:
    """Return one of the same minor version, which can load the packages of .venv, that was built the other way; None
    where there is none. `path` is like the variable PATH."""
    own = own_build()
    minor = own.version.rpartition(".")[0]
    for python in _pythons(minor, os.environ.get("PATH", "") if path is None else path):
        build = _build_of(python)
        if build and build.version.rpartition(".")[0] == minor and build.optimized is not own.optimized:
            return build
    return None


def _pythons(minor: str, path: str) -> Iterator[str]:
    for folder in (*path.split(os.pathsep), *SYSTEM):
        for name in ("python3", f"python{minor}"):
            found = shutil.which(name, path=folder)
            # in .venv it is what runs the bench
            if found is not None and Path(folder) != Path(sys.executable).parent:
                yield found


def _build_of(python: str) -> Build | None:
    done = subprocess.run(
        [python, "-c", _PROBE], capture_output=True, text=True, check=False, cwd=ROOT
    )  # fmt: skip
    version, _, optimized = done.stdout.strip().partition(" ")
    return Build(python, version, optimized == "True") if done.returncode == 0 else None
