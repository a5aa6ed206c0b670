"""Specs, access logs and recordings -> sightings, one after the other, each file by its format."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from sidecar.imports import alb, combined, har, json_lines, openapi, postman
from sidecar.imports.documents import NoDocument
from sidecar.imports.documents import read as read_document
from sidecar.imports.files import STDIN, UNREADABLE, InputFile, lines, open_source, whole
from sidecar.imports.json_stream import NotJson, members
from sidecar.imports.sighting import Broken, Location, Notes, Sighting, UnusableFile
from sidecar.imports.targets import LoggedRequest, Skipped, read_method, read_path, split_url

_LINES: Mapping[str, tuple[Callable[[bytes], bool], Callable[[bytes], LoggedRequest]]] = {
    "alb": (alb.is_line, alb.read_line),
    "caddy": (json_lines.is_caddy, json_lines.caddy),
    "envoy": (json_lines.is_envoy, json_lines.envoy),
    "combined": (combined.is_line, combined.read_line),
}
_SPECS = ("openapi", "postman")
FORMATS = ("openapi", "postman", "har", *_LINES)
"""Formats by name, in the order in which they are read: what a spec names, a log tells more of."""
_KNOWN = (
    "expected OpenAPI 3 or Swagger 2, HAR, a Postman collection, or an access log of nginx or Apache (combined), "
    "Caddy (JSON), Envoy (JSON) or AWS ALB; name it with --format where it is one"
)
_LOOKED_AT = 100
"""Lines at the beginning of a log by which its format is told."""
_DOCUMENTS = (
    (
        "openapi",
        re.compile(
            rb"^[\"']?(?:openapi|swagger)[\"']?\s*:|[{,]\s*\"(?:openapi|swagger)\"\s*:\s*\"[23]", re.MULTILINE
        ),
    ),
    ("postman", re.compile(rb"\"_postman_id\"|\"schema\"\s*:\s*\"https?://schema\.(?:get)?postman\.com/")),
    ("har", re.compile(rb"^\s*\{\s*\"log\"\s*:\s*\{")),
)  # fmt: skip


def sightings(
    files: Iterable[str],
    stdin: io.BufferedIOBase,
    notes: Notes | None = None,
    *,
    given_format: str = "",
    host: str = "",
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Sighting]:
    """Every sighting of the files, those of specs first. `-` is stdin.

    `notes` counts what cannot be read. `given_format` is that of all files, else each is told by its content. `host`
    leaves out requests to other hosts, where a log names it; without it a recording is read for the host of its first
    entry. `progress` gets the bytes of the file that were read so far. Raises UnusableFile, with all those files.
    """
    noted = Notes() if notes is None else notes
    opened = _opened(list(files), stdin, given_format, progress)
    for form, source in sorted(opened, key=lambda pair: FORMATS.index(pair[0])):
        with source.stream:
            for sighting in read_source(form, source, noted, host.lower()):
                noted.read[source.name, form] += 1
                yield sighting


def _opened(
    files: list[str], stdin: io.BufferedIOBase, given_format: str, progress: Callable[[int], None]
) -> list[tuple[str, InputFile]]:
    opened, problems = [], []
    if files.count(STDIN) > 1:
        problems.append("- (stdin) is named twice, expected it once")
    for name in dict.fromkeys(files):
        try:
            source = open_source(name, stdin, progress)
            opened.append((given_format or format_of(source), source))
        except UnusableFile as fault:
            problems += fault.problems
    if problems:
        for _, source in opened:
            source.stream.close()
        raise UnusableFile(problems)
    return opened


def format_of(source: InputFile) -> str:
    """Return the format of a file by its first bytes. Raises UnusableFile."""
    head = source.head.removeprefix(b"\xef\xbb\xbf")
    if not head.strip():
        raise UnusableFile([f"{source.name}: found an empty file, {_KNOWN}"])
    first = [line for line in head.split(b"\n", _LOOKED_AT)[:_LOOKED_AT] if line.strip()]
    counts = {form: sum(map(is_line, first)) for form, (is_line, _) in _LINES.items()}
    best = max(counts, key=lambda form: counts[form])
    if counts[best]:
        return best
    for form, pattern in _DOCUMENTS:
        if pattern.search(head):
            return form
    raise UnusableFile([f"{source.name}: found no format that is known, {_KNOWN}"])


def read_source(form: str, source: InputFile, notes: Notes, host: str = "") -> Iterator[Sighting]:
    """The sightings of one open file of a format. Raises UnusableFile."""
    if form in _SPECS:
        return _of_document(form, source, notes)
    if form == "har":
        return _of_recording(source, notes, host)
    return _of_lines(source, notes, _LINES[form][1], host)


def _of_document(form: str, source: InputFile, notes: Notes) -> Iterator[Sighting]:
    expected = "a spec with `paths`" if form == "openapi" else "a collection with `item`"
    try:
        root = read_document(whole(source))
    except NoDocument as fault:
        raise UnusableFile([f"{source.name}: {fault}, expected {expected}"]) from None
    if form == "postman" and isinstance(root, Mapping) and isinstance(root.get("collection"), Mapping):
        root = root["collection"]  # as Postman's API gives it
    if not isinstance(root, Mapping) or not isinstance(
        root.get("paths" if form == "openapi" else "item"), Mapping | list
    ):
        raise UnusableFile([f"{source.name}: found another document, expected {expected}"])
    if form == "openapi":
        yield from openapi.sightings(root, source.name)
    else:
        yield from postman.sightings(root, source.name, notes)


def _of_recording(source: InputFile, notes: Notes, host: str) -> Iterator[Sighting]:
    at = 0
    try:
        for at, entry in enumerate(members(source.stream, ("log", "entries")), 1):
            place = Location(source.name, f"entry {at}")
            try:
                seen = har.read_entry(entry)
                host = host or split_url(seen.target)[0]
                yield _sighting(seen, place, host)
            except Broken as fault:
                notes.note_broken(place, fault)
            except Skipped as reason:
                notes.note_skipped(place, str(reason))
    except (NotJson, *UNREADABLE) as fault:
        said = str(fault) if isinstance(fault, NotJson) else "no whole file"
        notes.note_broken(
            Location(source.name, f"after entry {at}"), Broken(said, 'a recording {"log": {"entries": [ … ]}}')
        )


def _of_lines(
    source: InputFile, notes: Notes, read_line: Callable[[bytes], LoggedRequest], host: str
) -> Iterator[Sighting]:
    number = 0
    try:
        for number, line in lines(source.stream):
            if line is None:
                notes.note_broken(Location(source.name, number), Broken("a line that is too long", "at most 256 KiB"))
            elif line.strip():
                place = Location(source.name, number)
                try:
                    yield _sighting(read_line(line), place, host)
                except Broken as fault:
                    notes.note_broken(place, fault)
                except Skipped as reason:
                    notes.note_skipped(place, str(reason))
    except UNREADABLE:
        notes.note_broken(
            Location(source.name, number + 1), Broken("no whole file", "a file that can be read to its end")
        )


def _sighting(seen: LoggedRequest, place: Location, host: str) -> Sighting:
    """Raises Skipped."""
    method = read_method(seen.method)
    named, target = split_url(seen.target)
    named = named or seen.host
    if host and named and named != host:
        raise Skipped("another host, which --host may name")
    if target == b"*":
        raise Skipped("the target *, which is of no resource")
    segments, query = read_path(target)
    return Sighting(method, segments, place, query, seen.status or None, seen.websocket, host=named)
