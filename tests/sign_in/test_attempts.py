"""How often a sign-in may fail."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.sign_in.attempts import AT_ONCE, PER_CLIENT, PER_USER, WAITING, WINDOW, Attempts, known_key, user_key
from sidecar.sign_in.ledger import LocalLedger, Reservation

ALICE, BOB = "alice", "bob"


@pytest.fixture
def attempts() -> Attempts:
    return Attempts(LocalLedger())


async def fails(attempts: Attempts, client: str, user: str = ALICE, device: str = "", now: float = 0.0) -> Reservation:
    return await attempts.take(client, user, device, now)


async def is_limited(attempts: Attempts, client: str, user: str = ALICE, device: str = "", now: float = 1.0) -> bool:
    try:
        await attempts.give_back(await attempts.take(client, user, device, now))
    except Refused as refused:
        return refused.code is Code.SIGN_IN_LIMITED
    return False


async def test_a_user_has_so_many_failures_from_wherever(attempts: Attempts) -> None:
    for number in range(PER_USER):
        await fails(attempts, f"10.0.0.{number}")
    assert await is_limited(attempts, "10.9.9.9")
    assert not await is_limited(attempts, "10.0.0.1", BOB)


async def test_a_client_has_so_many_failures_as_whomever_and_with_codes(attempts: Attempts) -> None:
    for number in range(PER_CLIENT - 1):
        await fails(attempts, "10.0.0.1", f"user-{number}")
    await attempts.take_for_code("10.0.0.1", 0.0)
    assert await is_limited(attempts, "10.0.0.1")
    with pytest.raises(Refused):
        await attempts.take_for_code("10.0.0.1", 1.0)
    assert not await is_limited(attempts, "10.0.0.2")


async def test_failures_are_forgotten_one_by_one_after_the_window(attempts: Attempts) -> None:
    for second in range(PER_USER):
        await fails(attempts, "a", now=float(second))
    assert await is_limited(attempts, "b", now=WINDOW - 1)
    assert not await is_limited(attempts, "b", now=WINDOW)


async def test_a_success_is_no_failure(attempts: Attempts) -> None:
    for _ in range(10 * PER_CLIENT):
        await attempts.give_back(await fails(attempts, "10.0.0.1"))
    assert not await is_limited(attempts, "10.0.0.1")


async def test_failures_elsewhere_lock_nobody_out_where_they_signed_in_before(attempts: Attempts) -> None:
    await attempts.remember("192.0.2.1", (known_key(ALICE),), 0.0)
    for number in range(PER_USER):
        await fails(attempts, f"10.0.0.{number}")
    assert await is_limited(attempts, "10.0.0.99")
    assert await is_limited(attempts, "192.0.2.2")
    assert not await is_limited(attempts, "192.0.2.1")
    for _ in range(PER_USER):
        await fails(attempts, "192.0.2.1")
    # a known address is no place without a limit
    assert await is_limited(attempts, "192.0.2.1")


@pytest.mark.parametrize("spelling", ["Alice", "\uff41lice"])
async def test_a_user_of_another_spelling_is_counted_as_this_one_and_never_known_as_it(
    attempts: Attempts, spelling: str
) -> None:
    """A stranger could sign up under another spelling, and with each sign-in get more failures to make as this user."""
    await attempts.remember("192.0.2.1", (known_key(spelling),), 0.0)
    for number in range(PER_USER):
        await fails(attempts, f"10.0.0.{number}", spelling)
    assert await is_limited(attempts, "192.0.2.1")
    assert not await is_limited(attempts, "192.0.2.1", spelling)


async def test_a_known_device_is_locked_out_by_itself_alone(attempts: Attempts) -> None:
    for number in range(PER_CLIENT):
        await fails(attempts, "10.0.0.1", f"neighbour-{number}")
    for number in range(PER_USER):
        await fails(attempts, f"10.0.1.{number}")
    assert await is_limited(attempts, "10.0.0.1")
    assert not await is_limited(attempts, "10.0.0.1", device="d1")
    for _ in range(PER_USER):
        await fails(attempts, "10.0.0.1", device="d1")
    assert await is_limited(attempts, "10.0.0.1", device="d1")
    assert not await is_limited(attempts, "10.0.0.1", BOB, device="d1")


async def test_a_burst_is_counted_like_a_row(attempts: Attempts) -> None:
    tried = await asyncio.gather(*(fails(attempts, f"10.0.0.{n}") for n in range(150)), return_exceptions=True)
    assert sum(isinstance(each, Reservation) for each in tried) == PER_USER


async def test_a_client_asks_so_much_at_once_and_the_rest_waits_in_bounds(attempts: Attempts) -> None:
    asking, refused, go = 0, 0, asyncio.Event()

    async def ask() -> None:
        nonlocal asking, refused
        try:
            async with attempts.turn("10.0.0.1"):
                asking += 1
                await go.wait()
                asking -= 1
        except Refused:
            refused += 1

    tasks = [asyncio.create_task(ask()) for _ in range(WAITING + 9)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (asking, refused) == (AT_ONCE, 9)
    async with asyncio.timeout(1), attempts.turn("10.0.0.2"):
        # another client waits for nobody
        go.set()
    await asyncio.gather(*tasks)
    assert (asking, refused, attempts._turns) == (0, 9, {})


@pytest.mark.parametrize("spelling", ["alice", "Alice", "ALICE", "\uff21lice"])
def test_a_name_has_one_key_in_all_spellings_of_a_pool(spelling: str) -> None:
    assert user_key(spelling) == user_key(ALICE)


@pytest.mark.parametrize("name", ["", "a b", "a" * 129, "a" * 9500, "\x00", "a\n"])
def test_a_name_that_no_user_can_have_is_no_key(name: str) -> None:
    assert user_key(name) == known_key(name) == ""


@given(st.text(max_size=200))
def test_keys_are_short(name: str) -> None:
    assert len(user_key(name)) in (0, 24)
    assert len(known_key(name)) in (0, 24)
