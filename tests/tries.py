"""Examples of a property that takes another number of them than Hypothesis' own hundred."""

from __future__ import annotations

from hypothesis import settings


def tries(count: int) -> settings:
    """As many examples, or as much less of them as the profile has them: `make test` tries half of what CI does, and `make check`
    a fifth."""
    return settings(max_examples=max(1, count * settings().max_examples // 100))
