"""`routes.yaml` -> routes, lookups and rules of identity; every fault with file, line and column, all at once."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sidecar.config.routes.chains import check_lookups
from sidecar.config.routes.entries import read_entries
from sidecar.config.routes.grammar import DEFAULTS, FILE
from sidecar.config.routes.lookups import read_lookup, source_of
from sidecar.config.routes.principal import NeededClaim, needed_claims, principal_rules
from sidecar.config.routes.protected import clients_of, resource_hosts, with_client
from sidecar.config.routes.to_app import check_read, to_app_of
from sidecar.config.routes.upstreams import (
    PlacedHosts,
    check_overlaps,
    hosts_of,
    placed_hosts,
    read_upstreams,
    warn_unused,
)
from sidecar.config.shapes import Entry, Mark, Problem, Reader, read_document
from sidecar.config.suggest import closest
from sidecar.gate.decision_cache import DecisionCache
from sidecar.gate.identity import PrincipalRules
from sidecar.gate.lookup import Lookup
from sidecar.gate.protected import RegisteredClient
from sidecar.gate.routing import Access, Route, RouteTable
from sidecar.gate.to_app import ToApp


class Identity(NamedTuple):
    """One entry of `identity`: a user pool (`region`, `user_pool_id`) or any issuer (`issuer`, `jwks_url`)."""

    issuer: str
    jwks_url: str
    region: str
    user_pool_id: str
    client_ids: tuple[str, ...]
    token_use: tuple[str, ...]
    audiences: tuple[str, ...]
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoutesFile:
    """Contents of a whole and sound `routes.yaml`."""

    table: RouteTable
    lookups: Mapping[str, Lookup]
    identities: tuple[Identity, ...]
    principal: PrincipalRules
    decision_seconds: float = 0.0
    checksum: int = 0
    """Of the text: equal files have the same."""
    needed_claims: tuple[NeededClaim, ...] = ()
    """Of the principal, with their places: for `sidecar check`."""
    lookup_marks: Mapping[str, Mark] = field(default_factory=dict)
    """Lookup -> the place of its URL; `identity_marks` are those of `identities`: for `sidecar check`."""
    identity_marks: tuple[Mark, ...] = ()
    drafts: tuple[Route, ...] = ()
    """Routes that are not in force: the table is without them."""
    draft_mark: Mark | None = None
    """The place of `draft` where the whole file is one: then every route is in `drafts`."""
    placed_hosts: tuple[PlacedHosts, ...] = ()
    """The hosts that entries name, with their places."""
    warnings: tuple[Problem, ...] = ()
    """Warnings: it works as written, but lets more through than its author is likely to mean."""
    clients: tuple[RegisteredClient, ...] = ()
    """App clients that OAuth clients get which register."""
    route_marks: Mapping[str, Mapping[str, Mark]] = field(default_factory=dict)
    """Name of a route in force -> the places of what its entry says, by name, or `METHOD.name` for what a method has of
    its own: for `sidecar check`."""
    client_marks: tuple[Mark, ...] = ()
    """The places of `clients`."""

    def decisions(self) -> DecisionCache | None:
        """A cache of decisions that is empty yet, where the file asks for one."""
        return DecisionCache(self.decision_seconds) if self.decision_seconds else None

    def place_of(self, route: Route, *keys: str) -> Mark:
        """Return the place of the first of these names of `route_marks` that the route has, or of its path."""
        marks = self.route_marks[route.name]
        return next(marks[key] for key in (*keys, "path") if key in marks)

    def told_at(self, file: str, route: Route, text: str, *keys: str) -> str:
        """Return what is said of a route, with its `place_of`."""
        mark = self.place_of(route, *keys)
        return str(Problem(file, mark.line, mark.column, f"{mark.path}: {text}"))


class RoutesError(Exception):
    """The file cannot be used; `problems` are all of its faults. `sound` is the file without the routes and lookups
    that have them, and without the routes that ask such a lookup: what is wrong with that is told at once, too. In it
    a default may stand in for what a name of the file's top level says, if that is one of `doubtful`. It is None where
    the faults leave open which routes there are."""

    def __init__(
        self,
        problems: list[Problem],
        sound: RoutesFile | None = None,
        doubtful: frozenset[str] = frozenset(FILE.fields),
    ) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
        self.sound = sound
        self.doubtful = doubtful


def read_routes(text: str, file: str, environ: Mapping[str, str]) -> RoutesFile:
    """Read and check a route file. `environ` gives the hooks' tokens. Raises RoutesError with every problem."""
    document, reader = read_document(text, file, FILE)
    if not isinstance(document, Entry):
        raise RoutesError(reader.problems)
    lookups = {
        name: read_lookup(name, entry, environ, reader)
        for name, entry in document["lookups"].items()
        if isinstance(entry, Entry)
    }
    marks = _source_marks(document, lookups)
    check_lookups(lookups, marks, reader)
    defaults = document["defaults"] or DEFAULTS_ENTRY
    to_app = to_app_of(document["to_app"], None, reader)
    upstreams = read_upstreams(document["upstreams"], reader)
    entries = read_entries(document["routes"], lookups, upstreams, defaults["max_body"], to_app, reader)
    routes = [route for route, _ in entries]
    if not any(problem.path.startswith("routes") for problem in reader.problems):
        warn_unused(document["upstreams"], [route.upstream for route in routes], reader)
    check_read(to_app, routes, lookups.values(), document.at("to_app"), reader)
    identities = tuple(_identity(entry, reader) for entry in document["identity"])
    check_overlaps(placed_hosts(document["identity"]), reader)
    principal = principal_rules(document["principal"], tuple(defaults["roles"]), reader)
    if any(entry["mcp"] is not None for entry in document["routes"]):
        principal = with_client(principal)
    read = _Read(
        document, entries, lookups, marks, to_app, identities, principal, clients_of(document["mcp_clients"], reader)
    )  # fmt: skip
    if reader.problems:
        doubtful = _doubtful(document, reader.problems)
        sound = _sound(read, reader.problems, doubtful)
        raise RoutesError(
            sorted(reader.problems, key=lambda problem: problem[1:3]),
            sound and _made(sound, defaults, text, reader),
            doubtful,
        )
    return _made(read, defaults, text, reader)


_INSIDE = re.compile(r"routes\[\d+\]|lookups\.[^.\[]+")
"""The path of one route or lookup, at the beginning of those below it."""
_TOP = re.compile(r"[^.\[]+")
"""The name of the file's top level, at the beginning of a path."""


class _Read(NamedTuple):
    """Parts of a file, each as it was read."""

    document: Entry
    entries: list[tuple[Route, Entry]]
    lookups: Mapping[str, Lookup]
    lookup_marks: Mapping[str, Mark]
    to_app: ToApp | None
    identities: tuple[Identity, ...]
    principal: PrincipalRules
    clients: tuple[RegisteredClient, ...]


def _doubtful(document: Entry, problems: list[Problem]) -> frozenset[str]:
    """Find the names of the top level whose values are not what the file means, or may not be."""
    found = set[str]()
    for problem in problems:
        top = _TOP.match(problem.path)
        if top is None:
            return frozenset(FILE.fields)
        if _INSIDE.match(problem.path) is not None:
            continue
        meant = top[0] if top[0] in FILE.fields else closest(top[0], FILE.fields)
        # an unknown name that is like none may say what each other one leaves out
        found.update([meant] if meant else (name for name in FILE.fields if not document.has(name)))
    return frozenset(found)


def _sound(read: _Read, problems: list[Problem], doubtful: frozenset[str]) -> _Read | None:
    """Leave out the routes and the lookups with a fault; None where it is open which routes are in force."""
    if not doubtful.isdisjoint(("routes", "draft")):
        return None
    places = [_INSIDE.match(problem.path) for problem in problems]
    faulty = {place[0] for place in places if place is not None}
    lookups = {
        name: lookup
        for name, lookup in read.lookups.items()
        if f"lookups.{name}" not in faulty and "lookups" not in doubtful
    }
    entries = [
        (route, entry)
        for route, entry in read.entries
        if entry.mark.path not in faulty
        and all(name in lookups for _, ask in route.questions for name in ask.all_lookups)
    ]
    marks = {name: mark for name, mark in read.lookup_marks.items() if name in lookups}
    return read._replace(entries=entries, lookups=lookups, lookup_marks=marks)


def _made(read: _Read, defaults: Entry, text: str, reader: Reader) -> RoutesFile:
    document = read.document
    draft_mark = document.at("draft") if document["draft"] else None
    in_force = [] if draft_mark else [(route, entry) for route, entry in read.entries if not entry["draft"]]
    drafts = tuple(route for route, entry in read.entries if draft_mark or entry["draft"])
    fallback = Access.AUTHENTICATED if defaults["access"] == "authenticated" else Access.POLICY
    remembered = document["cache"]["decisions"] if document["cache"] is not None else 0.0
    checksum = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    return RoutesFile(
        RouteTable([route for route, _ in in_force], fallback, read.to_app), read.lookups, read.identities,
        read.principal, remembered, checksum, needed_claims(document["principal"]), read.lookup_marks,
        tuple(_key_mark(entry) for entry in document["identity"]), drafts, draft_mark,
        (*placed_hosts([*document["routes"], *document["identity"]]), *resource_hosts(document["routes"])),
        tuple(reader.warnings), read.clients,
        {route.name: {**_method_marks(entry), **entry.marks} for route, entry in in_force},
        tuple(entry.at("client_id") for entry in document["mcp_clients"]),
    )  # fmt: skip


def _method_marks(entry: Entry) -> dict[str, Mark]:
    actions: dict[str, Entry] = entry["actions"] or {}
    return {f"{method}.{name}": mark for method, action in actions.items() for name, mark in action.marks.items()}


def _source_marks(document: Entry, lookups: Iterable[str]) -> dict[str, Mark]:
    entries = document["lookups"]
    return {name: entries[name].at(source_of(entries[name])) for name in lookups}


DEFAULTS_ENTRY = Entry({name: f.default for name, f in DEFAULTS.fields.items()}, {}, Mark(1, 1, ""))


def _key_mark(entry: Entry) -> Mark:
    """The place of what says where an issuer's keys are."""
    return entry.at("jwks_url" if entry.has("jwks_url") else "user_pool_id")


def _identity(entry: Entry, reader: Reader) -> Identity:
    pool = entry.has("region") or entry.has("user_pool_id")
    if pool == entry.has("issuer"):
        reader.fault(entry.mark, "expected either region and user_pool_id, or issuer and jwks_url")
    elif pool and not (entry["region"] and entry["user_pool_id"]):
        reader.fault(entry.mark, "expected both region and user_pool_id")
    elif pool and entry["region"] != (own := entry["user_pool_id"].rpartition("_")[0]):
        reader.fault(entry.at("region"), f"found {entry['region']!r}, expected {own!r}, that of user_pool_id")
    elif not pool and not entry["jwks_url"]:
        reader.fault(entry.mark, "found an issuer without jwks_url, expected both")
    return Identity(
        entry["issuer"], entry["jwks_url"], entry["region"], entry["user_pool_id"],
        tuple(entry["client_ids"]), tuple(entry["token_use"]), tuple(entry["audiences"]),
        hosts_of(entry, reader),
    )  # fmt: skip
