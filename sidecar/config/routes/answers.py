"""`items` and `fields` of `routes.yaml` -> rules for the app's answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sidecar.config.routes.methods import Method, MethodFault
from sidecar.config.shapes import Entry, Mark
from sidecar.gate.expressions import names_path
from sidecar.gate.lookup import Lookup, Missing
from sidecar.gate.narrowing import Push, PushedAttribute
from sidecar.gate.obligation import AnswerRule
from sidecar.plans.dialects import SEARCHES
from sidecar.release.cursor import LINK, Refill
from sidecar.release.fields import FieldRule
from sidecar.release.items import CALL, TOTAL_HEADERS, ItemsRule
from sidecar.release.lines import LINES, LinesRule
from sidecar.release.lookup import AnswerLookupRule
from sidecar.release.single import FieldsRule
from sidecar.wire import strict_json

MAX_SINGLE = 100
"""Items of a list of which a lookup is asked about one in a call."""
MAX_FIELDS = 49
"""Fields beside one action: Cerbos takes 50 actions of a resource (its `requestLimits`)."""


def answer_rule(method: Method) -> AnswerRule | None:
    """Return the rule for the answers to a method, None where they go out as they come. Its faults are found by
    `answer_faults`."""
    items = items_of(method)
    if items is not None:
        rule = _items_rule(items, method)
        return LinesRule(rule) if rule.at == LINES else rule
    # where the decision is made from the answer, the fields are hidden after it
    return _fields_rule(method) if method.answer_lookup is None else None


def answer_lookup_rule(method: Method) -> AnswerLookupRule | None:
    """Return the rule by which the decision on a method is made from the app's answer, None where it is made before."""
    said = method.answer_lookup
    if said is None:
        return None
    return AnswerLookupRule(
        said["attributes"], frozenset(said["optional"]), Missing(said["missing"]),
        said["echo"].search if said["echo"] is not None else None, _fields_rule(method), said["max_size"],
    )  # fmt: skip


def _fields_rule(method: Method) -> FieldsRule | None:
    fields = _fields(method.value("fields"))
    return FieldsRule(fields) if fields else None


def items_of(method: Method) -> Entry | None:
    """The `items` of a method, with all that they must have."""
    found = method.items
    # what lacks its id is a fault already
    return found if found is not None and found["id"] is not None else None


def _items_rule(items: Entry, method: Method) -> ItemsRule:
    headers = tuple(total for total in items["total"] if isinstance(total, bytes))
    searches = SEARCHES.get(items["push"]["dialect"], ()) if items["push"] is not None else ()
    return ItemsRule(
        items["at"], items["id"].search, _kind(items, method), items["action"], items["attributes"],
        frozenset(items["optional"]), _fields(items["fields"], searches),
        tuple(dict.fromkeys((*TOTAL_HEADERS, *headers))),
        tuple(total for total in items["total"] if not isinstance(total, bytes)), items["max"], items["max_size"],
        _refill(items["refill"]), tuple(items["lookup"]), _part(method.asked_of_items),
    )  # fmt: skip


def _part(lookups: Sequence[Lookup]) -> int:
    """Return how many items are judged at a time: as many as a lookup is asked about in one call."""
    return max([CALL, *(lookup.batch.most if lookup.batch is not None else MAX_SINGLE for lookup in lookups)])


def _refill(said: Entry | None) -> Refill | None:
    if said is None:
        return None
    return Refill(said["pages"], said["next"], said["parameter"], tuple(said["last"]), said["timeout"])


def push_of(method: Method) -> Push | None:
    """Return how the app can be asked for less of a list, None where it cannot be."""
    items = items_of(method)
    if items is None or items["push"] is None:
        return None
    # what a lookup gives goes before what the item says: an app that is asked by the latter may leave out what is shown
    known = {name for lookup in method.asked_of_items for name in lookup.attributes}
    attributes = {
        name: PushedAttribute(attribute.expression, attribute.type, name not in items["optional"])
        for name, attribute in items["attributes"].items()
        if name not in known
    }
    return Push(
        items["push"]["dialect"], items["id"].expression, attributes, _kind(items, method), items["action"]
    )  # fmt: skip


def _kind(items: Entry, method: Method) -> str:
    kind: str = items["resource"] or method.value("resource")
    return kind


def _fields(said: Mapping[str, Entry], searches: tuple[str, ...] = ()) -> tuple[FieldRule, ...]:
    return tuple(
        FieldRule(
            names_path(name),
            field["action"],
            strict_json.dumps(field["mask"]) if field["mask"] else b"",
            (*field["parameters"], *searches),
        )
        for name, field in said.items()
        if _path_of(name)
    )


def _path_of(name: str) -> tuple[str, ...]:
    try:
        return names_path(name)
    except ValueError:
        return ()


def answer_faults(method: Method) -> Iterator[MethodFault]:
    """Find what `items` and `fields` of a method cannot mean."""
    own = method.own
    if own is not None and own.has("items") and method.name != "GET":
        yield MethodFault(own.at("items"), "found it on another method, expected it on GET, whose answer is the list")
    yield from _answer_lookup_faults(method)
    items = items_of(method)
    if items is None:
        yield from _field_faults(method.value("fields"), method.at("fields"))
        return
    if method.value("fields"):
        yield MethodFault(
            method.at("fields"), "found it beside `items`, expected it within, for the fields of each item"
        )
    yield from _field_faults(items["fields"], items.at("fields"))
    unknown = set(items["optional"]) - set(items["attributes"])
    if unknown:
        yield MethodFault(items.at("optional"), f"found {sorted(unknown)[0]!r}, expected names of `attributes`")
    yield from _size_faults(items)
    yield from _single_faults(items, method.asked_of_items)
    if items["refill"] is not None:
        yield from _refill_faults(items, items["refill"])


def _size_faults(items: Entry) -> Iterator[MethodFault]:
    if items["at"] == LINES:
        for name in ("total", "refill", "max", "max_size"):
            if items.has(name):
                yield MethodFault(
                    items.at(name), "found it beside `at: lines`, expected it for an answer that comes whole"
                )
    for total in items["total"]:
        if not isinstance(total, bytes) and items["at"][: len(total)] == total:
            yield MethodFault(items.at("total"), f"found {'.'.join(total)!r}, expected a number and not the list")
        elif not isinstance(total, bytes) and not items["at"]:
            yield MethodFault(
                items.at("total"), f"found {'.'.join(total)!r}, expected header.NAME: the whole answer is a list"
            )


def _single_faults(items: Entry, lookups: Sequence[Lookup]) -> Iterator[MethodFault]:
    """Find lookups that are asked about each item in a call of its own, in a list that may be long: whoever asks for
    the list would make so many calls, as often as they like."""
    single = next((lookup for lookup in lookups if lookup.batch is None), None)
    if single is None or (items["at"] != LINES and items["max"] <= MAX_SINGLE):
        return
    told = f"lookups.{single.name} is asked about one item in a call, and the list "
    if items["at"] == LINES:
        yield MethodFault(items.at("lookup"), f"{told}has no end, expected `batch` in that lookup")
        return
    expected = f"expected `batch` in that lookup, or `max: {MAX_SINGLE}` or less in `items`"
    yield MethodFault(items.at("lookup"), f"{told}may have {items['max']}, {expected}")


def _answer_lookup_faults(method: Method) -> Iterator[MethodFault]:
    said, mark = method.answer_lookup, method.at("lookup")
    if said is None:
        return
    if method.name not in ("GET", "HEAD"):
        own = "PUT: {action: update, lookup: NAME}"
        message = "found `from: answer` on a method that may change something before the decision is made, expected "
        yield MethodFault(mark, f"{message}a lookup by its name, as in an action that has its own: {own}", True)
    if items_of(method) is not None:
        yield MethodFault(mark, "found `from: answer` beside `items`, expected it on routes about one resource")
    unknown = set(said["optional"]) - set(said["attributes"])
    if unknown:
        yield MethodFault(said.at("optional"), f"found {sorted(unknown)[0]!r}, expected names of `attributes`")


def _refill_faults(items: Entry, refill: Entry) -> Iterator[MethodFault]:
    where = refill.at("next")
    if refill["next"] == LINK and refill["parameter"]:
        yield MethodFault(refill.at("parameter"), "found it beside `next: header.link`, which has a whole URL")
    places = [*refill["last"]] if refill["next"] == LINK else [refill["next"], *refill["last"]]
    for place in places:
        name = ".".join(place)
        if not items["at"]:
            yield MethodFault(where, f"found {name!r}, expected `header.link` alone: the whole answer is a list")
        elif items["at"][: len(place)] == place or place[: len(items["at"])] == items["at"]:
            yield MethodFault(where, f"found {name!r}, expected a member beside the list")
        elif any(place[: len(total)] == total for total in items["total"]):
            yield MethodFault(where, f"found {name!r}, which `total` removes, expected a member beside it")


def _field_faults(fields: Mapping[str, Any], mark: Mark) -> Iterator[MethodFault]:
    for name in fields:
        if not _path_of(name):
            yield MethodFault(mark, f"found the field {name!r}, expected names joined by dots")
    if len(fields) > MAX_FIELDS:
        yield MethodFault(
            mark, f"found {len(fields)} fields, expected {MAX_FIELDS} at most: one question has so many actions"
        )
