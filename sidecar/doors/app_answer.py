"""The app's answer at a door: held as a whole where its permit demands that, and what its faults are called."""

from __future__ import annotations

from sidecar.doors.door import Door
from sidecar.doors.holding import Holding
from sidecar.gate.codes import Code, Dependency
from sidecar.gate.obligation import HeldAnswer
from sidecar.gate.settle import Released, settle_whole
from sidecar.gate.verdict import Forward, Refuse
from sidecar.net.connection import Fault, Response
from sidecar.net.room import NoRoom, owner_of
from sidecar.net.upstream import Upstream
from sidecar.record.reasons import FaultKind

UPSTREAM_CODES = {
    FaultKind.UNAVAILABLE: Code.UPSTREAM_UNAVAILABLE,
    FaultKind.TIMEOUT: Code.UPSTREAM_TIMEOUT,
    FaultKind.PROTOCOL: Code.UPSTREAM_PROTOCOL,
    FaultKind.PARTIAL: Code.UPSTREAM_PARTIAL,
    FaultKind.OPEN: Code.UPSTREAM_OPEN,
    FaultKind.BUSY: Code.UPSTREAM_BUSY,
    # of no app: one refuses by a status
    FaultKind.AUTH: Code.UPSTREAM_PROTOCOL,
}


def report_fault(door: Door, upstream: Upstream, permit: Forward, fault: Fault) -> tuple[Code, str]:
    """Tell of a fault of the app. -> (its code, its detail for the decision log)"""
    door.report(Dependency.UPSTREAM, upstream.place(permit), fault.reason, fault.detail)
    return UPSTREAM_CODES[fault.kind], str(fault)


async def settled_whole(
    holding: Holding, permit: Forward, response: Response, held: HeldAnswer, most: int
) -> Released | Refuse:  # fmt: skip
    """Settle what needs all of an answer, of `most` bytes at most. It has a place to go out until it has `left`. Raises
    Fault."""
    owner = owner_of(permit.facts.asker, permit.facts.peer)
    try:
        async with holding.hold(response.read, most, response.length, owner) as kept:
            settled = await settle_whole(permit, held._replace(body=kept.data if kept.whole else None))
            if isinstance(settled, Released) and not kept.whole:
                # shadow mode releases what was too large to be judged
                settled = settled._replace(before=kept.data)
            if isinstance(settled, Released):
                # before the place among those that are held is given to another
                await holding.leave(response, len(settled.body or settled.before), owner)
            return settled
    except NoRoom as error:
        return Refuse(Code.UPSTREAM_BUSY, permit.facts, str(error), (), permit.reply_headers, permit.cookies)
