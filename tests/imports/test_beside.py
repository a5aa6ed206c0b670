"""Paths that have a word, or what is no value at all, in the place of a number or UUID of a spec."""

from __future__ import annotations

import pytest

from sidecar.gate.routing import Variable, parse_path
from sidecar.imports.beside import is_other_spelling, path_beside
from sidecar.imports.sighting import path_of

UUID = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"


@pytest.mark.parametrize(
    ("declared", "seen", "path"),
    [
        ("/reports/{id:int}", "/reports/7", "/reports/{id:int}"),
        ("/reports/{id:int}", "/reports/007", "/reports/{id:int}"),
        ("/reports/{id:int}", "/reports/export", "/reports/export"),
        ("/reports/{id:int}", "/reports/export.csv", "/reports/export.csv"),
        ("/reports/{id:int}", "/reports/7.pdf", "/reports/{id:int}.pdf"),
        ("/reports/{id:int}.pdf", "/reports/summary.pdf", "/reports/summary.pdf"),
        ("/reports/{id:uuid}", f"/reports/{UUID.upper()}", "/reports/{id:uuid}"),
        ("/reports/{id:uuid}", "/reports/summary", "/reports/summary"),
        ("/users/{name}/reports/{id:int}/x", "/users/bob/reports/export/x", "/users/{name}/reports/export/x"),
        ("/users/{name}", "/users/export", "/users/{name}"),
        # where a log alone would tell names, they are names here too
        ("/users/{id:int}", "/users/alice", None),
        ("/user/{id:int}", "/user/alice", "/user/alice"),
        ("/reports/{id:int}", f"/reports/{UUID}", None),
        ("/reports/{id:int}", "/reports/INV-7", None),
        ("/reports/{id:uuid}", "/reports/7", None),
    ],
)
def test_a_word_in_the_place_of_a_number_or_uuid_is_a_path_of_its_own(
    declared: str, seen: str, path: str | None
) -> None:
    found = path_beside(parse_path(declared), seen[1:].split("/"))
    assert (None if found is None else path_of(found)) == path


def test_a_variable_of_a_collection_may_have_any_value() -> None:
    declared = parse_path("/reports/{id:int}")
    assert path_beside(declared, parse_path("/reports/{x}")) == declared


@pytest.mark.parametrize(
    ("declared", "other", "none"),
    [
        ("/{x:int}", ("007", "+7", "-7", "7.0", "7."), ("7", "0", "export", "7a", "1.5", UUID)),
        ("/{x:uuid}", (UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}"), (UUID, "7", "export")),
        ("/{x}", (), ("007", "export")),
    ],
)
def test_another_spelling_is_one_of_the_same_value(
    declared: str, other: tuple[str, ...], none: tuple[str, ...]
) -> None:
    (variable,) = parse_path(declared)
    assert isinstance(variable, Variable)
    assert [is_other_spelling(variable, text) for text in (*other, *none)] == [True] * len(other) + [False] * len(none)
