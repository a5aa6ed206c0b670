"""`run/interpreter.py`: read from what the interpreter says of itself."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from typing import Any

import pytest

from sidecar.run.interpreter import is_optimized


@pytest.mark.parametrize(
    ("arguments", "optimized"),
    [
        ("'--prefix=/usr' '--enable-optimizations' '--with-lto'", True), ("'--prefix=/usr/local'", False), ("", False),
        (None, True),
    ],
)  # fmt: skip
def test_the_arguments_of_configure_say_it(arguments: Any, optimized: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"CONFIG_ARGS": arguments}.get)
    assert is_optimized() is optimized


def test_it_is_what_the_interpreter_tells_anybody() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "sysconfig"], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    assert is_optimized() is ("--enable-optimizations" in told)
