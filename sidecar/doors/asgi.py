"""A request as any ASGI server gives it, read as strictly as our own server reads bytes, or refused.

What such a server does not say cannot be judged. It splits the target at its "?", so that `/a?` and `/a` are one: that
one is decided, logged and forwarded. It has decoded the framing, so that only the length of the body is held to it.
Tell it not to believe forwarded headers (uvicorn: `--no-proxy-headers`): who is connected is `client`.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from sidecar.doors.answer import Answer
from sidecar.doors.door import Receive, Scope
from sidecar.doors.refusal import Send
from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.net.early_answer import refusal_of
from sidecar.wire.grammar import HOP_BY_HOP
from sidecar.wire.http1_request import CHUNKED, BadRequest, Head, HeadReader

_VERSIONS = ("1.0", "1.1")
_HOP_BY_HOP = HOP_BY_HOP - {b"content-length"}
_ENDS = b"\r\n\0"


def head_of(scope: Scope) -> Head:
    """Read the head of an http scope by the grammar of our own server. Raises Refused."""
    version = scope.get("http_version")
    if version not in _VERSIONS:
        # there a body may come without any header that says so
        raise Refused(Code.REQUEST_INVALID, f"HTTP/{version}: expected 1.0 or 1.1")
    if scope.get("root_path"):
        raise Refused(Code.REQUEST_INVALID, "mounted below a path, which one server adds to the target and another not")
    path, query = scope.get("raw_path"), scope.get("query_string", b"")
    if not isinstance(path, bytes) or not path or b"?" in path:
        raise Refused(Code.TARGET_AMBIGUOUS, "the server does not say how the path came")
    if scope.get("path") not in (unquote_to_bytes(path).decode("utf-8", "replace"), path.decode("latin-1")):
        raise Refused(Code.TARGET_AMBIGUOUS, "a path that somebody has changed since it came")
    method = str(scope["method"]).encode("latin-1", "replace")
    target = path + b"?" + query if query else path
    if any(octet <= 0x20 or octet >= 0x7F for octet in method + target):
        raise Refused(Code.TARGET_AMBIGUOUS, "an octet that no request line has")
    head = _read([b"%b %b HTTP/%b" % (method, target, version.encode()), *map(_line, scope["headers"])])
    if head.websocket:
        raise Refused(Code.REQUEST_INVALID, "a WebSocket handshake, whose connection this server does not give")
    return head


def _line(header: tuple[bytes, bytes]) -> bytes:
    name, value = header
    if b":" in name:
        raise Refused(Code.HEADER_AMBIGUOUS, "a header with a colon in its name")
    if bytes(name).translate(None, _ENDS) != name or bytes(value).translate(None, _ENDS) != value:
        raise Refused(Code.HEADER_AMBIGUOUS, "a header with a line end in it")
    return b"%b: %b" % (name, value)


def _read(lines: list[bytes]) -> Head:
    reader = HeadReader()
    try:
        head = reader.feed(b"\r\n".join([*lines, b"", b""]))
    except BadRequest as error:
        raise Refused(refusal_of(error.fault)[1], str(error)) from None
    finally:
        reader.close()
    if head is None:
        raise Refused(Code.REQUEST_INVALID, "a head that does not end")
    return head


def peer_of(scope: Scope) -> str:
    """Return the address of whoever is connected, "" where the server does not say: nobody trusts that one."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def body_of(head: Head, receive: Receive) -> Receive:
    """Return `receive` held to the length that the head says: another body is one that broke off."""
    if head.length == CHUNKED:
        return receive
    left = head.length

    async def held() -> MutableMapping[str, Any]:
        nonlocal left
        message = await receive()
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            if left < 0 or (left and not message.get("more_body", False)):
                return {"type": "http.disconnect"}
        return message

    return held


def answering(send: Send) -> Send:
    """Return `send` for our doors, which answer whole where they can: to a plain server that is two messages, and the
    framing is its own to say."""

    async def plain(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.whole":
            await _send_whole(Answer(message["status"], message["headers"], message["body"]), send)
        elif message["type"] == "http.response.start":
            await send({**message, "headers": _end_to_end(message["headers"])})
        else:
            await send(message)

    return plain


async def _send_whole(made: Answer, send: Send) -> None:
    await send({"type": "http.response.start", "status": made.status, "headers": _end_to_end(made.headers)})
    await send({"type": "http.response.body", "body": made.body, "more_body": False})


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [pair for pair in headers if pair[0] not in _HOP_BY_HOP]
