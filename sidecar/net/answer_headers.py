"""Headers of the app's answer that are for the client, and those that are not."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.bounded import Bounded
from sidecar.gate.own import IDENTITY_HEADERS, OWN_COOKIES
from sidecar.wire.grammar import FOLDED, HOP_BY_HOP, Header, list_members

_IDENTITY = frozenset(IDENTITY_HEADERS)
_OWN_COOKIES = tuple(name.lower() for name in OWN_COOKIES)
_SET_COOKIES = frozenset((b"set-cookie", b"set-cookie2"))


# an app may choose names anew for each answer: about 700 of them
_FATES: Bounded[bytes, bool] = Bounded(
    256 * 1024, preset=dict.fromkeys(HOP_BY_HOP, False) | dict.fromkeys(_SET_COOKIES, True)
)
"""Names in lower case -> whether such a header is for the client. It learns."""
_PLAIN_CONNECTIONS = frozenset((b",keep-alive", b",close"))


def clean_headers(headers: Sequence[Header]) -> list[Header]:
    """An answer's end-to-end headers, for the client: without those of the connection and those that it names, the
    sidecar's identity headers in any spelling, and cookies of the sidecar's own names."""
    kept: list[Header] = []
    connection = b""
    for header in headers:
        name = header[0]
        fate = _FATES.get(name)
        if fate is None:
            fate = name.translate(FOLDED) not in _IDENTITY
            _FATES.put(name, fate, 33 + len(name))
        if fate:
            # a cookie without a name is sent back as its value alone, which then reads as a name
            if name not in _SET_COOKIES or not header[1].lstrip(b" \t=").lower().startswith(_OWN_COOKIES):
                kept.append(header)
        elif name == b"connection":
            connection += b"," + header[1]
    if connection and connection.lower() not in _PLAIN_CONNECTIONS:
        nominated = set(list_members(connection))
        kept = [header for header in kept if header[0] not in nominated]
    return kept
