"""`study/policies.py`: the files that Cerbos loads, read as Cerbos reads them."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.pdp.compiling import compile_policies
from sidecar.pdp.embedded import _ADMIN_HASH, ADMIN
from sidecar.pdp.policy_files import policy_files
from sidecar.study.policies import Policies, parse_policies
from sidecar.study.reads import WHOLE, Use, uses
from tests.policy_table import real_cerbos
from tests.stack import ROOT, binary
from tests.study.compiled import HEAD, policy, rule, write

RICH = {
    "derived.yaml": """\
apiVersion: api.cerbos.dev/v1
derivedRoles:
  name: people
  variables: {local: {mine: R.attr.owner == P.id}}
  definitions:
    - {name: owner, parentRoles: [user, editor], condition: {match: {expr: V.mine}}}
    - name: colleague
      parent_roles: ["*"]
      condition: {match: {expr: R.attr.team in P.attr.teams}}
""",
    "names/variables.yml": """\
apiVersion: api.cerbos.dev/v1
exportVariables:
  name: common
  definitions: {grown: P.attr.age >= C.adult}
""",
    "names/constants.JSON": '{"apiVersion": "api.cerbos.dev/v1", "exportConstants": {"name": "limits", "definitions": {"adult": 18}}}',
    "doc.yaml": """\
apiVersion: api.cerbos.dev/v1
metadata: {annotations: {sidecar-check-accepts: "attribute-untyped, deny-for-role"}}
resource_policy:
  resource: doc
  version: 1
  scope: acme
  import_derived_roles: [people]
  variables: {import: [common], local: {open: R.attr.open}}
  constants: {import: [limits]}
  rules:
    - &read
      actions: [read, "view:*"]
      effect: EFFECT_ALLOW
      derivedRoles: [owner]
      roles: [admin]
      condition:
        match:
          all:
            of:
              - expr: V.grown
              - any: {of: [{expr: V.open}, {none: {of: [{expr: P.attr.banned}]}}]}
    - {<<: *read, actions: [write], effect: 2}
""",
    "parent.yaml": policy([rule()], version="1"),
    "alice.yaml": """\
apiVersion: api.cerbos.dev/v1
principalPolicy:
  principal: alice
  version: default
  rules:
    - resource: "d*"
      actions: [{action: read, effect: EFFECT_DENY, condition: {match: {expr: R.attr.secret}}}]
""",
    "role.yaml": """\
apiVersion: api.cerbos.dev/v1
rolePolicy:
  role: editor
  rules: [{resource: doc, allowActions: [read, write], condition: {match: {expr: R.attr.draft}}}]
""",
    "off.yaml": HEAD + "disabled: true\n" + policy([rule(match="R.attr.off")], kind="off").removeprefix(HEAD),
}  # fmt: skip


def attributes(policies: Policies, of: str) -> set[str]:
    """All attributes that the rules of one policy read."""
    return {
        str(use.attribute)
        for rule in policies.rules
        if rule.policy.name == of
        for condition in rule.conditions
        for use in uses(condition)
        if isinstance(use, Use)
    }


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    write(tmp_path, RICH)
    assert compile_policies(binary(), tmp_path) == []
    return tmp_path


def test_every_kind_of_policy_is_read(rich: Path) -> None:
    policies = parse_policies(rich)
    assert policies.unread == []
    found = {(policy.kind, policy.name, policy.version, policy.scope) for policy in policies.policies}
    assert found == {
        ("resourcePolicy", "doc", "1", "acme"), ("resourcePolicy", "doc", "1", ""), ("principalPolicy", "alice", "default", ""),
        ("rolePolicy", "editor", "default", ""),
    }  # fmt: skip
    rules = {
        (rule.policy.kind, rule.resource, rule.actions, rule.deny, rule.roles)
        for rule in policies.rules
        if rule.conditions
    }
    roles = frozenset(("admin", "user", "editor"))
    assert rules == {
        ("resourcePolicy", "doc", ("read", "view:*"), False, roles), ("resourcePolicy", "doc", ("write",), True, roles),
        ("principalPolicy", "d*", ("read",), True, frozenset()),
        ("rolePolicy", "doc", ("read", "write"), False, frozenset(("editor",))),
    }  # fmt: skip
    assert policies.accepts[str(rich / "doc.yaml")] == {"attribute-untyped", "deny-for-role"}


def test_conditions_are_found_wherever_they_stand(rich: Path) -> None:
    policies = parse_policies(rich)
    assert attributes(policies, "doc") == {
        "request.resource.attr.owner", "request.resource.attr.open", "request.principal.attr.age", "request.principal.attr.banned"
    }  # fmt: skip
    assert attributes(policies, "alice") == {"request.resource.attr.secret"}
    assert attributes(policies, "editor") == {"request.resource.attr.draft"}


def test_an_attribute_has_the_place_where_it_is_written(rich: Path) -> None:
    places = {
        f"{use.attribute} {Path(use.place.file).name}:{use.place.line}:{use.place.column}"
        for rule in parse_policies(rich).rules
        for condition in rule.conditions
        for use in uses(condition)
        if isinstance(use, Use)
    }
    assert {
        "request.resource.attr.owner derived.yaml:4:29", "request.principal.attr.age variables.yml:4:24", "request.principal.attr.banned doc.yaml:21:64",
        "request.resource.attr.open doc.yaml:8:47", "request.resource.attr.secret alice.yaml:7:79",
    } <= places  # fmt: skip


def test_effective_derived_roles_read_what_each_of_them_reads(tmp_path: Path) -> None:
    text = policy([rule(match='"owner" in runtime.effectiveDerivedRoles')], importDerivedRoles=["people"])
    write(tmp_path, {"derived.yaml": RICH["derived.yaml"], "doc.yaml": text})
    assert compile_policies(binary(), tmp_path) == []
    (only,) = parse_policies(tmp_path).rules
    assert only.roles == {"*"}
    assert attributes(parse_policies(tmp_path), "doc") == {
        "request.resource.attr.owner", "request.resource.attr.team", "request.principal.attr.teams"
    }  # fmt: skip


# --- which files ---

NAMES = {
    "a.yaml": True, "b.yml": True, "c.json": True, "d.YAML": True, "_e.yaml": True, "-f.yaml": True, "g_tests.yaml": True,
    "sub/h.yaml": True, ".i.yaml": False, ".sub/j.yaml": False, "k_test.yaml": False, "l_test.json": False,
    "testdata/m.yaml": False, "sub/testdata/n.yaml": False, "_schemas/o.yaml": False, "p.txt": False, "q.yaml.bak": False,
    "r_TEST.yaml": False, "s_Test.YML": False, "TestData/t.yaml": True, "sub/_Schemas/u.yaml": True,
}  # fmt: skip


def test_the_files_are_those_that_cerbos_loads(tmp_path: Path) -> None:
    """Each has a policy of its own, and Cerbos tells which it has."""
    folder = tmp_path / "policies"
    kinds = {name: f"kind{number}" for number, name in enumerate(NAMES)}
    write(folder, {name: policy([rule()], kind=kind) for name, kind in kinds.items()})
    ours = {str(path.relative_to(folder)) for path in policy_files(folder)[0]}
    assert ours == {name for name, loaded in NAMES.items() if loaded}
    with inspected(tmp_path, folder) as results:
        theirs = {found["policyId"] for found in results.values()}
    assert theirs == ours


@contextmanager
def inspected(folder: Path, policies: Path) -> Iterator[dict[str, Any]]:
    """What Cerbos' InspectPolicies says: policy -> its attributes and more."""
    user, _, _ = ADMIN.partition(":")
    admin = {"enabled": True, "adminCredentials": {"username": user, "passwordHash": _ADMIN_HASH}}
    with real_cerbos(folder, policies, adminAPI=admin) as cerbos:
        request = urllib.request.Request(f"http://127.0.0.1:{cerbos.port}/admin/policies/inspect")
        request.add_header("Authorization", f"Basic {base64.b64encode(ADMIN.encode()).decode()}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            yield json.loads(answer.read())["results"]


OWNERS = {"KIND_PRINCIPAL_ATTRIBUTE": "principal", "KIND_RESOURCE_ATTRIBUTE": "resource"}


@pytest.mark.parametrize("which", ["rich", "policies", "tests/hostile/policies", "deploy/k8s/authz/policies"])
def test_cerbos_finds_no_attribute_that_we_do_not(tmp_path: Path, which: str) -> None:
    """Cerbos' own list leaves out the forms with brackets and `in`, so that ours may be longer."""
    folder = write(tmp_path / "policies", RICH) if which == "rich" else ROOT / which
    ours = {
        use for policy in parse_policies(folder).policies for use in attributes(parse_policies(folder), policy.name)
    }
    ours |= (
        {"request.resource.attr.team", "request.principal.attr.teams"} if which == "rich" else set()
    )  # of a role that no rule names
    assert not any(WHOLE in name for name in ours)
    with inspected(tmp_path, folder) as results:
        theirs = {
            f"request.{OWNERS[found['kind']]}.attr.{found['name']}"
            for result in results.values()
            for found in result.get("attributes", ())
        }
    assert theirs <= ours
    assert theirs or which == "policies/none"


# --- what cannot be read ---

NESTED = f"{HEAD}resourcePolicy:\n  resource: doc\n  version: default\n  rules:\n" + "".join(
    f"    - {{actions: [a], effect: 1, roles: [user], condition: {{match: &m{n} {{all: {{of: [{of}]}}}}}}}}\n"
    for n, of in enumerate(["expr: 'true'", *(f"*m{n}" for n in range(1000))])
)
"""Sound, each condition within the next."""


@pytest.mark.parametrize(
    ("text", "said", "opaque"),
    [
        ("apiVersion: [\n", "doc.yaml:2:1: could not be read: expected the node content", True),
        ("- a\n", "doc.yaml:1:1: could not be read: found no mapping", True),
        ("", "doc.yaml:1:1: could not be read: found nothing in it, expected a mapping", False),
        ("---\n# to do\n", "doc.yaml:1:1: could not be read: found nothing in it, expected a mapping", False),
        (HEAD + "futurePolicy: {}\n", "doc.yaml:1:1: could not be read: no kind of policy that is known", True),
        (
            "--- &a\n" + policy([rule()]) + "<<: *a\n",
            "doc.yaml:1:5: could not be read: found an alias inside what it stands for, expected it outside", True,
        ),
        (NESTED, "doc.yaml:1:1: could not be read: nested too deeply", True),
        (policy([rule("PERHAPS")]), "doc.yaml:2:69: could not be read: a rule without a known effect", True),
        (policy([{**rule(), "condition": {"script": "x"}}]), "could not be read: a condition without `match`", True),
        (
            policy([{**rule(), "condition": {"match": {"most": {}}}}]),
            "could not be read: expected expr, all, any or none", True,
        ),
        (
            policy([rule()], schemas={"resourceSchema": {"ref": "cerbos:///no.json"}}),
            "could not be read: the schema 'cerbos:///no.json': No such file or directory", False,
        ),
        (policy([rule()], schemas={"resourceSchema": {"ref": "https://x/no.json"}}), "expected cerbos:///...", False),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(tmp_path: Path, text: str, said: str, opaque: bool) -> None:
    """What may name other kinds and actions is opaque; Cerbos passes over a file with nothing in it."""
    write(tmp_path, {"doc.yaml": text})
    policies = parse_policies(tmp_path)
    (unread,) = policies.unread
    assert said in str(unread)
    assert str(unread).startswith(str(tmp_path))
    assert unread.line
    assert (unread.opaque, policies.partial) == (opaque, opaque)


@pytest.mark.parametrize("make", ["dangling", "circle"])
def test_a_folder_that_cannot_be_walked_is_said_to_be_unread(tmp_path: Path, make: str) -> None:
    write(tmp_path, {"a.yaml": policy([rule()])})
    (tmp_path / "b.yaml").symlink_to(tmp_path / "none.yaml") if make == "dangling" else (tmp_path / "b").symlink_to(
        tmp_path
    )
    policies = parse_policies(tmp_path)
    (told,) = policies.unread
    assert str(told).startswith(f"{tmp_path}/b")
    assert policies.partial
    assert [policy.name for policy in parse_policies(tmp_path).policies] == ["doc"]


@pytest.mark.parametrize("kind", ["exportVariables", "exportConstants"])
def test_an_export_without_definitions_keeps_nothing_else_from_being_read(tmp_path: Path, kind: str) -> None:
    """The policies of a Cerbos elsewhere are read without being compiled first."""
    (tmp_path / "a.yaml").write_text(f"apiVersion: api.cerbos.dev/v1\n{kind}: {{name: common}}\n")
    (tmp_path / "doc.yaml").write_text(
        "apiVersion: api.cerbos.dev/v1\nresourcePolicy: {resource: doc, version: default, rules: []}\n"
    )
    assert [policy.name for policy in parse_policies(tmp_path).policies] == ["doc"]
