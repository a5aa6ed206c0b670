"""`make demo` as its user sees it, in a shell and in a browser: each line that it prints does what it promises, a user and an
admin see what each may do, and nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Page

from sidecar.demo import Ports
from sidecar.demo.processes import can_listen
from sidecar.tether import tethered
from tests.browser.test_console import chips
from tests.stack import ROOT, free_port, wait_for

CONTACTS = ROOT / "sidecar/demo/contacts.json"
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")]

# settings of somebody's shell: the first would let everything through, the second would stop any AWS client
FOREIGN = {"SIDECAR_MODE": "shadow", "AWS_PROFILE": "nobody-has-this"}


class Demo:
    """A demo with its temporary files under `folder`, which has printed its last line; `text` is what it printed so far."""

    def __init__(self, ports: Ports, folder: Path, log: Path) -> None:
        self.ports = ports
        self.folder = folder
        self.log = log
        options = [f"{option}={port}" for option, port in zip(OPTIONS, ports, strict=True)]
        with log.open("wb") as words:
            self.process = subprocess.Popen(
                tethered([sys.executable, "-m", "sidecar.cli", "demo", *options]), cwd=ROOT,
                env={**os.environ, **FOREIGN, "TMPDIR": str(folder)}, stdout=words, stderr=subprocess.STDOUT,
                # a shell starts what runs in the background with SIGINT ignored (POSIX, "Signals and Error Handling")
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )  # fmt: skip
        while "Press Ctrl-C to stop." not in self.said():
            if self.process.poll() is not None:
                pytest.fail(self.said())
            time.sleep(0.05)
        self.text = self.said()

    def said(self) -> str:
        """All that it has printed by now."""
        return self.log.read_text()

    def end(self, number: signal.Signals) -> int:
        """Exit status after this signal."""
        self.process.send_signal(number)
        return self.process.wait(30)


OPTIONS = ("--port", "--admin-port", "--app-port", "--cognito-port", "--login-port")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Demo]]:
    """Gives the demo that runs, or starts it where none does."""
    started: list[Demo] = []

    def one() -> Demo:
        if not started or started[-1].process.poll() is not None:
            folder = tmp_path_factory.mktemp("demo")
            ports = Ports(*[free_port() for _ in OPTIONS])
            started.append(Demo(ports, folder, tmp_path_factory.mktemp("log") / "demo.log"))
        return started[-1]

    yield one
    for each in started:
        if each.process.poll() is None:
            each.end(signal.SIGTERM)


@pytest.fixture
def demo(running: Callable[[], Demo]) -> Demo:
    return running()


# --- in a shell ---


class Pasted(NamedTuple):
    """What came of one command: its title, the status that it promises, the one that curl showed, and what else."""

    title: str
    promised: str
    status: str
    shown: str


def pasted(text: str, shell: str) -> list[Pasted]:
    """Paste the commands of the text into one shell."""
    blocks = re.findall(r"^# ([^:\n]+)(?:: (\d+))?\n(.+)$", text, re.MULTILINE)
    script = "".join(f"echo '== {number}'\n{command}\necho\n" for number, (_, _, command) in enumerate(blocks))
    output = subprocess.run([shell], input=script, capture_output=True, text=True, check=False, timeout=60).stdout
    answers = re.split(r"^== \d+$", output, flags=re.MULTILINE)[1:]
    shown = [re.search(r"^HTTP/1\.1 (\d+)", answer, re.MULTILINE) for answer in answers]
    return [
        Pasted(title, promised, found[1] if found else "", answer)
        for (title, promised, _), found, answer in zip(blocks, shown, answers, strict=True)
    ]  # fmt: skip


def listed(answers: list[Pasted], title: str) -> dict[int, bool]:
    """The ids of the contacts that curl showed, and whether each has its phone number."""
    (shown,) = [answer.shown for answer in answers if answer.title.startswith(title)]
    return {contact["id"]: "phone" in contact for contact in json.loads(shown[shown.index("[\n") :])}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_printed_line_gives_its_status(demo: Demo) -> None:
    for shell in filter(shutil.which, ("bash", "zsh")):
        answers = pasted(demo.text, shell)
        promised = ["", "200", "200", "403", "200", "403", "200", "", "200", "200", "401", "302", "401", "403"]
        assert [answer.promised for answer in answers] == promised
        assert [answer for answer in answers if answer.promised != answer.status] == []
        # bob's private contact is in no list but the admin's, and phone numbers are hers alone
        assert listed(answers, "the list has her own") == {1: True, 2: False, 3: True}
        assert listed(answers, "the list of an admin") == {1: True, 2: True, 3: True, 4: True}
        (hello,) = [answer.shown for answer in answers if answer.title.startswith("the app hears")]
        assert json.loads(hello[hello.index("{") :]) == {"user": "alice", "groups": "user", "token": "none"}
    wait_for(lambda: demo.said().count('"event": "decision"') >= 6, what="the lines of the decision log")


# --- in a browser ---


def url_of(text: str) -> str:
    found = re.search(r"^    (http://\S+/_sidecar/console\S*)$", text, re.MULTILINE)
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


def test_a_user_and_an_admin_see_what_each_may_do(page: Page, demo: Demo) -> None:
    url = url_of(demo.text)
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


# --- and when it ends ---


def test_it_leaves_nothing_behind_and_runs_again_at_once(demo: Demo, tmp_path: Path) -> None:
    """Neither a file nor a port on which anybody listens, by Ctrl-C and by SIGTERM."""
    assert list(demo.folder.iterdir()) != []
    assert not any(can_listen(port) for port in demo.ports)
    assert demo.end(signal.SIGINT) == 0
    # the sidecar's last lines may come after it
    assert "Stopping ...\n" in demo.said().removeprefix(demo.text)
    assert list(demo.folder.iterdir()) == []
    assert all(can_listen(port) for port in demo.ports)
    again = Demo(demo.ports, demo.folder, tmp_path / "again.log")
    assert again.end(signal.SIGTERM) == 0
    assert list(demo.folder.iterdir()) == []
