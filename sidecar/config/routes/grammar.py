"""Grammar of `routes.yaml`: the names that it may have, what each is for, and its JSON Schema."""

from __future__ import annotations

import re
from typing import Any

from sidecar.bodies.graphql_document import DocumentLimits
from sidecar.config import parsers, units
from sidecar.config.routes.each import EACH, LOOKUP_NAMES
from sidecar.config.routes.mcp import mcp_record
from sidecar.config.routes.modes import MODE
from sidecar.config.routes.principal import PRINCIPAL
from sidecar.config.routes.protected import MCP_CLIENT
from sidecar.config.routes.to_app import TO_APP
from sidecar.config.routes.upstreams import OF_IDENTITY, OF_ROUTE, UPSTREAMS
from sidecar.config.shapes import (
    Choice,
    Field,
    Flag,
    ListOf,
    ListOr,
    MapOf,
    Record,
    RecordAndMap,
    Short,
    Text,
    TrueOr,
    Whole,
    WordOr,
)
from sidecar.gate.expressions import compile_expression, names_path, searcher, value_expression
from sidecar.gate.lookup import Attribute, Missing, ResourceField
from sidecar.gate.references import Reference, parse_reference, parse_template
from sidecar.gate.statement import parse_value
from sidecar.gate.target import Oddity
from sidecar.gate.values import COMPOUND, Type, split_type
from sidecar.plans.dialects import DIALECTS
from sidecar.release.cursor import LINK, MAX_PAGES
from sidecar.release.items import MAX_ITEMS, MAX_SIZE
from sidecar.release.lines import LINES
from sidecar.release.lookup import MAX_SIZE as MAX_ANSWER

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_DOTTED = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"


def _attribute(text: str) -> Attribute:
    expression, kind = split_type(text)
    return Attribute(searcher(expression), kind, expression)


def _lookup_attribute(text: str) -> Attribute:
    expression, kind = split_type(text)
    found, places = value_expression(expression)
    if found is None:
        return _attribute(text)
    return Attribute(found, kind, expression, {name: _value(name, named) for name, named in places.items()})


def _value(text: str, is_name: bool) -> Reference | ResourceField:
    """Read what stands between the braces of a place in an expression."""
    if text in (ResourceField.ID, ResourceField.KIND):
        return ResourceField(text)
    reference = parse_reference(text)
    if reference.optional or reference.type in COMPOUND:
        raise ValueError(f"found {{{text}}}, expected a string, number, int or bool, without '?'")
    if is_name and reference.type is not Type.STRING:
        raise ValueError(f"found {{{text}}} as the name of a member, expected a string: names are texts")
    return reference


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(?::\d{1,5})?", text):
        raise ValueError(f"found {text!r}, expected an origin such as https://app.example.com")
    return text


def _key_url(text: str) -> str:
    try:
        return parsers.key_url(text)
    except ValueError as error:
        raise ValueError(f"found {text!r}, {error}") from None


_NAMES = ListOf(Text(pattern=r"\S+", what="a name"), single=True)
_TEMPLATE = Text(parse_template, what="a text with {references}")
_DURATION = Text(units.duration, what="a duration such as 300ms or 2s")
_PARAMETER = r"[A-Za-z0-9_.~$@:!*()\[\],-]+"
_METHOD = r"[A-Z]+(?:-[A-Z]+)*"

IDENTITY = Record(
    {
        "region": Field(Text(pattern=r"[a-z]{2}(-[a-z]+)+-\d", what="an AWS region"), "the pool's AWS region", ""),
        "user_pool_id": Field(Text(pattern=r"[\w-]+_[A-Za-z0-9]+", what="a user pool id"), "the pool's id", ""),
        "issuer": Field(Text(pattern=r"https?://\S+", what="a URL"), "the exact `iss` of another issuer", ""),
        "jwks_url": Field(Text(_key_url, r"https?://\S+", "a URL"), "the URL of that issuer's keys", ""),
        "client_ids": Field(ListOf(Text(pattern=r"\S+", what="a client id"), 1), "app clients", (), True),
        "token_use": Field(ListOf(Choice(("access", "id"))), "accepted kinds of tokens", ("access",)),
        "audiences": Field(_NAMES, "accepted values of an access token's `aud`", ()),
        "hosts": OF_IDENTITY,
    },
    "one trusted issuer of tokens",
)
_ATTRIBUTES = MapOf(Text(_attribute, what="a JMESPath expression"), _NAME, "an attribute name")
_LOOKUP_ATTRIBUTES = MapOf(Text(_lookup_attribute, what="a JMESPath expression"), _NAME, "an attribute name")
_VARIABLE = Text(pattern=r"[A-Z_][A-Z0-9_]*", what="a variable's name")
_PARAMETER_NAME = r"[A-Za-z_][A-Za-z0-9_]*"


def _names(text: str) -> tuple[str, ...]:
    path = names_path(text)
    if not path:
        raise ValueError(f"found {text!r}, expected names joined by dots")
    return path


MAX_BATCH = 500
"""Ids in one call at the most."""
BATCH = Record(
    {
        "max": Field(Whole(1, MAX_BATCH), "ids in one call; more go in several", 100),
        "at": Field(
            Text(_names, what="names joined by dots"),
            "the names that lead to the list, or to the object, in the answer; without it the whole answer", (),
        ),
        "separator": Field(
            Text(pattern=r"[,;|!*]", what="one of , ; | ! *"),
            "the character between the ids, where the URL takes them in one value (`?ids={ids}` becomes `?ids=1,2`); "
            "without it the parameter comes once for each", "",
        ),
    },
    "many ids in one call: with `echo` the answer is a list, and without it an object, id: document; of `sql` each row "
    "has its id in the column `id`, or where `echo` finds it",
)  # fmt: skip
LOOKUP = Record(
    {
        "url": Field(Text(what="a URL with {values}"), "the URL to GET, filled with {id}, {kind} and references", ""),
        "upstream": Field(
            Text(what="a path with {values}"),
            "in place of `url`: the path to GET of the protected app itself, filled likewise",
            "",
        ),
        "sql": Field(
            Text(what="a SELECT"), "in place of `url`: a SELECT with named parameters, of one row: `:id`, `:kind`", ""
        ),
        "database": Field(_VARIABLE, "with `sql`: the environment variable that has the database's URL", ""),
        "parameters": Field(
            MapOf(Text(parse_value, what="a value in braces"), _PARAMETER_NAME, "a parameter's name"),
            "with `sql`: what fills a parameter, with the type that it is bound as: `{id:int}`, `{principal.id}`",
            {},
        ),
        "function": Field(
            Text(pattern=rf"{_DOTTED}:{_DOTTED}", what="module:function"),
            "in place of `url`: the Python function to call, as `module:function`, plain or async",
            "",
        ),
        "as": Field(
            Choice(("service", "principal")),
            "with `function`: `principal` tells it who asks, and each principal has an answer of its own",
            "service",
        ),
        "attributes": Field(
            _LOOKUP_ATTRIBUTES,
            "attribute: JMESPath over the JSON answer, `:type` after it where it must be of one; `'{id}'` in it stands "
            "for the id",
            {},
            True,
        ),
        "timeout": Field(_DURATION, "the time for the whole call", 1.0),
        "cache": Field(_DURATION, "how long an answer may be used again", 0.0),
        "missing": Field(
            Choice(tuple(Missing)), "404 of the hook, or no row: 403, 404 (denials alike), or decide without", "deny"
        ),
        "optional": Field(_NAMES, "attributes that may be absent from an answer", ()),
        "echo": Field(
            Text(compile_expression, what="a JMESPath expression"), "an expression that must give the requested id"
        ),
        "batch": Field(
            TrueOr(BATCH),
            "with `url`, `sql` or `function`: `true`, or how many ids go in one call: the URL has `{ids}`, as in "
            "`?id={ids}`, the statement `id in :ids`, the function takes a `BatchLookupRequest`, and `each` asks about "
            "all of its ids in one",
        ),
        "bearer_env": Field(_VARIABLE, "the variable that holds the sidecar's token there", ""),
    },
    "where attributes of a resource come from",
)


def _place(text: str) -> tuple[str, ...]:
    return LINES if text == "lines" else names_path(text)


def _total(text: str) -> bytes | tuple[str, ...]:
    header = _HEADER_TOTAL.fullmatch(text)
    if header is not None:
        return header[1].lower().encode("ascii")
    path = names_path(text)
    if not path:
        raise ValueError(f"found {text!r}, expected header.NAME, or names joined by dots")
    return path


_HEADER_TOTAL = re.compile(r"header\.([A-Za-z0-9-]+)")
FIELD = Record(
    {
        "action": Field(Text(pattern=r"[^\s*]+", what="an action"), "the action that shows the field", "", True),
        "mask": Field(Text(what="a text"), "the text in place of the field, which else is left out"),
        "parameters": Field(
            ListOf(Text(pattern=_PARAMETER, what="a parameter's name"), single=True),
            "parameters that search or sort by the field, beside those that have its name in them", (),
        ),
    },
    "a field that stays only where its action is allowed",
)  # fmt: skip
PUSH = Record(
    {"dialect": Field(Choice(tuple(DIALECTS)), "how the app is told a filter", "", True)},
    "narrows what the app is asked for; never trusted: each item is decided all the same",
)


def _next_page(text: str) -> tuple[str, ...]:
    return LINK if text.lower() == "header.link" else _names(text)


REFILL = Record(
    {
        "pages": Field(Whole(1, MAX_PAGES), "further pages that are asked for at most", None, True),
        "next": Field(
            Text(_next_page, what="header.link or names joined by dots"),
            "where a page tells of the next one: `header.link` (`rel=next`), or the names that lead to its URL or its "
            "query in the body", LINK,
        ),
        "parameter": Field(
            Text(pattern=r"[A-Za-z0-9_.~-]+", what="a parameter's name"),
            "where no URL stands at `next`: the parameter that takes the value there", "",
        ),
        "last": Field(
            ListOf(Text(_names, what="names joined by dots"), single=True),
            "other members of the body that the answer has from the last page, such as `has_more`", (),
        ),
        "timeout": Field(_DURATION, "the time for all further pages together", 5.0),
    },
    "fills a page of which items were dropped with the app's next pages, through the proxy alone",
)  # fmt: skip
_FIELDS = Field(
    MapOf(Short(FIELD, "action"), r"[^\s]+", "names joined by dots"),
    "field: action; a field of the answer, or of each item, stays only where its action is allowed", {},
)  # fmt: skip
ITEMS = Record(
    {
        "at": Field(
            Text(_place, what="names joined by dots"),
            "the names that lead to the list in the answer; `@`: the whole answer; `lines`: NDJSON", "", True,
        ),
        "id": Field(Text(_attribute, what="a JMESPath expression"), "JMESPath in an item: its id", None, True),
        "resource": Field(Text(pattern=r"\S+", what="a resource kind"), "the items' kind, by default the route's", ""),
        "action": Field(Text(pattern=r"[^\s*]+", what="an action"), "the action that shows an item", "read"),
        "attributes": Field(_ATTRIBUTES, "attribute: JMESPath in an item, with `:type` where it must be of one", {}),
        "optional": Field(_NAMES, "attributes that may be absent from an item", ()),
        "lookup": Field(
            LOOKUP_NAMES,
            "the lookup, or a list of some, that supplies more attributes of each item; one without `batch` for lists "
            "of 100 items at most", (),
        ),
        "fields": _FIELDS,
        "total": Field(
            ListOf(Text(_total, what="header.NAME or names joined by dots"), single=True),
            "what tells how many there are: made true where the answer has all of them, else removed", (),
        ),
        "push": Field(PUSH, "asks the app only for what the policy may allow, where the app can be told"),
        "refill": Field(
            Short(REFILL, "pages"),
            "fills a page of which items were dropped with whole further pages, until as many are shown as it had",
        ),
        "max": Field(Whole(1, 100_000), "items in one answer; more are 502 `items_too_many`", MAX_ITEMS),
        "max_size": Field(Text(units.size, what="a size such as 1MiB"), "bytes of one answer", MAX_SIZE),
    },
    "a list in the app's answer, of which each item is decided by itself",
)  # fmt: skip
CORS = Record(
    {
        "origins": Field(ListOf(Text(_origin, what="an origin"), 1), "the exact origins that may call", (), True),
        "methods": Field(ListOf(Text(pattern=_METHOD, what="a method")), "methods that they may use"),
        "headers": Field(_NAMES, "request headers that they may send", ()),
        "credentials": Field(Flag(), "whether cookies and Authorization may be sent", False),
        "max_age": Field(_DURATION, "how long a browser may remember the answer", 600.0),
    },
    "cross-origin calls from browsers",
)
_ACCESS = Choice(("authenticated", "public"))
_SET_PARAMETER = r"[A-Za-z0-9_.~-]+"
_ACTION = Text(pattern=r"[^\s*]+", what="an action")
ANSWER_LOOKUP = Record(
    {
        "from": Field(Choice(("answer",)), "`answer`: of the app to this GET, which is released or not", "", True),
        "attributes": Field(
            _ATTRIBUTES, "attribute: JMESPath over the answer, `:type` after it where it must be of one", {}, True
        ),
        "optional": Field(_NAMES, "attributes that may be absent from an answer", ()),
        "missing": Field(Choice(tuple(Missing)), "404 of the app: 403, 404 (denials alike), or decide without", "deny"),
        "echo": Field(
            Text(compile_expression, what="a JMESPath expression"), "an expression that must give the requested id"
        ),
        "max_size": Field(Text(units.size, what="a size such as 1MiB"), "bytes of an answer", MAX_ANSWER),
    },
    "attributes out of the app's answer to the request itself",
)
_ASKED = {
    "resource": Field(Text(pattern=r"\S+", what="a resource kind"), "the Cerbos resource kind", ""),
    "id": Field(_TEMPLATE, "the resource id; '-' without it"),
    "attributes": Field(MapOf(_TEMPLATE, _NAME, "an attribute name"), "attributes read from the request", {}),
    "lookup": Field(
        ListOr(LOOKUP_NAMES, ANSWER_LOOKUP),
        "the lookup that supplies more attributes, or a list of some, of which one may read what those before it gave "
        "(`{lookup.NAME.attribute}`); or `{from: answer, …}`: the app answers first, and the decision is made from its "
        "answer",
        (),
    ),
    "scope": Field(_TEMPLATE, "the scope of the policy that is asked, from claims or the principal"),
    "each": Field(EACH, "one request about many resources, in place of `id` and `lookup`: all must be allowed"),
}
_QUERY = {
    "query": Field(
        WordOr("any", ListOf(Text(pattern=_PARAMETER, what="a parameter's name"))),
        "parameters that a client may send, another is 400 `query_not_allowed`; `any`: all, said openly; without it "
        "all are, and `check` warns where a rule depends on the query",
    ),
    "set_query": Field(
        MapOf(_TEMPLATE, _SET_PARAMETER, "a parameter's name of letters, digits and _ . ~ -"),
        "parameters that the sidecar puts in, from the principal, claims or the path; those of a client go", {},
    ),
}  # fmt: skip
_ANSWER = {
    "items": Field(ITEMS, "GET: the answer is a list, and each item is decided by itself"),
    "fields": _FIELDS,
}
_MAX_BODY = Field(Text(units.size, what="a size such as 1MiB"), "the size limit of a body that a reference reads")
ACTION = Record(
    {
        "action": Field(_ACTION, "the action", "", True), **_ASKED, **_QUERY, **_ANSWER,
        "max_body": _MAX_BODY, "mode": MODE,
    },
    "an action with values of its own: each that it has takes the place of the route's",
)  # fmt: skip
_COUNT = Whole(1, 10_000)
GRAPHQL_FIELD = Record(
    {
        "action": Field(_ACTION, "the action", "", True),
        **{name: _ASKED[name] for name in ("resource", "id", "attributes", "lookup", "scope")},
    },
    "what a root field asks: each value that it has takes the place of the route's; `{args.NAME}` reads an argument",
)
GRAPHQL = Record(
    {
        "introspection": Field(
            Flag(), "whether any signed-in principal may ask for the schema (`__schema`, `__type`)", False
        ),
        "get": Field(
            Flag(), "whether queries may come by GET, in the parameters `query`, `variables`, `operationName` and "
            "`extensions`; pages of other origins can make a browser send those", False,
        ),
        "batch": Field(Whole(0, 50), "requests in one list; with 0 a list is 400", DocumentLimits().batch),
        "max_fields": Field(Whole(1, 100), "root fields of one request", DocumentLimits().fields),
        "max_depth": Field(Whole(1, 100), "selections within each other, fragments included", DocumentLimits().depth),
        "max_aliases": Field(
            _COUNT, "aliases in one document, of a fragment whenever it is spread", DocumentLimits().aliases
        ),
        "max_tokens": Field(
            _COUNT, "tokens of one document, of a fragment whenever it is spread", DocumentLimits().tokens
        ),
        "directives": Field(
            ListOf(Text(pattern=r"[_A-Za-z][_A-Za-z0-9]*", what="a directive's name without @"), single=True),
            "directives that a document may have beside `@skip` and `@include`", (),
        ),
    },
    "the route takes GraphQL: each root field that may be executed is decided, and all must be allowed",
)  # fmt: skip
_ROOT_FIELD = r"(?:Query|Mutation|Subscription)\.(?!__)[_A-Za-z][_A-Za-z0-9]*"
ROUTE = Record(
    {
        "path": Field(
            Text(pattern=r"/.*", what="a path that starts with '/'"), "the paths that the route names", "", True
        ),
        **OF_ROUTE,
        "draft": Field(Flag(), "read and checked, but not in force: the route matches no request", False),
        "access": Field(_ACCESS, "who passes without a policy: any signed-in principal, or everybody"),
        "methods": Field(
            ListOf(Text(pattern=_METHOD, what="a method"), 1), "with `access`: the methods; GET by default"
        ),
        **_ASKED,
        "actions": Field(
            MapOf(Short(ACTION, "action"), _METHOD, "a method"),
            "method: action, or a mapping where a method asks otherwise; WS for WebSocket",
            {},
        ),
        "graphql": Field(
            RecordAndMap(
                GRAPHQL,
                MapOf(Short(GRAPHQL_FIELD, "action"), _ROOT_FIELD, "Query.FIELD, Mutation.FIELD or Subscription.FIELD"),
                "operations",
            ),
            "in place of `actions`: the route takes GraphQL, and says by `Query.FIELD`, `Mutation.FIELD` and "
            "`Subscription.FIELD` what each root field asks",
        ),
        **_QUERY,
        **_ANSWER,
        "allow": Field(ListOf(Choice(tuple(Oddity)), single=True), "oddities that this route accepts", ()),
        "max_body": _MAX_BODY,
        "cors": Field(
            WordOr("app", CORS, "a mapping"),
            "other origins from which browsers may call the route; `app`: the app answers preflights itself",
        ),
        "mode": MODE,
        "mcp": Field(
            mcp_record(GRAPHQL_FIELD), "the route is a Model Context Protocol server, and messages say what is asked"
        ),
        "recheck": Field(_DURATION, "how often an open WebSocket is decided again", 0.0),
        "to_app": Field(TO_APP, "what the app is told of who asks: each name takes the place of the file's"),
    },
    "which requests, and what they ask for",
)
DEFAULTS = Record(
    {
        "roles": Field(_NAMES, "roles for a principal whose token has none", ()),
        "access": Field(Choice(("deny", "authenticated")), "the access to a path that no route names", "deny"),
        "max_body": Field(
            Text(units.size, what="a size such as 1MiB"), "the size limit of a body that a reference reads", 1024**2
        ),
    },
    "defaults for all routes",
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
        "draft": Field(
            Flag(), "a draft as a whole: no route is in force, and `sidecar run` does not start with it", False
        ),
        "upstreams": UPSTREAMS,
        "identity": Field(ListOf(IDENTITY), "trusted issuers; without it the environment names one pool", ()),
        "principal": Field(PRINCIPAL, "the claims that make the principal"),
        "to_app": Field(TO_APP, "what the app is told of who asks, beside `X-Auth-…`"),
        "lookups": Field(MapOf(LOOKUP, _NAME, "a lookup's name"), "lookups by name", {}),
        "cache": Field(CACHE, "what the sidecar remembers; by default nothing"),
        "mcp_clients": Field(ListOf(MCP_CLIENT), "app clients that MCP clients get which register", ()),
        "defaults": Field(DEFAULTS, "defaults for all routes"),
        "routes": Field(ListOf(ROUTE), "the routes; the most specific path wins, whatever the order", (), True),
    },
    "routes.yaml of the authorization sidecar",
)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `routes.yaml`, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "routes.yaml", **FILE.schema()}
