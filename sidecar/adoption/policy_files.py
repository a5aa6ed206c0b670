"""Grants → policies of Cerbos with their evidence, and tests of them, which need nobody's real id.

Every name out of a log stands in double quotes, or as a comment in which nothing can end the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sidecar.adoption.evidence import NUMBER, RESOURCE_ID, Hits, RequestGroup
from sidecar.adoption.grants import Action, Grant, Granted, Ungranted
from sidecar.adoption.report_text import number_of, plain

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOLD = 60
"""Cases of one kind that are listed as not granted."""


class KindDraft(NamedTuple):
    """Everything about one kind. `slug` names its files."""

    kind: str
    slug: str
    actions: Sequence[Action]

    @property
    def ungranted(self) -> list[Ungranted]:
        """Cases that no rule allows, and the app does."""
        return [each for action in self.actions for each in action.ungranted]

    @property
    def granted(self) -> list[tuple[str, Granted]]:
        """Grants, each with its action."""
        return [(action.action, each) for action in self.actions for each in action.granted]


class Derived(NamedTuple):
    """A derived role: the owner, by one attribute, among those who have one of some roles."""

    own: str
    parents: frozenset[str]


def files_of(draft: KindDraft, cases: Sequence[RequestGroup], head: str) -> Iterator[tuple[str, str]]:
    """Return the files of one kind, by name. `cases` are those that its tests ask about."""
    names = _derived_roles(draft)
    yield f"{draft.slug}_policy.yaml", _policy(draft, names, head)
    if names:
        yield f"{draft.slug}_roles.yaml", _roles(draft, names, head)
    tests = _tests(draft, cases, head)
    if tests:
        yield f"{draft.slug}_test.yaml", tests


def slugs(kinds: Iterable[str]) -> dict[str, str]:
    """Return a name for the files of each kind, all different without case."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for kind in kinds:
        plain_name = re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_")[:40] or "kind"
        name, number = plain_name, 2
        while name in taken:
            name, number = f"{plain_name}_{number}", number + 1
        taken.add(name)
        found[kind] = name
    return found


def quoted(text: str) -> str:
    """Return a text in double quotes, as each YAML reader takes it."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


# --- policies ---


def _derived_roles(draft: KindDraft) -> dict[Derived, str]:
    """The derived roles of a kind, each with its name: those of the most actions first."""
    wanted: dict[Derived, int] = {}
    for action in draft.actions:
        for derived in _derived_of(action):
            wanted[derived] = wanted.get(derived, 0) + 1
    names: dict[Derived, str] = {}
    for derived in sorted(wanted, key=lambda one: (-wanted[one], one.own, sorted(one.parents))):
        name, number = _name_of(derived.own), 2
        while name in names.values():
            name, number = f"{_name_of(derived.own)}_{number}", number + 1
        names[derived] = name
    return names


def _derived_of(action: Action) -> list[Derived]:
    parents: dict[str, frozenset[str]] = {}
    for granted in action.granted:
        own, roles = granted.grant.own, granted.grant.roles
        if own is not None and not granted.together:
            parents[own] = parents.get(own, frozenset()) | roles
    return [Derived(own, roles) for own, roles in parents.items()]


def _name_of(own: str) -> str:
    if own == RESOURCE_ID:
        return "self"
    if "owner" in own.lower():
        return "owner"
    own = own.removeprefix(NUMBER)
    return re.sub(r"[^A-Za-z0-9]+", "_", own).strip("_") or "owner"


def _policy(draft: KindDraft, names: Mapping[Derived, str], head: str) -> str:
    lines = [
        head, 'apiVersion: "api.cerbos.dev/v1"', "resourcePolicy:", f"  resource: {quoted(draft.kind)}",
        '  version: "default"',
    ]  # fmt: skip
    if names:
        lines.append(f"  importDerivedRoles: [{quoted(f'{draft.slug}_roles')}]")
    rules = [line for action in draft.actions for line in _rules(action, names)]
    lines += ["  rules:", *rules] if rules else ["  rules: []"]
    lines += _not_granted(draft)
    return "\n".join(lines) + "\n"


def _rules(action: Action, names: Mapping[Derived, str]) -> Iterator[str]:
    for derived in _derived_of(action):
        for granted in action.granted:
            if granted.grant.own == derived.own and not granted.together:
                yield _because(action, granted)
        yield from _rule(action.action, f"derivedRoles: [{quoted(names[derived])}]")
    for granted in action.granted:
        first, *others = sorted(granted.grant.roles)
        if granted.together:
            yield _because(action, granted)
            yield "    # These roles were never seen apart. Name the one that counts, and remove the condition."
            yield from _rule(action.action, f"roles: [{quoted(first)}]", _condition(granted.grant.own, others))
        elif granted.grant.own is None:
            yield _because(action, granted)
            yield from _rule(action.action, f"roles: [{quoted(first)}]")


def _rule(action: str, who: str, condition: str = "") -> Iterator[str]:
    yield f"    - actions: [{quoted(action)}]"
    yield '      effect: "EFFECT_ALLOW"'
    yield f"      {who}"
    if condition:
        yield f"      condition: {{match: {{expr: {quoted(condition)}}}}}"


def _condition(own: str | None, roles: Iterable[str]) -> str:
    parts = [f"{quoted(role)} in request.principal.roles" for role in roles]
    return " && ".join([*parts, *([_is_own(own)] if own is not None else [])])


def _is_own(own: str) -> str:
    """An expression that is true for the principal's own resources, and is no error where the attribute is absent."""
    if own == RESOURCE_ID:
        return "request.resource.id == request.principal.id"
    plain_name = own.removeprefix(NUMBER)
    if _IDENTIFIER.fullmatch(plain_name) and plain_name not in _RESERVED:
        name = f"request.resource.attr.{plain_name}"
        guard = f"has({name})"
    else:
        name = f"request.resource.attr[{quoted(plain_name)}]"
        guard = f"{quoted(plain_name)} in request.resource.attr"
    if own.startswith(NUMBER):
        # a number is a double to Cerbos, and no text equals it
        return f"{guard} && type({name}) == double && string(int({name})) == request.principal.id"
    return f"{guard} && {name} == request.principal.id"


_RESERVED = frozenset(
    (
        "false", "in", "null", "true", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    )
)  # fmt: skip
"""Words that are no names in CEL (its language definition, "Syntax")."""


def _because(action: Action, granted: Granted) -> str:
    return f"    # {plain(action.action)}, {who_of(granted.grant)}: {evidence_of(granted.hits)}"


def who_of(grant: Grant) -> str:
    """Return whom a grant is for, in words."""
    roles = " and ".join(plain(role) for role in sorted(grant.roles))
    if grant.own is None:
        return roles
    return f"{roles}, own by {own_text(grant.own)}"


def own_text(own: str) -> str:
    """Return an attribute of an owner match as people read it."""
    return "id" if own == RESOURCE_ID else plain(own.removeprefix(NUMBER))


def evidence_of(hits: Hits) -> str:
    """Return how often, by how many, when, and with which statuses of the app."""
    statuses = ", ".join(f"{status} ({count:,})" for status, count in sorted(hits.statuses.items()))
    requests = number_of(hits.span.requests, False, "request")
    who = number_of(len(hits.principals), False, "principal")
    return f"{requests} of {who}, {hits.span.first[:10]} to {hits.span.last[:10]}, app {statuses}"


def _not_granted(draft: KindDraft) -> Iterator[str]:
    if draft.ungranted:
        yield ""
        yield "# Not granted, decide:"
    for each in draft.ungranted[:_TOLD]:
        yield f"# - {ungranted_text(each)}"
    if len(draft.ungranted) > _TOLD:
        yield f"# - and {len(draft.ungranted) - _TOLD:,} more"


def ungranted_text(each: Ungranted) -> str:
    """Return a case that is not granted, in words, with its numbers and the reason."""
    case, answers = each.case, each.answers
    roles = ", ".join(plain(role) for role in sorted(case.roles)) or "no role"
    own = (
        f", own by {', '.join('id' if one == RESOURCE_ID else plain(one) for one in sorted(case.own))}"
        if case.own
        else ""
    )
    refused = f"; refused {answers.refused.span.requests:,}" if answers.refused.span.requests else ""
    return f"{plain(case.action)}, {roles}{own}: {evidence_of(answers.admitted)}{refused} ({each.reason})"


def _roles(draft: KindDraft, names: Mapping[Derived, str], head: str) -> str:
    lines = [
        head, 'apiVersion: "api.cerbos.dev/v1"', "derivedRoles:", f"  name: {quoted(f'{draft.slug}_roles')}",
        "  definitions:",
    ]  # fmt: skip
    for derived, name in names.items():
        lines += [
            f"    - name: {quoted(name)}",
            f"      parentRoles: [{', '.join(quoted(role) for role in sorted(derived.parents))}]",
            f"      condition: {{match: {{expr: {quoted(_is_own(derived.own))}}}}}",
        ]
    return "\n".join(lines) + "\n"


# --- tests ---


def _tests(draft: KindDraft, cases: Sequence[RequestGroup], head: str) -> str:
    """A suite that asks about these cases: one test for each set of roles and owner match."""
    attributes = sorted({name for case in cases for name in case.own} - {RESOURCE_ID})
    asked: dict[tuple[frozenset[str], frozenset[str]], dict[str, bool]] = {}
    allows = {action.action: action for action in draft.actions}
    for case in cases:
        expected = asked.setdefault((case.roles, case.own), {})
        expected[case.action] = allows[case.action].allows(case.roles, case.own)
    if not asked:
        return ""
    everyone = sorted({roles for roles, _ in asked}, key=sorted)
    # where an owner is a number, ids are
    name_of = "{}" if any(one.startswith(NUMBER) for one in attributes) else "person-{}"
    people = {roles: name_of.format(number) for number, roles in enumerate(everyone, 1)}
    things = {who: f"thing-{number}" for number, who in enumerate(asked, 1)}
    lines = [head, f"name: {quoted(f'{plain(draft.kind)}, as recorded')}", "principals:"]
    for roles, name in people.items():
        listed = ", ".join(quoted(role) for role in sorted(roles))
        lines.append(f"  {quoted(name)}: {{id: {quoted(name)}, roles: [{listed}]}}")
    lines.append("resources:")
    for (roles, own), name in things.items():
        person = people[roles]
        names = dict.fromkeys(attribute.removeprefix(NUMBER) for attribute in attributes)
        values = ", ".join(f"{quoted(one)}: {_owner(one, own, person)}" for one in names)
        thing = person if RESOURCE_ID in own else name
        lines.append(f"  {quoted(name)}: {{kind: {quoted(draft.kind)}, id: {quoted(thing)}, attr: {{{values}}}}}")
    lines.append("tests:")
    for number, ((roles, own), expected) in enumerate(asked.items(), 1):
        lines += _test(number, people[roles], things[roles, own], expected)
    return "\n".join(lines) + "\n"


def _owner(attribute: str, own: frozenset[str], person: str) -> str:
    """The value of an attribute: the person, or somebody else."""
    if NUMBER + attribute in own:
        return person
    return quoted(person if attribute in own else "somebody-else")


def _test(number: int, person: str, thing: str, expected: Mapping[str, bool]) -> Iterator[str]:
    actions = sorted(expected)
    effects = ", ".join(f'{quoted(one)}: "{"EFFECT_ALLOW" if expected[one] else "EFFECT_DENY"}"' for one in actions)
    listed = ", ".join(map(quoted, actions))
    yield f"  - name: {quoted(f'case {number}')}"
    yield f"    input: {{principals: [{quoted(person)}], resources: [{quoted(thing)}], actions: [{listed}]}}"
    yield f"    expected: [{{principal: {quoted(person)}, resource: {quoted(thing)}, actions: {{{effects}}}}}]"
