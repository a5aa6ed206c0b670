"""Specs name paths, and logs tell of them what is seen."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.imports import collect as module
from tests.imports.collecting import collect, paths, spec


def test_requests_count_for_the_path_of_a_spec() -> None:
    made = spec("GET /c/{cid} readC", "PUT /c/{cid}", "GET /c/mine")
    found = {
        one.path: one
        for one in collect(
            "GET /c/x", "GET /c/x", "GET /c/y 404", "GET /c/mine", "GET /d", "GET /d", specs=(made,)
        ).templates
    }
    assert set(found) == {"/c/{cid}", "/c/mine", "/d"}
    methods = found["/c/{cid}"].methods
    assert (methods["GET"].hits, str(methods["GET"].ids), methods["GET"].statuses) == (3, "2", {200: 2, 404: 1})
    assert (methods["PUT"].hits, methods["PUT"].operations != []) == (0, True)
    assert found["/c/mine"].hits == 1


def test_a_method_that_the_spec_has_not_needs_an_answer_that_went_well() -> None:
    found = collect("DELETE /c 405", "PATCH /c 200", specs=(spec("GET /c"),))
    assert sorted(found.templates[0].methods) == ["GET", "PATCH"]


def test_two_specs_of_one_path_are_one_template() -> None:
    found = collect(specs=(spec("GET /c/{a}"), spec("PUT /c/{b}", "GET /c/{a} same")))
    (template,) = found.templates
    assert (template.path, sorted(template.methods)) == ("/c/{a}", ["GET", "PUT"])
    assert [(path, str(place)) for _, path, place in found.doubled] == [("/c/{b}", "1.yaml: paths./c/{b}.put")]


@pytest.mark.parametrize(
    ("requests", "path"),
    [
        ((), "/api/c/{x}"),
        (("GET /api/c/7", "GET /c/7"), "/api/c/{x}"),
        (("GET /api/c/7", "GET /c/7", "GET /c/8"), "/c/{x}"),
    ],
)
def test_the_prefix_of_a_spec_is_kept_where_requests_have_it(requests: tuple[str, ...], path: str) -> None:
    found = collect(*requests, specs=(spec("GET /c/{x}", servers=[{"url": "/api"}]),))
    assert [one.path for one in found.templates] == [path]
    assert found.templates[0].hits == len(requests)


def test_templates_of_a_person_go_before_shapes() -> None:
    requests = ["GET /alice/secret/issues/7", "GET /alice/secret", "GET /contacts/7"]
    assert paths(*requests, given=("/{owner}/{repo}/issues/{n:int}", "/{owner}/{repo}")) == [
        "/{owner}/{repo}", "/{owner}/{repo}/issues/{n:int}",
    ]  # fmt: skip


def test_preflights_are_no_requests() -> None:
    found = collect("OPTIONS /c 204", "OPTIONS /c 200")
    assert (found.templates, found.preflights) == ([], 2)


def test_values_that_the_sidecar_refuses_are_counted() -> None:
    requests = ("GET /c/7", "GET /c/007", "GET /c/+7", "GET /c/x 422")
    (template,) = collect(*requests, specs=(typed("/c/{x}"),)).templates
    assert (template.refused_values, template.unfit_values) == (2, 0)


def typed(path: str, of: str = "integer", **more: Any) -> dict[str, Any]:
    """A spec of one path, whose variables `x` have a type."""
    made = spec(f"GET {path}", **more)
    made["paths"][path]["get"]["parameters"] = [{"name": "x", "in": "path", "schema": {"type": of}}]
    return made


def test_a_word_in_the_place_of_a_number_is_a_path_that_the_spec_leaves_out() -> None:
    found = {
        one.path: one
        for one in collect(
            "GET /r/7", "GET /r/export 403", "GET /r/export?month=1", "POST /r/export 204", "GET /r/export 403",
            "GET /r/summary", "GET /r/reset 422", specs=(typed("/r/{x}"),),
        ).templates
    }  # fmt: skip
    assert set(found) == {"/r/{x:int}", "/r/export", "/r/summary"}
    of_spec = found["/r/{x:int}"]
    assert (of_spec.methods["GET"].statuses, of_spec.refused_values, of_spec.unfit_values) == (
        {200: 1, 403: 1, 422: 1},
        0,
        0,
    )
    export = found["/r/export"].methods
    assert (export["GET"].statuses, export["GET"].query, export["POST"].hits) == ({200: 1, 403: 1}, {"month": 1}, 1)


@pytest.mark.parametrize(("requests", "path"), [
    (("GET /api/r/7", "GET /api/r/export"), "/api/r/export"), (("GET /r/7", "GET /r/export"), "/r/export"),
])  # fmt: skip
def test_a_path_beside_one_of_a_spec_has_the_same_prefix(requests: tuple[str, ...], path: str) -> None:
    found = collect(*requests, specs=(typed("/r/{x}", servers=[{"url": "/api"}]),))
    assert {one.path for one in found.templates} == {path, path.replace("export", "{x:int}")}


def test_other_values_than_the_spec_declares_are_told_with_the_first_place() -> None:
    (template,) = collect("GET /c/7", "GET /c/INV-7", "GET /c/INV-8", specs=(typed("/c/{x}"),)).templates
    assert (template.unfit_values, str(template.first_unfit), template.refused_values) == (2, "a.log:2", 0)


def test_many_uncommon_words_are_names_that_clients_chose() -> None:
    names = [f"{one}{other}" for one in "bcdfghjk" for other in "lmnpqrst"]
    requests = [f"GET /r/{name}" for name in names]
    found = {one.path: one for one in collect(*requests, "GET /r/export", specs=(typed("/r/{x}"),)).templates}
    assert set(found) == {"/r/{x:int}", "/r/export"}
    get = found["/r/{x:int}"].methods["GET"]
    assert (found["/r/{x:int}"].unfit_values, get.hits, str(get.ids)) == (64, 64, "64")


def test_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TEMPLATES", 3)
    found = collect(specs=(spec(*(f"GET /c{n}" for n in range(9))),))
    assert (len(found.templates), found.is_full) == (3, True)
