"""Grammar of a file of cases for `sidecar test`: the names that it may have, what each is for, and its JSON Schema."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import yaml

from sidecar.config.json_values import Json
from sidecar.config.shapes import (
    Choice,
    Field,
    ListOf,
    MapOf,
    Reader,
    Record,
    Shape,
    Short,
    Text,
    Whole,
    WordOr,
    mark_of,
)
from sidecar.config.suggest import did_you_mean
from sidecar.gate.codes import Code, Ground
from sidecar.record.line import Effect

MISSING, UNAVAILABLE, TIMEOUT = "missing", "unavailable", "timeout"
WORDS = (MISSING, UNAVAILABLE, TIMEOUT)
"""Words for what a lookup's source may do in place of telling about a resource."""
NOTHING = "nothing"
ANY = "*"
"""In place of an id: every id of which nothing else is said."""

_STATUS = Whole(100, 599)
_ID = Text(pattern=r"[^\x00-\x1f\x7f]+", what="an id", extra_tags=("int",))
_CODES = tuple(str(code) for code in (*Ground, *Code))


def _code(text: str) -> str:
    if text not in _CODES:
        meant = did_you_mean(text, _CODES)
        raise ValueError(f"found {text!r}, expected a code of docs/reference/codes.md, such as denied_by_policy{meant}")
    return text


class ReplyShape(NamedTuple):
    """Reply of a lookup's source: what it tells as JSON, a status, or a word."""

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return Json().read(node, path, reader)
        if node.value in WORDS:
            return node.value
        if node.tag.endswith(":int") and node.value.isdecimal() and 100 <= int(node.value[:4]) <= 599:
            return int(node.value)
        expected = f"the JSON that the lookup tells, a status such as 500, or {', '.join(WORDS[:-1])} or {WORDS[-1]}"
        return reader.fault(mark_of(node, path), f"found {node.value!r}, expected {expected}")

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": ["object", "array"]}, _STATUS.schema(), {"enum": list(WORDS)}]}


class OneOrMore(NamedTuple):
    """A list of mappings; one may stand without a list."""

    item: Shape

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return ListOf(self.item, 1).read(node, path, reader)
        value = self.item.read(node, path, reader)
        return None if value is None else [value]

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.item.schema(), ListOf(self.item, 1).schema()]}


_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_HEADER_VALUE = Text(pattern=r"[^\x00-\x08\x0a-\x1f\x7f]*", what="a header's value in one line", extra_tags=("int",))
_HEADERS = MapOf(ListOf(_HEADER_VALUE, single=True), _HEADER_NAME, "a header's name")
_CLAIMS = Json(("mapping",))
_LOOKUPS = MapOf(MapOf(ReplyShape(), r"(?s:.+)", "an id"), _NAME, "a lookup's name")
_IDS = ListOf(_ID)
_PATHS = ListOf(Text(pattern=r"\S+", what="names joined by dots"))

APP = Record(
    {
        "status": Field(Whole(200, 599), "the status of the app's answer", 200),
        "headers": Field(_HEADERS, "its headers", {}),
        "body": Field(Json(), "its body: a text as it is, anything else as JSON"),
    },
    "an answer of the app",
)
ITEMS = Record(
    {
        "kept": Field(_IDS, "ids of the items that the client gets, in any order"),
        "hidden": Field(_IDS, "ids of the items that it does not get"),
        "masked": Field(
            MapOf(_PATHS, r"(?s:.+)", "an id"), "id: fields of that item that it does not get as the app has them"
        ),
    },
    "of a list in the app's answer, what the client gets",
)
FIELDS = Record(
    {
        "shown": Field(_PATHS, "fields of the route that the client gets as the app has them"),
        "hidden": Field(_PATHS, "fields of the route that it does not get, or masked"),
    },
    "of an answer about one thing, what the client gets",
)
SENT = Record(
    {
        "method": Field(Text(pattern=r"[A-Z]+(?:-[A-Z]+)*", what="a method"), "the method"),
        "target": Field(Text(pattern=r"/\S*", what="a path, with its query"), "the path with its query"),
        "headers": Field(_HEADERS, "headers that the app gets, among others"),
    },
    "what the app is asked",
)
EXPECT = Record(
    {
        "code": Field(
            Text(_code, what="a code"), "the code of the refusal, or the ground of the permit, as in the decision log"
        ),
        "told": Field(Text(_code, what="a code"), "the code that the client is told, where it is another"),
        "status": Field(_STATUS, "the status that the client gets"),
        "outcome": Field(Choice(get_args(Effect)), "the verdict, as in the decision log"),
        "route": Field(
            Text(pattern=r"[^/\s]*/\S*", what="a route's path, behind its hosts"),
            "the `path` of the route, behind its `hosts`",
        ),
        "principal": Field(_ID, "the id of the principal"),
        "roles": Field(ListOf(Text(pattern=r"\S+", what="a role"), single=True), "its roles, in any order"),
        "kind": Field(Text(pattern=r"\S+", what="a resource kind"), "the kind of the resource"),
        "id": Field(_ID, "the id of the resource"),
        "action": Field(Text(pattern=r"\S+", what="an action"), "the action that is asked about"),
        "policy": Field(Text(pattern=r"\S+", what="a policy, as Cerbos names it"), "the policy that decided"),
        "denied": Field(_IDS, "with `each`: ids of the resources that were not allowed"),
        "items": Field(Short(ITEMS, "kept"), "what is left of a list; a list alone is `kept`"),
        "fields": Field(FIELDS, "what is left of an answer about one thing"),
        "headers": Field(_HEADERS, "headers of the answer, among others"),
        "sent": Field(WordOr(NOTHING, SENT, "a mapping"), f"what the app is asked; `{NOTHING}`: it is not asked"),
    },
    "what comes out: each name that is there is compared",
)
CASE = Record(
    {
        "name": Field(Text(pattern=r".*\S.*", what="a name in one line"), "the case's name, each another", "", True),
        "user": Field(Text(pattern=r".+", what="a name of `users`"), "who asks, one of `users`", ""),
        "claims": Field(_CLAIMS, "who asks: claims of a token, which `sidecar test` signs"),
        "token": Field(
            Text(pattern=r"[\x21-\x7e]+", what="a token, or none"), "in their place: a token as it is; `none`: no token"
        ),
        "request": Field(
            Text(pattern=r"[A-Z]+(?:-[A-Z]+)* /[\x21-\x7e]*", what="a method and a path, such as GET /contacts/42"),
            "method and path, with its query; `WS /path` for a WebSocket", "", True,
        ),
        "headers": Field(_HEADERS, "headers of the request", {}),
        "body": Field(Json(), "body of the request: a text as it is, anything else as JSON"),
        "form": Field(
            MapOf(ListOf(Text(what="a text", extra_tags=("int",)), single=True), r".+", "a field's name"),
            "in its place the fields of a form, a list for a name that comes several times",
        ),
        "lookups": Field(_LOOKUPS, "lookup: id: what it tells in this case", {}),
        "app": Field(OneOrMore(APP), "what the app answers; a list: to one request after the other"),
        "expect": Field(Short(EXPECT, "code"), "what comes out; a text alone is `code`", None, True),
    },
    "one request, and what comes out",
)  # fmt: skip
FILE = Record(
    {
        "users": Field(MapOf(_CLAIMS, r".+", "a name"), "user: claims; `sub` is the name where they have none", {}),
        "lookups": Field(
            _LOOKUPS,
            f"lookup: id: what it tells: JSON, a status, {', '.join(WORDS)}; the id `{ANY}` is every other id", {},
        ),
        "cases": Field(ListOf(CASE, 1), "the cases", (), True),
    },
    "cases of `sidecar test`",
)  # fmt: skip


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a file of cases, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "cases.yaml", **FILE.schema()}
