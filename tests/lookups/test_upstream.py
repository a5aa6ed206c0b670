"""The protected app as a source, with the gate's reading of its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import jmespath
import pytest

from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.codes import Code
from sidecar.gate.hook import Hook
from sidecar.gate.lookup import Attribute, Call, Lookup, Missing, attributes_from
from sidecar.gate.request import Raw, Reading, read
from sidecar.lookups.asking import Lookups
from sidecar.lookups.http import MAX_BODY
from sidecar.lookups.upstream import UpstreamSource
from sidecar.net.app_reader import AppReader
from sidecar.net.pool import Origin, Pool
from sidecar.wire.grammar import Header
from tests.fakes import Behave, Clock, Web, answer, json_answer, refusal, silence

GOOD = json_answer({"id": "7", "owner": "alice"}, 200, "Cache-Control: max-age=600", "Set-Cookie: a=1")


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with Web(GOOD) as web:
        yield web


@pytest.fixture
async def lookups(web: Web) -> AsyncIterator[Lookups]:
    source = UpstreamSource(AppReader(lambda _: Pool(Origin.parse(web.origin))))
    made = Lookups({AppInquiry: source}, now=Clock())
    yield made
    await made.aclose()


def call(host: bytes = b"shop.test", identity: tuple[Header, ...] = (), **more: Any) -> Call:
    inquiry = AppInquiry(("/orders/7",), as_principal=bool(identity))
    owner = Attribute(jmespath.compile("owner").search)
    lookup = Lookup(**{"name": "order", "inquiry": inquiry, "attributes": {"owner": owner}, "timeout": 5.0, **more})
    asked = Call(lookup, "/orders/7", "7", asker=("https://issuer", "alice"))
    request = read(Raw("GET", b"/", [(b"host", host)], "", "http", "r1"), Reading())
    return asked._replace(app=inquiry.warrant(asked, request, identity, None))


ALICE: tuple[Header, ...] = ((b"x-auth-subject", b"alice"),)
BOB: tuple[Header, ...] = ((b"x-auth-subject", b"bob"),)


async def told(lookups: Lookups, asked: Call) -> dict[str, Any]:
    return attributes_from(asked, await lookups.ask(asked))


async def test_the_answer_becomes_attributes(web: Web, lookups: Lookups) -> None:
    assert await told(lookups, call(echo=jmespath.compile("id").search)) == {"owner": "alice"}
    # the app's own word on caching has no effect
    await told(lookups, call())
    assert len(web.asked) == 2


async def test_an_answer_is_kept_for_whom_it_was_asked_and_under_which_host(web: Web, lookups: Lookups) -> None:
    for identity in (ALICE, BOB, ALICE, BOB, ()):
        await told(lookups, call(identity=identity, cache=60.0))
    assert len(web.asked) == 3
    for host in (b"other.test", b"shop.test", b"other.test"):
        await told(lookups, call(host, cache=60.0))
    assert len(web.asked) == 4


WRONG: dict[str, tuple[Behave, Code]] = {
    "a page": (answer(200, b"<html>", kind="text/html"), Code.LOOKUP_STATUS),
    "a redirect to sign in": (answer(302, b"", "Location: /login"), Code.LOOKUP_STATUS),
    "401": (json_answer({}, 401), Code.LOOKUP_AUTH),
    "403": (json_answer({}, 403), Code.LOOKUP_AUTH),
    "500": (json_answer({}, 500), Code.LOOKUP_STATUS),
    "508: a loop": (json_answer({"code": "lookup_loop"}, 508), Code.LOOKUP_STATUS),
    "no JSON": (answer(200, b"{"), Code.LOOKUP_BAD_ANSWER),
    "too much": (answer(200, b" " * (MAX_BODY + 1)), Code.LOOKUP_BAD_ANSWER),
    "no owner": (json_answer({}), Code.LOOKUP_MISMATCH),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_answer_never_becomes_attributes(web: Web, lookups: Lookups, name: str) -> None:
    web.behave, code = WRONG[name]
    assert await refusal(told(lookups, call())) is code


async def test_a_late_answer_is_a_timeout(web: Web, lookups: Lookups) -> None:
    web.behave = silence
    assert await refusal(told(lookups, call(timeout=0.05))) is Code.LOOKUP_TIMEOUT


@pytest.mark.parametrize(
    ("missing", "code"),
    [(Missing.DENY, Code.RESOURCE_MISSING), (Missing.HIDE, Code.RESOURCE_HIDDEN), (Missing.EMPTY, Code.LOOKUP_AUTH)],
)
async def test_what_the_app_keeps_from_the_principal_is_as_what_is_not_there(
    web: Web, lookups: Lookups, missing: Missing, code: Code
) -> None:
    """Or the code would tell which ids there are; and nothing is decided without the attributes of what is there."""
    web.behave = json_answer({"owner": "bob"}, 403)
    assert await refusal(told(lookups, call(identity=ALICE, missing=missing))) is code


async def test_a_call_without_its_warrant_is_a_mistake_of_ours(web: Web) -> None:
    source = UpstreamSource(AppReader(lambda _: Pool(Origin.parse(web.origin))))
    asked = call()
    for wrong in (asked._replace(app=None), asked._replace(lookup=asked.lookup._replace(inquiry=Hook("http://h", ())))):
        with pytest.raises(TypeError, match="no question to the app"):
            await source.ask(wrong, 1.0)
    assert web.connections == 0
