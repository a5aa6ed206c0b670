"""Answers a refused request: a problem for programs, a page for people, the sign-in without a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from sidecar.doors import answer
from sidecar.gate.codes import Code
from sidecar.gate.origin import own_page
from sidecar.gate.own import LOGIN_PATH, REQUEST_ID, expired
from sidecar.gate.problem import NOTHING
from sidecar.gate.request import Raw
from sidecar.gate.session import session_cookies
from sidecar.gate.to_app import is_of_app
from sidecar.gate.verdict import Facts, Forward, RefusalFormat, Refuse
from sidecar.wire.caching import VARY, merged_vary
from sidecar.wire.grammar import Header

UNAUTHORIZED = HTTPStatus.UNAUTHORIZED

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

RETURN_TO = "return_to"
"""The query name under which the login gets the path that a person was going to."""


class Refusals:
    """Answers refusals. With `login`, a browser that navigates without a good session is sent there."""

    def __init__(self, *, login: bool = False, page: answer.Page = answer.plain_page) -> None:
        self._login = login
        self._page = page

    def whole(self, refused: Refuse | Forward, code: Code, raw: Raw) -> answer.Answer:
        """The whole answer of a code to this request: of a refusal, or of a permit whose upstream failed."""
        methods, more, challenge = (
            (refused.methods, refused.more, refused.challenge) if isinstance(refused, Refuse) else ((), NOTHING, None)
        )
        made = self.answer(code, refused.facts.request_id, raw, methods, more, challenge)
        if refused.facts.reply is not None and made.status != UNAUTHORIZED:
            made = _replied(refused.facts.reply, code, made, refused.facts.request_id, more)
        headers = [*made.headers, *refused.reply_headers]
        if refused.reply_headers:
            # one line, since a proxy that asks may keep one of a name
            vary = merged_vary([value for name, value in headers if name == VARY])
            headers = [pair for pair in headers if pair[0] != VARY] + ([(VARY, vary)] if vary else [])
        if answer.status_of(code) != UNAUTHORIZED:
            headers += [(b"set-cookie", cookie) for cookie in refused.cookies]
        return answer.Answer(made.status, headers, made.body)

    def answer(
        self, code: Code, request_id: str, raw: Raw, methods: tuple[str, ...] = (),
        more: Mapping[str, object] = NOTHING, challenge: bytes | None = None,
    ) -> answer.Answer:  # fmt: skip
        """The same but for what the verdict adds: the sign-in in place of a 401, a bad session cleared."""
        page = self._page if _navigates(raw) else None
        if page is not None and (form := _access_form(more)):
            page = partial(page, access_form=form)
        status = answer.status_of(code)
        # to sign in with a browser gives no token for a resource: it would lead back here, again and again
        by_session = challenge is None and _by_session(raw, code)
        offers = page is not None and self._login and by_session and not raw.websocket
        if status != UNAUTHORIZED:
            if page is not None and offers and status == HTTPStatus.FORBIDDEN and _has_session(raw):
                page = partial(page, offer=answer.Offer.OTHER, back=_back(raw))
            return answer.of(code, request_id, page=page, methods=methods, more=more, challenge=challenge)
        if offers and raw.method == "GET":
            made = _to_login(raw, request_id)
        elif offers:
            # what was sent is lost: a redirect would hide that
            page = partial(self._page, offer=answer.Offer.SIGN_IN, back=_back(raw))
            made = answer.of(code, request_id, page=page, challenge=challenge)
        else:
            made = answer.of(code, request_id, page=page, challenge=challenge)
        if by_session:
            made.headers.extend(cleared_session(raw.headers))
        return made


def _access_form(more: Mapping[str, object]) -> str:
    offer = more.get("access_request")
    return str(offer.get("form_url", "")) if isinstance(offer, dict) else ""


def status_of(facts: Facts, code: Code) -> int:
    """The status of the answer to a refusal of a code."""
    status = answer.status_of(code)
    return status if facts.reply is None or status == UNAUTHORIZED else facts.reply.status(status)


def _replied(
    reply: RefusalFormat, code: Code, made: answer.Answer, request_id: str, more: Mapping[str, object]
) -> answer.Answer:
    """Return the same answer in the words of another protocol."""
    body = reply.body(code, made.status, request_id, more)
    told = {b"content-type": reply.content_type, b"content-length": str(len(body)).encode("ascii")}
    headers = [(name, told.get(name, value)) for name, value in made.headers]
    return answer.Answer(reply.status(made.status), headers, body)


_BY_SESSION = frozenset((Code.TOKEN_MISSING, Code.SESSION_INVALID, Code.SESSION_EXPIRED))


def _by_session(raw: Raw, code: Code) -> bool:
    """Return whether no bearer token tells who has come: no Authorization, or one that was left to the app."""
    authorization = _first(raw.headers, b"authorization")
    if not authorization:
        return True
    return is_of_app(authorization) and (code in _BY_SESSION or answer.status_of(code) != UNAUTHORIZED)


def _first(headers: Iterable[Header], name: bytes) -> bytes:
    for other, value in headers:
        if other == name:
            return value
    return b""


_FORMS = (b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain")
"""Media types that an HTML form sends (WHATWG HTML, "Attributes for form submission")."""


def _navigates(raw: Raw) -> bool:
    """Return whether a person will see the answer: a browser opens a page, or sends a form."""
    accept = _first(raw.headers, b"accept")
    if raw.method != "POST" or b"text/html" not in accept:
        return answer.wants_page(raw.method, accept)
    mode = _first(raw.headers, b"sec-fetch-mode")
    # a browser without Fetch Metadata does not say whether a script sent it
    return mode == b"navigate" if mode else _first(raw.headers, b"content-type").lower().startswith(_FORMS)


def _has_session(raw: Raw) -> bool:
    return any(name == b"cookie" and session_cookies(value) for name, value in raw.headers)


_MAX_BACK = 6144
"""Bytes of the way back in a link to the login, whose target has to be one that is read (8 KiB)."""


def _back(raw: Raw) -> str:
    """The page to come back to, as a value of `return_to`: this one, or the one of ours with the form (R18)."""
    target = raw.target.decode("latin-1")
    if raw.method != "GET":
        site = _first(raw.headers, b"sec-fetch-site")
        host = _first(raw.headers, b"host").decode("latin-1").lower()
        target = own_page(_first(raw.headers, b"referer"), host) if site in (b"", b"same-origin") else ""
    # the login judges the path by itself (R18); this only carries it there
    for part in (target, target.partition("?")[0]):
        quoted = quote(part, safe="/", encoding="latin-1")
        if len(quoted) <= _MAX_BACK:
            return quoted or "/"
    return "/"


def _to_login(raw: Raw, request_id: str) -> answer.Answer:
    location = f"{LOGIN_PATH}?{RETURN_TO}={_back(raw)}".encode("ascii")
    return answer.Answer(302, [(b"location", location), (b"content-length", b"0"), *answer.PRIVATE,
                               (REQUEST_ID, request_id.encode("ascii"))], b"")  # fmt: skip


def cleared_session(headers: Iterable[Header]) -> list[Header]:
    """Return the headers that take away each session cookie of the request."""
    names = {name for header, value in headers if header == b"cookie" for name in session_cookies(value)}
    return [(b"set-cookie", expired(name)) for name in sorted(names)]


async def send_whole(made: answer.Answer, send: Send) -> None:
    """Send a whole answer, in the one message that `net/exchange.py` takes for it."""
    await send({"type": "http.response.whole", "status": made.status, "headers": made.headers, "body": made.body})
