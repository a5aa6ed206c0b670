"""Sessions at MCP servers are for whom they were given, in every worker that has the key, and for nobody else."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.ask import asks
from sidecar.gate.codes import Code
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.mcp_session import MAX_ID, SESSION, McpSessions
from sidecar.gate.mode import Mode
from sidecar.gate.obligation import BindSession
from sidecar.gate.request import Raw
from sidecar.gate.routing import Access, Route, RouteTable, parse_path
from sidecar.gate.verdict import Forward, Refuse
from tests.gate.test_gate import NOW, World
from tests.tokens import CLIENT, ISSUER, claims, mint

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


# --- in the gate ---


def at_server(access: Access = Access.AUTHENTICATED) -> RouteTable:
    route = Route("/mcp", parse_path("/mcp"), access, asks({"GET": "", "DELETE": ""}))
    return RouteTable([route._replace(binds_sessions=True)])


async def decide(
    *named: bytes, mode: Mode = "enforce", holds_answer: bool = True, method: str = "GET", **said: Any
) -> Forward | Refuse:  # fmt: skip
    world = World()
    gate = world.gate(mode=mode, sessions=SESSIONS)
    tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT, "other"]))}, PrincipalRules(), world.find)
    gate.rules = replace(gate.rules, table=at_server(), tokens=tokens)
    token = mint(claims(NOW, **said))
    headers = [(b"host", b"app.test"), (b"authorization", b"Bearer " + token), *((SESSION, one) for one in named)]
    raw = Raw(method, b"/mcp", headers, "10.0.0.9", "http", "r1", False, None, holds_answer)
    verdict = await gate.decide(raw, None)
    assert isinstance(verdict, Forward | Refuse)
    return verdict


async def bound(**said: Any) -> bytes:
    """An id that the principal of a token got."""
    permit = await decide(**said)
    (obligation,) = [one for one in permit.obligations if isinstance(one, BindSession)]  # type: ignore[union-attr]
    return obligation.bind(OWN)


def sessions_of(verdict: Forward | Refuse) -> list[bytes]:
    """The ids that the app gets."""
    assert isinstance(verdict, Forward)
    return [value for name, value in verdict.headers if name == SESSION]


async def test_the_app_gets_its_own_id_from_whom_the_session_is_for() -> None:
    permit = await decide(await bound())
    assert sessions_of(permit) == [OWN]
    assert any(isinstance(one, BindSession) for one in permit.obligations)  # type: ignore[union-attr]


@pytest.mark.parametrize("said", [{"sub": "b-2"}, {"client_id": "other"}])
async def test_another_ones_session_is_not_found(said: dict[str, Any]) -> None:
    assert sessions_of(await decide(await bound(**said), **said)) == [OWN]
    refused = await decide(await bound(), **said)
    assert isinstance(refused, Refuse)
    assert refused.code is Code.MCP_SESSION_FOREIGN


async def test_an_id_that_was_not_bound_is_not_found_and_two_are_refused() -> None:
    own = await bound()
    for named, code in (((OWN,), Code.MCP_SESSION_FOREIGN), ((own, own), Code.HEADER_AMBIGUOUS)):
        refused = await decide(*named)
        assert isinstance(refused, Refuse)
        assert refused.code is code


async def test_a_door_that_does_not_see_the_answers_head_serves_no_such_route() -> None:
    refused = await decide(holds_answer=False)
    assert isinstance(refused, Refuse)
    assert refused.code is Code.PROXY_UNABLE


async def test_shadow_changes_nothing_but_ends_no_session_that_was_bound_before() -> None:
    plain = await decide(OWN, mode="shadow")
    assert (sessions_of(plain), plain.would_refuse) == ([OWN], None)  # type: ignore[union-attr]
    assert not any(isinstance(one, BindSession) for one in plain.obligations)  # type: ignore[union-attr]
    assert sessions_of(await decide(await bound(), mode="shadow")) == [OWN]
    # it is about who has come, and not about rules and policies
    refused = await decide(OWN, mode="shadow-policy")
    assert isinstance(refused, Refuse)


async def test_a_request_that_is_refused_and_goes_on_in_shadow_names_no_session_of_somebody_else() -> None:
    own = await bound()
    unmapped = await decide(own, mode="shadow-policy", method="PUT")
    assert (sessions_of(unmapped), unmapped.would_refuse) == ([OWN], Code.METHOD_UNMAPPED)  # type: ignore[union-attr]
    assert [one.bind(OWN) for one in unmapped.obligations if isinstance(one, BindSession)] == [own]  # type: ignore[union-attr]
    foreign: list[tuple[bytes, dict[str, Any]]] = [(OWN, {}), (own, {"sub": "b-2"}), (own, {"client_id": "other"})]
    for named, said in foreign:
        refused = await decide(named, mode="shadow-policy", method="PUT", **said)
        assert isinstance(refused, Refuse)
        assert refused.code is Code.MCP_SESSION_FOREIGN
    assert sessions_of(await decide(OWN, mode="shadow", method="PUT")) == [OWN]
    # by a door that has bound none
    assert sessions_of(await decide(OWN, mode="shadow-policy", method="PUT", holds_answer=False)) == [OWN]
