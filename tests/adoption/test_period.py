"""Times that a user gives, with their zones."""

import pytest

from sidecar.adoption.period import Period, PeriodError, period_of
from tests.adoption.recorded import at


def test_a_period_has_its_first_moment_and_not_its_last() -> None:
    period = period_of("2025-12-01T12:00Z", "2025-12-03T02:00+02:00")
    assert period == Period(at(0.5), at(2))
    assert [period.has(at(day)) for day in (0.4, 0.5, 1.9, 2, 3)] == [False, True, True, False, False]
    assert period_of("", "").has(at(0))


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        ("yesterday", "", "--since: found 'yesterday', expected a time with its zone, such as 2026-01-31T12:00+01:00"),
        ("", "2025-12-01", "--until: found '2025-12-01' without a zone, expected one, such as 2025-12-01T00:00Z"),
        ("2025-12-02T00:00Z", "2025-12-01T00:00Z", "--until: found 2025-12-01T00:00Z, expected a time after --since 2025-12-02T00:00Z"),
        ("0001-01-01T00:00+14:00", "", "--since: found '0001-01-01T00:00+14:00', expected a time with its zone, such as 2026-01-31T12:00+01:00"),
    ],
)  # fmt: skip
def test_a_time_that_cannot_be_meant_is_told(since: str, until: str, said: str) -> None:
    with pytest.raises(PeriodError) as told:
        period_of(since, until)
    assert str(told.value) == said
