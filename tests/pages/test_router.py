"""The sidecar's own paths: which they are, how their requests are read, and what a fault of one becomes."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.doors.answer import Answer
from sidecar.doors.door import Door
from sidecar.doors.refusal import Refusals
from sidecar.gate.codes import Code
from sidecar.gate.evaluation import Rules
from sidecar.gate.request import Reading
from sidecar.gate.routing import RouteTable
from sidecar.gate.verdict import Refused
from sidecar.net.room import rooms
from sidecar.pages.router import MAX_BODY, OwnPaths, PageRequest, form_of, page, query_of, redirect
from sidecar.record.journal import Journal
from sidecar.record.metrics import Metrics
from tests.gate.test_gate import World
from tests.log import Kept

FORM = (b"content-type", b"application/x-www-form-urlencoded")


async def show(asked: PageRequest) -> Answer:
    fields = form_of(asked) if asked.raw.method == "POST" else query_of(asked)
    if fields.get("fail") == "refused":
        raise Refused(Code.SIGN_IN_INVALID, "secret detail")
    if fields.get("fail") == "bug":
        raise KeyError("secret detail")
    return page(str(fields))


GATE = World(reading=Reading(frozenset(["app.test"]))).gate()
JOURNAL = Journal(Kept(), Metrics(), lambda: 0.0)
ROOMS = rooms(1024**2, 0)
DOOR = Door(GATE, JOURNAL, Refusals(), lambda: 0.0, lambda: 0.0, lambda: "r1")
OWN = OwnPaths(DOOR, ROOMS, {"/_sidecar/show": {"GET": show, "POST": show}})


async def ask(
    target: bytes, method: str = "GET", *headers: tuple[bytes, bytes], body: bytes = b"", host: bytes = b"app.test"
) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    framing = [(b"content-length", str(len(body)).encode())] if body else []
    scope = {
        "type": "http", "method": method, "raw_target": target, "client": ("10.0.0.1", 1), "scheme": "http",
        "headers": [(b"host", host), *framing, *headers],
    }  # fmt: skip
    await OWN(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[0]["body"]


@pytest.mark.parametrize(
    ("target", "own"),
    [
        (b"/_sidecar/show", True), (b"/_sidecar/show?a=b", True), (b"/_sidecar/none", False), (b"/_sidecar/show/", False),
        (b"/_sidecar/%73how", False), (b"/x/_sidecar/show", False), (b"/_sidecar/", False),
    ],
)  # fmt: skip
def test_a_path_is_ours_in_one_spelling(target: bytes, own: bool) -> None:
    assert OWN.has(target) is own


async def test_a_form_and_a_query_are_read_field_by_field() -> None:
    assert (await ask(b"/_sidecar/show?a=1&b=%20"))[2] == b"{'a': '1', 'b': ' '}"
    assert (await ask(b"/_sidecar/show", "POST", FORM, body=b"a=%C3%A9"))[2] == "{'a': 'é'}".encode()


async def test_head_has_the_head_of_get_alone() -> None:
    status, headers, body = await ask(b"/_sidecar/show?a=1", "HEAD")
    assert (status, headers[b"content-length"], body) == (200, b"10", b"")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"target": b"/_sidecar/show?a=1&a=2"}, 400),
        ({"target": b"/_sidecar/show?a=%ff"}, 400),
        ({"target": b"/_sidecar/show?fail=refused"}, 400),
        ({"target": b"/_sidecar/show?fail=bug"}, 500),
        ({"target": b"/_sidecar/show", "method": "DELETE"}, 405),
        ({"target": b"/_sidecar/show", "host": b"other.test"}, 421),
        ({"target": b"/_sidecar/show", "method": "POST", "body": b"a=1"}, 415),
    ],
)
async def test_what_is_wrong_is_refused_without_a_detail(asked: dict[str, Any], status: int) -> None:
    got, headers, body = await ask(**asked)
    assert got == status
    assert b"secret" not in body
    assert (b"allow" in headers) is (status == 405)


async def test_a_body_over_the_limit_is_refused() -> None:
    assert (await ask(b"/_sidecar/show", "POST", FORM, body=b"a" * (MAX_BODY + 1)))[0] == 413


async def test_a_page_cannot_be_framed_cached_or_made_to_load_anything() -> None:
    headers = (await ask(b"/_sidecar/show"))[1]
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"vary"] == b"Cookie, Authorization"
    policy = headers[b"content-security-policy"]
    for rule in (b"default-src 'none'", b"form-action 'self'", b"frame-ancestors 'none'", b"base-uri 'none'"):
        assert rule in policy


def test_a_redirect_is_a_get_with_its_cookies() -> None:
    made = redirect("/x", (b"a=1", b"b=2"))
    assert (made.status, [value for name, value in made.headers if name == b"set-cookie"]) == (303, [b"a=1", b"b=2"])


async def test_a_reload_while_it_is_answered_changes_nothing_of_it() -> None:
    """The rules of when it came are handed to the page: what it reads twice is the same twice."""
    gate, seen = World().gate(), list[Rules]()
    before = gate.rules

    async def show(asked: PageRequest) -> Answer:
        seen.append(asked.rules)
        return page("")

    async def receive() -> Any:
        gate.rules = Rules(RouteTable([]), {}, before.tokens, before.reading)
        return {"type": "http.request", "body": b"x", "more_body": False}

    async def send(message: Any) -> None:
        pass

    door = Door(gate, JOURNAL, Refusals(), lambda: 0.0, lambda: 0.0, lambda: "r1")
    own = OwnPaths(door, ROOMS, {"/_sidecar/show": {"POST": show}})
    scope = {
        "type": "http", "method": "POST", "raw_target": b"/_sidecar/show", "client": None, "scheme": "http",
        "headers": [(b"host", b"app.test"), (b"content-length", b"1")],
    }  # fmt: skip
    await own(scope, receive, send)
    after = gate.rules
    assert seen == [before]
    after = gate.rules
    await own(scope, receive, send)
    assert seen == [before, after]
