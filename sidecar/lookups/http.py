"""Lookup source for hooks, by HTTP."""

from __future__ import annotations

from collections.abc import Collection

from sidecar.gate.hook import Hook
from sidecar.gate.lookup import Call, Lookup, Reply
from sidecar.lookups.asking import MAX_RUNNING
from sidecar.net.fetch import Fetch, Fetched
from sidecar.net.pool import Origin

MAX_BODY = 64 * 1024
MAX_BATCH = 1024 * 1024
"""Bytes of an answer about many."""


class HttpSource:
    """A `Source`: asks the hooks of all lookups, each origin by connections of its own."""

    places = MAX_RUNNING

    def __init__(self) -> None:
        self._fetches: dict[str, Fetch] = {}

    async def ask(self, call: Call, seconds: float) -> Reply:
        """GET what the call says. Raises Fault."""
        hook = call.lookup.inquiry
        if not isinstance(hook, Hook):
            raise TypeError(f"lookups.{call.lookup.name}: not a hook")
        fetch = self._fetches.get(hook.origin)
        if fetch is None:
            fetch = self._fetches[hook.origin] = Fetch(Origin.parse(hook.origin))
        headers = [(b"accept", b"application/json"), *call.trace]
        if hook.bearer:
            headers.append((b"authorization", b"Bearer " + hook.bearer.encode("ascii")))
        target = call.question.encode("ascii")
        most = MAX_BATCH if call.ids else MAX_BODY
        return reply_of(await fetch.get(target, headers, max_body=most, deadline=max(seconds, 0.0)))

    async def retain(self, lookups: Collection[Lookup]) -> None:
        """Close the connections to other origins than theirs."""
        origins = {lookup.inquiry.origin for lookup in lookups if isinstance(lookup.inquiry, Hook)}
        for gone in self._fetches.keys() - origins:
            await self._fetches.pop(gone).aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        for fetch in self._fetches.values():
            await fetch.aclose()


def reply_of(answer: Fetched) -> Reply:
    """An answer, of which its cookies, redirects and all other headers are left out."""
    kinds = [value for name, value in answer.headers if name == b"content-type"]
    kind = kinds[0].partition(b";")[0].strip().lower().decode("latin-1") if len(kinds) == 1 else ""
    return Reply(answer.status, kind, answer.body)
