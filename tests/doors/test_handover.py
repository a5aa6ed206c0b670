"""What a verdict says to a proxy that forwards by itself: applied to what the proxy holds, it gives what was permitted."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sidecar.doors.handover import Handover, handover
from sidecar.gate.codes import Ground
from sidecar.gate.own import IDENTITY_HEADERS
from sidecar.gate.request import Raw
from sidecar.gate.verdict import Facts, Forward
from sidecar.wire.grammar import Header
from tests.gate.test_gate import NOW, TOKEN, World
from tests.permits import Permit, changed

CONNECTION = {b"host", b"content-length", b"transfer-encoding", b"connection", b"te", b"upgrade", b"keep-alive"}


def applied(headers: Iterable[Header], todo: Handover) -> list[Header]:
    """What a proxy sends that holds `headers` and does what it is told, the headers of its connections left out."""
    gone = {*todo.remove, *(name for name, _ in todo.set)}
    return sorted([*(pair for pair in headers if pair[0] not in gone | CONNECTION), *todo.set])


async def handed_over(
    target: str, *headers: Header, world: World | None = None, token: bytes | None = TOKEN
) -> tuple[Raw, Forward, Handover]:
    """A request by way of the gate, which lets it through."""
    own = [(b"authorization", b"Bearer " + token)] if token else []
    raw = Raw("GET", target.encode(), [(b"host", b"app.test"), *own, *headers], "10.0.0.9", "http", "r1")
    world = world or World()
    verdict = await world.gate().decide(raw, world.read_body)
    assert isinstance(verdict, Forward)
    return raw, verdict, handover(verdict, raw)


async def test_the_session_of_an_mcp_server_is_set_where_it_is_another_than_the_clients() -> None:
    raw, permit, _ = await handed_over("/docs/7", (b"mcp-session-id", b"tag.own"))
    assert (b"mcp-session-id", b"tag.own") not in handover(permit, raw).set
    headers = tuple((name, b"own") if name == b"mcp-session-id" else (name, value) for name, value in permit.headers)
    assert (b"mcp-session-id", b"own") in handover(changed(permit, headers=headers), raw).set


FORGED = [(name, b"root") for name in IDENTITY_HEADERS]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        FORGED,
        [(b"x-mine", b"1"), (b"x-mine", b"2")],
        [(b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-uri", b"/public"), (b"x-original-url", b"/admin")],
        [(b"cookie", b"a=1; __Host-session=secret; b=2")],
        [(b"cookie", b"a=1"), (b"cookie", b"b=2")],
        [(b"cookie", b"__Host-session=secret")],
        [(b"connection", b"x-mine"), (b"x-mine", b"1"), (b"te", b"trailers"), (b"content-length", b"0")],
        [(b"proxy-authorization", b"Basic x"), (b"x-request-id", b"mine")],
    ],
)
async def test_what_the_proxy_sends_is_what_was_permitted(headers: list[Header]) -> None:
    raw, permit, todo = await handed_over("/docs/7", *headers)
    cookies = [value for name, value in permit.headers if name == b"cookie"]
    joined = [(b"cookie", b"; ".join(cookies))] if cookies else []
    expected = [pair for pair in permit.headers if pair[0] not in {b"host", b"cookie"}] + joined
    assert applied(raw.headers, todo) == sorted(expected)
    assert not CONNECTION & set(todo.remove)


async def test_the_target_is_the_canonical_one() -> None:
    _, permit, todo = await handed_over("/%64ocs/7?x=%2e")
    assert (todo.method, todo.target) == (permit.method, permit.target) == (b"GET", b"/docs/7?x=%2e")


async def test_a_forged_identity_goes_even_where_nobody_has_one() -> None:
    """On a public route there is no principal, and so nothing that would take the place of what the client said."""
    for headers in ([], FORGED):
        _, _, todo = await handed_over("/public", *headers, token=None)
        assert set(IDENTITY_HEADERS) <= set(todo.remove)
        assert not set(IDENTITY_HEADERS) & {name for name, _ in todo.set}


async def test_the_answer_gets_its_marks_and_cookies() -> None:
    raw, _, todo = await handed_over("/cors", (b"origin", b"https://f"))
    assert (b"access-control-allow-origin", b"https://f") in todo.reply
    permit = Permit(
        b"GET", b"/", (), Ground.ALLOWED, Facts("r1", "GET", "/"), NOW, cookies=(b"a=1; Secure", b"b=2; Secure")
    )
    assert handover(permit, raw).reply == ((b"set-cookie", b"a=1; Secure"), (b"set-cookie", b"b=2; Secure"))
