"""Policies whose plans have every row that a check allows.

A plan is no check: in some cases PlanResources leaves out rows that CheckResources allows, and nothing in the plan
shows it. These are found here, in the text of the policies (docs/reference/push.md lists them). What
is not known to be planned right is not trusted: that costs speed, and no row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sidecar.gate.narrowing import ListQuestion
from sidecar.pdp.policy_names import kind_name
from sidecar.plans.narrow import PlanTrust
from sidecar.study.cel import CelError, Node, parse
from sidecar.study.globs import matches
from sidecar.study.policies import Match, Policies, PolicyNames, Rule

EVERY_ROLE = frozenset(("*",))
_MAX_DEPTH = 32
"""Variables within variables."""
_NO_PART_OF_A_PLAN = frozenset(
    ("C", "constants", "G", "globals", "runtime", "now", "timeSince", "auxData", "aux_data", "bytes")
)
"""Names whose values are others in a plan, or change until the check."""
_COMPARISONS = frozenset(("==", "!=", "<", "<=", ">", ">=", "in"))


class Plannable:
    """Tells of each question how far its plan may be trusted. `strict`: Cerbos denies where a condition is in error."""

    def __init__(self, policies: Policies, *, strict: bool) -> None:
        self._policies = policies
        self._strict = strict
        self._known: dict[int, bool] = {}
        self._rules: dict[str, list[Rule]] = {}
        for rule in policies.rules:
            if rule.policy.kind == "resourcePolicy":
                self._rules.setdefault(kind_name(rule.policy.name), []).append(rule)
        self._consenting = {kind_name(policy.name) for policy in policies.policies if policy.consents}
        self._of_roles = {policy.name for policy in policies.policies if policy.kind == "rolePolicy"}
        self._of_principals = [policy.name for policy in policies.policies if policy.kind == "principalPolicy"]

    def __call__(self, question: ListQuestion) -> PlanTrust:
        """Tell of one question."""
        principal, kind = question.principal, kind_name(question.kind)
        if self._policies.unread or not self._of_roles.isdisjoint(principal.roles):
            return PlanTrust()
        if any(matches(name, principal.id) for name in self._of_principals):
            return PlanTrust()
        if question.scope and (kind in self._consenting or any(rule.deny for rule in self._rules.get(kind, ()))):
            return PlanTrust()
        rules, several = self._about(kind, question), len(principal.roles) > 1
        # a plan denies to all roles what a rule denies to one of them
        if any(rule.deny and several and rule.roles != EVERY_ROLE for rule in rules):
            return PlanTrust()
        if not all(map(self._is_planned, rules)):
            return PlanTrust()
        return PlanTrust(
            conditions=True,
            # a strict plan denies everything for an error that a check does not meet on each resource
            denied=not (self._strict and any(map(_may_err, rules))),
            allowed=not any(rule.deny or self._may_fail(rule, several) for rule in rules),
        )

    def _about(self, kind: str, question: ListQuestion) -> list[Rule]:
        """The rules that a question may meet."""
        roles = question.principal.roles
        return [
            rule
            for rule in self._rules.get(kind, ())
            if (question.scope or not rule.policy.scope)
            and any(_may_match(action, question.action) for action in rule.actions)
            and any(_may_match(glob, role) for glob in rule.roles for role in roles)
        ]

    def _may_fail(self, rule: Rule, several: bool) -> bool:
        """Return whether a rule that a plan takes for true may not be so in a check of some resource. In strict
        evaluation any error is enough for that, and with `several` roles any condition."""
        if self._strict and several:
            return bool(rule.conditions)
        return any(
            not _Reading(condition.names).is_plain(condition.match, strict=self._strict)
            for condition in rule.conditions
        )

    def _is_planned(self, rule: Rule) -> bool:
        known = self._known.get(id(rule))
        if known is None:
            known = self._known[id(rule)] = all(
                _Reading(condition.names).match(condition.match, positive=not rule.deny)
                for condition in rule.conditions
            )
        return known


def _may_match(glob: str, action: str) -> bool:
    return matches(glob, action) or any(mark in glob for mark in "?[{")


def _may_err(rule: Rule) -> bool:
    """Return whether what is known of the principal may put a condition in error."""
    return any(_Reading(condition.names).may_err(condition.match) for condition in rule.conditions)


class _Reading:
    """Reads the expressions of one condition. `positive`: where more that is true never makes the rule allow less."""

    def __init__(self, names: PolicyNames) -> None:
        self._names = names

    def match(self, match: Match, *, positive: bool) -> bool:
        if match.expression is None:
            positive = positive is not (match.kind == "none")
            return all(self.match(each, positive=positive) for each in match.of)
        try:
            return self._is_planned(self._inlined(parse(match.expression.value), 0), positive)
        except CelError:
            return False

    def is_plain(self, match: Match, *, strict: bool) -> bool:
        """Return whether no `has`, `!`, `||` or other of a condition is about the resource: then a plan that is always
        true is so by what is known of the principal. If `strict`, nothing of it may be about the resource."""
        if match.expression is None:
            return match.kind == "all" and all(self.is_plain(each, strict=strict) for each in match.of)
        try:
            whole = self._inlined(parse(match.expression.value), 0)
        except CelError:
            return False
        if strict:
            return not _is_of_resource(whole)
        return all(
            not _is_of_resource(node) or (node.kind != "call" and node.text not in ("!", "||", "?:"))
            for node in _all_of(whole)
        )

    def may_err(self, match: Match) -> bool:
        """Return whether an attribute of the principal is read, or a function of what is known is called."""
        if match.expression is None:
            return any(map(self.may_err, match.of))
        try:
            whole = self._inlined(parse(match.expression.value), 0)
        except CelError:
            return True
        return any(
            (_path(node) or ())[:3] == ("request", "principal", "attr")
            or (node.kind in ("call", "method", "index") and not _is_of_resource(node))
            for node in _all_of(whole)
        )

    def _inlined(self, node: Node, depth: int) -> Node:
        """The expression with variables in place of their names. Raises CelError."""
        if depth > _MAX_DEPTH:
            raise CelError("variables within themselves")
        if node.kind == "select" and node.children[0].kind == "name" and node.children[0].text in ("V", "variables"):
            variable = self._names.variables.get(node.text)
            if variable is None:
                raise CelError(f"no variable {node.text!r}")
            return self._inlined(parse(variable.value), depth + 1)
        return node._replace(children=tuple([self._inlined(child, depth) for child in node.children]))

    def _is_planned(self, node: Node, positive: bool) -> bool:
        """Return whether a plan has all rows for which an expression is true; of a negative one, false or in error."""
        if node.kind == "op" and node.text == "!":
            return self._is_planned(node.children[0], not positive)
        if node.kind == "op" and node.text in ("&&", "||"):
            terms = list(_terms(node, node.text))
            if not positive and node.text == "&&":
                # what is in error without an attribute needs no guard: the plan is as the expression without it
                terms = [term for term in terms if not _is_guard(term, terms)]
            return all(self._is_planned(term, positive) for term in terms)
        if _path_of_has(node) is not None:
            return positive or not _is_of_resource(node)
        return not any(map(_changes, _all_of(node)))


def _terms(node: Node, operator: str) -> Iterator[Node]:
    if node.kind == "op" and node.text == operator:
        for child in node.children:
            yield from _terms(child, operator)
    else:
        yield node


def _is_guard(term: Node, terms: Sequence[Node]) -> bool:
    """Return whether a term says that an attribute is there which another one compares, or takes for a truth value."""
    path = _path_of_has(term)
    return path is not None and any(
        _path(operand) == path
        for other in terms
        for operand in (other.children if other.kind == "op" and other.text in _COMPARISONS else (other,))
    )


def _path_of_has(node: Node) -> tuple[str, ...] | None:
    if node.kind == "call" and node.text == "has" and len(node.children) == 1:
        return _path(node.children[0])
    return None


_LONG: Mapping[str, tuple[str, ...]] = {"R": ("request", "resource"), "P": ("request", "principal")}


def _path(node: Node) -> tuple[str, ...] | None:
    """The names of `R.attr.a.b`, in full; None for any other expression."""
    if node.kind == "name":
        return _LONG.get(node.text, (node.text,))
    if node.kind != "select":
        return None
    above = _path(node.children[0])
    return None if above is None else (*above, node.text)


def _all_of(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _all_of(child)


def _is_of_resource(node: Node) -> bool:
    return any((_path(each) or ())[:2] == ("request", "resource") for each in _all_of(node))


def _changes(node: Node) -> bool:
    """Return whether a node may be another in a plan than in a check, without a trace."""
    path = _path(node) or ()
    if node.text in _NO_PART_OF_A_PLAN or node.kind in ("optional", "optional_index"):
        return True
    if path[:2] == ("request", "resource") and len(path) > 2 and path[2] not in ("attr", "id"):
        return True
    if node.kind != "select" and any(_path(child) == ("request",) for child in node.children):
        return True
    if not _is_of_resource(node):
        return False
    if node.kind == "index":
        # the entries of a map that is known are written out, and not always as they are compared
        return _is_of_resource(node.children[1])
    return (node.kind == "op" and node.text == "?:") or (node.kind == "call" and node.text == "has")
