"""The guide "protect a GraphQL API" as it stands: its routes and policy before the real Cerbos and a server of others."""

from __future__ import annotations

import json
import re
import shlex
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml

from sidecar.bodies.graphql_document import DocumentLimits
from sidecar.config.routes.grammar import GRAPHQL
from tests import guide_commands
from tests.graphql_app import EXECUTED, app
from tests.stack import ROOT, Got, Sidecar, Web, free_port, running_sidecar, wait_for
from tests.tokens import CLIENT, POOL, claims, key_set, mint

PAGE = (ROOT / "docs/guides/graphql.md").read_text(encoding="utf-8")
ACCEPT = "application/graphql-response+json, application/json;q=0.9"


def example(name: str) -> str:
    (found,) = re.findall(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@dataclass
class World:
    sidecar: Sidecar
    environ: dict[str, str]

    def ask(self, body: Any, **headers: str) -> Got:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        token = mint(claims(time.time(), sub="alice")).decode()
        return self.sidecar.request("POST", "/graphql", token, data, **{"content_type": "application/json", **headers})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Alice has the contact 1, and Bob has 2."""
    keys, hook, folder = Web(), Web(), tmp_path_factory.mktemp("graphql")
    keys.json("/jwks", key_set())
    for number, owner in ((1, "alice"), (2, "bob")):
        hook.json(f"/contacts/{number}", {"id": number, "owner_id": owner})
    server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="error", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    environ = {
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks",
    }  # fmt: skip
    (folder / "policies").mkdir()
    (folder / "policies/contact.yaml").write_text(example("policies/contact.yaml"))
    routes = example("routes.yaml").replace("127.0.0.1:9000", f"127.0.0.1:{hook.port}")
    # a busy machine is no fault of the hook
    routes = routes.replace("echo: id}", "echo: id, timeout: 20s}")
    with running_sidecar(
        folder, routes, folder / "policies", f"http://127.0.0.1:{server.config.port}", environ, shared=True
    ) as sidecar:
        yield World(sidecar, environ)
    server.should_exit = True
    thread.join()
    for part in (keys, hook):
        part.close()


@pytest.fixture(autouse=True)
def _forget() -> None:
    EXECUTED.clear()


def test_what_is_allowed_is_executed_as_it_came(world: World) -> None:
    got = world.ask(
        {"query": 'query($i:ID!){a:contact(id:$i){name} contacts(owner:"alice"){id}}', "variables": {"i": 1}}
    )
    assert (got.status, json.loads(got.body)) == (200, {"data": {"a": {"name": "Ada"}, "contacts": [{"id": "1"}]}})
    assert EXECUTED == [("Query.contact", {"id": "1"}), ("Query.contacts", {"owner": "alice"})]
    line = world.sidecar.decisions()[-1]
    assert (line["kind"], line["action"], line["each"]) == (
        "contact", "read", {"asked": 2, "ids": ["Query.contact as a", "Query.contacts"]},
    )  # fmt: skip
    assert world.ask({"query": 'mutation{createContact(input:{owner:"alice" name:"Bo"}){name}}'}).status == 200
    assert EXECUTED[2:] == [("Mutation.createContact", {"owner": "alice", "name": "Bo"})]


def test_one_field_that_is_denied_refuses_all_and_the_log_names_it(world: World) -> None:
    got = world.ask(json.loads(example("request.json")), accept=ACCEPT)
    assert (got.status, EXECUTED) == (403, [])
    assert got.header("content-type") == "application/graphql-response+json"
    told, shown = json.loads(got.body), json.loads(example("refusal.json"))
    shown["errors"][0]["extensions"]["request_id"] = told["errors"][0]["extensions"]["request_id"]
    assert told == shown
    assert world.sidecar.decisions()[-1]["each"] == {
        "asked": 2, "ids": ["Query.contact as a", "Query.contact"], "denied": ["Query.contact"],
    }  # fmt: skip
    assert world.ask(json.loads(example("request.json"))).code == "denied_by_policy"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"query": "{secret}"}, 403, "operation_unmapped"), ({"query": "{contact(id:1){id} x:secret}"}, 403, "operation_unmapped"),
        ({"query": "{__schema{types{name}}}"}, 403, "operation_unmapped"), ({"query": "{search(filter:{owner:1}){id}}"}, 403, "operation_unmapped"),
        ([{"query": "{contact(id:1){id}}"}], 400, "body_invalid"), ({"query": "{contact(id:1){id}}", "extensions": {"persistedQuery": {}}}, 400, "body_invalid"),
        ({"query": "{contact(id:1){id}}", "operationName": ""}, 400, "body_invalid"), ({"query": "\ufeff{contact(id:1){id}}"}, 400, "body_invalid"),
        ({"query": "{contact(id:1){...F}} fragment F on Contact{...F}"}, 400, "body_invalid"), ({"query": "{contact(id:1){}}"}, 400, "body_invalid"),
        ({"query": "{contact(id:1){id}}", "documentId": "x"}, 400, "body_invalid"), (b'{"query":"{contact(id:1){id}}","query":"{secret}"}', 400, "body_invalid"),
        ({"query": "{contacts{id}}"}, 400, "body_invalid"), ({"query": "{contact(id:null){id}}"}, 400, "body_invalid"),
        ({"query": "{" + "a:contact(id:1){id} " * 51 + "}"}, 400, "body_invalid"), ({"query": "{contact(id:1)" + "{colleague" * 20 + "{id}" + "}" * 20 + "}"}, 400, "body_invalid"),
        ({"query": '{contact(id:"01"){id}}'}, 403, "denied_by_policy"),
    ],
)  # fmt: skip
def test_nothing_of_what_is_refused_is_executed(world: World, body: Any, status: int, code: str) -> None:
    got = world.ask(body)
    assert (got.status, got.code, EXECUTED) == (status, code, [])


@pytest.mark.parametrize(
    "kind",
    ["application/graphql", "multipart/form-data; boundary=x", "text/plain", "application/x-www-form-urlencoded"],
)
def test_a_document_in_another_form_is_refused(world: World, kind: str) -> None:
    got = world.ask(b"{contact(id:1){id}}", content_type=kind)
    assert (got.status, got.code, EXECUTED) == (415, "body_type_unsupported", [])


def test_a_document_in_the_url_is_refused(world: World) -> None:
    token = mint(claims(time.time(), sub="alice")).decode()
    assert world.sidecar.get("/graphql?query=%7Bsecret%7D", token).status == 405
    got = world.sidecar.request(
        "POST",
        "/graphql?query=%7Bsecret%7D",
        token,
        b'{"query":"{contact(id:1){id}}"}',
        content_type="application/json",
    )
    assert (got.status, got.code, EXECUTED) == (400, "query_not_allowed", [])


def test_introspection_is_for_a_route_that_says_so_and_typename_for_everybody(world: World) -> None:
    got = world.ask({"query": "{__typename}"})
    assert (got.status, json.loads(got.body)) == (200, {"data": {"__typename": "Query"}})
    assert world.sidecar.decisions()[-1]["code"] == "authenticated"


def test_explain_shows_what_is_asked(world: World) -> None:
    words = shlex.split(example("explain.sh"))
    environ = {
        "PATH": "/usr/bin", **world.environ, "SIDECAR_ROUTES": str(world.sidecar.folder / "routes.yaml"),
        "SIDECAR_POLICIES": str(world.sidecar.folder / "policies"),
    }  # fmt: skip
    done = guide_commands.sidecar(world.sidecar.folder, *words[1:], environ=environ)
    for told in (
        "route      /graphql, action list",
        'resource attributes   {"owner": "alice"}',
        "list: EFFECT_ALLOW",
        "verdict    FORWARD",
    ):
        assert told in done.stdout, done.stdout + done.stderr


def test_the_cases_hold(world: World) -> None:
    folder = world.sidecar.folder
    (folder / "cases.yaml").write_text(example("cases.yaml"))
    environ = {
        "SIDECAR_ROUTES": str(folder / "routes.yaml"),
        "SIDECAR_POLICIES": str(folder / "policies"),
        **world.environ,
    }
    done = guide_commands.sidecar(folder, "test", "cases.yaml", environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3" in done.stdout


def test_get_does_what_the_guide_says(world: World, tmp_path: Path) -> None:
    said = example("get.yaml").partition("\n")[2].strip()
    routes = example("routes.yaml").replace("    graphql:\n", f"    graphql:\n      {said}\n")
    assert said in routes
    (tmp_path / "routes.yaml").write_text(routes)
    (tmp_path / "cases-get.yaml").write_text(example("cases-get.yaml"))
    environ = {
        "PATH": "/usr/bin", **world.environ, "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
        "SIDECAR_POLICIES": str(world.sidecar.folder / "policies"),
    }  # fmt: skip
    words = shlex.split(example("explain-get.sh"))
    done = guide_commands.sidecar(tmp_path, *words[1:], environ=environ)
    for told in ("route      /graphql, action list", 'resource attributes   {"owner": "alice"}', "verdict    FORWARD"):
        assert told in done.stdout, done.stdout + done.stderr
    done = guide_commands.sidecar(tmp_path, "test", "cases-get.yaml", environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    done = guide_commands.sidecar(tmp_path, "check", environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_limits_are_the_defaults() -> None:
    shown = yaml.safe_load(example("limits"))["graphql"]
    defaults = {name: field.default for name, field in GRAPHQL.fields.items()}
    assert shown == {**defaults, "directives": []}
    assert shown["max_tokens"] == DocumentLimits().tokens
