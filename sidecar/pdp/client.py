"""Base of the PDP clients, for any protocol: a circuit breaker, fair queueing, and encoded principals."""

from __future__ import annotations

from collections.abc import Callable

from sidecar.bounded import Bounded
from sidecar.gate.codes import Code, Dependency
from sidecar.gate.identity import Principal
from sidecar.net.breaker import Breaker
from sidecar.net.shares import Shares
from sidecar.record.reasons import Reason, ReportFault

MAX_CALL = 2 * 1024 * 1024
"""Bytes of the resources in one message: half of what Cerbos accepts."""
MAX_QUESTION = 4 * 1024 * 1024 - 64 * 1024
"""Bytes of a message that Cerbos takes by default (gRPC's own limit of 4 MiB), with room for what stands around it;
JSON is no shorter."""
_PRINCIPALS = 4 * 1024 * 1024
"""Bytes of encoded principals: about 1,000 with 20 claims."""
AT_ONCE = 8
"""Calls of one question under way at once, all within its one deadline."""
COUNTS = frozenset((Code.PDP_UNAVAILABLE, Code.PDP_TIMEOUT, Code.PDP_BAD_ANSWER, Code.PDP_PARTIAL))
"""Faults that open the breaker: it does not answer. One that refuses a question is there, and closes it."""


class Client:
    """One PDP. `timeout` in seconds, `now` monotonic seconds, `limit` calls at once; `tell` writes a principal as the
    PDP is told of it. `report` is told of each fault in
    reaching it; `place` names it there, by its setting and address."""

    def __init__(
        self, *, timeout: float, now: Callable[[], float], limit: int, tell: Callable[[Principal], bytes],
        place: str, report: ReportFault,
    ) -> None:  # fmt: skip
        self._timeout = timeout
        self._breaker = Breaker(now)
        self.shares = Shares(limit)
        self.questions = 0
        """Questions since the start, and the calls in which they were asked."""
        self.calls = 0
        self._tell = tell
        self._place = place
        self._report = report
        self._principals: Bounded[int, tuple[Principal, bytes]] = Bounded(_PRINCIPALS)

    @property
    def is_open(self) -> bool:
        """Return whether the breaker turns calls away."""
        return self._breaker.is_open

    def encoded_principal(self, principal: Principal) -> bytes:
        """Return the encoded principal; recent ones are cached by identity."""
        known = self._principals.get(id(principal))
        if known is not None and known[0] is principal:
            return known[1]
        encoded = self._tell(principal)
        self._principals.put(id(principal), (principal, encoded))
        return encoded

    def _unreachable(self, reason: Reason, detail: str) -> None:
        """Tell of a fault in reaching it."""
        self._report(Dependency.PDP, self._place, reason, detail)

    def _failed(self, code: Code, waited: bool) -> None:
        """Tell the breaker of a call without an answer: a timeout after a wait for a place says nothing of the PDP."""
        if code in COUNTS and not (waited and code is Code.PDP_TIMEOUT):
            self._breaker.failed()
