"""Operations of specs."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.imports.openapi import sightings
from sidecar.imports.sighting import Sighting

ITEM = {"type": "object", "properties": {"id": {"type": "integer"}, "owner_id": {"type": "string"}}}


def spec(paths: dict[str, Any], **more: Any) -> list[Sighting]:
    return list(sightings({"openapi": "3.1.0", "paths": paths, **more}, "s.json"))


def ok(schema: Any) -> dict[str, Any]:
    return {"200": {"content": {"application/json": {"schema": schema}}}}


def test_an_operation_tells_what_its_schemas_say() -> None:
    parameters = [
        {"name": "id", "in": "path", "schema": {"type": "integer"}}, {"$ref": "#/components/parameters/Page"},
        {"name": "authorization", "in": "header"}, {"name": "session", "in": "cookie"},
    ]  # fmt: skip
    (seen,) = spec(
        {"/c/{id}": {"parameters": parameters, "get": {"operationId": "readC", "tags": ["c"], "responses": ok({"$ref": "#/components/schemas/C"})}}},
        components={"schemas": {"C": ITEM}, "parameters": {"Page": {"name": "page", "in": "query"}}},
        servers=[{"url": "https://h/api/v1/"}],
    )  # fmt: skip
    assert (seen.method, seen.path, seen.query, seen.status) == ("GET", "/c/{id:int}", ("page",), None)
    assert str(seen.place) == "s.json: paths./c/{id}.get"
    told = seen.operation
    assert told is not None
    assert (told.id, told.tags, told.attributes, told.gives_list, told.prefix) == (
        "readC",
        ("c",),
        ("id", "owner_id"),
        False,
        ("api", "v1"),
    )


@pytest.mark.parametrize(
    ("schema", "names", "is_list"),
    [
        ({"type": "array", "items": ITEM}, ("id", "owner_id"), True),
        (
            {"type": "object", "properties": {"count": {}, "results": {"type": "array", "items": ITEM}}},
            ("id", "owner_id"),
            True,
        ),
        ({"allOf": [ITEM, {"properties": {"tenant": {}}}]}, ("tenant", "id", "owner_id"), False),
        ({"anyOf": [ITEM, {"type": "null"}]}, ("id", "owner_id"), False),
        ({"$ref": "#/x"}, (), False),
        (True, (), False),
    ],
)
def test_answers_are_lists_or_things(schema: Any, names: tuple[str, ...], is_list: bool) -> None:
    (seen,) = spec({"/c": {"get": {"responses": ok(schema)}}}, x={"allOf": [{"$ref": "#/x"}]})
    assert seen.operation is not None
    assert (seen.operation.attributes, seen.operation.gives_list) == (names, is_list)


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("/", "/"), ("/a/", "/a/"), ("/a/{b-c}", "/a/{b_c}"), ("/f/{p:path}", "/f/**"), ("/f/{proxy+}", "/f/**"),
        ("/{a}.json", "/{a}.json"), ("/{a}-{b}", "/{a_b:any}"), ("/a%20b/{1}", "/a b/{_1}"), ("/{}", "/{value}"),
    ],
)  # fmt: skip
def test_paths_of_specs_are_paths_of_routes(path: str, made: str) -> None:
    assert [one.path for one in spec({path: {"get": {}}})] == [made]


def test_operations_that_are_open_say_so() -> None:
    paths = {
        "/a": {"get": {}, "post": {"security": [{"oauth": []}]}, "put": {"security": [{}]}, "trace": {}, "x-y": {}}
    }
    security: Any
    for security, expected in (([], [True, True, False]), ([{"oauth": []}], [False, True, False])):
        assert [one.operation.is_open for one in spec(paths, security=security) if one.operation] == expected
    assert [one.method for one in spec(paths)] == ["GET", "PUT", "POST"]


def test_swagger_2_is_read_too() -> None:
    root = {
        "swagger": "2.0", "basePath": "/v2",
        "paths": {"/p/{id}": {"get": {"parameters": [{"name": "id", "in": "path", "type": "integer"}], "responses": {200: {"schema": ITEM}}}}},
    }  # fmt: skip
    (seen,) = sightings(root, "s")
    assert seen.operation is not None
    assert (seen.path, seen.operation.prefix, seen.operation.attributes) == ("/p/{id:int}", ("v2",), ("id", "owner_id"))


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("/api", ("api",)),
        ("https://{tenant}.h/x", ("x",)),
        ("https://h/{stage}/x", ()),
        ("https://h", ()),
        (1, ()),
        ("http://[", ()),
    ],
)
def test_the_path_of_the_first_server_is_the_prefix(url: Any, prefix: tuple[str, ...]) -> None:
    (seen,) = spec({"/a": {"get": {}}}, servers=[{"url": url}, {"url": "/other"}])
    assert seen.operation is not None
    assert seen.operation.prefix == prefix


@pytest.mark.parametrize(
    "paths",
    [
        [],
        None,
        {"a": {}},
        {1: {}},
        {"/a": None},
        {"/a": {"get": None}},
        {"/a": {"get": {"parameters": [1], "responses": [], "tags": 1}}},
    ],
)
def test_what_is_no_operation_is_passed_over(paths: Any) -> None:
    assert len(list(sightings({"paths": paths, "servers": [1], "security": 1}, "s"))) <= 1
