"""Members of a JSON object that are taken out or put otherwise, each with the bytes around it as they came."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from sidecar.gate.query import taken_for
from sidecar.wire.json_slices import JsonText, Replacement, Span, without
from sidecar.wire.spelling import folded


class Edit(NamedTuple):
    """Edit of one member: `path` are the names that lead to it, `text` makes of its JSON text another, or b"" to take
    it out."""

    path: tuple[str, ...]
    text: Callable[[bytes], bytes]


class FieldRule(NamedTuple):
    """Field that stays where `action` is allowed. Without the right it is left out, or `mask`, a JSON text, stands in
    its place. `parameters` are names in a query that search it, though they do not have its name in them."""

    path: tuple[str, ...]
    action: str
    mask: bytes = b""
    parameters: tuple[str, ...] = ()

    def hide(self) -> Edit:
        """Return the edit that hides it."""
        return Edit(self.path, lambda _: self.mask)

    def is_searched(self, asked: SearchQuery) -> bool:
        """Return whether a query may search or sort by the field: it has the field's name in it, as `phone_like`,
        `filter[phone]` or `sort=-phone`, or one of the `parameters`."""
        return asked.has(self.path[-1]) or any(not taken_for(name).isdisjoint(asked.names) for name in self.parameters)


class SearchQuery(NamedTuple):
    """Reading of a query: its words in one, without case, and the places between them; and all names that a server may
    find."""

    text: str
    places: frozenset[int]
    names: frozenset[str]

    def has(self, name: str) -> bool:
        """Return whether some words in a row are a name, however both are divided."""
        wanted = "".join(_words(name))
        at = self.text.find(wanted)
        while at >= 0:
            if at in self.places and at + len(wanted) in self.places:
                return True
            at = self.text.find(wanted, at + 1)
        return False


def asked_of(query: bytes) -> SearchQuery:
    """Read a query so that no name in it goes unseen: what is escaped twice or within JSON, too."""
    text, names = query, set[str]()
    for _ in range(_ROUNDS):
        names.update(_decoded(pair.partition(b"=")[0]) for pair in _PAIRS.split(text))
        before, text = text, unquote_to_bytes(text.replace(b"+", b" "))
        if text == before:
            break
    words = _words(_decoded(text))
    places = accumulate(map(len, words), initial=0)
    return SearchQuery("".join(words), frozenset(places), frozenset().union(*map(taken_for, names)))


_ROUNDS = 3
"""Times that a query is decoded."""
_PAIRS = re.compile(rb"[&;]")
_BOUNDARY = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])")
# of a string in JSON, and of old servers of Microsoft's
_ESCAPE = re.compile(r"[\\%]u([0-9A-Fa-f]{4})")


def _decoded(data: bytes) -> str:
    text = unquote_to_bytes(data.replace(b"+", b" ")).decode("utf-8", "replace")
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)


def _words(text: str) -> list[str]:
    """`phoneNumber` and `phone-number` are the same two words."""
    return [folded(word) for word in _BOUNDARY.split(text) if word]


def searched_by(query: bytes, fields: Sequence[FieldRule]) -> list[str]:
    """List the actions that show the fields which a query searches or sorts by, each once."""
    if not query or not fields:
        return []
    asked = asked_of(query)
    return list(dict.fromkeys([rule.action for rule in fields if rule.is_searched(asked)]))


def changes(text: JsonText, place: Span, edits: Sequence[Edit]) -> Iterator[Replacement]:
    """Yield the changes of an object that carry out all edits. A member that is not there needs none.

    Raises ValueError where a path leads into a value that is neither an object nor null, for what it holds is not
    known, and for a member whose name is another spelling of one: a reader without case takes it for the same.
    """
    members = text.members(place)
    gone: list[int] = []
    spellings = {folded(edit.path[0]) for edit in edits}
    for at, member in enumerate(members):
        if folded(member.name) not in spellings:
            continue
        found = [edit for edit in edits if edit.path[0] == member.name]
        if not found:
            raise ValueError(f"found {member.name[:64]!r}, another spelling of a name that the route has")
        now = text.data[member.value.start : member.value.end]
        whole = [edit for edit in found if len(edit.path) == 1]
        if whole:
            made = whole[0].text(now)
            if made:
                yield Replacement(member.value, made)
            else:
                gone.append(at)
        elif now != b"null":
            yield from changes(text, member.value, [edit._replace(path=edit.path[1:]) for edit in found])
    yield from without([member.whole for member in members], gone)
