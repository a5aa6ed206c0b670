"""A person signs in with our own form, and out again."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import BrowserContext, Page

from sidecar.demo.cognito import LocalCognito, User
from tests.browser.conftest import SECRET, Site, environ_of, sign_in, site
from tests.stack import Recorder


def heading(page: Page) -> str:
    return page.get_by_role("heading").first.inner_text()


def test_a_person_signs_in_and_comes_to_where_they_were_going(page: Page, password_site: Site) -> None:
    sign_in(page, f"{password_site.url}/deep/link?a=b&c=%20", "alice", "Alice-1234")
    assert page.url == f"{password_site.url}/deep/link?a=b&c=%20"
    assert heading(page) == "GET /deep/link?a=b&c=%20 alice user"
    cookies = page.context.cookies()
    assert {cookie["name"] for cookie in cookies} == {"__Host-session", "__Host-login-device"}
    for cookie in cookies:
        assert cookie["httpOnly"]
        assert cookie["secure"]
        assert cookie["sameSite"] == "Lax"
    # no script of the app's gets at it
    assert page.evaluate("document.cookie") == ""
    assert password_site.upstream.seen[-1].values("cookie") == []
    assert password_site.upstream.seen[-1].values("authorization") == []


def test_a_wrong_password_says_so_and_the_right_one_goes_on(page: Page, password_site: Site) -> None:
    sign_in(page, f"{password_site.url}/me", "alice", "wrong")
    assert page.get_by_role("alert").inner_text() == "Incorrect user name or password."
    assert page.get_by_label("User name").input_value() == "alice"
    assert page.get_by_label("Password").input_value() == ""
    page.get_by_label("Password").fill("Alice-1234")
    page.get_by_role("button", name="Sign in").click()
    assert heading(page) == "GET /me alice user"


def test_nobody_learns_who_has_an_account(page: Page, password_site: Site) -> None:
    sign_in(page, f"{password_site.url}/me", "nobody-of-this-name", "wrong")
    assert page.get_by_role("alert").inner_text() == "Incorrect user name or password."


def test_a_first_sign_in_asks_for_a_new_password(page: Page, password_site: Site, cognito: LocalCognito) -> None:
    cognito.add_user(User("erin", "Temp-1234", ("user",), temporary=True))
    sign_in(page, f"{password_site.url}/me", "erin", "Temp-1234")
    assert heading(page) == "Choose a new password"
    page.get_by_label("New password", exact=True).fill("Erin-12345")
    page.get_by_label("Confirm new password").fill("Other-12345")
    page.get_by_role("button").click()
    assert page.get_by_role("alert").inner_text() == "The two passwords don't match."
    page.get_by_label("New password", exact=True).fill("short")
    page.get_by_label("Confirm new password").fill("short")
    page.get_by_role("button").click()
    assert "assword" in page.get_by_role("alert").inner_text()
    page.get_by_label("New password", exact=True).fill("Erin-12345")
    page.get_by_label("Confirm new password").fill("Erin-12345")
    page.get_by_role("button").click()
    assert heading(page) == "GET /me erin user"


def test_it_works_without_javascript(password_site: Site, context: BrowserContext) -> None:
    browser = context.browser
    assert browser is not None
    plain = browser.new_context(java_script_enabled=False)
    page = plain.new_page()
    sign_in(page, f"{password_site.url}/me", "bob", "Bobby-1234")
    assert heading(page) == "GET /me bob user"
    plain.close()


def test_a_denied_page_is_a_page_and_not_a_sign_in(page: Page, password_site: Site) -> None:
    sign_in(page, f"{password_site.url}/me", "alice", "Alice-1234")
    page.goto(f"{password_site.url}/unmapped")
    assert heading(page) == "Access denied"
    assert "route_unmapped" in page.content()


def test_secure_remote_password_signs_in(page: Page, tmp_path: Path, cognito: LocalCognito, upstream: Recorder) -> None:
    # the stand-in does not check the proof; that it is right is checked beside the arithmetic
    with site(tmp_path, upstream, environ_of(cognito, SIDECAR_PASSWORD_FLOW="srp")) as sidecar:
        sign_in(page, f"http://127.0.0.1:{sidecar.port}/me", "alice", "Alice-1234")
        assert heading(page) == "GET /me alice user"


def test_a_session_goes_on_after_a_restart_of_the_sidecar(
    page: Page, tmp_path: Path, cognito: LocalCognito, upstream: Recorder
) -> None:
    with site(tmp_path / "one", upstream, environ_of(cognito)) as sidecar:
        sign_in(page, f"http://127.0.0.1:{sidecar.port}/me", "alice", "Alice-1234")
    # cookies know no ports (RFC 6265 section 8.5)
    with site(tmp_path / "two", upstream, environ_of(cognito)) as sidecar:
        page.goto(f"http://127.0.0.1:{sidecar.port}/me")
        assert heading(page) == "GET /me alice user"
    rotated = environ_of(cognito, SIDECAR_SESSION_SECRET=SECRET[::-1])
    with site(tmp_path / "three", upstream, rotated) as sidecar:
        page.goto(f"http://127.0.0.1:{sidecar.port}/me")
        assert heading(page) == "Sign in"
        assert page.context.cookies() == [] or "__Host-session" not in {c["name"] for c in page.context.cookies()}
