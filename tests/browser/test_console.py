"""The console in a browser: what it shows to a user and to an admin is what the policy says, and it looks right."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Dialog, Page

from sidecar.demo.cognito import LocalCognito
from tests.browser.conftest import Site, environ_of, sign_in
from tests.stack import ROOT, Recorder, Web, running_sidecar

ROUTES = """\
version: 1
principal: {{id: username, roles: "cognito:groups", attributes: {{name: username}}}}
lookups:
  contact: {{url: "http://127.0.0.1:{hook}/contacts/{{id}}", attributes: {{owner: owner_id}}}}
routes:
  - {{path: /healthz, access: public}}
  - {{path: /me, access: authenticated}}
  - path: /contacts/{{id}}
    resource: contact
    id: "{{path.id}}"
    lookup: contact
    actions: {{GET: read, PUT: update, DELETE: delete}}
"""


@pytest.fixture(scope="module")
def console(cognito: LocalCognito, upstream: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    hook = Web()
    hook.json("/contacts/1", {"id": 1, "owner_id": "alice"})
    hook.json("/contacts/2", {"id": 2, "owner_id": "bob"})
    environ = environ_of(cognito, SIDECAR_CONSOLE_ADMIN="admin")
    folder = tmp_path_factory.mktemp("console")
    with running_sidecar(
        folder,
        ROUTES.format(hook=hook.port),
        ROOT / "policies",
        f"http://127.0.0.1:{upstream.port}",
        environ,
        shared=True,
    ) as sidecar:
        yield Site(sidecar, upstream)
    hook.close()


Visit = Callable[[str, str], Page]
PASSWORDS = {"alice": "Alice-1234", "admin": "Admin-1234"}


@pytest.fixture(scope="module")
def session(chromium: Browser, console: Site) -> Callable[[str], Any]:
    """Gives what a browser keeps of a user, who has signed in on the way to the console."""

    @functools.cache
    def of(name: str) -> Any:
        context = chromium.new_context()
        page = context.new_page()
        page.set_default_timeout(20_000)
        sign_in(page, f"{console.url}/_sidecar/console", name, PASSWORDS[name])
        assert page.get_by_role("heading", level=1).inner_text() == "Access console"
        state = context.storage_state()
        context.close()
        return state

    return of


@pytest.fixture
def visit(chromium: Browser, console: Site, session: Callable[[str], Any]) -> Iterator[Visit]:
    """Opens a page of the sidecar in a new browser, in which a user has signed in before."""
    opened = []

    def open_(name: str, path: str) -> Page:
        context = chromium.new_context(storage_state=session(name))
        context.set_default_timeout(20_000)
        opened.append(context)
        page = context.new_page()
        page.goto(console.url + path)
        return page

    yield open_
    for context in opened:
        context.close()


def chips(page: Page, route: str) -> dict[str, str]:
    """The actions of a route, each with its class."""
    row = page.locator(".route", has=page.locator("code", has_text=route))
    found = {}
    for chip in row.locator(".chip").all():
        kind = (chip.get_attribute("class") or "").removeprefix("chip ")
        found[chip.inner_text().split()[-1]] = kind
    return found


@pytest.mark.parametrize(
    ("name", "contact", "shown"),
    [
        ("alice", 1, {"read": "yes", "update": "yes", "delete": "yes"}),
        ("alice", 2, {"read": "yes", "update": "no", "delete": "no"}),
        ("admin", 2, {"read": "yes", "update": "yes", "delete": "yes"}),
    ],
)
def test_it_shows_what_the_policy_says(
    visit: Visit, console: Site, name: str, contact: int, shown: dict[str, str]
) -> None:
    page = visit(name, "/_sidecar/console")
    assert page.get_by_role("heading", level=1).inner_text() == "Access console"
    assert chips(page, "/contacts/{id}") == dict.fromkeys(shown, "open")
    field = page.get_by_label("A path for /contacts/{id}")
    field.fill(f"/contacts/{contact}")
    # with scripts a change is asked for at once, as Enter and the buttons do without
    with page.expect_navigation():
        field.press("Tab")
    assert chips(page, "/contacts/{id}") == shown
    # and what is shown is what happens; a page of the app may ask, the console's own policy lets no script out
    page.goto(f"{console.url}/me")
    before = len(console.upstream.seen)
    for method, action in (("GET", "read"), ("PUT", "update"), ("DELETE", "delete")):
        status = page.evaluate(f"fetch('/contacts/{contact}', {{method: '{method}'}}).then(a => a.status)")
        assert status == (200 if shown[action] == "yes" else 403), action
    assert len(console.upstream.seen) - before == list(shown.values()).count("yes")


def ask(page: Page, method: str, path: str) -> str:
    """The verdict on a request, with its class."""
    page.get_by_label("Method").select_option(method)
    page.get_by_label("Path", exact=True).fill(path)
    page.get_by_role("button", name="Check", exact=True).click()
    verdict = page.locator("#verdict")
    return f"{verdict.inner_text()} ({(verdict.get_attribute('class') or '').removeprefix('verdict ')})"


def test_the_whole_way_of_a_request_is_told_and_nothing_is_forwarded(visit: Visit, console: Site) -> None:
    page = visit("alice", "/_sidecar/console")
    before = len(console.upstream.seen)
    assert ask(page, "PUT", "/contacts/1") == "✓ Allowed (yes)"
    question = page.locator("#question").inner_text()
    assert '"owner": "alice"' in question
    assert '"id": "alice"' in question
    assert "EFFECT_ALLOW" in page.locator("#answer").inner_text()
    assert len(console.upstream.seen) == before


def test_a_refused_request_tells_its_verdict_alone(visit: Visit, console: Site) -> None:
    page = visit("alice", "/_sidecar/console")
    assert ask(page, "PUT", "/contacts/2") == "✗ Refused with 403 · denied_by_policy (no)"
    assert page.locator("#question, #answer").count() == 0
    assert "bob" not in page.content()
    assert "127.0.0.1" not in page.locator("main").inner_text()


def test_an_admin_is_shown_why_another_is_refused(visit: Visit, console: Site) -> None:
    as_alice = quote('{"name": "alice"}')
    page = visit("admin", f"/_sidecar/console?as=alice&roles=user&attributes={as_alice}")
    assert ask(page, "PUT", "/contacts/2") == "✗ Refused with 403 · denied_by_policy (no)"
    assert '"owner": "bob"' in page.locator("#question").inner_text()
    assert "EFFECT_DENY" in page.locator("#answer").inner_text()


def test_no_token_is_shown(visit: Visit, console: Site) -> None:
    page = visit("alice", "/_sidecar/console?path=/me")
    shown = page.content()
    assert "eyJ" not in shown
    assert not any(cookie["value"] in shown for cookie in page.context.cookies())
    assert '"username": "alice"' in page.locator("details pre").inner_text() or "alice" in shown


def test_an_admin_asks_as_another_and_it_is_noted(visit: Visit, console: Site) -> None:
    page = visit("admin", "/_sidecar/console")
    page.get_by_label("Principal", exact=True).fill("bob")
    page.get_by_label("Roles, separated by commas").fill("user")
    page.get_by_label("Attributes, as JSON").fill('{"name": "bob"}')
    page.get_by_label("A path for /contacts/{id}").fill("/contacts/2")
    page.get_by_role("button", name="Check these paths").click()
    assert chips(page, "/contacts/{id}") == {"read": "yes", "update": "yes", "delete": "yes"}
    page.get_by_label("A path for /contacts/{id}").fill("/contacts/1")
    page.get_by_role("button", name="Check these paths").click()
    assert chips(page, "/contacts/{id}") == {"read": "yes", "update": "no", "delete": "no"}
    assert "for bob" in page.get_by_role("status").inner_text()
    noted = [line for line in console.sidecar.decisions() if line["event"] == "console_as"]
    assert noted[-1]["asked_as"] == "bob"


def test_a_user_may_not_ask_as_another(visit: Visit, console: Site) -> None:
    page = visit("alice", "/_sidecar/console")
    assert page.get_by_label("Roles, separated by commas").count() == 0
    answer = page.goto(f"{console.url}/_sidecar/console?as=admin&roles=admin&path=/contacts/2&method=DELETE")
    assert answer is not None
    assert answer.status == 403


def test_what_is_typed_is_shown_and_never_run(page: Page, console: Site) -> None:
    said: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        said.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    typed = quote("/contacts/<script>alert(1)</script>\"'><img src=x onerror=alert(2)>")
    sign_in(page, f"{console.url}/_sidecar/console?path={typed}&path-2={typed}", "alice", "Alice-1234")
    assert page.get_by_label("Path", exact=True).input_value().startswith("/contacts/<script>")
    assert page.locator("main script, main img").count() == 0
    assert said == []


def test_every_page_fits_its_width_and_can_be_read(visit: Visit, console: Site) -> None:
    asked = "/_sidecar/console?method=PUT&path=/contacts/2&path-2=/contacts/1"
    page = visit("admin", asked)
    for path in (asked, "/_sidecar/login", "/unmapped"):
        page.goto(console.url + path)
        schemes: Any = ("light", "dark")
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            for width in (360, 1400):
                page.set_viewport_size({"width": width, "height": 800})
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, scheme)
                # WCAG 2.2, 1.4.3: 4.5 to 1 for text
                assert page.evaluate(CONTRAST) >= 4.5, (path, scheme, width)


CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let worst = 21;
  for (const element of document.querySelectorAll("main *")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
    const [one, two] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    worst = Math.min(worst, (one + 0.05) / (two + 0.05));
  }
  return worst;
}"""
