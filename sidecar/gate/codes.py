"""Codes of refusals and grounds of permits, each with its meaning and what to do about it."""

from __future__ import annotations

from enum import StrEnum


class Dependency(StrEnum):
    """A service that the sidecar asks, as the metrics and the decision log name it."""

    JWKS = "jwks"
    SESSIONS = "sessions"
    IDP = "idp"
    LOOKUP = "lookup"
    PDP = "pdp"
    UPSTREAM = "upstream"


class Kind(StrEnum):
    """The part of a request's way that a code is about, in the order of that way."""

    REQUEST = "the request cannot be read in one way only"
    PROXY = "a proxy that asks for its client"
    ROUTE = "no route for it"
    PRINCIPAL = "who asks"
    SIGN_IN = "signing in"
    RESOURCE = "what is asked for"
    DECISION = "the decision"
    UPSTREAM = "after the permit"
    SIDECAR = "the sidecar itself"


class Code(StrEnum):
    """Why a request did not get an answer of the app: stable, in the problem body, the decision log and the metrics.

    Each has its kind, its meaning and a remedy; one that tells of a dependency names it, and its fault there.
    `doors/answer.status_of` has its status.
    """

    kind: Kind
    meaning: str
    remedy: str
    dependency: Dependency | None
    fault: str

    def __new__(
        cls, value: str, kind: Kind, meaning: str, remedy: str, dependency: Dependency | None = None, fault: str = ""
    ) -> Code:
        """Make one code; one that lacks a part does not start."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.kind, code.meaning, code.remedy = kind, meaning, remedy
        code.dependency, code.fault = dependency, fault
        return code

    # fmt: off
    REQUEST_INVALID = ("request_invalid", Kind.REQUEST,
        "not HTTP/1.1 as this server reads it, or an invalid Host",
        "send HTTP/1.1 with one valid Host; a client or proxy that speaks something else needs fixing")
    TARGET_AMBIGUOUS = ("target_ambiguous", Kind.REQUEST,
        "a path or query that two servers could read differently",
        "send the path in its plain form; `allow` of the route takes some oddities")
    TARGET_TOO_LONG = ("target_too_long", Kind.REQUEST,
        "a target over 8 KiB, or a path of more than 256 segments or 768 escapes",
        "shorten the target; large input belongs into a body")
    HEADER_AMBIGUOUS = ("header_ambiguous", Kind.REQUEST,
        "a header that stands twice, has an odd name, or is named in `Connection` though it may not be",
        "send the header once, under a name of letters, digits and `-`; `detail` in the decision log names it")
    HEADERS_TOO_LARGE = ("headers_too_large", Kind.REQUEST,
        "a head over 32 KiB or 100 headers, or more than 256 cookies beside one of the sidecar's own",
        "send fewer or shorter headers; see which cookies the app sets")
    HOST_NOT_ALLOWED = ("host_not_allowed", Kind.REQUEST,
        "a host that `SIDECAR_HOSTS` does not list",
        "add the host to `SIDECAR_HOSTS`, or use one that is there")
    BODY_UNEXPECTED = ("body_unexpected", Kind.REQUEST,
        "a body on GET, HEAD, DELETE or OPTIONS; `allow: [request_body]` takes it",
        "leave the body out, or allow it on the route")
    BODY_TOO_LARGE = ("body_too_large", Kind.REQUEST,
        "a body over `max_body` on a route that reads it",
        "send less, or raise `max_body` of the route")
    BODY_TYPE_UNSUPPORTED = ("body_type_unsupported", Kind.REQUEST,
        "another type than the route reads: `application/json`, or with `{form.…}` a form",
        "send JSON with `Content-Type: application/json`, or a form with its own type")
    BODY_INVALID = ("body_invalid", Kind.REQUEST,
        "a body that is not strict JSON, or has no value of the declared type; a form or a GraphQL request that is over a limit, or that servers could read differently",
        "send strict JSON, a form as browsers do, or one plain document; `detail` in the decision log names what was expected")
    SEGMENT_INVALID = ("segment_invalid", Kind.REQUEST,
        "a path variable whose pattern refuses the segment",
        "use an id of the form that the route's pattern takes, or give the variable another pattern")
    REFERENCE_INVALID = ("reference_invalid", Kind.REQUEST,
        "a query, header or claim that is missing, doubled or of another type; an empty id; an invalid scope; a question beyond what Cerbos takes (4 MiB)",
        "send the value that the route reads; `detail` in the decision log names it")
    QUERY_NOT_ALLOWED = ("query_not_allowed", Kind.REQUEST,
        "a query parameter that the route's `query` does not list, or a name that servers could read differently",
        "leave the parameter out, or add it to the route's `query`")
    REQUEST_TIMEOUT = ("request_timeout", Kind.REQUEST,
        "a head or body that did not come in time",
        "try again; look at the client's connection")
    PROXY_NOT_TRUSTED = ("proxy_not_trusted", Kind.PROXY,
        "a question for another client, from a peer that `SIDECAR_TRUSTED_PROXIES` does not list",
        "list the proxy's address, if it is yours")
    PROXY_AMBIGUOUS = ("proxy_ambiguous", Kind.PROXY,
        "what the proxy says of its request is missing, stands twice, or is another proxy's way to say it",
        "compare the proxy's configuration with the one in `deploy/`")
    PROXY_UNABLE = ("proxy_unable", Kind.PROXY,
        "what the decision needs does not come through the proxy that asks: a body, a WebSocket, a preflight, the whole answer",
        "let the sidecar forward this route itself, or do without what the proxy cannot bring")
    ROUTE_UNMAPPED = ("route_unmapped", Kind.ROUTE,
        "no route names the path",
        "add the path to `routes.yaml`; case and a slash at the end count")
    METHOD_UNMAPPED = ("method_unmapped", Kind.ROUTE,
        "the route has no action for the method, or a mutation or subscription of GraphQL came by GET",
        "add the method to the route's `actions`; send what is no query by POST")
    OPERATION_UNMAPPED = ("operation_unmapped", Kind.ROUTE,
        "a body asks for an operation that the route does not name: a root field of GraphQL, introspection that the route does not allow, or a method of MCP that no client sends",
        "add the operation to the route; `detail` in the decision log names it")
    CORS_REFUSED = ("cors_refused", Kind.ROUTE,
        "a preflight of an origin or method that the route does not list",
        "add the origin to the route's `cors`, or the method to its `actions`")
    ORIGIN_REFUSED = ("origin_refused", Kind.ROUTE,
        "a request that changes something, or a WebSocket handshake, with a session and from another origin",
        "send it from a page of the same origin, or add the origin to the route's `cors`; behind a proxy that writes another `Host`, see [behind a load balancer](../guides/behind-a-load-balancer.md#who-the-client-is)")
    TOKEN_MISSING = ("token_missing", Kind.PRINCIPAL,
        "no `Authorization`",
        "send `Authorization: Bearer` and an access token, or sign in")
    TOKEN_INVALID = ("token_invalid", Kind.PRINCIPAL,
        "not a token of a trusted issuer for a listed app client",
        "get a token of the right pool and app client; `detail` in the decision log says what was wrong")
    TOKEN_EXPIRED = ("token_expired", Kind.PRINCIPAL,
        "the token's `exp` has passed",
        "refresh the token")
    SESSION_INVALID = ("session_invalid", Kind.PRINCIPAL,
        "a session cookie that is not ours, or that belongs to a session that was ended; it is cleared",
        "sign in again")
    SESSION_EXPIRED = ("session_expired", Kind.PRINCIPAL,
        "the session's idle time or lifetime has passed, or Cognito does not renew it; it is cleared",
        "sign in again")
    SESSION_STORE_UNAVAILABLE = ("session_store_unavailable", Kind.PRINCIPAL,
        "Redis cannot be reached, so the session was not examined; its cookie stays",
        "see that Redis runs and is reachable at `SIDECAR_REDIS_URL`", Dependency.SESSIONS, "store_unavailable")
    SESSION_STORE_ERROR = ("session_store_error", Kind.PRINCIPAL,
        "Redis refused to answer",
        "look at its user, password and role: the sidecar writes", Dependency.SESSIONS, "store_error")
    SESSION_BAD_RECORD = ("session_bad_record", Kind.PRINCIPAL,
        "the session's record in Redis cannot be read",
        "see who else writes to this Redis; all instances need the same `SIDECAR_SESSION_SECRET`", Dependency.SESSIONS, "bad_record")
    PRINCIPAL_MISSING = ("principal_missing", Kind.PRINCIPAL,
        "the token is good, and the claim that `principal.id` names is not in it or is no name; `detail` in the decision log says which claim. The sign-in ends with it too: no session begins that no page would take",
        "let the pool put the claim into the token, or name another claim")
    MCP_SESSION_FOREIGN = ("mcp_session_foreign", Kind.PRINCIPAL,
        "an `Mcp-Session-Id` that was not given to this user and agent at this route, or was made by another key",
        "set `SIDECAR_SESSION_SECRET`, the same in all replicas, so that sessions outlive a restart; without a session the client connects again ([sessions](../guides/mcp.md#sessions))")
    NO_ROLES = ("no_roles", Kind.PRINCIPAL,
        "neither the token nor `defaults.roles` gives a role",
        "put the user into a group, or set `defaults.roles`")
    SCOPE_MISSING = ("scope_missing", Kind.PRINCIPAL,
        "the token is good, and lacks a scope that the route's `mcp.scopes` lists; the challenge of the 403 says which scopes to ask for",
        "let the client ask for the scopes, and allow them on its app client in the pool; a token of a sign-in by the pool's API has none of them")
    CLAIM_MISSING = ("claim_missing", Kind.PRINCIPAL,
        "a policy is to be asked, and the token lacks a claim that is an attribute of the principal and not in `principal.optional`; or `to_app` tells the app of a claim that the token lacks",
        "let the pool put the claim into the token, or make the attribute optional")
    CLAIM_INVALID = ("claim_invalid", Kind.PRINCIPAL,
        "such a claim is of another type than its `type`, or an object without `type: json`",
        "declare the type that the claim has; `detail` in the decision log has both")
    IDENTITY_HEADER_TOO_LARGE = ("identity_header_too_large", Kind.PRINCIPAL,
        "`X-Auth-Roles`, or a header of `to_app`, would be over 8000 bytes, which many servers do not take; the app gets nothing",
        "put the user into fewer groups, or read the roles from a claim that has those of this app only")
    KEYS_UNAVAILABLE = ("keys_unavailable", Kind.PRINCIPAL,
        "the issuer's keys could not be had, so the token was not examined",
        "see that the sidecar can reach the issuer's key server", Dependency.JWKS, "unavailable")
    SIGN_IN_INVALID = ("sign_in_invalid", Kind.SIGN_IN,
        "a callback or form that does not belong to a sign-in which this browser began, or belongs to one that has ended; or an id token of another",
        "begin the sign-in again, in one browser")
    SIGN_IN_REFUSED = ("sign_in_refused", Kind.SIGN_IN,
        "the identity provider answered the sign-in with an error",
        "look at the app client's settings in the pool: callback URLs, scopes, providers")
    SIGN_IN_LIMITED = ("sign_in_limited", Kind.SIGN_IN,
        "too many failed sign-ins of one client or as one user, or too many at once ([the limits](../guides/sign-in.md#how-often-a-sign-in-may-fail))",
        "wait, then try again")
    IDP_UNAVAILABLE = ("idp_unavailable", Kind.SIGN_IN,
        "Cognito cannot be reached, or is too slow",
        "see that the sidecar can reach Cognito", Dependency.IDP, "unavailable")
    IDP_BAD_ANSWER = ("idp_bad_answer", Kind.SIGN_IN,
        "Cognito's answer cannot be read",
        "see what stands between the sidecar and Cognito", Dependency.IDP, "bad_answer")
    RESOURCE_MISSING = ("resource_missing", Kind.RESOURCE,
        "the hook says that there is no such thing (`missing: deny`); the client is told `denied_by_policy`",
        "nothing, where the id is wrong; otherwise look at what the hook knows")
    RESOURCE_HIDDEN = ("resource_hidden", Kind.RESOURCE,
        "the same with `missing: hide`; a client is told it of what the policy denies there, too",
        "nothing, where the id is wrong; otherwise look at what the hook knows")
    LOOKUP_UNAVAILABLE = ("lookup_unavailable", Kind.RESOURCE,
        "the hook cannot be reached",
        "see that the hook runs and that its `url` is right; `detail` in the decision log has [the reason](../guides/debug-a-502.md)", Dependency.LOOKUP, "unavailable")
    LOOKUP_TIMEOUT = ("lookup_timeout", Kind.RESOURCE,
        "the hook did not answer within `timeout`",
        "make the hook faster, or raise the lookup's `timeout`", Dependency.LOOKUP, "timeout")
    LOOKUP_BAD_ANSWER = ("lookup_bad_answer", Kind.RESOURCE,
        "the hook's answer is not HTTP, not strict JSON, or too large; or the database cannot run the statement, or gave two rows",
        "let the hook answer strict JSON of at most 64 KiB; run `check --probe`, which tells what a database has against a statement; with `from: answer`, the app of at most `max_size`", Dependency.LOOKUP, "bad_answer")
    LOOKUP_AUTH = ("lookup_auth", Kind.RESOURCE,
        "the hook refused the sidecar (401, 403), or the database its user; `Retry-After: 60`, since asking again seldom helps",
        "look at the lookup's `bearer_env`, or at the rights of the database's user", Dependency.LOOKUP, "auth")
    LOOKUP_STATUS = ("lookup_status", Kind.RESOURCE,
        "another status than 200 or 404, or another type than JSON; `Retry-After: 60`",
        "look at the `url` of the lookup; `detail` in the decision log names the status", Dependency.LOOKUP, "status")
    LOOKUP_PARTIAL = ("lookup_partial", Kind.RESOURCE,
        "the hook's answer broke off",
        "look at the hook's own log", Dependency.LOOKUP, "partial")
    LOOKUP_MISMATCH = ("lookup_mismatch", Kind.RESOURCE,
        "an attribute is missing or of another type, or the answer is about another id",
        "compare the hook's answer with the lookup's `attributes` and `echo`", Dependency.LOOKUP, "mismatch")
    LOOKUP_INCOMPLETE = ("lookup_incomplete", Kind.RESOURCE,
        "a lookup that reads an attribute of another could not be asked: that one did not give it (`optional`, `missing: empty`)",
        "let the first lookup always give what the next one reads, or ask them on different routes", Dependency.LOOKUP, "incomplete")
    LOOKUP_OPEN = ("lookup_open", Kind.RESOURCE,
        "the hook failed five times in a row and is asked again every 2 s",
        "mend the hook: the lines before name its faults", Dependency.LOOKUP, "open")
    LOOKUP_BUSY = ("lookup_busy", Kind.RESOURCE,
        "no place for the question to the hook until its timeout: too many at once, of this principal or of all",
        "make the hook faster, or cache its answers", Dependency.LOOKUP, "busy")
    LOOKUP_LOOP = ("lookup_loop", Kind.RESOURCE,
        "the request has `X-Auth-Lookup`: an app that a lookup asks came back through the sidecar, and the lookup would ask it again",
        "let the app answer the lookup's path without asking through the sidecar")
    DENIED_BY_POLICY = ("denied_by_policy", Kind.DECISION,
        "Cerbos answered EFFECT_DENY, or the PDP a decision of false",
        "see [debug a 403](../guides/debug-a-403.md)")
    PDP_UNAVAILABLE = ("pdp_unavailable", Kind.DECISION,
        "Cerbos cannot be reached",
        "see that Cerbos runs and is reachable at `SIDECAR_CERBOS`", Dependency.PDP, "unavailable")
    PDP_TIMEOUT = ("pdp_timeout", Kind.DECISION,
        "Cerbos did not answer within `SIDECAR_CERBOS_TIMEOUT`",
        "give Cerbos more CPU, or raise the timeout", Dependency.PDP, "timeout")
    PDP_BAD_ANSWER = ("pdp_bad_answer", Kind.DECISION,
        "Cerbos' answer cannot be read",
        "see that it is Cerbos, or a PDP of AuthZEN, that answers there", Dependency.PDP, "bad_answer")
    PDP_STATUS = ("pdp_status", Kind.DECISION,
        "Cerbos refused to answer; of another PDP, not exactly 200 and JSON, or an error in an evaluation",
        "look at the PDP's own log; `detail` in the decision log has the status", Dependency.PDP, "status")
    PDP_PARTIAL = ("pdp_partial", Kind.DECISION,
        "Cerbos' answer broke off",
        "look at the PDP's own log", Dependency.PDP, "partial")
    PDP_MISMATCH = ("pdp_mismatch", Kind.DECISION,
        "Cerbos' answer is about something else or another number of things, or its schema refused the attributes",
        "compare the attributes of the route with the policy's schema", Dependency.PDP, "mismatch")
    PDP_OPEN = ("pdp_open", Kind.DECISION,
        "Cerbos failed five times in a row and is asked again every 2 s",
        "mend the PDP: the lines before name its faults", Dependency.PDP, "open")
    PDP_BUSY = ("pdp_busy", Kind.DECISION,
        "no place for the question to Cerbos until its timeout: too many at once, of this principal or of all",
        "give Cerbos more CPU", Dependency.PDP, "busy")
    OBLIGATION_UNKNOWN = ("obligation_unknown", Kind.DECISION,
        "the PDP allows with obligations, and the sidecar executes none",
        "take the obligations out of the PDP's policy", Dependency.PDP, "unknown")
    UPSTREAM_UNAVAILABLE = ("upstream_unavailable", Kind.UPSTREAM,
        "the app cannot be reached",
        "see [debug a 502](../guides/debug-a-502.md): `detail` in the decision log begins with the reason", Dependency.UPSTREAM, "unavailable")
    UPSTREAM_TIMEOUT = ("upstream_timeout", Kind.UPSTREAM,
        "the app did not answer in time",
        "make the app faster, or raise `SIDECAR_UPSTREAM_HEAD_TIMEOUT`", Dependency.UPSTREAM, "timeout")
    UPSTREAM_PROTOCOL = ("upstream_protocol", Kind.UPSTREAM,
        "the app's answer is not HTTP/1.1 with one framing",
        "mend the app's answer: `detail` in the decision log begins with [the reason](../guides/debug-a-502.md)", Dependency.UPSTREAM, "protocol")
    UPSTREAM_PARTIAL = ("upstream_partial", Kind.UPSTREAM,
        "the app's answer broke off",
        "look at the app's own log", Dependency.UPSTREAM, "partial")
    ITEMS_UNREADABLE = ("items_unreadable", Kind.UPSTREAM,
        "the app's answer is not what `items` or `fields` of the route says: no JSON, no list, an item without its id or an attribute",
        "compare `detail` in the decision log with the app's answer, and mend the route")
    ITEMS_TOO_MANY = ("items_too_many", Kind.UPSTREAM,
        "the app's list has more items, or more bytes, than the route allows",
        "let clients ask for shorter pages, or raise `items.max` or `items.max_size`")
    UPSTREAM_OPEN = ("upstream_open", Kind.UPSTREAM,
        "the app failed five times in a row and is tried again every 2 s",
        "mend the app: the lines before name its faults", Dependency.UPSTREAM, "open")
    UPSTREAM_BUSY = ("upstream_busy", Kind.UPSTREAM,
        "too many requests to the app at once, or too many of its answers are held",
        "make the app faster, or run more of it; where the line's `detail` names `SIDECAR_HELD_MEMORY`, raise that", Dependency.UPSTREAM, "busy")
    OVERLOADED = ("overloaded", Kind.SIDECAR,
        "too many connections",
        "run more instances, or see who opens the connections")
    BODY_NO_ROOM = ("body_no_room", Kind.SIDECAR,
        "a body that a reference reads cannot be held until it is decided: its sender has a share of the room for all, or there is no room for temporary files",
        "send less at once; raise `SIDECAR_HELD_MEMORY` or `SIDECAR_HELD_DISK`, which the line's `detail` names, or lower `max_body`; give the sidecar a writable folder for large bodies (`TMPDIR`)")
    LOG_UNAVAILABLE = ("log_unavailable", Kind.SIDECAR,
        "the decision log has not been written for so long that no more lines are held; these refusals leave none",
        "let somebody read stdout, or make room on the disk; stderr says what is wrong ([when the log cannot be written](../reference/decision-log.md#when-it-cannot-be-written))")
    INTERNAL_ERROR = ("internal_error", Kind.SIDECAR,
        "a fault of the sidecar's own",
        "report it, with the lines on stderr")
    # fmt: on


class Ground(StrEnum):
    """On what ground a request was let through; stands where a refusal has its code in the decision log."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Ground:
        """Make one ground."""
        ground = str.__new__(cls, value)
        ground._value_ = value
        ground.meaning = meaning
        return ground

    ALLOWED = "allowed", "Cerbos answered EFFECT_ALLOW"
    AUTHENTICATED = "authenticated", "the route takes any signed-in principal"
    PUBLIC = "public", "the route takes everybody"
    PREFLIGHT = "preflight", "a preflight, answered by the route's `cors`, or by the app with `cors: app`"
    SHADOW = "shadow", "shadow mode: never in the log, where the code of the refusal stands"
