"""Obligations: what each needs of the app's answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from sidecar.gate.obligation import (
    AnswerItems,
    HeldAnswer,
    Judge,
    KeepPrivate,
    Obligation,
    Reduce,
    Reduced,
    most_held,
    need_body,
)


class Whole(NamedTuple):
    """A rule of tests alone: it releases the whole answer, and says how many bytes that were."""

    max_size: int = 1024 * 1024
    asks: tuple[str, ...] = ()
    nothing: HeldAnswer | None = None
    named: tuple[tuple[str, str], ...] = ()
    lookups: tuple[str, ...] = ()

    def searched(self, query: bytes) -> Sequence[tuple[str, str]]:
        """The fields that this rule says are named."""
        return self.named if query else ()

    def demand(self, judge: Judge, granted: frozenset[str], pushed: str) -> Reduce:
        """Demand the whole answer."""
        return Reduce(self, judge, granted, pushed)

    async def reduce(self, held: HeldAnswer, judge: Judge, granted: frozenset[str]) -> Reduced:
        """The answer as it came."""
        return Reduced(held, {"seen": len(held.body or b""), "granted": len(granted)})


async def nobody(_: AnswerItems) -> list[frozenset[str]]:
    """Ask nobody."""
    raise AssertionError("nobody is asked")


def whole(max_size: int = 1024 * 1024) -> Reduce:
    """An obligation that needs the whole answer."""
    return Reduce(Whole(max_size), nobody, frozenset())


MARK, WHOLE = KeepPrivate(b"Cookie"), whole()


@pytest.mark.parametrize(
    ("obligations", "need"), [((), False), ((MARK,), False), ((MARK, MARK), False), ((WHOLE,), True), ((MARK, WHOLE), True)]
)  # fmt: skip
def test_one_that_needs_the_whole_answer_is_enough(obligations: tuple[Obligation, ...], need: bool) -> None:
    assert need_body(obligations) is need


def test_the_narrowest_bound_holds() -> None:
    assert most_held((MARK, whole(7), whole(9))) == 7
