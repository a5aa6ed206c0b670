"""Proposals of routes, and what a person has to decide."""

from __future__ import annotations

import pytest

from sidecar.gate.routing import parse_path
from sidecar.imports.proposal import looks_public, propose
from tests.imports.collecting import collect, proposed, spec


@pytest.mark.parametrize(
    ("path", "looks"),
    [
        ("/healthz", "health"), ("/static/**", "files of pages"), ("/favicon.ico", "files of pages"), ("/auth/login", "signing in"),
        ("/docs", "documentation"), ("/contacts/health", "health"), ("/login/attempts", ""), ("/contacts", ""), ("/{id}", ""),
    ],
)  # fmt: skip
def test_paths_that_look_public(path: str, looks: str) -> None:
    assert looks_public(parse_path(path)) == looks


def test_what_looks_public_is_to_be_decided_and_never_is() -> None:
    for path in ("/healthz", "/login"):
        assert "should everybody pass?" in " ".join(proposed(f"GET {path}")[path].decide)
    made = spec("GET /open")
    made["paths"]["/open"]["get"]["security"] = []
    assert "needs no credentials" in " ".join(proposed(specs=(made,))["/open"].decide)


def test_names_of_the_query_are_those_that_were_seen() -> None:
    assert proposed("GET /c?page=1", "GET /c?sort=a&page=2")["/c"].query == ("page", "sort")
    assert proposed("GET /d", "GET /d")["/d"].query is None
    assert proposed(specs=(spec("GET /d"),))["/d"].query == ()


def test_attributes_that_a_lookup_could_give_are_names_by_which_policies_decide() -> None:
    made = spec("GET /c/{id}")
    fields: dict[str, object] = {name: {} for name in ("id", "owner_id", "title", "status", "tenant")}
    made["paths"]["/c/{id}"]["get"]["responses"] = {
        "200": {"content": {"application/json": {"schema": {"properties": fields}}}}
    }
    assert proposed(specs=(made,))["/c/{id}"].attributes == ("owner_id", "status", "tenant")


def test_paths_that_cannot_be_routes_are_told() -> None:
    found = propose(collect(specs=(spec("GET /a;b/{x}", "GET /_sidecar/login", "GET /ok", "OPTIONS /only"),)))
    assert [one.path for one in found.proposals] == ["/ok"]
    assert [text.split(": ")[2] for text in found.impossible] == [
        "it cannot be a route", "/_sidecar/login is a path of the sidecar itself",
    ]  # fmt: skip


def test_a_name_that_stands_twice_is_made_two() -> None:
    assert list(proposed(specs=(spec("GET /a/{id}/b/{id}"),))) == ["/a/{id}/b/{id_2}"]


def test_doubts_are_to_be_decided() -> None:
    made = spec("GET /c/{x}")
    made["paths"]["/c/{x}"]["get"]["parameters"] = [{"name": "x", "in": "path", "schema": {"type": "integer"}}]
    assert "1 request that the app answered well had" in " ".join(
        proposed("GET /c/007", specs=(made,))["/c/{x:int}"].decide
    )
    unfit = " ".join(proposed("GET /c/007", "GET /c/INV-7", specs=(made,))["/c/{x:int}"].decide)
    assert "1 request that the app answered well had a number" in unfit
    assert "1 request that the app answered well had there what is not of the type" in unfit
    assert "the first at a.log:2" in unfit
    assert "INV" not in unfit
    assert "recheck" in " ".join(proposed("WS /ws 101")["/ws"].decide)
    assert "one route for all" in " ".join(proposed("GET /img/a.png")["/img/**"].decide)
    assert "low confidence" in " ".join(proposed("GET /thing", "GET /thing")["/thing"].decide)


def test_an_uncommon_word_of_a_log_is_to_be_decided() -> None:
    assert "'alice' is taken for a fixed word" in " ".join(proposed("GET /alice", "GET /alice")["/alice"].decide)
    assert not [text for text in proposed("GET /contacts/7")["/contacts/{id:int}"].decide if "fixed word" in text]
    assert not [text for text in proposed(specs=(spec("GET /alice"),))["/alice"].decide if "fixed word" in text]


def test_uncommon_words_of_a_spec_are_not_doubted_in_a_path_beside_it() -> None:
    made = spec("GET /qkz/{x}")
    made["paths"]["/qkz/{x}"]["get"]["parameters"] = [{"name": "x", "in": "path", "schema": {"type": "integer"}}]
    found = proposed("GET /qkz/gantt", "GET /qkz/export", specs=(made,))
    assert [text.split(" is ")[0] for text in found["/qkz/gantt"].decide if "fixed word" in text] == ["'gantt'"]
    assert not [text for text in found["/qkz/export"].decide if "fixed word" in text]


def test_specs_keep_their_order_and_logs_follow() -> None:
    assert list(proposed("GET /orders", "GET /notes", specs=(spec("GET /z", "GET /y"),))) == [
        "/z",
        "/y",
        "/notes",
        "/orders",
    ]
