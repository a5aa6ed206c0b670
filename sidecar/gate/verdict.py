"""Verdicts of the gate on a request: forward it, or refuse it with a reason."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sidecar.gate.access_request import AccessRequest
from sidecar.gate.budget import Budget
from sidecar.gate.codes import Code, Ground
from sidecar.gate.mode import Mode
from sidecar.gate.obligation import HeldAnswer, Obligation, undecided
from sidecar.gate.trace import Trace


class RefusalFormat(Protocol):
    """Way in which the protocol of a request's body tells of its refusal, in place of a problem."""

    @property
    def content_type(self) -> bytes:
        """Media type of the answer."""

    def status(self, status: int) -> int:
        """Return the status of an answer whose code has this one."""

    def body(self, code: Code, status: int, request_id: str, more: Mapping[str, object]) -> bytes:
        """Write the answer to a refusal of a code, which has this status elsewhere. `more` are members that
        its problem would have."""


class Refused(Exception):
    """Raised by a stage of the gate, or by a client that could not get an answer; `Gate.decide` turns it into `Refuse`.

    `detail` is for the log and for `sidecar explain`, never for the client: it may say what was expected.
    `methods` goes with METHOD_UNMAPPED: what the `Allow` header must list (RFC 9110 section 10.2.1).
    `about_another` goes with LOOKUP_MISMATCH: the hook told of another resource than the one that was asked for.
    `reply` is how the protocol of the body tells of it, where that is known no earlier.
    """

    def __init__(
        self, code: Code, detail: str = "", methods: tuple[str, ...] = (), *, about_another: bool = False,
        reply: RefusalFormat | None = None,
    ) -> None:  # fmt: skip
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.methods = methods
        self.about_another = about_another
        self.reply = reply


class EachAsked(NamedTuple):
    """Ids of the resources of one request, and those that were not allowed. `allowed` tells it of each that was asked
    about, in the order of the question."""

    ids: tuple[str, ...]
    denied: tuple[str, ...] = ()
    allowed: tuple[bool, ...] = ()


class Destination(NamedTuple):
    """One of several apps, by its name in `routes.yaml`: where it is, and how it is connected to. Timeouts are seconds,
    None for those of the settings."""

    name: str
    url: str
    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    connect_timeout: float | None = None
    head_timeout: float | None = None
    idle_timeout: float | None = None


@dataclass(slots=True)
class Facts:
    """Findings of the stages about one request, for the journal and for `explain`; nothing is decided from it."""

    request_id: str
    method: str
    path: str
    peer: str = ""
    route: str = ""
    principal: str = ""
    kind: str = ""
    resource_id: str = ""
    action: str = ""
    call_id: str = ""
    policy: str = ""
    host: str = ""
    """The host that the request names, once it is read."""
    issuer: str = ""
    """The issuer of the principal, within which its id is one."""
    websocket: bool = False
    roles: tuple[str, ...] = ()
    cache: str = ""
    """Cache result of the decision, `hit` or `miss`; "" if decisions are not cached."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds spent in each stage that was reached, by the stage's name."""
    trace: Trace | None = None
    """Where requests are traced, the trace of this one."""
    items: Mapping[str, int | str] | None = None
    """Where the app's answer was reduced, the numbers of what was done."""
    missing: tuple[str, ...] = ()
    """Items of the app's answer that a lookup does not have, the first ones: they are dropped."""
    would_refuse: Code | None = None
    """In shadow, the code of a refusal that was found after the permit."""
    mode: Mode | None = None
    """Mode in which the request was decided, None where no gate saw it."""
    budget: Budget | None = None
    """Budget of the route that a refusal of this principal counts in, None where there is none."""
    each: EachAsked | None = None
    """Resources of a request about many."""
    reply: RefusalFormat | None = None
    """Way to refuse it in the protocol of its body, None for a problem."""
    access_request: AccessRequest | None = None
    """Offer of the PDP to ask for what it denied."""
    query: bytes = b""
    """The query as it came, of which a record shows names alone."""
    upstream: Destination | None = None
    """The app that the route leads to, None for that of the settings."""
    asked: object = None
    """The `gate.decision.Question` by which the request was decided, or was to be; None where nobody was asked. That
    module is made with this one, so that its type cannot be named here."""

    @property
    def asker(self) -> tuple[str, str]:
        """Issuer and id of the principal, each "" where none is known."""
        return self.issuer, self.principal


class _PermitFields(NamedTuple):
    # a frozen dataclass takes five times as long to make, and each request makes one
    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    ground: Ground
    facts: Facts
    expires: float | None = None
    would_refuse: Code | None = None
    reply_headers: tuple[tuple[bytes, bytes], ...] = ()
    recheck: float = 0.0
    cookies: tuple[bytes, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    reserved: frozenset[bytes] = frozenset()
    given: HeldAnswer | None = None
    upstream: Destination | None = None


class Forward(_PermitFields):
    """The permit: these bytes, and no others, may go to the upstream. Only `gate/gate.py` makes one: abstract, so that
    to make one elsewhere does not type-check.

    `method`, `target` and `headers` are what is sent, in order and complete but for the framing of the body.
    `expires` is the Unix time at which the principal's token ends, None on a public route.
    `would_refuse` is set in shadow only: the code that enforcing would have answered with.
    `reply_headers` must be on the answer to the client, in place of the upstream's of the same name.
    `recheck` is after how many seconds an open WebSocket is to be decided again, 0 for never.
    `cookies` are values of Set-Cookie that the answer carries besides the upstream's own.
    `obligations` must be done by whoever gives the answer to the client, in their order (`gate.settle`).
    `reserved` are names of headers that only the sidecar sets, beside its own.
    `given` is the answer where the app need not be asked, since no item of it could be shown.
    `upstream` is the app that it leads to, None for that of the settings.
    """

    __slots__ = ()

    # ways of a named tuple to another one: there is none from a permit, nor to one
    _make = None  # type: ignore[assignment]
    _replace = None  # type: ignore[assignment]

    @abstractmethod
    def _sealed(self) -> None: ...


class Refuse(NamedTuple):
    """No byte of this request goes to the upstream. `methods` is for `Allow`; `detail` is for the log only.

    `code` is the truth, for the log and the metrics. A client gets `client_code`, which is `masked_as` if that is
    set. `challenge` are more parameters of the challenge in a 401 (RFC 9110 section 11.6.1), None where the route is
    no protected resource.
    """

    code: Code
    facts: Facts
    detail: str = ""
    methods: tuple[str, ...] = ()
    reply_headers: tuple[tuple[bytes, bytes], ...] = ()
    cookies: tuple[bytes, ...] = ()
    masked_as: Code | None = None
    challenge: bytes | None = None

    @property
    def client_code(self) -> Code:
        """The code that the client's answer has, and its status."""
        return self.masked_as or self.code

    @property
    def more(self) -> Mapping[str, object]:
        """Members of its problem that other problems do not have: of many resources how many were not allowed, and not
        which, and of one how to ask for what the policy denied. Where a client is told of another code it is not told
        that there is something to ask for."""
        each, offer = self.facts.each, self.facts.access_request
        if offer is not None and self.code is self.client_code is Code.DENIED_BY_POLICY:
            return {"access_request": offer.members()}
        if each is None or not each.denied:
            return {}
        return {"each": {"asked": len(each.ids), "denied": len(each.denied)}}


def unheld(verdict: Forward | Refuse | Preflight) -> Forward | Refuse | Preflight:
    """The verdict for one who does not ask the app: a refusal, where the decision is made from the app's answer."""
    if not isinstance(verdict, Forward) or undecided(verdict.obligations) is None:
        return verdict
    return Refuse(
        Code.PROXY_UNABLE, verdict.facts, "the decision is made from the app's answer, which is not asked for"
    )


@dataclass(frozen=True, slots=True)
class Preflight:
    """A CORS preflight that the route's configuration answers: 204 with these headers, and nothing goes upstream."""

    headers: tuple[tuple[bytes, bytes], ...]
    facts: Facts


Verdict = Forward | Refuse | Preflight
