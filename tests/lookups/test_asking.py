"""`lookups/asking.py` against a hook with a switch, with the gate's reading of the answer where that decides."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jmespath
import pytest

from sidecar.gate.codes import Code
from sidecar.gate.lookup import Attribute, Call, Lookup, Missing, Reply, attributes_from
from sidecar.gate.values import Type
from sidecar.gate.verdict import Refused
from sidecar.lookups.asking import CACHED, MAX_BODY, MAX_RUNNING, HookClient
from tests.fakes import (
    Behave,
    Clock,
    Web,
    answer,
    cut,
    drip,
    environment,
    held,
    json_answer,
    raw,
    refusal,
    silence,
    until,
)

GOOD = json_answer({"id": "1", "owner_id": "alice"})
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


USES: list[tuple[str, str]] = []


def uses(_: HookClient, outcome: str) -> int:
    """How often the cache of lookups was looked into with this outcome."""
    return USES.count(("lookup", outcome))


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """A hook, which knows the owner of everything."""
    async with Web(GOOD) as web:
        yield web


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def hooks(clock: Clock) -> AsyncIterator[HookClient]:
    hooks = HookClient(now=clock, count=lambda cache, outcome: USES.append((cache, outcome)))
    USES.clear()
    yield hooks
    await hooks.aclose()


def call(origin: str, target: str = "/docs/1", **options: Any) -> Call:
    owner = Attribute(jmespath.compile("owner_id").search, Type.STRING)
    named = {"name": "doc", "target": (), "attributes": {"owner": owner}, "timeout": 5.0, **options}
    return Call(Lookup(origin=origin, **named), target, "1")


async def read(hooks: HookClient, asked: Call) -> dict[str, Any]:
    """What the gate does."""
    return attributes_from(asked, await hooks.ask(asked))


# --- asking ---


async def test_the_answer_comes_as_it_is(web: Web, hooks: HookClient) -> None:
    web.behave = answer(200, b'{"a": 1}', kind="Application/JSON ; charset=utf-8")
    assert await hooks.ask(call(web.origin)) == (200, "application/json", b'{"a": 1}')
    web.behave = GOOD
    assert await read(hooks, call(web.origin)) == {"owner": "alice"}


async def test_exactly_this_is_sent(web: Web, hooks: HookClient) -> None:
    """l10 of the corpus: the hook gets the sidecar's own credential, and nothing of the user's."""
    await hooks.ask(call(web.origin, "/docs/a%2Fb?kind=doc"))
    await hooks.ask(call(web.origin, bearer="s3cret"))
    (line, plain), (_, with_credential) = web.asked
    assert line == "GET /docs/a%2Fb?kind=doc HTTP/1.1"
    assert plain == {"host": f"127.0.0.1:{web.port}", "accept": "application/json"}
    assert with_credential == {**plain, "authorization": "Bearer s3cret"}


async def test_calls_in_a_row_share_a_connection(web: Web, hooks: HookClient) -> None:
    for _ in range(5):
        await hooks.ask(call(web.origin))
    assert (len(web.asked), web.connections) == (5, 1)


async def test_no_proxy_of_the_environment_is_used(web: Web, hooks: HookClient) -> None:
    """l04 of the corpus."""
    async with Web(GOOD) as proxy:
        with environment(**dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY"), proxy.origin)):
            await hooks.ask(call(web.origin))
    assert proxy.connections == 0


async def test_a_cookie_is_not_sent_back(web: Web, hooks: HookClient) -> None:
    """l09 of the corpus."""
    web.behave = json_answer({"owner_id": "alice"}, 200, "Set-Cookie: x=1; Path=/")
    for _ in range(2):
        await hooks.ask(call(web.origin))
    assert all("cookie" not in headers for _, headers in web.asked)
    assert len(web.asked) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(web: Web, hooks: HookClient, status: int) -> None:
    async with Web(GOOD) as elsewhere:
        web.behave = answer(status, b"", f"Location: {elsewhere.origin}/docs/1")
        assert await refusal(read(hooks, call(web.origin))) is Code.LOOKUP_STATUS
    assert (elsewhere.connections, len(web.asked)) == (0, 1)


# --- answers that are none ---

WRONG: dict[str, tuple[Behave, Code]] = {
    "a page": (answer(200, b"<html>", kind="text/html"), Code.LOOKUP_STATUS),
    "no type": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Code.LOOKUP_STATUS),
    "two types": (raw(HEAD + b"Content-Type: text/html\r\nContent-Length: 2\r\n\r\n{}"), Code.LOOKUP_STATUS),
    "nothing said": (json_answer({}), Code.LOOKUP_MISMATCH),
    "owner a list": (json_answer({"owner_id": ["alice"]}), Code.LOOKUP_MISMATCH),
    "owner a number": (json_answer({"owner_id": 5}), Code.LOOKUP_MISMATCH),
    "a name twice": (answer(200, b'{"owner_id": "bob", "owner_id": "alice"}'), Code.LOOKUP_BAD_ANSWER),
    "NaN": (answer(200, b'{"owner_id": "alice", "x": NaN}'), Code.LOOKUP_BAD_ANSWER),
    "no JSON": (answer(200, b"{"), Code.LOOKUP_BAD_ANSWER),
    "no UTF-8": (answer(200, b'{"owner_id": "\xff"}'), Code.LOOKUP_BAD_ANSWER),
    "nested without end": (answer(200, b"[" * 60_000), Code.LOOKUP_BAD_ANSWER),
    "2 MB": (answer(200, b" " * 2_000_000), Code.LOOKUP_BAD_ANSWER),
    "a byte too much": (answer(200, b" " * (MAX_BODY + 1)), Code.LOOKUP_BAD_ANSWER),
    "2 MB without a length": (cut(HEAD + b"\r\n" + b" " * 2_000_000), Code.LOOKUP_BAD_ANSWER),
    "a gzip bomb": (answer(200, gzip.compress(bytes(50_000_000), 1)[:60_000], "Content-Encoding: gzip"), Code.LOOKUP_BAD_ANSWER),
    "two lengths": (raw(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} "), Code.LOOKUP_BAD_ANSWER),
    "both framings": (raw(HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), Code.LOOKUP_BAD_ANSWER),
    "not HTTP": (raw(b"SSH-2.0-x\r\n\r\n"), Code.LOOKUP_BAD_ANSWER),
    "204": (raw(b"HTTP/1.1 204 X\r\n\r\n"), Code.LOOKUP_STATUS),
    "401": (json_answer({"owner_id": "alice"}, 401), Code.LOOKUP_AUTH),
    "403": (json_answer({"owner_id": "alice"}, 403), Code.LOOKUP_AUTH),
    "429": (json_answer({"owner_id": "alice"}, 429), Code.LOOKUP_STATUS),
    "500": (json_answer({"owner_id": "alice"}, 500), Code.LOOKUP_STATUS),
    "cut in the body": (cut(HEAD + b'Content-Length: 99\r\n\r\n{"owner_id": "alice"}'), Code.LOOKUP_PARTIAL),
    "cut in a chunk": (cut(HEAD + b'Transfer-Encoding: chunked\r\n\r\n15\r\n{"owner_id": "alice"}\r\n'), Code.LOOKUP_PARTIAL),
    "cut in the head": (cut(HEAD), Code.LOOKUP_PARTIAL),
    "closed at once": (cut(), Code.LOOKUP_UNAVAILABLE),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_answer_never_becomes_attributes(web: Web, hooks: HookClient, name: str) -> None:
    """l05 of the corpus; and the next good answer is taken."""
    web.behave, code = WRONG[name]
    assert await refusal(read(hooks, call(web.origin))) is code
    web.behave = GOOD
    assert await read(hooks, call(web.origin)) == {"owner": "alice"}


@pytest.mark.parametrize("missing", [Missing.DENY, Missing.HIDE, Missing.EMPTY])
async def test_404_says_that_there_is_no_such_thing(web: Web, hooks: HookClient, missing: Missing) -> None:
    """l06 of the corpus."""
    web.behave = json_answer({"owner_id": "alice"}, 404)
    work = read(hooks, call(web.origin, missing=missing))
    if missing is Missing.EMPTY:
        assert await work == {}
    else:
        assert await refusal(work) is (Code.RESOURCE_MISSING if missing is Missing.DENY else Code.RESOURCE_HIDDEN)


async def test_an_answer_about_another_id_is_refused(web: Web, hooks: HookClient) -> None:
    """l08 of the corpus."""
    echo = jmespath.compile("id").search
    assert await read(hooks, call(web.origin, echo=echo)) == {"owner": "alice"}
    web.behave = json_answer({"id": "2", "owner_id": "alice"})
    assert await refusal(read(hooks, call(web.origin, echo=echo))) is Code.LOOKUP_MISMATCH


@pytest.mark.parametrize("behave", [silence, drip(HEAD + b"\r\n", 0.02), drip(b"HTTP/1.1 103 X\r\n\r\n" * 99, 0.001)])
async def test_a_late_answer_costs_no_more_than_the_deadline(web: Web, hooks: HookClient, behave: Behave) -> None:
    web.behave = behave
    started = time.monotonic()
    assert await refusal(hooks.ask(call(web.origin, timeout=0.2))) is Code.LOOKUP_TIMEOUT
    assert 0.15 < time.monotonic() - started < 2


async def test_a_body_that_drips_is_late_as_well(web: Web, hooks: HookClient) -> None:
    body = drip(b'{"owner_id": "alice"}', 0.05)

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 21\r\n\r\n")
        await body(writer)

    web.behave = behave
    assert await refusal(hooks.ask(call(web.origin, timeout=0.2))) is Code.LOOKUP_TIMEOUT


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{port}", "http://nobody.invalid"])
async def test_nobody_there_is_unavailable(hooks: HookClient, origin: str) -> None:
    async with Web(GOOD) as gone:
        pass
    assert await refusal(hooks.ask(call(origin.format(port=gone.port)))) is Code.LOOKUP_UNAVAILABLE


@pytest.mark.parametrize(
    ("origin", "target", "bearer"),
    [("ftp://x", "/", ""), ("{origin}", "/\u00e9", ""), ("{origin}", "/", "\u20ac")],
)
async def test_whatever_else_goes_wrong_is_a_refusal(
    web: Web, hooks: HookClient, origin: str, target: str, bearer: str
) -> None:
    asked = call(origin.format(origin=web.origin), target, bearer=bearer)
    assert await refusal(hooks.ask(asked)) is Code.LOOKUP_BAD_ANSWER
    assert web.asked == []


# --- one flight ---


async def test_equal_questions_at_once_are_asked_once(web: Web, hooks: HookClient) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, GOOD)
    equal = [asyncio.ensure_future(hooks.ask(call(web.origin))) for _ in range(50)]
    other = asyncio.ensure_future(hooks.ask(call(web.origin, "/docs/2")))
    another_lookup = asyncio.ensure_future(hooks.ask(call(web.origin, name="as-admin", bearer="s3cret")))
    await until(lambda: len(web.asked) == 3)
    gate.set()
    assert {reply.status for reply in await asyncio.gather(*equal, other, another_lookup)} == {200}
    assert len(web.asked) == 3
    await hooks.ask(call(web.origin))
    assert len(web.asked) == 4


async def test_a_fault_of_the_flight_is_everybodys(web: Web, hooks: HookClient) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, cut())
    waiting = [asyncio.ensure_future(refusal(hooks.ask(call(web.origin)))) for _ in range(10)]
    await until(lambda: web.asked)
    gate.set()
    assert set(await asyncio.gather(*waiting)) == {Code.LOOKUP_UNAVAILABLE}
    assert len(web.asked) == 1


async def test_one_who_leaves_does_not_take_the_answer_from_the_others(web: Web, hooks: HookClient) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, GOOD)
    first, second = (asyncio.ensure_future(hooks.ask(call(web.origin))) for _ in range(2))
    await until(lambda: web.asked)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()
    assert (await second).status == 200
    assert len(web.asked) == 1


async def test_a_flight_that_everybody_left_ends_by_itself(web: Web, hooks: HookClient) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, cut())
    only = asyncio.ensure_future(hooks.ask(call(web.origin)))
    await until(lambda: web.asked)
    only.cancel()
    await asyncio.wait([only])
    gate.set()
    await until(lambda: not hooks._flights)
    web.behave = GOOD
    assert (await hooks.ask(call(web.origin))).status == 200


async def test_closing_refuses_who_waits_and_cancels_nobody(web: Web, hooks: HookClient) -> None:
    web.behave = silence
    waiting = asyncio.ensure_future(refusal(hooks.ask(call(web.origin))))
    await until(lambda: web.asked)
    await hooks.aclose()
    assert await waiting is Code.LOOKUP_UNAVAILABLE


# --- the cache ---


async def test_a_reply_is_kept_as_long_as_the_route_file_says(web: Web, clock: Clock, hooks: HookClient) -> None:
    asked = call(web.origin, cache=2.0)
    first = await hooks.ask(asked)
    web.behave = json_answer({"owner_id": "bob"})
    clock.advance(1.99)
    assert await hooks.ask(asked) == first
    assert (len(web.asked), uses(hooks, "hit"), uses(hooks, "miss")) == (1, 1, 1)
    clock.advance(0.01)
    assert json.loads((await hooks.ask(asked)).body) == {"owner_id": "bob"}
    assert (len(web.asked), uses(hooks, "hit"), uses(hooks, "miss")) == (2, 1, 2)


async def test_nothing_is_kept_unless_the_route_file_says_so(web: Web, hooks: HookClient) -> None:
    for _ in range(3):
        await hooks.ask(call(web.origin))
    assert (len(web.asked), uses(hooks, "hit"), uses(hooks, "miss")) == (3, 0, 0)


async def test_each_lookup_and_each_target_has_replies_of_its_own(web: Web, hooks: HookClient) -> None:
    for _ in range(2):
        for target in ("/docs/1", "/docs/2", "/docs/1?x=1"):
            for name in ("doc", "as-admin"):
                await hooks.ask(call(web.origin, target, name=name, cache=60.0))
    assert (len(web.asked), uses(hooks, "hit")) == (6, 6)


@pytest.mark.parametrize(
    ("behave", "kept"),
    [
        (GOOD, True), (answer(404), True), (answer(500), False), (answer(403), False), (answer(302), False),
        (answer(204), False), (cut(), False), (raw(b"?\r\n\r\n"), False), (answer(200, b" " * (MAX_BODY + 1)), False),
    ],
)  # fmt: skip
async def test_only_what_says_something_about_the_resource_is_kept(
    web: Web, hooks: HookClient, behave: Behave, kept: bool
) -> None:
    web.behave = behave
    asked = call(web.origin, cache=60.0)
    for _ in range(2):
        work = asyncio.ensure_future(hooks.ask(asked))
        await asyncio.wait([work])
        work.exception()
    assert len(web.asked) == (1 if kept else 2)


async def test_the_oldest_reply_makes_room(web: Web, hooks: HookClient) -> None:
    web.behave = answer(200, b" " * MAX_BODY)
    most = CACHED // (MAX_BODY + 1024)
    for number in range(most + 1):
        await hooks.ask(call(web.origin, f"/docs/{number}", cache=60.0))
    for number in (most, most // 2, 0):
        await hooks.ask(call(web.origin, f"/docs/{number}", cache=60.0))
    assert (uses(hooks, "hit"), len(web.asked)) == (2, most + 2)


async def test_a_long_target_is_kept_by_its_digest(web: Web, hooks: HookClient) -> None:
    long = "/docs/" + "a" * 5000
    for target in (long, long, long + "b", long + "b"):
        await hooks.ask(call(web.origin, target, cache=60.0))
    assert (uses(hooks, "hit"), len(web.asked)) == (2, 2)
    assert hooks._cache.weight < 4096


# --- a hook that is away, or slow ---


async def test_five_failures_in_a_row_open_the_breaker_of_that_lookup(
    web: Web, clock: Clock, hooks: HookClient
) -> None:
    web.behave = cut()
    for _ in range(5):
        assert await refusal(hooks.ask(call(web.origin))) is Code.LOOKUP_UNAVAILABLE
    for number in range(20):
        assert await refusal(hooks.ask(call(web.origin, f"/docs/{number}"))) is Code.LOOKUP_OPEN
    assert len(web.asked) == 5
    async with Web(GOOD) as other:
        assert (await hooks.ask(call(other.origin, name="other"))).status == 200
    web.behave = GOOD
    clock.advance(2.0)
    for _ in range(3):
        assert (await hooks.ask(call(web.origin))).status == 200
    assert len(web.asked) == 8


async def test_answers_that_cannot_be_used_do_not_open_the_breaker(web: Web, hooks: HookClient) -> None:
    """One resource with a broken answer must not close the hook to all others."""
    web.behave = answer(200, b" " * (MAX_BODY + 1))
    for _ in range(12):
        assert await refusal(hooks.ask(call(web.origin))) is Code.LOOKUP_BAD_ANSWER
    web.behave = GOOD
    assert (await hooks.ask(call(web.origin, "/docs/2"))).status == 200


def by(asker: str, origin: str, path: str, **more: Any) -> Call:
    return call(origin, path, **more)._replace(asker=("iss", asker))


async def test_more_questions_of_one_principal_than_its_share_wait_for_their_turn(web: Web, hooks: HookClient) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, GOOD)
    share = MAX_RUNNING // 2
    running = [
        asyncio.ensure_future(hooks.ask(by("alice", web.origin, f"/docs/{number}", timeout=30.0)))
        for number in range(share + MAX_RUNNING + 3)
    ]
    await until(lambda: len(web.asked) == share)
    # of those that wait there are so many, too
    await until(lambda: sum(one.done() for one in running) == 3)
    # another is asked at once, for what nobody asks and for what somebody waits to ask
    his = [
        asyncio.ensure_future(hooks.ask(by("bob", web.origin, path, timeout=30.0)))
        for path in ("/docs/bobs", f"/docs/{share + 1}")
    ]
    await until(lambda: len(web.asked) == share + 2)
    gate.set()
    assert {reply.status for reply in await asyncio.gather(*his)} == {200}
    done = await asyncio.gather(*running, return_exceptions=True)
    assert sum(isinstance(one, Reply) for one in done) == share + MAX_RUNNING
    assert {one.code for one in done if isinstance(one, Refused)} == {Code.LOOKUP_BUSY}
    assert (await hooks.ask(by("alice", web.origin, "/docs/one-more"))).status == 200
    assert hooks.shares["doc"]._held == {}


async def test_who_waits_for_a_place_until_the_deadline_is_told_that_the_lookup_is_busy(
    web: Web, hooks: HookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.lookups.asking.MAX_RUNNING", 2)
    gate = asyncio.Event()
    web.behave = held(gate, GOOD)
    first = asyncio.ensure_future(hooks.ask(by("alice", web.origin, "/docs/1", timeout=30.0)))
    await until(lambda: len(web.asked) == 1)
    assert await refusal(hooks.ask(by("alice", web.origin, "/docs/2", timeout=0.05))) is Code.LOOKUP_BUSY
    gate.set()
    assert (await first).status == 200


async def test_what_was_asked_meanwhile_is_not_asked_again(
    web: Web, hooks: HookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.lookups.asking.MAX_RUNNING", 2)
    gates = {"/docs/1": asyncio.Event(), "/docs/2": asyncio.Event()}

    async def behave(writer: asyncio.StreamWriter) -> None:
        await held(gates[web.asked[-1][0].split()[1]], GOOD)(writer)

    web.behave = behave
    first = asyncio.ensure_future(hooks.ask(by("alice", web.origin, "/docs/1", timeout=30.0)))
    await until(lambda: len(web.asked) == 1)
    waiting = asyncio.ensure_future(hooks.ask(by("alice", web.origin, "/docs/2", timeout=30.0, cache=60.0)))
    his = asyncio.ensure_future(hooks.ask(by("bob", web.origin, "/docs/2", timeout=30.0, cache=60.0)))
    await until(lambda: len(web.asked) == 2)
    # her turn comes while his question is under way
    gates["/docs/1"].set()
    await first
    gates["/docs/2"].set()
    assert await waiting is await his
    assert len(web.asked) == 2
    assert hooks.shares["doc"]._held == {}


async def test_a_timeout_after_a_wait_for_a_place_does_not_open_the_breaker(
    web: Web, hooks: HookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one user's burst could take the hook away from all others."""
    monkeypatch.setattr("sidecar.lookups.asking.MAX_RUNNING", 2)
    web.behave = silence
    first = asyncio.ensure_future(hooks.ask(by("alice", web.origin, "/docs/1", timeout=0.1)))
    await until(lambda: len(web.asked) == 1)
    assert await refusal(hooks.ask(by("alice", web.origin, "/docs/2", timeout=1.0))) is Code.LOOKUP_TIMEOUT
    assert await refusal(first) is Code.LOOKUP_TIMEOUT
    assert len(web.asked) == 2
    assert hooks._breakers["doc"]._failed == 1
