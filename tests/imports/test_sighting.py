"""Sightings have paths as routes.yaml has them, and names that are no values."""

from __future__ import annotations

import pytest

from sidecar.gate.routing import parse_path
from sidecar.imports.sighting import SHOWN, Broken, Location, Notes, Sighting, UnusableFile, is_name, path_of


@pytest.mark.parametrize("path", ["/", "/a/{id}", "/a/{id:int}.json", "/v1/{x:uuid}/b/", "/files/**", "/{a:any}"])
def test_segments_are_written_as_they_were_read(path: str) -> None:
    assert path_of(parse_path(path)) == path
    assert Sighting("GET", parse_path(path), Location("f", 1)).path == path


@pytest.mark.parametrize("name", ["page", "_sort", "filter[name]", "$top", "user.id", "page_size", "X-Y", "utf8", "q2"])
def test_a_name_is_a_name(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "1700000000", "a b", "alice@example.com", "eyJhbGciOi", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "deadbeefdeadbeef",
        "A1b2C3d4", "x" * 49, "Zm9vYmFyYmF6cXV4cXV1eGNvcmdl", "a/b", "<script>", "f[a@b]", "\u00e4",
    ],
)  # fmt: skip
def test_a_value_is_no_name(name: str) -> None:
    assert not is_name(name)


def test_faults_are_counted_and_the_first_are_shown_with_their_place() -> None:
    notes = Notes()
    for line in range(1, 9):
        notes.note_broken(Location("a.log", line), Broken("no status", "a status"))
        notes.note_skipped(Location("a.har", f"entry {line}"), "no answer came")
    assert notes.broken == {"a.log": 8}
    assert notes.broken_places[0] == "a.log:1: found no status, expected a status"
    assert len(notes.broken_places) == SHOWN
    assert notes.skipped == {"no answer came": 8}
    assert notes.skipped_places["no answer came"] == [f"a.har: entry {line}" for line in range(1, SHOWN + 1)]


def test_all_unusable_files_are_named() -> None:
    assert str(UnusableFile(["a: one", "b: two"])) == "a: one\nb: two"
