"""One row of a database as JSON, or why it cannot be JSON."""

from __future__ import annotations

import ipaddress
import math
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from sidecar.gate.lookup import Reply
from sidecar.lookups.http import MAX_BATCH
from sidecar.net.connection import Fault
from sidecar.record.reasons import Reason
from sidecar.wire import strict_json

MAX_ROW = 64 * 1024
"""Bytes of one row as JSON, as of a hook's answer."""
_KIND = "application/json"
_NO_ROW = Reply(404, _KIND, b"")


class JsonColumn(str):
    """Value of a column of JSON, as the database writes it."""

    __slots__ = ()


def reply_of(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Reply:
    """The one row as an object by column name, 404 where there is none. Raises Fault for a second one, and for a value
    that has no exact form in JSON."""
    if not rows:
        return _NO_ROW
    if len(rows) > 1:
        raise Fault(Reason.ROW_INVALID, "found more than one row, expected one: compare a unique column")
    row = row_object(names, rows[0])
    body = _text(row)
    if len(body) > MAX_ROW:
        raise Fault(Reason.ROW_INVALID, f"found a row of {len(body)} bytes, expected at most {MAX_ROW}")
    return Reply(200, _KIND, body, row)


def reply_of_many(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Reply:
    """The rows as a list of objects by column name. Raises Fault for a value that has no exact form in JSON."""
    found = [row_object(names, row) for row in rows]
    body = _text(found)
    if len(body) > MAX_BATCH:
        raise Fault(Reason.ROW_INVALID, f"found rows of {len(body)} bytes, expected at most {MAX_BATCH}")
    return Reply(200, _KIND, body, found)


def row_object(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """A row as an object of JSON values by column name. Raises Fault."""
    found = {name: _json(name, value) for name, value in zip(names, row, strict=True)}
    if len(found) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Fault(Reason.ROW_INVALID, f"found the column {twice!r} twice, expected names of their own: use AS")
    return found


def _text(value: Any) -> bytes:
    try:
        return strict_json.dumps(value)
    except ValueError as error:
        raise Fault(Reason.ROW_INVALID, str(error)) from None


def _json(name: str, value: Any) -> Any:
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    # a driver has types of its own beneath those of Python
    convert = next((_CONVERT[each] for each in kind.__mro__ if each in _CONVERT), None)
    try:
        if convert is not None:
            return convert(value)
    except ValueError as error:
        raise Fault(Reason.ROW_INVALID, f"column {name!r}: {error}") from None
    remedy = "leave it out, or encode it as text" if kind in _BYTES else "cast it to text"
    raise Fault(Reason.ROW_INVALID, f"column {name!r}: found {kind.__name__}, expected a value of JSON: {remedy}")


_BYTES = (bytes, bytearray, memoryview)


def _int(value: int) -> int:
    if abs(value) >= strict_json.EXACT_INTEGER:
        raise ValueError("found an integer beyond 2^53, which JSON does not hold exactly: cast it to text")
    # a plain one, as JSON has it
    return int(value)


def _float(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("found a number that is not finite, which JSON does not have")
    return float(value)


def _decimal(value: Decimal) -> int | float:
    if not value.is_finite():
        raise ValueError("found a number that is not finite, which JSON does not have")
    if value.as_tuple().exponent == 0:
        return _int(int(value))
    if Decimal(repr(float(value))) != value:
        raise ValueError("found a decimal of more digits than a number of JSON holds: cast it to text")
    return float(value)


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _list(value: list[Any]) -> list[Any]:
    return [_json("[]", item) for item in value]


_CONVERT: dict[type, Callable[[Any], Any]] = {
    int: _int,
    float: _float,
    Decimal: _decimal,
    date: date.isoformat,
    datetime: _moment,
    time: time.isoformat,
    uuid.UUID: str,
    list: _list,
    JsonColumn: lambda text: strict_json.loads(text.encode("utf-8", "surrogatepass")),
    **dict.fromkeys(
        (ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
         ipaddress.IPv4Interface, ipaddress.IPv6Interface), str,
    ),
}  # fmt: skip
