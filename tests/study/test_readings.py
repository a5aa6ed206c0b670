"""For each kind: the attributes that decide, and whether the time does. What cannot be read reads everything."""

from pathlib import Path

import pytest

from sidecar.study.policies import parse_policies
from sidecar.study.readings import AttributeUses
from sidecar.study.reads import AttributeReference
from tests.stack import ROOT

POLICIES = {
    "contact.yaml": """
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: contact
  version: default
  importDerivedRoles: [common]
  rules:
    - {actions: [read], effect: EFFECT_ALLOW, derivedRoles: [owner]}
    - {actions: ["*"], effect: EFFECT_ALLOW, roles: [admin]}
""",
    "roles.yaml": """
apiVersion: api.cerbos.dev/v1
derivedRoles:
  name: common
  definitions:
    - {name: owner, parentRoles: [user], condition: {match: {expr: R.attr.owner == P.id && P.attr.level > 2}}}
""",
    "offer.yaml": """
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: offer
  version: default
  variables: {local: {open: timestamp(R.attr.until) > now()}}
  rules:
    - {actions: [read], effect: EFFECT_ALLOW, roles: [user], condition: {match: {expr: V.open}}}
""",
    "alice.yaml": """
apiVersion: api.cerbos.dev/v1
principalPolicy:
  principal: alice
  version: default
  rules:
    - {resource: offer, actions: [{action: read, effect: EFFECT_DENY, condition: {match: {expr: P.attr.away}}}]}
""",
}


def readings(folder: Path, more: dict[str, str] | None = None) -> AttributeUses:
    for name, text in (POLICIES | (more or {})).items():
        (folder / name).write_text(text)
    return AttributeUses(parse_policies(folder))


def test_attributes_of_derived_roles_and_of_variables_count(tmp_path: Path) -> None:
    found = readings(tmp_path)
    assert found.of("contact").attributes == {
        AttributeReference("resource", "owner"),
        AttributeReference("principal", "level"),
    }
    assert found.of("offer").attributes == {
        AttributeReference("resource", "until"),
        AttributeReference("principal", "away"),
    }
    assert found.of("contact").reads("resource", "owner")
    assert not found.of("contact").reads("resource", "phone")
    assert not found.of("contact").reads("principal", "owner")


def test_the_time_counts_where_a_rule_of_the_kind_asks_for_it(tmp_path: Path) -> None:
    found = readings(tmp_path)
    assert not found.of("contact").clock
    assert found.of("offer").clock


def test_a_kind_that_no_policy_names_reads_what_any_rule_does(tmp_path: Path) -> None:
    found = readings(tmp_path)
    assert found.of("x1") is found.of("x2")
    assert found.of("x1").reads("principal", "away")


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: api.cerbos.dev/v1\nresourcePolicy: {resource: [",
        POLICIES["offer.yaml"].replace("offer", "note").replace("V.open", "R.attr.a ==== 2"),
        POLICIES["offer.yaml"].replace("offer", "note").replace("V.open", "R.attr[P.id]"),
    ],
    ids=["file", "expression", "worked out"],
)
def test_what_cannot_be_read_reads_everything(tmp_path: Path, text: str) -> None:
    found = readings(tmp_path, {"note.yaml": text})
    assert found.of("note").reads("resource", "anything")


def test_where_a_file_cannot_be_read_the_time_may_decide(tmp_path: Path) -> None:
    assert not readings(tmp_path).of("contact").clock
    assert readings(tmp_path, {"note.yaml": "resourcePolicy: {resource: ["}).of("contact").clock


def test_a_schema_holds_all_attributes(tmp_path: Path) -> None:
    (tmp_path / "_schemas").mkdir()
    (tmp_path / "_schemas/note.json").write_text('{"type": "object", "additionalProperties": false}')
    text = POLICIES["contact.yaml"].replace("contact", "note")
    text = text.replace("  rules:", "  schemas: {resourceSchema: {ref: 'cerbos:///note.json'}}\n  rules:")
    found = readings(tmp_path, {"note.yaml": text})
    assert found.of("note").reads("resource", "phone")
    assert not found.of("note").reads("principal", "phone")


def test_rules_are_those_that_may_match(tmp_path: Path) -> None:
    found = readings(tmp_path)

    def places(kind: str, action: str, *roles: str) -> list[str]:
        return [f"{Path(rule.place.file).name}:{rule.place.line}" for rule in found.rules(kind, action, roles)]

    assert places("contact", "read", "user") == ["contact.yaml:8"]
    assert places("contact", "delete", "user") == []
    assert places("contact", "read", "admin", "user") == ["contact.yaml:8", "contact.yaml:9"]
    assert places("offer", "read") == ["alice.yaml:7"]


def test_our_own_policies_are_read() -> None:
    found = AttributeUses(parse_policies(ROOT / "policies"))
    assert found.of("contact").reads("resource", "owner")
    assert not found.of("contact").clock
