"""Entries of a recording; a browser's own recording is read in test_real_logs.py."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.imports.har import read_entry
from sidecar.imports.sighting import Broken
from sidecar.imports.targets import LoggedRequest, Skipped


def entry(method: str = "GET", url: str = "https://h/a", status: Any = 200, **more: Any) -> dict[str, Any]:
    return {"request": {"method": method, "url": url, "headers": []}, "response": {"status": status}, **more}


def test_an_entry_tells_method_url_and_status() -> None:
    assert read_entry(entry()) == LoggedRequest(b"GET", b"https://h/a", 200)


@pytest.mark.parametrize(
    "made", [entry(status=101), entry(url="wss://h/ws", status=101), entry(_resourceType="websocket")]
)
def test_a_handshake_is_one(made: dict[str, Any]) -> None:
    assert read_entry(made).websocket


@pytest.mark.parametrize(
    "made", [entry(url="data:text/plain,x"), entry(status=0), entry(status=True), {**entry(), "response": None}]
)
def test_what_no_server_answered_is_no_evidence(made: dict[str, Any]) -> None:
    with pytest.raises(Skipped):
        read_entry(made)


@pytest.mark.parametrize(
    "made", [None, [], {}, {"request": []}, {"request": {"method": "GET"}}, {"request": {"url": 1, "method": "GET"}}]
)
def test_a_broken_entry_says_what_it_should_be(made: Any) -> None:
    with pytest.raises(Broken, match="found no `request`"):
        read_entry(made)
