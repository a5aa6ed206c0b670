"""nginx before the sidecar as docs/guides/behind-a-load-balancer.md shows it: the client is the one that nginx saw."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.demo.processes import Process
from tests.conftest import Stack, policies
from tests.foreign.ways import listens, nginx_file, search_path
from tests.stack import ROOT, free_port, running_sidecar

NGINX = shutil.which("nginx", path=search_path())
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def test_what_a_client_forwards_is_not_believed_through_nginx(stack: Stack, tmp_path: Path) -> None:
    page = (ROOT / "docs/guides/behind-a-load-balancer.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```nginx\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    port = free_port()
    environ = {
        **stack.environ, "SIDECAR_TRUSTED_PROXIES": "127.0.0.1/32", "SIDECAR_HOSTS": "app.example.com",
    }  # fmt: skip
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path / "run", stack.routes, policies(), upstream, environ, shared=True) as sidecar:
        shown = shown.replace("10.0.1.7:8080", f"127.0.0.1:{sidecar.port}").replace("443 ssl", f"127.0.0.1:{port}")
        command = [str(NGINX), "-c", str(nginx_file(tmp_path, shown))]
        with Process.start("nginx", command, tmp_path, dict(os.environ), lambda: listens(port)):
            stack.upstream.reset()
            got = replace(sidecar, port=port).request(
                "GET", "/me", stack.tokens["alice"], source="127.0.0.2", Host="app.example.com",
                X_Forwarded_For="203.0.113.9", X_Forwarded_Host="evil.example", X_Forwarded_Proto="https",
                X_Forwarded_Port="1", Forwarded="for=203.0.113.9;host=evil.example",
            )  # fmt: skip
        assert got.status == 200
        (line,) = [each for each in sidecar.decisions() if each["path"] == "/me"]
    assert (line["peer"], line["host"]) == ("127.0.0.2", "app.example.com")
    (seen,) = stack.upstream.seen
    assert [seen.values(name) for name in ("host", "x-forwarded-host", "x-forwarded-proto", "forwarded")] == [
        ["app.example.com"], ["app.example.com"], ["http"], [],
    ]  # fmt: skip
