"""What is fuzzed: every parser that bytes of a stranger reach. Each target takes bytes, and raises if a promise breaks."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import re
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_to_bytes, urljoin

from cerbos.engine.v1.engine_pb2 import PlanResourcesFilter
from google.protobuf.message import DecodeError
from jmespath.exceptions import JMESPathError
from pydantic import AnyUrl, TypeAdapter, ValidationError
from werkzeug.formparser import parse_form_data

from sidecar.adoption.logs import Logs
from sidecar.bodies.graphql import MEMBERS, GraphqlReader
from sidecar.bodies.graphql_document import DocumentLimits
from sidecar.bodies.mcp import PROMPT, TOOL, messages_rule, read_message, wanted_of
from sidecar.bodies.uri import is_normal
from sidecar.config.routes.file import read_routes
from sidecar.doors.ext_authz import read_question
from sidecar.gate.body import json_of
from sidecar.gate.expressions import searcher, value_expression
from sidecar.gate.form import MAX_FIELDS, FormRule, judged, reader_of
from sidecar.gate.hosts import entries_for
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.lookup import Attribute, ResourceField
from sidecar.gate.mcp_session import McpSessions
from sidecar.gate.narrowing import Push, PushedAttribute
from sidecar.gate.obligation import AnswerItems, HeldAnswer
from sidecar.gate.protected import RegisteredClient
from sidecar.gate.query import admitted, query_value, rule_of, taken_for, with_values
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.statement import Binding, Database, Parameter, SqlDialect, bound, parse_value, statement_of
from sidecar.gate.target import read_target
from sidecar.gate.values import Type
from sidecar.gate.verdict import Refused
from sidecar.imports.collect import Collector
from sidecar.imports.conflicts import conflicts
from sidecar.imports.draft import draft
from sidecar.imports.files import HEAD, InputFile
from sidecar.imports.proposal import propose
from sidecar.imports.reading import FORMATS, read_source
from sidecar.imports.sighting import Notes, UnusableFile
from sidecar.lookups.driver import prepared
from sidecar.lookups.drivers import driver_of
from sidecar.pages.oauth import Unregistered, client_for
from sidecar.pdp.cerbos_plan import read_node
from sidecar.plans.dialects import DIALECTS
from sidecar.plans.filter import NOTHING
from sidecar.plans.narrow import names_of
from sidecar.plans.plan import Conditional
from sidecar.plans.translate import filter_of
from sidecar.record.line import write
from sidecar.release.fields import FieldRule
from sidecar.release.items import ItemsRule
from sidecar.release.messages import Events
from sidecar.wire import strict_json
from sidecar.wire.grammar import Header
from sidecar.wire.hpack import DEFAULT_TABLE, BlockReader
from sidecar.wire.http1_request import BadRequest, HeadReader, Violation, body_of
from sidecar.wire.http1_response import BadAnswer, ResponseReader
from sidecar.wire.http2 import CompressionError
from sidecar.wire.urlencoded import FormField
from tests.bodies.graphql_oracle import root_calls
from tests.tokens import CLIENT, ISSUER, b64

READING = Reading()


def target(data: bytes) -> None:
    """A reading is a fixed point, changes escapes of unreserved characters alone, and hides no dot segment."""
    try:
        path, segments, query, oddities = read_target(data)
    except Refused:
        return
    again = path + b"?" + query if query else path
    assert read_target(again) == (path, segments, query, oddities)
    assert unquote_to_bytes(path) == unquote_to_bytes(data.partition(b"?")[0])
    decoded = path
    for _ in range(6):
        parts = [part.partition(b";")[0] for part in decoded.replace(b"\\", b"/").split(b"/")]
        assert b".." not in parts
        assert b"." not in parts
        decoded = unquote_to_bytes(decoded)


def request(data: bytes) -> None:
    """A client's bytes: read whole or in pieces they are the same head, and a head is a request or a refusal."""
    whole, pieces = _head(data, len(data) or 1), _head(data, 1)
    assert whole == pieces
    if whole is None or isinstance(whole, Violation):
        return
    method, raw_target, headers = whole
    made = Raw(method, raw_target, headers, "10.0.0.9", "http", "r")
    try:
        judged = read(made, READING)
    except Refused:
        return
    _check_request(judged)


def _head(data: bytes, step: int) -> tuple[str, bytes, list[Header] | tuple[Header, ...]] | Violation | None:
    reader = HeadReader()
    for at in range(0, len(data), step):
        try:
            head = reader.feed(data[at : at + step])
        except BadRequest as error:
            return error.fault
        if head is not None:
            if head.length:
                _body(head.length, reader.rest + data[at + step :])
            return head.method, head.target, head.headers
    return None


def _body(length: int, data: bytes) -> None:
    found = []
    for step in (len(data) or 1, 1):
        body, taken = body_of(length), b""
        try:
            for at in range(0, len(data), step):
                part, rest = body.feed(data[at : at + step])
                taken += part
                if body.done:
                    found.append((taken, rest + data[at + step :]))
                    break
            else:
                found.append((taken, b""))
        except BadRequest as error:
            found.append((b"", error.fault.name.encode()))
    assert found[0] == found[1]


def _check_request(judged: Request) -> None:
    names = [name for name, _ in judged.headers]
    assert names.count(b"host") == 1
    for name in (
        b"x-auth-subject",
        b"x-auth-roles",
        b"x-auth-assertion",
        b"connection",
        b"transfer-encoding",
        b"content-length",
    ):
        assert name not in names
    assert names.count(b"x-forwarded-for") == 1
    assert not any(b"\r" in value or b"\n" in value or b"\0" in value for _, value in judged.headers)


class _AnyKey:
    """In place of a key: every signature is good, so that what comes after is reached."""

    class Algorithm:
        @staticmethod
        def verify(*_: object) -> bool:
            return True

    key = None
    algorithm_name = "RS256"


async def _find(_: str, __: str) -> Any:
    return _AnyKey()


_TOKENS = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), _find)


def token(data: bytes) -> None:
    """A token's header and payload, cut at the first NUL: a principal that can be a header, or a refusal."""
    header, _, payload = data.partition(b"\0")
    for made in (data, b64(header) + b"." + b64(payload) + b".AA"):
        headers = [(b"host", b"x"), (b"authorization", b"Bearer " + made)]
        try:
            asked = read(Raw("GET", b"/", headers, "", "http", "r"), READING)
            principal = asyncio.run(_TOKENS.principal_of(asked, 1_700_000_000.0))
        except Refused:
            continue
        assert principal.id
        assert all("\n" not in text and "\0" not in text and text for text in (principal.id, *principal.roles))
        assert list(principal.roles) == sorted(set(principal.roles))
        assert principal.expires > 1_700_000_000.0
        _TOKENS.forget()


def answer(data: bytes) -> None:
    """An upstream's bytes: read whole or in pieces they are the same answer, and nothing after its end is part of it."""
    for head_request in (False, True):
        whole, pieces = _answer(data, len(data) or 1, head_request), _answer(data, 1, head_request)
        assert whole == pieces


def _answer(data: bytes, step: int, head_request: bool) -> tuple[object, ...]:
    reader, body = ResponseReader(head_request), b""
    try:
        for at in range(0, len(data), step):
            body += reader.feed(data[at : at + step])
    except BadAnswer:
        return ("bad",)
    if reader.head_done:
        assert 200 <= reader.status <= 599
        assert not (head_request and body)
    return reader.status, body, reader.complete, reader.residual, reader.keep_alive, reader.length


def document(data: bytes) -> None:
    """JSON of a stranger: a value, or a ValueError."""
    try:
        value = strict_json.loads(data)
    except ValueError:
        return
    assert value == strict_json.loads(data)


def query(data: bytes) -> None:
    """A query that a route refers to: one value, none, or a refusal; and only names that the route lists or sets."""
    _admitted(data)
    try:
        value = query_value(data, "doc")
    except Refused:
        return
    if value is None:
        assert b"doc" not in [pair.partition(b"=")[0] for pair in data.split(b"&")]
    else:
        assert data.lower().count(b"=") >= 1 or value == ""


def form(data: bytes) -> None:
    """A form: read whole or in pieces it is the same, and a field that is found is one for a parser of others, too."""
    found = [_form_fields(URLENCODED, data, step) for step in (len(data) or 1, 3)]
    assert found[0] == found[1]
    if found[0] is not None:
        theirs = parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
        ours = [(field.name, field.text) for field in found[0] if field.text is not None]
        assert ours == [pair for pair in theirs if pair in ours]
        _form_text(found[0])


def multipart(data: bytes) -> None:
    """A form with files, as `form`."""
    found = [_form_fields(MULTIPART, data, step) for step in (len(data) or 1, 1)]
    assert found[0] == found[1]
    if found[0] is not None:
        kind = MULTIPART.decode("ascii")
        environ = {"wsgi.input": io.BytesIO(data), "CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(data))}
        _, theirs, files = parse_form_data(environ)
        for _, file in files.items(multi=True):
            file.close()
        ours = [(field.name, field.text) for field in found[0] if field.text is not None]
        assert ours == [pair for pair in theirs.items(multi=True) if pair in ours]
        _form_text(found[0])


URLENCODED, MULTIPART = b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=b"


def _form_fields(kind: bytes, data: bytes, step: int) -> list[FormField] | None:
    reader = reader_of(kind)
    assert reader is not None
    try:
        for at in range(0, len(data), step):
            reader.feed(data[at : at + step])
        return reader.end()
    except ValueError:
        return None


def _form_text(fields: list[FormField]) -> None:
    """A text that is found stands under this name, and no other field looks like it."""
    try:
        texts = judged(fields, b"", FormRule(frozenset(["owner"]), frozenset())).texts("owner")
    except Refused:
        return
    assert texts == [field.text for field in fields if field.name == "owner"]
    assert all(field.name == "owner" or field.name.strip().lower() != "owner" for field in fields)


_LISTED, _SET = rule_of(["doc", "page"], ["owner"]), rule_of(None, ["owner"])


def _admitted(data: bytes) -> None:
    for rule in (_LISTED, _SET):
        try:
            left = admitted(data, rule)
        except Refused:
            continue
        assert admitted(left, rule) == left
        given, kept = data.split(b"&"), left.split(b"&") if left else []
        assert [pair for pair in given if pair in kept] == kept or not kept
        pairs = parse_qsl(with_values(left, [("owner", "alice")]).decode("latin-1"), keep_blank_values=True)
        assert [pair for pair in pairs if "owner" in taken_for(pair[0])] == [("owner", "alice")]
        if rule is _LISTED:
            assert {name for name, _ in pairs} <= {"doc", "page", "owner"}


def question(data: bytes) -> None:
    """What Envoy asks: one request whose parts it does not contradict, or no request."""
    try:
        asked = read_question(data, "r")
    except (ValueError, Refused):
        return
    raw = asked.raw
    assert [value for name, value in raw.headers if name == b"host"] == [raw.headers[0][1]]
    assert not any(name.startswith(b":") for name, _ in raw.headers)
    if asked.body is None:
        assert asked.partial
    assert read_question(data, "r") == asked


def blocks(data: bytes) -> None:
    """Header blocks of HTTP/2: the same fields each time while the table stands, or a connection that is given up."""
    reader = BlockReader(DEFAULT_TABLE, 32 * 1024)
    try:
        fields = [reader.read(block) for block in data.split(b"\xff\xff")]
    except CompressionError:
        return
    assert {type(part) for block in fields for field in block for part in field} <= {bytes}


LIST = ItemsRule(
    ("data",), searcher("id"), "thing", "read", {"owner": Attribute(searcher("owner"))}, frozenset(["owner"]),
    (FieldRule(("secret",), "see"), FieldRule(("in", "secret"), "see", b"0")), totals=(("total",),),
)  # fmt: skip


async def _judge(items: AnswerItems) -> list[frozenset[str]]:
    """Let the owner "me" read, and nobody see a secret."""
    return [frozenset(["read"] if known.get("owner") == "me" else []) for known in items.attributes]


def items(data: bytes) -> None:
    """An app's answer: what is released is JSON with those items alone that may be read, in order, no secret in them,
    and with everything else as it came; or nothing is."""
    held = HeldAnswer(200, [(b"content-type", b"application/json")], data)
    try:
        reduced = asyncio.run(LIST.reduce(held, _judge, frozenset()))
    except Refused:
        return
    before, after = strict_json.loads(data), strict_json.loads(reduced.answer.body or b"")
    kept = [_without_secrets(item) for item in before["data"] if item.get("owner") == "me"]
    seen, total = len(before["data"]), before.get("total")
    assert (reduced.counts["seen"], reduced.counts["kept"]) == (seen, len(kept))
    expected = {name: value for name, value in before.items() if name != "total"} | {"data": kept}
    if type(total) is int and total == seen:
        expected["total"] = len(kept)
    assert repr(after) == repr({name: expected[name] for name in before if name in expected})


def _without_secrets(item: dict[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in item.items() if name != "secret"}
    if isinstance(shown.get("in"), dict) and "secret" in shown["in"]:
        shown["in"] = {**shown["in"], "secret": 0}
    return shown


def message(data: bytes) -> None:
    """A body of MCP: what is read out of it is what a reader finds that takes the last of two names and knows no case,
    or nothing is."""
    try:
        read_in = read_message(data)
        wanted = wanted_of(read_in)
    except Refused as refused:
        if refused.reply is None:
            raise
        strict_json.loads(refused.reply.body(refused.code, 400, "r", {}))
        return
    loose = _folded(json.loads(data))
    assert loose.get("method", "") == read_in.method
    assert loose.get("id") == read_in.id
    params = loose.get("params", {})
    if wanted[0].kind in (TOOL, PROMPT) and read_in.method != "completion/complete":
        assert (params["name"], params.get("arguments") or {}) == (wanted[0].name, _folded(dict(wanted[0].arguments)))
    if read_in.method == "resources/read":
        assert urljoin(params["uri"], "") in (wanted[0].name, wanted[0].name.partition("#")[0])


def _folded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name.casefold(): _folded(member) for name, member in value.items()}
    return [_folded(member) for member in value] if isinstance(value, list) else value


LISTS = messages_rule("s", 100, 100_000)


async def _judge_names(items: AnswerItems) -> list[frozenset[str]]:
    """Show all but what has `secret` in its name."""
    return [frozenset() if "secret" in one else frozenset(items.actions) for one in items.ids]


def events(data: bytes) -> None:
    """An answer of an MCP server, as a stream and whole: no list that a reader finds in what is released has a secret
    in it; or nothing is."""
    for size in (7, len(data) or 1):
        parts = Events(10_000)
        try:
            for at in range(0, len(data), size):
                parts.add(data[at : at + size])
            parts.end()
            released = asyncio.run(LISTS.window(parts.take(1000), _judge_names))
        except Refused:
            continue
        text = released.decode("utf-8", "replace")
        for lines in (re.split("\r\n|\n|\r", text), [line.removesuffix("\r") for line in text.split("\n")]):
            _no_secret_in_events(lines)
    try:
        held = HeldAnswer(200, [(b"content-type", b"application/json")], data)
        whole = asyncio.run(LISTS.reduce(held, _judge_names, frozenset()))
    except Refused:
        return
    _no_secret((whole.answer.body or b"").decode("utf-8", "replace"))


def _no_secret_in_events(lines: list[str]) -> None:
    found = list[str]()
    for line in [*lines, ""]:
        if line.startswith("data:"):
            found.append(line[5:].removeprefix(" "))
        elif not line:
            _no_secret("\n".join(found))
            found = []


def _no_secret(text: str) -> None:
    try:
        found = _folded(json.loads(text))
    except (ValueError, RecursionError):
        return
    result = found.get("result") if isinstance(found, dict) else None
    for name in LISTS.lists:
        listed = result.get(name.casefold()) if isinstance(result, dict) else None
        member = {"resources": "uri", "resourceTemplates": "uritemplate", "tasks": "taskid"}.get(name, "name")
        assert "secret" not in str([item.get(member) for item in listed or () if isinstance(item, dict)])


def plan(data: bytes) -> None:
    """A plan of any form becomes a filter, and each dialect says it so that its values are no syntax: the query has the
    client's parameters, and beside them the dialect's alone."""
    try:
        message = PlanResourcesFilter.Expression.Operand.FromString(data)
    except DecodeError:
        return
    names = names_of(
        Push("", "id", {name: PushedAttribute(name, kind, kind is not None) for name, kind in _FIELDS.items()})
    )
    whole = filter_of(Conditional(read_node(message)), names)
    if whole == NOTHING:
        return
    for dialect in DIALECTS.values():
        said = dialect.narrow(whole, frozenset(("page",)))
        read_back = parse_qsl(with_values(b"page=2", said.parameters).decode("ascii"), keep_blank_values=True)
        assert read_back == [("page", "2"), *said.parameters]
        for _, value in said.headers:
            assert all(0x20 <= byte < 0x7F for byte in value)


def log(data: bytes) -> None:
    """A log of any bytes: each line is read or counted, and of two files that share the lines the same ones come."""
    whole, counted = _lines_of(data)
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    # a file that is compressed, or of a foreign format, has other lines
    if data[:2] not in (b"\x1f\x8b", b"PK", b"\xff\xfe", b"BZ", b"\x28\xb5", b"\xfd7"):
        assert counted == sum(bool(line.strip()) for line in lines)
        split = [b"\n" + b"\n".join(lines[at::2]) for at in (0, 1)]
        assert (whole, counted) == _lines_of(*split)


def _lines_of(*files: bytes) -> tuple[list[str], int]:
    """The lines that are read of these files, each as its record is written, and how many are read or counted."""
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(files):
            Path(folder, f"{number}.log").write_bytes(data)
        try:
            logs = Logs([f"{folder}/*.log"])
        except UnusableFile:
            return [], 0
        found = [write(logged.line) for logged in logs.read()]
        return found, logs.lines + logs.broken


_FIELDS = {"owner": Type.STRING, "n": Type.INT, "ok": Type.BOOL, "note": None}


_CLIENTS = (
    RegisteredClient("c1", frozenset(["http://localhost:33418/cb"])),
    RegisteredClient("c2", frozenset(["https://a.example/cb", "https://a.example/cb2"])),
)


def registration(data: bytes) -> None:
    """A client that registers: the app client that lists all of its redirect URIs, or a refusal that can be written."""
    try:
        client, uris = client_for(_CLIENTS, data)
    except Unregistered as refused:
        strict_json.dumps({"error": refused.error, "error_description": refused.description})
        return
    assert uris
    assert set(uris) <= client.redirect_uris


def imported(form: str, data: bytes) -> None:
    """A file of an app: sightings whose draft can be read, or a file that cannot be used; nothing of a broken line."""
    source = InputFile("f", data[:HEAD], io.BytesIO(data))
    collector, notes = Collector(), Notes()
    try:
        for sighting in read_source(form, source, notes):
            collector.add(sighting)
    except UnusableFile:
        return
    collected = collector.collected()
    list(conflicts(collected))
    proposals = propose(collected).proposals
    assert len(read_routes(draft(proposals, ["f"]), "draft", {}).drafts) == len(proposals)
    assert len(notes.broken_places) <= notes.broken["f"]


_GRAPHQL = GraphqlReader(DocumentLimits(batch=3), introspection=True)


def graphql(data: bytes) -> None:
    """A GraphQL request: its root fields are those that graphql-core finds, with the same arguments, or it is refused."""
    try:
        body = json_of(data)
        calls = _GRAPHQL.calls(body)
    except Refused:
        return
    found = [call for one in (body if isinstance(body, list) else [body]) for call in root_calls(one)]
    assert [(call.field, call.alias, call.arguments) for call in calls] == found


def graphql_url(data: bytes) -> None:
    """A GraphQL request in a URL: its root fields are those that graphql-core finds in the parameters that Python's
    library reads, of which none comes twice, or it is refused."""
    if not data.isascii():
        return
    try:
        calls = _GRAPHQL.calls_by_url(data)
    except Refused:
        return
    pairs = [pair for pair in parse_qsl(data.decode("ascii"), keep_blank_values=True) if pair[0] in MEMBERS]
    assert len(dict(pairs)) == len(pairs)
    body = {name: json.loads(text) if name in ("variables", "extensions") else text for name, text in pairs}
    assert [(call.field, call.alias, call.arguments) for call in calls] == root_calls(body)


_SQLITE = driver_of(Database("X", "sqlite:///x", SqlDialect.SQLITE), 1.0)
_ALLOWED = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE))
_FILLED = {"n": parse_value("{claims.n:int}")}


def statement(data: bytes) -> None:
    """A lookup's SQL and a value, cut at the first NUL: what is taken is nothing but a query to SQLite, whose values are
    no syntax, and a value is bound in its one spelling, or refused."""
    sql, _, value = data.partition(b"\0")
    for kind in Binding:
        try:
            found = bound(Parameter("p", ResourceField.ID, kind), value.decode("utf-8", "surrogateescape"))
        except Refused:
            continue
        assert (found if isinstance(found, str) else json.dumps(found)) == value.decode()
    try:
        made = statement_of(sql.decode("utf-8", "replace"), Database("X", "sqlite:///x", SqlDialect.SQLITE), _FILLED)
    except ValueError:
        return
    assert made.sql == " ".join(sql.decode("utf-8", "replace").split())
    asked = prepared(made, _SQLITE)
    acts: list[int] = []
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("create table t (id text, n integer)")

    def note(act: int, table: str | None, *_: object) -> int:
        # where a pragma is read as a table, SQLite notes that table for itself
        if table != "sqlite_master":
            acts.append(act)
        return sqlite3.SQLITE_OK

    connection.set_authorizer(note)
    try:
        connection.execute("explain " + asked.sql, ["7"] * len(asked.order))
    except (sqlite3.Error, sqlite3.Warning, ValueError):
        return
    finally:
        connection.set_authorizer(None)
        connection.close()
    assert set(acts) <= _ALLOWED, acts


def host(data: bytes) -> None:
    """A host that a request names and an entry of a configuration, cut at the first NUL: the entry stands for it where it
    is the same name, or has one label less, and no other port."""
    named, _, entry = data.partition(b"\0")
    try:
        found = read(Raw("GET", b"/", [(b"host", named)], "", "http", "r"), READING).host
    except Refused:
        return
    entries = entries_for(found)
    assert entries[0] == found == found.lower()
    assert len(set(entries)) == len(entries)
    for one in (entry.decode("latin-1"), *entries):
        assert (one in entries) is _stands_for(one, found), one


_PORT = re.compile(r"(.*?)(:[0-9]+)?", re.DOTALL)


def _stands_for(entry: str, host: str) -> bool:
    entry_name, entry_port = _matched(entry)
    name, port = _matched(host)
    if entry_port and entry_port != port:
        return False
    first, _, rest = name.partition(".")
    return entry_name == name or (bool(first and rest) and entry_name == f"*.{rest}")


def _matched(host: str) -> tuple[str, str]:
    match = _PORT.fullmatch(host)
    assert match is not None
    return match[1], match[2] or ""


_URLS: TypeAdapter[AnyUrl] = TypeAdapter(AnyUrl)


def uri(data: bytes) -> None:
    """A URI that is in its normal form is written the same by a parser of URLs (WHATWG), and names no folder above."""
    text = data.decode("utf-8", "replace")
    if not is_normal(text):
        return
    path = unquote(re.split("[?#]", text.partition(":")[2])[0])
    assert not {".", ".."} & set(re.split(r"[/\\]", path))
    try:
        url = _URLS.validate_python(text)
    except ValidationError:
        return
    assert str(url) == text


def expression(data: bytes) -> None:
    """An expression, a value and a document of JSON, cut at NULs: whatever the value is, it stands where it stands. Over a
    document with another text in place of the value, the expression with that text finds the same."""
    text, value, told = [*data.split(b"\0"), b"", b""][:3]
    said = value.decode("utf-8", "replace")
    try:
        found, places = value_expression(text.decode("utf-8", "replace"))
        known = strict_json.loads(told)
    except (ValueError, RecursionError):
        return
    if found is None or found.text.count("(") or said in found.text or not said:
        return
    other = "another text"
    results = []
    for stands, inside in ((said, known), (other, _with_text(known, said, other))):
        try:
            results.append(found.bind(dict.fromkeys(places, stands))(inside))
        except (JMESPathError, TypeError) as error:
            results.append(type(error).__name__)
    assert _with_text(results[0], said, other) == _with_text(results[1], said, other)


def _with_text(value: Any, old: str, new: str) -> Any:
    """Return a value with one text in place of another, as a name and as a text."""
    if isinstance(value, dict):
        return {new if name == old else name: _with_text(one, old, new) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_text(one, old, new) for one in value]
    return new if value == old and isinstance(value, str) else value


_SESSIONS = McpSessions(["a secret of this target alone"])


def session(data: bytes) -> None:
    """Two ids of sessions, cut at a NUL: what the server names comes back to whom it was given, and to nobody else. What
    a client names is nobody's but in the one spelling that it got."""
    own, named = [*data.split(b"\0"), b""][:2]
    alice, bob = _SESSIONS.of("/mcp", "", "i", "alice", ""), _SESSIONS.of("/mcp", "", "i", "bob", "")
    found = alice.own(named)
    assert found is None or alice.bind(found) == named
    assert bob.own(named) is None or found is None
    try:
        bound = alice.bind(own)
    except ValueError:
        return
    assert bound.isascii()
    assert b"," not in bound[:23]
    assert (alice.own(bound), bob.own(bound)) == (own, None)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "target": target, "request": request, "token": token, "answer": answer, "document": document, "query": query,
    "form": form, "multipart": multipart, "statement": statement,
    "question": question, "blocks": blocks, "items": items, "plan": plan, "log": log,
    "registration": registration, "graphql": graphql, "graphql_url": graphql_url, "message": message, "events": events,
    "host": host, "session": session, "uri": uri, "expression": expression,
    **{f"import_{form}": functools.partial(imported, form) for form in FORMATS},
}  # fmt: skip
