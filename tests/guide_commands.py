"""The commands that end by themselves, in this process: Python and the package take a second to start, and check nothing more."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

import pytest

from sidecar.cli import main
from tests.shared_cerbos import share
from tests.stack import binary
from tests.tokens import share_case_key


def sidecar(folder: Path, *arguments: str, environ: Mapping[str, str]) -> CompletedProcess[str]:
    """`sidecar ARGUMENTS` in a folder, with this environment, our Cerbos and our key of cases, which tests share."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SIDECAR_", "AWS_"))}
    given = {**inherited, "SIDECAR_CERBOS_BINARY": str(binary()), **environ}
    out, errors = io.StringIO(), io.StringIO()
    with (
        _own_logging(),
        pytest.MonkeyPatch.context() as changes,
        contextlib.chdir(folder),
        patch.dict(os.environ, given, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        share(changes)
        if arguments[:1] == ("test",):
            share_case_key(changes)
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = int(str(ended.code))
    return CompletedProcess(["sidecar", *arguments], code, out.getvalue(), errors.getvalue())


@contextlib.contextmanager
def _own_logging() -> Iterator[None]:
    """A command sets handlers and levels up for its process; ours have theirs back afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("sidecar")
    before = root.handlers[:], root.level, ours.level
    try:
        yield
    finally:
        root.handlers[:], level, own = before
        root.setLevel(level)
        ours.setLevel(own)
