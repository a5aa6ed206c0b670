"""Our browser does not hear of containers that come and go on the machine."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.conftest import Site


def sockets_of(pid: int) -> set[str]:
    """The inodes of the sockets that a process holds."""
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue
    return held


def browsers() -> list[int]:
    """The processes of every Chromium that this process started, by way of Playwright's driver."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    below = list(parents.get(os.getpid(), ()))
    for pid in below:
        below += parents.get(pid, ())
    return [pid for pid in below if b"chromium" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]]


def test_no_process_of_the_browser_has_a_netlink_socket(chromium: Browser, password_site: Site) -> None:
    page = chromium.new_page()
    page.goto(password_site.url)  # its network service runs by now
    listening = {line.split()[-1] for line in Path("/proc/net/netlink").read_text().splitlines()[1:]}
    pids = browsers()
    assert len(pids) > 1
    assert not [pid for pid in pids if sockets_of(pid) & listening]
    page.close()
