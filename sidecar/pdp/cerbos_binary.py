"""The Cerbos binary: where it is, and the environment of every one that we start."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

from sidecar.pdp import cerbos_version

_GOGC = 400
"""Of Go: a wide target, since a policy engine's garbage is short-lived and its live set small."""

EXPECTED = (
    f"expected the Cerbos binary: install Cerbos {cerbos_version.ADVISED} (https://docs.cerbos.dev), and name it by "
    "SIDECAR_CERBOS_BINARY"
)
"""End of an error about a program that is no Cerbos."""


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


def environment() -> dict[str, str]:
    """The environment of every Cerbos that we start."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "TZ")}
    return kept | {"CERBOS_NO_TELEMETRY": "1", "GOGC": str(_GOGC)}
