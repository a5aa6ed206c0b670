"""What the app is told of who asks: values that are safe in a header, and a client's Authorization."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.gate import Gate
from sidecar.gate.identity import Principal, Tokens
from sidecar.gate.mode import Mode
from sidecar.gate.obligation import KeepPrivate
from sidecar.gate.references import parse_template
from sidecar.gate.request import Raw, Reading, Request
from sidecar.gate.routing import Access, Route, RouteTable, parse_path
from sidecar.gate.session import Presented
from sidecar.gate.to_app import (
    MAX_IDENTITY,
    AuthorizationRule,
    ToApp,
    identity_headers,
    is_of_app,
    require_size,
    short_headers,
)
from sidecar.gate.verdict import Forward, Refuse, Refused, Verdict
from sidecar.wire.grammar import Header
from tests.gate.test_gate import NOW, TABLE, TOKEN, World
from tests.tokens import claims, mint

DROP, KEEP = AuthorizationRule.DROP, AuthorizationRule.KEEP
BEARER, BASIC = (b"authorization", b"Bearer " + TOKEN), (b"authorization", b"Basic YTpi")
FORGED = (b"remote-user", b"root")


def told(template: str, attributes: dict[str, Any] | None = None, claims: dict[str, Any] | None = None) -> bytes | None:
    to_app = ToApp(((b"x-told", parse_template(template)),))
    alice = Principal("a-1", ("user", "writer"), attributes or {}, "", 0.0, claims or {})
    return dict(to_app.values(alice)).get(b"x-told")


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{principal.id}", b"a-1"), ("{principal.roles:list}", b"user,writer"), ("{claims.name}", b"Ana Smith"),
        ("user {principal.id}/{principal.attributes.team}", b"user a-1/blue"), ("{principal.attributes.level:int}", b"3"),
        ("{principal.attributes.on:bool}", b"true"), ("{principal.attributes.share:number}", b"0.25"),
        ("{principal.attributes.tags:list}", b"a%2Cb,5,true"), ("{principal.attributes.none:list}", None),
        ("{principal.attributes.nothing?}", None), ("{claims.city}", b"Z%C3%BCrich"), ("{claims.quoted}", b"%22a%2C b%22 50%25"),
        ("{claims.edges}", b"%20a%20%20"), ("{claims.spaces}", b"%20%20"),
    ],
)  # fmt: skip
def test_a_value_is_what_the_principal_says_in_ascii_that_no_server_reads_as_two(
    template: str, value: bytes | None
) -> None:
    attributes = {"team": "blue", "level": 3, "on": True, "share": 0.25, "tags": ["a,b", 5, True], "none": []}
    said = {"name": "Ana Smith", "city": "Zürich", "quoted": '"a, b" 50%', "edges": " a  ", "spaces": "  "}
    assert told(template, attributes, said) == value


@pytest.mark.parametrize("text", ["a\r\nX-Auth-Roles: admin", "a\x00", "a\x7f", "a\x85b", "a" * 1025])
def test_a_control_or_an_endless_text_is_refused_and_never_cut(text: str) -> None:
    with pytest.raises(Refused) as caught:
        told("{claims.name}", {}, {"name": text})
    assert caught.value.code is Code.CLAIM_INVALID
    assert text[:3] not in caught.value.detail.replace("claims", "")


@pytest.mark.parametrize("item", ["a\r\nb", "a\x00b"])
def test_a_control_in_a_list_is_encoded(item: str) -> None:
    value = told("{claims.tags:list}", {}, {"tags": ["x", item]})
    assert value is not None
    assert value.isascii()
    assert value.decode().isprintable()


@pytest.mark.parametrize(
    ("template", "code"),
    [("{principal.attributes.email}", Code.CLAIM_MISSING), ("{claims.email}", Code.CLAIM_MISSING), ("{claims.level}", Code.CLAIM_INVALID),
     ("x {claims.email}", Code.CLAIM_MISSING), ("{claims.level:list?}", Code.CLAIM_INVALID)],
)  # fmt: skip
def test_a_claim_that_is_missing_or_of_another_type_is_told_with_its_header(template: str, code: Code) -> None:
    with pytest.raises(Refused, match=r"to_app\.headers\.x-told: (principal|claims)\.") as caught:
        told(template, {}, {"level": 3})
    assert caught.value.code is code


def test_the_bound_is_that_of_one_header() -> None:
    require_size([(b"x-auth-roles", b"r" * MAX_IDENTITY)])
    with pytest.raises(Refused, match=r"x-auth-roles: 8001 bytes, at most 8000") as caught:
        require_size([(b"a", b"1"), (b"x-auth-roles", b"r" * (MAX_IDENTITY + 1))])
    assert caught.value.code is Code.IDENTITY_HEADER_TOO_LARGE


@pytest.mark.parametrize(
    ("value", "is_one"),
    [(b"Basic YTpi", True), (b"Digest a=1, b=2", True), (b"Token x", True), (b"Negotiate", True), (b"Bearer x", False), (b"bEaReR x", False),
     (b"Bearer", False), (b"Bearer\tx", False), (b"", False), (b" Basic x", False), (b"Basic\tYTpi", False), (b"Bearer,Basic x", False), (b'"Basic" x', False)],
)  # fmt: skip
def test_another_scheme_than_bearer_is_the_apps_business(value: bytes, is_one: bool) -> None:
    """What is not clearly one is judged as a token, and refused."""
    assert is_of_app(value) is is_one
    assert ToApp((), KEEP).takes(value) is is_one
    assert not ToApp((), DROP).takes(value)
    assert not ToApp().takes(value)


def test_the_headers_of_a_principal_are_found_once_and_are_those_of_nobody_else() -> None:
    who = ("a-1", ("user", "writer"))
    first = identity_headers(who)
    assert first == ((b"x-auth-subject", b"a-1"), (b"x-auth-roles", b"user,writer"))
    assert identity_headers(("a-1", ("user", "writer"))) is first
    assert identity_headers(("a-1", ("user",))) != first
    assert identity_headers(("a-2", ("user", "writer"))) != first


def test_headers_that_are_too_large_are_refused_each_time_and_left_out_of_the_short_ones() -> None:
    roles = tuple(f"{number:0200}" for number in range(41))
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            identity_headers(("a-1", roles))
        assert caught.value.code is Code.IDENTITY_HEADER_TOO_LARGE
    assert short_headers(Principal("a-1", roles, {}, "", 0.0, {})) == [(b"x-auth-subject", b"a-1")]


# --- at the gate ---


class Sessions:
    """A source that always has alice's token, as a browser's session."""

    vary = b"Cookie"

    def holds(self, request: Request) -> bool:
        return b"cookie" in request.seen

    async def present(self, request: Request, now: float, tokens: Tokens) -> Presented:
        return Presented(TOKEN)


def gate_of(to_app: ToApp | None, *, mode: Mode = "enforce", access: Access = Access.POLICY) -> Gate:
    """The gate of tests, whose every route tells the app this."""
    table = RouteTable(
        [route._replace(to_app=to_app) for route in TABLE.routes[:1] + TABLE.routes[3:4]], access, to_app
    )
    gate = World().gate(sources=(Sessions(),), mode=mode)
    gate.rules = replace(gate.rules, table=table, reading=Reading(reserved=table.reserved))
    return gate


USER = ToApp(((b"remote-user", parse_template("{principal.id}")),))


async def decide(gate: Gate, target: bytes, *headers: Header, method: str = "GET") -> Verdict:
    return await gate.decide(Raw(method, target, [(b"host", b"app.test"), *headers], "", "http", "r1"), None)


async def sent(gate: Gate, target: bytes, *headers: Header, method: str = "GET") -> dict[bytes, list[bytes]]:
    verdict = await decide(gate, target, *headers, method=method)
    assert isinstance(verdict, Forward), verdict
    found: dict[bytes, list[bytes]] = {}
    for name, value in verdict.headers:
        found.setdefault(name, []).append(value)
    return found


async def test_the_app_gets_the_header_in_place_of_every_one_of_the_client() -> None:
    got = await sent(gate_of(USER), b"/docs", BEARER, FORGED, FORGED)
    assert got[b"remote-user"] == [b"a-1"]
    assert got[b"authorization"] == [BEARER[1]]


async def test_a_public_route_takes_it_away() -> None:
    assert b"remote-user" not in await sent(gate_of(USER), b"/public", FORGED)


async def test_a_header_of_one_route_is_no_clients_on_any_other() -> None:
    public = Route("/other", parse_path("/other"), Access.PUBLIC, TABLE.routes[0].asks)
    table = RouteTable([public, TABLE.routes[3]._replace(to_app=USER)])
    gate = World().gate()
    gate.rules = replace(gate.rules, table=table, reading=Reading(reserved=table.reserved))
    assert b"remote-user" not in await sent(gate, b"/other", FORGED)


async def test_a_path_that_no_route_names_is_told_what_the_file_says() -> None:
    gate = gate_of(USER, access=Access.AUTHENTICATED)
    assert (await sent(gate, b"/elsewhere", BEARER, FORGED))[b"remote-user"] == [b"a-1"]


@pytest.mark.parametrize("name", [b"remote_user", b"Remote-User".lower().replace(b"-", b"."), b"REMOTE_USER"])
async def test_a_spelling_that_servers_fold_is_refused_and_in_shadow_removed(name: bytes) -> None:
    verdict = await decide(gate_of(USER), b"/docs", BEARER, (name, b"root"))
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.HEADER_AMBIGUOUS
    assert name not in await sent(gate_of(USER, mode="shadow"), b"/docs", BEARER, (name, b"root"))


@pytest.mark.parametrize("name", [b"Remote-User", b"remote_user", b"close, remote-user"])
async def test_connection_cannot_name_it(name: bytes) -> None:
    verdict = await decide(gate_of(USER), b"/docs", BEARER, (b"connection", name))
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.HEADER_AMBIGUOUS


async def test_in_shadow_what_cannot_be_told_is_left_out_and_nothing_is_refused() -> None:
    email = ToApp((*USER.headers, (b"x-email", parse_template("{claims.email}"))))
    assert isinstance(await decide(gate_of(email), b"/docs", BEARER), Refuse)
    got = await sent(gate_of(email, mode="shadow"), b"/docs", BEARER, FORGED, (b"x-email", b"root@example.com"))
    assert (got.get(b"remote-user"), got.get(b"x-email")) == (None, None)
    assert got[b"x-auth-subject"] == [b"a-1"]
    # nobody is known on a path that no route names
    assert b"remote-user" not in await sent(gate_of(USER, mode="shadow"), b"/nowhere", BEARER, FORGED)


async def test_roles_beyond_the_bound_have_a_code_of_their_own() -> None:
    many = (b"authorization", b"Bearer " + mint(claims(NOW, **{"cognito:groups": [f"{n:0200}" for n in range(41)]})))
    verdict = await decide(gate_of(None), b"/docs", many)
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.IDENTITY_HEADER_TOO_LARGE
    got = await sent(gate_of(None, mode="shadow"), b"/docs", many)
    assert (got[b"x-auth-subject"], b"x-auth-roles" in got) == ([b"a-1"], False)


async def test_drop_takes_the_token_from_the_app_alone() -> None:
    got = await sent(gate_of(ToApp((), DROP)), b"/docs", BEARER)
    assert (b"authorization" in got, got[b"x-auth-subject"]) == (False, [b"a-1"])
    assert b"authorization" not in await sent(gate_of(ToApp((), DROP)), b"/public", BASIC)
    assert b"authorization" not in await sent(gate_of(ToApp((), DROP), mode="shadow"), b"/nowhere", BASIC)


COOKIE = (b"cookie", b"__Host-session=1.x")


async def test_keep_lets_another_scheme_through_beside_a_session_alone() -> None:
    gate = gate_of(ToApp((), KEEP))
    verdict = await decide(gate, b"/docs", BASIC, COOKIE)
    assert isinstance(verdict, Forward)
    assert [value for name, value in verdict.headers if name == b"authorization"] == [BASIC[1]]
    assert (verdict.facts.principal, verdict.obligations) == ("a-1", (KeepPrivate(b"Cookie, Authorization"),))
    without = await decide(gate, b"/docs", BASIC)
    assert isinstance(without, Refuse)
    assert without.code is Code.TOKEN_MISSING
    assert (await sent(gate, b"/docs", BEARER, COOKIE))[b"authorization"] == [BEARER[1]]


@pytest.mark.parametrize("to_app", [None, ToApp(), ToApp((), DROP)])
async def test_without_keep_another_scheme_is_refused_as_ever(to_app: ToApp | None) -> None:
    verdict = await decide(gate_of(to_app), b"/docs", BASIC, COOKIE)
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.TOKEN_INVALID


async def test_a_broken_token_never_counts_as_the_apps() -> None:
    verdict = await decide(gate_of(ToApp((), KEEP)), b"/docs", (b"authorization", b"bearer x"), COOKIE)
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.TOKEN_INVALID


async def test_with_keep_a_page_of_another_site_cannot_use_the_session() -> None:
    headers = (BASIC, COOKIE, (b"origin", b"https://evil.test"))
    verdict = await decide(gate_of(ToApp((), KEEP)), b"/docs", *headers, method="POST")
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.ORIGIN_REFUSED
