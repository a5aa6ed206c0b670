"""The protected app of the demo: json-server, which lets anybody do anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sidecar.demo.app import start_app
from sidecar.demo.processes import DemoError, can_listen


@pytest.fixture(scope="module")
def first(free_port: Callable[[], int], checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where an app is that tests share."""
    port = free_port()
    with start_app(port, checkout / "node_modules", tmp_path_factory.mktemp("app"), os.environ):
        yield f"http://127.0.0.1:{port}"


def test_the_app_serves_contacts_with_their_owner_to_anybody(
    first: str, tmp_path: Path, free_port: Callable[[], int], checkout: Path
) -> None:
    """It starts from the same contacts each time: what one run changed, the next does not see."""
    port = free_port()

    def change(url: str) -> None:
        contact = httpx.get(url, trust_env=False).json()
        assert (contact["id"], contact["owner_id"], contact["phone"]) == (1, "alice", "+44 20 7946 0101")
        assert httpx.patch(url, json={"phone": "changed"}, trust_env=False).json()["phone"] == "changed"

    change(f"{first}/contacts/1")
    with start_app(port, checkout / "node_modules", tmp_path, os.environ):
        change(f"http://127.0.0.1:{port}/contacts/1")
    assert can_listen(port)


def test_the_app_says_what_it_hears_of_who_asks(first: str) -> None:
    said = {"Remote-User": "alice", "Remote-Groups": "user", "Authorization": "Bearer x"}
    got = httpx.get(f"{first}/hello", headers=said, trust_env=False)
    assert got.json() == {"user": "alice", "groups": "user", "token": "here"}
    assert httpx.get(f"{first}/hello", trust_env=False).json() == {"token": "none"}


def test_an_app_that_was_not_installed_is_named_with_what_installs_it(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match=r"json-server/lib/cli/bin\.js is not there: run make setup"):
        start_app(1, tmp_path, tmp_path, os.environ)


def test_a_machine_without_node_is_told_so(tmp_path: Path, checkout: Path) -> None:
    with pytest.raises(DemoError, match="node is not on PATH"):
        start_app(1, checkout / "node_modules", tmp_path, {"PATH": str(tmp_path)})
