"""Answers a refused request: a problem for programs, a page for people, the sign-in for whoever has no session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from sidecar.enforce import answer
from sidecar.enforce.caching import VARY, merged_vary
from sidecar.gate.request import Header, Raw
from sidecar.gate.session import expired, session_crumbs
from sidecar.gate.verdict import Code, Forward, Refuse

UNAUTHORIZED = HTTPStatus.UNAUTHORIZED

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOGIN_PATH = "/_sidecar/login"
RETURN_TO = "return_to"
"""The query name under which the login gets the path that a person was going to."""


class Refusals:
    """Answers refusals. With `login`, a browser that navigates without a good session is sent there."""

    def __init__(self, *, login: bool = False, page: answer.Page = answer.plain_page) -> None:
        self._login = login
        self._page = page

    async def send(self, refused: Refuse | Forward, code: Code, raw: Raw, send: Send) -> None:
        """Send the answer of a code to this request: of a refusal, or of a permit whose upstream failed."""
        await send_whole(self.whole(refused, code, raw), send)

    def whole(self, refused: Refuse | Forward, code: Code, raw: Raw) -> answer.Answer:
        """The answer that `send` sends."""
        methods = refused.methods if isinstance(refused, Refuse) else ()
        made = self.answer(code, refused.facts.request_id, raw, methods)
        headers = [*made.headers, *refused.reply_headers]
        if refused.reply_headers:
            # one line, since a proxy that asks may keep one of a name
            vary = merged_vary([value for name, value in headers if name == VARY])
            headers = [pair for pair in headers if pair[0] != VARY] + ([(VARY, vary)] if vary else [])
        if answer.status_of(code) != UNAUTHORIZED:
            headers += [(b"set-cookie", cookie) for cookie in refused.cookies]
        return made._replace(headers=headers)

    def answer(self, code: Code, request_id: str, raw: Raw, methods: tuple[str, ...] = ()) -> answer.Answer:
        """The whole answer, with the sign-in in place of a 401 and a bad session cleared."""
        accept = _first(raw.headers, b"accept")
        page = self._page if answer.wants_page(raw.method, accept) else None
        if answer.status_of(code) != UNAUTHORIZED:
            return answer.of(code, request_id, page=page, methods=methods)
        by_session = not any(name == b"authorization" for name, _ in raw.headers)
        if page is not None and self._login and by_session and not raw.websocket:
            made = _to_login(raw, request_id)
        else:
            made = answer.of(code, request_id, page=page)
        if by_session:
            made.headers.extend(cleared_session(raw.headers))
        return made


def _first(headers: Iterable[Header], name: bytes) -> bytes:
    return next((value for other, value in headers if other == name), b"")


def _to_login(raw: Raw, request_id: str) -> answer.Answer:
    # the login judges the path by itself (R18); this only carries it there
    target = quote(raw.target.decode("latin-1"), safe="/")
    location = f"{LOGIN_PATH}?{RETURN_TO}={target}".encode("ascii")
    return answer.Answer(302, [(b"location", location), (b"content-length", b"0"), *answer.PRIVATE,
                               (b"x-request-id", request_id.encode("ascii"))], b"")  # fmt: skip


def cleared_session(headers: Iterable[Header]) -> list[Header]:
    """What takes away each session cookie that the request has."""
    names = {name for header, value in headers if header == b"cookie" for name in session_crumbs(value)}
    return [(b"set-cookie", expired(name)) for name in sorted(names)]


async def send_whole(made: answer.Answer, send: Send) -> None:
    """Send a whole answer, in the one message that `enforce/cycle.py` takes for it."""
    await send({"type": "http.response.whole", "status": made.status, "headers": made.headers, "body": made.body})
