"""Obligations: what each needs of the app's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from sidecar.gate.obligation import KeepPrivate, Obligation, need_body


@dataclass(frozen=True, slots=True)
class WholeAnswer(KeepPrivate):
    """An obligation of tests alone: it does what the other does, and only over the whole answer."""

    needs_body: ClassVar[bool] = True


MARK, WHOLE = KeepPrivate(b"Cookie"), WholeAnswer(b"Cookie")


@pytest.mark.parametrize(
    ("obligations", "need"), [((), False), ((MARK,), False), ((MARK, MARK), False), ((WHOLE,), True), ((MARK, WHOLE), True)]
)  # fmt: skip
def test_one_that_needs_the_whole_answer_is_enough(obligations: tuple[Obligation, ...], need: bool) -> None:
    assert need_body(obligations) is need
