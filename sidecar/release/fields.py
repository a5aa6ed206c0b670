"""Members of a JSON object that are taken out or put otherwise, each with the bytes around it as they came."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from sidecar.gate.query import taken_for
from sidecar.wire.json_slices import Change, JsonText, Span, without
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

    def is_searched(self, asked: Asked) -> bool:
        """Return whether a query may search or sort by the field: it has the field's name in it, as `phone_like`,
        `filter[phone]` or `sort=-phone`, or one of the `parameters`."""
        return _words(self.path[-1]) in asked.words or any(
            not taken_for(name).isdisjoint(asked.names) for name in self.parameters
        )


class Asked(NamedTuple):
    """Reading of a query: its words, each between spaces and without case, and all names that a server may find."""

    words: str
    names: frozenset[str]


def asked_of(query: bytes) -> Asked:
    """Read a query so that no name in it goes unseen: what is escaped twice, too."""
    text = query
    for _ in range(3):
        text = unquote_to_bytes(text.replace(b"+", b" "))
    names = [unquote_to_bytes(pair.partition(b"=")[0]).decode("utf-8", "replace") for pair in query.split(b"&")]
    return Asked(_words(text.decode("utf-8", "replace")), frozenset().union(*map(taken_for, names)))


_BOUNDARY = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])")


def _words(text: str) -> str:
    """`phoneNumber` and `phone-number` are the same two words."""
    return f" {' '.join(map(folded, filter(None, _BOUNDARY.split(text))))} "


def changes(text: JsonText, place: Span, edits: Sequence[Edit]) -> Iterator[Change]:
    """Yield the changes of an object that carry out all edits. A member that is not there needs none.

    Raises ValueError where a path leads into a value that is neither an object nor null: what it holds is not known.
    """
    members = text.members(place)
    gone: list[int] = []
    for at, member in enumerate(members):
        found = [edit for edit in edits if edit.path[0] == member.name]
        if not found:
            continue
        now = text.data[member.value.start : member.value.end]
        whole = [edit for edit in found if len(edit.path) == 1]
        if whole:
            made = whole[0].text(now)
            if made:
                yield Change(member.value, made)
            else:
                gone.append(at)
        elif now != b"null":
            yield from changes(text, member.value, [edit._replace(path=edit.path[1:]) for edit in found])
    yield from without([member.whole for member in members], gone)
