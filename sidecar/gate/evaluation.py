"""How far one request came, and the rules by which it is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.gate.decision_cache import DecisionCache
from sidecar.gate.identity import Principal, Tokens
from sidecar.gate.lookup import Lookup, Missing
from sidecar.gate.obligation import Obligation
from sidecar.gate.protected import Protected, RegisteredClient
from sidecar.gate.request import Reading, Request
from sidecar.gate.routing import RouteTable
from sidecar.gate.to_app import ToApp
from sidecar.gate.verdict import Destination, Facts
from sidecar.wire.grammar import Header


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of `routes.yaml` and the settings, in force as one: a reload swaps the whole, what is remembered of
    `decisions` included. None remembers nothing."""

    table: RouteTable
    lookups: Mapping[str, Lookup]
    tokens: Tokens
    reading: Reading
    decisions: DecisionCache | None = None
    clients: tuple[RegisteredClient, ...] = ()
    """App clients that OAuth clients get which register."""

    def by(self, tokens: Tokens) -> Rules:
        """The same rules with another way to tell who has come; nothing is remembered."""
        return Rules(self.table, self.lookups, tokens, self.reading)


@dataclass(slots=True)
class Evaluation:
    """How far one request came: what its refusal or permit is made of."""

    facts: Facts
    rules: Rules
    holds_answer: bool = False
    """True if the door can hold the app's answer."""
    request: Request | None = None
    principal: Principal | None = None
    reply_headers: tuple[Header, ...] = ()
    cookies: tuple[bytes, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    """Obligations from the kind of sign-in, in addition to the route's."""
    recheck: float = 0.0
    to_app: ToApp | None = None
    protected: Protected | None = None
    upstream: Destination | None = None
    missing: Missing | None = None
    """The `missing` of the lookups that were reached: the treatment of a resource that does not exist."""
    marks: list[tuple[str, float]] = field(default_factory=list)
    """The stages that were entered, and when."""

    @property
    def app(self) -> str:
        """The URL of the app, "" for that of the settings."""
        return "" if self.upstream is None else self.upstream.url

    @property
    def sender(self) -> Principal:
        """The principal, in the stages behind identity."""
        assert self.principal is not None  # noqa: S101 - for the type checker
        return self.principal
