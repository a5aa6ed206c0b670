"""The gate's second half: what is released of an answer, and that nothing is where an obligation is not done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from sidecar.gate.codes import Code, Ground
from sidecar.gate.obligation import KeepPrivate
from sidecar.gate.settle import HeldAnswer, Released, settle
from sidecar.gate.verdict import Facts, Forward, Refuse
from tests.gate.test_obligation import WholeAnswer
from tests.permits import Permit

HELD = HeldAnswer(200, [(b"content-type", b"text/plain"), (b"cache-control", b"max-age=60")], b"secret")


def permit(*obligations: Any) -> Forward:
    return Permit(
        b"GET", b"/", (), Ground.ALLOWED, Facts("r1", "GET", "/"), reply_headers=((b"vary", b"Origin"),),
        cookies=(b"a=1",), obligations=obligations,
    )  # fmt: skip


def test_without_an_obligation_the_answer_is_released_as_it_is() -> None:
    assert settle(permit(), HELD) == Released(*HELD)


@pytest.mark.parametrize("obligation", [KeepPrivate(b"Cookie"), WholeAnswer(b"Cookie")])
def test_an_answer_that_is_for_one_alone_says_so_to_caches(obligation: KeepPrivate) -> None:
    settled = settle(permit(obligation), HELD)
    headers = [(b"content-type", b"text/plain"), (b"cache-control", b"private, max-age=60"), (b"vary", b"Cookie")]
    assert settled == Released(200, headers, b"secret")


def test_all_obligations_are_done() -> None:
    settled = settle(permit(KeepPrivate(b"Cookie"), KeepPrivate(b"Authorization", no_store=True)), HELD)
    assert isinstance(settled, Released)
    assert dict(settled.headers)[b"vary"] == b"Cookie, Authorization"
    assert dict(settled.headers)[b"cache-control"] == b"private, no-store, max-age=60"


def test_an_obligation_that_needs_an_answer_which_nobody_held_is_refused() -> None:
    settled = settle(permit(KeepPrivate(b"Cookie"), WholeAnswer(b"Cookie")), HELD._replace(body=None))
    assert isinstance(settled, Refuse)
    assert settled.code is Code.UPSTREAM_PROTOCOL
    assert (settled.reply_headers, settled.cookies) == (((b"vary", b"Origin"),), (b"a=1",))


def test_an_obligation_that_needs_the_whole_answer_is_not_done_on_a_part() -> None:
    partial = HELD._replace(status=206)
    settled = settle(permit(WholeAnswer(b"Cookie")), partial)
    assert isinstance(settled, Refuse)
    assert settled.code is Code.UPSTREAM_PROTOCOL
    assert isinstance(settle(permit(KeepPrivate(b"Cookie")), partial), Released)


@dataclass(frozen=True)
class Unknown:
    """What no branch of `settle` knows."""

    needs_body: ClassVar[bool] = False


@pytest.mark.parametrize("obligation", [Unknown(), "no obligation"])
def test_an_obligation_that_cannot_be_done_releases_nothing(obligation: object) -> None:
    settled = settle(permit(obligation), HELD)
    assert isinstance(settled, Refuse)
    assert settled.code is Code.INTERNAL_ERROR
    assert "secret" not in repr(settled)
