"""Contradictions are told with their places."""

from __future__ import annotations

import pytest

from sidecar.imports.conflicts import conflicts
from tests.imports.collecting import collect, spec


def told(*requests: str, **options: object) -> list[str]:
    return list(conflicts(collect(*requests, **options)))  # type: ignore[arg-type]


def test_where_nothing_contradicts_nothing_is_told() -> None:
    assert told("GET /c/7", "GET /c/mine", specs=(spec("GET /c/mine", "GET /c/{x}", "POST /c"),)) == []


@pytest.mark.parametrize(
    ("first", "later", "differs"),
    [
        ("GET /c/{x}", "GET /c/mine", True),
        ("GET /c/mine", "GET /c/{x}", False),
        ("GET /c/{x}", "POST /c/mine", False),
        ("GET /a/{x}/c", "GET /a/b/{y}", True),
        ("GET /a/b/{y}", "GET /a/{x}/c", False),
        ("GET /c/{x}", "GET /c/{x}.json", True),
        ("GET /c/{x}.json", "GET /c/{x}.csv", False),
        ("GET /c/{x}/a", "GET /c/mine/b", False),
    ],
)
def test_an_app_that_serves_the_first_declared_decides_otherwise(first: str, later: str, differs: bool) -> None:
    found = told(specs=(spec(first, later),))
    assert (len(found) == 1) == differs
    if differs:
        assert found[0].startswith(f"{first} stands before {later.split()[1]} in 0.yaml: paths.{first.split()[1]}.get")


def test_specs_that_disagree_are_told() -> None:
    one, other = spec("GET /c readC"), spec("GET /c fetchC", security=[])
    assert told(specs=(one, other)) == [
        "GET /c: specs call it 'fetchC' and 'readC'", "GET /c: specs disagree whether it needs credentials",
    ]  # fmt: skip


def test_one_path_in_two_spellings_is_told() -> None:
    (found,) = told(specs=(spec("GET /c/{a}", "PUT /c/{b}"),))
    assert found.startswith("0.yaml: paths./c/{b}.put: /c/{b} names the same paths as /c/{a}")


def test_the_prefix_is_told_with_what_had_it() -> None:
    (found,) = told("GET /c", "GET /c", specs=(spec("GET /c", servers=[{"url": "/api"}]),))
    assert "/api, which 0 requests had and 2 had not: the draft is without it" in found


def test_a_variable_that_may_take_several_segments_is_told() -> None:
    (found,) = told("GET /files/a/b", "GET /files/a/c/7", specs=(spec("GET /files/{x}"),))
    assert found.startswith("/files/{x} of the spec: 2 requests with further segments behind it")
    assert found.endswith("the route is /files/**")


def test_other_spellings_of_a_path_are_told() -> None:
    assert told("GET /contacts/7", "GET /Contacts/7", "GET /contacts/7/") == [
        "/contacts/{id:int} and /contacts/{id:int}/ and /Contacts/{id:int} differ in case or by a slash at the end: the "
        "sidecar decides each by itself"
    ]
