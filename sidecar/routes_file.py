"""`routes.yaml` -> routes, lookups and rules of identity; every fault with file, line and column, all at once."""

from __future__ import annotations

import ipaddress
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import jmespath
from jmespath.exceptions import JMESPathError

from sidecar import units
from sidecar.gate.decision_cache import DecisionCache
from sidecar.gate.identity import PrincipalRules
from sidecar.gate.lookup import Attribute, Lookup, Missing, ResourceField
from sidecar.gate.references import Reference, Source, Template, parse_reference, parse_template
from sidecar.gate.request import Oddity
from sidecar.gate.routing import (
    METHODS,
    SAFE_METHODS,
    WEBSOCKET,
    Access,
    Cors,
    Rest,
    Route,
    RouteTable,
    Segment,
    Variable,
    parse_path,
)
from sidecar.gate.values import Type
from sidecar.shapes import (
    Choice,
    Entry,
    Field,
    Flag,
    ListOf,
    MapOf,
    Mark,
    Problem,
    Reader,
    Record,
    Text,
    Whole,
    read_document,
)


class Identity(NamedTuple):
    """One entry of `identity`: a user pool (`region`, `user_pool_id`) or any issuer (`issuer`, `jwks_url`)."""

    issuer: str
    jwks_url: str
    region: str
    user_pool_id: str
    client_ids: tuple[str, ...]
    token_use: tuple[str, ...]
    audiences: tuple[str, ...]


@dataclass(frozen=True)
class RoutesFile:
    """What a whole and sound `routes.yaml` says."""

    table: RouteTable
    lookups: Mapping[str, Lookup]
    identities: tuple[Identity, ...]
    principal: PrincipalRules
    decision_seconds: float = 0.0
    checksum: int = 0
    """Of the text: equal files have the same."""

    def decisions(self) -> DecisionCache | None:
        """A cache of decisions that is empty yet, where the file asks for one."""
        return DecisionCache(self.decision_seconds) if self.decision_seconds else None


class RoutesError(Exception):
    """The file cannot be used; `problems` are all of its faults."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


# --- the grammar ---

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_ATTRIBUTE_TYPE = re.compile(r"(.*):(string|number|int|bool|list)", re.DOTALL)


def _expression(text: str) -> Any:
    try:
        return jmespath.compile(text)
    except JMESPathError as error:
        raise ValueError(f"found {text!r}, expected a JMESPath expression: {str(error).splitlines()[0]}") from None


def _attribute(text: str) -> Attribute:
    typed = _ATTRIBUTE_TYPE.fullmatch(text)
    return Attribute(_expression(typed[1] if typed else text).search, Type(typed[2]) if typed else None)


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(?::\d{1,5})?", text):
        raise ValueError(f"found {text!r}, expected an origin such as https://app.example.com")
    return text


def _key_url(text: str) -> str:
    """A key server is asked over TLS, unless it is on this machine (R14)."""
    parts = urlsplit(text)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise ValueError(f"found {text!r}, expected an https URL")
    if parts.scheme == "http" and not units.is_loopback(host):
        raise ValueError(f"found {text!r}, expected https: only a loopback host may be asked over plain http")
    return text


_NAMES = ListOf(Text(pattern=r"\S+", what="a name"), single=True)
_TEMPLATE = Text(parse_template, what="a text with {references}")
_DURATION = Text(units.duration, what="a duration such as 300ms or 2s")
_METHOD = r"[A-Z]+"

IDENTITY = Record(
    {
        "region": Field(Text(pattern=r"[a-z]{2}(-[a-z]+)+-\d", what="an AWS region"), "the pool's AWS region", ""),
        "user_pool_id": Field(Text(pattern=r"[\w-]+_[A-Za-z0-9]+", what="a user pool id"), "the pool's id", ""),
        "issuer": Field(Text(pattern=r"https?://\S+", what="a URL"), "the exact `iss`, for another issuer", ""),
        "jwks_url": Field(Text(_key_url, r"https?://\S+", "a URL"), "where that issuer's keys are", ""),
        "client_ids": Field(ListOf(Text(pattern=r"\S+", what="a client id"), 1), "app clients", (), True),
        "token_use": Field(ListOf(Choice(("access", "id"))), "which tokens are taken", ("access",)),
        "audiences": Field(_NAMES, "what the `aud` of an access token may name", ()),
    },
    "one trusted issuer of tokens",
)
PRINCIPAL = Record(
    {
        "id": Field(Text(pattern=r"\S+", what="a claim name"), "the claim that is the principal's id", "sub"),
        "roles": Field(_NAMES, "the claim, or claims, that hold the roles", ("cognito:groups",)),
        "attributes": Field(
            MapOf(Text(pattern=r"\S+", what="a claim name"), _NAME, "an attribute name"), "attribute: claim", {}
        ),
    },
    "how claims become the Cerbos principal",
)
LOOKUP = Record(
    {
        "url": Field(Text(what="a URL with {values}"), "GET this; {id}, {kind} and references fill it", "", True),
        "attributes": Field(
            MapOf(Text(_attribute, what="a JMESPath expression"), _NAME, "an attribute name"),
            "attribute: JMESPath over the JSON answer, `:type` after it where it must be of one",
            {},
            True,
        ),
        "timeout": Field(_DURATION, "the whole call must be done by then", 1.0),
        "cache": Field(_DURATION, "an answer may be used again for so long", 0.0),
        "missing": Field(Choice(tuple(Missing)), "404 of the hook: 403, 404, or decide without attributes", "deny"),
        "optional": Field(_NAMES, "attributes that may be absent from an answer", ()),
        "echo": Field(Text(_expression, what="a JMESPath expression"), "must give the id that was asked for"),
        "bearer_env": Field(Text(pattern=r"[A-Z_][A-Z0-9_]*", what="a variable's name"), "holds the hook's token", ""),
    },
    "where attributes of a resource come from",
)
CORS = Record(
    {
        "origins": Field(ListOf(Text(_origin, what="an origin"), 1), "origins that may call, exactly", (), True),
        "methods": Field(ListOf(Text(pattern=_METHOD, what="a method")), "methods they may use"),
        "headers": Field(_NAMES, "request headers they may send", ()),
        "credentials": Field(Flag(), "whether cookies and Authorization may be sent", False),
        "max_age": Field(_DURATION, "how long a browser may remember the answer", 600.0),
    },
    "cross-origin calls from browsers",
)
_ACCESS = Choice(("authenticated", "public"))
ROUTE = Record(
    {
        "path": Field(Text(pattern=r"/.*", what="a path that starts with '/'"), "the paths it names", "", True),
        "access": Field(_ACCESS, "without a policy: any signed-in principal, or everybody"),
        "methods": Field(
            ListOf(Text(pattern=_METHOD, what="a method"), 1), "with `access`: the methods; GET by default"
        ),
        "resource": Field(Text(pattern=r"\S+", what="a resource kind"), "the Cerbos resource kind", ""),
        "id": Field(_TEMPLATE, "the resource id; '-' without it"),
        "attributes": Field(MapOf(_TEMPLATE, _NAME, "an attribute name"), "attributes read from the request", {}),
        "lookup": Field(Text(pattern=_NAME, what="the name of a lookup"), "where more attributes come from", ""),
        "scope": Field(_TEMPLATE, "the scope of the policy that is asked, from claims or the principal"),
        "actions": Field(
            MapOf(Text(pattern=r"[^\s*]+", what="an action"), _METHOD, "a method"),
            "method: action; WS for WebSocket",
            {},
        ),
        "allow": Field(ListOf(Choice(tuple(Oddity)), single=True), "what this route takes though it is odd", ()),
        "max_body": Field(Text(units.size, what="a size such as 1MiB"), "of a body that a reference reads"),
        "cors": Field(CORS, "which other origins browsers may call it from"),
        "recheck": Field(_DURATION, "an open WebSocket is decided again after so long", 0.0),
    },
    "which requests, and what they ask for",
)
DEFAULTS = Record(
    {
        "roles": Field(_NAMES, "roles of a principal whose token has none", ()),
        "access": Field(Choice(("deny", "authenticated")), "for a path that no route names", "deny"),
        "max_body": Field(Text(units.size, what="a size such as 1MiB"), "of a body that a reference reads", 1024**2),
    },
    "what holds where nothing else is said",
)
MAX_DECISION_SECONDS = 60.0
"""A minute of staleness: whoever needs more wants another policy, not a cache."""


def _decision_seconds(text: str) -> float:
    seconds = units.duration(text)
    if seconds > MAX_DECISION_SECONDS:
        raise ValueError(f"found {text!r}, expected at most {MAX_DECISION_SECONDS:.0f}s: so long a change goes unseen")
    return seconds


CACHE = Record(
    {
        "decisions": Field(
            Text(_decision_seconds, what="a duration such as 1s"),
            "how long a decision of Cerbos is remembered, at most 60s: so long may a change go unseen", 0.0,
        ),
    },
    "what is remembered",
)  # fmt: skip
FILE = Record(
    {
        "version": Field(Whole(1, 1), "the version of this grammar", None, True),
        "identity": Field(ListOf(IDENTITY), "trusted issuers; without it the environment names one pool", ()),
        "principal": Field(PRINCIPAL, "claims -> principal"),
        "lookups": Field(MapOf(LOOKUP, _NAME, "a lookup's name"), "name: lookup", {}),
        "cache": Field(CACHE, "what is remembered; without it nothing is"),
        "defaults": Field(DEFAULTS, "what holds where nothing else is said"),
        "routes": Field(ListOf(ROUTE), "the routes; the most specific path wins, whatever the order", (), True),
    },
    "routes.yaml of the authorization sidecar",
)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `routes.yaml`, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "routes.yaml", **FILE.schema()}


# --- the reading ---


def read_routes(text: str, file: str, environ: Mapping[str, str]) -> RoutesFile:
    """Read and check a route file. `environ` gives the hooks' tokens. Raises RoutesError with every problem."""
    document, reader = read_document(text, file, FILE)
    if not isinstance(document, Entry):
        raise RoutesError(reader.problems)
    lookups = {
        name: _lookup(name, entry, environ, reader)
        for name, entry in document["lookups"].items()
        if isinstance(entry, Entry)
    }
    defaults = document["defaults"] or DEFAULTS_ENTRY
    routes = _routes(document["routes"], lookups, defaults["max_body"], reader)
    identities = tuple(_identity(entry, reader) for entry in document["identity"])
    if reader.problems:
        raise RoutesError(sorted(reader.problems, key=lambda problem: problem[1:3]))
    fallback = Access.AUTHENTICATED if defaults["access"] == "authenticated" else Access.POLICY
    principal = _principal(document["principal"], tuple(defaults["roles"]))
    remembered = document["cache"]["decisions"] if document["cache"] is not None else 0.0
    checksum = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    return RoutesFile(RouteTable(routes, fallback), lookups, identities, principal, remembered, checksum)


DEFAULTS_ENTRY = Entry({name: f.default for name, f in DEFAULTS.fields.items()}, {}, Mark(1, 1, ""))


def _principal(entry: Entry | None, default_roles: tuple[str, ...]) -> PrincipalRules:
    if entry is None:
        return PrincipalRules(default_roles=default_roles)
    return PrincipalRules(entry["id"], tuple(entry["roles"]), entry["attributes"], default_roles)


def _identity(entry: Entry, reader: Reader) -> Identity:
    pool = entry.has("region") or entry.has("user_pool_id")
    if pool == entry.has("issuer"):
        reader.fault(entry.mark, "expected either region and user_pool_id, or issuer and jwks_url")
    elif pool and not (entry["region"] and entry["user_pool_id"]):
        reader.fault(entry.mark, "expected both region and user_pool_id")
    elif not pool and not entry["jwks_url"]:
        reader.fault(entry.mark, "found an issuer without jwks_url, expected both")
    return Identity(
        entry["issuer"], entry["jwks_url"], entry["region"], entry["user_pool_id"],
        tuple(entry["client_ids"]), tuple(entry["token_use"]), tuple(entry["audiences"]),
    )  # fmt: skip


# --- lookups ---


def _lookup(name: str, entry: Entry, environ: Mapping[str, str], reader: Reader) -> Lookup:
    origin, target = _hook_url(entry["url"], entry.at("url"), reader)
    unknown = set(entry["optional"]) - set(entry["attributes"])
    if unknown:
        reader.fault(entry.at("optional"), f"found {sorted(unknown)[0]!r}, expected names of `attributes`")
    bearer = environ.get(entry["bearer_env"], "") if entry["bearer_env"] else ""
    if entry["bearer_env"] and not re.fullmatch(r"[\x21-\x7e]+", bearer):
        reader.fault(entry.at("bearer_env"), f"the variable {entry['bearer_env']} holds no token")
    return Lookup(
        name, origin, target, entry["attributes"], frozenset(entry["optional"]), Missing(entry["missing"]),
        entry["timeout"], entry["cache"], entry["echo"].search if entry["echo"] is not None else None, bearer,
    )  # fmt: skip


_HOOK_URL = re.compile(r"(https?://[^/?#]*)(/[^#]*)")
_HOOK_VALUE = re.compile(r"\{([^{}]*)\}")


def _hook_url(url: str, mark: Mark, reader: Reader) -> tuple[str, tuple[str | Reference | ResourceField, ...]]:
    """Cut a hook's URL into a fixed origin and a target with values in it (R17)."""
    match = _HOOK_URL.fullmatch(url)
    if match is None:
        reader.fault(mark, f"found {_told(url)!r}, expected http(s)://host:port/path without a fragment")
        return "", ()
    problem = _origin_problem(match[1]) or _target_problem(match[2])
    if problem:
        reader.fault(mark, f"found {_told(url)!r}, {problem}")
        return "", ()
    try:
        return match[1], _target_parts(match[2])
    except ValueError as error:
        reader.fault(mark, str(error))
        return "", ()


def _told(url: str) -> str:
    """A URL as it may stand in a log: without what is before an "@", which may be a password."""
    return re.sub(r"(//|^)[^/]*@", r"\1***@", url)


def _origin_problem(origin: str) -> str:
    if "{" in origin:
        return "expected scheme, host and port without {values}: a request never chooses who is asked"
    if "@" in origin:
        return "expected no user and password in it: use bearer_env"
    try:
        parts = urlsplit(origin)
        host, _ = parts.hostname or "", parts.port
        address = ipaddress.ip_address(host)
    except ValueError:
        return "" if re.fullmatch(r"https?://[A-Za-z0-9._-]+(?::\d{1,5})?", origin) else "expected http(s)://host:port"
    # 169.254.169.254 and its kin hand out a cloud's credentials to whoever can ask
    return "expected no link-local address" if address.is_link_local or host == "fd00:ec2::254" else ""


def _target_problem(target: str) -> str:
    path = target.partition("?")[0]
    if any(segment in (".", "..") for segment in path.split("/")):
        return "expected a path without dot segments"
    return "" if re.fullmatch(r"[!-~]+", target) else "expected visible ASCII, the rest percent-encoded"


def _target_parts(target: str) -> tuple[str | Reference | ResourceField, ...]:
    parts: list[str | Reference | ResourceField] = []
    end = 0
    for match in _HOOK_VALUE.finditer(target):
        parts.append(target[end : match.start()])
        known = match[1] in set(ResourceField)
        parts.append(ResourceField(match[1]) if known else parse_reference(match[1]))
        end = match.end()
    parts.append(target[end:])
    if any(isinstance(part, str) and type(part) is str and re.search(r"[{}]", part) for part in parts):
        raise ValueError(f"found a lone brace in {target!r}, expected {{id}} or {{source.name}}")
    return tuple(part for part in parts if part != "")


# --- routes ---


def _routes(entries: list[Entry], lookups: Mapping[str, Lookup], max_body: int, reader: Reader) -> list[Route]:
    routes: list[Route] = []
    lines: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        segments = _segments(entry, reader)
        if segments is None:
            continue
        key = tuple(part.pattern if isinstance(part, Variable) else part for part in map(_comparable, segments))
        if key in lines:
            reader.fault(
                entry.at("path"), f"names the same paths as {lines[key]['path']!r} in line {lines[key].mark.line}"
            )
        lines.setdefault(key, entry)
        routes.append(_route(entry, segments, lookups, max_body, reader))
    return routes


def _comparable(segment: Segment) -> object:
    return (segment,) if isinstance(segment, str) else segment


def _segments(entry: Entry, reader: Reader) -> tuple[Segment, ...] | None:
    if not entry["path"]:
        return None
    try:
        return parse_path(entry["path"])
    except ValueError as error:
        reader.fault(entry.at("path"), str(error))
        return None


def _route(
    entry: Entry, segments: tuple[Segment, ...], lookups: Mapping[str, Lookup], max_body: int, reader: Reader
) -> Route:
    access = Access(entry["access"]) if entry["access"] else Access.POLICY
    actions = _policy_actions(entry, reader) if access is Access.POLICY else _open_methods(entry, reader)
    if access is Access.PUBLIC:
        _check_public(entry, segments, actions, reader)
    route = Route(
        entry["path"], segments, access, actions, entry["resource"], entry["id"], entry["attributes"],
        entry["lookup"], frozenset(map(Oddity, entry["allow"])), _cors(entry, actions, reader),
        entry["max_body"] or max_body, entry["recheck"], entry["scope"],
    )  # fmt: skip
    _check_references(entry, route, lookups, reader)
    if route.recheck and WEBSOCKET not in actions:
        reader.fault(entry.at("recheck"), "found it on a route without the action WS, expected it for WebSockets only")
    return route


def _policy_actions(entry: Entry, reader: Reader) -> dict[str, str]:
    if entry.has("methods"):
        reader.fault(entry.at("methods"), "found it beside a policy, expected `actions`")
    for name in ("resource", "actions"):
        if not entry[name]:
            reader.fault(entry.at(name), f"found no {name!r}, expected `resource` and `actions`, or `access`")
    actions = dict(entry["actions"])
    _check_methods(entry.at("actions"), actions, reader)
    if "HEAD" in actions and actions["HEAD"] != actions.get("GET"):
        reader.fault(entry.at("actions"), "found another action for HEAD, expected that of GET: HEAD is decided as GET")
    return actions


def _open_methods(entry: Entry, reader: Reader) -> dict[str, str]:
    for name in ("resource", "id", "attributes", "lookup", "scope", "actions", "max_body"):
        if entry.has(name):
            reader.fault(entry.at(name), f"found it beside `access: {entry['access']}`, which asks no policy")
    methods = entry["methods"] or ["GET"]
    _check_methods(entry.at("methods"), methods, reader)
    return dict.fromkeys(methods, "")


def _check_methods(mark: Mark, methods: Any, reader: Reader) -> None:
    for method in methods:
        if method not in METHODS and method != WEBSOCKET:
            reader.fault(
                mark, f"found the method {method!r}, expected one of {', '.join(sorted(METHODS))} or {WEBSOCKET}"
            )


def _check_public(entry: Entry, segments: tuple[Segment, ...], methods: Any, reader: Reader) -> None:
    wild = any(isinstance(segment, Rest) for segment in segments)
    unsafe = sorted(set(methods) - SAFE_METHODS)
    if wild and unsafe:
        reader.fault(entry.at("methods"), f"found {unsafe[0]} on a public wildcard, expected GET, HEAD or OPTIONS only")
    if wild and len(segments) == 1:
        reader.fault(entry.at("path"), "found everything made public, expected a path below which it is")


def _cors(entry: Entry, actions: Mapping[str, str], reader: Reader) -> Cors | None:
    cors = entry["cors"]
    if cors is None:
        return None
    methods = cors["methods"] if cors["methods"] is not None else [m for m in actions if m != WEBSOCKET]
    unmapped = [method for method in methods if method not in actions and method != "HEAD"]
    if unmapped:
        reader.fault(cors.at("methods"), f"found {unmapped[0]!r}, expected methods that the route has")
    return Cors(
        frozenset(cors["origins"]), tuple(methods), tuple(cors["headers"]), cors["credentials"], int(cors["max_age"])
    )  # fmt: skip


def _check_references(entry: Entry, route: Route, lookups: Mapping[str, Lookup], reader: Reader) -> None:
    names = {segment.name for segment in route.segments if isinstance(segment, Variable)}
    for field, template in (("id", route.id), *(("attributes", value) for value in route.attributes.values())):
        if isinstance(template, Template):
            for reference in template.references:
                _check_reference(entry, field, reference, names, reader)
    for reference in route.scope.references if isinstance(route.scope, Template) else ():
        if reference.source not in (Source.CLAIMS, Source.PRINCIPAL):
            # who sends a request must not choose the policy that decides on it
            reader.fault(entry.at("scope"), f"found {{{reference}}}, expected {{claims.…}} or {{principal.…}}")
    if not route.lookup:
        return
    lookup = lookups.get(route.lookup)
    if lookup is None:
        reader.fault(
            entry.at("lookup"), f"found {route.lookup!r}, expected one of `lookups`: {', '.join(lookups) or 'none'}"
        )
        return
    for part in lookup.target:
        if isinstance(part, Reference):
            _check_reference(entry, "lookup", part, names, reader)


def _check_reference(entry: Entry, field: str, reference: Reference, names: set[str], reader: Reader) -> None:
    if reference.source is Source.PATH and reference.name not in names:
        known = ", ".join(sorted(names)) or "none"
        reader.fault(entry.at(field), f"found {{{reference}}}, expected a variable of the path: {known}")
    if reference.source is Source.BODY and not set(entry["actions"]) - {"GET", "HEAD", "DELETE", "OPTIONS", WEBSOCKET}:
        reader.fault(entry.at(field), f"found {{{reference}}} on a route whose methods have no body")
