"""A breaker turns calls away after failures in a row, and lets one look in each probe time."""

from __future__ import annotations

from sidecar.net.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(5):
        assert breaker.allows()
        breaker.failed()
    return breaker


def test_opens_at_the_fifth_failure_in_a_row_and_not_before() -> None:
    breaker = Breaker(Clock())
    for _ in range(4):
        breaker.failed()
        assert breaker.allows()
        assert not breaker.is_open
    breaker.failed()
    assert breaker.is_open
    assert not breaker.allows()


def test_a_success_between_failures_begins_the_count_again() -> None:
    breaker = Breaker(Clock())
    for _ in range(3):
        for _ in range(4):
            breaker.failed()
        breaker.succeeded()
    assert breaker.allows()
    assert not breaker.is_open


def test_an_open_breaker_lets_one_probe_through_every_two_seconds() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1.9
    assert not breaker.allows()
    clock.now += 0.2
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.failed()
    clock.now += 1.9
    assert not breaker.allows()
    clock.now += 0.2
    assert [breaker.allows() for _ in range(3)] == [True, False, False]


def test_a_probe_that_never_says_how_it_ended_does_not_block_the_next() -> None:
    clock = Clock()
    breaker = opened(clock)
    for _ in range(3):
        clock.now += 2.1
        assert breaker.allows()
        assert not breaker.allows()


def test_a_probe_that_succeeds_closes_it_for_everybody() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 2.1
    assert breaker.allows()
    breaker.succeeded()
    assert not breaker.is_open
    assert all(breaker.allows() for _ in range(10))


def test_calls_that_were_under_way_when_it_opened_do_not_put_the_probe_off() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 1.5
    breaker.failed()
    clock.now += 0.6
    assert breaker.allows()


def test_number_of_failures_and_time_are_arguments() -> None:
    clock = Clock()
    breaker = Breaker(clock, failures=1, probe_every=10)
    breaker.failed()
    clock.now += 9.9
    assert not breaker.allows()
    clock.now += 0.2
    assert breaker.allows()
