"""`mcp` of a route in `routes.yaml` -> what its methods ask, with the checks of what stands beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sidecar.bodies.mcp import CONNECT, LISTEN, SERVER, Mcp, ask_of, asks_of, messages_rule
from sidecar.config import units
from sidecar.config.routes.graphql import operation_faults
from sidecar.config.routes.hints import hint
from sidecar.config.routes.methods import Method, ask_of_method, check_methods
from sidecar.config.routes.protected import PROTECTED
from sidecar.config.shapes import Choice, Entry, Field, ListOf, MapOf, Mark, Reader, Record, Short, Text, Whole, WordOr
from sidecar.gate.ask import Ask
from sidecar.gate.lookup import Lookup
from sidecar.gate.mode import RouteMode
from sidecar.gate.query import rule_of
from sidecar.gate.routing import Segment
from sidecar.release.items import MAX_ITEMS, MAX_SIZE

_ELSEWHERE = (
    "access", "methods", "actions", "resource", "id", "attributes", "lookup", "each", "items", "fields", "graphql",
)  # fmt: skip
_OF_SERVER = ("arguments", "tools", "max", "max_size")


def mcp_record(operation: Record) -> Record:
    """Return the grammar of `mcp`, in which tools are described as `operation` is."""
    return Record(
        {
            "server": Field(
                Text(pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", what="a name of letters, digits and _ . -"),
                "the server's name in the ids of what is asked about: a tool is `<server>/<name>`; without it the "
                "route's `actions` say what is asked",
                "",
            ),
            "arguments": Field(
                WordOr("all", ListOf(Text(pattern=r"\S+", what="an argument's name"))),
                "arguments of tools and prompts that the policy is told of, in `arguments`; another spelling of one is "
                "refused",
                "all",
            ),
            "tools": Field(
                MapOf(Short(operation, "action"), r"\S+", "a tool's name"),
                "what calls of a tool ask beside the tool itself; `{args.NAME}` reads an argument",
                {},
            ),
            "max": Field(Whole(1, 100_000), "items in one list; more are 502 `items_too_many`", MAX_ITEMS),
            "max_size": Field(
                Text(units.size, what="a size such as 1MiB"), "bytes of one answer that is not a stream", MAX_SIZE
            ),
            "sessions": Field(
                Choice(("bound", "any")),
                "`bound`: a session at the server (`Mcp-Session-Id`) is for the user and the agent alone that began "
                "it; `any`: the server sees to that, and the ids pass as they come",
                "bound",
            ),
            **PROTECTED,
        },
        "the route is a Model Context Protocol server",
    )


def serverless_faults(said: Entry) -> Iterator[tuple[Mark, str]]:
    """Find what `mcp` without a `server` cannot mean."""
    for name in _OF_SERVER:
        if said.has(name):
            yield said.at(name), "found it without `server`, expected both: without it `actions` say what is asked"


def mcp_asks(
    entry: Entry, said: Entry, segments: tuple[Segment, ...], lookups: Mapping[str, Lookup], max_body: int,
    mode: RouteMode | None, reader: Reader,
) -> dict[str, Ask]:  # fmt: skip
    """Return what a route with `mcp` and a `server` asks, by method. Faults are noted with `reader`."""
    for name in _ELSEWHERE:
        if entry.has(name):
            reader.fault(entry.at(name), "found it beside `mcp.server`, expected messages alone to say what is asked")
    check_methods([Method("POST", entry, None, segments, lookups)], public=False, reader=reader, more=lambda _: ())
    tools: dict[str, Entry] = said["tools"]
    methods = [Method(name, entry, own, segments, lookups, is_operation=True) for name, own in tools.items()]
    check_methods(methods, public=False, reader=reader, more=operation_faults)
    hint(methods, reader)
    own = {method.name: ask_of_method(method, tools[method.name]["action"], max_body) for method in methods}
    server, scope = said["server"], entry["scope"]
    policy_arguments = None if said["arguments"] == "all" else frozenset(said["arguments"])
    if entry["query"] == "any":
        reader.fault(entry.at("query"), "found `any`, expected names: messages have no query")
        return {}
    common = {
        "query": rule_of(entry["query"] or (), entry["set_query"]),
        "set_query": entry["set_query"],
        "mode": mode,
    }
    answer = messages_rule(server, said["max"], said["max_size"])
    rule = Mcp(asks_of(server, scope), own, policy_arguments)
    return {
        "POST": Ask(max_body=entry["max_body"] or max_body, operations=rule, answer=answer, **common),
        "GET": ask_of(server, SERVER, LISTEN, scope, answer=answer, **common),
        "DELETE": ask_of(server, SERVER, CONNECT, scope, **common),
    }
