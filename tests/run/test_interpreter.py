"""`run/interpreter.py`: read from what the interpreter says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from sidecar.run.interpreter import is_optimized
from tests.stack import ROOT


@pytest.mark.parametrize(
    ("arguments", "schemes", "optimized"),
    [
        ("'--prefix=/usr' '--enable-optimizations' '--with-lto'", ("venv",), True),
        ("'--prefix=/usr/local'", ("venv",), False),
        ("", ("venv",), False),
        (None, ("venv",), True),
        ("'--enable-shared' '--prefix=/usr'", ("deb_system", "posix_local", "venv"), True),
    ],
)
def test_the_arguments_of_configure_say_it_and_debians_own_scheme(
    arguments: Any, schemes: tuple[str, ...], optimized: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"CONFIG_ARGS": arguments}.get)
    monkeypatch.setattr(sysconfig, "get_scheme_names", lambda: schemes)
    assert is_optimized() is optimized


def test_it_is_what_the_interpreter_tells_anybody() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "sysconfig"], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    assert is_optimized() is ("--enable-optimizations" in told or "deb_system" in sysconfig.get_scheme_names())


@pytest.mark.skipif(not Path("/etc/debian_version").exists(), reason="not Debian")
@pytest.mark.skipif(not os.access("/usr/bin/python3", os.X_OK), reason="no Python of Debian's")
def test_debians_own_is_one_with_optimizations() -> None:
    code = "import runpy; print(runpy.run_path('sidecar/run/interpreter.py')['is_optimized']())"
    told = subprocess.run(
        ["/usr/bin/python3", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout  # fmt: skip
    assert told.strip() == "True"
