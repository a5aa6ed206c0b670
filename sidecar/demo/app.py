"""The protected app: json-server from npm as it is. It serves contacts to anybody who asks, and knows no users.

At `/hello` it says what it hears of who asks.
"""

from __future__ import annotations

import importlib.resources
import shutil
from collections.abc import Mapping
from pathlib import Path

from sidecar.demo.processes import LOOPBACK, DemoError, Process, status_of

_JSON_SERVER = Path("json-server/lib/cli/bin.js")


def start_app(port: int, node_modules: Path, folder: Path, environ: Mapping[str, str]) -> Process:
    """Start the app on a fresh copy of the contacts in `folder`; it answers when this returns. Raises DemoError."""
    node = shutil.which("node", path=environ.get("PATH"))
    if node is None:
        raise DemoError("node is not on PATH: the app of the demo needs Node.js 18 or newer")
    script = (node_modules / _JSON_SERVER).resolve()
    if not script.is_file():
        raise DemoError(f"{script} is not there: run make setup (or npm ci) in a checkout of the project")
    contacts, hello = (_copy(name, folder) for name in ("contacts.json", "hello.js"))
    command = [node, str(script), "--host", LOOPBACK, "--port", str(port), "--quiet", contacts, "--middlewares", hello]
    return Process.start("app", command, folder, environ, lambda: status_of(port, "/contacts") == 200)


def _copy(name: str, folder: Path) -> str:
    """The path of a fresh copy of one of the demo's files."""
    copy = folder / name
    copy.write_text(importlib.resources.files("sidecar.demo").joinpath(name).read_text())
    return str(copy)
