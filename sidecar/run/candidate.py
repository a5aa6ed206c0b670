"""Composes the candidate policies: settings -> a second Cerbos of our own, which is asked beside the requests.

Nothing that serves depends on it: where it cannot be started, that is logged, shown and tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from sidecar.config.setting_table import Settings
from sidecar.gate.asking import Clock
from sidecar.pdp.candidate import Candidate, DecisionDifference
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.compiling import problems_of
from sidecar.pdp.embedded import EmbeddedCerbos
from sidecar.pdp.policy_files import PolicyFault, stamp_of
from sidecar.pdp.policy_reload import FollowedPolicies, PolicyReload, PolicyState, publish_to
from sidecar.record.journal import Journal
from sidecar.record.line import MAX_ROLES, CandidateDiffers, PolicyEffect
from sidecar.run.errors import Errors, StartError, blaming
from sidecar.run.pdp import cerbos_binary, embedded_reload
from sidecar.run.tasks import Tasks

log = logging.getLogger("sidecar.candidate")

CANDIDATE = "_AUTHORIZATION_SIDECAR_CANDIDATE"
"""Set by the parent for its workers: the socket of its candidate Cerbos, and the file that tells which policies it has.
No setting of a user."""
TIMEOUT = 5.0
"""Seconds for an answer of the candidate: nobody waits for it."""
CALLS = 4
"""Calls to the candidate at once."""
LOOK_EVERY, AGAIN_AFTER = 1.0, 60.0
"""Seconds between two looks at policies that could not be used, and until they are tried again unchanged."""


class CandidateCerbos:
    """The Cerbos of the candidate policies, which this process runs. Raises OSError when made, if there is no binary or
    no such folder."""

    def __init__(self, folder: Path, binary: Path, now: Clock, *, strict: bool) -> None:
        self.embedded = EmbeddedCerbos(folder, binary=str(binary), strict=strict)
        self._file = self.embedded.snapshot.link.with_name("state.json")
        self.reload: PolicyReload = embedded_reload(self.embedded, now, publish_to(self._file))
        self._folder, self._binary = folder, binary

    @property
    def told_to_workers(self) -> str:
        """Its socket and the file of its state, as CANDIDATE has them for a worker."""
        return f"{self.embedded.target} {self._file}"

    @property
    def state(self) -> PolicyState:
        """Which candidate policies are in force."""
        return self.reload.state

    async def run(self) -> None:
        """Start it as soon as its policies can be used, and follow their changes, for ever."""
        while not await self._started():
            pass
        await self.reload.watch()

    async def _started(self) -> bool:
        """Start it -> whether it has started; if not, when there is a reason to try again."""
        before = await asyncio.to_thread(stamp_of, self._folder)
        try:
            # it names places, where a Cerbos that ends says less
            if problems := await asyncio.to_thread(problems_of, self._binary, self._folder):
                raise PolicyFault(problems)  # noqa: TRY301 - both are told alike
            await self.embedded.start()
        except (OSError, PolicyFault) as error:
            # the reason is in the message
            log.error("the candidate policies cannot be used, and requests go on without them:\n%s", error)  # noqa: TRY400
            self.state.fault = str(error)
        else:
            return True
        again = asyncio.get_running_loop().time() + AGAIN_AFTER
        while asyncio.get_running_loop().time() < again:
            await asyncio.sleep(LOOK_EVERY)
            if await asyncio.to_thread(stamp_of, self._folder) != before:
                break
        return False

    async def aclose(self) -> None:
        """Stop it."""
        await self.reload.aclose()
        await self.embedded.stop()


class _Followed(NamedTuple):
    """The Cerbos of the candidate policies, which the parent of this process runs."""

    policies: FollowedPolicies

    @property
    def state(self) -> PolicyState:
        return self.policies.state

    async def run(self) -> None:
        await self.policies.watch()

    async def aclose(self) -> None:
        await self.policies.aclose()


class CandidatePolicies:
    """The candidate policies as a process that serves asks them: who runs them, and how they are asked."""

    def __init__(self, cerbos: CandidateCerbos | _Followed, target: str) -> None:
        self._cerbos = cerbos
        self._pdp = Cerbos(target, timeout=TIMEOUT, now=time.monotonic, limit=CALLS)
        self._candidate: Candidate | None = None

    @property
    def failed(self) -> bool:
        """Return whether they give no answer."""
        return not self._cerbos.state.generation or (self._candidate is not None and bool(self._candidate.fault))

    def shown(self) -> dict[str, object]:
        """Return the state for `/config`."""
        state = self._cerbos.state
        return {"revision": state.revision, "reload": state.readiness(), "failed": self.failed}

    def begin(self, journal: Journal, revision: Callable[[], str], tasks: Tasks) -> None:
        """Compare from now on what `journal` is told. `revision` is that of the policies in force."""

        def tell(found: DecisionDifference) -> None:
            journal.write(_line_of(found, journal.time()))

        self._candidate = candidate = Candidate(
            self._pdp, self._cerbos.state, revision, journal.metrics.candidate, tell
        )
        journal.compare = candidate.put
        tasks.spawn(self._cerbos.run())
        tasks.spawn(candidate.run())

    async def aclose(self) -> None:
        """Close what was opened."""
        await self._pdp.aclose()
        await self._cerbos.aclose()


def _line_of(found: DecisionDifference, now: str) -> CandidateDiffers:
    facts, resource = found.facts, found.resource
    says: tuple[PolicyEffect, PolicyEffect] = ("allow", "deny") if found.ours else ("deny", "allow")
    return CandidateDiffers(
        now, facts.request_id, facts.route, resource.kind, resource.id, resource.action, facts.principal,
        facts.roles[:MAX_ROLES], *says, found.policy or None, found.candidate_policy or None, found.revision or None,
        found.candidate_revision or None, found.untold or None,
    )  # fmt: skip


def candidate_cerbos(settings: Settings, now: Clock) -> CandidateCerbos | None:
    """Make the Cerbos of the candidate policies, not yet started; None where there is none. Raises StartError."""
    if not settings.candidate_policies:
        return None
    errors = Errors()
    folder, binary = errors.tried(candidate_folder, settings), errors.tried(cerbos_binary, settings)
    if folder is None or binary is None:
        raise StartError(*errors.problems)
    with blaming("SIDECAR_CANDIDATE_POLICIES"):
        return CandidateCerbos(folder, binary, now, strict=settings.cerbos_strict == "on")


def candidate_folder(settings: Settings) -> Path:
    """Return the folder of the candidate policies. Raises StartError where there is none."""
    folder = Path(settings.candidate_policies)
    if not folder.is_dir():
        raise StartError(
            f"SIDECAR_CANDIDATE_POLICIES: found no folder {settings.candidate_policies!r}, expected Cerbos policies"
        )
    return folder


def candidate_policies(settings: Settings, environ: Mapping[str, str], now: Clock) -> CandidatePolicies | None:
    """Make what asks the candidate policies, None where there are none. Raises StartError."""
    if CANDIDATE in environ:
        target, _, state = environ[CANDIDATE].partition(" ")
        return CandidatePolicies(_Followed(FollowedPolicies(Path(state))), target)
    cerbos = candidate_cerbos(settings, now)
    return None if cerbos is None else CandidatePolicies(cerbos, cerbos.embedded.target)
