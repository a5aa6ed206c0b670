"""The code flow with a provider that neither we nor AWS wrote: npm's `oidc-provider`, strict about PKCE and nonce."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from sidecar.demo.processes import Process, status_of
from tests.browser.conftest import SECRET, html_app
from tests.stack import CHROMIUM, ROOT, Recorder, Sidecar, free_port, running_sidecar

NODE = shutil.which("node")
ROUTES = """\
version: 1
identity:
  - {{issuer: "http://127.0.0.1:{port}", jwks_url: "http://127.0.0.1:{port}/jwks", client_ids: [web], token_use: [id]}}
principal: {{id: sub, roles: "cognito:groups"}}
routes:
  - {{path: "/deep/{{page}}", access: authenticated}}
"""
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or NODE is None or not (ROOT / "node_modules/oidc-provider").is_dir(),
    reason="chromium, node or the npm package oidc-provider is not installed",
)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder, port, traffic = tmp_path_factory.mktemp("witness"), free_port(), free_port()
    callback = f"http://127.0.0.1:{traffic}/_sidecar/callback"
    # packages are looked for beside the script
    command = [str(NODE), str(ROOT / "tests/browser/provider.mjs"), str(port), callback]
    app = Recorder()
    app.answer = html_app
    environ = {
        "AWS_COGNITO_CLIENT_ID": "web", "AWS_COGNITO_CLIENT_SECRET": "known-to-the-client-alone",
        "AWS_COGNITO_DOMAIN": f"http://127.0.0.1:{port}", "AWS_COGNITO_HOSTED_UI_CALLBACK_URL": callback,
        "SIDECAR_SESSION_SECRET": SECRET, "SIDECAR_LISTEN": f"127.0.0.1:{traffic}",
    }  # fmt: skip
    ready = lambda: status_of(port, "/jwks") == 200  # noqa: E731 - as an argument below
    with (
        Process.start("provider", command, folder, os.environ, ready),
        running_sidecar(
            folder, ROUTES.format(port=port), ROOT / "policies", f"http://127.0.0.1:{app.port}", environ, shared=True
        ) as running,
    ):
        yield Sidecar(running.process, traffic, running.admin_port, running.folder, running.ready_after)
    app.close()


def heading(page: Page) -> str:
    return page.get_by_role("heading").first.inner_text()


def test_a_person_signs_in_there_comes_back_and_is_renewed(page: Page, sidecar: Sidecar) -> None:
    page.goto(f"http://127.0.0.1:{sidecar.port}/deep/link?a=b")
    page.fill("[name=login]", "witness")
    page.fill("[name=password]", "any")
    page.click("[type=submit]")
    page.click("[type=submit]")
    page.wait_for_url("**/deep/link?a=b")
    assert heading(page) == "GET /deep/link?a=b witness user"
    first = page.context.cookies(f"http://127.0.0.1:{sidecar.port}")
    # the tokens live 4 s, and are renewed 0.8 s before their end at the latest
    deadline = time.monotonic() + 30
    while page.context.cookies(f"http://127.0.0.1:{sidecar.port}") == first:
        assert time.monotonic() < deadline
        time.sleep(0.5)
        page.goto(f"http://127.0.0.1:{sidecar.port}/deep/again")
        assert heading(page) == "GET /deep/again witness user"
    assert [line["event"] for line in sidecar.decisions() if line["event"] != "decision"] == ["signed_in"]
