"""Warnings of `routes.yaml`: what works as it is written, and lets more through than its author is likely to mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sidecar.config.routes.answers import items_of
from sidecar.config.routes.each import id_of
from sidecar.config.routes.methods import Method
from sidecar.config.shapes import Mark, Reader
from sidecar.gate.lookup import Lookup, ResourceField
from sidecar.gate.references import Reference, ReferenceSource, Template
from sidecar.gate.routing import Pattern, Segment, Variable
from sidecar.gate.statement import Statement
from sidecar.gate.values import Type
from sidecar.release.lines import LINES
from sidecar.wire.grammar import SAFE_METHODS

_PAGING = re.compile(
    r"(?:^|[^a-z])(?:page|per_?page|page_?size|limit|offset|skip|top|start|cursor|after|before|next|size)s?(?:$|[^a-z])",
    re.IGNORECASE,
)
"""Names of parameters by which apps give a list page by page."""
_CANONICAL = frozenset((Pattern.INT, Pattern.UUID, Pattern.SLUG))


def hint(methods: Sequence[Method], reader: Reader) -> None:
    """Warn of a query that goes further than the rule, of what tells of hidden items and fields, and of ids in another
    spelling; each once for a route."""
    found: dict[tuple[Mark, str], list[str]] = {}
    for method in methods:
        for warning in (*_open_query(method), *_searchable(method), *_uncounted(method), *_respelled(method)):
            found.setdefault(warning, []).append(method.name)
    for (mark, message), names in found.items():
        reader.warn(mark, f"{', '.join(names)} {methods[0].entry['path']}: {message}")


def _open_query(method: Method) -> Iterator[tuple[Mark, str]]:
    if method.open_query:
        # a client sends none of those that are set
        listed = ", ".join([*method.read_parameters, "…"])
        yield (
            method.entry.mark,
            f"the rule depends on the query ({', '.join(method.open_query)}), and a client may send every other "
            f"parameter too, expected `query: [{listed}]` with all that the app needs, or `query: any`",
        )


def _searchable(method: Method) -> Iterator[tuple[Mark, str]]:
    """Warn where a client may ask the app for what a hidden field holds, by a parameter that names no field."""
    items = items_of(method)
    fields, mark = (method.value("fields"), method.at("fields")) if items is None else (items["fields"], items.mark)
    if fields and method.value("query") is None and method.name in SAFE_METHODS:
        yield (
            mark,
            f"a client may send every parameter, and one that searches all fields finds what is hidden "
            f"({', '.join(fields)}), expected `query: […]` without such names, or `query: any`",
        )


def _uncounted(method: Method) -> Iterator[tuple[Mark, str]]:
    """Warn where an answer in pages is likely to say how many items there are, those that are hidden among them."""
    items, query = items_of(method), method.value("query")
    if items is None or items.has("total") or items["at"] in ((), LINES) or not isinstance(query, list):
        return
    pages = next(filter(_PAGING.search, query), None)
    if pages is not None:
        yield (
            items.mark,
            f"the app gives pages ({pages}), and most say with them how many there are, what is hidden included: "
            "expected `total: […]` with the names of such numbers, or `total: []` where there is none",
        )


def _respelled(method: Method) -> Iterator[tuple[Mark, str]]:
    template, each = method.id, method.each
    # where one of several tells the id, it is compared
    asked = [lookup for lookup in method.asked if _asks_by_id(lookup, template) and not _is_typed(lookup)]
    if not asked or any(lookup.echo is not None for lookup in asked):
        return
    lookup = asked[0]
    if each is not None and id_of(each).attribute.type is not Type.INT:
        yield (
            each.at("id"),
            "it takes `07`, `+7` and `7.0`, which many apps read as 7 while Cerbos is asked about another id, expected "
            f"`:int` after it, or `echo` in lookups.{lookup.name}",
        )
    for reference in template.references if template is not None else ():
        if _has_spellings(reference, method.segments) and (
            ResourceField.ID in lookup.inquiry.values or reference in lookup.inquiry.values
        ):
            yield (
                method.at("id"),
                f"{{{reference}}} takes `07`, `+7` and `7.0`, which many apps read as 7 while Cerbos is asked about "
                f"another id, expected `{_narrower(reference)}`, or `echo` in lookups.{lookup.name}",
            )


def _asks_by_id(lookup: Lookup, template: Template | None) -> bool:
    values = lookup.inquiry.values
    return ResourceField.ID in values or (template is not None and any(one in values for one in template.references))


def _is_typed(lookup: Lookup) -> bool:
    """Return whether the source takes one spelling of an id alone: a statement, whose parameter has a type."""
    return isinstance(lookup.inquiry, Statement) and lookup.inquiry.has_one_spelling(ResourceField.ID)


def _has_spellings(reference: Reference, segments: tuple[Segment, ...]) -> bool:
    """Return whether a client may write one id in several ways."""
    if reference.type is Type.INT or reference.source in (ReferenceSource.CLAIMS, ReferenceSource.PRINCIPAL):
        return False
    return reference.source is not ReferenceSource.PATH or any(
        isinstance(segment, Variable) and segment.name == reference.name and segment.pattern not in _CANONICAL
        for segment in segments
    )


def _narrower(reference: Reference) -> str:
    return f"{{{reference.name if reference.source is ReferenceSource.PATH else reference}:int}}"
