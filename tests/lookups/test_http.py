"""A hook with a switch, asked by HTTP, with the gate's reading of the answer where that decides."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from typing import Any

import jmespath
import pytest

from sidecar.gate.codes import Code
from sidecar.gate.hook import Hook
from sidecar.gate.lookup import Attribute, Call, Lookup, Missing, Reply, attributes_from
from sidecar.gate.values import Type
from sidecar.lookups.asking import Lookups
from sidecar.lookups.http import MAX_BODY, HttpSource
from tests.fakes import (
    Behave,
    Clock,
    Web,
    answer,
    cut,
    drip,
    environment,
    json_answer,
    raw,
    refusal,
    silence,
)

GOOD = json_answer({"id": "1", "owner_id": "alice"})
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """A hook, which knows the owner of everything."""
    async with Web(GOOD) as web:
        yield web


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def hooks(clock: Clock) -> AsyncIterator[Lookups]:
    hooks = Lookups({Hook: HttpSource()}, now=clock)
    yield hooks
    await hooks.aclose()


def call(origin: str, target: str = "/docs/1", **options: Any) -> Call:
    owner = Attribute(jmespath.compile("owner_id").search, Type.STRING)
    hook = Hook(origin, (), options.pop("bearer", ""))
    named = {"name": "doc", "attributes": {"owner": owner}, "timeout": 5.0, **options}
    return Call(Lookup(inquiry=hook, **named), target, "1")


async def read(hooks: Lookups, asked: Call) -> dict[str, Any]:
    """What the gate does."""
    return attributes_from(asked, await hooks.ask(asked))


async def test_the_answer_comes_as_it_is(web: Web, hooks: Lookups) -> None:
    web.behave = answer(200, b'{"a": 1}', kind="Application/JSON ; charset=utf-8")
    assert await hooks.ask(call(web.origin)) == Reply(200, "application/json", b'{"a": 1}')
    web.behave = GOOD
    assert await read(hooks, call(web.origin)) == {"owner": "alice"}


async def test_exactly_this_is_sent(web: Web, hooks: Lookups) -> None:
    """l10 of the corpus: the hook gets the sidecar's own credential, and nothing of the user's."""
    await hooks.ask(call(web.origin, "/docs/a%2Fb?kind=doc"))
    await hooks.ask(call(web.origin, bearer="s3cret"))
    (line, plain), (_, with_credential) = web.asked
    assert line == "GET /docs/a%2Fb?kind=doc HTTP/1.1"
    assert plain == {"host": f"127.0.0.1:{web.port}", "accept": "application/json"}
    assert with_credential == {**plain, "authorization": "Bearer s3cret"}


async def test_calls_in_a_row_share_a_connection(web: Web, hooks: Lookups) -> None:
    for _ in range(5):
        await hooks.ask(call(web.origin))
    assert (len(web.asked), web.connections) == (5, 1)


async def test_no_proxy_of_the_environment_is_used(web: Web, hooks: Lookups) -> None:
    """l04 of the corpus."""
    async with Web(GOOD) as proxy:
        with environment(**dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY"), proxy.origin)):
            await hooks.ask(call(web.origin))
    assert proxy.connections == 0


async def test_a_cookie_is_not_sent_back(web: Web, hooks: Lookups) -> None:
    """l09 of the corpus."""
    web.behave = json_answer({"owner_id": "alice"}, 200, "Set-Cookie: x=1; Path=/")
    for _ in range(2):
        await hooks.ask(call(web.origin))
    assert all("cookie" not in headers for _, headers in web.asked)
    assert len(web.asked) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(web: Web, hooks: Lookups, status: int) -> None:
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
async def test_a_wrong_answer_never_becomes_attributes(web: Web, hooks: Lookups, name: str) -> None:
    """l05 of the corpus; and the next good answer is taken."""
    web.behave, code = WRONG[name]
    assert await refusal(read(hooks, call(web.origin))) is code
    web.behave = GOOD
    assert await read(hooks, call(web.origin)) == {"owner": "alice"}


@pytest.mark.parametrize("missing", [Missing.DENY, Missing.HIDE, Missing.EMPTY])
async def test_404_says_that_there_is_no_such_thing(web: Web, hooks: Lookups, missing: Missing) -> None:
    """l06 of the corpus."""
    web.behave = json_answer({"owner_id": "alice"}, 404)
    work = read(hooks, call(web.origin, missing=missing))
    if missing is Missing.EMPTY:
        assert await work == {}
    else:
        assert await refusal(work) is (Code.RESOURCE_MISSING if missing is Missing.DENY else Code.RESOURCE_HIDDEN)


async def test_an_answer_about_another_id_is_refused(web: Web, hooks: Lookups) -> None:
    """l08 of the corpus."""
    echo = jmespath.compile("id").search
    assert await read(hooks, call(web.origin, echo=echo)) == {"owner": "alice"}
    web.behave = json_answer({"id": "2", "owner_id": "alice"})
    assert await refusal(read(hooks, call(web.origin, echo=echo))) is Code.LOOKUP_MISMATCH


@pytest.mark.parametrize("behave", [silence, drip(HEAD + b"\r\n", 0.02), drip(b"HTTP/1.1 103 X\r\n\r\n" * 99, 0.001)])
async def test_a_late_answer_costs_no_more_than_the_deadline(web: Web, hooks: Lookups, behave: Behave) -> None:
    web.behave = behave
    started = time.monotonic()
    assert await refusal(hooks.ask(call(web.origin, timeout=0.2))) is Code.LOOKUP_TIMEOUT
    assert 0.15 < time.monotonic() - started < 2


async def test_a_body_that_drips_is_late_as_well(web: Web, hooks: Lookups) -> None:
    body = drip(b'{"owner_id": "alice"}', 0.05)

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 21\r\n\r\n")
        await body(writer)

    web.behave = behave
    assert await refusal(hooks.ask(call(web.origin, timeout=0.2))) is Code.LOOKUP_TIMEOUT


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{port}", "http://nobody.invalid"])
async def test_nobody_there_is_unavailable(hooks: Lookups, origin: str) -> None:
    async with Web(GOOD) as gone:
        pass
    assert await refusal(hooks.ask(call(origin.format(port=gone.port)))) is Code.LOOKUP_UNAVAILABLE


@pytest.mark.parametrize(
    ("origin", "target", "bearer"),
    [("ftp://x", "/", ""), ("{origin}", "/\u00e9", ""), ("{origin}", "/", "\u20ac")],
)
async def test_whatever_else_goes_wrong_is_a_refusal(
    web: Web, hooks: Lookups, origin: str, target: str, bearer: str
) -> None:
    asked = call(origin.format(origin=web.origin), target, bearer=bearer)
    assert await refusal(hooks.ask(asked)) is Code.LOOKUP_BAD_ANSWER
    assert web.asked == []
