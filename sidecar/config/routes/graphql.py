"""`graphql` of a route in `routes.yaml` -> what its one method asks, with the checks of what stands beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sidecar.bodies.graphql import DIRECTIVES, RESERVED_PARAMETERS, GraphQL, Reader
from sidecar.bodies.graphql_document import Limits
from sidecar.config.routes.hints import hint
from sidecar.config.routes.methods import Fault, Method, ask_of_method, check_methods
from sidecar.config.shapes import Entry
from sidecar.config.shapes import Reader as FileReader
from sidecar.gate.ask import Ask
from sidecar.gate.lookup import Lookup
from sidecar.gate.mode import RouteMode
from sidecar.gate.query import rule_of
from sidecar.gate.routing import Segment
from sidecar.wire.spelling import folded

_ELSEWHERE = ("methods", "actions", "each", "items", "fields")


def graphql_asks(
    entry: Entry, said: Entry, segments: tuple[Segment, ...], lookups: Mapping[str, Lookup], max_body: int,
    mode: RouteMode | None, reader: FileReader,
) -> dict[str, Ask]:  # fmt: skip
    """Return what a route with `graphql` asks, by method: POST alone, since a page of another origin can make a browser
    send every other that GraphQL knows. Faults are noted with `reader`."""
    for name in _ELSEWHERE:
        if entry.has(name):
            reader.fault(entry.at(name), "found it beside `graphql`, expected each root field to say what it asks")
    _check_query(entry, reader)
    operations: dict[str, Entry] = said["operations"]
    if not operations:
        reader.fault(
            said.mark, "found no root field, expected such as Query.contact: {resource: contact, action: read}"
        )
    methods = [Method(name, entry, own, segments, lookups, is_operation=True) for name, own in operations.items()]
    check_methods(methods, public=False, reader=reader, more=operation_faults)
    hint(methods, reader)
    made = {method.name: ask_of_method(method, operations[method.name]["action"], max_body) for method in methods}
    directives = DIRECTIVES.union(said["directives"])
    limits = Limits(said["max_tokens"], said["max_depth"], said["max_aliases"], said["max_fields"], said["batch"])
    rule = GraphQL(made, Reader(limits, introspection=said["introspection"], directives=directives))
    return {
        "POST": Ask(
            query=rule_of(entry["query"] or (), entry["set_query"]), set_query=entry["set_query"],
            max_body=entry["max_body"] or max_body, mode=mode, operations=rule,
        )
    }  # fmt: skip


def _check_query(entry: Entry, reader: FileReader) -> None:
    if entry["query"] == "any":
        reader.fault(entry.at("query"), "found `any`, expected names: some servers take a document from the URL")
        return
    for field in ("query", "set_query"):
        for name in entry[field] or ():
            if folded(name) in RESERVED_PARAMETERS:
                reader.fault(entry.at(field), f"found {name!r}, by which servers take a document from the URL")


def operation_faults(method: Method) -> Iterator[Fault]:
    if method.read_parameters and method.value("query") is None:
        read = ", ".join(method.read_parameters)
        yield Fault(method.entry.mark, f"found no `query`, expected `query: [{read}]`: without it no parameter passes")
    if not method.value("resource"):
        yield Fault(
            method.at("resource"), f"found no 'resource' for {method.name}, expected the kind that it asks about"
        )
    if method.answer_lookup is not None:
        yield Fault(
            method.at("lookup"), "found `from: answer`, expected a lookup by its name: an answer has many parts"
        )
