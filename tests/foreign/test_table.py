"""Every case by every way in: the same end as by the sidecar itself, and one table in the docs that says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus

import pytest

from tests.foreign.cases import CASES, HANDSHAKES, NOT_A_CLIENTS, SIGN_IN, Ask, Case
from tests.foreign.table import PAGE, placed
from tests.foreign.ways import SIGNS, WAYS, Entrance, Way
from tests.foreign.world import Outcome, World, running_world
from tests.stack import echo, reply

Outcomes = dict[tuple[str, str], list[Outcome]]
"""(way, case, or the name of what is asked beside the cases) -> what came of each of its requests."""
BESIDE = {
    "question": NOT_A_CLIENTS, "handshakes": HANDSHAKES, "sign-in": SIGN_IN, "app fails": CASES[0].asks,
    "cacheable": (Ask("/docs/1", user="alice"), Ask("/docs/1", session="idle")), "cacheable by all": (Ask("/public/a"),),
}  # fmt: skip
APP_FAILS = reply(500, b"mine", "X-Auth-Subject: root", "X-Auth-Problem: none")
FOR_CDNS = {
    "surrogate-control": "max-age=600",
    "cdn-cache-control": "max-age=600",
    "cloudflare-cdn-cache-control": "max-age=600",
}
FOR_ALL = {
    "cache-control": "public, s-maxage=600, max-age=600", "vary": "Accept-Encoding", "expires": "Thu, 01 Jan 2099 00:00:00 GMT", **FOR_CDNS,
}  # fmt: skip
APP_IS_CACHEABLE = reply(200, b"mine", *(f"{name}: {value}" for name, value in FOR_ALL.items()))
ANSWERS = {"app fails": APP_FAILS, "cacheable": APP_IS_CACHEABLE, "cacheable by all": APP_IS_CACHEABLE}
"""How the app answers what is asked beside the cases; else with what came."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """Every way opened once, and everything asked: first what needs all parts, then what happens as they go."""
    found: Outcomes = {}
    chosen = {item.name.partition("[")[2].partition("-")[0] for item in request.session.items}
    ways = [way for way in WAYS if way.name in chosen and not way.missing]
    with running_world(tmp_path_factory.mktemp("foreign")) as world, ExitStack() as stack:
        entrances = {way.name: stack.enter_context(way.open(world)) for way in ways}
        for name, entrance in entrances.items():
            for what, asks in BESIDE.items():
                world.answer = ANSWERS.get(what, echo)
                found[name, what] = [world.send(entrance.port, ask) for ask in asks]
        world.answer = echo
        for part in ("", "hook", "cerbos", "sidecar"):
            _take_away(part, world, entrances)
            for name, entrance in entrances.items():
                for case in CASES:
                    if case.without == part:
                        found[name, case.name] = [world.send(entrance.port, ask) for ask in case.asks]
        yield found


def _take_away(part: str, world: World, entrances: dict[str, Entrance]) -> None:
    if part == "sidecar":
        for entrance in entrances.values():
            entrance.sidecar.process.stop()
    elif part:
        world.take_away(part)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_case(outcomes: Outcomes, way: Way, case: Case) -> None:
    """What the case says, or what the way's mark says of it."""
    if way.missing:
        pytest.skip(f"{way.needs} is not installed")
    mark = way.marks.get(case.name)
    status, seen = (mark.status, mark.seen) if mark else (case.status, case.seen)
    for ask, outcome in zip(case.asks, outcomes[way.name, case.name], strict=True):
        about = f"{ask.method} {ask.target} {ask.headers}"
        if case.without == "sidecar":
            # nobody who listens, or a proxy that says so in its own words
            assert outcome.status == 0 or outcome.status >= HTTPStatus.INTERNAL_SERVER_ERROR, about
        else:
            assert outcome.status == status, about
        assert len(outcome.seen) == seen, about
        _holds(case, outcome, mark is None)


def _holds(case: Case, outcome: Outcome, as_said: bool) -> None:
    for got in outcome.seen:
        if case.sent:
            assert got.target == case.sent
        for name, values in case.app.items():
            assert sorted(got.values(name)) == sorted(values), name
    if as_said and outcome.reply is not None:
        for name, start in case.client.items():
            assert any(value.startswith(start) for value in outcome.reply.values(name)), (name, outcome.reply.head)


BY_WAY = pytest.mark.parametrize("way", [way for way in WAYS if not way.missing], ids=lambda way: way.name)


@BY_WAY
def test_no_client_can_ask_in_a_proxys_place(outcomes: Outcomes, way: Way) -> None:
    """Whoever did would have in hand what only the app may get."""
    for ask, outcome in zip(NOT_A_CLIENTS, outcomes[way.name, "question"], strict=True):
        assert outcome.reply is not None
        assert outcome.status in (400, 401, 403, 404, 405), ask.target
        assert outcome.seen == []
        assert not [name for name, _ in outcome.reply.headers if name.startswith("x-auth-")], outcome.reply.head


@BY_WAY
def test_nothing_becomes_a_tunnel_by_leave_for_a_get(outcomes: Outcomes, way: Way) -> None:
    """Refused, or sent on as the plain request that was decided, but where handshakes are decided as what they are."""
    for ask, outcome in zip(HANDSHAKES, outcomes[way.name, "handshakes"], strict=True):
        if way.handshakes and ask.target == "/ws/1":
            continue
        assert outcome.status != 101
        for seen in outcome.seen:
            assert (seen.values("upgrade"), ask.target) == ([], "/docs/1")


@BY_WAY
def test_the_sign_in_is_reached_through_the_proxy(outcomes: Outcomes, way: Way) -> None:
    (outcome,) = outcomes[way.name, "sign-in"]
    assert outcome.reply is not None
    assert outcome.status == 303
    assert outcome.reply.values("location")[0].startswith("https://auth.example/oauth2/authorize?")
    assert outcome.reply.values("set-cookie")[0].startswith("__Host-login")


@BY_WAY
def test_every_piece_of_a_session_reaches_the_browser(outcomes: Outcomes, way: Way) -> None:
    (outcome,) = outcomes[way.name, "a session that is renewed"]
    assert outcome.reply is not None
    names = [value.partition("=")[0] for value in outcome.reply.values("set-cookie")]
    assert names[:2] == ["__Host-session", "__Host-session.1"]
    assert len(names) == len(set(names))


@BY_WAY
def test_an_error_of_the_app_is_its_own(outcomes: Outcomes, way: Way) -> None:
    """It is no refusal of ours; and what only the sidecar says is not taken from the app, where the proxy can see to it."""
    (outcome,) = outcomes[way.name, "app fails"]
    assert outcome.reply is not None
    assert (outcome.status, outcome.reply.body, len(outcome.seen)) == (500, b"mine", 1)
    if way.name.startswith(("the sidecar itself", "nginx", "Caddy", "HAProxy")):
        assert outcome.reply.values("x-auth-subject") == []


@BY_WAY
def test_an_answer_to_one_person_is_for_no_shared_cache(outcomes: Outcomes, way: Way) -> None:
    """RFC 9111 sections 3 and 4.2.1: `private` forbids what other directives beside it allow."""
    for outcome, by, stored in zip(
        outcomes[way.name, "cacheable"], ("authorization", "cookie"), ("private", "no-store"), strict=True
    ):
        assert outcome.reply is not None
        assert (outcome.status, outcome.reply.body) == (200, b"mine")
        assert {"private", stored} <= _listed(outcome, "cache-control"), outcome.reply.head
        assert {by, "accept-encoding"} <= _listed(outcome, "vary") or "no-store" in _listed(outcome, "cache-control")
        for name in FOR_CDNS:
            assert _listed(outcome, name) <= {"no-store"}
        # HTTP/1.1 caches take Cache-Control before it; two ways cannot tell whom an answer is for
        assert outcome.reply.values("expires") in ([], ["0"]) or way.name == "Envoy, HTTP"


@BY_WAY
def test_an_answer_to_all_is_as_the_app_says(outcomes: Outcomes, way: Way) -> None:
    (outcome,) = outcomes[way.name, "cacheable by all"]
    assert outcome.reply is not None
    if way.name == "Traefik":
        assert outcome.reply.values("cache-control") == ["private, no-store"]
        return
    for name, value in FOR_ALL.items():
        if way.name != "Envoy, HTTP" or name not in FOR_CDNS:
            assert outcome.reply.values(name) == [value]


def _listed(outcome: Outcome, name: str) -> set[str]:
    """The elements of a header that is a list, of all its lines."""
    assert outcome.reply is not None
    return {part.strip().lower() for value in outcome.reply.values(name) for part in value.split(",")}


@BY_WAY
def test_a_refusal_says_why(outcomes: Outcomes, way: Way) -> None:
    """The problem of the sidecar reaches the client, and no other word of its answer."""
    for case in (
        case for case in CASES if case.status in (401, 403, 405, 503) and not case.seen and case.without != "sidecar"
    ):
        for outcome in outcomes[way.name, case.name]:
            assert outcome.reply is not None
            if way.name == "Envoy, HTTP" and outcome.status == 503:
                assert outcome.reply.body == b""
                continue
            assert outcome.reply.values("content-type") == ["application/problem+json"], case.name
            assert json.loads(outcome.reply.body)["status"] == outcome.status
            assert not [name for name, _ in outcome.reply.headers if name.startswith("x-auth-")], outcome.reply.head
            assert len(outcome.reply.values("www-authenticate")) == (outcome.status == HTTPStatus.UNAUTHORIZED)


@BY_WAY
def test_no_way_tells_what_is_not_there_from_what_is_not_ones_own(outcomes: Outcomes, way: Way) -> None:
    hidden = outcomes[way.name, "another's resource, and none, hidden"]
    denied = [outcomes[way.name, "another's resource"][1], *outcomes[way.name, "no such resource"]]
    for one, other in (hidden, denied):
        assert _without_id(one) == _without_id(other)


def _without_id(outcome: Outcome) -> tuple[int, list[tuple[str, str]], str]:
    assert outcome.reply is not None
    (request_id,) = outcome.reply.values("x-request-id") or [json.loads(outcome.reply.body)["request_id"]]
    differs = ("x-request-id", "date", "x-envoy-upstream-service-time")
    headers = [(name, value) for name, value in outcome.reply.headers if name not in differs]
    return outcome.status, headers, outcome.reply.body.decode().replace(request_id, "-")


def test_the_docs_have_the_table() -> None:
    """Run `python -m tests.foreign.table` when this fails."""
    assert PAGE.read_text(encoding="utf-8") == placed()


def test_every_mark_is_of_a_case_and_says_what_it_is_for() -> None:
    names = {case.name for case in CASES}
    assert len(names) == len(CASES)
    for way in WAYS:
        assert set(way.marks) <= names
        assert {mark.sign for mark in way.marks.values()} <= set(SIGNS)
