"""The question whether images and pods have to be tried: their tests take minutes, and most changes touch none of it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

PARTS = ("deploy", "tests/deploy", "Dockerfile", ".dockerignore", "docker-compose.yaml", "*.lock", "package-lock.json")
MAINS = ("origin/HEAD", "origin/main", "main")


def left_out(root: Path, environ: Mapping[str, str]) -> str:
    """Why images and pods are left out here, or "": they run in CI, where asked for, and where a part of them changed.

    A change is one against the merge base with main, and on main itself against the commit before; without git all is one.
    """
    if environ.get("CI") or environ.get("DEPLOY"):
        return ""
    base = _base(root)
    if base is None or _git(root, "diff", "--name-only", base, "--", *PARTS):
        return ""
    if _git(root, "ls-files", "--others", "--exclude-standard", "--", *PARTS):
        return ""
    return f"nothing of the images changed since {base[:9]}; they are tried in CI, and by: make test DEPLOY=1"


def _base(root: Path) -> str | None:
    head = _git(root, "rev-parse", "HEAD")
    found = next((base for main in MAINS if (base := _git(root, "merge-base", "HEAD", main))), None)
    return found if found != head else _git(root, "rev-parse", "HEAD~1")


def _git(root: Path, *arguments: str) -> str | None:
    """What git says, None where it fails or is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
