"""`make demo` in a browser: the printed page, as a user and as an admin, by the hosted UI and by the form, and out."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from sidecar.demo.processes import Process, status_of
from tests.browser.test_console import chips
from tests.stack import ROOT, free_port

CONTACTS = ROOT / "sidecar/demo/contacts.json"
pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The text that the demo prints."""
    folder, ports = tmp_path_factory.mktemp("demo"), [free_port() for _ in range(5)]
    names = ("--port", "--admin-port", "--app-port", "--cognito-port", "--login-port")
    options = [word for name, port in zip(names, ports, strict=True) for word in (name, str(port))]
    command = [sys.executable, "-m", "sidecar.cli", "demo", *options]
    for name in ("routes.yaml", "policies", "node_modules"):
        (folder / name).symlink_to(ROOT / name)
    log = folder / "demo.log"
    ready = lambda: log.exists() and "Press Ctrl-C" in log.read_text() and status_of(ports[1], "/readyz") == 200  # noqa: E731
    with Process.start("demo", command, folder, os.environ, ready):
        yield log.read_text()


def url_of(demo: str) -> str:
    found = re.search(r"^    (http://\S+/_sidecar/console\S*)$", demo, re.MULTILINE)
    assert found is not None
    return found[1]


def shown(page: Page) -> tuple[str, dict[str, str]]:
    """The verdict of the printed request, and the actions on bob's contact."""
    verdict = page.locator("#verdict").inner_text()
    page.get_by_label("A path for /contacts/{id}").fill("/contacts/2")
    page.get_by_role("button", name="Check these paths").click()
    return verdict, chips(page, "/contacts/{id}")


def contacts(page: Page, url: str) -> dict[int, bool]:
    """The ids of the contacts that the app's list shows, and whether each has its phone number."""
    shown = page.goto(url.partition("/_sidecar/")[0] + "/contacts")
    assert shown is not None
    return {contact["id"]: "phone" in contact for contact in shown.json()}


def test_a_user_and_an_admin_see_what_each_may_do(page: Page, demo: str) -> None:
    url = url_of(demo)
    # alice, by the hosted UI, with the button of her row
    page.goto(url)
    page.get_by_role("link", name="Sign in with the hosted page").click()
    page.get_by_role("button", name="Sign in as alice").click()
    page.wait_for_url(url)
    verdict, actions = shown(page)
    assert verdict.startswith("✗ Refused with 403")
    assert (actions["read"], actions["update"], actions["delete"]) == ("yes", "no", "no")
    # what the app hears: the claims of a session's id token, too
    hello = page.goto(url.partition("/_sidecar/")[0] + "/hello")
    assert hello is not None
    assert hello.json() == {"user": "alice", "groups": "user", "email": "alice@example.com", "token": "none"}
    # the app's own list: her own and the team's, with the phone numbers of her own alone
    assert contacts(page, url) == {1: True, 2: False, 3: True}
    page.goto(url)
    page.get_by_role("button", name="Sign out").click()
    # Cognito's own session has ended too: the form is shown, and the hosted UI asks again
    page.wait_for_selector("#password")
    page.goto(url)
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill("Admin-1234")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(url)
    verdict, actions = shown(page)
    assert verdict.startswith("✓ Allowed")
    assert {actions[name] for name in ("read", "update", "delete")} == {"yes"}
    assert contacts(page, url) == {1: True, 2: True, 3: True, 4: True}
    # what alice would get of it, item by item
    page.goto(url.partition("?")[0] + "?method=GET&path=/contacts&as=alice&roles=user")
    page.get_by_label("An answer of the app").fill(json.dumps(json.loads(CONTACTS.read_text())["contacts"]))
    page.get_by_role("button", name="Judge this answer").click()
    assert page.locator("#given").inner_text() == "3 of 4 items are shown, 1 without fields"
    assert page.locator("#items tbody tr").all_inner_texts()[3].split()[:3] == ["4", "✗", "dropped"]
    page.goto(url)
    page.get_by_role("button", name="Sign out").click()
    assert page.get_by_role("heading").inner_text() == "You are signed out"
    page.goto(url)
    assert page.get_by_role("heading").inner_text() == "Sign in"
