"""Warnings of `routes.yaml`: what works as it is written, and lets more through than its author is likely to mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecar.config.routes.methods import Method
from sidecar.config.shapes import Mark, Reader
from sidecar.gate.lookup import ResourceField
from sidecar.gate.references import Reference, ReferenceSource
from sidecar.gate.routing import Pattern, Segment, Variable
from sidecar.gate.values import Type

_CANONICAL = frozenset((Pattern.INT, Pattern.UUID, Pattern.SLUG))


def hint(methods: Sequence[Method], reader: Reader) -> None:
    """Warn of a query that goes further than the rule, and of ids in another spelling; each once for a route."""
    found: dict[tuple[Mark, str], list[str]] = {}
    for method in methods:
        for warning in (*_open_query(method), *_respelled(method)):
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


def _respelled(method: Method) -> Iterator[tuple[Mark, str]]:
    lookup, template = method.lookup, method.value("id")
    if lookup is None or lookup.echo is not None or template is None:
        return
    for reference in template.references:
        asked = ResourceField.ID in lookup.inquiry.values or reference in lookup.inquiry.values
        if asked and _has_spellings(reference, method.segments):
            yield (
                method.at("id"),
                f"{{{reference}}} takes `07`, `+7` and `7.0`, which many apps read as 7 while Cerbos is asked about "
                f"another id, expected `{_narrower(reference)}`, or `echo` in lookups.{lookup.name}",
            )


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
