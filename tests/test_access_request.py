"""Denials that can be requested, as docs/guides/authzen.md says: a PDP's offer reaches the problem and the page."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.stack import ROOT, Got, Recorder, Sidecar, Web, reply, running_sidecar
from tests.tokens import CLIENT, POOL, claims, key_set, mint

PAGE = (ROOT / "docs/guides/authzen.md").read_text(encoding="utf-8")
SHOWN = dict(re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
DENIAL = json.loads(SHOWN["denial.json"])
ROUTES = """\
version: 1
cache: {decisions: 60s}
lookups: {hidden: {url: "http://127.0.0.1:%d/{id}", attributes: {owner: o}, missing: hide}}
routes:
  - {path: "/records/{id:int}", resource: record, id: "{path.id}", query: [], actions: {GET: read, POST: write}}
  - {path: "/hidden/{id:int}", resource: record, id: "{path.id}", query: [], lookup: hidden, actions: {GET: read}}
  - {path: /many, resource: record, query: [id], each: {at: "{query.id}"}, actions: {GET: read}}
"""


@dataclass
class World:
    sidecar: Sidecar
    pdp: Recorder
    app: Recorder

    def get(self, path: str, *, page: bool = False) -> Got:
        return self.sidecar.get(
            path, mint(claims(time.time(), sub="alice")).decode(), accept="text/html" if page else "*/*"
        )

    def says(self, told: Any) -> None:
        self.pdp.reset(reply(200, json.dumps(told).encode(), "Content-Type: application/json"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, pdp, app = Web(), Recorder(), Recorder()
    keys.json("/jwks", key_set())
    keys.json("/7", {"o": "bob"})
    environ = {
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks", "SIDECAR_PDP": f"authzen+http://127.0.0.1:{pdp.port}",
    }  # fmt: skip
    pdp.answer = reply(404)  # it has no metadata
    folder = tmp_path_factory.mktemp("requests")
    where = f"http://127.0.0.1:{app.port}"
    with running_sidecar(folder, ROUTES % keys.port, folder / "none", where, environ) as sidecar:
        yield World(sidecar, pdp, app)
    for part in (keys, pdp, app):
        part.close()


def test_a_program_is_told_in_the_problem(world: World) -> None:
    world.says(DENIAL)
    # the second time the PDP is asked again
    for _ in range(2):
        got = world.get("/records/7")
        problem = json.loads(got.body)
        assert {**json.loads(SHOWN["problem.json"]), "request_id": problem["request_id"]} == problem
        assert (got.status, world.app.received) == (403, b"")
        assert b"eyJ" not in got.body
    assert len([seen for seen in world.pdp.seen if seen.method == "POST"]) == 2


def test_a_person_is_told_on_the_page(world: World) -> None:
    world.says(DENIAL)
    link = b'<a class="button" href="https://requests.example.com/forms/manager_approval" rel="noreferrer">Request access</a>'
    assert link in world.get("/records/7", page=True).body
    world.says({"decision": False})
    assert b"Request access" not in world.get("/records/8", page=True).body


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/requests?x=1&y='2'", b"/requests?x=1&amp;y=&#x27;2&#x27;"), ("https://a.example/-says-", b"https://a.example/-says-"),
        ("javascript:alert(1)", b""), ("//evil.example/", b""), ("http://a.example/", b""), ('https://a.example/" onclick="x', b""),
    ],
)  # fmt: skip
def test_a_link_is_shown_escaped_or_not_at_all(world: World, url: str, shown: bytes) -> None:
    told = json.loads(json.dumps(DENIAL))
    told["context"]["access_request"]["form_url"] = url
    world.says(told)
    body = world.get("/records/9", page=True).body
    assert (b"Request access" in body) == bool(shown)
    assert shown in body
    assert (b"evil" in body, b"onclick" in body, b"javascript" in body) == (False, False, False)


def test_nobody_is_told_of_what_is_hidden_or_which_of_many_it_was(world: World) -> None:
    world.says(DENIAL)
    assert json.loads(world.get("/hidden/7").body).keys() == {"type", "title", "status", "code", "request_id"}
    evaluations = {"evaluations": [DENIAL, {"decision": True}]}
    world.says(evaluations)
    problem = json.loads(world.get("/many?id=1&id=2").body)
    assert (problem["each"], "access_request" in problem) == ({"asked": 2, "denied": 1}, False)


def test_an_allow_with_an_offer_is_an_allow(world: World) -> None:
    world.says({**DENIAL, "decision": True})
    assert world.get("/records/10").status == 200
