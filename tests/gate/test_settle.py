"""The gate's second half: what is released of an answer, and that nothing is where an obligation is not done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pytest

from sidecar.gate.codes import Code, Ground
from sidecar.gate.obligation import HeldAnswer, Judge, KeepPrivate, ReduceLines
from sidecar.gate.settle import Released, settle, settle_whole
from sidecar.gate.verdict import Facts, Forward, Refuse
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


def test_all_obligations_are_done() -> None:
    settled = settle(permit(KeepPrivate(b"Cookie"), KeepPrivate(b"Authorization", no_store=True)), HELD)
    assert isinstance(settled, Released)
    assert dict(settled.headers)[b"vary"] == b"Cookie, Authorization"
    assert dict(settled.headers)[b"cache-control"] == b"private, no-store, max-age=60"


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

    max_line: int = 9

    def begin(self, held: HeldAnswer) -> HeldAnswer | None:
        """The head as it came, but for an error."""
        return held if held.status == 200 else None

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
