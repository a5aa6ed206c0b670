"""Coverage: what traffic, routes, policies and tests have in common, and what one of them has without the other.

Each area is one comparison in one direction, with a gap for each thing that has no counterpart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from sidecar.adoption.coverage_places import RoutePlaces
from sidecar.adoption.coverage_seen import ObservedTraffic, SightingCount
from sidecar.adoption.coverage_tests import Matched
from sidecar.config.routes.file import RoutesFile
from sidecar.gate.ask import Ask
from sidecar.gate.references import Reference, ReferenceSource
from sidecar.gate.routing import Route
from sidecar.pdp.policy_names import kind_name
from sidecar.study.globs import is_glob, matches
from sidecar.study.policies import Policies, Rule
from sidecar.study.reach import VERSION, about, by_kind
from sidecar.study.reads import WHOLE, Use, uses
from sidecar.study.supply import PolicyQuestion, of_principal, questions

AREAS = {
    "operations": "operations and paths that were seen, and a route takes",
    "routes": "methods of routes that were asked for",
    "questions": "kinds and actions of routes that a policy rule names",
    "rules": "actions of policy rules that a route asks for",
    "reads": "attributes that policies read, and something supplies",
    "supplies": "attributes that are supplied, and something reads",
    "matched": "policy rules that a test or traffic matched",
    "roles-carried": "roles that tokens carried, and policies name",
    "roles-named": "roles that policies name, and a token carried",
    "query-sent": "names of queries that were sent, and `query` allows",
    "query-allowed": "names that `query` allows, and were sent",
}
"""Areas by name, with the things that each counts."""


class Gap(NamedTuple):
    """Something without its counterpart: what, where it stands or was seen first, how many requests had it, and why."""

    what: str
    place: str
    requests: int = 0
    why: str = ""


class Area(NamedTuple):
    """One comparison, with the gaps of most requests first.

    `missing` says what would have to be given to make it, "" where it was made.
    """

    name: str
    total: int
    gaps: tuple[Gap, ...]
    missing: str = ""

    @property
    def covered(self) -> int:
        """How many things have their counterpart."""
        return self.total - len(self.gaps)

    @property
    def percent(self) -> float:
        """The share of them, 100 where there is nothing to cover."""
        return 100 * self.covered / self.total if self.total else 100.0


class Sides(NamedTuple):
    """Sides of the comparison. `policies` is None where they cannot be read; `matched` are the rules that tests and
    questions of the log matched, as far as any were asked; `references` are those of the route file."""

    routes: RoutesFile
    places: RoutePlaces
    references: tuple[Reference, ...]
    policies: Policies | None
    matched: tuple[Matched, ...]
    seen: ObservedTraffic


def areas(sides: Sides) -> list[Area]:
    """Compare everything with everything else."""
    found = [*_of_requests(sides), *_of_policies(sides), *_of_roles(sides), *_of_queries(sides)]
    return sorted(found, key=lambda area: list(AREAS).index(area.name))


def _area(name: str, things: Mapping[_Thing, Gap | None]) -> Area:
    gaps = [gap for gap in things.values() if gap is not None]
    return Area(name, len(things), tuple(sorted(gaps, key=lambda gap: -gap.requests)))


_Thing = object
NO_TRAFFIC = "a log by --log, or a spec, access log or recording by --seen"
NO_LOG = "a log of the sidecar by --log"
NO_POLICIES = "policies of Cerbos by SIDECAR_POLICIES"


# --- requests and routes ---


def _of_requests(sides: Sides) -> Iterator[Area]:
    seen = sides.seen
    if not (seen.specs or seen.traffic):
        yield from (Area(name, 0, (), NO_TRAFFIC) for name in ("operations", "routes"))
        return
    operations: dict[_Thing, Gap | None] = dict.fromkeys([*seen.named, *seen.hit])
    for (method, path), tally in seen.unrouted.items():
        operations[method, path, "unrouted"] = Gap(
            f"{method} {path}", tally.place, tally.requests, _why_unrouted(sides, path)
        )
    yield _area("operations", operations)
    hit = seen.hit if seen.traffic else seen.named
    asked = [(method, route.name) for route, method, _ in _methods(sides.routes.table.routes)]
    yield _area("routes", {key: None if key in hit else _route_gap(sides, *key) for key in asked})


def _route_gap(sides: Sides, method: str, route: str) -> Gap:
    return Gap(f"{method} {route}", sides.places.route(route, method))


def _methods(routes: Iterable[Route]) -> Iterator[tuple[Route, str, Ask]]:
    """Each method of each route, HEAD as GET."""
    for route in routes:
        for method, ask in route.asks.items():
            if method != "HEAD" or "GET" not in route.asks:
                yield route, method, ask


def _why_unrouted(sides: Sides, path: str) -> str:
    if any(route.name == path for route in sides.routes.table.routes):
        return f"the route at {sides.places.route(path)} has no such method"
    if any(route.name == path for route in sides.routes.drafts):
        return f"the route at {sides.places.route(path)} is a draft"
    return ""


# --- routes and policies ---


class _Reach(NamedTuple):
    """Questions of the routes, and what the policies make of each."""

    asked: list[PolicyQuestion]
    rules: list[tuple[Rule, list[PolicyQuestion]]]


def _of_policies(sides: Sides) -> Iterator[Area]:
    policies = sides.policies
    if policies is None:
        yield from (Area(name, 0, (), NO_POLICIES) for name in ("questions", "rules", "reads", "supplies", "matched"))
        return
    asked = questions(sides.routes)
    by = by_kind(asked)
    reach = _Reach(asked, [(rule, about(rule, by)) for rule in policies.rules])
    yield _questions(sides, reach)
    yield _rules(reach)
    yield from _attributes(sides, reach)
    if not sides.matched and not sides.seen.logs:
        yield Area("matched", 0, (), "tests beside the policies or by --tests, or a log of the sidecar by --log")
    else:
        yield _matched(sides, reach)


def _questions(sides: Sides, reach: _Reach) -> Area:
    # role policies only take away
    named = {id(each) for rule, some in reach.rules if rule.policy.kind != "rolePolicy" for each in some}
    things: dict[_Thing, Gap | None] = {}
    for each in reach.asked:
        key = (kind_name(each.kind), each.action)
        if id(each) in named:
            things[key] = None
        elif key not in things:
            things[key] = Gap(f"{each.action} of {each.kind}", _place_of(sides, each), why=f"{each.where} asks for it")
    return _area("questions", things)


def _route_of(where: str) -> tuple[str, str]:
    """`GET /contacts (items)` -> its method and its route."""
    method, _, route = where.partition(" ")
    return method, route.removesuffix(" (items)").removesuffix(" (fields)")


def _place_of(sides: Sides, question: PolicyQuestion) -> str:
    method, route = _route_of(question.where)
    return sides.places.route(route, method)


def _rules(reach: _Reach) -> Area:
    things: dict[_Thing, Gap | None] = {}
    for rule, some in reach.rules:
        for action in rule.actions:
            key = (rule.policy.place, rule.resource, action)
            if any(matches(action, each.action) for each in some):
                things[key] = None
            else:
                things.setdefault(key, _unasked(rule, action))
    return _area("rules", things)


def _unasked(rule: Rule, action: str) -> Gap:
    policy = rule.policy
    why = f"its version is {policy.version!r}, routes ask for {VERSION!r}" if policy.version != VERSION else ""
    return Gap(f"{action} of {rule.resource}{_owner(rule)}", _at(rule), why=why)


def _owner(rule: Rule) -> str:
    """The policy of a rule, where it is not that of the resource."""
    policy = rule.policy
    of = {"principalPolicy": f" for the principal {policy.name}", "rolePolicy": f" for the role {policy.name}"}
    return of.get(policy.kind, f" in the scope {policy.scope}" if policy.scope else "")


def _at(rule: Rule) -> str:
    return f"{rule.place.file}:{rule.place.line}"


def _attributes(sides: Sides, reach: _Reach) -> Iterator[Area]:
    reads: dict[_Thing, Gap | None] = {}
    read: dict[int, set[str]] = {id(each): set() for each in reach.asked}
    principal = of_principal(sides.routes.principal)
    of_principals = {
        each.name.removeprefix("attributes.") for each in sides.references if each.source is ReferenceSource.PRINCIPAL
    }
    for rule, some in reach.rules:
        for use in _uses(rule) if some else ():
            owner, name = use.attribute.owner, use.attribute.name
            place = f"{use.place.file}:{use.place.line}"
            if owner == "resource":
                for each in some:
                    read[id(each)].add(name)
                    key = (kind_name(each.kind), each.action, name)
                    if name == WHOLE or name in each.attributes:
                        reads.setdefault(key, None)
                        reads[key] = None
                    elif key not in reads:
                        reads[key] = Gap(
                            f"{use.attribute} for {each.action} of {each.kind}", place, why=f"{each.where} has none"
                        )
            elif owner == "principal":
                of_principals.add(name)
                if name != WHOLE:
                    reads[owner, name] = None if name in principal else Gap(str(use.attribute), place)
            else:
                reads[owner, name] = Gap(str(use.attribute), place, why="the sidecar sends no token to Cerbos")
    yield _area("reads", {key: gap for key, gap in reads.items() if not (isinstance(key, tuple) and WHOLE in key)})
    yield _supplies(sides, reach, read, of_principals)


def _uses(rule: Rule) -> Iterator[Use]:
    for condition in rule.conditions:
        yield from (use for use in uses(condition) if isinstance(use, Use))


def _supplies(sides: Sides, reach: _Reach, read: Mapping[int, set[str]], of_principals: set[str]) -> Area:
    things: dict[_Thing, Gap | None] = {}
    for each in reach.asked:
        method, route = _route_of(each.where)
        for name, supply in each.attributes.items():
            # a lookup is one for all routes that name it
            where = "" if supply.where.startswith("lookups.") else each.where
            key = (where, supply.where)
            if name in read[id(each)] or WHOLE in read[id(each)]:
                things[key] = None
            else:
                told = f"{supply.where} of {where}" if where else supply.where
                things.setdefault(key, Gap(told, sides.places.attribute(route, method, supply.where)))
    for name, supply in of_principal(sides.routes.principal).items():
        is_read = name in of_principals or WHOLE in of_principals
        things["", supply.where] = None if is_read else Gap(supply.where, sides.places.attribute("", "", supply.where))
    return _area("supplies", things)


# --- tests and traffic, and rules ---


def _matched(sides: Sides, reach: _Reach) -> Area:
    rules = [rule for rule, _ in reach.rules if rule.policy.kind != "rolePolicy" and rule.policy.version == VERSION]
    by_traffic = _granting(sides.seen, rules)
    things: dict[_Thing, Gap | None] = {}
    for number, rule in enumerate(rules):
        tested = any(matched.has(rule) for matched in sides.matched)
        effect = "DENY" if rule.deny else "ALLOW"
        things[number] = (
            None
            if tested or number in by_traffic
            else Gap(f"{effect} {', '.join(rule.actions)} of {rule.resource}{_owner(rule)} ({rule.name})", _at(rule))
        )
    return _area("matched", things)


def _granting(seen: ObservedTraffic, rules: list[Rule]) -> set[int]:
    """The rules that allowed something in traffic for sure: no other one could have."""
    by: dict[str, list[tuple[int, Rule]]] = {}
    for number, rule in enumerate(rules):
        if not rule.deny and rule.policy.kind == "resourcePolicy":
            by.setdefault(kind_name(rule.resource), []).append((number, rule))
    found = set()
    for grant in seen.grants:
        if not grant.policy.startswith("resource."):
            continue
        may = [
            number
            for number, rule in by.get(kind_name(grant.kind), ())
            if any(matches(action, grant.action) for action in rule.actions)
            and any(matches(role, each) for role in rule.roles for each in grant.roles)
        ]
        if len(may) == 1:
            found.add(may[0])
    return found


# --- roles ---


def _of_roles(sides: Sides) -> Iterator[Area]:
    missing = "" if sides.seen.logs else NO_LOG
    if sides.policies is None:
        missing = NO_POLICIES
    if missing or sides.policies is None:
        yield from (Area(name, 0, (), missing) for name in ("roles-carried", "roles-named"))
        return
    named: dict[str, str] = {}
    for rule in sides.policies.rules:
        for role in rule.roles - {"*"}:
            named.setdefault(role, _at(rule))
    carried = sides.seen.roles
    yield _area("roles-carried", {
        role: None if _any_names(named, role) else Gap(role, tally.place, tally.requests)
        for role, tally in carried.items()
    })  # fmt: skip
    yield _area("roles-named", {
        role: None if any(matches(role, each) for each in carried) else Gap(role, place)
        for role, place in sorted(named.items())
    })  # fmt: skip


def _any_names(named: Iterable[str], role: str) -> bool:
    return role in named or any(matches(each, role) for each in named if is_glob(each))


# --- queries ---


def _of_queries(sides: Sides) -> Iterator[Area]:
    seen = sides.seen
    if not (seen.specs or seen.traffic):
        yield from (Area(name, 0, (), NO_TRAFFIC) for name in ("query-sent", "query-allowed"))
        return
    allowed = {
        (method, route.name): frozenset(name.decode() for name in ask.query.names)
        for route, method, ask in _methods(sides.routes.table.routes)
        if ask.query is not None and ask.query.names is not None
    }
    sent = {**seen.query_named, **seen.query_sent}
    yield _area("query-sent", {
        key: None if key[2] in allowed[key[:2]] else _query_gap(sides, key, tally)
        for key, tally in sent.items()
        if key[:2] in allowed
    })  # fmt: skip
    used = seen.query_sent if seen.traffic else seen.query_named
    yield _area("query-allowed", {
        (*key, name): None if (*key, name) in used else _query_gap(sides, (*key, name), None)
        for key, names in allowed.items()
        for name in sorted(names)
    })  # fmt: skip


def _query_gap(sides: Sides, key: tuple[str, str, str], tally: SightingCount | None) -> Gap:
    method, route, name = key
    what = f"{name} of {method} {route}"
    if tally is None:
        return Gap(what, sides.places.route(route, method))
    return Gap(what, tally.place, tally.requests)
