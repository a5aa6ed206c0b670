"""The sidecar's own paths on the traffic port: `/_sidecar/*`, read as strictly as every other request."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl

from sidecar.doors.answer import PRIVATE, Answer
from sidecar.doors.door import Door, Receive, Scope, raw_of_scope, refuse
from sidecar.doors.proxy import ClientBody
from sidecar.doors.refusal import Send, send_whole
from sidecar.gate.body import Viewer
from sidecar.gate.codes import Code
from sidecar.gate.evaluation import Rules
from sidecar.gate.forwarded import client_of
from sidecar.gate.own import JWKS_PATH, PREFIX, WELL_KNOWN
from sidecar.gate.peers import client_key
from sidecar.gate.request import Raw, Request, read
from sidecar.gate.verdict import Refused
from sidecar.net.room import Rooms
from sidecar.trust.assertion import Assertions

log = logging.getLogger("sidecar.own")

MAX_BODY = 64 * 1024
"""Bytes of a form or of a question to the permissions API."""


class PageRequest(NamedTuple):
    """A request to an own path, with its whole body. `now` is Unix seconds, `raw` the request as it came, `rules` those
    in force when it came: a reload while it is answered changes nothing of it."""

    request: Request
    raw: Raw
    body: bytes
    now: float
    rules: Rules


Handler = Callable[[PageRequest], Awaitable[Answer]]
"""Answers an own path. Raises Refused for what the refusal of a code answers."""
Paths = Mapping[str, Mapping[str, Handler]]
"""Path -> method -> handler; HEAD is answered as GET."""


def _no_paths(rules: Rules) -> Paths:
    return {}


class OwnPaths:
    """Answers the sidecar's own paths, and says which they are. `of_rules` gives those that a reload may change; they
    begin with PREFIX or WELL_KNOWN."""

    def __init__(
        self, door: Door, rooms: Rooms, paths: Paths, of_rules: Callable[[Rules], Paths] = _no_paths
    ) -> None:  # fmt: skip
        self._door = door
        self._rooms = rooms
        self._paths = paths
        self._of_rules = of_rules
        own = [path for path in paths if not path.startswith(PREFIX)]
        self.prefixes = tuple(beginning.encode() for beginning in (PREFIX, WELL_KNOWN, *own))
        """Beginnings of targets that may name one of the paths."""

    def has(self, target: bytes) -> bool:
        """Return whether a target, as it came, names one of the paths. Another spelling of one names none."""
        return target.startswith(self.prefixes) and bool(
            self._handlers(target.partition(b"?")[0].decode("latin-1"), self._door.gate.rules)
        )

    def _handlers(self, path: str, rules: Rules) -> Mapping[str, Handler]:
        return self._paths.get(path) or self._of_rules(rules).get(path) or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI http scope whose target `has` an own path."""
        raw = raw_of_scope(scope, self._door.new_id())
        client = client_key(client_of(raw.headers, raw.peer, self._door.gate.rules.reading.trusted))
        body = ClientBody(scope["headers"], receive, self._rooms, client)
        try:
            made = await self._answer(raw, body)
        except Refused as refused:
            await self._refuse(raw, refused, send)
            return
        except Exception:
            log.exception("an own path failed")
            await self._refuse(raw, Refused(Code.INTERNAL_ERROR), send)
            return
        finally:
            body.close()
        if raw.method == "HEAD":
            made = made._replace(body=b"")
        await send_whole(made, send)

    async def _answer(self, raw: Raw, body: ClientBody) -> Answer:
        if self._door.journal.refuses:
            raise Refused(Code.LOG_UNAVAILABLE)
        rules = self._door.gate.rules
        request = read(raw, rules.reading)
        handlers = self._handlers(request.path, rules)
        handler = handlers.get("GET" if raw.method == "HEAD" else raw.method)
        if handler is None:
            methods = [*handlers, *(["HEAD"] if "GET" in handlers else [])]
            raise Refused(Code.METHOD_UNMAPPED, "no method of this page", tuple(methods))
        sent: list[bytes] = []
        await body.show(MAX_BODY, sent.append, Viewer(("", ""), keeps=True))
        return await handler(PageRequest(request, raw, b"".join(sent), self._door.now(), rules))

    async def _refuse(self, raw: Raw, refused: Refused, send: Send) -> None:
        path = raw.target.partition(b"?")[0].decode("latin-1")
        log.info("%s %s refused: %s (%s), request %s", raw.method, path, refused.code, refused.detail, raw.request_id)
        verdict = refuse(raw, refused, path)
        if raw.method == "POST":
            # a person who sent a form reads a page as well as one who navigates
            raw = raw._replace(method="GET")
        await send_whole(self._door.refusals.whole(verdict, verdict.client_code, raw), send)


FORM = b"application/x-www-form-urlencoded"


def form_of(asked: PageRequest) -> dict[str, str]:
    """The fields of a posted form (WHATWG URL, application/x-www-form-urlencoded). Raises Refused."""
    kind = asked.request.seen.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != FORM:
        raise Refused(Code.BODY_TYPE_UNSUPPORTED, f"found {kind[:64]!r}, expected {FORM.decode()}")
    return _fields(asked.body.decode("latin-1"), Code.BODY_INVALID)


def query_of(asked: PageRequest) -> dict[str, str]:
    """The fields of the query, each at most once. Raises Refused(REFERENCE_INVALID)."""
    return _fields(asked.request.query.decode("ascii"), Code.REFERENCE_INVALID)


def _fields(text: str, code: Code) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=100)
    except ValueError:
        raise Refused(code, "fields that cannot be read") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Refused(code, "a field that comes twice")
    return fields


def page(
    body: str, *, status: int = 200, policy: str = "default-src 'none'; style-src 'unsafe-inline'", forms: str = ""
) -> Answer:
    """An HTML page of our own. `policy` is its Content-Security-Policy, to which framing and forms are added; a form
    of it may lead to the origin `forms` besides our own (a browser holds a redirect after a form to it too)."""
    content = body.encode("utf-8")
    guard = f"{policy}; form-action 'self' {forms}".rstrip() + "; frame-ancestors 'none'; base-uri 'none'"
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(content)).encode("ascii")),
        (b"content-security-policy", guard.encode("ascii")),
        (b"referrer-policy", b"same-origin"),
        (b"x-frame-options", b"DENY"),
        *PRIVATE,
    ]
    return Answer(status, headers, content)


def redirect(location: str, cookies: tuple[bytes, ...] = ()) -> Answer:
    """A redirect to a page of ours or to the identity provider, as a GET (303, RFC 9110 section 15.4.4)."""
    headers = [(b"location", location.encode("ascii")), (b"content-length", b"0"), *PRIVATE]
    return Answer(303, [*headers, *((b"set-cookie", cookie) for cookie in cookies)], b"")


def assertion_paths(assertions: Assertions) -> Paths:
    """The public keys with which the app checks X-Auth-Assertion (RFC 7517 section 5)."""
    document = json.dumps(assertions.jwks).encode("ascii")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(document)).encode("ascii")),
        (b"cache-control", b"max-age=300"),
    ]

    async def show(asked: PageRequest) -> Answer:
        return Answer(200, list(headers), document)

    return {JWKS_PATH: {"GET": show}}
