"""Images and pods run where something of them changed, and never silently not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.changes import left_out

Git = Callable[..., None]
WHO = (
    "-c",
    "user.name=a",
    "-c",
    "user.email=a@example.com",
    "-c",
    "commit.gpgsign=false",
    "-c",
    "core.hooksPath=/dev/null",
)


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """A repository with two commits on main, of which neither changed a part of the images."""

    def run(*arguments: str) -> None:
        subprocess.run(["git", *WHO, *arguments], cwd=tmp_path, check=True, capture_output=True)

    run("init", "-q", "-b", "main")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    run("add", ".")
    run("commit", "-qm", "One")
    commit(run, tmp_path, "code.py")
    return run


def commit(git: Git, folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"# {name}\n")
    git("add", ".")
    git("commit", "-qm", name)


def test_they_are_left_out_and_it_says_how_to_have_them(git: Git, tmp_path: Path) -> None:
    git("switch", "-qc", "work")
    commit(git, tmp_path, "more.py")
    assert left_out(tmp_path, {}).endswith("they are tried in CI, and by: make test DEPLOY=1")
    assert left_out(tmp_path, {"CI": "true"}) == ""
    assert left_out(tmp_path, {"DEPLOY": "1"}) == ""
    assert left_out(tmp_path, {"CI": "", "DEPLOY": ""}) != ""


@pytest.mark.parametrize(
    "name",
    [
        "deploy/k8s/x.yaml",
        "deploy/compose/x.yaml",
        "tests/deploy/x.py",
        "Dockerfile",
        "requirements.lock",
        "package-lock.json",
    ],
)
@pytest.mark.parametrize("branch", ["work", "main"])
def test_a_change_is_one_of_the_branch_of_the_last_commit_or_of_the_folder(
    git: Git, tmp_path: Path, name: str, branch: str
) -> None:
    if branch == "work":
        git("switch", "-qc", "work")
    commit(git, tmp_path, name)
    if branch == "work":
        commit(git, tmp_path, "later.py")
    assert left_out(tmp_path, {}) == ""
    git("reset", "-q", "--hard", "HEAD~2" if branch == "work" else "HEAD~1")
    assert left_out(tmp_path, {}) != ""
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("not committed\n")
    assert left_out(tmp_path, {}) == ""


def test_without_a_repository_everything_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert left_out(tmp_path, {}) == ""
