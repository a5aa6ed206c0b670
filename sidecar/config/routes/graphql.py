"""`graphql` of a route in `routes.yaml` -> what its one method asks, with the checks of what stands beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sidecar.bodies.graphql import DIRECTIVES, MEMBERS, QUERY, RESERVED_PARAMETERS, GraphQL, GraphqlReader
from sidecar.bodies.graphql_document import DocumentLimits
from sidecar.config.routes.hints import hint
from sidecar.config.routes.methods import Method, MethodFault, ask_of_method, check_methods
from sidecar.config.shapes import Entry, Reader
from sidecar.gate.ask import Ask
from sidecar.gate.lookup import Lookup
from sidecar.gate.mode import RouteMode
from sidecar.gate.query import rule_of
from sidecar.gate.routing import Segment
from sidecar.wire.spelling import folded

_ELSEWHERE = ("methods", "actions", "each", "items", "fields")


def graphql_asks(
    entry: Entry, said: Entry, segments: tuple[Segment, ...], lookups: Mapping[str, Lookup], max_body: int,
    mode: RouteMode | None, reader: Reader,
) -> dict[str, Ask]:  # fmt: skip
    """Return what a route with `graphql` asks, by method: POST, and where the file says so GET, which a page of another
    origin can make a browser send. Faults are noted with `reader`."""
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
    limits = DocumentLimits(
        said["max_tokens"], said["max_depth"], said["max_aliases"], said["max_fields"], said["batch"]
    )
    rules = GraphqlReader(limits, introspection=said["introspection"], directives=directives)
    common: dict[str, Any] = {"set_query": entry["set_query"], "mode": mode}
    names = entry["query"] or ()
    asks = {
        "POST": Ask(
            query=rule_of(names, entry["set_query"]), max_body=entry["max_body"] or max_body,
            operations=GraphQL(made, rules), **common,
        )
    }  # fmt: skip
    if said["get"]:
        queries = {name: ask for name, ask in made.items() if name.startswith(f"{QUERY}.")}
        if not queries:
            reader.fault(said.at("get"), "found no root field of Query, expected one: nothing else comes by GET")
        query = rule_of((*names, *MEMBERS), entry["set_query"])
        asks["GET"] = Ask(query=query, operations=GraphQL(queries, rules), **common)
    return asks


def _check_query(entry: Entry, reader: Reader) -> None:
    if entry["query"] == "any":
        reader.fault(entry.at("query"), "found `any`, expected names: some servers take a document from the URL")
        return
    for field in ("query", "set_query"):
        for name in entry[field] or ():
            if folded(name) in RESERVED_PARAMETERS:
                reader.fault(entry.at(field), f"found {name!r}, by which servers take a document from the URL")


def operation_faults(method: Method) -> Iterator[MethodFault]:
    if method.read_parameters and method.value("query") is None:
        read = ", ".join(method.read_parameters)
        yield MethodFault(
            method.entry.mark, f"found no `query`, expected `query: [{read}]`: without it no parameter passes"
        )
    if not method.value("resource"):
        yield MethodFault(
            method.at("resource"), f"found no 'resource' for {method.name}, expected the kind that it asks about"
        )
    if method.answer_lookup is not None:
        yield MethodFault(
            method.at("lookup"), "found `from: answer`, expected a lookup by its name: an answer has many parts"
        )
