"""Grammar of HTTP: each rule once, under the words of its RFC, for requests and answers alike.

Patterns are for `fullmatch`. A module that is stricter than its RFC says so where it is.
"""

from __future__ import annotations

import re

Header = tuple[bytes, bytes]
"""A field: its name in lower case, and its value without the blanks around it."""

# --- fields (RFC 9110 section 5) ---

# RFC 9110 section 5.6.2:
#   token = 1*tchar
#   tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~" / DIGIT / ALPHA
TOKEN = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
FIELD_NAME = re.compile(TOKEN)

# A field name that every server reads alike: many fold "_" and "." of a token to "-", which is two names for one header
PLAIN_NAME = re.compile(rb"[A-Za-z0-9-]+")
LOWER_NAME = re.compile(rb"[a-z0-9-]+")
"""A plain name where names are in lower case already."""

FOLDED = bytes.maketrans(b"_.ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"--abcdefghijklmnopqrstuvwxyz")
"""For `translate`: a token as those servers see it."""

# RFC 9110 section 5.6.3: OWS = *( SP / HTAB )
OWS = b" \t"

# RFC 9110 section 5.5:
#   field-value = *field-content
#   field-vchar = VCHAR / obs-text
#   obs-text    = %x80-FF
FIELD_TEXT = rb"[\t -~\x80-\xff]*"

# The octets that RFC 9110 section 5.5 excludes from a field value: "Field values containing CR, LF, or NUL characters
# are invalid and dangerous"; "other CTL characters are also invalid"
CONTROLS = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))
TEXT = bytes(octet for octet in range(256) if octet not in CONTROLS)

# RFC 9112 section 5: field-line = field-name ":" OWS field-value OWS
# RFC 9112 section 5.1: "No whitespace is allowed between the field name and colon."
FIELD_LINE = re.compile(rb"(%b):(%b)" % (TOKEN, FIELD_TEXT))

# RFC 9110 section 8.6: Content-Length = 1*DIGIT; the bound on digits is ours
CONTENT_LENGTH = re.compile(rb"[0-9]{1,15}")


def list_members(value: bytes) -> list[bytes]:
    """Members of a list of tokens (RFC 9110 section 5.6.1) in lower case; empty ones stay."""
    return [member.strip(OWS).lower() for member in value.split(b",")]


# --- what belongs to one connection ---

# RFC 9110 section 7.6.1: "Intermediaries SHOULD remove or replace fields that are known to require removal before
# forwarding, [...] Proxy-Connection, Keep-Alive, TE, Transfer-Encoding, Upgrade"; section 11.7: "Proxy-Authenticate
# and Proxy-Authorization apply only to the next outbound client"; section 6.6.2 and RFC 9112 section 6.3 for Trailer
# and Content-Length, which each connection has anew; RFC 9113 appendix B for HTTP2-Settings (of HTTP/1.1 Upgrade)
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade http2-settings content-length".split()
)

FORWARDED_BY_SOME = frozenset((b"proxy-authenticate", b"proxy-authorization", b"http2-settings"))
"""Those among them that proxies send on all the same, where nobody takes them away."""

# Fields of which two would let two servers pick different ones. RFC 9110 section 5.3: "a sender MUST NOT generate
# multiple field lines with the same name [...] unless that field's definition allows multiple field line values to be
# recombined as a comma-separated list"; Upgrade and Transfer-Encoding are lists, of which one member is taken here
SINGLETONS = frozenset(
    b"authorization host origin content-type content-length upgrade transfer-encoding expect http2-settings "
    b"sec-websocket-key sec-websocket-version".split()
)

# --- the request line ---

# RFC 9110 section 9.3, RFC 4918, RFC 3253, RFC 5323 and draft-ietf-httpbis-safe-method-w-body. Neither CONNECT, which
# asks for a tunnel, nor TRACE, which asks for an echo of credentials
METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE"}
    | {"LOCK", "UNLOCK", "REPORT", "SEARCH", "QUERY"}
)
# Those that the IANA registry of methods has besides: RFC 2068, 3253, 3648, 3744, 4437, 4791 and 5842
EXTENSION_METHODS = frozenset(
    {"ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "LABEL", "LINK", "MERGE", "MKACTIVITY", "MKCALENDAR"}
    | {"MKREDIRECTREF", "MKWORKSPACE", "ORDERPATCH", "REBIND", "UNBIND", "UNCHECKOUT", "UNLINK", "UPDATE"}
    | {"UPDATEREDIRECTREF", "VERSION-CONTROL"}
)
# RFC 9110 section 9.1: method = token, and "standardized methods are defined in all-uppercase US-ASCII letters".
# TRACK echoes as TRACE does, PRI begins HTTP/2, and WS is no method but the word for a handshake in `routes.yaml`
METHOD = r"(?!(?:CONNECT|TRACE|TRACK|PRI|WS)(?![A-Z-]))(?=[A-Z-]{1,32}(?![A-Z-]))[A-Z]+(?:-[A-Z]+)*"
_METHOD = re.compile(METHOD)


def is_method(name: str) -> bool:
    """Return whether a route may name a method, and a request have it: METHODS, and what is spelled like them."""
    return name in METHODS or _METHOD.fullmatch(name) is not None


# RFC 9110 section 9.2.1: methods that are "essentially read-only"; without TRACE
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
# RFC 9110 sections 9.3.1, 9.3.2 and 9.3.5: content in such a request "has no generally defined semantics"; section
# 9.3.7 for OPTIONS: "this specification does not define any use for such content"
BODILESS_METHODS = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))

# RFC 9112 section 3.2.1: origin-form = absolute-path [ "?" query ]; here any visible ASCII but "#", of which a reading
# follows
ORIGIN_FORM = re.compile(rb"/[!\"$-~]*")

MAX_TARGET = 8 * 1024
"""Bytes of a request target. RFC 9110 section 4.1: "It is RECOMMENDED that all senders and recipients support, at a
minimum, URIs with lengths of 8000 octets"."""

# --- the authority ---

# RFC 3986 section 3.2.2: host = IP-literal / IPv4address / reg-name; here an IP-literal is an IPv6 address, and a
# reg-name is without escapes and sub-delims, which no host of a web app has
NAME = r"[A-Za-z0-9._-]+"
HOST = rf"(?:\[[0-9A-Fa-f:.]+\]|{NAME})"
# RFC 3986 section 3.2.3: port = *DIGIT; here one to five, and no more than 65535, the last port of TCP
PORT = r"(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[0-5][0-9]{4}|[0-9]{1,4})"
# RFC 9110 section 7.2: Host = uri-host [ ":" port ]
AUTHORITY = rf"{HOST}(?::{PORT})?"
_HOST = re.compile(AUTHORITY.encode("ascii"))
_HOST_AND_PORT = re.compile(rf"({HOST}):({PORT})")
MAX_HOST = 255
"""Bytes of a Host: RFC 1035 section 2.3.4 has that bound for a name."""


def is_host(value: bytes) -> bool:
    """Return whether a value of Host, or of :authority, names one host, with or without a port."""
    return len(value) <= MAX_HOST and _HOST.fullmatch(value) is not None


def host_and_port(text: str) -> tuple[str, int] | None:
    """Read `host:port` into a host without brackets and a port; None where it is not both."""
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        return None
    return match[1].strip("[]"), int(match[2])
