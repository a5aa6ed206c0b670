"""Composes the plans of the PDP: who is asked for them, and how far the policies in force let them be trusted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.gate.narrowing import ListQuestion
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.cerbos_plan import CerbosPlans
from sidecar.pdp.embedded import EmbeddedCerbos
from sidecar.pdp.policy_reload import PolicyState
from sidecar.plans.narrow import Narrower, PlanTrust, SignFilter

if TYPE_CHECKING:
    from sidecar.study.plannable import Plannable

READ_WITHIN = 1.0
"""Seconds that a request waits for the policies to be read: then its list is not narrowed."""

FindPolicies = Callable[[], tuple[int, Path] | None]
"""Tells the policies in force: their generation and a folder that holds them; None where that is not known."""


class PolicyTrust:
    """Tells how far plans may be trusted, by the text of the policies in force, which are read when first asked for."""

    def __init__(self, in_force: FindPolicies, *, strict: bool) -> None:
        self._in_force = in_force
        self._strict = strict
        self._read: tuple[tuple[int, Path], asyncio.Task[Plannable]] | None = None

    async def trusted(self, question: ListQuestion) -> PlanTrust:
        """Tell of one question. Policies that are not known yet warrant nothing."""
        version = self._in_force()
        if version is None:
            return PlanTrust()
        if self._read is None or self._read[0] != version:
            self._read = version, asyncio.get_running_loop().create_task(self._plannable(version[1]))
        reading = self._read[1]
        if not reading.done():
            await asyncio.wait([reading], timeout=READ_WITHIN)
        if not reading.done() or reading.cancelled() or reading.exception() is not None:
            return PlanTrust()
        return reading.result()(question)

    async def _plannable(self, folder: Path) -> Plannable:
        # what reads policies is not needed by a sidecar that narrows no list
        from sidecar.study.plannable import Plannable
        from sidecar.study.policies import parse_policies

        # in a thread: a thousand files take longer to read than requests may wait
        policies = await asyncio.to_thread(parse_policies, folder)
        return Plannable(policies, strict=self._strict)


def narrowing(
    cerbos: Cerbos, embedded: EmbeddedCerbos | None, state: PolicyState | None, folder: Path, *, strict: bool,
    sign: SignFilter | None = None,
) -> Narrower:  # fmt: skip
    """Make the gate's port for plans; `state` is that of the policies in `folder`, None where nobody proves it.
    `sign` signs the filters that go in a header."""

    def in_force() -> tuple[int, Path] | None:
        if embedded is not None:
            # Cerbos reads what this link leads to, and nothing else
            return 0, embedded.snapshot.link.resolve()
        known = state is not None and state.generation and not state.fault
        return (state.generation, folder) if state is not None and known else None

    return Narrower(CerbosPlans(cerbos).plan, PolicyTrust(in_force, strict=strict).trusted, sign)
