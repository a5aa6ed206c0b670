"""Sightings of an app: each operation of a spec, and each request of a log or a recording, without any value."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sidecar.gate.routing import Pattern, Rest, Segment, Variable

SHOWN = 5
"""Places that a report shows of each kind of fault."""


class Location(NamedTuple):
    """Where something was found: a file, and in it a line, an entry or a path of a document."""

    file: str
    at: int | str

    def __str__(self) -> str:
        return f"{self.file}:{self.at}" if isinstance(self.at, int) else f"{self.file}: {self.at}"


class SpecOperation(NamedTuple):
    """One operation of a spec, beside its method and path. `prefix` is the path of the spec's server, which clients
    send before it; `attributes` are names of the answer's fields."""

    id: str = ""
    tags: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    gives_list: bool = False
    is_open: bool = False
    """Its security is empty: anybody may call it, says the spec."""
    prefix: tuple[str, ...] = ()
    types: Mapping[str, str] = {}
    """Type of each variable as the spec says it, such as `integer`."""


class Sighting(NamedTuple):
    """One request that was seen, or one operation that a spec names.

    `segments` are texts where a log has them, and variables where a spec or a collection has them. `query` are names of
    parameters. `status` is the app's, None where nobody answered yet. `host` is "" where nothing tells it.
    """

    method: str
    segments: tuple[Segment, ...]
    place: Location
    query: tuple[str, ...] = ()
    status: int | None = None
    websocket: bool = False
    operation: SpecOperation | None = None
    host: str = ""

    @property
    def path(self) -> str:
        """The path as `routes.yaml` would have it. Of a log it has the ids that clients sent: not for a report."""
        return path_of(self.segments)


def path_of(segments: Sequence[Segment]) -> str:
    """Return segments as the path of a route."""
    return "/" + "/".join(map(_text, segments))


def _text(segment: Segment) -> str:
    if isinstance(segment, Variable):
        narrow = "" if segment.pattern is Pattern.DEFAULT else f":{segment.pattern}"
        return f"{segment.before}{{{segment.name}{narrow}}}{segment.after}"
    return "**" if isinstance(segment, Rest) else segment


class UnusableFile(Exception):
    """A file cannot be read at all; each of `problems` says which, what was found and what is expected."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class Broken(Exception):
    """One line or entry is not what its format says. `found` names a form and never repeats the text."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"found {found}, expected {expected}")


@dataclass
class Notes:
    """Counts of a reading: what was read and what was not, with the first places of each. `read` counts by file and
    format; `skipped` are requests that are no evidence, by the reason."""

    read: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    broken_places: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    skipped_places: dict[str, list[str]] = field(default_factory=dict)

    def note_broken(self, place: Location, fault: Exception) -> None:
        """Count a line that cannot be read."""
        self.broken[place.file] += 1
        if self.broken[place.file] <= SHOWN:
            self.broken_places.append(f"{place}: {fault}")

    def note_skipped(self, place: Location, reason: str) -> None:
        """Count a request that is no evidence."""
        self.skipped[reason] += 1
        places = self.skipped_places.setdefault(reason, [])
        if len(places) < SHOWN:
            places.append(str(place))


_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.-]{0,39}(?:\[[A-Za-z_]{0,24}\]){0,3}")
# a name of digits and letters in turn is a token, and one of both cases without a word in it
_TOKEN_LIKE = re.compile(r"(?:[A-Za-z]+[0-9]+){2,}[A-Za-z]*|[0-9a-fA-F-]{16,}|[A-Za-z0-9_-]{25,}|eyJ.*")
MAX_NAME = 48


def is_name(text: str) -> bool:
    """Return whether a parameter's name is a name and no value: clients write what they like there."""
    return len(text) <= MAX_NAME and bool(_NAME.fullmatch(text)) and not _TOKEN_LIKE.fullmatch(text)
