"""For 10,000 generated targets, the bytes decided are the bytes sent and logged; `make fuzz` does a million."""

from __future__ import annotations

from fuzz.property import check


async def test_decided_sent_and_logged_are_the_same_bytes() -> None:
    forwarded, refused = await check(10_000, seed=7)
    assert forwarded > 1000
    assert refused > 1000
