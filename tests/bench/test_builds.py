"""Which other build of Python the bench finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.builds import SYSTEM, Build, other_build, own_build


def interpreter(folder: Path, name: str, says: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{says}\n")
    (folder / name).chmod(0o755)


@pytest.mark.process
def test_it_is_one_of_our_version_that_was_built_the_other_way(tmp_path: Path) -> None:
    own = own_build()
    minor = own.version.rpartition(".")[0]
    interpreter(tmp_path / "same", "python3", f"echo {own.version} {own.optimized}")
    interpreter(tmp_path / "older", "python3", f"echo 3.2.1 {not own.optimized}")
    interpreter(tmp_path / "broken", "python3", "exit 1")
    interpreter(tmp_path / "other", f"python{minor}", f"echo {minor}.99 {not own.optimized}")
    path = ":".join(str(tmp_path / name) for name in ("none", "same", "older", "broken", "other"))
    found = other_build(path)
    assert found == Build(str(tmp_path / "other" / f"python{minor}"), f"{minor}.99", not own.optimized)
    assert str(found) == f"{minor}.99, built with{'out' if own.optimized else ''} optimizations"


@pytest.mark.process
def test_ours_says_how_it_was_built_and_is_no_other() -> None:
    assert own_build().python == sys.executable
    found = other_build(str(Path(sys.executable).parent))
    assert found is None or (found.optimized is not own_build().optimized and found.python.startswith(SYSTEM))
