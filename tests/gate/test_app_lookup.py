"""What a lookup asks the app: a target that the route file says, in whose name, and what stands for it in the cache."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.app_question import AppQuestion
from sidecar.gate.ask import asks
from sidecar.gate.asking import ContextHandler
from sidecar.gate.codes import Code
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.lookup import Attribute, Call, Lookup, ResourceField
from sidecar.gate.references import Material, parse_reference, parse_template
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.routing import Access, Route, RouteTable, parse_path
from sidecar.gate.to_app import AuthorizationRule, ToApp
from sidecar.gate.verdict import Destination, Forward, Refuse, Verdict
from sidecar.wire.grammar import Header
from tests.gate.test_gate import NOW, TOKEN, World
from tests.tokens import claims, mint

INQUIRY = AppInquiry(("/orders/", ResourceField.ID))
REQUEST: list[Header] = [
    (b"host", b"shop.test"), (b"authorization", b"Bearer " + TOKEN), (b"cookie", b"app=1"), (b"x-custom", b"1"),
    (b"accept-encoding", b"gzip"), (b"range", b"bytes=0-1"), (b"if-none-match", b'"1"'), (b"x-forwarded-for", b"9.9.9.9"),
]  # fmt: skip
ALWAYS = [(b"x-auth-lookup", b"order"), (b"accept", b"application/json"), (b"accept-encoding", b"identity")]
OF_REQUEST = [
    (b"host", b"shop.test"), (b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"shop.test"), (b"x-request-id", b"r1")
]  # fmt: skip


class Asked(World):
    """The ports of a gate whose one lookup asks the app."""

    def __init__(self, inquiry: AppInquiry, to_app: ToApp | None = None, upstream: Destination | None = None) -> None:
        super().__init__()
        self.upstream = upstream
        self.inquiry = inquiry
        self.to_app = to_app
        self.calls: list[Call] = []

    async def ask(self, call: Call) -> Any:
        self.calls.append(call)
        return await super().ask(call)

    def gate(self, **more: Any) -> Gate:
        gate = super().gate(**more)
        ask = asks({"GET": "read", "DELETE": "delete"}, kind="order", id=parse_template("{path.id}"), lookup=("order",))
        route = Route(
            "/orders/{id}", parse_path("/orders/{id}"), Access.POLICY, ask, to_app=self.to_app, upstream=self.upstream
        )
        lookup = Lookup("order", self.inquiry, {"owner": Attribute(lambda document: document["o"])})
        rules = gate.rules
        gate.rules = Rules(RouteTable([route]), {"order": lookup}, rules.tokens, rules.reading)
        return gate


async def decide(world: Asked, *, headers: list[Header] | None = None, **more: Any) -> Verdict:
    raw = Raw("DELETE", b"/orders/7?x=1", headers or REQUEST, "10.0.0.9", "https", "r1")
    return await world.gate(**more).decide(raw, world.read_body)


async def warrant(inquiry: AppInquiry, to_app: ToApp | None = None, **more: Any) -> AppQuestion:
    world = Asked(inquiry, to_app)
    assert isinstance(await decide(world, **more), Forward)
    (call,) = world.calls
    assert call.app is not None
    return call.app


async def test_the_sidecar_asks_as_itself_and_tells_nothing_of_who_asks() -> None:
    asked = await warrant(INQUIRY)
    assert asked.target == b"/orders/7"
    assert list(asked.headers) == [*OF_REQUEST, *ALWAYS]


async def test_a_token_of_the_sidecars_own_goes_along() -> None:
    asked = await warrant(INQUIRY._replace(bearer="s3cret"))
    assert list(asked.headers) == [*OF_REQUEST, (b"authorization", b"Bearer s3cret"), *ALWAYS]


async def test_as_the_principal_the_app_is_told_what_the_permit_tells_it() -> None:
    to_app = ToApp(((b"remote-user", parse_template("{principal.id}")),))
    inquiry = INQUIRY._replace(as_principal=True)
    world = Asked(inquiry, to_app)
    verdict = await decide(world, sign=lambda *_: b"signed")
    assert isinstance(verdict, Forward)
    (call,) = world.calls
    assert call.app is not None
    identity = [
        (b"authorization", b"Bearer " + TOKEN), (b"x-auth-subject", b"a-1"), (b"x-auth-roles", b"user"), (b"remote-user", b"a-1"),
        (b"x-auth-assertion", b"signed"),
    ]  # fmt: skip
    assert list(call.app.headers) == [*OF_REQUEST, *identity, *ALWAYS]
    assert set(identity) < set(verdict.headers)


async def test_of_several_apps_the_one_behind_the_route_is_asked() -> None:
    asked = []
    for upstream in (None, Destination("crm", "http://crm"), Destination("wiki", "http://wiki")):
        world = Asked(INQUIRY, upstream=upstream)
        assert isinstance(await decide(world), Forward)
        (call,) = world.calls
        assert call.app is not None
        assert call.app.upstream is upstream
        asked.append(call.app.asked_as)
    assert len(set(asked)) == 3


async def test_no_authorization_where_the_app_never_gets_it() -> None:
    asked = await warrant(INQUIRY._replace(as_principal=True), ToApp((), AuthorizationRule.DROP))
    assert b"authorization" not in dict(asked.headers)
    assert dict(asked.headers)[b"x-auth-subject"] == b"a-1"


async def test_what_the_app_cannot_be_told_is_not_asked() -> None:
    world = Asked(INQUIRY._replace(as_principal=True), ToApp(((b"remote-user", parse_template("{claims.nothing}")),)))
    verdict = await decide(world)
    assert isinstance(verdict, Refuse)
    assert (verdict.code, world.calls) == (Code.CLAIM_MISSING, [])


async def test_equal_questions_are_those_with_an_equal_answer() -> None:
    """The host may choose the tenant, the scheme may choose a redirect, and the token may say more than who asks."""
    service, principal = INQUIRY, INQUIRY._replace(as_principal=True)
    first = await warrant(service)
    other_token = [(name, value) for name, value in REQUEST if name != b"authorization"]
    other_host = [(b"host", b"other.test"), *REQUEST[1:]]
    assert (await warrant(service)).asked_as == first.asked_as
    assert (await warrant(service, headers=other_host)).asked_as != first.asked_as
    assert (await warrant(service._replace(bearer="t"))).asked_as != first.asked_as
    mine = await warrant(principal)
    assert mine.asked_as != first.asked_as
    # an assertion is another one every half minute, and says nothing that the rest does not
    signed = [await warrant(principal, sign=lambda *_, n=n: b"%d" % n) for n in (1, 2)]
    assert {one.asked_as for one in signed} == {mine.asked_as}
    renewed = mint(claims(NOW, exp=int(NOW) + 1000))
    other_token = [*other_token, (b"authorization", b"Bearer " + renewed)]
    assert (await warrant(principal, headers=other_token)).asked_as != mine.asked_as
    assert (await warrant(service, headers=other_token)).asked_as == first.asked_as


def test_another_issuer_is_somebody_else() -> None:
    request = read(Raw("GET", b"/", [(b"host", b"x")], "", "http", "r"), Reading())
    lookup = Lookup("order", INQUIRY._replace(as_principal=True), {})
    calls = [Call(lookup, "/orders/7", "7", asker=(issuer, "alice")) for issuer in ("https://a", "https://b")]
    inquiry = INQUIRY._replace(as_principal=True)
    assert len({inquiry.warrant(call, request, [(b"x-auth-subject", b"alice")], None).asked_as for call in calls}) == 2


@pytest.mark.parametrize(
    ("value", "target"), [("7", "/orders/7"), ("a/b?c#d", "/orders/a%2Fb%3Fc%23d"), ("é", "/orders/%C3%A9")]
)
def test_a_value_is_one_segment(value: str, target: str) -> None:
    request = read(Raw("GET", b"/", [(b"host", b"x")], "", "http", "r"), Reading())
    material = Material(request, {}, None)  # type: ignore[arg-type]
    assert INQUIRY.fill("order", value, material) == target


def test_it_tells_what_fills_it_and_how_it_is_asked() -> None:
    org = parse_reference("path.org")
    inquiry = AppInquiry(("/", org, "/", ResourceField.ID))
    assert (inquiry.source, inquiry.values) == ("upstream", (org, ResourceField.ID))
    assert inquiry.shown("/a/7") == "app: GET /a/7"


@pytest.mark.parametrize("name", [b"x-auth-lookup"])
async def test_a_request_that_a_lookup_has_caused_is_refused_before_anybody_is_asked(name: bytes) -> None:
    world = Asked(INQUIRY)
    verdict = await decide(world, headers=[*REQUEST, (name, b"order")])
    assert isinstance(verdict, Refuse)
    assert (verdict.code, world.calls, world.asked) == (Code.LOOKUP_LOOP, [], [])
    twice = await decide(world, headers=[*REQUEST, (name, b"order"), (name, b"order")])
    assert isinstance(twice, Refuse)
    assert twice.code is Code.HEADER_AMBIGUOUS


async def test_in_shadow_it_passes_without_the_header_and_asks_no_lookup() -> None:
    world = Asked(INQUIRY)
    verdict = await decide(world, headers=[*REQUEST, (b"x-auth-lookup", b"order")], mode="shadow")
    assert isinstance(verdict, Forward)
    assert (verdict.would_refuse, world.calls) == (Code.LOOKUP_LOOP, [])
    assert b"x-auth-lookup" not in dict(verdict.headers)


def test_nobody_is_told_where_nobody_says_how() -> None:
    """Asking alone, as `named_resources` of a test makes it, tells nothing of the sender."""
    assert ContextHandler.__init__.__kwdefaults__["tell"](None) == ()  # type: ignore[index]
