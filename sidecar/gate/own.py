"""Names of the sidecar's own headers, cookies and paths, each defined only here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, Protocol
from urllib.parse import quote

# --- headers to the app ---


class ForwardedPrincipal(Protocol):
    """A principal, as far as the app is told of it."""

    @property
    def id(self) -> str:
        """The id."""
        ...

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles, sorted, each once."""
        ...


class IdentityHeader(NamedTuple):
    """A header that tells the app who asks. `meaning` is for the reference."""

    name: bytes
    value: Callable[[ForwardedPrincipal], bytes]
    meaning: str


# what a header value carries as it is; the rest of a name is escaped, so that none can look like two (R13)
_HEADER_SAFE = " !#$&'()*+-./:;<=>?@[]^_`{|}~"


def header_text(text: str) -> bytes:
    """A fact about a principal as a header value: visible ASCII and spaces between it; "%", "," and all else
    percent-encoded as UTF-8."""
    if text.isalnum() and text.isascii():
        return text.encode("ascii")
    inner = text.strip(" ")
    before = len(text) - len(text.lstrip(" "))
    after = len(text) - before - len(inner)
    return ("%20" * before + quote(inner, safe=_HEADER_SAFE) + "%20" * after).encode("ascii")


IDENTITY = (
    IdentityHeader(
        b"x-auth-subject",
        lambda principal: header_text(principal.id),
        "the principal's id. Percent-encoded: all but visible ASCII, `%`, `,` and `\"`",
    ),
    IdentityHeader(
        b"x-auth-roles",
        lambda principal: b",".join(map(header_text, principal.roles)),
        "the roles, sorted, each once, joined with `,`, each encoded likewise",
    ),
)
"""Headers that every door sets for a principal, and removes from requests of clients and answers of the app."""
ASSERTION = b"x-auth-assertion"
"""The same, signed."""
IDENTITY_HEADERS = (*(header.name for header in IDENTITY), ASSERTION)
"""Headers that only the sidecar may send to the upstream, and nobody to the client."""
REQUEST_ID = b"x-request-id"
FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"
FORWARDED = (FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST)
SET_BY_SIDECAR = (*IDENTITY_HEADERS, REQUEST_ID, *FORWARDED)
"""Headers to the app that only the sidecar sets."""
LOOKUP = b"x-auth-lookup"
"""Header by which the app knows that a lookup asks, with the lookup's name. A request of a client that has it is
refused: an app that sends on what it got would be asked without end."""
FILTER = b"x-auth-filter"
"""Filter for a list, where a route pushes one by `dialect: header`: only a door that holds answers sets it."""

# --- headers to a proxy that asks ---

TARGET = b"x-auth-target"
REMOVE = b"x-auth-remove"
APP_CONTROL, APP_VARY = b"x-auth-cache-control", b"x-auth-vary"
"""Headers with the Cache-Control and Vary that a proxy adds to an answer for one principal."""
PROBLEM = b"x-auth-problem"
_COOKIE = b"x-auth-set-cookie-"
NUMBERED_COOKIE = _COOKIE + b"%d"


def is_to_proxy(name: bytes) -> bool:
    """Return whether a header in lower case tells a proxy that asks what to do: beside it none may have its name."""
    return name in (TARGET, REMOVE, APP_CONTROL, APP_VARY, PROBLEM) or name.startswith(_COOKIE)


# --- cookies ---

SESSION_COOKIE = "__Host-session"
SESSION_COOKIES = (SESSION_COOKIE, *(f"{SESSION_COOKIE}.{number}" for number in (1, 2, 3)))
"""The session's cookies: what does not fit into one goes on in the next."""
SESSION_COOKIE_NAME = re.compile(re.escape(SESSION_COOKIE).encode("ascii") + rb"(?:\.[0-9]{1,4})?")
"""Those, and any that more pieces would have: they are cleared with the session."""
LOGIN_COOKIE = "__Host-login"
"""Begins the names of the cookies of a sign-in on its way."""
DEVICE_COOKIE = f"{LOGIN_COOKIE}-device"
"""Where a user has signed in before."""
OWN_COOKIES = (SESSION_COOKIE.encode("ascii"), LOGIN_COOKIE.encode("ascii"))
"""Prefixes of the names of the sidecar's own cookies: they never reach the upstream, and it can set none of them."""


def set_cookie(name: str, value: str, max_age: int | None = None) -> bytes:
    """The Set-Cookie of a cookie of ours (R20). Without a Max-Age, it goes when the browser is closed."""
    ends = "" if max_age is None else f"; Max-Age={max_age}"
    return f"{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{ends}".encode("ascii")


def expired(name: str) -> bytes:
    """The Set-Cookie that takes a cookie of ours from the browser (RFC 6265 section 3.1)."""
    return set_cookie(name, "", max_age=0)


# --- paths ---

SEGMENT = "_sidecar"
"""First segment of every path of the sidecar's own on the traffic port: no route can name one, in whatever spelling."""
PREFIX = f"/{SEGMENT}/"
"""Begins each of those paths."""
AUTHORIZE_PATH = f"{PREFIX}authorize"
"""Where a proxy asks."""
LOGIN_PATH = f"{PREFIX}login"
CALLBACK_PATH = f"{PREFIX}callback"
LOGOUT_PATH = f"{PREFIX}logout"
CONSOLE_PATH = f"{PREFIX}console"
WHOAMI_PATH = f"{PREFIX}whoami"
PERMISSIONS_PATH = f"{PREFIX}permissions"
JWKS_PATH = f"{PREFIX}jwks.json"
REGISTRATION_PATH = f"{PREFIX}register"
"""Where an OAuth client is told which app client it is (RFC 7591)."""
WELL_KNOWN = "/.well-known/oauth-"
METADATA_PATH = f"{WELL_KNOWN}protected-resource"
"""Begins the paths of a protected resource's metadata (RFC 9728 section 3.1)."""
SERVER_METADATA_PATH = f"{WELL_KNOWN}authorization-server"
"""The path of an authorization server's metadata (RFC 8414 section 3)."""
