"""Lists in JSON-RPC messages, whole or in a stream of events: each item is decided by itself.

A rule looks at what a message has in it, and not at what was asked for: servers tell two requests of one session apart
by their ids, which the client chooses, and send what was missed once more. So no list goes out unjudged, whichever
request it comes in answer to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sidecar.gate.codes import Code
from sidecar.gate.obligation import HeldAnswer, Judge, Reduce, Reduced, ReduceEither, ReduceLines
from sidecar.gate.verdict import Refused
from sidecar.release.content import honest_headers, readable, require_readable
from sidecar.release.items import MAX_SIZE, ItemsRule
from sidecar.release.lines import Windows
from sidecar.wire.json_slices import JsonText, Member, Replacement, spliced
from sidecar.wire.spelling import folded

RESULT, SCOPE = "result", "cacheScope"
MAX_EVENT = 4 * 1024 * 1024
"""Bytes of one event."""
_PLAIN = bytes((*b"\t\n\r", *range(0x20, 0x7F)))
"""Characters of which a name with no escape of another has one spelling, but for its case."""
_STREAM = b"text/event-stream"
_PRIVATE = b'"private"'
_JSON: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]


@dataclass(frozen=True, slots=True)
class MessagesRule:
    """Rule for answers that are JSON-RPC messages: `lists` are members of a result that are lists, each with the rule
    for its items."""

    lists: Mapping[str, ItemsRule]
    max_size: int = MAX_SIZE
    wait: ClassVar[float] = 0.0
    asks: ClassVar[tuple[str, ...]] = ()
    lookups: ClassVar[tuple[str, ...]] = ()
    nothing: ClassVar[None] = None

    def searched(self, query: bytes) -> Sequence[tuple[str, str]]:
        """No query searches in a list."""
        return ()

    def demand(self, judge: Judge, granted: frozenset[str], pushed: str) -> ReduceEither:
        """Demand that only allowed items be released, of a message or of each event."""
        return ReduceEither(Reduce(self, judge, granted, pushed), ReduceLines(self, judge), is_stream)

    # --- a message that is held whole ---

    async def reduce(self, held: HeldAnswer, judge: Judge, granted: frozenset[str]) -> Reduced:
        """Drop the items of a list that the principal may not see. Raises Refused: ITEMS_UNREADABLE, ITEMS_TOO_MANY, or
        PDP_* where one of them could not be decided."""
        held = held._replace(headers=honest_headers(held.headers))
        body = readable(held) if held.body else None
        if body is None:
            return Reduced(held, {})
        made, counts = await self._message(body, judge)
        return Reduced(held._replace(body=made), counts)

    async def _message(self, data: bytes, judge: Judge) -> tuple[bytes, Mapping[str, int]]:
        """Reduce one message: -> (what is left of it, the numbers of that)."""
        if not self._may_have_list(data):
            return data, {}
        try:
            name, changes = self._list_in(JsonText(data))
        except ValueError as error:
            raise Refused(Code.ITEMS_UNREADABLE, f"a message: {error}") from None
        if not name:
            return data, {}
        reduced = await self.lists[name].reduce(HeldAnswer(200, _JSON, spliced(data, changes)), judge, frozenset())
        return reduced.answer.body or b"", reduced.counts

    def _may_have_list(self, data: bytes) -> bool:
        """Return whether a message may have a member that is a list, in whatever spelling: most have none, and are not
        read."""
        if data.translate(None, _PLAIN) or b"\\u" in data:
            return True
        text = data.decode("ascii").lower()
        for name in self.lists:  # noqa: SIM110 - a generator costs more than all the rest
            if name.lower() in text:
                return True
        return False

    def _list_in(self, text: JsonText) -> tuple[str, list[Replacement]]:
        """Find the list in a message: -> (the name of its member, "" where there is none, and what keeps it from caches
        that it is not for). Raises ValueError."""
        result = _member(text.members(text.whole()), RESULT)
        if result is None:
            return "", []
        members = text.members(result.value)
        found = [name for name in self.lists if _member(members, name) is not None]
        if len(found) > 1:
            raise ValueError(f"found {found[0]!r} and {found[1]!r} in one result")
        scope = _member(members, SCOPE)
        # for this principal alone, whatever the server says of all of them
        return (found[0], [] if scope is None else [Replacement(scope.value, _PRIVATE)]) if found else ("", [])

    # --- a stream of events ---

    def units(self) -> Events:
        """Return what splits a stream into events."""
        return Events()

    def begin(self, held: HeldAnswer) -> tuple[HeldAnswer, bool]:
        """Return the head of a stream. Raises Refused(ITEMS_UNREADABLE)."""
        require_readable(held, _STREAM.__eq__)
        return held._replace(headers=honest_headers(held.headers)), True

    async def window(self, lines: Sequence[bytes], judge: Judge) -> bytes:
        """Return the events, of which those with a list have only the allowed items of it. Raises Refused."""
        return b"".join([await self._event(event, judge) for event in lines])

    async def _event(self, event: bytes, judge: Judge) -> bytes:
        if not self._may_have_list(event):
            return event
        data, others = _fields(event)
        if not data:
            return event
        made, _ = await self._message(data, judge)
        if made is data:
            return event
        return b"".join(
            [*(line + b"\n" for line in others), *(b"data: " + line + b"\n" for line in made.split(b"\n")), b"\n"]
        )


def is_stream(held: HeldAnswer) -> bool:
    """Return whether an answer is a stream of events (WHATWG HTML, "Server-sent events")."""
    kinds = [value for name, value in held.headers if name == b"content-type"]
    return len(kinds) == 1 and kinds[0].partition(b";")[0].strip().lower() == _STREAM


def _member(members: Sequence[Member], name: str) -> Member | None:
    """The member of a name. Raises ValueError for another spelling of it, which a client may take for the same."""
    found = None
    for member in members:
        if member.name == name:
            found = member
        elif len(member.name) >= len(name) and folded(member.name) == folded(name):
            raise ValueError(f"found {member.name[:64]!r}, another spelling of {name!r}")
    return found


def _fields(event: bytes) -> tuple[bytes, list[bytes]]:
    """Read an event: -> (its data, its other lines). Raises Refused for what clients read in two ways."""
    data, others = list[bytes](), list[bytes]()
    for line in event.split(b"\n"):
        line = line.removesuffix(b"\r")
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif b"\r" in line or _ODD_DATA.match(line):
            raise Refused(Code.ITEMS_UNREADABLE, "an event: found a line that clients read in two ways")
        elif line:
            others.append(line)
    whole = b"\n".join(data)
    if b"\r" in whole:
        raise Refused(Code.ITEMS_UNREADABLE, "an event: found a line that clients read in two ways")
    return whole, others


_ODD_DATA = re.compile(rb"\xef\xbb\xbf|[ \t]*data(?![A-Za-z0-9_-])", re.IGNORECASE)
"""A line with data for some clients: behind a byte order mark or blanks, or in capitals."""
_END = re.compile(rb"\n\r?\n")


class Events(Windows):
    """Pieces of an answer -> events of it. What stands after the last one's end is one, as some clients have it."""

    def __init__(self, most: int = MAX_EVENT) -> None:
        super().__init__(most, "an event")

    def add(self, piece: bytes) -> None:
        """Take what came. Raises Refused(ITEMS_UNREADABLE) for an event that is too large."""
        # an end may have begun in what is there already
        seen = max(len(self._rest) - 2, 0)
        self._rest += piece
        found, start = list[bytes](), 0
        for end in _END.finditer(self._rest, seen):
            found.append(bytes(self._rest[start : end.end()]))
            start = end.end()
        del self._rest[:start]
        self._keep(found)
