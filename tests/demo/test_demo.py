"""`sidecar demo` as its user sees it: each line that it prints does what it promises, and nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from sidecar.demo import Ports
from sidecar.demo.processes import can_listen

pytestmark = pytest.mark.e2e

# settings of somebody's shell: the first would let everything through, the second would stop any AWS client
FOREIGN = {"SIDECAR_MODE": "shadow", "AWS_PROFILE": "nobody-has-this"}


class Demo(NamedTuple):
    """A running demo, and what it printed until it was ready."""

    process: subprocess.Popen[str]
    text: str

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Exit status after this signal, and what was printed since it was ready."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=30)
        return self.process.returncode, rest


def start(checkout: Path, ports: Ports, folder: Path) -> Demo:
    """Start it with its temporary files under `folder`, and wait for its last line."""
    command = [sys.executable, "-m", "sidecar.cli", "demo", "--port", str(ports.traffic)]
    command += ["--admin-port", str(ports.admin), "--app-port", str(ports.app), "--cognito-port", str(ports.cognito)]
    environ = {**os.environ, **FOREIGN, "TMPDIR": str(folder)}
    process = subprocess.Popen(
        command, cwd=checkout, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # a shell starts what runs in the background with SIGINT ignored (POSIX, "Signals and Error Handling")
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "Press Ctrl-C to stop." in line:
            return Demo(process, "".join(lines))
    process.wait()
    pytest.fail("".join(lines))


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
def test_the_demo_keeps_its_promises_and_leaves_nothing(
    checkout: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """Every printed line gives its status; Ctrl-C leaves no file and no listening port; it runs again at once."""
    ports = Ports(free_port(), free_port(), free_port(), free_port(), free_port())
    demo = start(checkout, ports, tmp_path)
    try:
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
    finally:
        status, rest = demo.end(signal.SIGINT)
    assert status == 0
    assert rest.count('"event": "decision"') >= 6
    # the sidecar's last lines may come after it
    assert "Stopping ...\n" in rest
    assert list(tmp_path.iterdir()) == []
    assert all(can_listen(port) for port in ports)
    again = start(checkout, ports, tmp_path)
    assert again.end(signal.SIGTERM)[0] == 0
    assert list(tmp_path.iterdir()) == []
