"""What clients, hooks and apps make up grows no memory for good, whatever they send how often."""

from __future__ import annotations

import ast
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.gate.hook import Hook
from sidecar.gate.lookup import Attribute, Call, Lookup, Reply, ReplyReader
from sidecar.gate.peers import is_trusted
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.verdict import Refused
from sidecar.net.answer_headers import clean_headers
from sidecar.wire.http1_request import HeadReader
from sidecar.wire.http1_response import ResponseReader
from sidecar.wire.response_head import render
from tests.source import below, nodes_of

KIB = 1024
LOOKUP = Lookup("doc", Hook("http://h", ()), {"owner": Attribute(lambda document: document["owner"])}, cache=60.0)
readings = ReplyReader()


def asked(header: tuple[bytes, bytes], host: bytes = b"app.test") -> None:
    read(Raw("GET", b"/", [(b"host", host), header], "192.0.2.1", "http", "0" * 32), Reading())


def header_name(number: int) -> None:
    asked((b"x-%0500d" % number, b"1"))


def long_header_name(number: int) -> None:
    asked((b"x-%08000d" % number, b"1"))


def received_name(number: int) -> None:
    reader = HeadReader()
    reader.feed(b"GET / HTTP/1.1\r\nHost: app.test\r\nX-%060d: 1\r\nX-%01000d: 1\r\n\r\n" % (number, number))
    reader.close()


def repeated_head(number: int) -> None:
    for _ in range(3):
        reader = HeadReader()
        reader.feed(b"GET / HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer %03800d\r\n\r\n" % number)
        reader.close()


def host(number: int) -> None:
    asked((b"x-a", b"1"), b"h%0250d" % number)
    with pytest.raises(Refused):
        asked((b"x-a", b"1"), b"h%020000d" % number)


def repeated_headers(number: int) -> None:
    headers = ((b"host", b"app.test"), (b"x-a", b"%04000d" % number))
    read(Raw("GET", b"/", headers, "192.0.2.1", "http", "0" * 32), Reading())


def address(number: int) -> None:
    is_trusted(f"2001:db8::{number:x}%{'z' * 40}", ())
    is_trusted(f"2001:db8::{number:x}%{'z' * 8000}", ())


def hook_answer(number: int) -> None:
    body = json.dumps({"owner": "a" * 5000, "n": number, "text": "x" * 55_000}).encode()
    readings.attributes(Call(LOOKUP, f"/{number}", str(number)), Reply(200, "application/json", body))


def answered_name(number: int) -> None:
    clean_headers([(b"x-%0500d" % number, b"1"), (b"y-%08000d" % number, b"1")])
    render([(b"X-%060d" % number, b"1"), (b"X-%0500d" % number, b"1")])


def answered_line(number: int) -> None:
    ResponseReader(False).feed(b"HTTP/1.1 200 OK\r\nX-A: %0100d\r\nX-%0100d: 1\r\n\r\n" % (number, number))


@pytest.mark.parametrize(
    ("made_up", "times", "most"),
    [
        (header_name, 6_000, 512), (long_header_name, 2_000, 512), (received_name, 4_000, 512), (host, 2_000, 256),
        (repeated_headers, 3_000, 2 * KIB), (address, 10_000, 1024), (hook_answer, 500, 10 * KIB),
        (answered_name, 8_000, 1024), (answered_line, 12_000, 1024), (repeated_head, 2_000, 2.5 * KIB),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
@pytest.mark.slow
def test_what_is_made_up_grows_memory_by_no_more_than_a_bound(
    made_up: Callable[[int], None], times: int, most: float
) -> None:
    """`most` KiB, which stay; all that is made up is several times as much."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(times):
        made_up(number)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown <= most * KIB


# --- what else may grow ---

PACKAGE = Path(__file__).parent.parent / "sidecar"
OFFLINE = {"config", "study", "imports", "adoption", "commands", "inject", "demo"}
"""Folders that serve no client."""
FILE = "names of the route file or the settings"
UNDER_WAY = "calls, connections or requests under way, which have a bound of their own"
CASE = "one case of `sidecar test`, whose client, app and lookups are made up here"
HEAD = "one head, of 32 KiB or 64 KiB at most"
GROWING = {
    "_Urlencoded._pieces": "one form, of MAX_URLENCODED",
    "Addresses._known": "the addresses in one answer about one name, which has 64 KiB at most",
    "AlbKeys._failed": "keys that were asked for within AGAIN_AFTER, and PER_WINDOW of those are asked at most",
    "AlbKeys._flights": "keys that are asked for now, PER_WINDOW at most",
    "Attempts._turns": UNDER_WAY,
    "BlockReader._table": "the dynamic table of HPACK, in bytes",
    "CheckCall._places": "the resources of one call",
    "Candidate._queue": "MAX_WAITING requests, beyond which they are dropped",
    "Cerbos._calls": UNDER_WAY,
    "Cerbos._gathered": UNDER_WAY,
    "Cerbos._later": UNDER_WAY,
    "Cerbos._waiting": UNDER_WAY,
    "ClientConnection._calls": UNDER_WAY,
    "ClientConnection._pongs": "MOST_PINGS, and all are sent after a tenth of a second",
    "ClientConnection._room": UNDER_WAY,
    "Connection.body": "pieces of one answer, to the mark at which reading is paused",
    "Crowd._blocked": UNDER_WAY,
    "Crowd._open": UNDER_WAY,
    "Crowd._owners_blocked": UNDER_WAY,
    "Cycle._body": "what the app's answer waits with, to the mark at which it is paused",
    "Downloads._http": "proxies, of which the environment names one",
    "EmbeddedCerbos._readers": "two streams of one process",
    "EmbeddedCerbos._last_lines": "the lines of one start, cut to the last",
    "FaultLog._last_logged": "reasons and places in the configuration",
    "DirectTransport._pools": UNDER_WAY,
    "GivenApp._answers": CASE,
    "GivenApp._writers": CASE,
    "GivenApp.answered": CASE,
    "GivenApp.asked": CASE,
    "GivenApp.unanswered": CASE,
    "GivenReplies.unanswered": CASE,
    "GrpcPlaces.connections": UNDER_WAY,
    "GrpcServer._connections": UNDER_WAY,
    "Handshakes._running": UNDER_WAY,
    "HeadReader._headers": HEAD,
    "HeadReader._seen": HEAD,
    "HttpSource._fetches": FILE,
    "JsonText._ends": "the arrays of one text that a rule looks for",
    "HeldBody._first": "the beginning of one body, of IN_MEMORY, in room of all",
    "HeldBody._rest": "what goes to the file at once, of PIECE, in room of all",
    "Holding._leaving": UNDER_WAY,
    "Journal._lines": "the lines of one turn of the loop",
    "KeyStore._tasks": FILE,
    "AppReader._draining": FILE,
    "AppReader._pools": FILE,
    "FunctionSource._known": FILE,
    "OtherLoop._tasks": UNDER_WAY,
    "Lookups._breakers": FILE,
    "Lookups._flights": UNDER_WAY,
    "Lookups._tasks": UNDER_WAY,
    "Lookups.shares": FILE,
    "Metrics._held": "the requests of one turn of the loop",
    "Metrics._requests": "routes, codes and statuses: no label comes from a client",
    "Metrics._times": "stages and sources: no label comes from a client",
    "Outbox._out": "what waits for one turn of the loop, within the windows",
    "Outlet._held": "MAX_HELD bytes, beyond which requests are refused or lines dropped",
    "ListPages._added": "the items of one answer, whose pages have 1 MiB together",
    "Budget._of": "the principals that are in `_recent`",
    "Budget._recent": "so many refusals of each of so many principals, both from the route file: the most that do not spend it",
    "Pages._errors": "statuses, codes and offers",
    "ParentFile._taken": "metrics, whose labels come from no client",
    "Places._used": UNDER_WAY,
    "MultipartReader._parts": "the fields of one form, MAX_FIELDS",
    "Pool._pumps": UNDER_WAY,
    "Pool.connections": UNDER_WAY,
    "QuestionLog._lines": "MAX_WAITING bytes, beyond which lines are lost",
    "Recorder.calls": "the lookups of one request",
    "Pool.kept": UNDER_WAY,
    "ResponseReader.raw_headers": HEAD,
    "SendWindows._ready": UNDER_WAY,
    "SendWindows._stalled": UNDER_WAY,
    "ServerCall.parts": "one message, of the longest that is taken",
    "ServerConnection._calls": UNDER_WAY,
    "ServerStream._heard": "MAX_WAITING messages, of the longest that is taken",
    "Room._held": UNDER_WAY,
    "Sessions._flights": UNDER_WAY,
    "Shares._held": UNDER_WAY,
    "Shares._queues": UNDER_WAY,
    "SqlSource._connections": FILE,
    "StrictProtocol._scope_of_all": "the fixed part of a scope",
    "Watched._parts": "the copy of one answer, of the rule's size at most; all together `watching.MOST`",
    "Upstream._draining": FILE,
    "Upstream._named": FILE,
    "Upstream._retired": FILE,
    "Watching._judging": "answers that are judged, whose copies `watching.MOST` bounds",
    "Windows.lines": "the lines, or the events, of one piece of an answer, each of them bounded",
    "Tasks._running": "the parts of a process, and the reloads under way",
    "Ticker._headers": "the fixed headers",
    "Ticker._idle": UNDER_WAY,
    "Turns._waiting": UNDER_WAY,
    "_Attributes.redacted": "attributes of one question, by name",
    "_Connections._idle": "SIDECAR_SQL_CONNECTIONS",
    "_Connections._tasks": "SIDECAR_SQL_CONNECTIONS, and those that are closed because nobody used them",
    "_Cell.principals": "MAX_PRINCIPALS numbers, which count in the weight of a cell",
    "_Message._held": "one call to the PDP",
    "_Message.items": "one call to the PDP",
    "_Node.affixed": FILE,
    "_Node.literals": FILE,
    "_Node.variables": FILE,
    "_Run._calls": "AT_ONCE calls of a replay",
    "_Run._timed": "MOMENTS questions of a replay",
    "_Run._waiting": "MOST_WAITING bytes of questions of a replay",
    "_Source.keys": "one key set, of 64 KiB at most",
    "_Workers._running": "SIDECAR_WORKERS",
    "_CaseJournal.outcomes": CASE,
    "_Client.body": CASE,
    "_Lines.lines": CASE,
    "_Selections.root": "the tokens of one document, while it is read",
    "_Selections.spreads": "the tokens of one document, while it is read",
}
"""Attributes that begin empty and grow, and what bounds each. What is remembered for a while belongs in a Bounded."""
MAKERS = {"dict", "list", "set", "deque", "defaultdict", "OrderedDict", "Counter", "WeakSet", "WeakValueDictionary"}


def begins_empty(value: ast.expr | None) -> bool:
    """Return whether an expression makes a container that is empty and may grow without end."""
    match value:
        case ast.Dict(keys=[]) | ast.List(elts=[]):
            return True
        case ast.Call(func=ast.Name(id=maker), args=[], keywords=keywords):
            return maker in MAKERS and all(keyword.arg != "maxlen" for keyword in keywords)
    return False


def growing(source: str) -> Iterator[str]:
    """The attributes of a file's classes that begin empty, as `Class.attribute`."""
    for made in (node for node in nodes_of(source) if isinstance(node, ast.ClassDef)):
        for node in below(made):
            match node:
                case (
                    ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)])
                    | ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name))
                ) if begins_empty(node.value):
                    yield f"{made.name}.{name}"


@pytest.mark.parametrize("value", ["{}", "[]", "dict()", "set()", "deque()", "OrderedDict()", "Counter()"])
def test_a_container_that_begins_empty_is_seen(value: str) -> None:
    source = f"class A:\n    def f(self):\n        self.x = {value}\n        self.y: object = {value}"
    assert list(growing(source)) == ["A.x", "A.y"]
    assert list(growing("class A:\n    def f(self):\n        self.x = deque(maxlen=5)")) == []


def test_each_attribute_that_grows_has_a_bound_that_is_written_down() -> None:
    """Put what is remembered into a Bounded; name here what is not, and what bounds it."""
    found = {
        name
        for path in PACKAGE.rglob("*.py")
        if path.name != "bounded.py" and not OFFLINE & set(path.relative_to(PACKAGE).parts)
        for name in growing(path.read_text())
    }
    assert found == GROWING.keys()
