"""Mode: which refusals count, of which routes and for whom; the others are recorded, and the request is forwarded."""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple, get_args

from sidecar.gate.budget import Budget
from sidecar.gate.codes import Code, Kind

Mode = Literal["enforce", "shadow-policy", "shadow"]
"""`enforce`: each refusal counts. `shadow-policy`: those of the rules and policies only stand in the log. `shadow`: all
do."""
MODES: tuple[Mode, ...] = get_args(Mode)
"""From the strictest on."""

OF_RULES = frozenset(
    (
        Code.BODY_TOO_LARGE, Code.BODY_TYPE_UNSUPPORTED, Code.BODY_INVALID, Code.SEGMENT_INVALID,
        Code.REFERENCE_INVALID, Code.QUERY_NOT_ALLOWED, Code.PROXY_UNABLE, Code.ROUTE_UNMAPPED, Code.METHOD_UNMAPPED,
        Code.OPERATION_UNMAPPED, Code.NO_ROLES, Code.SCOPE_MISSING, Code.CLAIM_MISSING, Code.CLAIM_INVALID,
        Code.IDENTITY_HEADER_TOO_LARGE,
        *(code for code in Code if code.kind in (Kind.RESOURCE, Kind.DECISION)),
    )
)  # fmt: skip
"""Refusals that another `routes.yaml`, hook or policy might not give: what `shadow-policy` only records."""
AMBIGUOUS = frozenset(code for code in Code if code.kind is Kind.REQUEST) - OF_RULES
"""Refusals of what servers may read differently, so that it may be meant for any route."""

EVERYBODY = 100


def bucket_of(principal: str) -> int:
    """Return the place of a principal among hundred, by its id: the same at all routes, and in all processes."""
    return int.from_bytes(hashlib.sha256(principal.encode("utf-8", "surrogatepass")).digest()[:4], "big") % EVERYBODY


class RouteMode(NamedTuple):
    """Mode of a route or an action: `enforce` for so many percent of the principals, `otherwise` for all others and for
    whoever is not identified; and for everybody once the `budget` is spent."""

    share: int
    otherwise: Mode
    budget: Budget | None = None

    def __str__(self) -> str:
        if self.budget is not None:
            spent = "spent" if self.budget.spent else f"of {self.budget}"
            return f"enforce for {self.share}%, otherwise {self.otherwise}, budget {spent}"
        if self.varies:
            return f"enforce for {self.share}%, otherwise {self.otherwise}"
        return "enforce" if self.share else self.otherwise

    def of(self, principal: str) -> Mode:
        """Return the mode for a principal, "" where nobody is identified."""
        if self.budget is not None and self.budget.spent:
            return self.otherwise
        if self.share == EVERYBODY:
            return "enforce"
        return "enforce" if self.share and principal and bucket_of(principal) < self.share else self.otherwise

    def shares(self) -> dict[Mode, float]:
        """Return which part of the principals is in each mode now."""
        part = 0.0 if self.budget is not None and self.budget.spent else self.share / EVERYBODY
        shares: dict[Mode, float] = dict.fromkeys(MODES, 0.0)
        shares["enforce"] += part
        shares[self.otherwise] += 1.0 - part
        return shares

    @property
    def varies(self) -> bool:
        """True if it is not the same for all."""
        return 0 < self.share < EVERYBODY

    @property
    def modes(self) -> frozenset[Mode]:
        """The modes in which somebody may be."""
        others: frozenset[Mode] = frozenset((self.otherwise,) if self.share < EVERYBODY or self.budget else ())
        return others | {"enforce"} if self.share else others


def counts(code: Code, mode: Mode) -> bool:
    """Return whether a refusal counts in a mode."""
    return mode == "enforce" or (mode == "shadow-policy" and code not in OF_RULES)


def strictest(*modes: Mode) -> Mode:
    """Return the mode of these in which the most is refused."""
    return min(modes, key=MODES.index)
