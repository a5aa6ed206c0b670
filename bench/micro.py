"""The stages of one request, each alone, in CPU time: `pytest bench/micro.py --benchmark-timer=time.process_time`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import jmespath
import pytest
from cerbos.effect.v1.effect_pb2 import EFFECT_ALLOW
from cerbos.response.v1.response_pb2 import CheckResourcesResponse
from graphql import parse
from jwt import PyJWK

from sidecar.bodies.graphql import GraphQL, GraphqlReader
from sidecar.bodies.graphql_document import DocumentLimits
from sidecar.gate.ask import Ask, Operation, asks
from sidecar.gate.codes import Ground
from sidecar.gate.decision import Question, Resource, judge
from sidecar.gate.decision_cache import key_of
from sidecar.gate.hook import Hook
from sidecar.gate.identity import Issuer, Principal, PrincipalRules, Tokens
from sidecar.gate.lookup import Attribute, Call, Lookup, Reply, ResourceField, attributes_from
from sidecar.gate.obligation import HeldAnswer, KeepPrivate
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.routing import Access, Route, RouteTable, ask_of, parse_path
from sidecar.gate.settle import Released, settle
from sidecar.gate.verdict import Facts
from sidecar.pdp.cerbos_messages import entries_of, message_of, principal_of, read_answer
from sidecar.wire.http1_response import encode_request
from tests.permits import Permit
from tests.tokens import CLIENT, ISSUER, claims, mint, public_key

NOW = 1_700_000_000.0
TOKEN = mint(claims(NOW))
RAW = Raw(
    "GET", b"/contacts/7?full=1",
    [(b"host", b"app.test"), (b"user-agent", b"bench"), (b"accept", b"*/*"), (b"authorization", b"Bearer " + TOKEN)],
    "10.0.0.9", "http", "0" * 32,
)  # fmt: skip
TABLE = RouteTable(
    Route(path, parse_path(path), Access.POLICY, asks({"GET": "read"}, kind="contact"))
    for path in ["/contacts/{id}", *(f"/r{number}/{{id}}" for number in range(100))]
)
ALICE = Principal("alice", ("user",), {"email": "alice@example.com"}, ISSUER, NOW + 3600, {"sub": "a-1"})
CONTACT = Resource("contact", "7", "read", {"owner": "alice"})
QUESTION = Question("0" * 32, ALICE, (CONTACT,))
HOOK = Hook("http://h", ("/", ResourceField.ID))
LOOKUP = Lookup("doc", HOOK, {"owner": Attribute(jmespath.compile("owner_id").search)})
REPLY = Reply(200, "application/json", b'{"id": 7, "owner_id": "alice"}')


async def find(issuer: str, kid: str) -> PyJWK:
    """The key of the bench's tokens."""
    return public_key("k1")


def run(work: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stopped:
        return stopped.value
    raise AssertionError("it waits")


def test_reading(benchmark: Any) -> None:
    assert benchmark(read, RAW, Reading()).path == "/contacts/7"


def test_matching(benchmark: Any) -> None:
    request = read(RAW, Reading())
    assert benchmark(lambda: ask_of(TABLE.match(request).route, request).action) == "read"


@pytest.mark.parametrize("known", [True, False])
def test_token(benchmark: Any, known: bool) -> None:
    tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), find)
    request = read(RAW, Reading())
    asyncio.run(tokens.principal_of(request, NOW))

    def once() -> Any:
        if not known:
            tokens.forget()
        return run(tokens.principal_of(request, NOW))

    assert benchmark(once).id == "a-1"


def test_lookup(benchmark: Any) -> None:
    call = Call(LOOKUP, "/7", "7")
    assert benchmark(attributes_from, call, REPLY) == {"owner": "alice"}


def test_question(benchmark: Any) -> None:
    told = principal_of(ALICE)
    assert benchmark(lambda: message_of(QUESTION.request_id, told, entries_of(QUESTION.resources)))


def test_answer(benchmark: Any) -> None:
    message = CheckResourcesResponse(request_id="0" * 32)
    entry = message.results.add()
    entry.resource.kind, entry.resource.id = "contact", "7"
    entry.actions["read"] = EFFECT_ALLOW
    data = message.SerializeToString()
    assert benchmark(lambda: judge(QUESTION, read_answer(data))) == [True]


def test_key_of_a_remembered_decision(benchmark: Any) -> None:
    assert benchmark(key_of, ALICE, CONTACT)


@pytest.mark.parametrize("said", [None, b"private, max-age=60", b"public, max-age=60"])
def test_keeping_an_answer_private(benchmark: Any, said: bytes | None) -> None:
    headers = [
        (b"date", b"x"),
        (b"content-type", b"application/json"),
        (b"etag", b'"1"'),
        (b"x-a", b"1"),
        (b"server", b"s"),
    ]
    headers += [(b"cache-control", said)] if said is not None else []
    permit = Permit(
        b"GET", b"/", (), Ground.ALLOWED, Facts("r", "GET", "/"), obligations=(KeepPrivate(b"Authorization"),)
    )
    settled = benchmark(settle, permit, HeldAnswer(200, headers))
    assert isinstance(settled, Released)
    assert settled.headers[-2][1].startswith(b"private")


GRAPHQL = json.dumps({
    "operationName": "ContactPage", "variables": {"id": "7", "withNotes": True},
    "query": (Path(__file__).parent / "contact_page.graphql").read_text(),
}).encode()  # fmt: skip
"""A page's request, with a document of 2 KiB, as programs write them."""
GRAPHQL_ASKS = {name: Ask("read", "contact") for name in ("Query.contact", "Query.contacts", "Query.viewer")}


@pytest.mark.parametrize("known", [True, False])
def test_graphql(benchmark: Any, known: bool) -> None:
    request = read(
        RAW._replace(method="POST", headers=[*RAW.headers, (b"content-type", b"application/json")]), Reading()
    )
    kept = GraphQL(GRAPHQL_ASKS, GraphqlReader(DocumentLimits()))

    def once() -> list[Operation]:
        return (kept if known else GraphQL(GRAPHQL_ASKS, GraphqlReader(DocumentLimits()))).read(request, GRAPHQL)

    assert [operation.name for operation in benchmark(once)] == [
        "Query.contact",
        "Query.viewer",
        "Query.contacts as similar",
    ]


def test_graphql_core(benchmark: Any) -> None:
    text = json.loads(GRAPHQL)["query"]
    assert benchmark(parse, text, no_location=True).definitions


def test_settling_nothing(benchmark: Any) -> None:
    permit = Permit(b"GET", b"/", (), Ground.PUBLIC, Facts("r", "GET", "/"))
    assert benchmark(settle, permit, HeldAnswer(200, [])) == Released(200, [])


def test_forwarding(benchmark: Any) -> None:
    headers = tuple(read(RAW, Reading()).headers)
    assert benchmark(encode_request, b"GET", RAW.target, headers, None)
