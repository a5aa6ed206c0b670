"""The bills of materials name what is in the images, no more and no less."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.deploy.changes import PARTS, untouched
from tests.stack import ROOT

_BASE = untouched(ROOT, os.environ, (*PARTS, "scripts/sbom.py"))
pytestmark = pytest.mark.skipif(
    bool(_BASE),
    reason=f"nothing of the images changed since {_BASE[:9]}; they are tried in CI, and by: make test DEPLOY=1",
)


@pytest.fixture(scope="module")
def bills() -> dict[str, dict[str, Any]]:
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "scripts" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.bills()
    assert isinstance(made, dict)
    return made


def locked() -> dict[str, tuple[str, set[str]]]:
    text = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"^([a-z0-9-]+)(?:\[[a-z0-9-]+\])?==(\S+)(.*(?:\n    --hash=.*)+)", text, re.MULTILINE)
    return {name: (version, set(re.findall(r"sha256:([0-9a-f]{64})", rest))) for name, version, rest in entries}


@pytest.mark.parametrize("target", ["sidecar", "standalone"])
def test_it_is_the_lock(bills: dict[str, dict[str, Any]], target: str) -> None:
    packages = [one for one in bills[target]["components"] if one.get("purl", "").startswith("pkg:pypi/")]
    found = {
        one["name"]: (
            one["version"],
            {given["content"] for reference in one["externalReferences"] for given in reference.get("hashes", [])},
        )
        for one in packages
    }
    assert found == locked()
    assert len(bills[target]["components"]) == len(packages) + (target == "standalone")


def test_standalone_has_the_cerbos_of_the_dockerfile(bills: dict[str, dict[str, Any]]) -> None:
    others = [one for one in bills["standalone"]["components"] if not one["purl"].startswith("pkg:pypi/")]
    assert [(one["name"], one["version"]) for one in others] == [("cerbos", "0.55.0")]
    digest = others[0]["purl"].partition("@sha256%3A")[2].partition("?")[0]
    assert f"ARG CERBOS=ghcr.io/cerbos/cerbos:0.55.0@sha256:{digest}\n" in (ROOT / "Dockerfile").read_text()


def test_it_is_cyclonedx(bills: dict[str, dict[str, Any]]) -> None:
    """The larger one, of which the other is a part. In a process of its own, which knows the format of an IRI."""
    check = (
        "import json, sys\n"
        "from cyclonedx.schema import SchemaVersion\n"
        "from cyclonedx.validation.json import JsonStrictValidator\n"
        "validator = JsonStrictValidator(SchemaVersion.V1_6)\n"
        "print([validator.validate_str(json.dumps(bill)) is None for bill in json.load(sys.stdin)])\n"
    )
    good = bills["standalone"]
    wrong = {**good, "externalReferences": [{"type": "website", "url": "http://["}], "components": []}
    done = subprocess.run(
        [sys.executable, "-c", check], input=json.dumps([good, wrong]), capture_output=True, text=True, check=False
    )
    assert done.stdout == "[True, False]\n", done.stderr[-2000:]
