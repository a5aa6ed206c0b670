"""Which route: what kind of resource, which action, and how to read the id, for one canonical request.

The most specific path wins, whatever the order in the file: segment by segment from the left, a literal goes before a
narrow pattern, that before a wider one, and `**` last. A table is a tree of segments, so its size costs nothing.

Where routes name hosts, there is a tree for each name of a host: the host goes before the path. What the routes of a
host leave open, those of a wider name may take (`*.example.com`), and then those for all hosts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from sidecar.gate.ask import Ask, asks
from sidecar.gate.codes import Code
from sidecar.gate.hosts import entries_for
from sidecar.gate.mode import Mode, RouteMode
from sidecar.gate.own import SEGMENT
from sidecar.gate.protected import Protected
from sidecar.gate.request import Request
from sidecar.gate.target import NO_ODDITIES, Oddity
from sidecar.gate.to_app import ToApp
from sidecar.gate.verdict import Destination, Refused
from sidecar.wire.grammar import METHODS

WEBSOCKET = "WS"
"""The method under which `actions` names what a WebSocket handshake asks for."""


class Access(StrEnum):
    """Access to a route: for those whom the policy allows, for any signed-in principal, or for everybody."""

    POLICY = "policy"
    AUTHENTICATED = "authenticated"
    PUBLIC = "public"


class Pattern(StrEnum):
    """Pattern of a `{name:pattern}` segment, from narrow to wide: the order in which they are tried."""

    INT = "int"
    UUID = "uuid"
    SLUG = "slug"
    DEFAULT = "default"
    ANY = "any"


_PATTERNS = {
    Pattern.INT: re.compile(r"0|[1-9][0-9]{0,18}"),
    # RFC 9562 section 4: written in lower case, and read in any; one id has one spelling here
    Pattern.UUID: re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"),
    Pattern.SLUG: re.compile(r"[a-z0-9](?:[a-z0-9-]{0,126}[a-z0-9])?"),
    Pattern.DEFAULT: re.compile(r"[A-Za-z0-9._~+-]{1,128}"),
    Pattern.ANY: re.compile(r".+", re.DOTALL),
}
_ORDER = tuple(Pattern)


class Variable(NamedTuple):
    """A `{name}` or `{name:pattern}` segment, as `{id}.json` with a literal text before it, after it, or both."""

    name: str
    pattern: Pattern
    before: str = ""
    after: str = ""

    def holds(self, segment: str) -> bool:
        """Return whether a segment has the literal texts, and a text of one character or more between them."""
        return (
            len(segment) > len(self.before) + len(self.after)
            and segment.startswith(self.before)
            and segment.endswith(self.after)
        )

    def value(self, segment: str) -> str:
        """The text between the literal ones, in a segment that has them."""
        return segment[len(self.before) : len(segment) - len(self.after)]


class Rest(NamedTuple):
    """A `**` at the end: one or more segments, of which the last may be empty."""


Segment = str | Variable | Rest


class Cors(NamedTuple):
    """Which other origins a browser may call the route from (Fetch standard, section 3.2); `max_age` in seconds."""

    origins: frozenset[str]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    credentials: bool = False
    max_age: int = 600


class Route(NamedTuple):
    """One entry of `routes.yaml`. `name` is its path as written, behind its hosts. `asks`: method -> what it asks, HEAD
    as GET.

    `allow`: what this route takes though others may read it differently. `recheck`: seconds, 0 for never. With
    `app_preflight` the app answers preflights. `mode`: None for that of the settings. `protected`: the resource that a
    token must be made for. `hosts`: in lower case, () for all. `upstream`: the app behind it, None for that of the
    settings. `binds_sessions`: an MCP session at the app is its principal's alone.
    """

    name: str
    segments: tuple[Segment, ...]
    access: Access
    asks: Mapping[str, Ask]
    allow: frozenset[Oddity] = NO_ODDITIES
    cors: Cors | None = None
    recheck: float = 0.0
    to_app: ToApp | None = None
    app_preflight: bool = False
    mode: RouteMode | None = None
    protected: Protected | None = None
    hosts: tuple[str, ...] = ()
    upstream: Destination | None = None
    binds_sessions: bool = False

    @property
    def path(self) -> str:
        """Its path as written."""
        return self.name[self.name.find("/") :]

    def is_at(self, host: str) -> bool:
        """Return whether it is one of a host's."""
        return not self.hosts or not frozenset(self.hosts).isdisjoint(entries_for(host))

    @property
    def actions(self) -> Mapping[str, str]:
        """Method -> action, as a person reads it: without HEAD where GET says it."""
        return {
            method: ask.action for method, ask in self.asks.items() if method != "HEAD" or "GET" not in self.asks
        }  # fmt: skip

    @property
    def questions(self) -> Iterator[tuple[str, Ask]]:
        """Each question that the route may ask, HEAD as GET: with its method, and the operation's name after it where
        the body says what is asked."""
        for method in self.actions:
            ask = self.asks[method]
            if ask.operations is None:
                yield method, ask
            else:
                yield from ((f"{method} {name}", one) for name, one in ask.operations.asks.items())


class RouteMatch(NamedTuple):
    """The route of a request, and the texts of its variables."""

    route: Route
    path: Mapping[str, str]


class _Node:
    """One place in the tree: where each kind of next segment leads."""

    __slots__ = ("affixed", "literals", "rest", "route", "variables")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.affixed: list[tuple[Variable, _Node]] = []
        self.variables: list[tuple[Pattern, _Node]] = []
        self.route: Route | None = None
        self.rest: Route | None = None

    def child(self, segment: str | Variable) -> _Node:
        if isinstance(segment, str):
            return self.literals.setdefault(segment, _Node())
        if segment.before or segment.after:
            return self._affixed(segment._replace(name=""))
        for pattern, node in self.variables:
            if pattern is segment.pattern:
                return node
        node = _Node()
        self.variables.append((segment.pattern, node))
        self.variables.sort(key=lambda pair: _ORDER.index(pair[0]))
        return node

    def _affixed(self, segment: Variable) -> _Node:
        for known, node in self.affixed:
            if known == segment:
                return node
        node = _Node()
        self.affixed.append((segment, node))
        self.affixed.sort(key=lambda pair: _precedence(pair[0]))
        return node


def _precedence(segment: Variable) -> tuple[int, int, int]:
    """The place of a variable with literal texts among such: the most of it goes first, then the most before it."""
    return -len(segment.before) - len(segment.after), -len(segment.before), _ORDER.index(segment.pattern)


class RouteTable:
    """The routes as a tree. `fallback` is the access of a path that no route names: POLICY means refuse. `to_app` is
    for such a path; `reserved` are the headers that it and all routes tell the app of a principal. `modes` are those
    that routes have of their own, and `nowhere` stands for a path that no route names. `hosts` are those that routes
    name, None where none does.

    Raises ValueError for two routes that name the same paths.
    """

    def __init__(self, routes: Iterable[Route], fallback: Access = Access.POLICY, to_app: ToApp | None = None) -> None:
        self.routes = tuple(routes)
        self.to_app = to_app
        told = [to_app, *(route.to_app for route in self.routes)]
        self.reserved = frozenset(name for one in told if one is not None for name, _ in one.headers)
        asked = [ask.mode for route in self.routes for ask in route.asks.values()]
        own = [mode for mode in (*asked, *(route.mode for route in self.routes)) if mode is not None]
        self.modes: frozenset[Mode] = frozenset().union(*[mode.modes for mode in own])
        self.protected = tuple(route.protected for route in self.routes if route.protected is not None)
        self.nowhere = Route("", (), Access.POLICY, {}, to_app=to_app)
        self._root = _Node()
        trees = {host: _Node() for route in self.routes for host in route.hosts}
        self.hosts = frozenset(trees) if trees else None
        self._trees = trees
        self._by_host = {host: self._trees_of(host) for host in trees}
        self._homes = _homes(self.routes)
        self.fallback = fallback
        self._fallback = (
            Route(
                "(default)",
                (Rest(),),
                Access.AUTHENTICATED,
                asks(dict.fromkeys([*METHODS, WEBSOCKET], "")),
                to_app=to_app,
            )
            if fallback is Access.AUTHENTICATED
            else None
        )
        for route in self.routes:
            for tree in [trees[host] for host in route.hosts] or [self._root]:
                _add(tree, route)

    @property
    def upstreams(self) -> tuple[Destination, ...]:
        """The apps that routes name, each once."""
        return tuple(dict.fromkeys([route.upstream for route in self.routes if route.upstream is not None]))

    def home(self, host: str) -> Destination | None:
        """The app of a path that no route names: that to which all routes of its host lead, or that of the settings."""
        return next((self._homes[entry] for entry in entries_for(host) if entry in self._homes), None)

    def _trees_of(self, host: str) -> tuple[_Node, ...]:
        return (*(self._trees[entry] for entry in entries_for(host) if entry in self._trees), self._root)

    def _first(self, segments: tuple[str, ...], host: str, *, strict: bool) -> Route | None:
        found = (_find(tree, segments, 0, strict) for tree in self._by_host.get(host) or self._trees_of(host))
        return next((route for route in found if route is not None), None)

    def find(self, segments: tuple[str, ...], host: str = "") -> Route | None:
        """The most specific route for decoded segments at a host, or None; "" is a host that no route names."""
        if self.hosts is None:
            return _find(self._root, segments, 0, strict=True)
        return self._first(segments, host, strict=True)

    def meant(self, segments: tuple[str, ...], host: str = "") -> Route | None:
        """The route that matches, or that would if every variable took any text: whose variable refused, then. None for
        a path of the sidecar itself."""
        if segments[0] == SEGMENT:
            return None
        return self.find(segments, host) or self._first(segments, host, strict=False)

    def match(self, request: Request) -> RouteMatch:
        """The request's route. Raises Refused: TARGET_AMBIGUOUS, BODY_UNEXPECTED, SEGMENT_INVALID, ROUTE_UNMAPPED."""
        segments = request.segments
        route = None if segments[0] == SEGMENT else self.find(segments, request.host)
        if request.oddities:
            _check_oddities(request, route)
        if route is None:
            if segments[0] == SEGMENT:
                raise Refused(Code.ROUTE_UNMAPPED, "a path of the sidecar itself")
            if self.meant(segments, request.host) is not None:
                raise Refused(Code.SEGMENT_INVALID)
            if self._fallback is None:
                raise Refused(Code.ROUTE_UNMAPPED)
            route = self._fallback
            if self.hosts is not None:
                route = route._replace(upstream=self.home(request.host))
            _check_oddities(request, route)
        return RouteMatch(route, path_values(route, segments))


def _homes(routes: Iterable[Route]) -> Mapping[str, Destination | None]:
    """The app of each host, where all of its routes lead to one; None is that of the settings."""
    found: dict[str, set[Destination | None]] = {}
    for route in routes:
        for host in route.hosts:
            found.setdefault(host, set()).add(route.upstream)
    return {host: next(iter(apps)) if len(apps) == 1 else None for host, apps in found.items()}


def _add(root: _Node, route: Route) -> None:
    node = root
    for segment in route.segments:
        if isinstance(segment, Rest):
            break
        node = node.child(segment)
    rest = bool(route.segments) and isinstance(route.segments[-1], Rest)
    taken = node.rest if rest else node.route
    if taken is not None:
        raise ValueError(f"{route.name} names the same paths as {taken.name}")
    if rest:
        node.rest = route
    else:
        node.route = route


def _find(node: _Node, segments: tuple[str, ...], at: int, strict: bool) -> Route | None:
    """The most specific route below a node: a literal goes before variables, of these one with literal texts first, and
    all before `**`, where the rest of the path leads to a route."""
    if at == len(segments):
        return node.route
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None:
        found = _find(literal, segments, at + 1, strict)
        if found is not None:
            return found
    for variable, child in node.affixed:
        if variable.holds(segment) and (not strict or _PATTERNS[variable.pattern].fullmatch(variable.value(segment))):
            found = _find(child, segments, at + 1, strict)
            if found is not None:
                return found
    for pattern, child in node.variables:
        if _PATTERNS[pattern].fullmatch(segment) if strict else segment:
            found = _find(child, segments, at + 1, strict)
            if found is not None:
                return found
    return node.rest


def _check_oddities(request: Request, route: Route | None) -> None:
    refused = request.oddities - (route.allow if route is not None else NO_ODDITIES)
    if refused - {Oddity.REQUEST_BODY}:
        raise Refused(Code.TARGET_AMBIGUOUS, f"{', '.join(sorted(refused))}: not allowed by the route")
    if refused and route is not None:
        raise Refused(Code.BODY_UNEXPECTED, f"a body on {request.method}")


def path_values(route: Route, segments: tuple[str, ...]) -> Mapping[str, str]:
    """The texts of the route's variables, in a path that it matched."""
    return {
        part.name: part.value(text) if part.before or part.after else text
        for part, text in zip(route.segments, segments, strict=False)
        if isinstance(part, Variable)
    }


def ask_of(route: Route, request: Request) -> Ask:
    """Return the question of a request's method on a route.

    Raises Refused(METHOD_UNMAPPED) with the methods that the route has.
    """
    method = request.method
    if method == WEBSOCKET:
        raise Refused(Code.METHOD_UNMAPPED, "no method of HTTP", allowed_methods(route))
    ask = route.asks.get(WEBSOCKET if request.websocket else method)
    if ask is None:
        raise Refused(Code.METHOD_UNMAPPED, _why_unmapped(route, method), allowed_methods(route))
    return ask


def _why_unmapped(route: Route, method: str) -> str:
    # of the routes whose requests say what they ask for, those of MCP always have GET
    post = route.asks.get("POST")
    is_graphql = post is not None and post.operations is not None
    return "`graphql.get` is off: queries come by POST alone" if is_graphql and method in ("GET", "HEAD") else ""


def allowed_methods(route: Route) -> tuple[str, ...]:
    """List the methods of a route for `Allow` (RFC 9110 section 10.2.1)."""
    return tuple(sorted(set(route.asks) - {WEBSOCKET}))


# --- the path of a route, as written ---


def route_name(hosts: Iterable[str], path: str) -> str:
    """The name of a route: its path, behind its hosts where it has any."""
    return ",".join(hosts) + path


# pchar without escapes, "*" and ";", and whatever the escapes of a request's UTF-8 may stand for: said by what it is
# not, since `re` takes 10 ms to compile a range as large as that
_PCHARS = r"[^\x00-\x20\"#%*/;<>?\[\\\]^`{|}\x7f-\x9f]"
_LITERAL = re.compile(rf"{_PCHARS}+")
_VARIABLE = re.compile(rf"({_PCHARS}*)\{{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}}({_PCHARS}*)")
# a variable in the words of Express and Rails, Flask, Next.js
_FOREIGN = re.compile(r":([A-Za-z_]\w*)|<(?:(int|uuid):|\w+:)?([A-Za-z_]\w*)>|\[([A-Za-z_]\w*)\]", re.ASCII)


def parse_path(path: str) -> tuple[Segment, ...]:
    """Parse the `path` of a route. Raises ValueError that says what was found and what was expected."""
    if not path.startswith("/"):
        raise ValueError(f"found {path!r}, expected a path that starts with '/'")
    texts = path[1:].split("/")
    _refuse_foreign(path, texts)
    segments = tuple(_parse_segment(text, at == len(texts) - 1) for at, text in enumerate(texts))
    names = [segment.name for segment in segments if isinstance(segment, Variable)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"found {{{twice[0]}}} twice in {path!r}, expected each name once")
    return segments


def _refuse_foreign(path: str, texts: list[str]) -> None:
    """Refuse a path with a variable that is written as another framework writes one."""
    found = [text for text in texts if _FOREIGN.fullmatch(text)]
    if found:
        meant = "/".join(["", *map(_own_variable, texts)])
        raise ValueError(f"found the segment {found[0]!r} in {path!r}, did you mean {meant!r}?")


def _own_variable(text: str) -> str:
    foreign = _FOREIGN.fullmatch(text)
    if foreign is None:
        return text
    name = foreign[1] or foreign[3] or foreign[4]
    return f"{{{name}:{foreign[2]}}}" if foreign[2] else f"{{{name}}}"


def _parse_segment(text: str, last: bool) -> Segment:
    if text == "**":
        if not last:
            raise ValueError("found '**' before the end, expected it as the last segment only")
        return Rest()
    if text == "" and last:
        return text
    variable = _VARIABLE.fullmatch(text)
    if variable:
        pattern = variable[3] or "default"
        if pattern not in set(Pattern) or variable[3] == "default":
            raise ValueError(f"found the pattern {pattern!r}, expected int, uuid, slug or any")
        return Variable(variable[2], Pattern(pattern), variable[1], variable[4])
    if text.count("{") > 1:
        raise ValueError(
            f"found the segment {text!r}, expected one variable in it: two could be told apart in two ways"
        )
    if text in (".", "..") or not _LITERAL.fullmatch(text):
        raise ValueError(f"found the segment {text!r}, expected a text, {{name}}, {{name:pattern}} or, at the end, **")
    return text
