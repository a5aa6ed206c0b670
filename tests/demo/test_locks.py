"""The lock files pin everything by version and hash, and name no place that it came from."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

PINNED = re.compile(r"[a-z0-9-]+(?:\[[a-z0-9, -]+\])?==\S+(?: ; [^\n]+?)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+")


def locks(checkout: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("locks", checkout / "scripts" / "locks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("lock", "at_least"), [("requirements-dev.lock", 51), ("requirements.lock", 30), ("requirements-build.lock", 4)]
)
def test_each_python_package_is_pinned_with_hashes_and_without_a_host(checkout: Path, lock: str, at_least: int) -> None:
    text = (checkout / lock).read_text()
    entries = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    assert len(entries) >= at_least
    assert [entry for entry in entries if not PINNED.fullmatch(entry)] == []


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-build.lock"])
def test_the_image_has_what_the_tests_ran_with(checkout: Path, lock: str) -> None:
    """Run `python scripts/locks.py` when this fails."""
    made = locks(checkout)
    assert (checkout / lock).read_text() == made.LOCKS[lock]()
    everything = made.entries((checkout / "requirements-dev.lock").read_text())
    assert made.entries((checkout / lock).read_text()).items() <= everything.items()


def test_a_dependency_that_is_dropped_or_new_changes_the_lock(checkout: Path) -> None:
    made = locks(checkout)
    known = made.entries((checkout / "requirements-dev.lock").read_text())
    assert "cryptography" not in made.closure(["pyjwt"], known)
    assert made.closure(["pyjwt[crypto]>=2"], known) >= {"pyjwt", "cryptography", "cffi", "pycparser"}
    assert made.closure(["pycognito"], known) >= {"boto3", "botocore", "requests", "urllib3"}


def test_each_dependency_of_the_package_is_in_the_lock(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    names = {re.split(r"[^A-Za-z0-9-]", item)[0].lower() for item in wanted} - {project["name"]}
    lock = (checkout / "requirements-dev.lock").read_text()
    assert names - set(re.findall(r"^([a-z0-9-]+)(?:\[[a-z0-9, -]+\])?==", lock, re.MULTILINE)) == set()


def test_each_npm_package_is_pinned_and_has_no_host(checkout: Path) -> None:
    lock = json.loads((checkout / "package-lock.json").read_text())
    manifest = json.loads((checkout / "package.json").read_text())
    wanted, optional = manifest["dependencies"], manifest["optionalDependencies"]
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert wanted == {"cerbos": "0.51.0", "json-server": "0.17.4"}
    # the newest Cerbos that npm has, where it has it for the machine; elsewhere that of the package `cerbos`
    assert optional == {"@cerbos/cerbos-linux-x64": "0.55.0"}
    pinned = wanted | optional
    assert {name: packages[f"node_modules/{name}"]["version"] for name in pinned} == pinned
    assert [name for name, entry in packages.items() if "resolved" in entry or not entry["version"]] == []
    # npm takes the binary for this machine alone: the others have the version of what asks for them
    without_hash = [name for name, entry in packages.items() if "integrity" not in entry]
    assert all(name.startswith("node_modules/@cerbos/cerbos-") for name in without_hash)
    assert {packages[name]["version"] for name in without_hash} <= {wanted["cerbos"]}
