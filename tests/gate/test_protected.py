"""A protected resource: for whom a token is made, what it must have, and what a client without one is told."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.gate.ask import asks
from sidecar.gate.codes import Code
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.mode import Mode
from sidecar.gate.protected import Protected
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.routing import Access, Cors, Route, RouteTable, parse_path
from sidecar.gate.to_app import AuthorizationRule, ToApp
from sidecar.gate.verdict import Forward, Refuse, Refused, Verdict
from tests.gate.test_gate import NOW, World
from tests.tokens import CLIENT, ISSUER, claims, mint

CRM, WIKI = "https://a.example/mcp", "https://a.example/wiki"
PROTECTED = Protected(CRM, ("crm/use", "crm/more"))
OTHER_AUDIENCE = "https://listed.example"


def test_what_a_client_is_told_has_the_resources_own_places() -> None:
    assert (PROTECTED.origin, PROTECTED.path, PROTECTED.issuer) == ("https://a.example", "/mcp", "https://a.example")
    assert PROTECTED.metadata_path == "/.well-known/oauth-protected-resource/mcp"
    metadata = b'resource_metadata="https://a.example/.well-known/oauth-protected-resource/mcp"'
    assert PROTECTED.challenge == b', scope="crm/use crm/more", ' + metadata
    assert Protected(CRM).challenge == b", " + metadata
    assert Protected(CRM, metadata=False).challenge == b""
    root = Protected("http://127.0.0.1:8080", server="https://idp.example/tenant")
    assert (root.path, root.issuer) == ("", "https://idp.example/tenant")
    assert root.challenge == b', resource_metadata="http://127.0.0.1:8080/.well-known/oauth-protected-resource"'


@pytest.mark.parametrize(
    ("scope", "missing"),
    [
        ("crm/use crm/more", ""), ("a crm/more crm/use b", ""), ("crm/use", "crm/more"), ("crm/user crm/more", "crm/use"),
        ("", "crm/use crm/more"), (None, "crm/use crm/more"), (["crm/use", "crm/more"], "crm/use crm/more"),
        ("crm/use\tcrm/more", "crm/use crm/more"), ("CRM/use crm/more", "crm/use"),
    ],
)  # fmt: skip
def test_a_token_must_have_each_scope_by_its_whole_name(scope: Any, missing: str) -> None:
    if not missing:
        PROTECTED.require_scopes({"scope": scope})
        return
    with pytest.raises(Refused) as refused:
        PROTECTED.require_scopes({"scope": scope})
    assert (refused.value.code, missing in refused.value.detail) == (Code.SCOPE_MISSING, True)


def route(path: str, protected: Protected | None, **more: Any) -> Route:
    return Route(
        path, parse_path(path), Access.AUTHENTICATED, asks({"GET": "", "POST": ""}), protected=protected, **more
    )


TABLE = RouteTable(
    [
        route("/mcp", Protected(CRM), to_app=ToApp((), AuthorizationRule.DROP)),
        route("/wiki", Protected(WIKI, unbound=True), to_app=ToApp((), AuthorizationRule.FORWARD)),
        route("/scoped", PROTECTED._replace(resource="https://a.example")),
        route("/page", Protected(CRM), cors=Cors(frozenset(["https://p"]), ("GET",))),
        route("/plain", None),
    ]
)


def gate(mode: Mode | None = None) -> Gate:
    world = World()
    resources = frozenset(one.resource for one in TABLE.protected)
    issuer = Issuer(
        ISSUER, frozenset([CLIENT]), frozenset(["access", "id"]), frozenset([OTHER_AUDIENCE]), resources
    )  # fmt: skip
    tokens = Tokens({ISSUER: issuer}, PrincipalRules(), world.find)
    return Gate(
        Rules(TABLE, {}, tokens, Reading()), world, world, now=lambda: NOW, timer=world.timer, mode=mode
    )  # fmt: skip


async def verdict(path: str, *headers: tuple[bytes, bytes], mode: Mode | None = None, **said: Any) -> Verdict:
    token = mint(claims(NOW, **said))
    sent = [(b"host", b"a.example"), (b"authorization", b"Bearer " + token), *headers]
    return await gate(mode).decide(Raw("GET", path.encode(), sent, "10.0.0.1", "http", "r1"), None)


@pytest.mark.parametrize(
    ("path", "said", "passes"),
    [
        ("/mcp", {"aud": CRM}, True),
        ("/mcp", {}, False),
        ("/mcp", {"aud": WIKI}, False),
        ("/mcp", {"aud": OTHER_AUDIENCE}, False),
        ("/mcp", {"aud": f"{CRM}/"}, False),
        ("/mcp", {"aud": [CRM]}, False),
        ("/mcp", {"aud": "https://A.example/mcp"}, False),
        ("/mcp", {"token_use": "id", "aud": CLIENT}, False),
        ("/wiki", {"aud": WIKI}, True),
        ("/wiki", {}, True),
        ("/wiki", {"aud": CRM}, False),
        ("/wiki", {"token_use": "id", "aud": CLIENT}, False),
        ("/plain", {}, True),
        ("/plain", {"aud": OTHER_AUDIENCE}, True),
        ("/plain", {"token_use": "id", "aud": CLIENT}, True),
        # a token for an agent's one server opens nothing else
        ("/plain", {"aud": CRM}, False),
        ("/plain", {"aud": "https://nobody.example"}, False),
    ],
)
async def test_a_token_passes_at_the_resource_that_it_is_made_for_alone(
    path: str, said: dict[str, Any], passes: bool
) -> None:
    got = await verdict(path, **said)
    assert isinstance(got, Forward) is passes
    assert passes or (isinstance(got, Refuse) and (got.code, got.facts.principal) == (Code.TOKEN_INVALID, ""))


async def test_a_page_of_ours_takes_no_token_of_a_resource() -> None:
    made = gate()

    async def identify(aud: str | None) -> str:
        token = mint(claims(NOW, aud=aud))
        raw = Raw(
            "GET", b"/_sidecar/whoami", [(b"host", b"a"), (b"authorization", b"Bearer " + token)], "", "http", "r"
        )
        return (await made.identify(read(raw, Reading()), made.rules)).principal.id

    assert await identify(None)
    with pytest.raises(Refused) as refused:
        await identify(CRM)
    assert refused.value.code == Code.TOKEN_INVALID


async def test_the_app_gets_a_token_only_where_the_route_says_so() -> None:
    for path, aud, sent in (("/mcp", CRM, False), ("/wiki", WIKI, True), ("/plain", None, True)):
        got = await verdict(path, aud=aud)
        assert isinstance(got, Forward)
        assert (b"authorization" in dict(got.headers)) is sent


async def test_a_refusal_says_where_a_token_is_to_be_had() -> None:
    got = await verdict("/mcp")
    assert isinstance(got, Refuse)
    assert got.challenge == Protected(CRM).challenge
    got = await verdict("/scoped", aud="https://a.example", scope="crm/use")
    assert isinstance(got, Refuse)
    # who lacks a scope is known all the same
    assert (got.code, got.facts.principal != "") == (Code.SCOPE_MISSING, True)
    assert b'scope="crm/use crm/more"' in (got.challenge or b"")
    got = await verdict("/plain", aud=CRM)
    assert isinstance(got, Refuse)
    assert got.challenge is None


async def test_a_page_of_another_origin_may_read_it() -> None:
    got = await verdict("/page", (b"origin", b"https://p"))
    assert isinstance(got, Refuse)
    assert (b"access-control-expose-headers", b"WWW-Authenticate") in got.reply_headers


@pytest.mark.parametrize(("mode", "forwards"), [("enforce", False), ("shadow-policy", True), ("shadow", True)])
async def test_a_missing_scope_is_a_refusal_of_rules(mode: Mode, forwards: bool) -> None:
    got = await verdict("/scoped", aud="https://a.example", mode=mode)
    assert isinstance(got, Forward) is forwards
    # a token for somebody else is none in shadow-policy
    got = await verdict("/scoped", aud=CRM, mode=mode)
    assert isinstance(got, Forward) is (mode == "shadow")
