"""A command as one types it, in this process, and the logs that it reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar import cli
from sidecar.record.line import Line, write

Run = Callable[..., tuple[int, str, str]]
"""Runs a command with these arguments: its exit code, what it prints, and what it complains of."""


def running(command: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs this command."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main([command, *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def log(name: str, *lines: Line) -> str:
    """Write a log of these lines, and return its name."""
    Path(name).write_text("".join(map(write, lines)))
    return name
