"""A folder of Cerbos policies (docs.cerbos.dev, "Policies") -> its rules, with their conditions and places.

It reads what `cerbos compile` has found sound, and says what it could not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import yaml

from sidecar.config.yaml_nodes import NothingInIt, Place, Scalar, YamlDocument, entries, fields, holding_itself, items
from sidecar.config.yaml_text import NoYaml
from sidecar.pdp.policy_files import PolicyProblem, policy_files
from sidecar.pdp.policy_names import PolicyName, disabled_at, policy_name
from sidecar.study.schemas import NO_SCHEMA, Schema, read_schema

ACCEPTS = "sidecar-check-accepts"
"""An annotation of a policy's `metadata`: names of warnings, with commas between, that are not told of its file."""


class Match(NamedTuple):
    """A condition: `expr` with its expression, or `all`, `any`, `none` of others."""

    kind: str
    expression: Scalar | None
    of: tuple[Match, ...] = ()


class PolicyNames(NamedTuple):
    """Names that an expression may use: variables, and constants with the place of their value."""

    variables: Mapping[str, Scalar]
    constants: Mapping[str, Scalar | None]


class Condition(NamedTuple):
    """A condition and the names that it may use."""

    match: Match
    names: PolicyNames


class Policy(NamedTuple):
    """One policy. `kind` is its kind of policy, `name` what it is about: a resource, a principal or a role.

    `actions` are those of the rules of a resource policy, with the first place of each. `consents`: what it allows, its
    parent scope must allow, too.
    """

    kind: str
    name: str
    version: str
    scope: str
    place: Place
    actions: Mapping[str, Place] = MappingProxyType({})
    resource_schema: Schema = NO_SCHEMA
    principal_schema: Schema = NO_SCHEMA
    consents: bool = False
    schemas: frozenset[str] = frozenset()
    """Owners of attributes that are held against a schema, `principal` and `resource`, be it for some actions only."""


class Rule(NamedTuple):
    """One rule. `resource` and `actions` may be globs, `roles` are those of its derived roles, too.

    `name` is that of Cerbos' traces, which count rules without one; "" of a role policy, whose rules have none there.
    """

    policy: Policy
    place: Place
    resource: str
    actions: tuple[str, ...]
    deny: bool
    roles: frozenset[str]
    conditions: tuple[Condition, ...]
    name: str = ""


class Policies(NamedTuple):
    """All policies of a folder. `unread` says what could not be read; `accepts` are the names of the warnings that a
    file says are meant."""

    policies: list[Policy]
    rules: list[Rule]
    unread: list[PolicyProblem]
    accepts: Mapping[str, frozenset[str]]

    @property
    def partial(self) -> bool:
        """True while it is not known what one of the files says."""
        return any(problem.opaque for problem in self.unread)


class _DerivedRole(NamedTuple):
    roles: frozenset[str]
    conditions: tuple[Condition, ...]


_OVERRIDES = ("", "SCOPE_PERMISSIONS_UNSPECIFIED", "SCOPE_PERMISSIONS_OVERRIDE_PARENT")
_EFFECTS = {"EFFECT_ALLOW": False, "1": False, "EFFECT_DENY": True, "2": True}


def parse_policies(folder: Path, without: Collection[str] = ()) -> Policies:
    """Read every policy that Cerbos would load from `folder`, but for the files `without`."""
    reader = _Reader(folder, without)
    reader.read_all()
    accepts = {document.name: _accepted(document) for document in reader.documents}
    return Policies(reader.policies, reader.rules, reader.unread, accepts)


def _accepted(document: YamlDocument) -> frozenset[str]:
    annotations = entries(fields(fields(document.root).get("metadata")).get("annotations"))
    said = document.scalar(annotations.get(ACCEPTS))
    return frozenset(re.split(r"[\s,]+", said.value)) if said is not None else frozenset()


class _Reader:
    """Reads the files of one folder: first what others import, then the policies."""

    def __init__(self, folder: Path, without: Collection[str]) -> None:
        self._folder = folder
        self.policies: list[Policy] = []
        self.rules: list[Rule] = []
        self.unread: list[PolicyProblem] = []
        self.documents: list[YamlDocument] = []
        self._exports: dict[tuple[str, str], tuple[YamlDocument, yaml.Node | None]] = {}
        self._derived: dict[str, dict[str, _DerivedRole]] = {}
        paths, problems = policy_files(folder)
        self.unread += [problem for problem in problems if problem.file not in without]
        for path in paths:
            if str(path) not in without:
                self._open(path)
        for document in self.documents:
            self._safely(self._read_derived, document)

    def _open(self, path: Path) -> None:
        try:
            document = YamlDocument(path, str(path))
        except NoYaml as error:
            opaque = not isinstance(error, NothingInIt)
            said = f"could not be read: {error}"
            self.unread.append(PolicyProblem(str(path), said, error.line, error.column, opaque=opaque))
            return
        except OSError as error:
            self.unread.append(PolicyProblem(str(path), f"could not be read: {error.strerror}", opaque=True))
            return
        if (part := holding_itself(document.root)) is not None:
            self._note(document.place(part), "found an alias inside what it stands for, expected it outside")
            return
        root = fields(document.root)
        if disabled_at(document) is not None:
            return
        self.documents.append(document)
        for kind in ("exportVariables", "exportConstants"):
            name = document.scalar(fields(root.get(kind)).get("name"))
            if name is not None:
                self._exports[kind, name.value] = (document, fields(root[kind]).get("definitions"))

    def _note(self, place: Place, said: str) -> None:
        # Cerbos takes nothing of such a file
        self.unread.append(
            PolicyProblem(place.file, f"could not be read: {said}", place.line, place.column, opaque=True)
        )

    # --- names ---

    def _names(self, document: YamlDocument, body: Mapping[str, yaml.Node]) -> PolicyNames:
        variables = self._imported(document, body, "variables", "exportVariables")
        constants = self._imported(document, body, "constants", "exportConstants")
        for name, node in entries(fields(document.root).get("variables")).items():
            # before 0.34 they stood beside the policy, and may still
            variables.setdefault(name, document.scalar(node))
        return PolicyNames({name: scalar for name, scalar in variables.items() if scalar is not None}, constants)

    def _imported(
        self, document: YamlDocument, body: Mapping[str, yaml.Node], field: str, exported: str
    ) -> dict[str, Scalar | None]:
        found: dict[str, Scalar | None] = {}
        said = fields(body.get(field))
        for name in document.texts(said.get("import")):
            if (exported, name) in self._exports:
                source, node = self._exports[exported, name]
                found |= {each: source.scalar(value) for each, value in entries(node).items()}
        return found | {each: document.scalar(value) for each, value in entries(said.get("local")).items()}

    # --- conditions ---

    def _conditions(self, document: YamlDocument, node: yaml.Node | None, names: PolicyNames) -> tuple[Condition, ...]:
        if node is None:
            return ()
        said = fields(node)
        if "match" not in said:
            self._note(document.place(node), "a condition without `match`")
            return ()
        return (Condition(self._match(document, said["match"]), names),)

    def _match(self, document: YamlDocument, node: yaml.Node) -> Match:
        for kind, value in fields(node).items():
            if kind == "expr":
                return Match(kind, document.scalar(value))
            if kind in ("all", "any", "none"):
                return Match(kind, None, tuple(self._match(document, each) for each in items(fields(value).get("of"))))
        self._note(document.place(node), "expected expr, all, any or none")
        return Match("all", None)

    # --- derived roles ---

    def _read_derived(self, document: YamlDocument) -> None:
        body = fields(fields(document.root).get("derivedRoles"))
        name = document.scalar(body.get("name"))
        if name is None:
            return
        names = self._names(document, body)
        found = self._derived.setdefault(name.value, {})
        for node in items(body.get("definitions")):
            said = fields(node)
            role = document.scalar(said.get("name"))
            if role is not None:
                found[role.value] = _DerivedRole(
                    frozenset(document.texts(said.get("parentRoles"))),
                    self._conditions(document, said.get("condition"), names),
                )

    # --- policies ---

    def read_all(self) -> None:
        """Read the policies of all files."""
        for document in self.documents:
            self._safely(self._read, document)

    def _safely(self, read: Callable[[YamlDocument], None], document: YamlDocument) -> None:
        try:
            read(document)
        except RecursionError:
            self._note(document.place(document.root), "nested too deeply")

    def _read(self, document: YamlDocument) -> None:
        """Read the policy of one file, if it is one that has rules."""
        root = fields(document.root)
        named = policy_name(document)
        if named is None:
            if not root.keys() & {"derivedRoles", "exportVariables", "exportConstants"}:
                self._note(document.place(document.root), "no kind of policy that is known")
            return
        body = fields(root[named.kind])
        policy = self._policy(document, named, body)
        self.policies.append(policy)
        names = self._names(document, body)
        derived: dict[str, _DerivedRole] = {}
        for name in document.texts(body.get("importDerivedRoles")):
            derived |= self._derived.get(name, {})
        for number, node in enumerate(items(body.get("rules")), 1):
            self._rules(document, policy, node, names, derived, f"rule-{number:03d}")

    def _policy(self, document: YamlDocument, named: PolicyName, body: Mapping[str, yaml.Node]) -> Policy:
        permissions = document.scalar(body.get("scopePermissions"))
        schemas = fields(body.get("schemas"))
        resource, principal = (
            read_schema(self._folder, document, schemas.get(which), self.unread)
            for which in ("resourceSchema", "principalSchema")
        )
        return Policy(
            named.kind, named.about, named.version, named.scope, named.place,
            _actions(document, body),
            resource, principal, permissions is not None and permissions.value not in _OVERRIDES,
            frozenset(owner for owner in ("principal", "resource") if f"{owner}Schema" in schemas),
        )  # fmt: skip

    def _rules(
        self, document: YamlDocument, policy: Policy, node: yaml.Node, names: PolicyNames,
        derived: Mapping[str, _DerivedRole], unnamed: str,
    ) -> None:  # fmt: skip
        said = fields(node)
        conditions = self._conditions(document, said.get("condition"), names)
        resource = document.scalar(said.get("resource"))
        about = resource.value if resource is not None else policy.name
        if policy.kind == "principalPolicy":
            for number, each in enumerate(items(said.get("actions")), 1):
                own = fields(each)
                name = _name(document, own, f"{about}_rule-{number:03d}")
                action = document.scalar(own.get("action"))
                self._add(
                    document, each, policy, about, (action.value,) if action else (), own,
                    frozenset(), self._conditions(document, own.get("condition"), names), name,
                )  # fmt: skip
            return
        if policy.kind == "rolePolicy":
            allowed = document.texts(said.get("allowActions"))
            self._add(document, node, policy, about, allowed, None, frozenset((policy.name,)), conditions)
            return
        used = [derived[name] for name in document.texts(said.get("derivedRoles")) if name in derived]
        roles = frozenset(document.texts(said.get("roles"))).union(*(role.roles for role in used))
        if any("effectiveDerivedRoles" in (text.value if text else "") for text in _texts(conditions)):
            # it may depend on each of them
            used += [role for role in derived.values() if role not in used]
        more = tuple(condition for role in used for condition in role.conditions)
        self._add(
            document, node, policy, about, document.texts(said.get("actions")), said, roles, (*conditions, *more),
            _name(document, said, unnamed),
        )  # fmt: skip

    def _add(
        self, document: YamlDocument, node: yaml.Node, policy: Policy, resource: str, actions: tuple[str, ...],
        said: Mapping[str, yaml.Node] | None, roles: frozenset[str], conditions: tuple[Condition, ...],
        name: str = "",
    ) -> None:  # fmt: skip
        effect = document.scalar(said.get("effect")) if said is not None else None
        if said is not None and (effect is None or effect.value not in _EFFECTS):
            self._note(document.place(node), "a rule without a known effect")
            return
        deny = effect is not None and _EFFECTS[effect.value]
        self.rules.append(Rule(policy, document.place(node), resource, actions, deny, roles, conditions, name))


def _actions(document: YamlDocument, body: Mapping[str, yaml.Node]) -> dict[str, Place]:
    """The actions of a policy's rules, each with its first place."""
    found: dict[str, Place] = {}
    for node in items(body.get("rules")):
        for action in items(fields(node).get("actions")):
            said = document.scalar(action)
            if said is not None:
                found.setdefault(said.value, said.start)
    return found


def _name(document: YamlDocument, said: Mapping[str, yaml.Node], otherwise: str) -> str:
    name = document.scalar(said.get("name"))
    return name.value if name is not None and name.value else otherwise


def _texts(conditions: tuple[Condition, ...]) -> Iterator[Scalar | None]:
    for condition in conditions:
        yield from _expressions(condition.match)
        yield from condition.names.variables.values()


def _expressions(match: Match) -> Iterator[Scalar | None]:
    yield match.expression
    for each in match.of:
        yield from _expressions(each)
