"""What a plain ASGI server says is read as strictly as bytes, and what it does not say is refused."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.doors.asgi import answering, body_of, head_of, peer_of
from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.wire.http1_request import CHUNKED

SCOPE: dict[str, Any] = {
    "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/a b",
    "raw_path": b"/a%20b", "query_string": b"x=1", "root_path": "", "client": ("192.0.2.1", 5),
    "headers": [(b"host", b"app.test")],
}  # fmt: skip


def test_the_head_is_that_of_the_bytes() -> None:
    head = head_of(SCOPE)
    assert (head.method, head.target, head.version, list(head.headers), head.length) == (
        "GET", b"/a%20b?x=1", "1.1", [(b"host", b"app.test")], 0,
    )  # fmt: skip
    assert head_of({**SCOPE, "query_string": b""}).target == b"/a%20b"
    assert head_of({**SCOPE, "headers": [*SCOPE["headers"], (b"transfer-encoding", b"chunked")]}).length == CHUNKED


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"http_version": "2"}, Code.REQUEST_INVALID),
        ({"http_version": None}, Code.REQUEST_INVALID),
        ({"root_path": "/app"}, Code.REQUEST_INVALID),
        ({"raw_path": None}, Code.TARGET_AMBIGUOUS),
        ({"raw_path": b""}, Code.TARGET_AMBIGUOUS),
        ({"raw_path": b"/a?b"}, Code.TARGET_AMBIGUOUS),
        ({"raw_path": b"/a b"}, Code.TARGET_AMBIGUOUS),
        ({"raw_path": b"/a HTTP/1.1\r\nx: y"}, Code.TARGET_AMBIGUOUS),
        ({"raw_path": b"/public", "path": "/admin"}, Code.TARGET_AMBIGUOUS),
        ({"raw_path": b"/a%2520b"}, Code.TARGET_AMBIGUOUS),
        ({"headers": [(b"host", b"a"), (b"authorization:Bearer x", b"")]}, Code.HEADER_AMBIGUOUS),
        ({"query_string": b"a\r\nx: y"}, Code.TARGET_AMBIGUOUS),
        ({"method": "GET /"}, Code.TARGET_AMBIGUOUS),
        ({"method": "TRACE"}, Code.REQUEST_INVALID),
        ({"method": "g\u00e9t"}, Code.TARGET_AMBIGUOUS),
        ({"headers": []}, Code.REQUEST_INVALID),
        ({"headers": [(b"host", b"a"), (b"host", b"b")]}, Code.HEADER_AMBIGUOUS),
        ({"headers": [(b"host", b"a"), (b"x", b"1\r\nx-auth-subject: root")]}, Code.HEADER_AMBIGUOUS),
        ({"headers": [(b"host", b"a"), (b"x\r\ny", b"1")]}, Code.HEADER_AMBIGUOUS),
        ({"headers": [(b"host", b"a"), (b"x y", b"1")]}, Code.REQUEST_INVALID),
        (
            {"headers": [(b"host", b"a"), (b"content-length", b"1"), (b"transfer-encoding", b"chunked")]},
            Code.REQUEST_INVALID,
        ),
    ],
)
def test_what_cannot_be_known_or_read_is_refused(change: dict[str, Any], code: Code) -> None:
    with pytest.raises(Refused) as caught:
        head_of({**SCOPE, **change})
    assert caught.value.code is code


def test_a_handshake_is_refused_since_its_connection_is_not_given() -> None:
    offer = [
        (b"host", b"a"), (b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
    ]  # fmt: skip
    with pytest.raises(Refused, match="handshake"):
        head_of({**SCOPE, "headers": offer})


def test_who_does_not_say_who_is_connected_is_nobody() -> None:
    assert peer_of(SCOPE) == "192.0.2.1"
    assert peer_of({**SCOPE, "client": None}) == peer_of({"type": "http"}) == ""


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [([b"ab", b"c"], True), ([b"abc"], True), ([b"ab"], False), ([b"abcd"], False), ([b"ab", b"cd"], False)],
)
async def test_a_body_of_another_length_is_one_that_broke_off(pieces: list[bytes], whole: bool) -> None:
    messages = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]

    async def receive() -> Any:
        return messages.pop(0)

    held = body_of(head_of({**SCOPE, "headers": [*SCOPE["headers"], (b"content-length", b"3")]}), receive)
    got = [await held() for _ in pieces]
    assert (got[-1]["type"] == "http.request") is whole


async def test_an_answer_is_in_messages_of_asgi_and_the_framing_is_the_servers() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"connection", b"close"), (b"transfer-encoding", b"chunked"), (b"x", b"1")]
    await answering(send)({"type": "http.response.whole", "status": 200, "headers": headers, "body": b"ok"})
    await answering(send)({"type": "http.response.start", "status": 200, "headers": headers})
    await answering(send)({"type": "http.response.body", "body": b"more"})
    assert sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"x", b"1")]},
        {"type": "http.response.body", "body": b"ok", "more_body": False},
        {"type": "http.response.start", "status": 200, "headers": [(b"x", b"1")]},
        {"type": "http.response.body", "body": b"more"},
    ]
