"""PEP for other proxies: the changes that a proxy makes to the request it forwards, for any protocol."""

from __future__ import annotations

from typing import NamedTuple, assert_never

from sidecar.gate.mcp_session import SESSION
from sidecar.gate.obligation import BindSession, Decide, KeepPrivate, Reduce, ReduceEither, ReduceLines, Watch
from sidecar.gate.own import IDENTITY_HEADERS, SET_BY_SIDECAR
from sidecar.gate.request import Raw
from sidecar.gate.verdict import Forward
from sidecar.wire.grammar import FORWARDED_BY_SOME, HOP_BY_HOP, Header

SETTABLE = (*SET_BY_SIDECAR, b"cookie")
"""Every header that a Handover may set, but for those that `to_app` names."""
_SET_BY_SIDECAR = frozenset(SET_BY_SIDECAR)
_FRAMING = (HOP_BY_HOP - FORWARDED_BY_SOME) | {b"host", b"expect"}
"""Headers of the asking proxy's own connections, which it writes anew (RFC 9110 section 7.6.1)."""


class Handover(NamedTuple):
    """Changes that a proxy must make to the request that it holds, so that the app gets what was permitted.

    `target` and `method` are what it must send. `set` are headers that take the place of all others of their name,
    `remove` are names of headers that must go, and `reply` are headers to add to the answer for the client. `privacy`
    is what its caches must keep to, None where the answer is the app's own business.
    """

    method: bytes
    target: bytes
    set: tuple[Header, ...]
    remove: tuple[bytes, ...]
    reply: tuple[Header, ...]
    privacy: KeepPrivate | None = None


def handover(permit: Forward, raw: Raw) -> Handover:
    """Return the changes for the proxy that holds `raw`, and passes on the app's answer. Raises ValueError for a permit
    that no such proxy can carry out."""
    ours, gone = header_changes(permit, raw)
    reply = [*permit.reply_headers, *[(b"set-cookie", cookie) for cookie in permit.cookies]]
    return Handover(permit.method, permit.target, ours, gone, tuple(reply), _privacy(permit))


def header_changes(permit: Forward, raw: Raw) -> tuple[tuple[Header, ...], tuple[bytes, ...]]:
    """Return what to set, in place of all others of its name, and what to remove: `raw.headers` with it applied are
    `permit.headers`."""
    ours: list[Header] = []
    cookies: list[bytes] = []
    sent: set[bytes] = set()
    for header in permit.headers:
        name = header[0]
        sent.add(name)
        if name in _SET_BY_SIDECAR or name in permit.reserved or (name == SESSION and header not in raw.headers):
            ours.append(header)
        elif name == b"cookie":
            cookies.append(header[1])
    if cookies:
        # RFC 9113 section 8.2.3: several are joined with "; "
        ours.append((b"cookie", b"; ".join(cookies)))
    gone = {name for name, _ in raw.headers if name not in sent and name not in _FRAMING}
    gone.update([name for name in IDENTITY_HEADERS if name not in sent])
    return tuple(ours), tuple(sorted(gone))


def _privacy(permit: Forward) -> KeepPrivate | None:
    privacy = None
    for obligation in permit.obligations:
        match obligation:
            case KeepPrivate():
                privacy = obligation
            case Reduce() | ReduceLines() | ReduceEither() | Decide() | Watch() | BindSession():
                raise ValueError("an answer to change, which another proxy has: the gate refuses such a route")
            case _:
                assert_never(obligation)
    return privacy
