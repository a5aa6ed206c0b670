"""The question whether what takes long has to be tried: images and pods above all, which most changes do not touch."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

PARTS = (
    "deploy/k8s",
    "deploy/compose",
    "tests/deploy",
    "Dockerfile",
    ".dockerignore",
    "docker-compose.yaml",
    "*.lock",
    "package-lock.json",
)
MAINS = ("origin/HEAD", "origin/main", "main")


def left_out(root: Path, environ: Mapping[str, str]) -> str:
    """Return why images and pods are left out here, or ""."""
    base = untouched(root, environ, PARTS)
    if not base:
        return ""
    return f"nothing of the images changed since {base[:9]}; they are tried in CI, and by: make test DEPLOY=1"


def untouched(root: Path, environ: Mapping[str, str], parts: tuple[str, ...]) -> str:
    """Return the commit since which none of the parts changed, "" where one did, in CI, and where all is asked for.

    A change is one against the merge base with main, and on main itself against the commit before; without git all is one.
    """
    if environ.get("CI") or environ.get("DEPLOY"):
        return ""
    base = _base(root)
    if base is None or _git(root, "diff", "--name-only", base, "--", *parts):
        return ""
    return "" if _git(root, "ls-files", "--others", "--exclude-standard", "--", *parts) else base


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
