"""The peers' configurations are taken by the peers themselves, and the sidecar's by the sidecar."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.stack import PEERS, ROUTES, filled
from sidecar.config.routes.file import read_routes

ENVOY = Path(sys.executable).parent / "envoy"
PORTS = ("APP", "NGINX", "SINK", "AUTHORIZER", "ADMIN", "PLAIN", "JWT", "EXT_AUTHZ")


def values(folder: Path) -> dict[str, object]:
    return {
        "FOLDER": folder,
        "USER": "",
        "ISSUER": "https://issuer",
        **{name: 20000 + n for n, name in enumerate(PORTS)},
    }


@pytest.mark.skipif(not ENVOY.exists(), reason="envoy is not installed")
def test_envoy_takes_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": []}))
    (tmp_path / "envoy.yaml").write_text(filled("envoy.yaml", values(tmp_path)))
    command = [
        str(ENVOY),
        "--mode",
        "validate",
        "-l",
        "error",
        "-c",
        str(tmp_path / "envoy.yaml"),
        "--use-dynamic-base-id",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    # Envoy reads the keys when it validates, and a set without a key is refused: everything else has been read by then
    assert done.returncode == 0 or "jwks" in done.stderr.lower(), done.stderr


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text(filled("nginx.conf", values(tmp_path)))
    done = subprocess.run(
        ["nginx", "-t", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_value_is_left_open(tmp_path: Path) -> None:
    for path in PEERS.glob("*.*"):
        if path.suffix in (".conf", ".yaml"):
            text = filled(path.name, values(tmp_path))
            assert not [word for word in text.split() if word.count("@") >= 2 and "type" not in word]


def test_the_sidecar_takes_its_routes() -> None:
    assert len(read_routes(ROUTES.format(app=1, more=""), "routes.yaml", {}).table.routes) == 9
