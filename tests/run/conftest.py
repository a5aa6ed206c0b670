"""What tests of cases share."""

from __future__ import annotations

import pytest

from tests.tokens import share_case_key


@pytest.fixture
def one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the key of cases once for all tests of this process."""
    share_case_key(monkeypatch)
