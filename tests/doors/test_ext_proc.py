"""`doors/ext_proc.py`: what Envoy shows becomes one request and one answer, and nothing passes before it is settled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    CommonResponse,
    ImmediateResponse,
    ProcessingRequest,
    ProcessingResponse,
)
from hypothesis import given
from hypothesis import strategies as st

from sidecar.doors import door
from sidecar.doors.ext_proc import MAX_HELD, ExtProc, read_head
from sidecar.doors.holding import TINY
from sidecar.doors.process_answer import BodyMode
from sidecar.doors.refusal import Refusals
from sidecar.gate.codes import Code, Ground
from sidecar.gate.obligation import (
    BodyRule,
    Decide,
    HeldAnswer,
    Judge,
    KeepPrivate,
    Obligation,
    Reduce,
    Reduced,
    ReduceEither,
    ReduceLines,
    Watch,
)
from sidecar.gate.request import Raw
from sidecar.gate.verdict import Facts, Forward, Refused, Verdict
from sidecar.net.room import Room
from sidecar.record.journal import Journal
from sidecar.record.metrics import Metrics
from sidecar.release.lines import Windows
from sidecar.wire.grammar import Header
from sidecar.wire.grpc import CallFailed, Status
from tests.doors.test_ext_authz import BY_HOST, gate_by_host
from tests.gate.test_gate import TOKEN, World
from tests.log import Kept
from tests.permits import Permit

BEARER = (b"authorization", b"Bearer " + TOKEN)
JSON = (b"content-type", b"application/json")
BUFFERED, NONE, STREAMED = ProcessingMode.BUFFERED, ProcessingMode.NONE, ProcessingMode.STREAMED
PARTIAL = ProcessingMode.BUFFERED_PARTIAL
SEND, SKIP = ProcessingMode.SEND, ProcessingMode.SKIP


def request_head(
    *headers: Header, method: str = "GET", path: str = "/docs/7", host: str = "app.test", peer: str = "10.0.0.9:1234",
    ended: bool = True, shows: tuple[Any, Any] | None = (PARTIAL, PARTIAL), pseudo: tuple[Header, ...] = (),
) -> ProcessingRequest:  # fmt: skip
    """The first message of a stream as Envoy makes it."""
    said = ProcessingRequest()
    own = [(b":authority", host), (b":path", path), (b":method", method), (b":scheme", "http")]
    for name, value in (*((name, text.encode()) for name, text in own), *pseudo, *headers):
        said.request_headers.headers.headers.add(key=name.decode(), raw_value=value)
    said.request_headers.end_of_stream = ended
    if shows is not None:
        said.protocol_config.request_body_mode, said.protocol_config.response_body_mode = shows
    if peer:
        said.attributes["envoy.filters.http.ext_proc"].fields["source.address"].string_value = peer
    return said


def request_body(body: bytes) -> ProcessingRequest:
    said = ProcessingRequest()
    said.request_body.body, said.request_body.end_of_stream = body, True
    return said


def request_part(body: bytes) -> ProcessingRequest:
    said = request_body(body)
    said.request_body.end_of_stream = False
    return said


def answer_head(*headers: Header, status: int = 200, ended: bool = False) -> ProcessingRequest:
    said = ProcessingRequest()
    for name, value in ((b":status", b"%d" % status), *headers):
        said.response_headers.headers.headers.add(key=name.decode(), raw_value=value)
    said.response_headers.end_of_stream = ended
    return said


def answer_body(body: bytes, ended: bool = True) -> ProcessingRequest:
    said = ProcessingRequest()
    said.response_body.body, said.response_body.end_of_stream = body, ended
    return said


def answer_trailers(*trailers: Header) -> ProcessingRequest:
    said = ProcessingRequest()
    said.response_trailers.SetInParent()
    for name, value in trailers:
        said.response_trailers.trailers.headers.add(key=name.decode(), raw_value=value)
    return said


class Upper:
    """Rule of a route for a test: what is released is in capitals."""

    asks: tuple[str, ...] = ()

    def __init__(self, max_size: int = 1000, fails: Refused | None = None, waits: bool = False) -> None:
        self.max_size = max_size
        self.fails = fails
        self.waits = waits

    async def reduce(self, held: HeldAnswer, judge: Judge, granted: frozenset[str]) -> Reduced:
        """See AnswerRule."""
        if self.fails is not None:
            raise self.fails
        if self.waits:
            await asyncio.Event().wait()
        headers = [header for header in held.headers if header[0] != b"etag"]
        body = held.body.upper() if held.body else held.body
        return Reduced(HeldAnswer(held.status, headers, body), {"seen": len(held.body or b""), "kept": 1})


async def nobody(_: object) -> list[frozenset[str]]:
    raise AssertionError("nobody is asked")


def permit(
    rule: BodyRule | None = None, *obligations: Obligation, method: bytes = b"GET", target: bytes = b"/docs/7",
    headers: tuple[Header, ...] = (), **more: Any,
) -> Forward:  # fmt: skip
    own: tuple[Obligation, ...] = () if rule is None else (Reduce(rule, nobody, frozenset()),)
    return Permit(
        method, target, ((b"host", b"app.test"), *headers), Ground.ALLOWED,
        Facts("r1", method.decode(), target.decode()), obligations=own + obligations, **more,
    )  # fmt: skip


class Fixed:
    """A gate that has made up its mind; `raw` is what it was asked about."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.raw: Raw | None = None

    async def decide(self, raw: Raw, read_body: Any) -> Verdict:
        self.raw = raw
        return self.verdict


class Envoy:
    """One stream: says its messages in order, whatever comes back, and then that it ends."""

    def __init__(self, gate: Any, *said: ProcessingRequest | bytes, ends: bool = True, room: int = 1024**3) -> None:
        self.memory = Room(room, "SIDECAR_HELD_MEMORY")
        self.stream = Kept()
        journal = Journal(self.stream, Metrics(), lambda: 1_700_000_000.0)
        self.door = ExtProc(
            door.Door(gate, journal, Refusals(), lambda: 0.0, lambda: 1.0, lambda: "r1"),
            self.memory,
        )
        self.said = list(said)
        self.ends = ends
        self.heard: list[ProcessingResponse] = []

    async def receive(self) -> bytes | None:
        if not self.said:
            if not self.ends:
                await asyncio.Event().wait()
            return None
        message = self.said.pop(0)
        return message if isinstance(message, bytes) else message.SerializeToString()

    def send(self, message: bytes) -> None:
        self.heard.append(ProcessingResponse.FromString(message))

    async def run(self) -> list[ProcessingResponse]:
        await self.door.process(self)
        return self.heard

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


async def answers(gate: Any, *said: ProcessingRequest) -> list[ProcessingResponse]:
    return await Envoy(gate, *said).run()


def changed(common: CommonResponse | ImmediateResponse) -> dict[str, list[tuple[bytes, bool]]]:
    """Name -> the values that it gets, and whether each stands beside others."""
    mutation = common.headers if isinstance(common, ImmediateResponse) else common.header_mutation
    found: dict[str, list[tuple[bytes, bool]]] = {}
    for each in mutation.set_headers:
        assert each.HasField("append")
        found.setdefault(each.header.key, []).append((each.header.raw_value, each.append.value))
    return found


def modes(said: ProcessingResponse) -> tuple[int, int, int]:
    """Of both bodies, and of the answer's trailers."""
    found = said.mode_override
    assert (found.request_header_mode, found.response_header_mode) == (SEND, SEND)
    return found.request_body_mode, found.response_body_mode, found.response_trailer_mode


def problem(said: ProcessingResponse) -> tuple[int, str]:
    assert said.WhichOneof("response") == "immediate_response"
    return said.immediate_response.status.code, json.loads(said.immediate_response.body)["code"]


# --- the head as a request ---


def test_a_head_is_a_request() -> None:
    head = read_head(request_head(BEARER, (b"x-a", b"\xff"), (b"x-a", b"2"), path="/docs/7?x=%2e"), "r1")
    assert head.request.raw == Raw(
        "GET", b"/docs/7?x=%2e", [(b"host", b"app.test"), BEARER, (b"x-a", b"\xff"), (b"x-a", b"2")], "10.0.0.9", "http",
        "r1", holds_answer=True,
    )  # fmt: skip
    assert (head.complete, head.request.grpc) == (True, False)
    assert (head.shows_body, head.shows_answer) == (BodyMode.BUFFERED_PARTIAL, BodyMode.BUFFERED_PARTIAL)


@pytest.mark.parametrize(
    ("said", "peer"), [("10.0.0.9:1", "10.0.0.9"), ("[::1]:7", "::1"), ("", ""), ("/a.sock", ""), ("nobody:1", "")]
)
def test_the_peer_is_the_client_of_envoy(said: str, peer: str) -> None:
    assert read_head(request_head(peer=said), "r1").request.raw.peer == peer


@pytest.mark.parametrize(
    ("shows", "found"),
    [
        (None, False), ((NONE, NONE), False), ((BUFFERED, NONE), False), ((NONE, BUFFERED), True),
        ((NONE, PARTIAL), True), ((NONE, STREAMED), True), ((NONE, ProcessingMode.FULL_DUPLEX_STREAMED), False),
        ((NONE, 77), False),
    ],
)  # fmt: skip
def test_an_answer_is_held_where_envoy_waits_with_it(shows: tuple[Any, Any] | None, found: bool) -> None:
    assert read_head(request_head(shows=shows), "r1").request.raw.holds_answer is found


def test_a_websocket_has_no_answer_to_hold() -> None:
    raw = read_head(request_head((b"upgrade", b"websocket")), "r1").request.raw
    assert (raw.websocket, raw.holds_answer) == (True, False)


@pytest.mark.parametrize(
    "headers", [((b":path", b"/admin"),), ((b":method", b"DELETE"),), ((b"host", b"evil.test"),)], ids=str
)
async def test_two_values_of_one_thing_are_refused(headers: tuple[Header, ...]) -> None:
    envoy = Envoy(World().gate(), request_head(BEARER, pseudo=headers))
    (said,) = await envoy.run()
    assert problem(said) == (400, "request_invalid")
    assert [line["code"] for line in envoy.lines] == ["request_invalid"]


async def test_headers_whose_bytes_envoy_replaced_are_refused() -> None:
    head = request_head(BEARER)
    head.request_headers.headers.headers.add(key="x-a", value="caf!")
    (said,) = await answers(World().gate(), head)
    assert problem(said) == (501, "proxy_unable")


# --- the verdict ---


async def test_a_permit_tells_what_to_send() -> None:
    forged = [(b"x-auth-roles", b"admin"), (b"x-original-url", b"/admin"), (b"x-mine", b"1"), (b"te", b"trailers")]
    head = request_head(BEARER, *forged, (b"x-forwarded-for", b"6.6.6.6,10.0.0.9"), path="/%64ocs/7?a=%2e")
    envoy = Envoy(World().gate(), head, answer_head(ended=True))
    first, _ = await envoy.run()
    common = first.request_headers.response
    found = changed(common)
    assert found["x-auth-subject"] == [(b"a-1", False)]
    assert found[":path"] == [(b"/docs/7?a=%2e", False)]
    assert found["x-forwarded-for"] == [(b"10.0.0.9", False)]
    assert {"x-original-url", "x-auth-assertion", "te"} <= set(common.header_mutation.remove_headers)
    assert not {"x-mine", "authorization", "host", ":method"} & {*found, *common.header_mutation.remove_headers}
    assert modes(first) == (NONE, PARTIAL, SEND)
    facts = first.dynamic_metadata.fields["envoy.filters.http.ext_proc"].struct_value.fields
    assert {name: value.string_value for name, value in facts.items()} == {
        "principal": "a-1", "route": "/docs/{id}", "code": "allowed", "request_id": "r1",
    }  # fmt: skip


async def test_a_refusal_is_our_problem() -> None:
    envoy = Envoy(World().gate(), request_head())
    (said,) = await envoy.run()
    assert problem(said) == (401, "token_missing")
    found = changed(said.immediate_response)
    assert found["content-type"] == [(b"application/problem+json", False)]
    assert "content-length" not in found
    assert [(line["code"], line["status"], line["peer"]) for line in envoy.lines] == [
        ("token_missing", 401, "10.0.0.9")
    ]


@pytest.mark.parametrize("host", BY_HOST)
async def test_the_host_that_envoy_holds_chooses_the_route(host: str) -> None:
    said = await answers(gate_by_host(), request_head(host=host), *([] if BY_HOST[host] else [answer_head(ended=True)]))
    if BY_HOST[host]:
        assert problem(said[0])[1] == BY_HOST[host]
    else:
        # and what was decided is what Envoy sends
        found = changed(said[0].request_headers.response)
        assert found["x-forwarded-host"] == [(host.encode(), False)]


async def test_a_refused_call_has_a_status_of_its_own() -> None:
    (said,) = await answers(World().gate(), request_head((b"content-type", b"application/grpc"), method="POST"))
    immediate = said.immediate_response
    assert (immediate.status.code, immediate.grpc_status.status, immediate.body) == (405, 12, b"method_unmapped")
    assert set(changed(immediate)) == {"x-request-id"}


async def test_a_route_with_a_rule_is_refused_where_envoy_does_not_hold_the_answer() -> None:
    (said,) = await answers(World().gate(), request_head(BEARER, path="/whole", shows=(BUFFERED, NONE)))
    assert problem(said) == (501, "proxy_unable")


async def test_head_is_sent_as_get_where_the_answer_is_reduced() -> None:
    head = request_head(BEARER, (b"accept-encoding", b"gzip"), (b"range", b"bytes=0-"), path="/whole", method="HEAD")
    said = await answers(World().gate(), head, answer_head(JSON, (b"content-length", b"2")), answer_body(b"ab"))
    common = said[0].request_headers.response
    assert changed(common)[":method"] == [(b"GET", False)]
    assert {"accept-encoding", "range"} <= set(common.header_mutation.remove_headers)
    # no length: Envoy takes none but that of the body, which is empty
    assert said[2].response_body.response.body_mutation.clear_body
    assert "content-length" in said[2].response_body.response.header_mutation.remove_headers
    assert "content-length" not in changed(said[2].response_body.response)


# --- the body of a request ---

BODY = b'{"owner": "a-1"}'
POST = {"method": "POST", "path": "/new", "ended": False}


async def test_a_body_that_a_route_reads_is_asked_for_before_anything_is_sent() -> None:
    envoy = Envoy(World().gate(), request_head(BEARER, JSON, **POST), request_body(BODY), answer_head(ended=True))  # type: ignore[arg-type]
    first, second, third = await envoy.run()
    assert not first.request_headers.response.HasField("header_mutation")
    assert modes(first) == (PARTIAL, PARTIAL, SEND)
    assert changed(second.request_body.response)["x-auth-subject"] == [(b"a-1", False)]
    assert not second.HasField("mode_override")
    assert third.WhichOneof("response") == "response_headers"


@pytest.mark.parametrize(
    ("head", "more", "code"),
    [
        ({"shows": (NONE, BUFFERED)}, (), "proxy_unable"),
        ({"shows": None}, (), "proxy_unable"),
        ({}, (request_body(b"{"),), "body_invalid"),
        ({}, (request_body(b'{"owner": "a-1", "x": "%s"}' % bytes(2**20)),), "body_too_large"),
        ({}, (request_part(BODY),), "body_too_large"),
        ({}, (answer_head(status=413),), "body_too_large"),
        ({}, (answer_head(status=408),), "body_invalid"),
        ({}, (), "body_invalid"),
    ],
    ids=["not held", "an old Envoy", "no JSON", "too large", "a part", "too large for Envoy", "broken off", "gone"],
)
async def test_a_body_is_whole_or_refused(
    head: Mapping[str, Any], more: tuple[ProcessingRequest, ...], code: str
) -> None:
    envoy = Envoy(World().gate(), request_head(BEARER, JSON, **{**POST, **head}), *more)
    said = await envoy.run()
    assert problem(said[-1])[1] == code
    assert [line["code"] for line in envoy.lines] == [code]


@pytest.mark.parametrize(
    ("length", "body", "code"), [(b"17", BODY, "body_invalid"), (b"2000000", b"", "body_too_large")]
)
async def test_a_body_has_the_length_that_was_said(length: bytes, body: bytes, code: str) -> None:
    head = request_head(BEARER, JSON, (b"content-length", length), **POST)  # type: ignore[arg-type]
    said = await answers(World().gate(), head, request_body(body))
    assert problem(said[-1])[1] == code


async def test_a_body_takes_room_while_it_is_read() -> None:
    for room, code in ((1000, ""), (50, "body_no_room")):
        envoy = Envoy(World().gate(), request_head(BEARER, JSON, **POST), request_body(BODY), room=room)  # type: ignore[arg-type]
        said = await envoy.run()
        assert envoy.memory.used == 0
        if code:
            assert problem(said[-1]) == (503, code)


# --- the answer ---


async def test_an_answer_without_obligations_passes_as_it_comes() -> None:
    envoy = Envoy(
        Fixed(permit()), request_head(), answer_head((b"content-length", b"5"), (b"connection", b"close")), ends=False
    )
    _, second = await envoy.run()
    common = second.response_headers.response
    assert not common.header_mutation.set_headers
    assert not common.header_mutation.remove_headers
    assert not common.HasField("body_mutation")
    # the stream has ended well, while the body has not even begun
    assert modes(second) == (NONE, NONE, SKIP)
    assert [(line["code"], line["status"]) for line in envoy.lines] == [("allowed", 200)]


async def test_only_the_app_s_own_passes_and_marks_and_cookies_are_added() -> None:
    gate = Fixed(
        permit(
            None, KeepPrivate(b"Cookie, Authorization", no_store=True), cookies=(b"__Host-session=new",),
            reply_headers=((b"access-control-allow-origin", b"https://a.test"),),
        )
    )  # fmt: skip
    theirs = [
        (b"set-cookie", b"a=1"), (b"set-cookie", b"__Host-session=forged"), (b"x-auth-subject", b"root"),
        (b"X_Auth_Roles".lower(), b"admin"), (b"cache-control", b"public, max-age=60"), (b"expires", b"0"),
        (b"access-control-allow-origin", b"*"), (b"x-mine", b"1"), (b"content-length", b"9"),
    ]  # fmt: skip
    _, second = await answers(gate, request_head(), answer_head(*theirs, status=201))
    mutation = second.response_headers.response.header_mutation
    found = changed(second.response_headers.response)
    assert found["set-cookie"] == [(b"a=1", True), (b"__Host-session=new", True)]
    assert found["cache-control"][0][0].startswith(b"private")
    assert found["access-control-allow-origin"] == [(b"https://a.test", True)]
    assert {"x-auth-subject", "x_auth_roles", "expires", "set-cookie", "cache-control"} <= set(mutation.remove_headers)
    assert not {"x-mine", "content-length"} & {*found, *mutation.remove_headers}


WHOLE = [JSON, (b"content-length", b"3"), (b"etag", b'"a"')]


async def test_an_answer_that_is_reduced_is_held_whole() -> None:
    envoy = Envoy(Fixed(permit(Upper(), KeepPrivate(b"Authorization"))), request_head(), answer_head(*WHOLE), answer_body(b"abc"))  # fmt: skip
    first, second, third = await envoy.run()
    assert modes(first)[1] == PARTIAL
    assert not second.response_headers.response.HasField("header_mutation")
    assert not second.HasField("mode_override")
    common = third.response_body.response
    assert common.body_mutation.body == b"ABC"
    assert set(common.header_mutation.remove_headers) == {"etag"}
    assert set(changed(common)) == {"cache-control", "vary"}
    (line,) = envoy.lines
    assert (line["status"], line["items"]) == (200, {"seen": 3, "kept": 1})


async def test_trailers_of_a_reduced_answer_go() -> None:
    said = await answers(
        Fixed(permit(Upper())), request_head(), answer_head(*WHOLE), answer_body(b"abc", ended=False),
        answer_trailers((b"digest", b"x"), (b"x-total", b"3")),
    )  # fmt: skip
    assert said[-1].response_trailers.header_mutation.remove_headers == ["digest", "x-total"]


async def test_an_empty_answer_is_settled_at_its_head() -> None:
    said = await answers(Fixed(permit(Upper())), request_head(), answer_head((b"etag", b"x"), status=204, ended=True))
    assert len(said) == 2
    assert said[1].response_headers.response.header_mutation.remove_headers == ["etag"]


@pytest.mark.parametrize(
    ("rule", "more", "found"),
    [
        (Upper(2), (answer_head(*WHOLE),), (502, "items_too_many")),
        (Upper(2), (answer_head(JSON), answer_body(b"abc")), (502, "items_too_many")),
        (Upper(), (answer_head(JSON), answer_body(b"abc", ended=False)), (502, "items_too_many")),
        (Upper(MAX_HELD * 2), (answer_head((b"content-length", b"%d" % (MAX_HELD + 1))),), (502, "items_too_many")),
        (
            Upper(fails=Refused(Code.ITEMS_UNREADABLE)), (answer_head(JSON), answer_body(b"abc")), (502, "items_unreadable"),
        ),
        (Upper(fails=Refused(Code.PDP_TIMEOUT)), (answer_head(JSON), answer_body(b"abc")), (503, "pdp_timeout")),
        (Upper(fails=Refused(Code.ITEMS_UNREADABLE)), (answer_head(JSON, ended=True),), (502, "items_unreadable")),
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_released_is_a_problem(
    rule: Upper, more: tuple[ProcessingRequest, ...], found: tuple[int, str]
) -> None:
    envoy = Envoy(Fixed(permit(rule)), request_head(), *more)
    said = await envoy.run()
    assert problem(said[-1]) == found
    assert [(line["status"], line["code"]) for line in envoy.lines] == [found]


class Owner:
    """Rule that reads who has written the answer, for a decision that is made from it."""

    names = frozenset(["owner"])
    asks: tuple[str, ...] = ()
    missing = "hide"
    max_size = 9

    def searched(self, query: bytes) -> Sequence[tuple[str, str]]:
        """See AnswerLookup."""
        return ()

    def read(self, held: HeldAnswer, resource_id: str) -> dict[str, Any]:
        if held.body is None:
            raise Refused(Code.LOOKUP_BAD_ANSWER)
        return {"owner": held.body.decode()}

    def reduce(self, held: HeldAnswer, granted: frozenset[str]) -> Reduced:
        return Reduced(held, {})


async def conclude(attributes: Mapping[str, Any]) -> frozenset[str]:
    if attributes["owner"] != "alice":
        raise Refused(Code.DENIED_BY_POLICY)
    return frozenset()


@pytest.mark.parametrize(
    ("body", "found", "outcome", "code"),
    [
        (b"alice", None, "allow", "allowed"), (b"bob", (404, "resource_hidden"), "refuse", "denied_by_policy"),
        (b"much too large", (503, "lookup_bad_answer"), "refuse", "lookup_bad_answer"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shadow", [False, True])
@pytest.mark.parametrize("length", [False, True])
async def test_a_decision_is_made_from_the_answer(
    body: bytes, found: tuple[int, str] | None, outcome: str, code: str, shadow: bool, length: bool
) -> None:
    head = answer_head(JSON, *([(b"content-length", b"%d" % len(body))] if length else []))
    # a body that Envoy says is too large is not asked for
    shown = [] if length and len(body) > Owner.max_size else [answer_body(body)]
    envoy = Envoy(Fixed(permit(None, Decide(Owner(), "7", conclude, shadow))), request_head(), head, *shown)
    last = (await envoy.run())[-1]
    (line,) = envoy.lines
    if shadow or found is None:
        if shown:
            common = last.response_body.response
            # what was too large stays as Envoy holds it
            assert (common.body_mutation.body == body) is (len(body) <= Owner.max_size)
            assert common.HasField("body_mutation") is (len(body) <= Owner.max_size)
        else:
            assert modes(last)[1] == NONE
        assert line["code"] == code
        assert line["outcome"] == ("shadow_refuse" if found is not None else "allow")
    else:
        assert problem(last) == found
        assert (line["outcome"], line["code"], line["status"]) == (outcome, code, found[0])


async def test_an_answer_in_shadow_goes_out_as_envoy_has_it_and_is_not_judged() -> None:
    watch = Watch(Reduce(Upper(), nobody, frozenset()))
    envoy = Envoy(Fixed(permit(None, watch)), request_head(), answer_head(*WHOLE))
    last = (await envoy.run())[-1]
    assert modes(last)[1] == NONE
    assert not last.response_headers.response.HasField("body_mutation")
    (line,) = envoy.lines
    assert (line["outcome"], line.get("items")) == ("allow", None)


async def test_a_rule_with_a_bug_releases_nothing() -> None:
    rule = Upper()
    rule.reduce = None  # type: ignore[assignment, method-assign]
    said = await answers(Fixed(permit(rule)), request_head(), answer_head(*WHOLE), answer_body(b"abc"))
    assert problem(said[-1]) == (500, "internal_error")


async def test_an_answer_takes_room_while_it_is_judged() -> None:
    for room, status in ((100, 0), (23, 503)):
        envoy = Envoy(Fixed(permit(Upper())), request_head(), answer_head(JSON), answer_body(b"abc"), room=room)
        said = await envoy.run()
        assert envoy.memory.used == 0
        if status:
            assert problem(said[-1]) == (status, "upstream_busy")
            assert "SIDECAR_HELD_MEMORY" in envoy.lines[0]["detail"]
        else:
            assert said[-1].response_body.response.body_mutation.body == b"ABC"


async def test_what_nobody_asked_for_is_answered() -> None:
    """By an Envoy that does not let its mode be changed."""
    trailers = ProcessingRequest()
    trailers.request_trailers.SetInParent()
    said = await answers(Fixed(permit()), request_head(ended=False), request_body(b"x"), trailers, answer_head())
    assert [each.WhichOneof("response") for each in said] == [
        "request_headers", "request_body", "request_trailers", "response_headers",
    ]  # fmt: skip


async def test_an_answer_in_the_app_s_place_is_settled_and_nobody_is_asked() -> None:
    gate = Fixed(permit(Upper(), KeepPrivate(b"Cookie"), given=HeldAnswer(200, [JSON], b"[]"), cookies=(b"a=1",)))
    envoy = Envoy(gate, request_head())
    (said,) = await envoy.run()
    immediate = said.immediate_response
    assert (immediate.status.code, immediate.body) == (200, b"[]")
    assert set(changed(immediate)) == {"content-type", "cache-control", "vary", "set-cookie"}
    assert [(line["code"], line["status"]) for line in envoy.lines] == [("allowed", 200)]
    envoy = Envoy(Fixed(permit(Upper(fails=Refused(Code.ITEMS_UNREADABLE)), given=HeldAnswer(200, [], b""))), request_head())  # fmt: skip
    assert problem((await envoy.run())[0]) == (502, "items_unreadable")


# --- lines ---


class Loud:
    """Rule for lines for a test: those that begin with `a` go out, in capitals."""

    wait = 0.0

    def units(self) -> Windows:
        """See LineRule."""
        return Windows(20)

    def begin(self, held: HeldAnswer) -> tuple[HeldAnswer, bool]:
        """See LineRule."""
        return held, held.status == 200

    async def window(self, lines: Sequence[bytes], judge: Judge) -> bytes:
        """See LineRule."""
        if b"bad\n" in lines:
            raise Refused(Code.ITEMS_UNREADABLE, "a line")
        return b"".join(line.upper() for line in lines if line.startswith(b"a"))


LINES = permit(None, ReduceLines(Loud(), nobody))
LINES_HEAD = request_head(shows=(PARTIAL, STREAMED))


def bodies(heard: list[ProcessingResponse]) -> list[bytes]:
    found = [each.response_body.response.body_mutation for each in heard if each.HasField("response_body")]
    assert all(each.body or each.clear_body for each in found)
    return [each.body for each in found]


@pytest.mark.parametrize("trailers", [False, True])
async def test_lines_go_out_as_they_are_judged(trailers: bool) -> None:
    pieces = [answer_body(b"a1\nb1\na", ended=False), answer_body(b"2\n", ended=False), answer_body(b"b2", ended=False)]
    end = answer_trailers((b"x-total", b"3")) if trailers else answer_body(b"\na3")
    if trailers:
        pieces[-1] = answer_body(b"b2\n", ended=False)
    envoy = Envoy(Fixed(LINES), LINES_HEAD, answer_head((b"content-length", b"14")), *pieces, end)
    _, second, *rest = await envoy.run()
    assert not second.HasField("mode_override")
    assert second.response_headers.response.header_mutation.remove_headers == ["content-length"]
    assert bodies(rest) == [b"A1\n", b"A2\n", b"", *([] if trailers else [b"A3"])]
    if trailers:
        assert rest[-1].response_trailers.header_mutation.remove_headers == ["x-total"]
    assert [(line["code"], line["status"]) for line in envoy.lines] == [("allowed", 200)]


@pytest.mark.parametrize(
    "more",
    [
        [answer_body(b"a1\nbad\na2\n")], [answer_body(b"a" * 21, ended=False)],
        [answer_body(b"a1", ended=False), answer_trailers()],
    ],
    ids=["a bad line", "a long line", "no end before trailers"],
)  # fmt: skip
async def test_a_line_that_cannot_be_judged_breaks_the_answer_off(more: list[ProcessingRequest]) -> None:
    envoy = Envoy(Fixed(LINES), LINES_HEAD, answer_head(), answer_body(b"a0\n", ended=False), *more)
    with pytest.raises(CallFailed) as failed:
        await envoy.run()
    assert failed.value.status is Status.ABORTED
    assert b"".join(bodies(envoy.heard)) == b"A0\n"
    assert [line.get("code") for line in envoy.lines] == ["allowed", "items_unreadable"]


async def test_a_line_that_waits_for_its_end_takes_room_and_breaks_off_where_there_is_none() -> None:
    class Long(Loud):
        def units(self) -> Windows:
            return Windows(2 * TINY)

    pieces = [answer_body(b"a0\n", ended=False), answer_body(b"a" * TINY, ended=False), answer_body(b"a\na1\n")]
    long = permit(None, ReduceLines(Long(), nobody))
    envoy = Envoy(Fixed(long), LINES_HEAD, answer_head(), *pieces, room=12 * TINY)
    assert bodies((await envoy.run())[2:]) == [b"A0\n", b"", b"A" * (TINY + 1) + b"\nA1\n"]
    assert envoy.memory.used == 0
    envoy = Envoy(Fixed(long), LINES_HEAD, answer_head(), *pieces, room=7 * TINY)
    with pytest.raises(CallFailed):
        await envoy.run()
    assert b"".join(bodies(envoy.heard)) == b"A0\n"
    assert [line.get("code") for line in envoy.lines] == ["allowed", "upstream_busy"]
    assert envoy.memory.used == 0


EITHER = permit(
    None,
    ReduceEither(
        Reduce(Upper(), nobody, frozenset()), ReduceLines(Loud(), nobody), lambda held: JSON not in held.headers
    ),
)
EITHER_HEAD = request_head(shows=(PARTIAL, BUFFERED))


async def test_an_answer_that_may_be_a_stream_goes_out_in_pieces_where_its_head_says_so() -> None:
    envoy = Envoy(Fixed(EITHER), EITHER_HEAD, answer_head(), answer_body(b"a1\nb1\n", ended=False), answer_body(b""))
    _, second, *rest = await envoy.run()
    assert modes(second) == (NONE, STREAMED, SEND)
    assert bodies(rest) == [b"A1\n", b""]
    envoy = Envoy(Fixed(EITHER), EITHER_HEAD, answer_head(JSON), answer_body(b"a1"))
    _, second, third = await envoy.run()
    assert not second.HasField("mode_override")
    assert bodies([third]) == [b"A1"]


async def test_an_envoy_that_does_not_let_its_mode_be_changed_shows_a_stream_whole() -> None:
    """What it holds is judged, and what is more than that it refuses by itself."""
    envoy = Envoy(Fixed(EITHER), EITHER_HEAD, answer_head(), answer_body(b"a1\nb1\n"))
    assert bodies((await envoy.run())[2:]) == [b"A1\n"]


async def test_lines_of_a_head_are_not_judged() -> None:
    head = request_head(method="HEAD", shows=(PARTIAL, STREAMED))
    heard = await answers(Fixed(LINES), head, answer_head(), answer_body(b"a1\nbad\n", ended=False), answer_body(b""))
    assert bodies(heard) == [b"", b""]


async def test_an_error_in_place_of_lines_passes() -> None:
    envoy = Envoy(Fixed(LINES), LINES_HEAD, answer_head((b"content-length", b"1"), status=404), ends=False)
    _, second = await envoy.run()
    assert modes(second) == (NONE, NONE, SKIP)
    assert not second.response_headers.response.header_mutation.remove_headers


@pytest.mark.parametrize(
    ("made", "answer", "status"),
    [
        (LINES, PARTIAL, 501), (LINES, BUFFERED, 0), (permit(Upper()), STREAMED, 501), (permit(Upper()), BUFFERED, 0),
        (EITHER, PARTIAL, 501), (EITHER, STREAMED, 501), (EITHER, BUFFERED, 0),
    ],
)  # fmt: skip
async def test_the_app_is_not_asked_for_what_envoy_does_not_show(made: Forward, answer: Any, status: int) -> None:
    """Of lines that it shows in part the rest would pass, and a head that has gone out cannot become a refusal."""
    envoy = Envoy(Fixed(made), request_head(shows=(PARTIAL, answer)))
    (said,) = await envoy.run()
    if status:
        assert problem(said) == (501, "proxy_unable")
    else:
        assert said.WhichOneof("response") == "request_headers"


# --- what is out of order ---

HEAD_ONLY = request_head()
HELD = request_head(shows=(BUFFERED, BUFFERED))
RULE = permit(Upper())


@pytest.mark.parametrize(
    "said",
    [
        [], [ProcessingRequest()], [request_body(b"x")], [answer_body(b"x")], [answer_trailers()],
        [answer_head(status=200)], [answer_head(status=302)], [HEAD_ONLY, HEAD_ONLY], [HEAD_ONLY, answer_body(b"x")],
        [HEAD_ONLY, answer_trailers()], [HEAD_ONLY, ProcessingRequest()], [HEAD_ONLY, answer_head(JSON), HEAD_ONLY],
        [HEAD_ONLY, answer_head(JSON), answer_head(JSON)], [HEAD_ONLY, answer_head(JSON), answer_trailers()],
        [HELD, answer_head(JSON), answer_body(b"a", ended=False), answer_body(b"b")], [b"\xff\xff"],
        [HEAD_ONLY, b"\xff\xff"], [HEAD_ONLY, answer_head(JSON), b"\xff\xff"],
    ],
)  # fmt: skip
async def test_what_is_out_of_order_ends_badly(said: list[ProcessingRequest | bytes]) -> None:
    """A stream that ends well would let Envoy go on by itself."""
    envoy = Envoy(Fixed(RULE), *said)
    with pytest.raises(CallFailed) as failed:
        await envoy.run()
    assert failed.value.status is not Status.OK
    assert len(envoy.lines) == (bool(said) and said[0] in (HEAD_ONLY, HELD))
    if len(said) < 4:
        assert not any(each.response_body.response.body_mutation.body for each in envoy.heard)


async def test_an_envoy_that_waits_for_nobody_is_left() -> None:
    head = request_head()
    head.observability_mode = True
    with pytest.raises(CallFailed, match="observability_mode"):
        await answers(Fixed(permit()), head)


async def test_an_answer_without_a_status_ends_badly() -> None:
    head = ProcessingRequest()
    head.response_headers.SetInParent()
    with pytest.raises(CallFailed, match="status"):
        await answers(Fixed(permit()), request_head(), head)


async def test_a_refusal_of_envoy_s_own_keeps_its_status() -> None:
    """Of a request that it could not read, and so never showed."""
    envoy = Envoy(Fixed(permit()), answer_head((b"x-secret", b"1"), status=400))
    (said,) = await envoy.run()
    assert said.immediate_response.status.code == 400
    assert (said.immediate_response.body, changed(said.immediate_response)) == (b"", {})


@pytest.mark.parametrize("more", [(), (answer_head(*WHOLE),)])
async def test_a_stream_that_envoy_ends_has_its_line(more: tuple[ProcessingRequest, ...]) -> None:
    envoy = Envoy(Fixed(RULE), request_head(), *more)
    await envoy.run()
    assert [(line["code"], line["status"]) for line in envoy.lines] == [("allowed", 499)]


@pytest.mark.parametrize(
    "more", [(), (answer_head(*WHOLE),), (answer_head(*WHOLE), answer_body(b"abc"))], ids=["head", "body", "rule"]
)
async def test_a_stream_that_is_cancelled_has_its_line(more: tuple[ProcessingRequest, ...]) -> None:
    envoy = Envoy(Fixed(permit(Upper(waits=True))), request_head(), *more, ends=False)
    task = asyncio.ensure_future(envoy.run())
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(line["code"], line["status"]) for line in envoy.lines] == [("allowed", 499)]
    assert not any(each.WhichOneof("response") == "response_body" for each in envoy.heard)


@given(st.lists(st.sampled_from([
    request_head(), request_head(ended=False), request_body(b"x"), answer_head(), answer_head(JSON, ended=True),
    answer_head(status=500), answer_body(b"abc"), answer_body(b"abc", ended=False), answer_trailers((b"a", b"b")),
    ProcessingRequest(),
]), max_size=6))  # fmt: skip
def test_nothing_of_an_answer_passes_before_it_is_settled(said: list[ProcessingRequest]) -> None:
    """Whatever comes in whatever order: a body goes on in capitals, or not at all."""
    envoy = Envoy(Fixed(RULE), *said)

    async def run() -> bool:
        try:
            await envoy.run()
        except CallFailed:
            return False
        return True

    good = asyncio.run(run())
    bodies = [each.response_body.response for each in envoy.heard if each.WhichOneof("response") == "response_body"]
    assert all(each.body_mutation.body == b"ABC" for each in bodies)
    shown = [each.WhichOneof("request") for each in said]
    if (
        good
        and "response_body" in shown[: len(envoy.heard)]
        and envoy.heard[-1].WhichOneof("response") != "immediate_response"
    ):
        assert bodies
