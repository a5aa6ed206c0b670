"""The version of a Cerbos binary, and how it is told to evaluate strictly."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

STRICT_SINCE = (0, 55, 0)
"""`engine.strictEvaluation` (docs.cerbos.dev, release notes of 0.55). An older one ends at a key it does not know."""
SILENT_SINCE = (0, 54, 0)
"""`engine.celErrorLogLevel` (release notes of 0.54)."""
ANSWERS_WITHIN = 10.0
"""Seconds."""


class Version(NamedTuple):
    """A version; one that could not be read is 0.0.0, older than all that is asked for."""

    major: int = 0
    minor: int = 0
    patch: int = 0

    def __str__(self) -> str:
        return ".".join(map(str, self)) if any(self) else "of an unknown version"


UNKNOWN = Version()
ADVISED = Version(*STRICT_SINCE)
"""The version that every message advises, and the demo installs: the first that evaluates strictly."""


def npm_install(package: str) -> str:
    """Return the command that installs the binary of one kind of machine, such as `cerbos-linux-x64`."""
    return f"npm install @cerbos/{package}@{ADVISED}"


def version_of(binary: Path) -> Version:
    """Ask a binary for its version."""
    try:
        done = subprocess.run(  # noqa: S603 - the binary is the operator's
            [str(binary), "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWERS_WITHIN,
            check=False, env={"PATH": os.environ.get("PATH", os.defpath)},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return Version()
    match = re.fullmatch(rb"v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:[^0-9].*)?", done.stdout, re.DOTALL)
    return Version(*map(int, match.groups())) if match and done.returncode == 0 else Version()


def engine(version: Version, strict: bool) -> dict[str, Any]:
    """The `engine` section of Cerbos' configuration, as far as this version knows it."""
    settings: dict[str, Any] = {}
    if version >= SILENT_SINCE:
        # the warnings that it writes otherwise hold values of attributes
        settings["celErrorLogLevel"] = "none"
    if strict and version >= STRICT_SINCE:
        settings["strictEvaluation"] = True
    return settings


def lax(version: Version, strict: bool) -> str:
    """Why rules are not evaluated strictly though the settings ask for it, or ""."""
    if not strict or version >= STRICT_SINCE:
        return ""
    return (
        f"SIDECAR_CERBOS_STRICT: Cerbos {version} cannot evaluate strictly: a DENY whose condition cannot be evaluated "
        f"is skipped; use {ADVISED} or newer, or `off` if no rule needs it"
    )
