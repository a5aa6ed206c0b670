"""The copy is what the original is, through links too, and nothing of it is ever half there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.clients.policy_copy import PolicyCopy


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def original(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    (folder / "_schemas").mkdir(parents=True)
    (folder / "a.yaml").write_text("a")
    (folder / "_schemas" / "s.json").write_text("{}")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "a.yaml").write_text("no policy")
    (folder / ".a.yaml.swp").write_text("no policy")
    return folder


def test_it_follows_what_is_written_added_and_removed(original: Path, tmp_path: Path) -> None:
    copy = PolicyCopy(original, tmp_path / "copy")
    assert copy.follow()
    assert tree(tmp_path / "copy") == {"a.yaml": "a", "_schemas/s.json": "{}"}
    assert not copy.follow()
    (original / "a.yaml").write_text("A")
    (original / "b.yaml").write_text("b")
    (original / "_schemas" / "s.json").unlink()
    assert copy.follow()
    assert tree(tmp_path / "copy") == {"a.yaml": "A", "b.yaml": "b"}


def test_it_follows_links_that_lead_elsewhere_now(tmp_path: Path) -> None:
    original = tmp_path / "mounted"
    for version in ("1", "2"):
        (original / f"..v{version}").mkdir(parents=True)
        (original / f"..v{version}" / "a.yaml").write_text(version)
    (original / "..data").symlink_to("..v1")
    (original / "a.yaml").symlink_to("..data/a.yaml")
    copy = PolicyCopy(original, tmp_path / "copy")
    assert copy.follow()
    assert tree(tmp_path / "copy") == {"a.yaml": "1"}
    (original / "..new").symlink_to("..v2")
    os.replace(original / "..new", original / "..data")
    assert copy.follow()
    assert tree(tmp_path / "copy") == {"a.yaml": "2"}


def test_what_cannot_be_read_is_taken_once_it_can(original: Path, tmp_path: Path) -> None:
    copy = PolicyCopy(original, tmp_path / "copy")
    (tmp_path / "copy").write_text("in the way")
    with pytest.raises(OSError, match="copy"):
        copy.follow()
    (tmp_path / "copy").unlink()
    assert copy.follow()
    assert tree(tmp_path / "copy") == {"a.yaml": "a", "_schemas/s.json": "{}"}
