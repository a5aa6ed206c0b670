"""Cursor of a list in pages: where a page tells of the next one, in a `Link` header (RFC 8288) or in its JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from sidecar.gate.query import admitted, rule_of, with_values
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import Header
from sidecar.wire.json_slices import JsonText, Span

LINK: tuple[str, ...] = ()
"""As a place of the next page: the `Link` header."""
MAX_PAGES = 10
"""Further pages of one answer."""


@dataclass(frozen=True, slots=True)
class Refill:
    """`refill` of a route's items: how many further pages fill one that lost items, and where each tells of the next.

    `place` are the names that lead to it in the body, or LINK. With a `parameter` its value stands there, and no URL.
    `last` are other members that the answer has from the last page. `seconds` are for all further pages together.
    """

    pages: int
    place: tuple[str, ...] = LINK
    parameter: str = ""
    last: tuple[tuple[str, ...], ...] = ()
    seconds: float = 5.0


class PageOrigin(NamedTuple):
    """Request that a page answers: its path, the hosts by which the app may call itself, and the query of the client
    beside the one that was sent."""

    path: str
    hosts: frozenset[str]
    query: bytes
    sent: bytes


class Link(NamedTuple):
    """One value of a `Link` header, as it came and what it refers to."""

    text: bytes
    reference: str
    is_next: bool


_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# RFC 8288 section 3. Possessive where one class of bytes repeats, and nowhere else: see wire/caching.py
_QUOTED = rb'"[^"\\]*+(?:\\.[^"\\]*+)*"'
_PARAMETER = re.compile(rb";[ \t]*+(?:(" + _TOKEN + rb")[ \t]*+(?:=[ \t]*+(" + _QUOTED + rb'|[^\s;,"]++))?[ \t]*+)?')
_LINK = re.compile(rb"<([!#-;=?-~]*+)>[ \t]*+((?:" + _PARAMETER.pattern + rb")*)(?:,[ \t,]*+|\Z)")


def links_of(value: bytes) -> list[Link]:
    """Read the values of one `Link` header. Raises ValueError."""
    value = value.strip(b" \t,")
    found, at = [], 0
    while at < len(value):
        match = _LINK.match(value, at)
        if match is None:
            raise ValueError("a Link header that cannot be read")
        parameters: dict[bytes, bytes] = {}
        for name, said in _PARAMETER.findall(match[2]):
            # of several the first counts (RFC 8288 section 3.3)
            parameters.setdefault(name.lower(), said.strip(b'"'))
        # with an anchor it is a link of something else (section 3.2)
        is_next = b"next" in parameters.get(b"rel", b"").lower().split() and b"anchor" not in parameters
        text = value[match.start() : match.end(2)].rstrip(b" \t")
        found.append(Link(text, match[1].decode("ascii"), is_next))
        at = match.end()
    return found


def next_links(headers: Sequence[Header]) -> list[Link]:
    """List the links to the next page. Raises ValueError."""
    return [link for name, value in headers if name == b"link" for link in links_of(value) if link.is_next]


def with_next_links(headers: Sequence[Header], links: Sequence[Link]) -> list[Header]:
    """Return headers of which the links to the next page are these. What has none keeps its bytes. Raises
    ValueError."""
    made, left = [], [link.text for link in links]
    for name, value in headers:
        found = links_of(value) if name == b"link" else []
        if any(link.is_next for link in found):
            texts = left + [link.text for link in found if not link.is_next]
            left = []
            if not texts:
                continue
            value = b", ".join(texts)
        made.append((name, value))
    return made


def place_of(text: JsonText, path: Sequence[str]) -> Span | None:
    """Return where the value is to which names lead, None where there is none. Raises ValueError."""
    span = text.whole()
    for name in path:
        if text.data[span.start : span.end] == b"null":
            return None
        found = [member for member in text.members(span) if member.name == name]
        if not found:
            return None
        span = found[0].value
    return span


def next_query(refill: Refill, origin: PageOrigin, headers: Sequence[Header], text: JsonText) -> bytes | None:
    """Return the query of the next page, None if there is no next page, or it is not of the same list.

    The app is not trusted: only the query is taken from its answer. Raises ValueError for what cannot be read.
    """
    if refill.place == LINK:
        links = next_links(headers)
        if len(links) > 1:
            raise ValueError("more than one link to the next page")
        return _query_in(links[0].reference, origin) if links else None
    span = place_of(text, refill.place)
    said = None if span is None else text.value(span)
    if said is None or said is False or said == "":
        return None
    if refill.parameter:
        return _with_parameter(refill.parameter, said, origin.query)
    if not isinstance(said, str):
        raise ValueError("found no text in the place of the next page, expected a URL or a query")  # noqa: TRY004
    return _query_in(said, origin)


def _with_parameter(name: str, said: object, query: bytes) -> bytes:
    """The client's query with another value of a parameter."""
    if isinstance(said, bool) or not isinstance(said, str | int):
        raise ValueError("found no text and no whole number in the place of the next page")  # noqa: TRY004
    try:
        kept = admitted(query, rule_of(None, [name], given=False))
    except Refused as refused:
        raise ValueError(refused.detail) from None
    return with_values(kept, [(name, str(said))])


_PRINTABLE = re.compile(r"[!-~]+")


def _query_in(reference: str, origin: PageOrigin) -> bytes | None:
    """The query of a reference (RFC 3986 section 4.1) to the same list, or of one that is a query by itself."""
    if not _PRINTABLE.fullmatch(reference):
        raise ValueError("a reference to the next page with spaces or characters that no URL has")
    parts = urlsplit(reference)
    path, query = parts.path, parts.query
    if parts.scheme or parts.netloc:
        if parts.scheme not in ("", "http", "https") or parts.netloc.lower() not in origin.hosts:
            return None
    elif "=" in path and "/" not in path and not query:
        path, query = "", path
    elif path and not path.startswith("/"):
        path = origin.path.rpartition("/")[0] + "/" + path
    if path not in ("", origin.path) or (not path and parts.netloc):
        return None
    return _without_ours(query.encode("ascii"), origin)


def _without_ours(query: bytes, origin: PageOrigin) -> bytes:
    """A query of the app's without what the sidecar had put into the one that was sent: the gate puts it in again."""
    ours = Counter(map(_decoded, origin.sent.split(b"&"))) - Counter(map(_decoded, origin.query.split(b"&")))
    if not ours:
        return query
    return b"&".join([pair for pair in query.split(b"&") if _decoded(pair) not in ours])


def _decoded(pair: bytes) -> bytes:
    return unquote_to_bytes(pair.replace(b"+", b" "))
