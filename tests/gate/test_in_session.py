"""A request names the app's own session, and nobody else's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidecar.gate.ask import asks
from sidecar.gate.codes import Code
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.mcp_session import SESSION, McpSessions
from sidecar.gate.mode import Mode
from sidecar.gate.obligation import BindSession
from sidecar.gate.request import Raw
from sidecar.gate.routing import Access, Route, RouteTable, parse_path
from sidecar.gate.verdict import Forward, Refuse
from tests.gate.test_gate import NOW, World
from tests.tokens import CLIENT, ISSUER, claims, mint

SESSIONS = McpSessions(["a secret of the sidecar"])
OWN = b"1868a90c-0d5e-4f3e-8c0e-2b7b1c6c8f11"


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
