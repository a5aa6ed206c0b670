"""Cerbos' answers of this run of the tests, for every process of it: that policies compile, and its version.

Each start of a sidecar asks both, by a process of Cerbos each time, of the same binary and nearly always of the same policies.
tests/test_cli.py and tests/browser/test_demo.py start a sidecar that asks.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

from sidecar.pdp import cerbos_version, compiling
from sidecar.pdp.cerbos_version import Version


def remembering(folder: Path, program: Path) -> tuple[Any, Any]:
    """`compile_policies` and `version_of` with a memory in `folder`; they ask anything but Cerbos itself each time.

    What does not compile is asked again, as its problems name the folder that it was read from.
    """
    compiles, asks = compiling.compile_policies, cerbos_version.version_of
    asking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def compile_once(binary: Path, policies: Path, source: Path | None = None) -> list[str]:
        files = {
            str(path.relative_to(policies)): path.read_bytes().hex() for path in policies.rglob("*") if path.is_file()
        }
        if not files or binary.name != program.name:
            return compiles(binary, policies, source)
        question = json.dumps([str(binary), files], sort_keys=True)
        known = folder / hashlib.sha256(question.encode()).hexdigest()
        # who asks the same meanwhile waits for the answer
        with asking[known.name]:
            if known.exists():
                return []
            found = compiles(binary, policies, source)
            if not found:
                known.touch()
            return found

    def ask_once(binary: Path) -> Version:
        if binary != program:
            return asks(binary)
        known = folder / "version"
        if not known.exists():
            written = folder / f"version-{os.getpid()}-{threading.get_ident()}"
            written.write_text(json.dumps(asks(binary)))
            written.rename(known)
        return Version(*json.loads(known.read_text()))

    return compile_once, ask_once
