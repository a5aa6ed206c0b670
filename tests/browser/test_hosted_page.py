"""The page of the demo's hosted UI, in a browser that runs no scripts: it signs in, and fits its window in each scheme."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Browser, Page

from sidecar.demo.cognito import LocalCognito
from sidecar.demo.hosted_ui import HostedUIServer
from tests.signing_in import App, authorize_url
from tests.stack import Web, free_port

LOOKS: Any = (("light", 360), ("light", 1400), ("dark", 360))


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(java_script_enabled=False)
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def app() -> Iterator[Web]:
    made = Web()
    yield made
    made.close()


def look(page: Page) -> None:
    """In each scheme the ground is light or dark, and nothing is wider than the window."""
    for scheme, width in LOOKS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 740})
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 3 * 128) == (scheme == "dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_browser_without_javascript_signs_in(page: Page, app: Web, cognito: LocalCognito, tmp_path: Path) -> None:
    """By the form, once with a wrong password, then by a button, in a small window and in a large one; nothing is asked of
    anybody else."""
    callback = f"http://127.0.0.1:{app.port}/callback"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with HostedUIServer(cognito, free_port(), tmp_path, os.environ, redirect_uris=[callback], logout_uris=[]) as hosted:
        url = authorize_url(hosted.domain, cognito.client_id, callback)
        for width in (360, 1400):
            page.context.clear_cookies()
            page.goto(url)
            for password in ("wrong", "Alice-1234"):
                look(page)
                page.set_viewport_size({"width": width, "height": 740})
                page.get_by_label("Username").fill("alice")
                page.get_by_label("Password", exact=True).fill(password)
                page.get_by_role("button", name="Sign in", exact=True).click()
                if password == "wrong":
                    assert page.get_by_role("alert").inner_text() == "Incorrect username or password."
            assert page.url.startswith(f"{callback}?code=")
            page.context.clear_cookies()
            page.goto(url)
            page.get_by_role("button", name="Sign in as bob").click()
            assert page.url.startswith(f"{callback}?code=")
        client = App(hosted.domain, cognito.client_id)
        names = []
        for path, _ in app.asked:
            if path.startswith("/callback"):
                code = dict(parse_qsl(urlsplit(path).query))["code"]
                tokens = client.redeem(code, callback).json()
                names.append(client.userinfo(tokens["access_token"]).json()["username"])
        assert names == ["alice", "bob"] * 2
    assert [one for one in asked if not one.startswith((hosted.domain, callback, "data:"))] == []
