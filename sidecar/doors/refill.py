"""Fills a page of a list that lost items with further pages of the app, each by a permit of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sidecar.doors.app_answer import report_fault, settled_whole
from sidecar.doors.door import Door
from sidecar.doors.holding import SMALL, Holding
from sidecar.gate.codes import Code
from sidecar.gate.obligation import HeldAnswer, Reduce
from sidecar.gate.request import Raw
from sidecar.gate.settle import Released
from sidecar.gate.verdict import Forward, Refuse
from sidecar.net.connection import Fault
from sidecar.net.upstream import Upstream
from sidecar.release.cursor import PageOrigin, Refill
from sidecar.release.items import ItemsRule
from sidecar.release.refill import ListPages, Page, read_page

DEADLINE, CHANGED = "deadline", "changed"
"""End of a refill in the log where its time was over, or other rules were in force; else it is the code of what
failed."""


async def refilled(
    door: Door, upstream: Upstream, holding: Holding, raw: Raw, permit: Forward, first: Released
) -> Released:  # fmt: skip
    """Return the answer to a request with what further pages add to it.

    The page that is there is whole in itself. So whatever fails with a further one ends the refill, and nothing of that
    page goes out.
    """
    rule, counts = _rule_of(permit), first.counts
    if rule is None or rule.refill is None or not counts or counts["kept"] >= counts["seen"]:
        return first
    refilling = _Refilling(door, upstream, holding, raw, permit, rule, rule.refill)
    answer = await refilling.run(HeldAnswer(first.status, first.headers, first.body), counts)
    return first._replace(headers=answer.headers, body=answer.body, cookies=refilling.cookies)


def _rule_of(permit: Forward) -> ItemsRule | None:
    for obligation in permit.obligations:
        if isinstance(obligation, Reduce) and isinstance(obligation.rule, ItemsRule):
            return obligation.rule
    return None


class _Ended(Exception):
    """A page was not taken. Its message is the reason, for the log."""


class _Refilling:
    """One page that is being filled. `cookies` are those of the last further permit that brought any."""

    def __init__(
        self, door: Door, upstream: Upstream, holding: Holding, raw: Raw, permit: Forward, rule: ItemsRule,
        refill: Refill,
    ) -> None:  # fmt: skip
        self._door = door
        self._upstream = upstream
        self._holding = holding
        self._raw = raw
        self._permit = permit
        self._rule = rule
        self._refill = refill
        self._origin = _origin_of(raw, permit)
        self.cookies: tuple[bytes, ...] = ()

    async def run(self, first: HeldAnswer, counts: Mapping[str, int]) -> HeldAnswer:
        """Add further pages to the first, and say in the permit's facts what was done."""
        try:
            page = read_page(self._rule, self._refill, self._origin, first, counts)
        except ValueError:
            # nothing is wrong with its items: it only does not say where the next one is
            self._tell({"pages": 1}, Code.ITEMS_UNREADABLE)
            return first
        pages = ListPages(self._rule, self._refill, page, self._origin.query)
        ended = ""
        try:
            async with asyncio.timeout(self._refill.seconds):
                while (query := pages.next()) is not None:
                    pages.take(await self._page(query, pages))
        except _Ended as end:
            ended = str(end)
        except TimeoutError:
            ended = DEADLINE
        self._tell({**pages.counts, "pages": pages.number}, ended)
        return pages.answer()

    def _tell(self, numbers: Mapping[str, int], ended: str) -> None:
        facts = self._permit.facts
        facts.items = {**(facts.items or {}), **numbers, **({"ended": ended} if ended else {})}

    async def _page(self, query: bytes, pages: ListPages) -> Page:
        """Ask for a page. Raises _Ended where there is none to take."""
        # what is put together is small, so that no large answers beside those of `Holding` wait for further pages
        most = min(self._rule.max_size, SMALL) - pages.size
        if most <= 0:
            raise _Ended(Code.ITEMS_TOO_MANY)
        permit = await self._permitted(query)
        try:
            response = await self._upstream.send(permit, None)
            try:
                held = HeldAnswer(response.status, response.headers)
                settled = await settled_whole(self._holding, permit, response, held, most)
            finally:
                response.close()
                # masks may have made it a large one
                self._holding.left(response)
        except Fault as fault:
            raise _Ended(report_fault(self._door, self._upstream, self._permit, fault)[0]) from None
        if isinstance(settled, Refuse):
            raise _Ended(settled.code)
        answer = HeldAnswer(settled.status, settled.headers, settled.body)
        try:
            page = read_page(self._rule, self._refill, self._origin, answer, settled.counts or {})
        except ValueError:
            raise _Ended(Code.ITEMS_UNREADABLE) from None
        if not pages.fits(page):
            raise _Ended(Code.ITEMS_TOO_MANY)
        return page

    async def _permitted(self, query: bytes) -> Forward:
        """Ask the gate for the page, as if its client had."""
        path = self._raw.target.partition(b"?")[0]
        target = path + b"?" + query if query else path
        verdict = await self._door.decide(self._raw._replace(target=target), None)
        if isinstance(verdict, Refuse | Forward):
            self.cookies = verdict.cookies or self.cookies
        if isinstance(verdict, Refuse):
            raise _Ended(verdict.code)
        # other rules or policies may be in force by now
        if not isinstance(verdict, Forward) or verdict.given is not None or _rule_of(verdict) is not self._rule:
            raise _Ended(CHANGED)
        return verdict


def _origin_of(raw: Raw, permit: Forward) -> PageOrigin:
    path, _, sent = permit.target.partition(b"?")
    hosts = [value for name, value in permit.headers if name in (b"host", b"x-forwarded-host")]
    return PageOrigin(
        path.decode("ascii"), frozenset(host.decode("latin-1").lower() for host in hosts),
        raw.target.partition(b"?")[2], sent,
    )  # fmt: skip
