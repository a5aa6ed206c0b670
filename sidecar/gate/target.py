"""Target of a request: its path and its query in the one canonical reading, or a refusal."""

from __future__ import annotations

import binascii
import re
from enum import StrEnum

from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import MAX_TARGET

MAX_SEGMENTS = 256
"""Of a path."""
MAX_ESCAPES = 768
"""Of a path: 256 characters of three octets. Of escaped percent signs, a sixth of it. With these bounds no target costs
more to read than a token costs to verify."""


class Oddity(StrEnum):
    """Part of a target or request that two servers could read differently, and a route may allow by name (`allow:` in
    routes.yaml)."""

    ENCODED_SLASH = "encoded_slash"
    ENCODED_PERCENT = "encoded_percent"
    SEMICOLON = "semicolon"
    EMPTY_SEGMENT = "empty_segment"
    REQUEST_BODY = "request_body"


NO_ODDITIES: frozenset[Oddity] = frozenset()

# RFC 3986 section 3.3: pchar = unreserved / pct-encoded / sub-delims / ":" / "@"; without "%" and ";" nothing is odd
_PLAIN_PATH = re.compile(rb"(?:/[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?")
_PATH_OCTETS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~!$&'()*+,=:@;/-%"
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_QUERY = re.compile(rb"[!\"$-~]*")  # visible ASCII without "#", as it came
_ESCAPE = re.compile(rb"%(?=[0-9A-Fa-f]{2})")
# of an unreserved character (RFC 3986 section 2.3)
_NEEDLESS_ESCAPE = re.compile(rb"%(?=2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|5[0-9AaFf]|7[0-9AaEe])")
_NEVER_ESCAPED = re.compile(rb"%(?:[01][0-9A-Fa-f]|23|3[Ff]|5[Cc]|7[Ff])")
_ODD = (
    (b"%2f", Oddity.ENCODED_SLASH), (b"%25", Oddity.ENCODED_PERCENT), (b"%3b", Oddity.SEMICOLON),
    (b";", Oddity.SEMICOLON),
)  # fmt: skip
# C1 controls are controls too, to terminals and to some parsers
_C1 = re.compile(r"[\x80-\x9f]")
_ESCAPED_SLASH = "\0"
"""Stands for it while a path is one text: an escaped NUL is refused before."""
# a dot segment, or an empty part beside an escaped slash or before a ";", wherever the path is cut
_HIDDEN = re.compile(r"[/\0](?:\.{1,2}(?:[/\0;]|\Z)|;)|\0(?:[/\0]|\Z)|/\0")
_NEVER_UNDER_TWO = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\\#?/;]")
_DOTS = frozenset((".", ".."))
_MAX_ESCAPES_OF_ESCAPES = 8


def read_target(target: bytes) -> tuple[bytes, tuple[str, ...], bytes, frozenset[Oddity]]:
    """Read an origin-form target (RFC 9112 section 3.2.1) into canonical path, decoded segments, query and oddities.

    Escapes of unreserved characters are decoded (RFC 3986 section 6.2.2.2) and nothing else is touched.
    Raises Refused: TARGET_TOO_LONG over 8 KiB, 256 segments or 768 escapes of the path, TARGET_AMBIGUOUS for what
    can be read in two ways.
    """
    if len(target) > MAX_TARGET:
        raise Refused(Code.TARGET_TOO_LONG, f"{len(target)} bytes, at most {MAX_TARGET}")
    path, _, query = target.partition(b"?")
    if len(path) > MAX_SEGMENTS:
        _refuse_long(path)
    if query and not _QUERY.fullmatch(query):
        raise Refused(Code.TARGET_AMBIGUOUS, "a query with a byte that is not visible ASCII, or '#'")
    # a dot segment starts right after a slash
    if path and b"/." not in path and _PLAIN_PATH.fullmatch(path):
        return path, tuple(path[1:].decode("ascii").split("/")), query, NO_ODDITIES
    canonical, segments, oddities = _read_odd_path(path)
    return canonical, segments, query, oddities


def _refuse_long(path: bytes) -> None:
    if path.count(b"/") > MAX_SEGMENTS:
        raise Refused(Code.TARGET_TOO_LONG, f"{path.count(b'/')} segments, at most {MAX_SEGMENTS}")
    if path.count(b"%") > MAX_ESCAPES or path.count(b"%25") > MAX_ESCAPES // 6:
        raise Refused(
            Code.TARGET_TOO_LONG, f"{path.count(b'%')} escapes, at most {MAX_ESCAPES}, and {MAX_ESCAPES // 6} of '%'"
        )


def _read_odd_path(path: bytes) -> tuple[bytes, tuple[str, ...], frozenset[Oddity]]:
    """-> (the path as it is sent, its segments as texts, what is odd about it). Refuses what no route may allow.

    The path is looked at as a whole, a fixed number of times: with a look at each segment a client without a token
    could ask for as many as there are bytes.
    """
    if not path.startswith(b"/"):
        raise Refused(Code.TARGET_AMBIGUOUS, "a target that is not a path")
    if path.translate(None, _PATH_OCTETS) or _BROKEN_ESCAPE.search(path):
        raise Refused(Code.TARGET_AMBIGUOUS, "a byte that is no pchar of RFC 3986, or a broken escape")
    oddities: set[Oddity] = set()
    canonical, folded = path, path
    if b"%" in path:
        canonical = _without_needless_escapes(path)
        folded = canonical.lower()
    oddities.update([oddity for text, oddity in _ODD if text in folded])
    segments = _read_segments(canonical)
    if b"//" in canonical:
        oddities.add(Oddity.EMPTY_SEGMENT)
    return canonical, tuple(segments), frozenset(oddities)


def _without_needless_escapes(path: bytes) -> bytes:
    canonical = _unescape(path, _NEEDLESS_ESCAPE)
    # an escaped dot beside another dot is a dot segment to one who cuts the segment elsewhere
    if canonical.count(b"..") != path.count(b".."):
        raise Refused(Code.TARGET_AMBIGUOUS, "escaped dots")
    never = _NEVER_ESCAPED.search(canonical)
    if never is not None:
        raise Refused(Code.TARGET_AMBIGUOUS, f"the escape {never[0].decode('ascii')}")
    return canonical


def _unescape(data: bytes, escape: re.Pattern[bytes]) -> bytes:
    """Decode the escapes whose "%" the pattern finds, at the speed of C: as quoted-printable (RFC 2045 section 6.7)."""
    return binascii.a2b_qp(escape.sub(b"=", data.replace(b"=", b"=3D")))


def _read_segments(path: bytes) -> list[str]:
    """The segments of a canonical path with every escape decoded. No reading of one, however often decoded and
    wherever cut, may give a dot segment or hide a separator."""
    text = path.decode("ascii")
    if b"%" in path:
        marked = path.replace(b"%2F", b"%00").replace(b"%2f", b"%00")
        text = _text(binascii.a2b_qp(marked.replace(b"=", b"=3D").replace(b"%", b"=")))
    # the pattern alone would look at each character
    if ("/." in text or "/;" in text or _ESCAPED_SLASH in text) and _HIDDEN.search(text):
        raise Refused(Code.TARGET_AMBIGUOUS, "a dot segment")
    segments = text[1:].split("/")
    if _ESCAPED_SLASH in text:
        segments = [segment.replace(_ESCAPED_SLASH, "/") for segment in segments]
    if "%" in text:
        _refuse_hidden_escapes([segment for segment in segments if "%" in segment])
    return segments


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(Code.TARGET_AMBIGUOUS, "escapes that are not UTF-8") from None
    if not text.isascii() and _C1.search(text):
        raise Refused(Code.TARGET_AMBIGUOUS, "a control character")
    return text


def _refuse_hidden_escapes(texts: list[str]) -> None:
    """Decode the segments again, all of them at once, until nothing changes."""
    for _ in range(_MAX_ESCAPES_OF_ESCAPES):
        decoded = _text(_unescape("\n".join(texts).encode("utf-8"), _ESCAPE)).split("\n")
        if decoded == texts:
            return
        if len(decoded) != len(texts):
            raise Refused(Code.TARGET_AMBIGUOUS, "a control character under two escapes")
        changed = [(before, after) for before, after in zip(texts, decoded, strict=True) if before != after]
        texts = [after for _, after in changed]
        joined, before = "\n".join(texts), "\n".join([text for text, _ in changed])
        if joined.count("..") != before.count("..") or not _DOTS.isdisjoint(texts) or _NEVER_UNDER_TWO.search(joined):
            raise Refused(Code.TARGET_AMBIGUOUS, "dots or a separator under two escapes")
    raise Refused(Code.TARGET_AMBIGUOUS, "escapes of escapes")
