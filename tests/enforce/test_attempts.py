"""How often a sign-in may fail."""

from __future__ import annotations

from sidecar.enforce.attempts import PER_ADDRESS, PER_USER, WINDOW, Attempts


def test_a_user_has_so_many_failures_from_wherever_and_in_whatever_case() -> None:
    attempts = Attempts()
    for number in range(PER_USER):
        assert attempts.allowed(f"10.0.0.{number}", "Alice", 0.0)
        attempts.failed(f"10.0.0.{number}", "Alice", 0.0)
    assert not attempts.allowed("10.9.9.9", "alice", 1.0)
    assert attempts.allowed("10.0.0.1", "bob", 1.0)


def test_an_address_has_so_many_failures_as_whomever() -> None:
    attempts = Attempts()
    for number in range(PER_ADDRESS):
        assert attempts.allowed("10.0.0.1", f"user-{number}", 0.0)
        attempts.failed("10.0.0.1", f"user-{number}", 0.0)
    assert not attempts.allowed("10.0.0.1", "another", 1.0)
    assert attempts.allowed("10.0.0.2", "another", 1.0)


def test_failures_are_forgotten_one_by_one_after_the_window() -> None:
    attempts = Attempts()
    for second in range(PER_USER):
        attempts.failed("a", "alice", float(second))
    assert not attempts.allowed("b", "alice", WINDOW - 1)
    assert attempts.allowed("b", "alice", WINDOW)
    attempts.failed("b", "alice", WINDOW)
    assert not attempts.allowed("c", "alice", WINDOW + 0.5)


def test_a_flood_of_names_forgets_the_oldest_and_no_more() -> None:
    attempts = Attempts(remembered=40)
    for _ in range(PER_USER):
        attempts.failed("victim", "victim", 0.0)
    for number in range(19):
        attempts.failed(f"a{number}", f"u{number}", 1.0)
    assert not attempts.allowed("x", "victim", 2.0)
    attempts.failed("one more", "than fits", 2.0)
    assert attempts.allowed("x", "victim", 2.0)
