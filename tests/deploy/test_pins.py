"""Images of others are named by their digest, so that what is built and run today is what is built and run tomorrow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sidecar.inject.server import template_of
from tests.deploy.engine import PINS, unpinned
from tests.stack import ROOT

OWN = ("registry.example.com/", "localhost/", "your/")
"""Images that are the user's, or built here."""
_NAMED = re.compile(r"""(?m)^\s*(?:- )?image:\s*["']?([^\s"'#]+)|^ARG [A-Z]+=(\S+/\S+:\S+)|^FROM (?!\$)(\S+)""")
_PINNED = re.compile(r"[a-z0-9./-]+:[\w.-]+@sha256:[0-9a-f]{64}")


def files() -> list[Path]:
    """Everything that names images: Dockerfiles, compose files, manifests."""
    tops = [ROOT / "Dockerfile", ROOT / "docker-compose.yaml", ROOT / "sidecar/inject/template.yaml"]
    return [*tops, *sorted((ROOT / "deploy").rglob("Dockerfile")), *sorted((ROOT / "deploy").rglob("*.yaml"))]


def images(file: Path) -> list[str]:
    """The images of others that a file names; a stage of the same Dockerfile is none."""
    found = [next(filter(None, match)) for match in _NAMED.findall(file.read_text())]
    return [name for name in found if not name.startswith(OWN) and ("/" in name or ":" in name)]


def test_each_image_is_named_by_its_digest() -> None:
    found = {(str(file.relative_to(ROOT)), name) for file in files() for name in images(file)}
    assert len({file for file, _ in found}) >= 9
    assert [one for one in sorted(found) if _PINNED.fullmatch(one[1]) is None] == []


def test_one_tag_is_one_digest() -> None:
    digests: dict[str, set[str]] = {}
    for file in files():
        for name in images(file):
            digests.setdefault(unpinned(name), set()).add(name)
    assert [names for names in digests.values() if len(names) > 1] == []
    assert len(digests) == 3


def test_the_pod_has_the_cerbos_of_the_image() -> None:
    container = next(one for one in template_of({}).containers if one["name"] == "authz-cerbos")
    assert container["image"] == PINS["CERBOS"]


@pytest.mark.parametrize(
    "file", ["Dockerfile", *(f"deploy/compose/{one}/Dockerfile" for one in ("app", "cognito", "redis"))]
)
def test_a_base_can_be_replaced(file: str) -> None:
    """By a mirror's: with an argument of the build, in each stage that has a base."""
    text = (ROOT / file).read_text()
    bases = [line.split()[1] for line in text.splitlines() if line.startswith("FROM ")]
    stages = {line.split()[3] for line in text.splitlines() if line.startswith("FROM ") and " AS " in line}
    assert bases
    assert all(base in stages or re.fullmatch(r"\$\{[A-Z]+\}", base) for base in bases)


def test_the_compose_file_is_read() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    assert services["cerbos"]["image"] == PINS["CERBOS"]
