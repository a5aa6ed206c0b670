"""A row as JSON: what has one form there, and what is refused with what to do."""

from __future__ import annotations

import ipaddress
import json
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from sidecar.lookups.rows import MAX_ROW, JsonColumn, reply_of, reply_of_many
from sidecar.net.connection import Fault
from sidecar.record.reasons import Reason

KNOWN = uuid.UUID("0b2f3c9e-0d3a-4e77-9c54-000000000001")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, None), ("é\0", "é\0"), (True, True), (7, 7), (-(2**53) + 1, -(2**53) + 1), (0.1, 0.1),
        (Decimal("7"), 7), (Decimal("-0"), 0), (Decimal("10.50"), 10.5), (Decimal("0.1"), 0.1), (Decimal("5.00"), 5.0),
        (date(2026, 1, 2), "2026-01-02"), (datetime.fromisoformat("2026-01-02 03:04:05"), "2026-01-02T03:04:05"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:04:05.000600Z"),
        (time(3, 4), "03:04:00"), (KNOWN, str(KNOWN)), (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
        (["a", None, Decimal("1.5"), [KNOWN]], ["a", None, 1.5, [str(KNOWN)]]), (JsonColumn('{"a": [1, "b"]}'), {"a": [1, "b"]}),
    ],
)  # fmt: skip
def test_a_value_has_one_form(value: Any, found: Any) -> None:
    reply = reply_of(["v"], [(value,)])
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert json.loads(reply.body) == {"v": found}
    assert type(json.loads(reply.body)["v"]) is type(found)
    # who reads the row reads what is in the body
    assert repr(reply.document) == repr(json.loads(reply.body))
    many = reply_of_many(["v"], [(value,), (None,)])
    assert repr(many.document) == repr(json.loads(many.body)) == repr([{"v": found}, {"v": None}])


def test_a_number_of_a_type_that_a_driver_has_is_a_plain_one() -> None:
    class Own(int):
        """An int that says another thing of itself."""

        def __repr__(self) -> str:
            return "own"

    assert type(reply_of(["v"], [(Own(7),)]).document["v"]) is int


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (2**53, "an integer beyond 2^53"), (Decimal(2**53), "an integer beyond 2^53"), (float("nan"), "not finite"), (float("inf"), "not finite"),
        (Decimal("NaN"), "not finite"), (Decimal("0.1000000000000000055"), "a decimal of more digits"), (Decimal("1e400"), "a decimal of more digits"),
        (b"x", "found bytes, expected a value of JSON: leave it out, or encode it as text"), (memoryview(b"x"), "found memoryview"),
        (timedelta(1), "found timedelta, expected a value of JSON: cast it to text"), ([b"x"], "found bytes"), (object(), "found object"),
        (JsonColumn("{"), "column 'v'"), (JsonColumn('{"a": 9007199254740993}'), "2^53"), ("\ud800", "surrogate"), (JsonColumn("[" * 50 + "]" * 50), "deep"),
    ],
)  # fmt: skip
def test_a_value_without_one_is_refused(value: Any, told: str) -> None:
    with pytest.raises(Fault) as caught:
        reply_of(["v"], [(value,)])
    assert caught.value.reason is Reason.ROW_INVALID
    assert told in caught.value.detail


def test_no_row_is_missing_and_two_are_an_error() -> None:
    assert reply_of([], []).status == 404
    with pytest.raises(Fault, match="more than one row"):
        reply_of(["v"], [(1,), (2,)])


def test_a_column_has_one_name() -> None:
    with pytest.raises(Fault, match="the column 'v' twice"):
        reply_of(["v", "w", "v"], [(1, 2, 3)])


def test_a_row_is_no_larger_than_the_answer_of_a_hook() -> None:
    assert len(reply_of(["v"], [("x" * (MAX_ROW - 8),)]).body) == MAX_ROW
    with pytest.raises(Fault, match="expected at most 65536"):
        reply_of(["v"], [("x" * (MAX_ROW - 7),)])
