"""Warnings about policies: attributes that they read but never get, and denials without effect.

A condition that cannot be evaluated is not met, in a DENY too, unless Cerbos evaluates strictly; a comparison of a text
with a number or boolean by `==` is false even then. So each of these may let through what the policy's author denies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from sidecar.bodies.mcp import ESSENTIAL, KINDS
from sidecar.config.routes.file import RoutesFile
from sidecar.config.suggest import did_you_mean
from sidecar.config.yaml_nodes import Place
from sidecar.pdp.policy_files import PolicyProblem
from sidecar.pdp.policy_names import kind_name
from sidecar.study.globs import is_glob, looks_like_glob, matches, overlap
from sidecar.study.policies import Policies, Policy, Rule
from sidecar.study.reach import VERSION, about, by_kind
from sidecar.study.reads import WHOLE, UnreadExpression, Use, uses
from sidecar.study.schemas import Schema
from sidecar.study.supply import PolicyQuestion, Supply, of_principal, questions

_JSON_SCHEMA = {"integer": "number", "number": "number", "boolean": "bool", "string": "string"}


WARNINGS = frozenset((
    "action-glob", "attribute-unguarded", "attribute-unread", "attribute-unsupplied", "attribute-untyped",
    "deny-for-role", "expression-unread", "list-differs", "question-unknown",
))  # fmt: skip
"""The name of each warning, as `sidecar-check-accepts` takes them."""


class Warn(NamedTuple):
    """One warning: where, its name (for `sidecar-check-accepts`), and what it says."""

    place: Place | None
    name: str
    text: str

    def __str__(self) -> str:
        return f"{f'{self.place}: ' if self.place else ''}{self.text} [{self.name}]"


def warnings(
    routes: RoutesFile, policies: Policies, file: str = "routes.yaml", told: Collection[PolicyProblem] = ()
) -> list[str]:
    """Everything that may be wrong with policies for these routes, which are in `file`, in the order of the files. What
    could not be read is left out where a problem at that line is `told` already. While it is not known what a file
    says, neither is what no policy names."""
    of_policies = [*_of_denials(policies), *_of_globs(policies)]
    known = {(problem.file, problem.line) for problem in told}
    partial = policies.partial or any(problem.opaque for problem in told)
    unnamed = () if partial else _of_questions(routes, policies, file)
    found = [
        warn
        for warn in (*_of_attributes(routes, policies), *of_policies, *unnamed)
        if warn.name != "expression-unread" or warn.place is None or warn.place[:2] not in known
    ]
    found.sort(key=lambda warn: (warn.place is None, warn.place or (), warn.name))
    unread = [str(problem) for problem in policies.unread if (problem.file, problem.line) not in known]
    return [*dict.fromkeys([*unread, *map(str, _once(found))])]


def _once(found: list[Warn]) -> Iterator[Warn]:
    """Of an attribute that nothing supplies, or that a list has otherwise, the first place in each file."""
    told: set[tuple[str, str]] = set()
    for warn in found:
        key = (warn.place.file if warn.place else "", warn.text)
        if warn.name not in ("attribute-unsupplied", "list-differs") or key not in told:
            yield warn
        told.add(key)


def notes(routes: RoutesFile, policies: Policies) -> list[str]:
    """List what policies say that no route asks: no fault, and often a misspelt name."""
    asked = by_kind(questions(routes))
    found = []
    for policy in policies.policies:
        if policy.version != VERSION:
            found.append(f"{policy.place}: no route asks for version {policy.version!r}, only for {VERSION!r}")
        elif policy.kind == "resourcePolicy":
            known = {each.action for each in asked.get(kind_name(policy.name), ())}
            found += _unasked(policy, known)
    return found


def _unasked(policy: Policy, known: set[str]) -> Iterator[str]:
    if not known:
        yield f"{policy.place}: no route asks about the kind {policy.name!r}"
        return
    for action, place in policy.actions.items():
        if not any(matches(action, each) for each in known):
            yield f"{place}: no route asks for {action!r} of {policy.name!r}"


# --- attributes ---


def _of_attributes(routes: RoutesFile, policies: Policies) -> Iterator[Warn]:
    asked, principal = by_kind(questions(routes)), of_principal(routes.principal)
    for rule in policies.rules:
        reached = about(rule, asked)
        # `notes` says where there is none
        for condition in rule.conditions if reached else ():
            for use in uses(condition):
                yield from _accepted(_of_use(use, rule.policy, reached, principal), rule.policy, policies)


def attributes_read(routes: RoutesFile, policies: Policies) -> dict[str, Place]:
    """Return the attributes that these routes give Cerbos about a request and that the policies read, such as
    `resource.owner`, with the first place of each. What is asked about items of a list is not among them."""
    asked = by_kind(each for each in questions(routes) if not each.item)
    principal, found = of_principal(routes.principal), dict[str, Place]()
    for rule in policies.rules:
        reached = about(rule, asked)
        told = {"principal": {*principal}, "resource": {name for each in reached for name in each.attributes}}
        for use in (use for condition in rule.conditions if reached for use in uses(condition)):
            if isinstance(use, Use):
                owner, name = use.attribute
                supplied = told.get(owner, set())
                for one in sorted(supplied if name == WHOLE else supplied & {name}):
                    found.setdefault(f"{owner}.{one}", use.place)
    return found


def _accepted(warns: Iterator[Warn], policy: Policy, policies: Policies) -> Iterator[Warn]:
    """Those that neither the file of the place nor that of the policy accepts."""
    for warn in warns:
        files = {policy.place.file, warn.place.file if warn.place else policy.place.file}
        if not any(warn.name in policies.accepts.get(file, ()) for file in files):
            yield warn


def _of_use(
    use: Use | UnreadExpression, policy: Policy, about: list[PolicyQuestion], principal: Mapping[str, Supply]
) -> Iterator[Warn]:
    if isinstance(use, UnreadExpression):
        yield Warn(use.place, "expression-unread", f"could not be read: {use.reason}")
        return
    attribute = use.attribute
    if attribute.owner == "jwt":
        text = f"{attribute} is read, and the sidecar sends no token to Cerbos: map the claim in `principal.attributes`"
        yield Warn(use.place, "attribute-unsupplied", text)
    elif attribute.name == WHOLE:
        text = (
            f"request.{attribute.owner}.attr is read as a whole or by a name that is worked out: what could not be read"
        )
        yield Warn(use.place, "attribute-unread", text)
    elif attribute.owner == "principal":
        told = {"every request": principal.get(attribute.name)}
        yield from _of_supply(use, told, policy.principal_schema, "`principal.attributes`")
    else:
        told = {each.where: each.attributes.get(attribute.name) for each in about}
        yield from _of_supply(use, told, policy.resource_schema, about[0].remedy)
        yield from _of_lists(use, about)


def _of_supply(use: Use, told: Mapping[str, Supply | None], schema: Schema, remedy: str) -> Iterator[Warn]:
    name = use.attribute.name
    known = [supply for supply in told.values() if supply is not None]
    if not known:
        yield Warn(
            use.place, "attribute-unsupplied", f"{use.attribute} is read, and nothing supplies it: add it to {remedy}"
        )
        return
    if not use.guarded and name not in schema.required:
        yield from _of_absence(use, told)
    for supply in known:
        yield from _of_type(use, supply, _JSON_SCHEMA.get(schema.types.get(name, ""), ""))


def _of_absence(use: Use, told: Mapping[str, Supply | None]) -> Iterator[Warn]:
    for where, supply in told.items():
        why = f"{where} does not supply it" if supply is None else supply.absent
        if why:
            text = f"{use.attribute} may be absent ({why}), and is read without `{use.attribute.guard}`"
            yield Warn(use.place, "attribute-unguarded", text)
            return


def _of_lists(use: Use, about: list[PolicyQuestion]) -> Iterator[Warn]:
    """Warn of an attribute that the items of a list have otherwise than the same thing that is asked for alone: one
    person then sees in the list what is refused alone, or the other way round."""
    name = use.attribute.name
    for item in (each for each in about if each.item):
        for single in about:
            if single.item or (kind_name(single.kind), single.action) != (kind_name(item.kind), item.action):
                continue
            one, other = item.attributes.get(name), single.attributes.get(name)
            if _stands(one) != _stands(other):
                text = (
                    f"{use.attribute} is {_stands(one)} for {item.where} and {_stands(other)} for {single.where}, "
                    "which may then be decided otherwise: supply it alike in both"
                )
                yield Warn(use.place, "list-differs", text)


def _stands(supply: Supply | None) -> str:
    """Tell how an attribute is supplied."""
    if supply is None:
        return "not supplied"
    return f"{'optional' if supply.absent else 'required'} ({supply.type or 'without a type'})"


def _of_type(use: Use, supply: Supply, schema: str) -> Iterator[Warn]:
    declared = supply.type or schema
    if not use.with_ or declared == use.with_ or (not declared and use.with_ == "string"):
        return
    a_type = {"bool": "a boolean", "number": "a number", "string": "a text", "list": "a list"}
    has = f"it is {a_type[declared]}" if declared else "its type is not declared"
    remedy = f": {supply.declared.replace('TYPE', use.with_)}" if use.with_ != "string" else ""
    yield Warn(
        use.place, "attribute-untyped",
        f"{use.attribute} is compared with {a_type[use.with_]}, and {has} ({supply.where}){remedy}",
    )  # fmt: skip


# --- denials ---


def _of_denials(policies: Policies) -> Iterator[Warn]:
    """Warn of each DENY for named roles beside which another role is allowed.

    Cerbos decides for each role of the principal by itself, and answers ALLOW if any of them is allowed.
    """
    allows: dict[tuple[str, str], list[Rule]] = {}
    for rule in policies.rules:
        if not rule.deny and rule.policy.kind == "resourcePolicy":
            allows.setdefault((kind_name(rule.resource), rule.policy.version), []).append(rule)
    for deny in policies.rules:
        if not deny.deny or "*" in deny.roles or not deny.roles:
            continue
        beside = allows.get((kind_name(deny.resource), deny.policy.version), ())
        other = next((allow for allow in beside if _stays_allowed(deny, allow)), None)
        if other is not None:
            holders = sorted(other.roles - deny.roles)
            text = (
                f"this DENY for {', '.join(sorted(deny.roles))} does not stop a principal who also has "
                f"{'another role' if '*' in holders else 'the role ' + ' or '.join(holders)}, which line "
                f'{other.place.line} of {other.place.file} allows: write roles: ["*"] with a condition'
            )
            yield from _accepted(iter([Warn(deny.place, "deny-for-role", text)]), deny.policy, policies)


def _of_globs(policies: Policies) -> Iterator[Warn]:
    for rule in policies.rules:
        for action in filter(looks_like_glob, rule.actions):
            text = f"the action {action!r} is no pattern, since it has no `*`: name the actions one by one"
            yield from _accepted(iter([Warn(rule.place, "action-glob", text)]), rule.policy, policies)


def _stays_allowed(deny: Rule, allow: Rule) -> bool:
    overlaps = any(overlap(one, other) for one in deny.actions for other in allow.actions)
    return overlaps and bool(allow.roles - deny.roles)


# --- kinds and actions ---


def _of_questions(routes: RoutesFile, policies: Policies, file: str) -> Iterator[Warn]:
    if not policies.rules:
        # the whole folder denies everything, which is told once
        return
    named: dict[str, set[str]] = {}
    anywhere: list[Rule] = []
    for rule in policies.rules:
        if rule.policy.version == VERSION:
            named.setdefault(kind_name(rule.resource), set()).update(rule.actions)
            anywhere += [rule] if is_glob(rule.resource) else []
    for asked in questions(routes):
        if asked.kind in KINDS and (asked.kind, asked.action) not in ESSENTIAL:
            # few servers of MCP have all that the protocol knows
            continue
        actions = named.get(kind_name(asked.kind))
        if actions is None:
            mark, meant = asked.kind_at, did_you_mean(kind_name(asked.kind), named)
            text = f"{asked.where} asks about the kind {asked.kind!r}, which no policy names: it is refused{meant}"
        elif not any(
            matches(action, asked.action) for action in (*actions, *_actions_by_pattern(anywhere, asked.kind))
        ):
            mark, meant = asked.action_at, did_you_mean(asked.action, actions)
            text = (
                f"{asked.where} asks for {asked.action!r} of {asked.kind!r}, which no rule names: it is refused{meant}"
            )
        else:
            continue
        yield Warn(Place(file, mark.line, mark.column), "question-unknown", f"{mark.path}: {text}")


def _actions_by_pattern(rules: list[Rule], kind: str) -> Iterator[str]:
    """The actions of rules for whose resources there is a pattern."""
    for rule in rules:
        if matches(rule.resource, kind):
            yield from rule.actions
