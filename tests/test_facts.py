"""Facts that files of other languages must repeat: each is held against the one place that decides it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

from sidecar.config.setting_table import SETTINGS

ROOT = Path(__file__).parent.parent
DEFAULTS = {setting.variable: setting.default for setting in SETTINGS}
PORT = str(DEFAULTS["SIDECAR_LISTEN"]).rpartition(":")[2]
USER = re.search(r"^USER (\d+):", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

OTHERS = {"deploy/k8s/app/deployment.yaml", "deploy/k8s/overlays/front-door/redis.yaml"}
"""Files of images that are not the sidecar's, with a user of their own."""


def files() -> Iterator[Path]:
    """Files that say how the sidecar is run."""
    yield from (ROOT / "Dockerfile", ROOT / "docker-compose.yaml", ROOT / "sidecar" / "inject" / "template.yaml")
    yield from (path for kind in ("*.yaml", "Dockerfile") for path in sorted((ROOT / "deploy").rglob(kind)))


def found(pattern: str) -> dict[str, set[str]]:
    """The values that a pattern finds, by file."""
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files()}
    values = {name: set(re.findall(pattern, text, re.MULTILINE)) for name, text in texts.items()}
    return {name: each for name, each in values.items() if each}


def test_the_port_of_traffic_is_the_default_of_the_setting() -> None:
    for pattern in (
        r"name: SIDECAR_LISTEN, value: \"[0-9.]+:(\d+)\"",
        r"name: authz, containerPort: (\d+)",
        r"^EXPOSE (\d+)$",
        r"127\.0\.0\.1:(\d+)/_sidecar/authorize",
    ):
        values = found(pattern)
        assert values, pattern
        if "EXPOSE" in pattern:
            values = {"Dockerfile": values["Dockerfile"]}
        for name, each in values.items():
            assert each == {PORT}, (name, pattern)


def test_every_process_is_the_user_of_the_image() -> None:
    assert USER is not None
    for pattern in (r"runAs(?:User|Group): (\d+)", r"^USER \d+:(\d+)$", r"^USER (\d+):", r"user: \"(\d+):"):
        values = found(pattern)
        assert values, pattern
        for name, each in values.items():
            assert name in OTHERS or each == {USER[1]}, (name, pattern)


def test_the_version_is_the_same_everywhere() -> None:
    """The images that files name, the label of the image and the newest entry of the changelog."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = [
        (ROOT / file).read_text(errors="replace") for file in listed if file.endswith((".yaml", ".md", "Makefile"))
    ]
    named = {tag for text in texts for tag in re.findall(r"authorization-sidecar:(\d+\.\d+\.\d+)", text)}
    assert named == {version}
    assert f"ARG VERSION={version}\n" in (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == version
