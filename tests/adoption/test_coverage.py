"""An app with one instance of each gap: `sidecar coverage` finds each, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.record.line import Line, write
from tests import guide_commands
from tests.adoption.recorded import decision, question

ROUTES = """\
version: 1
principal:
  roles: groups
  attributes:
    tenant: tenant
    level: level
    region: region
to_app: {headers: {X-Region: "{principal.attributes.region}"}}
lookups:
  contact:
    url: http://127.0.0.1:9/{id}
    attributes:
      owner: owner
      stage: stage
routes:
  - path: /contacts
    resource: contact
    query: [page, never-sent]
    actions: {GET: list}
  - path: /contacts/{id}
    resource: contact
    id: "{path.id}"
    lookup: contact
    actions:
      GET: read
      DELETE: delete
  - path: /notes
    resource: note
    attributes: {unread: "{header.x-unread}"}
    actions: {GET: peek}
  - {path: /never-hit, access: public}
  - {path: "/plans/{id}", resource: plan, draft: true, actions: {GET: read}}
"""
POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: contact
  version: default
  rules:
    - actions: [list]
      effect: EFFECT_ALLOW
      roles: [user]
    - actions: [read]
      effect: EFFECT_ALLOW
      roles: [user]
      condition:
        match:
          all:
            of:
              - expr: request.resource.attr.owner == request.principal.id
              - expr: request.principal.attr.tenant == "acme"
              - expr: has(request.resource.attr.secret) || has(P.attr.clearance) || true
    - actions: [delete]
      effect: EFFECT_ALLOW
      roles: [user]
    - name: untested
      actions: [delete]
      effect: EFFECT_DENY
      roles: [never-carried]
    - actions: [list, archive]
      effect: EFFECT_DENY
      roles: ["*"]
      condition:
        match:
          expr: request.principal.id == "banned"
"""
TESTS = """\
name: contact
principals:
  alice: {id: alice, roles: [user], attr: {tenant: acme}}
  bad: {id: banned, roles: [user]}
resources: {hers: {kind: contact, id: "1", attr: {owner: alice}}}
tests:
  - name: she reads hers
    input: {principals: [alice], resources: [hers], actions: [list, read]}
    expected: [{principal: alice, resource: hers, actions: {list: EFFECT_ALLOW, read: EFFECT_ALLOW}}]
  - name: one who is banned
    input: {principals: [bad], resources: [hers], actions: [list]}
    expected: [{principal: bad, resource: hers, actions: {list: EFFECT_DENY}}]
"""
SPEC = {
    "openapi": "3.0.3", "info": {"title": "app", "version": "1"},
    "paths": {
        "/contacts": {"get": {"parameters": [{"in": "query", "name": "page", "schema": {"type": "integer"}}]}},
        "/contacts/{contact_id}": {"put": {}, "get": {}},
        "/plans/{id}": {"get": {}},
    },
}  # fmt: skip
ACCESS = """\
192.0.2.1 - - [30/Nov/2026:06:00:00 +0000] "GET /contacts?page=1&colour=red HTTP/1.1" 200 5 "-" "-"
192.0.2.1 - - [30/Nov/2026:06:00:01 +0000] "GET /reports/17 HTTP/1.1" 200 5 "-" "-"
192.0.2.1 - - [30/Nov/2026:06:00:02 +0000] "GET /reports/18 HTTP/1.1" 200 5 "-" "-"
192.0.2.1 - - [30/Nov/2026:06:00:03 +0000] "GET /wp-login.php HTTP/1.1" 404 5 "-" "-"
192.0.2.1 - - [30/Nov/2026:06:00:04 +0000] "HEAD /contacts/1 HTTP/1.1" 200 5 "-" "-"
192.0.2.1 - - [30/Nov/2026:06:00:05 +0000] "PUT /contacts/1 HTTP/1.1" 200 5 "-" "-"
192.0.2.1 - - [30/Nov/2026:06:00:06 +0000] "POST /notes HTTP/1.1" 201 5 "-" "-"
192.0.2.1 - - [30/Nov/2026:06:00:07 +0000] "GET /notes HTTP/1.1" 200 5 "-" "-"
"""
CONTACT = "resource.contact.vdefault"
LOG: tuple[Line, ...] = (
    decision(
        1, method="DELETE", path="/contacts/1", route="/contacts/{id}", kind="contact", action="delete",
        principal="alice", roles=("user",), code="allowed", policy=CONTACT,
    ),
    question(
        2, weight=3, method="GET", path="/contacts", route="/contacts", kind="contact", action="list", principal="bob",
        roles=("ghost",), code="denied_by_policy", outcome="refuse", status=403, app_status=None, query=("filter",),
    ),
)  # fmt: skip
GAPS: dict[str, list[dict[str, Any]]] = {
    "operations": [
        {"what": "GET /reports/{int}", "place": "access.log:2", "requests": 2},
        {
            "what": "PUT /contacts/{contact_id}", "place": "openapi.json: paths./contacts/{contact_id}.put",
            "requests": 1,
        },
        {
            "what": "POST /notes", "place": "access.log:7", "requests": 1,
            "why": "the route at routes.yaml:27 has no such method",
        },
        {
            "what": "GET /plans/{id}", "place": "openapi.json: paths./plans/{id}.get",
            "why": "the route at routes.yaml:32 is a draft",
        },
    ],
    "routes": [{"what": "GET /never-hit", "place": "routes.yaml:31"}],
    "questions": [
        {"what": "peek of note", "place": "routes.yaml:30", "why": "GET /notes asks for it"}
    ],
    "rules": [{"what": "archive of contact", "place": "policies/contact.yaml:26"}],
    "reads": [
        {
            "what": "request.resource.attr.secret for read of contact", "place": "policies/contact.yaml:18",
            "why": "GET /contacts/{id} has none",
        },
        {"what": "request.principal.attr.clearance", "place": "policies/contact.yaml:18"},
    ],
    "supplies": [
        {"what": "lookups.contact.attributes.stage", "place": "routes.yaml:14"},
        {"what": "attributes.unread of GET /notes", "place": "routes.yaml:29"},
        {"what": "principal.attributes.level", "place": "routes.yaml:6"},
    ],
    "matched": [{"what": "DENY delete of contact (untested)", "place": "policies/contact.yaml:22"}],
    "roles-carried": [{"what": "ghost", "place": "sidecar.log:2", "requests": 3}],
    "roles-named": [{"what": "never-carried", "place": "policies/contact.yaml:22"}],
    "query-sent": [
        {"what": "filter of GET /contacts", "place": "sidecar.log:2", "requests": 3},
        {"what": "colour of GET /contacts", "place": "access.log:1", "requests": 1},
    ],
    "query-allowed": [{"what": "never-sent of GET /contacts", "place": "routes.yaml:19"}],
}  # fmt: skip


@pytest.fixture(name="app")
def _app(tmp_path: Path) -> Path:
    (tmp_path / "routes.yaml").write_text(ROUTES)
    (tmp_path / "policies" / "tests").mkdir(parents=True)
    (tmp_path / "policies" / "contact.yaml").write_text(POLICY)
    (tmp_path / "policies" / "tests" / "contact_test.yaml").write_text(TESTS)
    (tmp_path / "openapi.json").write_text(json.dumps(SPEC))
    (tmp_path / "access.log").write_text(ACCESS)
    (tmp_path / "sidecar.log").write_text("".join(map(write, LOG)))
    return tmp_path


ALL = ("--seen", "openapi.json", "access.log", "--log", "sidecar.log")


def areas(app: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    done = guide_commands.sidecar(app, "coverage", "--json", *arguments, environ={})
    assert done.stderr == ""
    return {area["name"]: area for area in json.loads(done.stdout)["areas"]}


@pytest.mark.process
def test_each_gap_is_found_and_nothing_else(app: Path) -> None:
    found = areas(app, *ALL)
    gaps = {name: area["gaps"] for name, area in found.items()}
    assert gaps == GAPS
    totals = {name: (area["covered"], area["total"]) for name, area in found.items()}
    assert totals == {
        "operations": (4, 8), "routes": (4, 5), "questions": (3, 4), "rules": (3, 4), "reads": (2, 4),
        "supplies": (3, 6), "matched": (4, 5), "roles-carried": (1, 2), "roles-named": (1, 2), "query-sent": (1, 3),
        "query-allowed": (1, 2),
    }  # fmt: skip


@pytest.mark.process
def test_an_area_without_its_input_says_what_to_give(app: Path) -> None:
    found = areas(app)
    assert {name for name, area in found.items() if area["measured"]} == {
        "questions", "rules", "reads", "supplies", "matched",
    }  # fmt: skip
    assert found["roles-named"]["missing"] == "a log of the sidecar by --log"


@pytest.mark.process
def test_a_spec_alone_stands_for_traffic(app: Path) -> None:
    found = areas(app, "--seen", "openapi.json")
    assert [gap["what"] for gap in found["routes"]["gaps"]] == [
        "DELETE /contacts/{id}", "GET /notes", "GET /never-hit",
    ]  # fmt: skip
    assert [gap["what"] for gap in found["query-allowed"]["gaps"]] == ["never-sent of GET /contacts"]
    assert found["query-sent"]["gaps"] == []


@pytest.mark.process
def test_a_question_of_the_log_tells_which_rule_decided_it(app: Path) -> None:
    (app / "policies" / "tests" / "contact_test.yaml").unlink()
    asked = question(
        5, method="GET", path="/contacts", route="/contacts", action="list", principal="banned", outcome="refuse",
        code="denied_by_policy", attributes={}, principal_attributes={"tenant": "acme"}, app_status=None,
    )  # fmt: skip
    lacking = question(6, attributes={}, redacted=("resource.owner",), principal_attributes={}, weight=4)
    (app / "sidecar.log").write_text("".join(map(write, (*LOG, asked, lacking))))
    done = guide_commands.sidecar(app, "coverage", *ALL, environ={})
    assert "ALLOW read of contact (rule-002)" in done.stdout
    assert "DENY list, archive of contact (rule-005)" not in done.stdout
    assert (
        "note: 4 recorded questions lack resource.owner, which a rule reads: add it to SIDECAR_QUESTION_LOG_ATTRIBUTES"
    ) in done.stdout


@pytest.mark.process
def test_a_rule_that_only_one_could_have_allowed_was_matched_by_traffic(app: Path) -> None:
    (app / "policies" / "tests" / "contact_test.yaml").unlink()
    found = areas(app, *ALL)
    assert [gap["what"] for gap in found["matched"]["gaps"]] == [
        "ALLOW list of contact (rule-001)", "ALLOW read of contact (rule-002)", "DENY delete of contact (untested)",
        "DENY list, archive of contact (rule-005)",
    ]  # fmt: skip


@pytest.mark.process
def test_of_two_rules_that_could_have_allowed_it_neither_is_known_to_be_matched(app: Path) -> None:
    policy = app / "policies" / "contact.yaml"
    policy.write_text(POLICY.replace("actions: [read]", "actions: [read, delete]"))
    gaps = areas(app, *ALL)["matched"]["gaps"]
    assert [gap["what"] for gap in gaps] == [
        "ALLOW delete of contact (rule-003)", "DENY delete of contact (untested)",
    ]  # fmt: skip


@pytest.mark.process
def test_an_attribute_that_is_read_as_a_whole_is_read_by_every_name(app: Path) -> None:
    policy = app / "policies" / "contact.yaml"
    policy.write_text(POLICY.replace("has(request.resource.attr.secret)", "size(R.attr) > 0 || size(P.attr) > 0"))
    found = areas(app)
    assert [gap["what"] for gap in found["reads"]["gaps"]] == ["request.principal.attr.clearance"]
    assert [gap["what"] for gap in found["supplies"]["gaps"]] == ["attributes.unread of GET /notes"]


def test_policies_that_are_elsewhere_are_not_measured(app: Path) -> None:
    found = areas(app, "--cerbos", "127.0.0.1:3593", "--policies", "nowhere", *ALL)
    assert found["reads"]["missing"] == "policies of Cerbos by SIDECAR_POLICIES"
    assert found["operations"]["measured"]
