"""Which entries of a configuration stand for a host."""

from __future__ import annotations

import pytest

from sidecar.gate.hosts import entries_for, without_port


@pytest.mark.parametrize(
    ("host", "entries"),
    [
        ("crm.example.com", ("crm.example.com", "*.example.com")),
        (
            "crm.example.com:8443",
            ("crm.example.com:8443", "crm.example.com", "*.example.com:8443", "*.example.com"),
        ),
        ("a.b.example.com", ("a.b.example.com", "*.b.example.com")),
        ("localhost", ("localhost",)),
        ("[::1]:8443", ("[::1]:8443", "[::1]")),
        (".example.com", (".example.com",)),
        ("crm.example.com.", ("crm.example.com.", "*.example.com.")),
        ("*.example.com", ("*.example.com",)),
        ("*.example.com:8443", ("*.example.com:8443", "*.example.com")),
    ],
)
def test_a_host_is_named_by_itself_without_its_port_and_with_any_first_label(
    host: str, entries: tuple[str, ...]
) -> None:
    assert entries_for(host) == entries


def test_the_port_is_what_digits_after_the_last_colon_are() -> None:
    assert [without_port(host) for host in ("a:1", "[::1]", "[::1]:1", "a")] == ["a", "[::1]", "[::1]", "a"]
