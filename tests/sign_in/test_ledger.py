"""Counts and single uses: in this process, in bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.sign_in.ledger import Count, LocalLedger

USER, CLIENT = Count("user:u", 3, 300.0), Count("client:c", 5, 300.0)


async def test_a_place_is_taken_under_every_key_or_under_none() -> None:
    ledger = LocalLedger()
    for _ in range(3):
        assert await ledger.take([USER, CLIENT], 0.0)
    assert await ledger.take([USER, CLIENT], 0.0) is None
    # the refused one took no place of the client's
    assert await ledger.take([CLIENT], 0.0)
    assert await ledger.take([CLIENT], 0.0)
    assert await ledger.take([CLIENT], 0.0) is None


async def test_a_place_is_free_after_its_time_or_when_given_back() -> None:
    ledger = LocalLedger()
    places = [await ledger.take([USER], float(second)) for second in range(3)]
    assert await ledger.take([USER], 299.0) is None
    assert await ledger.take([USER], 300.0)
    assert await ledger.take([USER], 300.5) is None
    assert places[2] is not None
    await ledger.give_back(places[2])
    await ledger.give_back(places[2])
    assert await ledger.take([USER], 300.6)
    assert await ledger.take([USER], 300.6) is None


@given(st.lists(st.tuples(st.floats(0, 1000), st.booleans()), max_size=60))
async def test_no_window_ever_holds_more_than_the_limit(tries: list[tuple[float, bool]]) -> None:
    ledger = LocalLedger()
    kept: list[float] = []
    for now, is_given_back in sorted(tries, key=lambda each: each[0]):
        place = await ledger.take([USER], now)
        live = [taken for taken in kept if taken > now - USER.seconds]
        assert (place is None) == (len(live) >= USER.limit)
        if place is not None and is_given_back:
            await ledger.give_back(place)
        elif place is not None:
            kept.append(now)


async def test_a_key_is_spent_once_and_for_its_time() -> None:
    ledger = LocalLedger()
    assert not await ledger.is_spent("state:s", 0.0)
    assert await ledger.spend("state:s", 600.0, 0.0)
    assert not await ledger.spend("state:s", 600.0, 599.0)
    assert await ledger.is_spent("state:s", 599.0)
    assert not await ledger.is_spent("state:s", 600.0)


async def test_a_flood_stays_within_its_bytes_and_within_its_kind() -> None:
    ledger = LocalLedger(counts=100_000, spent=100_000, known=100_000)
    await ledger.remember("pair:u:c", 1e6, 0.0)
    await ledger.spend("state:first", 1e6, 0.0)
    await ledger.take([USER], 0.0)
    for number in range(2000):
        await ledger.take([Count(f"user:{number}", 3, 300.0)], 0.0)
    assert await ledger.knows("pair:u:c", 0.0)
    assert await ledger.is_spent("state:first", 0.0)
    assert ledger._counts.weight <= 100_000
