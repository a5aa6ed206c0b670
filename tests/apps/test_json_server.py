"""json-server brings other kinds by a parameter, and moves what it is told to: each method asks what it does."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.apps.conftest import policy, protected, token
from tests.stack import Sidecar

ROUTES = """\
lookups:
  file: {{url: "http://127.0.0.1:{app}/files/{{id}}", attributes: {{owner: owner, folder: folder}}, echo: id}}
routes:
  - {{path: /drafts, resource: article, actions: {{GET: list}}}}      # as before there was `query`
  - {{path: /articles, resource: article, query: [_page, _limit], actions: {{GET: list}}}}
  - path: /files
    resource: file
    query: []
    set_query: {{owner: "{{principal.id}}"}}
    actions:
      GET: list
      POST: {{action: create, attributes: {{owner: "{{body.owner}}"}}}}
  - path: "/files/{{id:int}}"
    resource: file
    id: "{{path.id}}"
    lookup: file
    query: []
    actions:
      GET: read
      PATCH: {{action: move, attributes: {{target: "{{body.folder?}}"}}}}
"""
OWN = "request.resource.attr.owner == request.principal.id"
POLICIES = {
    "article.yaml": policy("article", "{actions: [list], effect: EFFECT_ALLOW, roles: [user]}"),
    "file.yaml": policy(
        "file",
        "{actions: [list], effect: EFFECT_ALLOW, roles: [user]}",
        f"{{actions: [create, read], effect: EFFECT_ALLOW, roles: [user], condition: {{match: {{expr: {OWN}}}}}}}",
        "{actions: [move], effect: EFFECT_ALLOW, roles: [user], condition: {match: {all: {of: ["
        f'{{expr: {OWN}}}, {{expr: "!has(request.resource.attr.target) || request.resource.attr.target == request.principal.id"}}]}}}}}}}}',
    ),
}
JSON = {"content_type": "application/json"}


@pytest.fixture(scope="module")
def sidecar(json_server: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("before-json-server")
    with protected(folder, ROUTES.format(app=json_server), POLICIES, json_server) as made:
        yield made


def send(sidecar: Sidecar, method: str, path: str, body: str) -> str:
    got = sidecar.request(method, path, token("alice"), body.encode(), **JSON)
    return got.code if got.status >= 400 else "allowed"


@pytest.mark.parametrize(
    "parameter", ["_embed=comments", "_expand=author", "callback=steal", "q=x", "title_like=.", "_EMBED=comments"]
)
def test_a_parameter_that_brings_other_kinds_is_refused(sidecar: Sidecar, parameter: str) -> None:
    assert sidecar.get(f"/articles?{parameter}", token("alice")).code == "query_not_allowed"
    assert sidecar.get("/articles?_page=1&_limit=1", token("alice")).status == 200


def test_without_a_list_they_come(sidecar: Sidecar) -> None:
    """The witness: comments are a kind that nobody was asked about, and a callback is a script."""
    embedded = sidecar.get("/drafts?_embed=comments", token("alice"))
    assert [comment["text"] for comment in json.loads(embedded.body)[0]["comments"]] == ["private"]
    assert sidecar.get("/drafts?callback=steal", token("alice")).body.startswith(b"/**/ typeof steal")


def test_one_lists_and_creates_on_one_path_for_oneself(sidecar: Sidecar) -> None:
    listed = sidecar.get("/files?owner=bob", token("alice"))
    assert {file["owner"] for file in json.loads(listed.body)} == {"alice"}
    assert sidecar.request("HEAD", "/files", token("alice")).status == 200
    assert send(sidecar, "POST", "/files", '{"owner": "alice", "folder": "alice"}') == "allowed"
    assert send(sidecar, "POST", "/files", '{"owner": "bob", "folder": "bob"}') == "denied_by_policy"
    assert send(sidecar, "POST", "/files", '{"owner": "alice", "Owner": "bob"}') == "body_invalid"
    assert send(sidecar, "POST", "/files", '{"Owner": "alice"}') == "body_invalid"


def test_a_file_is_moved_only_to_where_one_may(sidecar: Sidecar, json_server: int) -> None:
    assert send(sidecar, "PATCH", "/files/1", '{"folder": "bob"}') == "denied_by_policy"
    for refused in (
        '{"Folder": "bob"}',
        '{"folder": "alice", "FOLDER": "bob"}',
        '{"folder": null}',
        '{"folder": ["bob"]}',
        "[]",
    ):
        assert send(sidecar, "PATCH", "/files/1", refused) == "body_invalid"
    assert send(sidecar, "PATCH", "/files/1", '{"name": "renamed"}') == "allowed"
    assert send(sidecar, "PATCH", "/files/1", '{"folder": "alice"}') == "allowed"
    assert send(sidecar, "PATCH", "/files/2", '{"folder": "alice"}') == "denied_by_policy"
    got = sidecar.get("/files/1", token("alice"))
    assert json.loads(got.body) == {"id": 1, "owner": "alice", "folder": "alice", "name": "renamed"}
