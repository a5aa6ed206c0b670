"""`pdp/cerbos_version.py`: what a binary says of itself, and what it is told to do."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from sidecar.pdp import cerbos_version
from sidecar.pdp.cerbos_version import ADVISED, Version, engine, lax, npm_install, version_of
from tests.stack import ROOT, binary, older_binary


def program(folder: Path, body: str) -> Path:
    path = folder / "cerbos"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_the_version_of_each_cerbos_is_read() -> None:
    assert version_of(binary()) >= (0, 55, 0)
    assert version_of(older_binary()) == (0, 51, 0)


@pytest.mark.parametrize("body", ["echo v1.2.3-rc1; echo 9.9.9", "echo 1.2.3", "echo '1.2.3 (dev)'"])
def test_the_first_line_has_the_version(tmp_path: Path, body: str) -> None:
    assert version_of(program(tmp_path, body)) == (1, 2, 3)


@pytest.mark.parametrize("body", ["", "echo dev", "echo 1.2", "echo 'cerbos 1.2.3'", "echo 1.2.3; exit 1", "sleep 5"])
def test_one_that_cannot_be_read_is_older_than_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setattr(cerbos_version, "ANSWERS_WITHIN", 0.5)
    version = version_of(program(tmp_path, body))
    assert version == (0, 0, 0)
    assert engine(version, strict=True) == {}
    assert "Cerbos of an unknown version cannot evaluate strictly" in lax(version, strict=True)


def test_a_program_that_is_not_there_has_no_version(tmp_path: Path) -> None:
    assert version_of(tmp_path / "nothing") == Version()


def test_it_gets_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_COGNITO_CLIENT_SECRET", "s")
    assert version_of(program(tmp_path, f"env > {tmp_path}/env; echo 1.2.3")) == (1, 2, 3)
    assert os.environ["AWS_COGNITO_CLIENT_SECRET"] == "s"
    assert "AWS_" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize(
    ("version", "strict", "settings", "told"),
    [
        (Version(0, 51, 0), True, {}, True),
        (Version(0, 54, 9), True, {"celErrorLogLevel": "none"}, True),
        (Version(0, 55, 0), True, {"celErrorLogLevel": "none", "strictEvaluation": True}, False),
        (Version(1, 0, 0), True, {"celErrorLogLevel": "none", "strictEvaluation": True}, False),
        (Version(0, 55, 0), False, {"celErrorLogLevel": "none"}, False),
        (Version(0, 51, 0), False, {}, False),
    ],
)
def test_each_version_is_told_what_it_knows(
    version: Version, strict: bool, settings: dict[str, object], told: bool
) -> None:
    assert engine(version, strict) == settings
    assert bool(lax(version, strict)) == told


def test_one_version_is_advised_everywhere_and_is_the_one_that_the_demo_installs() -> None:
    assert f"use {ADVISED} or newer" in lax(Version(0, 51, 0), strict=True)
    package = "cerbos-linux-x64"
    installed = json.loads((ROOT / "package.json").read_text())["optionalDependencies"]
    assert npm_install(package) == f"npm install @cerbos/{package}@{installed[f'@cerbos/{package}']}"
    said = {
        (path.name, found)
        for path in sorted((ROOT / "sidecar").rglob("*.py"))
        for found in re.findall(r"npm install [^`\n]*@[0-9][0-9.]*", path.read_text(encoding="utf-8"))
    }
    assert said == set()
    images = (ROOT / "Dockerfile", *sorted((ROOT / "deploy").rglob("*.yaml")), ROOT / "sidecar/inject/template.yaml")
    named = {
        tag for path in images for tag in re.findall(r"cerbos/cerbos:([0-9.]+)@", path.read_text(encoding="utf-8"))
    }
    assert named == {str(ADVISED)}
