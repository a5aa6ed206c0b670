"""Lookup source for the protected app itself."""

from __future__ import annotations

from collections.abc import Collection

from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.lookup import Call, Lookup, Missing, Reply
from sidecar.lookups.http import MAX_BODY, reply_of
from sidecar.net.app_reader import AppReader

PLACES = 64
"""Questions of one lookup to the app at once: each request that asks it costs the app two."""


class UpstreamSource:
    """A `Source`: asks the app that permits lead to. Nothing of its answer but the attributes has an effect."""

    places = PLACES

    def __init__(self, app: AppReader) -> None:
        self._app = app

    async def ask(self, call: Call, seconds: float) -> Reply:
        """GET what the call's warrant says. Raises Fault."""
        inquiry = call.lookup.inquiry
        if not isinstance(inquiry, AppInquiry) or call.app is None:
            raise TypeError(f"lookups.{call.lookup.name}: no question to the app")
        reply = reply_of(await self._app.get(call.app, max_body=MAX_BODY, deadline=max(seconds, 0.0)))
        if reply.status == 403 and inquiry.as_principal and call.lookup.missing is not Missing.EMPTY:
            # the app says that this is not the principal's: as with what is not there, or its code would tell which
            # ids there are (CWE-204)
            return reply._replace(status=404)
        return reply

    async def retain(self, lookups: Collection[Lookup]) -> None:
        """Leave it to the reload that knows the apps."""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._app.aclose()
