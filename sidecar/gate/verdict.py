"""What the gate concluded about one request: forward it, or refuse it and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from sidecar.gate.trace import Trace


class Code(StrEnum):
    """Why a request did not get an answer of the app: stable, in the problem body, the decision log and the metrics."""

    # the request cannot be read in one way only
    REQUEST_INVALID = "request_invalid"
    TARGET_AMBIGUOUS = "target_ambiguous"
    TARGET_TOO_LONG = "target_too_long"
    HEADER_AMBIGUOUS = "header_ambiguous"
    HEADERS_TOO_LARGE = "headers_too_large"
    HOST_NOT_ALLOWED = "host_not_allowed"
    BODY_UNEXPECTED = "body_unexpected"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TYPE_UNSUPPORTED = "body_type_unsupported"
    BODY_INVALID = "body_invalid"
    SEGMENT_INVALID = "segment_invalid"
    REFERENCE_INVALID = "reference_invalid"
    QUERY_NOT_ALLOWED = "query_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    # a proxy that asks for its client
    PROXY_NOT_TRUSTED = "proxy_not_trusted"
    PROXY_AMBIGUOUS = "proxy_ambiguous"
    PROXY_UNABLE = "proxy_unable"
    # no route for it
    ROUTE_UNMAPPED = "route_unmapped"
    METHOD_UNMAPPED = "method_unmapped"
    CORS_REFUSED = "cors_refused"
    ORIGIN_REFUSED = "origin_refused"
    # who asks
    TOKEN_MISSING = "token_missing"
    TOKEN_INVALID = "token_invalid"
    TOKEN_EXPIRED = "token_expired"
    SESSION_INVALID = "session_invalid"
    SESSION_EXPIRED = "session_expired"
    SESSION_STORE_UNAVAILABLE = "session_store_unavailable"
    SESSION_STORE_ERROR = "session_store_error"
    SESSION_BAD_RECORD = "session_bad_record"
    PRINCIPAL_MISSING = "principal_missing"
    NO_ROLES = "no_roles"
    CLAIM_MISSING = "claim_missing"
    CLAIM_INVALID = "claim_invalid"
    KEYS_UNAVAILABLE = "keys_unavailable"
    # signing in
    SIGN_IN_INVALID = "sign_in_invalid"
    SIGN_IN_REFUSED = "sign_in_refused"
    SIGN_IN_LIMITED = "sign_in_limited"
    IDP_UNAVAILABLE = "idp_unavailable"
    IDP_BAD_ANSWER = "idp_bad_answer"
    # what is asked for
    RESOURCE_MISSING = "resource_missing"
    RESOURCE_HIDDEN = "resource_hidden"
    LOOKUP_UNAVAILABLE = "lookup_unavailable"
    LOOKUP_TIMEOUT = "lookup_timeout"
    LOOKUP_BAD_ANSWER = "lookup_bad_answer"
    LOOKUP_AUTH = "lookup_auth"
    LOOKUP_STATUS = "lookup_status"
    LOOKUP_PARTIAL = "lookup_partial"
    LOOKUP_MISMATCH = "lookup_mismatch"
    LOOKUP_OPEN = "lookup_open"
    LOOKUP_BUSY = "lookup_busy"
    # the decision
    DENIED_BY_POLICY = "denied_by_policy"
    PDP_UNAVAILABLE = "pdp_unavailable"
    PDP_TIMEOUT = "pdp_timeout"
    PDP_BAD_ANSWER = "pdp_bad_answer"
    PDP_STATUS = "pdp_status"
    PDP_PARTIAL = "pdp_partial"
    PDP_MISMATCH = "pdp_mismatch"
    PDP_OPEN = "pdp_open"
    PDP_BUSY = "pdp_busy"
    OBLIGATION_UNKNOWN = "obligation_unknown"
    # after the permit
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_PROTOCOL = "upstream_protocol"
    UPSTREAM_PARTIAL = "upstream_partial"
    UPSTREAM_OPEN = "upstream_open"
    UPSTREAM_BUSY = "upstream_busy"
    # us
    OVERLOADED = "overloaded"
    INTERNAL_ERROR = "internal_error"


class Ground(StrEnum):
    """On what ground a request was let through; stands where a refusal has its code in the decision log."""

    ALLOWED = "allowed"
    AUTHENTICATED = "authenticated"
    PUBLIC = "public"
    PREFLIGHT = "preflight"
    SHADOW = "shadow"


class Refused(Exception):
    """Raised by a stage of the gate, or by a client that could not get an answer; `Gate.decide` turns it into `Refuse`.

    `detail` is for the log and for `sidecar explain`, never for the client: it may say what was expected.
    `methods` goes with METHOD_UNMAPPED: what the `Allow` header must list (RFC 9110 section 10.2.1).
    `about_another` goes with LOOKUP_MISMATCH: the hook told of another resource than the one that was asked for.
    """

    def __init__(
        self, code: Code, detail: str = "", methods: tuple[str, ...] = (), *, about_another: bool = False
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.methods = methods
        self.about_another = about_another


@dataclass(slots=True)
class Facts:
    """What the stages found out about one request, for the journal and for `explain`; nothing is decided from it."""

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
    cache: str = ""
    """Whether the decision was remembered, `hit` or `miss`; "" where decisions are not remembered."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds spent in each stage that was reached, by the stage's name."""
    trace: Trace | None = None
    """Where requests are traced, the trace of this one."""


class Privacy(NamedTuple):
    """An obligation of a permit: the app's answer is for one principal, and no cache may give it to another.

    `vary` are the request's headers that identified the principal, as a value of Vary. With `no_store` a session rides
    on the answer, and no cache may keep it at all.
    """

    vary: bytes
    no_store: bool = False


@dataclass(frozen=True, slots=True)
class Forward:
    """The permit: these bytes, and no others, may go to the upstream. Only `gate/gate.py` makes one.

    `method`, `target` and `headers` are what is sent, in order and complete but for the framing of the body.
    `expires` is the Unix time at which the principal's token ends, None on a public route.
    `would_refuse` is set in shadow mode only: the code that enforcing would have answered with.
    `reply_headers` must be on the answer to the client, in place of the upstream's of the same name.
    `recheck` is after how many seconds an open WebSocket is to be decided again, 0 for never.
    `cookies` are values of Set-Cookie that the answer carries besides the upstream's own.
    `privacy` must be kept by whoever gives the answer to the client; None where nobody was identified.
    """

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
    privacy: Privacy | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """No byte of this request goes to the upstream. `methods` is for `Allow`; `detail` is for the log only.

    `code` is the truth, for the log and the metrics. A client is told `told`, which is `told_as` where that is set.
    """

    code: Code
    facts: Facts
    detail: str = ""
    methods: tuple[str, ...] = ()
    reply_headers: tuple[tuple[bytes, bytes], ...] = ()
    cookies: tuple[bytes, ...] = ()
    told_as: Code | None = None

    @property
    def told(self) -> Code:
        """The code that the client's answer has, and its status."""
        return self.told_as or self.code


@dataclass(frozen=True, slots=True)
class Preflight:
    """A CORS preflight that the route's configuration answers: 204 with these headers, and nothing goes upstream."""

    headers: tuple[tuple[bytes, bytes], ...]
    facts: Facts


Verdict = Forward | Refuse | Preflight
