"""Members of a JSON object that are taken out or put otherwise, each with the bytes around it as they came."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from sidecar.wire.json_slices import Change, JsonText, Span, without


class Edit(NamedTuple):
    """Edit of one member: `path` are the names that lead to it, `text` makes of its JSON text another, or b"" to take
    it out."""

    path: tuple[str, ...]
    text: Callable[[bytes], bytes]


class FieldRule(NamedTuple):
    """Field that stays where `action` is allowed. Without the right it is left out, or `mask`, a JSON text, stands in
    its place."""

    path: tuple[str, ...]
    action: str
    mask: bytes = b""

    def hide(self) -> Edit:
        """Return the edit that hides it."""
        return Edit(self.path, lambda _: self.mask)


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
