"""Attributes that `routes.yaml` gives Cerbos: which attributes go with each kind and action, of which type, and whether
always. What is asked about the app's answer, item by item and field by field, is among the questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sidecar.config.routes.file import RoutesFile
from sidecar.config.shapes import Mark
from sidecar.gate.ask import Ask
from sidecar.gate.each import Each
from sidecar.gate.identity import PrincipalRules
from sidecar.gate.lookup import Attribute, Lookup, Missing
from sidecar.gate.references import Reference, Template
from sidecar.gate.routing import Access, Route
from sidecar.gate.values import Type
from sidecar.release.items import ItemsRule
from sidecar.release.lines import LinesRule
from sidecar.release.lookup import AnswerLookupRule
from sidecar.release.messages import MessagesRule
from sidecar.release.single import FieldsRule


class Supply(NamedTuple):
    """Where an attribute comes from. `type` is its JSON type, "" where none is declared; `absent` says why it may be
    absent, "" where it is always there; `declared` how a type would be declared."""

    where: str
    type: str
    absent: str = ""
    declared: str = ""


class PolicyQuestion(NamedTuple):
    """One question that the sidecar asks: for requests like `where`, about a kind and an action. `remedy` is where an
    attribute would be added, and with `item` it is asked about each item of a list in the app's answer. `kind_at` and
    `action_at` are the places in the route file of what makes it ask so."""

    where: str
    kind: str
    action: str
    scoped: bool
    attributes: Mapping[str, Supply]
    remedy: str
    item: bool = False
    kind_at: Mark = Mark(1, 1, "")
    action_at: Mark = Mark(1, 1, "")


_NAMES = {Type.INT: "number", Type.JSON: ""}


def _name(kind: Type | None) -> str:
    return "" if kind is None else _NAMES.get(kind, str(kind))


def questions(routes: RoutesFile) -> list[PolicyQuestion]:
    """Every question that the routes ask."""
    return [
        _placed(question, route, method, routes)
        for route in routes.table.routes
        if route.access is Access.POLICY
        for method, ask in route.questions
        for question in _of_method(f"{method} {route.name}", ask, routes)
    ]


def _placed(question: PolicyQuestion, route: Route, method: str, routes: RoutesFile) -> PolicyQuestion:
    of_items = (f"{method}.items", "items") if question.item else ()
    kind = routes.place_of(route, *of_items, f"{method}.resource", "resource", "graphql", "mcp")
    action = routes.place_of(route, *of_items, f"{method}.action", "graphql", "mcp", "actions")
    return question._replace(kind_at=kind, action_at=action)


def _of_method(where: str, ask: Ask, routes: RoutesFile) -> Iterator[PolicyQuestion]:
    attributes, remedy = _attributes(ask, routes), f"`attributes` of {where}, or to its lookup"
    asked = PolicyQuestion(where, ask.kind, ask.action, ask.scope is not None, attributes, remedy)
    yield asked
    match ask.answer:
        case (ItemsRule() as rule) | LinesRule(items=rule):
            yield from _of_items(asked, rule, routes)
        case MessagesRule(lists=lists):
            for rule in lists.values():
                yield from _of_items(asked, rule, routes)
        case FieldsRule() as fields:
            answer = asked._replace(where=f"{where} (fields)")
            yield from (answer._replace(action=action) for action in fields.asks if action != ask.action)
        case _:
            pass
    if ask.answer_lookup is not None:
        yield from (asked._replace(where=f"{where} (fields)", action=action) for action in ask.answer_lookup.asks)


def _of_items(asked: PolicyQuestion, rule: ItemsRule, routes: RoutesFile) -> Iterator[PolicyQuestion]:
    attributes = _from_items(rule)
    for name in rule.lookups:
        attributes |= _from_lookup(routes.lookups[name])
    item = asked._replace(
        where=f"{asked.where} (items)", kind=rule.kind, attributes=attributes,
        remedy=f"`items.attributes` of {asked.where}, or to its `items.lookup`", item=True,
    )  # fmt: skip
    yield from (item._replace(action=action) for action in rule.actions)


def _attributes(ask: Ask, routes: RoutesFile) -> dict[str, Supply]:
    attributes = {name: _from_request(name, value) for name, value in ask.attributes.items()}
    if ask.each is not None:
        attributes |= _from_element(ask.each)
    if isinstance(ask.answer_lookup, AnswerLookupRule):
        rule = ask.answer_lookup
        empty = "lookup.missing is `empty`" if rule.missing is Missing.EMPTY else ""
        attributes |= _from_json("lookup", rule.attributes, rule.optional, empty)
    for name in ask.lookups:
        attributes |= _from_lookup(routes.lookups[name])
    return attributes


def _from_request(name: str, value: Template) -> Supply:
    part = value.parts[0]
    reference = part if len(value.parts) == 1 and isinstance(part, Reference) else None
    kind = reference.type if reference is not None else Type.STRING
    if reference is None:
        return Supply(f"attributes.{name}", _name(kind), declared=f"another value than {value.source!r}")
    mark = "?" if reference.optional else ""
    absent = f"{{{reference}?}} is optional" if reference.optional else ""
    return Supply(f"attributes.{name}", _name(kind), absent, f'{name}: "{{{reference}:TYPE{mark}}}"')


def _from_element(each: Each) -> dict[str, Supply]:
    return _from_json("each", each.attributes, each.optional, "")


def _from_lookup(lookup: Lookup) -> dict[str, Supply]:
    empty = f"lookups.{lookup.name}.missing is `empty`" if lookup.missing is Missing.EMPTY else ""
    return _from_json(f"lookups.{lookup.name}", lookup.attributes, lookup.optional, empty)


def _from_items(rule: ItemsRule) -> dict[str, Supply]:
    return _from_json("items", rule.attributes, rule.optional, "")


def _from_json(
    where: str, attributes: Mapping[str, Attribute], optional: frozenset[str], absent: str
) -> dict[str, Supply]:
    return {
        name: Supply(
            f"{where}.attributes.{name}", _name(attribute.type),
            f"{where}.optional names it" if name in optional else absent, f'{name}: "...:TYPE"',
        )
        for name, attribute in attributes.items()
    }  # fmt: skip


def of_principal(rules: PrincipalRules) -> dict[str, Supply]:
    """The attributes of the principal."""
    return {
        name: Supply(
            f"principal.attributes.{name}", _name(claim.type),
            "principal.optional names it" if name in rules.optional else "",
            f"{name}: {{claim: {claim.name!r}, type: TYPE}}",
        )
        for name, claim in rules.attributes.items()
    }  # fmt: skip
