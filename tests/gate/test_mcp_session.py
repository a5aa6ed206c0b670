"""Sessions at MCP servers are for whom they were given, in every worker that has the key, and for nobody else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.mcp_session import MAX_ID, McpSessions

SESSIONS = McpSessions(["a secret of the sidecar"])
ALICE = SESSIONS.of("/mcp", "http://crm", "https://issuer", "alice", "agent")
OWN = b"1868a90c-0d5e-4f3e-8c0e-2b7b1c6c8f11"
BOUND = ALICE.bind(OWN)


def test_a_session_is_named_by_a_tag_and_the_servers_id() -> None:
    assert re.fullmatch(rb"[A-Za-z0-9_-]{22}\." + OWN, BOUND)
    assert ALICE.own(BOUND) == OWN
    assert ALICE.bind(OWN) == BOUND


@pytest.mark.parametrize(
    "parts",
    [
        ("/mcp", "http://crm", "https://issuer", "bob", "agent"),
        ("/mcp", "http://crm", "https://issuer", "alice", "another"),
        ("/mcp", "http://crm", "https://issuer", "alice", ""),
        ("/mcp", "http://crm", "https://another", "alice", "agent"),
        ("/mcp", "http://other", "https://issuer", "alice", "agent"),
        ("/other", "http://crm", "https://issuer", "alice", "agent"),
        ("/mcp", "http://crm", "https://issueralice", "", "agent"),
        ("/mcp", "http://crm", "https://issuer", "alic", "eagent"),
        ("/mcp", "http://crm", "https://issuer5:alice", "agent"),
    ],
)
def test_nobody_elses_session_is_ones_own(parts: tuple[str, ...]) -> None:
    assert SESSIONS.of(*parts).own(BOUND) is None


@pytest.mark.parametrize(
    "named",
    [
        OWN, b"", b".", BOUND[:-1], BOUND + b"x", BOUND[1:], BOUND.replace(b".", b"", 1), b"A" * 22 + b"." + OWN,
        BOUND.swapcase(), BOUND + b"\n", b" " + BOUND, BOUND + b" ", BOUND + b", " + BOUND, b"\xef\xbb\xbf" + BOUND,
        BOUND[:22] + b".", BOUND[:22] + b".." + OWN, BOUND[:21] + b"=." + OWN, BOUND[:22] + b"=." + OWN,
        BOUND[:22] + b"." + BOUND, BOUND[:22] + b"." + b"a" * (MAX_ID + 1), BOUND[:22] + b".\xe9",
    ],
)  # fmt: skip
def test_what_was_not_given_out_is_nobodys(named: bytes) -> None:
    assert ALICE.own(named) is None


def test_a_tag_has_one_spelling() -> None:
    """Its last character has bits to spare, which no other text may use."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spelled = [BOUND[:21] + bytes([last]) + BOUND[22:] for last in alphabet]
    assert [text for text in spelled if ALICE.own(text) is not None] == [BOUND]


@pytest.mark.parametrize("own", [b"", b"a b", b"a\n", b"\xe9", b"a" * (MAX_ID + 1), b"\x7f"])
def test_what_is_no_id_is_not_bound(own: bytes) -> None:
    with pytest.raises(ValueError, match="expected 1 to 1024 visible characters"):
        ALICE.bind(own)


@given(st.binary(max_size=80))
def test_whatever_a_client_names_is_bound_by_us_or_nobodys(named: bytes) -> None:
    own = ALICE.own(named)
    assert own is None or ALICE.bind(own) == named


def test_a_secret_is_replaced_by_a_first_one() -> None:
    parts = ("/mcp", "http://crm", "https://issuer", "alice", "agent")
    both = McpSessions(["the next secret", "a secret of the sidecar"]).of(*parts)
    assert both.own(BOUND) == OWN
    assert both.bind(OWN) != BOUND
    assert ALICE.own(both.bind(OWN)) is None
    assert McpSessions(["a secret of the sidecar"]).of(*parts).own(BOUND) == OWN
    with pytest.raises(ValueError, match="expected a secret"):
        McpSessions([])
