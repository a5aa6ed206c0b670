"""Marks that tell caches what they may do with the app's answer to a principal (RFC 9111): none gives it to anybody
else.

The app says how long its answer is fresh. It does not know that the answer is for one person, or that a session rides
on it. `private` forbids a shared cache to store it, whatever else stands there (RFC 9111 sections 3 and 5.2.2.7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sidecar.bounded import remembered
from sidecar.wire.grammar import Header

CONTROL, VARY, EXPIRES = b"cache-control", b"vary", b"expires"

_FOR_SHARED_CACHES = frozenset((EXPIRES, b"surrogate-control", b"x-accel-expires", b"edge-control"))
"""Headers that shared caches read before Cache-Control, or instead of it."""
_TARGETED = b"-cache-control"
"""How the names of targeted fields end (RFC 9213 section 2.1): CDN-Cache-Control and those of each vendor."""
_SAID = _FOR_SHARED_CACHES | {CONTROL, VARY}


def keep_private(headers: Sequence[Header], vary: bytes, no_store: bool = False) -> list[Header]:
    """Return an answer's headers, names in lower case, so that no cache gives it to others than its principal.

    Cache-Control and Vary become one line each, last: with `private`, with `no-store` where a session rides on the
    answer (`no_store`), and with the headers that identified (`vary`). What shared caches read before it is taken away;
    without its Expires a browser would guess how long an answer is fresh (RFC 9111 section 4.2.2), and gets `no-cache`
    where no max-age stands.
    """
    said = [header for header in headers if header[0] in _SAID or header[0].endswith(_TARGETED)]
    if not said:
        unsaid = _UNSAID[no_store]
        return [*headers, unsaid, (VARY, vary)] if vary else [*headers, unsaid]
    kept = [header for header in headers if header not in said]
    control = private_control(b", ".join([value for name, value in said if name == CONTROL]), no_store)
    if b"max-age" not in control.lower() and any(name == EXPIRES for name, _ in said):
        control += b", no-cache"
    merged = merged_vary((*(value for name, value in said if name == VARY), vary))
    kept.append((CONTROL, control))
    if merged:
        kept.append((VARY, merged))
    return kept


def control_beside(no_store: bool) -> bytes:
    """Return the Cache-Control that another proxy adds beside the app's: of several the strictest counts (RFC 9111
    section 4.2.1), and `private` forbids what others allow (section 3)."""
    return _UNSAID[no_store][1]


_UNSAID: tuple[Header, Header] = ((CONTROL, b"private"), (CONTROL, b"private, no-store"))


def private_control(value: bytes, no_store: bool = False) -> bytes:
    """Return a Cache-Control that shared caches take for "not yours", and that says to a browser what it said before.

    Of a value that cannot be read `private` is left, with `no-store` and `no-cache` where it has these words.
    """
    return _read_control(value, True) if no_store else _private_control(value)


@remembered(256 * 1024)
def _private_control(value: bytes) -> bytes:
    return _read_control(value, False)


# RFC 9111 section 5.2 and RFC 9110 sections 5.6.1 to 5.6.4. Possessive where one class of bytes repeats, so that no
# value is read twice, and nowhere else: before Python 3.11.5, `re` goes on behind what a possessive group that fails
# has matched
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_TEXT = rb"[\t !#-\[\]-~\x80-\xff]*+"
_DIRECTIVE = re.compile(
    rb"[ \t]*+(?:(" + _TOKEN + rb")(?:=(" + _TOKEN + rb'|"' + _TEXT + rb"(?:\\[\t -~\x80-\xff]" + _TEXT + rb')*"))?)?'
    rb"[ \t]*+(?:,|\Z)"
)
# with an argument `private` is about some headers alone; the other two let a shared cache store what Authorization
# would forbid (RFC 9111 section 3.5)
_REPLACED = frozenset((b"private", b"public", b"s-maxage"))
# a cache that understands the status ignores no-store beside it (RFC 9111 section 5.2.2.3)
_LIFTS_NO_STORE = frozenset((b"must-understand", b"no-store"))


def _read_control(value: bytes, no_store: bool) -> bytes:
    begins = [b"private", b"no-store"] if no_store else [b"private"]
    replaced = _REPLACED | _LIFTS_NO_STORE if no_store else _REPLACED
    directives = _directives(value)
    if directives is None:
        words = value.lower()
        return b", ".join(
            [*begins, *(word for word in (b"no-store", b"no-cache") if word in words and word not in begins)]
        )
    return b", ".join([*begins, *(text for name, text in directives if name not in replaced)])


def _directives(value: bytes) -> list[tuple[bytes, bytes]] | None:
    """Read a Cache-Control as (name in lower case, the directive as it came); None if it is malformed."""
    found, at = [], 0
    while at < len(value):
        match = _DIRECTIVE.match(value, at)
        if match is None:
            return None
        if match[1] is not None:
            found.append((match[1].lower(), match[1] if match[2] is None else match[1] + b"=" + match[2]))
        at = match.end()
    return found


def merged_vary(values: Iterable[bytes]) -> bytes:
    """Return one Vary of several, each name once and as it came first; `*` stays the whole of it (RFC 9110 12.5.5)."""
    names: dict[bytes, bytes] = {}
    for value in values:
        for name in value.split(b","):
            text = name.strip(b" \t")
            if text:
                names.setdefault(text.lower(), text)
    return b"*" if b"*" in names else b", ".join(names.values())
