"""Ids of sessions at MCP servers, for whom they were given alone: a client gets the server's behind a keyed tag (R28).

The specification (2025-11-25, "Session Hijacking") wants a session to be its user's, and no proof of who that is. The
tag says so without a store: it holds in every worker and replica that has the key, and after a restart. Revisions from
2026-07-28 on have no sessions.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence

from sidecar.wire import base64url

SESSION = b"mcp-session-id"
MAX_ID = 1024
"""Bytes of a server's id."""
TAG = 16
"""Bytes of a tag."""
_PURPOSE = b"sidecar mcp session"
# visible ASCII, as the specification says
_ID = re.compile(rb"[!-~]{1,%d}" % MAX_ID)
_BOUND = re.compile(rb"([A-Za-z0-9_-]{22})\.([!-~]{1,%d})" % MAX_ID)


class SessionBinding:
    """Ids of the sessions of one principal at one server."""

    def __init__(self, keys: Sequence[bytes], parts: Iterable[str]) -> None:
        self._keys = keys
        self._parts = parts
        self._given: tuple[bytes, bytes] | None = None

    def bind(self, own: bytes) -> bytes:
        """The id that a client gets for the server's own. Raises ValueError for what is no id."""
        if self._given is not None and self._given[0] == own:
            # most answers name the session of their request
            return self._given[1]
        if not _ID.fullmatch(own):
            raise ValueError(f"{SESSION.decode()}: expected 1 to {MAX_ID} visible characters of ASCII")
        return self._tag(self._keys[0], own) + b"." + own

    def own(self, bound: bytes) -> bytes | None:
        """The server's own id of one that a client names, None where it was not given to this principal."""
        match = _BOUND.fullmatch(bound)
        if match is None:
            return None
        tag, own = match.groups()
        # no early end: the time tells nothing of which key it was
        found = [hmac.compare_digest(self._tag(key, own), tag) for key in self._keys]
        if found[0]:
            self._given = (own, bound)
        return own if any(found) else None

    def _tag(self, key: bytes, own: bytes) -> bytes:
        texts = [part.encode("utf-8", "surrogatepass") for part in self._parts]
        # each behind its length, so that no two lists of parts make one text
        context = b"".join([b"%d:%b" % (len(text), text) for text in texts])
        digest = hmac.digest(key, context + own, "sha256")
        return base64url.encode(digest[:TAG])


class McpSessions:
    """Binds sessions by keys that are derived of secrets: the first one binds, and what any of them bound is taken.
    Raises ValueError without a secret."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._keys = tuple([hmac.digest(secret.encode("utf-8"), _PURPOSE, "sha256") for secret in secrets])
        if not self._keys:
            raise ValueError("expected a secret")

    def of(self, *parts: str) -> SessionBinding:
        """The binding for these together: the route, its app, and all that says who has come."""
        return SessionBinding(self._keys, parts)
