"""A real browser (Debian's Chromium, by Playwright) in front of the real stack."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from sidecar.demo.cognito import LocalCognito
from tests.stack import CHROMIUM, ROOT, Recorder, Seen, Sidecar, running_sidecar
from tests.tokens import SESSION_SECRET

SECRET = SESSION_SECRET
ROUTES = """\
version: 1
principal: {id: username, roles: "cognito:groups"}
routes:
  - {path: /, access: public}
  - {path: /me, access: authenticated, methods: [GET, POST]}
  - {path: "/deep/{page}", access: authenticated}
  - path: /contacts
    resource: contact
    attributes: {owner: "{query.owner}"}
    actions: {GET: list, PUT: update, DELETE: delete, WS: list, POST: {action: create, attributes: {owner: "{form.owner}"}}}
"""


def deaf(chromium: str, folder: Path) -> Path:
    """A program in `folder` that starts this Chromium without a netlink socket: see tests/browser/without_netlink.py."""
    program = folder / "chromium"
    command = shlex.join([sys.executable, str(Path(__file__).with_name("without_netlink.py")), chromium])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program


@pytest.fixture(scope="package")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for the tests of this folder; each test has a context of its own, with its own cookies.

    It must be closed before tests of another folder run: while it is open, its event loop is this thread's.
    """
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    program = deaf(CHROMIUM, tmp_path_factory.mktemp("chromium"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser without cookies."""
    made = chromium.new_context()
    made.set_default_timeout(20_000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A tab of it."""
    return context.new_page()


def html_app(_: Recorder, connection: Any, seen: Seen) -> None:
    """An app that says who it thinks has come."""
    who = " ".join(seen.values("x-auth-subject") + seen.values("x-auth-roles")) or "nobody"
    body = f"<!doctype html><title>app</title><h1>{seen.method} {seen.target} {who}</h1>".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    connection.sendall(head if seen.method == "HEAD" else head + body)


@dataclass
class Site:
    """A sidecar that signs people in, before an app that says who has come."""

    sidecar: Sidecar
    upstream: Recorder

    @property
    def url(self) -> str:
        """Its origin."""
        return f"http://127.0.0.1:{self.sidecar.port}"


@pytest.fixture(scope="session")
def upstream() -> Iterator[Recorder]:
    """The app."""
    app = Recorder()
    app.answer = html_app
    yield app
    app.close()


def environ_of(cognito: LocalCognito, **more: str) -> dict[str, str]:
    """The settings of a sidecar that signs people in at this pool, with our own form."""
    return {
        "AWS_REGION": cognito.region, "AWS_COGNITO_POOL_ID": cognito.pool_id, "AWS_COGNITO_CLIENT_ID": cognito.client_id,
        "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": cognito.endpoint, "SIDECAR_LOGIN": "password",
        "SIDECAR_PASSWORD_FLOW": "password", "SIDECAR_SESSION_SECRET": SECRET, **more,
    }  # fmt: skip


def site(folder: Path, upstream: Recorder, environ: dict[str, str]) -> AbstractContextManager[Sidecar]:
    """A sidecar of its own for one test."""
    return running_sidecar(folder, ROUTES, ROOT / "policies", f"http://127.0.0.1:{upstream.port}", environ, shared=True)


@pytest.fixture(scope="session")
def password_site(
    cognito: LocalCognito, upstream: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Signs in with our own form."""
    with site(tmp_path_factory.mktemp("password"), upstream, environ_of(cognito)) as sidecar:
        yield Site(sidecar, upstream)


def sign_in(page: Page, url: str, name: str, password: str) -> None:
    """Go to `url`, and sign in with our form where it is asked for."""
    page.goto(url)
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
