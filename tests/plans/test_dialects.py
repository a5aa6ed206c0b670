"""The table of dialects."""

from __future__ import annotations

import pytest

from sidecar.plans.dialects import DIALECTS
from sidecar.plans.filter import EVERYTHING, Exactness


@pytest.mark.parametrize("name", DIALECTS)
def test_each_says_nothing_of_everything(name: str) -> None:
    assert DIALECTS[name].narrow(EVERYTHING, frozenset()) == ((), Exactness.EXACT, ())
