"""A ConfigMap's volume as the kubelet writes it (kubernetes, pkg/volume/util/atomic_writer.go)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


def put(folder: Path, files: Mapping[str, str], version: int) -> None:
    """Write `files` as one change: a new folder, and one rename of the link `..data` to it; then remove the old one."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"..version_{version}"
    made.mkdir()
    for name, text in files.items():
        (made / name).write_text(text, encoding="utf-8")
    new = folder / "..data_tmp"
    new.symlink_to(made.name)
    os.replace(new, folder / "..data")
    for name in files:
        visible = folder / name
        if not visible.is_symlink():
            visible.unlink(missing_ok=True)
            visible.symlink_to(Path("..data") / name)
    for stale in {path.name for path in folder.iterdir() if not path.name.startswith("..")} - set(files):
        (folder / stale).unlink()
    for old in folder.glob("..version_*"):
        if old.name != made.name:
            shutil.rmtree(old)
