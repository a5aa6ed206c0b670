"""Specs name paths, and logs tell of them what is seen."""

from __future__ import annotations

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
    made = spec("GET /c/{x}")
    made["paths"]["/c/{x}"]["get"]["parameters"] = [{"name": "x", "in": "path", "schema": {"type": "integer"}}]
    (template,) = collect("GET /c/7", "GET /c/007", "GET /c/+7", "GET /c/x 422", specs=(made,)).templates
    assert template.refused_values == 2


def test_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TEMPLATES", 3)
    found = collect(specs=(spec(*(f"GET /c{n}" for n in range(9))),))
    assert (len(found.templates), found.is_full) == (3, True)
