"""Which refusals count in which mode, of which routes and for whom."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.ask import Ask, asks
from sidecar.gate.codes import Code, Kind
from sidecar.gate.decision import DENY
from sidecar.gate.gate import Gate
from sidecar.gate.mode import AMBIGUOUS, MODES, OF_RULES, Mode, RouteMode, bucket_of, strictest
from sidecar.gate.references import parse_template
from sidecar.gate.request import Raw, Request
from sidecar.gate.routing import Access, Route, RouteTable, parse_path
from sidecar.gate.verdict import Forward, Preflight, Refuse, Refused, Verdict
from tests.gate.test_gate import NOW, TABLE, TOKEN, World, policy
from tests.tokens import claims, mint

ENFORCE, SHADOW, POLICY = RouteMode(100, "enforce"), RouteMode(0, "shadow"), RouteMode(0, "shadow-policy")
HOST, BAD = (b"host", b"app.test"), (b"authorization", b"Bearer bad")


def bearer(token: bytes = TOKEN) -> tuple[bytes, bytes]:
    return (b"authorization", b"Bearer " + token)


def gate_of(world: World, *routes: Route, **more: Any) -> Gate:
    gate = world.gate(**more)
    gate.rules = replace(gate.rules, table=RouteTable(routes)) if routes else gate.rules
    return gate


async def ask(
    gate: Gate,
    world: World,
    target: str,
    *headers: tuple[bytes, bytes],
    method: str = "GET",
    holds_answer: bool = False,
) -> Verdict:
    raw = Raw(method, target.encode(), [HOST, *headers], "10.0.0.9", "http", "r1", holds_answer=holds_answer)
    return await gate.decide(raw, world.read_body)


def told(verdict: Verdict) -> tuple[str, str, Mode | None]:
    """What became of a request, its code, and in which mode."""
    mode = verdict.facts.mode
    match verdict:
        case Refuse(code=code):
            return "refuse", code, mode
        case Forward(would_refuse=Code() as code):
            return "shadow", code, mode
        case Forward(ground=ground):
            return "allow", ground, mode
        case Preflight():
            return "preflight", "", mode


# --- each code in each mode ---


@pytest.mark.parametrize("code", Code)
async def test_of_an_identified_sender_the_policys_part_alone_is_in_shadow(code: Code) -> None:
    world = World()
    world.reply = Refused(code)
    got = {mode: told(await ask(gate_of(world, mode=mode), world, "/docs/7", bearer()))[:2] for mode in MODES}
    passes = "shadow" if code in OF_RULES else "refuse"
    assert got == {"enforce": ("refuse", code), "shadow-policy": (passes, code), "shadow": ("shadow", code)}


def test_each_refusal_of_rules_and_policies_is_in_shadow_and_none_that_says_who_asks() -> None:
    of_rules = {code for code in Code if code.kind in (Kind.RESOURCE, Kind.DECISION)}
    assert of_rules < OF_RULES
    for code in OF_RULES - of_rules:
        assert not code.value.startswith(("token_", "session_", "keys_", "proxy_not", "header", "target"))
    assert {Code.TARGET_AMBIGUOUS, Code.BODY_UNEXPECTED, Code.HOST_NOT_ALLOWED} < AMBIGUOUS
    assert AMBIGUOUS.isdisjoint(OF_RULES)


CASES: dict[str, tuple[str, tuple[tuple[bytes, bytes], ...], str, tuple[str, str], tuple[str, str]]] = {
    # target, headers, method -> in shadow-policy, in enforce
    "no token": ("/docs/7", (), "GET", ("refuse", "token_missing"), ("refuse", "token_missing")),
    "a bad token": ("/docs/7", (BAD,), "GET", ("refuse", "token_invalid"), ("refuse", "token_invalid")),
    "unmapped": ("/none", (bearer(),), "GET", ("shadow", "route_unmapped"), ("refuse", "route_unmapped")),
    "unmapped, by nobody": ("/none", (), "GET", ("refuse", "token_missing"), ("refuse", "route_unmapped")),
    "unmapped, a bad token": ("/none", (BAD,), "GET", ("refuse", "token_invalid"), ("refuse", "route_unmapped")),
    "method": ("/docs/7", (bearer(),), "PUT", ("shadow", "method_unmapped"), ("refuse", "method_unmapped")),
    "method, by nobody": ("/docs/7", (), "PUT", ("refuse", "token_missing"), ("refuse", "method_unmapped")),
    "method of a public route": ("/public", (), "PUT", ("refuse", "token_missing"), ("refuse", "method_unmapped")),
    "query": ("/mine?x=1", (bearer(),), "GET", ("shadow", "query_not_allowed"), ("refuse", "query_not_allowed")),
    "query, by nobody": ("/mine?x=1", (), "GET", ("refuse", "token_missing"), ("refuse", "query_not_allowed")),
    "segment": ("/docs/!", (bearer(),), "GET", ("shadow", "segment_invalid"), ("refuse", "segment_invalid")),
    "segment, by nobody": ("/docs/!", (), "GET", ("refuse", "token_missing"), ("refuse", "segment_invalid")),
    "a door": ("/whole", (bearer(),), "GET", ("shadow", "proxy_unable"), ("refuse", "proxy_unable")),
    "a door, by nobody": ("/whole", (), "GET", ("refuse", "token_missing"), ("refuse", "proxy_unable")),
    "ambiguous": ("/docs/../me", (bearer(),), "GET", ("refuse", "target_ambiguous"), ("refuse", "target_ambiguous")),
    "an oddity": ("//docs", (bearer(),), "GET", ("refuse", "target_ambiguous"), ("refuse", "target_ambiguous")),
    "denied": ("/docs", (bearer(),), "GET", ("shadow", "denied_by_policy"), ("refuse", "denied_by_policy")),
    "signed in": ("/me", (bearer(),), "GET", ("allow", "authenticated"), ("allow", "authenticated")),
    "public": ("/public", (), "GET", ("allow", "public"), ("allow", "public")),
    "the sidecar's own": ("/_sidecar/x", (), "GET", ("refuse", "token_missing"), ("refuse", "route_unmapped")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_what_shadow_policy_refuses_and_forwards(name: str) -> None:
    target, headers, method, in_policy, in_enforce = CASES[name]
    world = World()
    world.effect = DENY
    got = {
        mode: told(await ask(gate_of(world, mode=mode), world, target, *headers, method=method))[:2] for mode in MODES
    }
    shadow = in_enforce if in_enforce[0] == "allow" else ("shadow", in_enforce[1])
    assert got == {"enforce": in_enforce, "shadow-policy": in_policy, "shadow": shadow}


async def test_whoever_passes_an_unmapped_path_is_told_to_the_app_and_to_the_log() -> None:
    world = World()
    permit = await ask(gate_of(world, mode="shadow-policy"), world, "/none", bearer())
    assert isinstance(permit, Forward)
    assert (b"x-auth-subject", b"a-1") in permit.headers
    assert (permit.facts.principal, permit.facts.route) == ("a-1", "")
    assert list(permit.facts.stages) == ["request", "routing", "identity"]


async def test_a_session_of_another_origin_stays_refused() -> None:
    from tests.gate.test_gate import Cookies, session

    world = World()
    foreign = (session(TOKEN), (b"origin", b"https://evil.test"))
    gate = gate_of(world, mode="shadow-policy", sources=(Cookies(),))
    for target in ("/docs", "/none"):
        assert told(await ask(gate, world, target, *foreign, method="POST"))[:2] == ("refuse", "origin_refused")


# --- of routes ---

ROUTES = (
    policy("/shadow/{id:int}", {"GET": "view"}, id=parse_template("{path.id}"), mode=SHADOW)._replace(mode=SHADOW),
    policy("/policy", {"GET": "view"}, mode=POLICY)._replace(mode=POLICY),
    policy("/enforced", {"GET": "view"}, mode=ENFORCE)._replace(mode=ENFORCE),
    policy("/mixed", {"GET": Ask("view", "doc", mode=SHADOW), "POST": "create"}),
    policy("/plain", {"GET": "view"}),
    Route("/open", parse_path("/open"), Access.PUBLIC, asks({"GET": ""}, mode=SHADOW), mode=SHADOW),
)


@pytest.mark.parametrize(
    ("settings", "target", "method", "who", "expected"),
    [
        ("enforce", "/shadow/7", "GET", True, ("shadow", "denied_by_policy", "shadow")),
        ("enforce", "/shadow/7", "GET", False, ("shadow", "token_missing", "shadow")),
        ("enforce", "/shadow/7", "PUT", False, ("shadow", "method_unmapped", "shadow")),
        ("enforce", "/shadow/x", "GET", False, ("shadow", "segment_invalid", "shadow")),
        ("enforce", "/policy", "GET", True, ("shadow", "denied_by_policy", "shadow-policy")),
        ("enforce", "/policy", "GET", False, ("refuse", "token_missing", "shadow-policy")),
        ("enforce", "/mixed", "GET", True, ("shadow", "denied_by_policy", "shadow")),
        ("enforce", "/mixed", "POST", True, ("refuse", "denied_by_policy", "enforce")),
        ("enforce", "/mixed", "PUT", True, ("refuse", "method_unmapped", "enforce")),
        ("enforce", "/plain", "GET", True, ("refuse", "denied_by_policy", "enforce")),
        ("enforce", "/none", "GET", True, ("refuse", "route_unmapped", "enforce")),
        ("enforce", "/open", "GET", False, ("allow", "public", "shadow")),
        ("shadow", "/enforced", "GET", True, ("refuse", "denied_by_policy", "enforce")),
        ("shadow", "/enforced", "PUT", True, ("refuse", "method_unmapped", "enforce")),
        ("shadow", "/plain", "GET", True, ("shadow", "denied_by_policy", "shadow")),
        ("shadow", "/none", "GET", False, ("shadow", "route_unmapped", "shadow")),
        ("shadow-policy", "/shadow/7", "GET", False, ("shadow", "token_missing", "shadow")),
        ("shadow-policy", "/plain", "GET", False, ("refuse", "token_missing", "shadow-policy")),
    ],
)
async def test_a_route_and_an_action_have_a_mode_of_their_own(
    settings: Mode, target: str, method: str, who: bool, expected: tuple[str, str, Mode]
) -> None:
    world = World()
    world.effect = DENY
    gate = gate_of(world, *ROUTES, mode=settings)
    assert told(await ask(gate, world, target, *([bearer()] if who else []), method=method)) == expected


@pytest.mark.parametrize("target", ["/a/../enforced", "//enforced", "/enforced;x", "/%2e%2e/enforced", "/plain\\"])
async def test_what_may_be_meant_for_a_route_that_enforces_is_refused_in_shadow_too(target: str) -> None:
    """Else whoever writes a path so that the app alone reads it would pass the route."""
    world = World()
    verdict = await ask(gate_of(world, *ROUTES, mode="shadow"), world, target, bearer())
    assert told(verdict) == ("refuse", "target_ambiguous", "enforce")
    lax = gate_of(world, *(route for route in ROUTES if route.name in ("/shadow/{id:int}", "/plain")), mode="shadow")
    assert told(await ask(lax, world, target, bearer())) == ("shadow", "target_ambiguous", "shadow")


async def test_a_body_that_one_server_may_read_as_another_request_is_refused_where_some_route_enforces() -> None:
    world = World()
    headers = (bearer(), (b"content-length", b"3"))
    for routes, expected in ((ROUTES, "refuse"), (ROUTES[:1], "shadow")):
        gate = gate_of(world, *routes, mode="shadow")
        assert told(await ask(gate, world, "/shadow/7", *headers))[:2] == (expected, "body_unexpected")


async def test_whoever_only_asks_is_told_what_enforcing_would_do() -> None:
    world = World()
    world.effect = DENY
    for target in ("/shadow/7", "/policy"):
        verdict = await ask(gate_of(world, *ROUTES), world, target, bearer())
        assert told(verdict) == ("refuse", "denied_by_policy", "enforce")


# --- of a share of the principals ---


def test_the_place_of_a_principal_is_the_hash_that_the_guide_says() -> None:
    """printf %s "$id" | sha256sum | cut -c1-8, as a number modulo 100."""
    assert bucket_of("alice") == int(hashlib.sha256(b"alice").hexdigest()[:8], 16) % 100
    assert [bucket_of(name) for name in ("alice", "bob", "carol")] == [1, 12, 43]
    assert bucket_of("\ud800") == bucket_of("\ud800")


@given(st.text(min_size=1), st.integers(0, 100), st.integers(0, 100))
def test_whoever_is_in_a_share_is_in_each_larger_one(principal: str, one: int, other: int) -> None:
    small, large = (RouteMode(share, "shadow-policy") for share in sorted((one, other)))
    assert small.of(principal) == small.of(principal)
    assert not (small.of(principal) == "enforce" and large.of(principal) != "enforce")
    assert RouteMode(0, "shadow").of(principal) == "shadow"
    assert RouteMode(100, "shadow").of(principal) == "enforce"


def test_a_share_is_about_as_large_as_it_says_and_holds_nobody_who_is_not_known() -> None:
    tenth = RouteMode(10, "shadow-policy")
    inside = sum(tenth.of(f"user-{number}") == "enforce" for number in range(10_000))
    assert 850 < inside < 1150
    assert (tenth.of(""), tenth.modes) == ("shadow-policy", {"enforce", "shadow-policy"})


INSIDE = next(name for name in map(str, range(1000)) if bucket_of(name) < 10)
OUTSIDE = next(name for name in map(str, range(1000)) if bucket_of(name) >= 10)


@pytest.mark.parametrize("otherwise", ["shadow", "shadow-policy"])
@pytest.mark.parametrize(
    ("target", "method", "code"),
    [
        ("/some/7", "GET", "denied_by_policy"), ("/some/7?x=1", "GET", "query_not_allowed"),
        ("/some/x", "GET", "segment_invalid"), ("/some/7", "PUT", "method_unmapped"),
    ],
)  # fmt: skip
async def test_a_share_is_enforced_whatever_is_found_first(
    otherwise: Mode, target: str, method: str, code: str
) -> None:
    from sidecar.gate.query import rule_of

    mode = RouteMode(10, otherwise)
    route = policy("/some/{id:int}", {"GET": "view"}, mode=mode, query=rule_of([], ()))._replace(mode=mode)
    world = World()
    world.effect = DENY
    gate = gate_of(world, route, mode="shadow")
    tokens = {name: bearer(mint(claims(NOW) | {"sub": name})) for name in (INSIDE, OUTSIDE)}
    assert told(await ask(gate, world, target, tokens[INSIDE], method=method)) == ("refuse", code, "enforce")
    assert told(await ask(gate, world, target, tokens[OUTSIDE], method=method)) == ("shadow", code, otherwise)
    nobody = told(await ask(gate, world, target, method=method))
    if otherwise == "shadow":
        assert nobody == ("shadow", "token_missing" if code == "denied_by_policy" else code, "shadow")
    else:
        assert nobody == ("refuse", "token_missing", "shadow-policy")


async def test_an_answer_is_reduced_for_the_share_alone() -> None:
    from tests.gate.test_obligation import Whole

    mode = RouteMode(10, "shadow-policy")
    world = World()
    gate = gate_of(world, policy("/list", {"GET": "list"}, mode=mode, answer=Whole()), mode="enforce")
    for name, reduced in ((INSIDE, True), (OUTSIDE, False)):
        permit = await ask(gate, world, "/list", bearer(mint(claims(NOW) | {"sub": name})), holds_answer=True)
        assert isinstance(permit, Forward)
        assert any(obligation.needs_body for obligation in permit.obligations) is reduced


# --- what does not change ---

TARGETS = st.sampled_from(
    [
        "/docs",
        "/docs/7",
        "/docs/!",
        "/me",
        "/public",
        "/none",
        "/mine?x=1",
        "/paged?page=1",
        "/found",
        "/whole",
        "/a/../b",
    ]
)


@given(
    TARGETS, st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS"]), st.sampled_from([bearer(), BAD, None]),
    st.sampled_from([None, *Code]), st.booleans(), st.booleans(),
)  # fmt: skip
async def test_shadow_records_what_enforcing_answers_and_a_mode_that_says_enforce_changes_nothing(
    target: str, method: str, who: tuple[bytes, bytes] | None, failure: Code | None, allows: bool, holds: bool
) -> None:
    async def verdict(gate_mode: Mode | None, own: RouteMode | None) -> tuple[str, str]:
        world = World()
        if not allows:
            world.effect = DENY
        if failure is not None:
            world.reply = Refused(failure)
        gate = world.gate(mode=gate_mode)
        if own is not None:
            routes = [
                route._replace(mode=own, asks={name: replace_mode(one, own) for name, one in route.asks.items()})
                for route in TABLE.routes
            ]
            gate.rules = replace(gate.rules, table=RouteTable(routes))
        headers = [who] if who is not None else []
        return told(await ask(gate, world, target, *headers, method=method, holds_answer=holds))[:2]

    enforced = await verdict("enforce", None)
    assert await verdict(None, None) == enforced
    assert await verdict(None, SHADOW) == enforced
    assert await verdict("enforce", ENFORCE) == enforced
    in_shadow = await verdict("shadow", None)
    assert in_shadow == (("shadow", enforced[1]) if enforced[0] == "refuse" else enforced)
    in_policy = await verdict("shadow-policy", None)
    assert in_policy in (enforced, in_shadow) or in_policy[1] in ("token_missing", "token_invalid")


def replace_mode(one: Ask, mode: RouteMode) -> Ask:
    fields = {name: getattr(one, name) for name in Ask.__slots__ if name not in ("needs_answer", "has_optional")}
    return Ask(**{**fields, "mode": mode})


def test_the_strictest_mode_goes_first() -> None:
    assert strictest("shadow", "enforce", "shadow-policy") == "enforce"
    assert strictest("shadow", "shadow-policy") == "shadow-policy"
    assert RouteTable(ROUTES).modes == {"enforce", "shadow", "shadow-policy"}


async def test_a_request_of_nobody_known_stays_in_the_mode_of_the_others() -> None:
    """A fault while it is looked for who asks is no reason to refuse in shadow."""

    class Late:
        vary = b"Cookie"

        def holds(self, request: Request) -> bool:
            return True

        async def present(self, *_: object) -> None:
            raise Refused(Code.SESSION_STORE_UNAVAILABLE)

    mode = RouteMode(10, "shadow")
    world = World()
    gate = gate_of(
        world, policy("/some", {"GET": "view"}, mode=mode)._replace(mode=mode), mode="enforce", sources=(Late(),)
    )
    assert told(await ask(gate, world, "/some", method="PUT")) == ("shadow", "method_unmapped", "shadow")
