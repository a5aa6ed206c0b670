"""`pdp/cerbos_binary.py`: where the Cerbos binary is looked for, and what is said where it is not found."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from sidecar.pdp.cerbos_binary import find_binary
from sidecar.pdp.cerbos_version import ADVISED
from tests.fakes import environment
from tests.stack import ROOT, binary


def test_a_binary_that_is_named_is_taken() -> None:
    assert find_binary(str(binary())) == binary()


@pytest.mark.parametrize("name", ["nothing", "folder", "plain"])
def test_a_name_that_is_no_program_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("")
    with pytest.raises(OSError, match="expected the Cerbos binary"):
        find_binary(str(tmp_path / name))


def test_cerbos_on_path_comes_before_the_package(tmp_path: Path) -> None:
    (tmp_path / "cerbos").symlink_to(binary())
    with environment(PATH=str(tmp_path)), contextlib.chdir(ROOT):
        assert find_binary(None) == tmp_path / "cerbos"


def test_the_packages_starter_on_path_is_not_taken_for_the_binary(tmp_path: Path) -> None:
    starters = tmp_path / "node_modules" / ".bin"
    starters.mkdir(parents=True)
    (starters / "cerbos").write_text("#!/bin/sh\n")
    (starters / "cerbos").chmod(0o755)
    with environment(PATH=str(starters)), contextlib.chdir(ROOT):
        assert find_binary(None) == binary()


def test_without_any_the_error_says_what_was_looked_for_and_how_to_get_it(tmp_path: Path) -> None:
    with environment(PATH=str(tmp_path)), contextlib.chdir(tmp_path), pytest.raises(OSError, match="PATH") as caught:
        find_binary(None)
    for words in (
        "node_modules/@cerbos/cerbos-",
        "npm install @cerbos/cerbos-",
        f"@{ADVISED}`",
        "SIDECAR_CERBOS_BINARY",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize("named", ["by its path", "on PATH"])
def test_the_program_behind_the_starter_of_the_npm_package_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    real = binary()
    packaged = tmp_path / "node_modules/@cerbos" / real.name / real.name
    packaged.parent.mkdir(parents=True)
    packaged.symlink_to(real)
    starter = tmp_path / "node_modules/.bin/cerbos"
    starter.parent.mkdir()
    starter.write_text("#!/usr/bin/env node\n")
    starter.chmod(0o755)
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setenv("PATH", str(starter.parent), prepend=":")
    assert find_binary(str(starter) if named == "by its path" else None) == real
