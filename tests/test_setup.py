"""`scripts/python`: which Python `make setup` makes .venv of."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.stack import ROOT

SCRIPT = ROOT / "scripts/python"


def folder(path: Path, says: Mapping[str, str]) -> Path:
    """A folder of interpreters by name, and what each says of itself: its version and how it was built, or "" where it
    cannot make a .venv."""
    path.mkdir()
    for name, told in says.items():
        (path / name).write_text(f"#!/bin/sh\necho '{told}'\n" if told else "#!/bin/sh\nexit 1\n")
        (path / name).chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("usual", "others", "expected"),
    [
        ({"python3": "3.99 optimized"}, {"python3.99": "3.99 optimized"}, "python3"),
        ({"python3": "3.99 plain"}, {"python3": "3.99 optimized"}, "others/python3"),
        ({"python3": "3.99 plain", "python3.99": "3.99 optimized"}, {}, "usual/python3.99"),
        # another version is another set of packages
        ({"python3": "3.99 plain"}, {"python3.98": "3.98 optimized"}, "python3"),
        ({"python3": "3.99 plain"}, {"python3.99": ""}, "python3"),
        ({"python3": ""}, {"python3.98": "3.98 plain", "python3.99": "3.99 optimized"}, "others/python3.99"),
    ],
)
def test_a_build_with_optimizations_of_the_same_version_is_taken(
    tmp_path: Path, usual: Mapping[str, str], others: Mapping[str, str], expected: str
) -> None:
    folders = folder(tmp_path / "usual", usual), folder(tmp_path / "others", others)
    path = ":".join(map(str, [*folders, "/usr/bin", "/bin"]))
    done = subprocess.run(
        [SCRIPT], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )  # fmt: skip
    took = done.stdout.strip()
    assert took == (expected if expected == "python3" else str(tmp_path / expected))
    if took == "python3":
        assert done.stderr == ""
    else:
        assert f"taking {took}, which is built with optimizations" in done.stderr


def test_the_one_that_runs_these_tests_could_be_taken() -> None:
    """The probe itself, by a real interpreter."""
    done = subprocess.run([SCRIPT], capture_output=True, text=True, check=True)
    version = subprocess.run(
        [done.stdout.strip(), "-c", "import ensurepip, sys; print(sys.version_info >= (3, 11))"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert version.strip() == "True"


def test_python_wins_where_it_is_set(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    mine = tmp_path / "mine"
    mine.write_text(f'#!/bin/sh\necho "$@" >>{ran}\nexit 1\n')
    mine.chmod(0o755)
    made = ["make", "--no-print-directory", "-C", str(ROOT), f"BIN={tmp_path}/bin", "-W", "requirements-dev.lock"]
    done = subprocess.run([*made, f"PYTHON={mine}", ".venv/.locked"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "version_info >= (3, 11)" in ran.read_text()
