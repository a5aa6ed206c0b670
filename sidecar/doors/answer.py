"""Complete responses that the sidecar generates itself. The only place that maps a code to HTTP."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple

from sidecar.gate.codes import Code
from sidecar.gate.own import REQUEST_ID
from sidecar.gate.problem import CONTENT_TYPE, NOTHING, problem_json

LATER = b"60"
"""Seconds (RFC 9110 section 10.2.3) where another try is likely to get the same answer."""
RETRY_AFTER = b"2"
"""Seconds: as long as a breaker stays open before it probes."""


Page = Callable[..., bytes]
"""Makes the page that tells a person of a refusal: (status, code, request id) -> HTML. Where there is something to
offer it gets an `offer`, with `back` where a sign-in leads to, percent-encoded, and with `access_form` where a person
may ask for what was denied."""


class Offer(StrEnum):
    """Link of a page: a sign-in, or, for those who have a session, its end and another sign-in."""

    NOTHING = ""
    SIGN_IN = "sign_in"
    OTHER = "other"


class Answer(NamedTuple):
    """A whole answer of ours."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def status_of(code: Code) -> int:
    """The HTTP status of a code."""
    return _STATUSES[code]


def _match_status(code: Code) -> int:  # noqa: C901, PLR0911, PLR0912 - one match over all codes is the point
    """The same; a code without one does not type-check."""
    match code:
        case (
            Code.REQUEST_INVALID
            | Code.TARGET_AMBIGUOUS
            | Code.HEADER_AMBIGUOUS
            | Code.BODY_UNEXPECTED
            | Code.BODY_INVALID
            | Code.SEGMENT_INVALID
            | Code.REFERENCE_INVALID
            | Code.QUERY_NOT_ALLOWED
            | Code.PROXY_AMBIGUOUS
            | Code.SIGN_IN_INVALID
            | Code.SIGN_IN_REFUSED
        ):
            return 400
        case Code.TOKEN_MISSING | Code.TOKEN_INVALID | Code.TOKEN_EXPIRED | Code.SESSION_INVALID | Code.SESSION_EXPIRED:
            return 401
        case (
            Code.ROUTE_UNMAPPED
            | Code.OPERATION_UNMAPPED
            | Code.CORS_REFUSED
            | Code.ORIGIN_REFUSED
            | Code.PRINCIPAL_MISSING
            | Code.NO_ROLES
            | Code.SCOPE_MISSING
            | Code.CLAIM_MISSING
            | Code.IDENTITY_HEADER_TOO_LARGE
            | Code.CLAIM_INVALID
            | Code.RESOURCE_MISSING
            | Code.DENIED_BY_POLICY
            | Code.PROXY_NOT_TRUSTED
        ):
            return 403
        case Code.RESOURCE_HIDDEN | Code.MCP_SESSION_FOREIGN:
            return 404
        case Code.METHOD_UNMAPPED:
            return 405
        case Code.REQUEST_TIMEOUT:
            return 408
        case Code.BODY_TOO_LARGE:
            return 413
        case Code.TARGET_TOO_LONG:
            return 414
        case Code.BODY_TYPE_UNSUPPORTED:
            return 415
        case Code.HOST_NOT_ALLOWED:
            return 421
        case Code.SIGN_IN_LIMITED:
            return 429
        case Code.HEADERS_TOO_LARGE:
            return 431
        case Code.INTERNAL_ERROR:
            return 500
        case Code.PROXY_UNABLE:
            return 501
        case (
            Code.UPSTREAM_UNAVAILABLE
            | Code.UPSTREAM_PROTOCOL
            | Code.UPSTREAM_PARTIAL
            | Code.UPSTREAM_OPEN
            | Code.ITEMS_UNREADABLE
            | Code.ITEMS_TOO_MANY
        ):
            return 502
        case (
            Code.KEYS_UNAVAILABLE
            | Code.SESSION_STORE_UNAVAILABLE
            | Code.SESSION_STORE_ERROR
            | Code.SESSION_BAD_RECORD
            | Code.IDP_UNAVAILABLE
            | Code.IDP_BAD_ANSWER
            | Code.LOOKUP_UNAVAILABLE
            | Code.LOOKUP_TIMEOUT
            | Code.LOOKUP_BAD_ANSWER
            | Code.LOOKUP_AUTH
            | Code.LOOKUP_STATUS
            | Code.LOOKUP_PARTIAL
            | Code.LOOKUP_MISMATCH
            | Code.LOOKUP_INCOMPLETE
            | Code.LOOKUP_OPEN
            | Code.LOOKUP_BUSY
            | Code.PDP_UNAVAILABLE
            | Code.PDP_TIMEOUT
            | Code.PDP_BAD_ANSWER
            | Code.PDP_STATUS
            | Code.PDP_PARTIAL
            | Code.PDP_MISMATCH
            | Code.PDP_OPEN
            | Code.PDP_BUSY
            | Code.OBLIGATION_UNKNOWN
            | Code.UPSTREAM_BUSY
            | Code.OVERLOADED
            | Code.BODY_NO_ROOM
            | Code.LOG_UNAVAILABLE
        ):
            return 503
        case Code.UPSTREAM_TIMEOUT:
            return 504
        case Code.LOOKUP_LOOP:
            return 508


_STATUSES = {code: _match_status(code) for code in Code}
"""A refusal asks for its status four times, and a match looks at up to 90 members of an enum."""

_LASTING = frozenset([Code.LOOKUP_AUTH, Code.LOOKUP_STATUS])
"""Codes of 503 with a long Retry-After: a hook that refuses the sidecar, or answers with a status that no hook should,
is set up wrongly more often than not, and asking again seldom helps."""
_LASTING_TEXT = "Something that this application depends on gave a wrong answer. Tell the person who runs it."
_TEXTS = {
    400: "The request is malformed, or it can be read in more than one way.",
    401: "A valid token is required.",
    403: "You don't have access to this.",
    404: "This doesn't exist, or you don't have access to it.",
    405: "This method isn't available here.",
    501: "The proxy in front of this application can't handle this request.",
    502: "The application didn't answer.",
    429: "Too many attempts. Wait a few minutes, then try again.",
    503: "Something that this application depends on isn't available. Try again in a moment.",
    504: "The application took too long to answer.",
    508: "The application asks itself without end.",
}
"""Texts of error pages, by status; nothing in them helps an attacker."""
_TEXTS_OF_CODE = {
    **dict.fromkeys(_LASTING, _LASTING_TEXT),
    Code.PRINCIPAL_MISSING: (
        "Your account doesn't have the name that this application knows people by. "
        "Ask the person who runs it to fix your account."
    ),
    Code.CLAIM_MISSING: (
        "Your account lacks information that this application needs. Ask the person who runs it to add it."
    ),
    Code.CLAIM_INVALID: (
        "Your account has information that this application can't use. Ask the person who runs it to correct it."
    ),
    Code.IDENTITY_HEADER_TOO_LARGE: (
        "Your account has more roles than this application can be told of. Ask the person who runs it to remove some."
    ),
}
"""The same where the status alone would tell a person nothing of what can be done."""

_COMMON = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
PRIVATE = [*_COMMON, (b"vary", b"Cookie, Authorization")]
"""The headers of every answer that depends on who asks: no shared cache may keep it."""


def of(
    code: Code, request_id: str, *, page: Page | None = None, methods: tuple[str, ...] = (),
    more: Mapping[str, object] = NOTHING, challenge: bytes | None = None,
) -> Answer:  # fmt: skip
    """The answer to a refused request: RFC 9457 problem JSON, or a `page` where a person navigated with a browser.

    `methods` are listed in `Allow`, which a 405 must have (RFC 9110 section 15.5.6). `more` are members of the problem,
    and `challenge` parameters of what a client without a good token is told.
    """
    status = status_of(code)
    body = page(status, code, request_id) if page is not None else problem_json(status, code, request_id, more)
    kind = b"text/html; charset=utf-8" if page is not None else CONTENT_TYPE
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode("ascii")), *_COMMON]
    if page is not None:
        headers.append((b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"))
    if status == 401:
        headers.append((b"www-authenticate", _challenge(code) + (challenge or b"")))
    elif code is Code.SCOPE_MISSING:
        headers.append((b"www-authenticate", b'Bearer error="insufficient_scope"' + (challenge or b"")))
    if status in (401, 403, 404):
        headers.append((b"vary", b"Cookie, Authorization"))
    if status == 405:
        headers.append((b"allow", ", ".join(methods).encode("ascii")))
    if status in (429, 503):
        headers.append((b"retry-after", LATER if code in _LASTING else RETRY_AFTER))
    headers.append((REQUEST_ID, request_id.encode("ascii")))
    return Answer(status, headers, body)


def wants_page(method: str, accept: bytes) -> bool:
    """Return whether a browser navigates: a GET that takes text/html."""
    return method == "GET" and b"text/html" in accept


def _challenge(code: Code) -> bytes:
    # RFC 6750 section 3.1; one error for every fault of a token, so that none is told apart
    return b'Bearer error="invalid_token"' + (
        b', error_description="expired"' if code is Code.TOKEN_EXPIRED else b""
    )  # fmt: skip


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{status} {title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 0; min-height: 100vh; display: grid; place-items: center; }}
main {{ max-width: 34rem; padding: 1.5rem; }}
h1 {{ font-size: 1.5rem; }}
code {{ font-size: .875rem; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<main>
<h1>{status} {title}</h1>
<p>{says}</p>
<p><code>{code}</code><br><code>Request {request_id}</code></p>
</main>
</body>
</html>
"""


def plain_page(
    status: int, code: Code, request_id: str, offer: Offer = Offer.NOTHING, back: str = "/", access_form: str = ""
) -> bytes:
    """The page where no template can be used: it offers nothing."""
    title = HTTPStatus(status).phrase
    says = _TEXTS_OF_CODE.get(code) or _TEXTS.get(status, "The request was refused.")
    page = _PAGE.format(status=status, title=title, says=says, code=code, request_id=html.escape(request_id))
    return page.encode("ascii")
