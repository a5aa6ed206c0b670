"""The gate's second half: what is released of an answer, and that nothing is where an obligation is not done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pytest

from sidecar.gate.codes import Code, Ground
from sidecar.gate.mcp_session import SESSION, McpSessions
from sidecar.gate.obligation import (
    BindSession,
    Conclude,
    Decide,
    HeldAnswer,
    Judge,
    KeepPrivate,
    Reduce,
    Reduced,
    ReduceEither,
    ReduceLines,
    chosen,
    most_held,
    need_body,
)
from sidecar.gate.settle import Released, settle, settle_whole
from sidecar.gate.verdict import Facts, Forward, Refuse, Refused, unheld
from sidecar.release.lines import Windows
from tests.gate.test_obligation import nobody, whole
from tests.permits import Permit

HELD = HeldAnswer(200, [(b"content-type", b"text/plain"), (b"cache-control", b"max-age=60")], b"secret")


def permit(*obligations: Any) -> Forward:
    return Permit(
        b"GET", b"/", (), Ground.ALLOWED, Facts("r1", "GET", "/"), reply_headers=((b"vary", b"Origin"),),
        cookies=(b"a=1",), obligations=obligations,
    )  # fmt: skip


def test_without_an_obligation_the_answer_is_released_as_it_is() -> None:
    assert settle(permit(), HELD) == Released(*HELD)


def test_an_answer_that_is_for_one_alone_says_so_to_caches() -> None:
    settled = settle(permit(KeepPrivate(b"Cookie")), HELD)
    headers = [(b"content-type", b"text/plain"), (b"cache-control", b"private, max-age=60"), (b"vary", b"Cookie")]
    assert settled == Released(200, headers, b"secret")


async def test_what_is_reduced_is_marked_too_and_the_log_knows_the_numbers() -> None:
    given = permit(whole(), KeepPrivate(b"Cookie"))
    settled = await settle_whole(given, HELD)
    assert isinstance(settled, Released)
    assert (settled.body, dict(settled.headers)[b"vary"]) == (b"secret", b"Cookie")
    assert given.facts.items == {"seen": 6, "granted": 0}


async def test_an_answer_without_a_list_is_written_as_one_of_which_nothing_is_reduced() -> None:
    # the log line of each call of an MCP tool would be a rare one, and count nothings
    given = permit(Reduce(WithoutList(), nobody, frozenset()))
    assert isinstance(await settle_whole(given, HELD), Released)
    assert given.facts.items is None


class WithoutList:
    """A rule for an answer in which it finds no list."""

    max_size = 100

    async def reduce(self, held: HeldAnswer, judge: Judge, granted: frozenset[str]) -> Reduced:
        return Reduced(held, {})


class Looking:
    """A rule that reads nothing."""

    names: frozenset[str] = frozenset()
    asks: tuple[str, ...] = ()
    missing = "hide"
    max_size = 9

    def searched(self, query: bytes) -> Sequence[tuple[str, str]]:
        return ()

    def read(self, held: HeldAnswer, resource_id: str) -> Mapping[str, Any]:
        return {"id": resource_id}

    def reduce(self, held: HeldAnswer, granted: frozenset[str]) -> Reduced:
        return Reduced(held._replace(body=b"less"), {"masked": 1})


async def allow(attributes: Mapping[str, Any]) -> frozenset[str]:
    assert attributes == {"id": "7"}
    return frozenset(["read"])


def raising(error: Exception) -> Conclude:
    async def conclude(attributes: Mapping[str, Any]) -> frozenset[str]:
        raise error

    return conclude


async def test_an_answer_goes_out_when_the_decision_is_made_of_it() -> None:
    given = permit(Decide(Looking(), "7", allow), KeepPrivate(b"Cookie"))
    settled = await settle_whole(given, HELD)
    assert isinstance(settled, Released)
    assert (settled.body, dict(settled.headers)[b"vary"], given.facts.items) == (b"less", b"Cookie", {"masked": 1})
    assert isinstance(settle(given, HELD), Refuse)
    assert most_held(given.obligations) == 9


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (Refused(Code.DENIED_BY_POLICY), Code.DENIED_BY_POLICY, Code.RESOURCE_HIDDEN),
        (Refused(Code.PDP_TIMEOUT, "late"), Code.PDP_TIMEOUT, Code.PDP_TIMEOUT),
        (KeyError("a bug"), Code.INTERNAL_ERROR, Code.INTERNAL_ERROR),
    ],
)
async def test_no_decision_releases_nothing_but_in_shadow_mode(error: Exception, code: Code, told: Code) -> None:
    refused = await settle_whole(permit(Decide(Looking(), "7", raising(error))), HELD)
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.client_code) == (code, told)
    shadowed = permit(Decide(Looking(), "7", raising(error), shadow=True))
    assert await settle_whole(shadowed, HELD) == Released(*HELD)
    assert shadowed.facts.would_refuse is code


def test_whoever_asks_no_app_has_no_decision() -> None:
    given = permit(Decide(Looking(), "7", allow))
    refused = unheld(given)
    assert isinstance(refused, Refuse)
    assert refused.code is Code.PROXY_UNABLE
    for verdict in (permit(KeepPrivate(b"Cookie")), refused):
        assert unheld(verdict) is verdict


def test_all_obligations_are_done() -> None:
    settled = settle(permit(KeepPrivate(b"Cookie"), KeepPrivate(b"Authorization", no_store=True)), HELD)
    assert isinstance(settled, Released)
    assert dict(settled.headers)[b"vary"] == b"Cookie, Authorization"
    assert dict(settled.headers)[b"cache-control"] == b"private, no-store, max-age=60"


BIND = BindSession(McpSessions(["s"]).of("alice").bind)


@pytest.mark.parametrize("body", [None, b"whole"])
async def test_the_client_gets_a_session_that_is_bound(body: bytes | None) -> None:
    held = HeldAnswer(200, [(b"x-app", b"1"), (SESSION, b"abc"), (b"x-more", b"2")], body)
    released = settle(permit(BIND), held) if body is None else await settle_whole(permit(BIND), held)
    assert isinstance(released, Released)
    (name, bound) = released.headers[1]
    assert (name, McpSessions(["s"]).of("alice").own(bound)) == (SESSION, b"abc")
    assert released.headers[::2] == [(b"x-app", b"1"), (b"x-more", b"2")]
    assert settle(permit(BIND), HELD) == Released(200, HELD.headers, b"secret")


@pytest.mark.parametrize("named", [(b"a", b"b"), (b"a", b"a"), (b"",), (b"a b",), (b"\xe9",), (b"a" * 1025,)])
async def test_an_app_that_names_no_one_session_is_not_heard(named: tuple[bytes, ...]) -> None:
    held = HeldAnswer(200, [(SESSION, one) for one in named], b"secret")
    for refused in (settle(permit(BIND), held), await settle_whole(permit(BIND), held)):
        assert isinstance(refused, Refuse)
        assert refused.code is Code.UPSTREAM_PROTOCOL


async def test_an_answer_that_was_too_large_to_be_held_is_not_released() -> None:
    settled = await settle_whole(permit(KeepPrivate(b"Cookie"), whole(5)), HELD._replace(body=None))
    assert isinstance(settled, Refuse)
    assert (settled.code, settled.detail) == (Code.ITEMS_TOO_MANY, "an answer of more than 5 bytes")
    assert (settled.reply_headers, settled.cookies) == (((b"vary", b"Origin"),), (b"a=1",))


def test_what_needs_the_body_is_not_done_over_the_head() -> None:
    settled = settle(permit(whole()), HELD)
    assert isinstance(settled, Refuse)
    assert settled.code is Code.INTERNAL_ERROR


@dataclass(frozen=True)
class Unknown:
    """What no branch of `settle` knows."""

    needs_body: ClassVar[bool] = False


@pytest.mark.parametrize("obligation", [Unknown(), "no obligation"])
async def test_an_obligation_that_cannot_be_done_releases_nothing(obligation: object) -> None:
    for settled in (settle(permit(obligation), HELD), await settle_whole(permit(obligation), HELD)):
        assert isinstance(settled, Refuse)
        assert settled.code is Code.INTERNAL_ERROR
        assert "secret" not in repr(settled)


class Lines(NamedTuple):
    """A rule for lines that lets each pass."""

    wait: float = 0.0

    def units(self) -> Windows:
        """Each line by itself."""
        return Windows(9)

    def begin(self, held: HeldAnswer) -> tuple[HeldAnswer, bool]:
        """The head as it came; an error has no lines."""
        return held, held.status == 200

    async def window(self, lines: Sequence[bytes], judge: Judge) -> bytes:
        """All of them."""
        return b"".join(lines)


async def test_lines_are_released_only_by_a_door_that_judges_each() -> None:
    given, head = permit(ReduceLines(Lines(), nobody), KeepPrivate(b"Cookie")), HELD._replace(body=None)
    settled = settle(given, head, streams=True)
    assert isinstance(settled, Released)
    assert settled.lines == ReduceLines(Lines(), nobody)
    assert dict(settled.headers)[b"vary"] == b"Cookie"
    failed = settle(given, head._replace(status=404), streams=True)
    assert isinstance(failed, Released)
    assert failed.lines is None
    for refused in (settle(given, head), await settle_whole(given, HELD)):
        assert isinstance(refused, Refuse)
        assert refused.code is Code.PROXY_UNABLE


async def test_the_head_tells_which_of_two_demands_is_done() -> None:
    either = ReduceEither(whole(), ReduceLines(Lines(), nobody), lambda held: held.status == 200)
    given, failed = permit(either, KeepPrivate(b"Cookie")), HELD._replace(status=404)
    for undone in (settle(given, failed, streams=True), settle(given, HELD), await settle_whole(given, HELD)):
        assert isinstance(undone, Refuse)
    streamed = settle(given, HELD, streams=True)
    assert isinstance(streamed, Released)
    assert streamed.lines == either.pieces
    held = await settle_whole(given, failed)
    assert isinstance(held, Released)
    assert held.counts is not None
    assert [need_body(chosen(given.obligations, one)) for one in (HELD, failed)] == [False, True]
