"""A person signs in at the hosted UI: there, back to the deep link, renewed, and out again; nobody else gets in between."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page

from sidecar.demo.cognito import LocalCognito
from sidecar.demo.hosted_ui import HostedUIServer
from tests.browser.conftest import Site, environ_of, site
from tests.browser.test_password import heading
from tests.pages.jar import Jar
from tests.signing_in import Browser, parameters_of
from tests.stack import Recorder, Sidecar, free_port

TOKEN_SECONDS = 3


@pytest.fixture(scope="module")
def hosted(
    cognito: LocalCognito, upstream: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, HostedUIServer]]:
    """Signs in at the hosted UI, whose tokens live three seconds and whose refresh tokens serve once."""
    folder, port = tmp_path_factory.mktemp("hosted"), free_port()
    origin = f"http://127.0.0.1:{port}"
    with HostedUIServer(
        cognito, free_port(), folder, os.environ, redirect_uris=[f"{origin}/_sidecar/callback"],
        logout_uris=[f"{origin}/"], token_seconds=TOKEN_SECONDS, rotation_grace=0.0,
    ) as ui:  # fmt: skip
        environ = environ_of(
            cognito, SIDECAR_LOGIN="auto", AWS_COGNITO_DOMAIN=ui.domain, SIDECAR_LISTEN=f"127.0.0.1:{port}",
            AWS_COGNITO_HOSTED_UI_CALLBACK_URL=f"{origin}/_sidecar/callback", SIDECAR_LOGOUT="cognito",
            AWS_COGNITO_CLIENT_ID=cognito.confidential_client_id,
            AWS_COGNITO_CLIENT_SECRET=cognito.confidential_client_secret,
        )  # fmt: skip
        with site(folder / "sidecar", upstream, environ) as running:
            sidecar = Sidecar(running.process, port, running.admin_port, running.folder, running.ready_after)
            yield Site(sidecar, upstream), ui


def sign_in_there(page: Page, url: str, name: str = "alice", password: str = "Alice-1234") -> None:
    page.goto(url)
    page.fill("#username", name)
    page.fill("#password", password)
    page.locator("#password").press("Enter")


def test_a_person_signs_in_there_and_comes_back_to_the_deep_link(
    page: Page, hosted: tuple[Site, HostedUIServer]
) -> None:
    site, _ = hosted
    sign_in_there(page, f"{site.url}/deep/link?a=b")
    page.wait_for_url(f"{site.url}/deep/link?a=b")
    assert heading(page) == "GET /deep/link?a=b alice user"
    assert {cookie["name"] for cookie in page.context.cookies(site.url) if cookie["name"].startswith("__Host")} == {
        "__Host-session"
    }


def test_a_session_is_renewed_without_the_person_noticing(page: Page, hosted: tuple[Site, HostedUIServer]) -> None:
    site, _ = hosted
    sign_in_there(page, f"{site.url}/me")
    page.wait_for_url(f"{site.url}/me")
    deadline = time.monotonic() + 5 * TOKEN_SECONDS
    seen: set[str] = set()
    while len(seen) < 3:
        assert time.monotonic() < deadline
        # several at once, as a page does: each refresh token serves once
        statuses = page.evaluate(
            "Promise.all([1, 2, 3, 4].map(() => fetch('/me').then(answer => answer.status + answer.url)))"
        )
        assert statuses == [f"200{site.url}/me"] * 4
        seen.add(next(c["value"] for c in page.context.cookies(site.url) if c["name"] == "__Host-session"))
        time.sleep(0.5)
    page.goto(f"{site.url}/me")
    assert heading(page) == "GET /me alice user"


def test_a_sign_out_ends_cognitos_session_too(page: Page, hosted: tuple[Site, HostedUIServer]) -> None:
    site, ui = hosted
    sign_in_there(page, f"{site.url}/me")
    page.wait_for_url(f"{site.url}/me")
    page.evaluate(
        "() => { const form = document.createElement('form'); form.method = 'post'; form.action = '/_sidecar/logout';"
        " document.body.append(form); form.submit(); }"
    )
    page.wait_for_url(f"{site.url}/")
    page.goto(f"{site.url}/me")
    # not signed in again without being asked
    assert page.url.startswith(f"{ui.domain}/")


def test_without_ending_cognitos_session_the_next_sign_in_asks_nothing(
    page: Page, hosted: tuple[Site, HostedUIServer]
) -> None:
    site, _ = hosted
    sign_in_there(page, f"{site.url}/me")
    page.wait_for_url(f"{site.url}/me")
    page.context.clear_cookies(name="__Host-session")
    page.goto(f"{site.url}/deep/again")
    assert heading(page) == "GET /deep/again alice user"


def test_a_sign_out_everywhere_ends_a_session_at_its_renewal(
    page: Page, hosted: tuple[Site, HostedUIServer], cognito: LocalCognito
) -> None:
    site, ui = hosted
    sign_in_there(page, f"{site.url}/me", "bob", "Bobby-1234")
    page.wait_for_url(f"{site.url}/me")
    cognito.sign_out_everywhere("bob")
    deadline = time.monotonic() + TOKEN_SECONDS + 4
    while page.evaluate("fetch('/me').then(answer => answer.status)") == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    page.goto(f"{site.url}/me")
    assert page.url.startswith(f"{ui.domain}/")


# --- the callback, by hand ---


class Attempt:
    """One sign-in of one browser without a screen, up to the callback."""

    def __init__(self, site: Site, path: str = "/me") -> None:
        self.jar = Jar(site.sidecar)
        location = self.jar.get(path).header("location") or ""
        self.authorize = self.jar.get(location).header("location") or ""
        self.state = parse_qs(urlsplit(self.authorize).query)["state"][0]

    def code(self, **changed: str) -> str:
        """Sign in there, in another browser, and take the code."""
        url = self.authorize
        for name, value in changed.items():
            url = url.replace(f"{name}={parse_qs(urlsplit(url).query)[name][0]}", f"{name}={value}")
        # it goes no further, so that the code is not used up
        back = Browser().sign_in(url, "bob", "Bobby-1234")
        assert urlsplit(back.headers["location"]).path == "/_sidecar/callback"
        return parameters_of(back)["code"]

    def callback(self, code: str, state: str) -> int:
        """The status of the callback; no session unless it is a redirect."""
        got = self.jar.get(f"/_sidecar/callback?code={code}&state={state}")
        assert ("__Host-session" in self.jar.cookies) is (got.status == 303)
        assert got.header("cache-control") == "no-store"
        return got.status


def test_a_callback_is_taken_once_from_the_browser_that_began(hosted: tuple[Site, HostedUIServer]) -> None:
    site, _ = hosted
    mine, other = Attempt(site), Attempt(site)
    code = mine.code()
    before = len(site.upstream.seen)
    # o01: no state, a made-up one, that of another browser
    assert mine.callback(code, "") == 400
    assert mine.callback(code, "made-up") == 400
    assert mine.callback(code, other.state) == 400
    assert other.callback(code, mine.state) == 400
    cookies = dict(mine.jar.cookies)
    assert mine.callback(code, mine.state) == 303
    mine.jar.cookies = cookies
    assert mine.callback(code, mine.state) == 400
    assert len(site.upstream.seen) == before


def test_a_code_of_another_sign_in_is_none(hosted: tuple[Site, HostedUIServer]) -> None:
    # o02: the verifier is in the cookie of the browser that began
    site, _ = hosted
    victim, attacker = Attempt(site), Attempt(site)
    assert victim.callback(attacker.code(), victim.state) == 400


def test_an_id_token_with_another_nonce_is_none(hosted: tuple[Site, HostedUIServer]) -> None:
    # o03
    site, _ = hosted
    attempt = Attempt(site)
    assert attempt.callback(attempt.code(nonce="of-another-sign-in"), attempt.state) == 400


def test_what_an_error_says_is_shown_as_text_alone(hosted: tuple[Site, HostedUIServer]) -> None:
    # o14
    site, _ = hosted
    attempt = Attempt(site)
    said = "%3Cscript%3Ealert(1)%3C/script%3E%0d%0aX:%201"
    callback = f"/_sidecar/callback?error=access_denied&error_description={said}"
    # nobody else's words: only the browser that began this sign-in has the state
    stranger = Jar(site.sidecar).get(f"{callback}&state={attempt.state}")
    assert (stranger.status, b"alert" in stranger.body) == (400, False)
    got = attempt.jar.get(f"{callback}&state={attempt.state}")
    assert (got.status, got.header("x")) == (400, None)
    assert b"<q>&lt;script&gt;alert(1)&lt;/script&gt; X: 1</q>" in got.body
    assert b"<script" not in got.body
    assert "default-src 'none'" in (got.header("content-security-policy") or "")


@pytest.mark.parametrize(
    ("query", "passes"),
    [
        ("identity_provider=Google", "identity_provider=Google"),
        ("idp_identifier=acme.example", "idp_identifier=acme.example"),
        ("lang=de", "lang=de"),
        ("client_id=evil", None),
        ("redirect_uri=https://evil.test", None),
    ],
)
def test_what_chooses_a_provider_passes_and_nothing_else(
    hosted: tuple[Site, HostedUIServer], query: str, passes: str | None
) -> None:
    site, _ = hosted
    location = Jar(site.sidecar).get(f"/_sidecar/login?{query}").header("location") or ""
    assert "evil" not in location
    if passes is not None:
        assert passes in location.split("?")[1].split("&")


def test_a_renewal_that_fails_extends_nothing_and_a_program_is_not_redirected(
    page: Page, tmp_path: Path, cognito: LocalCognito, upstream: Recorder
) -> None:
    # o11
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    with HostedUIServer(
        cognito, free_port(), tmp_path, os.environ, redirect_uris=[f"{origin}/_sidecar/callback"],
        logout_uris=[], token_seconds=3,
    ) as ui:  # fmt: skip
        environ = environ_of(
            cognito, SIDECAR_LOGIN="hosted", AWS_COGNITO_DOMAIN=ui.domain, SIDECAR_LISTEN=f"127.0.0.1:{port}",
            AWS_COGNITO_HOSTED_UI_CALLBACK_URL=f"{origin}/_sidecar/callback",
        )  # fmt: skip
        with site(tmp_path / "sidecar", upstream, environ):
            sign_in_there(page, f"{origin}/me")
            page.wait_for_url(f"{origin}/me")
            ui.stop()
            time.sleep(3.1)
            before = len(upstream.seen)
            assert page.evaluate("fetch('/me').then(answer => answer.status)") == 503
            answer = page.goto(f"{origin}/me")
            assert answer is not None
            assert answer.status == 503
            assert len(upstream.seen) == before
