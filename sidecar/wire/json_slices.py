"""Places in a JSON text: byte ranges of an array's items and of an object's members, so that a part can be taken out
and every byte of the rest stays as it came (numbers, order, escapes).

The text is walked through a view of one character for each byte, in which JSON's structure reads the same, since all
bytes of it are ASCII (RFC 8259 section 2). So a place costs no copy, and a text of any script takes its own size once.
Each part is read by `strict_json`: a name that stands twice, or a byte that is not UTF-8, is a fault of the whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from sidecar.wire import strict_json
from sidecar.wire.spelling import folded

# the library's own scanner, written in C: (text, place) -> the value there, and where it ends
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
JSON_SPACES = b" \t\n\r"
_SPACES = JSON_SPACES.decode()
_SPACE = re.compile(r"[ \t\n\r]*")
_BETWEEN = 64
"""Bytes between two items that are read together, at most."""


class Span(NamedTuple):
    """Bytes from `start` up to `end`."""

    start: int
    end: int


_span_of: Callable[[tuple[int, int]], Span] = partial(tuple.__new__, Span)
"""Makes a span of both its ends, at a third of the time of its constructor."""


class Member(NamedTuple):
    """Member of an object: its name, the place of the whole and of its value."""

    name: str
    whole: Span
    value: Span


class JsonText:
    """One JSON text. Every method raises ValueError that says what was found, whatever the bytes are."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._view = data.decode("latin-1")
        # then the view is the text itself, without an escape of a surrogate: a value is found and read in one step
        plain = data.isascii() and not (b"\\" in data and (b"\\ud" in data or b"\\uD" in data))
        self._scan = strict_json.scan if plain else self._scan_bytes
        self._ends: dict[int, int] = {}

    def array(self, path: Sequence[str], most: int, together: int, take: Take) -> list[Span]:
        """List the items of the array at a path of names, of the whole text for an empty one, and read all around it.
        `take` gets the values of so many items `together`, which nothing else holds, and the number of the first.

        Raises TooMany, which is a ValueError, for one of more than `most` items, and what `take` raises.
        """
        items, end = self._array_below(self._space(0), path, _Taker(most, together, take))
        self._end(end)
        return items

    def members(self, span: Span) -> list[Member]:
        """List the members of the object that a value is."""
        found: list[Member] = []

        def take(name: str, before: Span) -> int:
            end = self._skip(before.end)
            found.append(Member(name, Span(before.start, end), Span(before.end, end)))
            return end

        if self._object(span.start, take) != span.end:
            raise ValueError("text after a JSON object")
        return found

    def whole(self) -> Span:
        """Return the place of the text's one value, without the white space around it; what it is was not read."""
        end = len(self._view)
        while end and self._view[end - 1] in _SPACES:
            end -= 1
        return Span(self._space(0), end)

    def value(self, span: Span) -> Any:
        """Read one value, as `strict_json.loads` does."""
        return strict_json.loads(self.data[span.start : span.end])

    def is_json(self) -> bool:
        """Return whether the text is one JSON value, which `value` would read."""
        try:
            self.value(self.whole())
        except ValueError:
            return False
        return True

    # --- walking ---

    def _space(self, at: int) -> int:
        # most values have one mark after them, and nothing between
        if self._view[at : at + 1] not in _SPACES:
            return at
        match = _SPACE.match(self._view, at)
        return match.end() if match is not None else at

    def _end(self, at: int) -> None:
        if self._space(at) != len(self._view):
            raise ValueError("text after the JSON value")

    def _skip(self, at: int) -> int:
        """Return where the value ends that begins here."""
        known = self._ends.get(at)
        if known is not None:
            # an array that was walked: to read it as a whole would hold all of it once more
            return known
        try:
            _, end = _scan(self._view, at)
        except StopIteration:
            raise ValueError("a JSON value that is missing or broken") from None
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None
        return end

    def _read(self, at: int) -> tuple[Any, int]:
        """Return the value that begins here, and where it ends."""
        try:
            return self._scan(self._view, at)
        except StopIteration:
            raise ValueError("a JSON value that is missing or broken") from None
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None

    def _scan_bytes(self, _: str, at: int) -> tuple[Any, int]:
        end = self._skip(at)
        return strict_json.loads(self.data[at:end]), end

    def _object(self, at: int, take: Callable[[str, Span], int]) -> int:
        """Walk the object that begins here, and return where it ends. `take` gets each member's name, and the span from
        the name to where its value begins; it returns where the value ends."""
        view = self._view
        if view[at : at + 1] != "{":
            raise ValueError("found another value, expected an object")
        at = self._space(at + 1)
        if view[at : at + 1] == "}":
            return at + 1
        names = set()
        while True:
            if view[at : at + 1] != '"':
                raise ValueError("a JSON object without a name where one belongs")
            colon = self._space(end := self._skip(at))
            name = strict_json.loads(self.data[at:end])
            if view[colon : colon + 1] != ":":
                raise ValueError("a JSON object without a colon where one belongs")
            if name in names:
                raise ValueError("a name that stands twice in one JSON object")
            names.add(name)
            at = self._space(take(name, Span(at, self._space(colon + 1))))
            mark = view[at : at + 1]
            if mark == "}":
                return at + 1
            if mark != ",":
                raise ValueError("a JSON object without a comma where one belongs")
            at = self._space(at + 1)

    def _array_below(self, at: int, path: Sequence[str], taker: _Taker) -> tuple[list[Span], int]:
        if not path:
            return self._items(at, taker)
        found: list[list[Span]] = []

        def take(name: str, span: Span) -> int:
            if name == path[0]:
                items, end = self._array_below(span.end, path[1:], taker)
                found.append(items)
                return end
            if folded(name) == folded(path[0]):
                raise ValueError(f"found {name!r}, another spelling of {path[0]!r}")
            return self._read(span.end)[1]

        end = self._object(at, take)
        if not found:
            raise ValueError(f"no member {path[0]!r}")
        return found[0], end

    def _items(self, at: int, taker: _Taker) -> tuple[list[Span], int]:
        view = self._view
        if view[at : at + 1] != "[":
            raise ValueError("found another value, expected an array")
        start, at = at, self._space(at + 1)
        if view[at : at + 1] == "]":
            return [], at + 1
        starts, ends, at = self._walk(at, taker)
        if view[at - 1 : at] != "]":
            raise ValueError("a JSON array without a comma where one belongs")
        self._ends[start] = at
        return list(map(_span_of, zip(starts, ends, strict=True))), at

    def _walk(self, at: int, taker: _Taker) -> tuple[list[int], list[int], int]:
        """Walk the items of which the first begins here: -> (where each begins, where each ends, the place after the
        mark that ends them)."""
        view, most, starts, ends = self._view, taker.most, list[int](), list[int]()
        while (flat := self._flat(at, min(taker.together, most - len(ends)))) is not None:
            taker.take(len(ends), flat.values)
            starts += flat.starts
            ends += flat.ends
            at = self._space(ends[-1])
            if view[at : at + 1] != ",":
                return starts, ends, at + 1
            at = self._space(at + 1)
        return starts, ends, self._walk_each(at, taker, starts, ends)

    def _walk_each(self, at: int, taker: _Taker, starts: list[int], ends: list[int]) -> int:
        """Walk the items from here on one by one, after those that are known: -> the place after the mark that ends
        them."""
        view, scan, (most, together, take) = self._view, self._scan, taker
        values = list[Any]()
        for _ in range(most - len(ends)):
            try:
                # most writers put one blank after a comma, or none
                if view[at] == " ":
                    at += 1
                if view[at] in _SPACES:
                    at = self._space(at)
                starts.append(at)
                value, at = scan(view, at)
                mark = view[at]
            except (StopIteration, IndexError):
                raise ValueError("a JSON value that is missing or broken") from None
            except RecursionError:
                raise ValueError("JSON nested too deeply") from None
            values.append(value)
            ends.append(at)
            if len(values) == together:
                take(len(ends) - together, values)
                values = []
            if mark in _SPACES:
                at = self._space(at)
                mark = view[at : at + 1]
            at += 1
            if mark != ",":
                break
        else:
            raise TooMany(f"more than {most} items")
        if values:
            take(len(ends) - len(values), values)
        return at

    def _flat(self, at: int, most: int) -> _Flat | None:
        """Read the items from here on in one step, `most` or fewer: objects without an object in them, with the same
        between any two, as most are. None where they are others, or have a fault, which is found one by one.

        As many `}` as objects are one for each: so none stands in a text, and each ends an item.
        """
        view, find = self._view, self._view.find
        end = find("}", at) + 1
        between = view[end : find("{", end, end + _BETWEEN) + 1]
        if most < 2 or view[at : at + 1] != "{" or between[:-1].strip(_SPACES) != ",":
            return None
        starts, ends, step = [at], [end], len(between) - 1
        while len(ends) < most and view.startswith(between, end):
            starts.append(end + step)
            end = find("}", end + step) + 1
            ends.append(end)
        try:
            values = strict_json.loads(b"[%b]" % self.data[at:end])
        except ValueError:
            return None
        whole = len(values) == len(ends) and set(map(type, values)) == {dict}
        return _Flat(starts, ends, values) if whole else None


class _Flat(NamedTuple):
    starts: list[int]
    ends: list[int]
    values: list[Any]


Take = Callable[[int, list[Any]], None]
"""Takes values: (the number of the first, all of them)."""


class _Taker(NamedTuple):
    most: int
    together: int
    take: Take


class TooMany(ValueError):
    """An array has more items than it may have."""


class Replacement(NamedTuple):
    """Bytes to put in the place of a span."""

    span: Span
    text: bytes = b""


_change_of: Callable[[tuple[Span, bytes]], Replacement] = partial(tuple.__new__, Replacement)


def without(spans: Sequence[Span], gone: Iterable[int]) -> Iterator[Replacement]:
    """Yield what takes elements out of an array or an object, each with one comma. `gone` are their
    indexes. What stays keeps the white space that stands before it, but for the first."""
    lost = sorted(gone)
    if not lost:
        return
    if len(lost) == len(spans):
        yield Replacement(Span(spans[0].start, spans[-1].end))
        return
    # those in a row in one piece
    begins = [lost[0], *[after for before, after in pairwise(lost) if after != before + 1]]
    ends = [*[before for before, after in pairwise(lost) if after != before + 1], lost[-1]]
    for first, last in zip(begins, ends, strict=True):
        if first == 0:
            # up to the first that stays with what follows them
            yield Replacement(Span(spans[0].start, spans[last + 1].start))
        else:
            yield _change_of((_span_of((spans[first - 1].end, spans[last].end)), b""))


def spliced(data: bytes, changes: Iterable[Replacement]) -> bytes:
    """Return the text with these changes, which do not overlap."""
    view = memoryview(data)
    parts: list[bytes | memoryview] = []
    at = 0
    for (start, end), text in sorted(changes):
        parts += (view[at:start], text)
        at = end
    parts.append(view[at:])
    return b"".join(parts)
