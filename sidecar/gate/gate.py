"""The gate: reading, routing, identity, lookup and decision in a row -> one verdict. No HTTP and no I/O in here.

It alone makes a permit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, final

from sidecar.gate import cors
from sidecar.gate.ask import Ask, Operations
from sidecar.gate.asking import PDP, Clock, ContextHandler, Lookups, tell
from sidecar.gate.body import ReadBody, read_whole
from sidecar.gate.codes import Code, Ground
from sidecar.gate.decision import Resource, granted, resources_of
from sidecar.gate.evaluation import Evaluation, Rules
from sidecar.gate.forwarded import client_of
from sidecar.gate.identity import Principal
from sidecar.gate.in_session import in_own_session, in_session
from sidecar.gate.lookup import masked_code
from sidecar.gate.mcp_session import McpSessions
from sidecar.gate.mode import AMBIGUOUS, OF_RULES, Mode, RouteMode, counts, strictest
from sidecar.gate.narrowing import Narrowed, Plans
from sidecar.gate.obligation import (
    NOT_THERE,
    AnswerItems,
    AnswerLookup,
    AnswerRule,
    Decide,
    HeldAnswer,
    Judge,
    KeepPrivate,
    Obligation,
    Watch,
)
from sidecar.gate.origin import require_own_origin
from sidecar.gate.own import ASSERTION
from sidecar.gate.protected import Protected
from sidecar.gate.query import admitted, with_values
from sidecar.gate.references import Material
from sidecar.gate.request import Raw, Request, as_it_came, read
from sidecar.gate.routing import WEBSOCKET, Access, Route, RouteMatch, ask_of
from sidecar.gate.session import Session, TokenSource
from sidecar.gate.to_app import identity_headers, short_headers
from sidecar.gate.trace import TRACEPARENT, TRACESTATE
from sidecar.gate.verdict import Facts, Forward, Preflight, Refuse, Refused, Verdict
from sidecar.wire.grammar import BODILESS_METHODS, SAFE_METHODS, Header

MAX_LOGGED_PATH = 512
"""Bytes of a path that could not be read, as far as the log tells of it."""

NOBODY: frozenset[str] = frozenset()


# a look at a member of an enum costs as much as three calls
_PUBLIC, _AUTHENTICATED = Access.PUBLIC, Access.AUTHENTICATED
_BY_NOBODY, _BY_TOKEN, _BY_POLICY = Ground.PUBLIC, Ground.AUTHENTICATED, Ground.ALLOWED

Sign = Callable[[Principal, float, str], bytes]
"""Port: (principal, now, URL of the app, "" for that of the settings) -> the X-Auth-Assertion of this moment."""


BY_BEARER = KeepPrivate(b"Authorization")
"""Of a request with a bearer token, which goes before all else that tells who has come."""
_BY_BEARER: tuple[Obligation, ...] = (BY_BEARER,)


class Identified(NamedTuple):
    """Sender of a request. `session` is None for a bearer token; `cookies` are values of Set-Cookie for the answer, and
    `privacy` is what its caches must keep to."""

    principal: Principal
    session: Session | None = None
    cookies: tuple[bytes, ...] = ()
    privacy: KeepPrivate = BY_BEARER


@final
class _Permit(Forward):
    """The permit as it is made: here, and nowhere else."""

    __slots__ = ()

    def _sealed(self) -> None: ...


NOT_ASKED = frozenset((b"accept-encoding", b"range", b"if-range", b"a-im"))
"""Headers that are not passed on where the answer is reduced: they ask for a part of it, or for another form."""
CONDITIONS = frozenset((b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since"))
"""Headers that are not passed on by a request that changes nothing: a 304 or a 412 tells what the whole is like. One
that changes something keeps them, or it might overwrite what another has written (RFC 9110 section 13.1.1)."""
_UNCONDITIONAL = NOT_ASKED | CONDITIONS


def without_conditions(request: Request) -> Request:
    """The request as it is sent where the answer is reduced: for the whole of it, as JSON, and with its length."""
    gone = _UNCONDITIONAL if request.method in SAFE_METHODS else NOT_ASKED
    headers = [header for header in request.headers if header[0] not in gone]
    return request._replace(method="GET" if request.method == "HEAD" else request.method, headers=headers)


def _narrower(request: Request, narrowed: Narrowed) -> Request:
    """The request with what narrows it: parameters that the client's query has not, and headers in the place of a
    client's."""
    if narrowed.parameters:
        request = _with_query(request, with_values(request.query, narrowed.parameters))
    if narrowed.headers:
        names = {name for name, _ in narrowed.headers}
        kept = [header for header in request.headers if header[0] not in names]
        request = request._replace(headers=[*kept, *narrowed.headers])
    return request


def _require_enough(principal: Principal, route: Route) -> None:
    """See that a token says all that a route wants of it. Raises Refused."""
    if route.protected is not None:
        route.protected.require_scopes(principal.claims)
    if route.access is not _AUTHENTICATED and principal.incomplete is not None:
        raise Refused(*principal.incomplete)


def _unstored(obligation: Obligation) -> Obligation:
    return KeepPrivate(obligation.vary, no_store=True) if isinstance(obligation, KeepPrivate) else obligation


_BY_BEARER_UNSTORED = tuple(map(_unstored, _BY_BEARER))


def _all_unstored(obligations: tuple[Obligation, ...]) -> tuple[Obligation, ...]:
    return _BY_BEARER_UNSTORED if obligations is _BY_BEARER else tuple(map(_unstored, obligations))


def _with_query(request: Request, query: bytes) -> Request:
    if query == request.query:
        return request
    path = request.path.encode("ascii")
    return request._replace(query=query, target=path + b"?" + query if query else path)


def _with_own_query(request: Request, ask: Ask, material: Material) -> Request:
    """The request with the parameters that the sidecar puts in, whose names the client's query has no more."""
    values = [(name, str(template.value(material))) for name, template in ask.set_query.items()]
    return _with_query(request, with_values(request.query, values))


@final
class Gate:
    """Decides requests. `now` gives Unix seconds, `timer` monotonic seconds. `mode` is that of the settings, where a
    route has none; with None each refusal counts, whatever the routes say, for those who ask and forward nothing. Where
    one does not count, the permit has its code. `sources` are asked in order for the token of a request that has no
    Authorization. Without `plans` no list is narrowed, and nobody searches by a field that is hidden from some."""

    def __init__(
        self, rules: Rules, hooks: Lookups, pdp: PDP, *, now: Clock, timer: Clock, sign: Sign | None = None,
        mode: Mode | None = None, sources: tuple[TokenSource, ...] = (), plans: Plans | None = None,
        sessions: McpSessions | None = None,
    ) -> None:  # fmt: skip
        self.rules = rules
        self._asking = ContextHandler(hooks, pdp, plans, now=now, timer=timer, tell=self._sender_headers)
        self._now = now
        self._timer = timer
        self._sign = sign
        self._mode: Mode = mode or "enforce"
        self._obeys = mode is not None
        self._sessions = sessions
        self._sources = tuple(zip(sources, _privacies(sources), strict=True))

    @property
    def mode(self) -> Mode:
        """The mode where a route has none of its own."""
        return self._mode

    async def decide(self, raw: Raw, read_body: ReadBody | None) -> Verdict:
        """One request -> one verdict; `read_body` is None where the door does not get the body. Never raises but for
        cancellation: whatever goes wrong is a refusal."""
        rules = self.rules
        trusted = rules.reading.trusted
        client = client_of(raw.headers, raw.peer, trusted) if trusted else raw.peer
        facts = Facts(raw.request_id, raw.method, "", client, trace=raw.trace, websocket=raw.websocket, mode=self._mode)
        evaluation = Evaluation(facts, rules, raw.holds_answer)
        try:
            try:
                return await self._decide(raw, read_body, evaluation)
            finally:
                # a stage that failed took its time too
                self._leave(evaluation)
        except Exception as error:  # noqa: BLE001 - fail closed: a bug of ours is a refusal, whatever it raised
            refused = error
        if evaluation.request is None:
            facts.path = raw.target.partition(b"?")[0][:MAX_LOGGED_PATH].decode("latin-1")
        if self._mode != "enforce" or (self._obeys and rules.table.modes):
            try:
                permit = await self._permit_refused(raw, evaluation, refused)
                if permit is not None:
                    return permit
            except Exception as error:  # noqa: BLE001 - what cannot be permitted in shadow is refused in it too
                refused = error
        return _refusal(evaluation, refused)

    async def _decide(self, raw: Raw, read_body: ReadBody | None, evaluation: Evaluation) -> Verdict:
        facts, rules, timer, enter = evaluation.facts, evaluation.rules, self._timer, evaluation.marks.append
        enter(("request", timer()))
        request = evaluation.request = read(raw, rules.reading)
        facts.path, facts.request_id, facts.host = request.path, request.request_id, request.host
        facts.query = request.query
        enter(("routing", timer()))
        match = rules.table.match(request)
        route = match.route
        facts.route, evaluation.recheck, evaluation.to_app = route.name, route.recheck, route.to_app
        evaluation.protected, evaluation.upstream = route.protected, route.upstream
        facts.upstream = route.upstream
        if route.mode is not None and self._obeys:
            facts.mode = route.mode.of("")
        if route.cors is not None or (request.method == "OPTIONS" and cors.is_preflight(request)):
            preflight = self._cross_origin(evaluation, route, request)
            if preflight is not None:
                return preflight
        ask = ask_of(route, request)
        facts.action = ask.action
        if ask.needs_answer and not raw.holds_answer:
            raise Refused(
                Code.PROXY_UNABLE, "the app's whole answer, which does not come through the door of this request"
            )
        if ask.query is not None and request.query:
            request = _with_query(request, admitted(request.query, ask.query))
        if route.access is _PUBLIC:
            return self._permit(evaluation, request, _BY_NOBODY)
        enter(("identity", timer()))
        principal = await self._principal(evaluation, request, route, ask.mode)
        if route.protected is not None or principal.incomplete is not None:
            _require_enough(principal, route)
        if ask.set_query or route.binds_sessions:
            request = self._own_part(evaluation, request, match, ask)
        if route.access is _AUTHENTICATED:
            return self._permit(evaluation, request, _BY_TOKEN)
        return await self._permit_by_policy(evaluation, request, match, ask, read_body)

    def _own_part(self, evaluation: Evaluation, request: Request, match: RouteMatch, ask: Ask) -> Request:
        """Put in what the sidecar has to say in a request: the app's id of an MCP session, and parameters."""
        if match.route.binds_sessions and self._sessions is not None:
            request = in_session(evaluation, request, match.route, self._sessions)
        if ask.set_query:
            request = _with_own_query(request, ask, Material(request, match.path, evaluation.sender))
        return request

    async def _permit_by_policy(
        self, evaluation: Evaluation, request: Request, match: RouteMatch, ask: Ask, read_body: ReadBody | None
    ) -> Forward:
        evaluation.marks.append(("lookup", self._timer()))
        if ask.operations is not None:
            return await self._permit_operations(evaluation, request, match, ask, ask.operations, read_body)
        if ask.each is not None:
            found = await self._asking.resources(evaluation, request, match, ask, ask.each, read_body)
            evaluation.marks.append(("decision", self._timer()))
            await self._asking.ask_each(evaluation, found)
            return self._permit(evaluation, request, _BY_POLICY)
        resource = await self._asking.resource(evaluation, request, match, ask, read_body)
        if ask.answer_lookup is not None:
            return await self._permit_undecided(evaluation, request, resource, ask.answer_lookup)
        evaluation.marks.append(("decision", self._timer()))
        if ask.answer is not None:
            return await self._permit_reduced(evaluation, request, match, resource, ask, ask.answer)
        await self._asking.ask(evaluation, resource)
        return self._permit(evaluation, request, _BY_POLICY)

    async def _permit_operations(
        self, evaluation: Evaluation, request: Request, match: RouteMatch, ask: Ask, rule: Operations,
        read_body: ReadBody | None,
    ) -> Forward:  # fmt: skip
        """Permit a request whose body says what it asks for, where all of that is allowed."""
        body = b""
        if request.method not in BODILESS_METHODS:
            body = await read_whole(request, read_body, ask.max_body, evaluation.sender.asker)
        operations = rule.read(request, body)
        if not operations:
            return self._permit(evaluation, request, _BY_TOKEN)
        evaluation.facts.reply = operations[0].reply
        if len(operations) > 1:
            named = await self._asking.named_resources(evaluation, request, match, operations)
            evaluation.marks.append(("decision", self._timer()))
            await self._asking.ask_named(evaluation, named)
            if ask.answer is not None:
                scope = next((one.found.scope for one in named if isinstance(one.found, Resource)), "")
                judge = self._judge(evaluation, Material(request, match.path, evaluation.sender), scope)
                return self._permit_demanding(evaluation, request, ask.answer, frozenset(), judge)
            return self._permit(evaluation, request, _BY_POLICY)
        (operation,) = operations
        own, answer = operation.ask, operation.ask.answer or ask.answer
        evaluation.facts.action = own.action
        if answer is not None and not evaluation.holds_answer:
            raise Refused(Code.PROXY_UNABLE, "the app's whole answer, which does not come through this door")
        material = Material(request, match.path, evaluation.sender, None, operation.args)
        resource = await self._asking.resource_of(evaluation, own, material)
        evaluation.marks.append(("decision", self._timer()))
        if answer is not None:
            return await self._permit_reduced(evaluation, request, match, resource, own, answer)
        await self._asking.ask(evaluation, resource)
        return self._permit(evaluation, request, _BY_POLICY)

    async def identify(
        self, request: Request, rules: Rules, extra_origins: frozenset[str] = NOBODY, protected: Protected | None = None
    ) -> Identified:
        """Find who sent a request, by its bearer token or by its session. Pages of `extra_origins` may use a session
        as our own may; a token is to be made for `protected`, or for no resource of a route. Raises Refused: TOKEN_*,
        SESSION_*, PRINCIPAL_MISSING, KEYS_UNAVAILABLE, ORIGIN_REFUSED."""
        identified = await self._identified(request, rules, extra_origins)
        if rules.table.protected:
            rules.tokens.at(request.host).require_audience(identified.principal, protected)
        return identified

    async def _identified(self, request: Request, rules: Rules, extra_origins: frozenset[str]) -> Identified:
        now, tokens = self._now(), rules.tokens.at(request.host)
        if b"authorization" not in request.seen:
            for source, privacy in self._sources:
                if source.holds(request):
                    if request.websocket or request.method not in SAFE_METHODS:
                        require_own_origin(request, extra_origins)
                    presented = await source.present(request, now, tokens)
                    kept = presented.session.identity if presented.session is not None else ""
                    principal = await tokens.principal_of_session(presented.token, kept, now)
                    if presented.cookies:
                        privacy = KeepPrivate(privacy.vary, no_store=True)
                    return Identified(principal, presented.session, presented.cookies, privacy)
        return Identified(await tokens.principal_of(request, now))

    async def _principal(
        self, evaluation: Evaluation, request: Request, route: Route, mode: RouteMode | None
    ) -> Principal:
        if route.to_app is not None and route.to_app.takes(request.seen.get(b"authorization")):
            seen = {name: value for name, value in request.seen.items() if name != b"authorization"}
            request = request._replace(seen=seen)
        if b"authorization" in request.seen or not self._sources:
            rules, tokens = evaluation.rules, evaluation.rules.tokens.at(request.host)
            principal, evaluation.obligations = await tokens.principal_of(request, self._now()), _BY_BEARER
            if rules.table.protected:
                tokens.require_audience(principal, route.protected)
        else:
            extra_origins = (
                frozenset(route.cors.origins) if route.cors is not None and route.cors.credentials else NOBODY
            )
            identified = await self.identify(request, evaluation.rules, extra_origins, route.protected)
            principal, evaluation.cookies, evaluation.obligations = (
                identified.principal,
                identified.cookies,
                (identified.privacy,),
            )
        evaluation.principal = principal
        facts = evaluation.facts
        facts.issuer, facts.principal, facts.roles = principal.issuer, principal.id, principal.roles
        if mode is not None and self._obeys:
            facts.mode, facts.budget = mode.of(principal.id), mode.budget
        return principal

    def _leave(self, evaluation: Evaluation) -> None:
        """End the last of the stages that the request was in."""
        stages, marks = evaluation.facts.stages, evaluation.marks
        marks.append(("", self._timer()))
        for (stage, since), (_, end) in pairwise(marks):
            stages[stage] = end - since

    def _cross_origin(self, evaluation: Evaluation, route: Route, request: Request) -> Verdict | None:
        if route.app_preflight and cors.is_preflight(request):
            return self._permit(evaluation, cors.without_credentials(request), Ground.PREFLIGHT)
        if cors.is_preflight(request) and "OPTIONS" not in route.actions:
            return Preflight(cors.preflight_headers(route.cors, request), evaluation.facts)
        evaluation.reply_headers = cors.answer_headers(route.cors, request)
        return None

    async def _permit_reduced(
        self,
        evaluation: Evaluation,
        request: Request,
        match: RouteMatch,
        resource: Resource,
        ask: Ask,
        rule: AnswerRule,
    ) -> Forward:
        """Ask about the request, and permit it with what its rule demands of the answer: in shadow, that it be watched,
        which changes nothing of what the app is asked and answers."""
        facts, principal = evaluation.facts, evaluation.sender
        material = Material(request, match.path, principal)
        if rule.lookups:
            self._asking.require_material(evaluation, rule.lookups, material)
        more = tuple(action for action in rule.asks if action != resource.action)
        question = facts.asked = self._asking.question(facts, principal, (resource._replace(more_actions=more),))
        answer = await self._asking.pdp.check(question)
        tell(facts, resource.action, answer)
        (allowed,) = granted(question, answer)
        if resource.action not in allowed:
            raise Refused(Code.DENIED_BY_POLICY)
        searched = [named for named in rule.searched(request.query) if named[0] or named[1] not in allowed]
        await self._asking.require_open(question, searched)
        judge = self._judge(evaluation, material, resource.scope)
        if ask.push is None or facts.mode != "enforce":
            return self._permit_demanding(evaluation, request, rule, allowed, judge)
        narrowed = await self._asking.narrowed(question, ask.push, resource.scope, request.query, evaluation.app)
        return self._permit_demanding(evaluation, request, rule, allowed, judge, narrowed)

    def _judge(self, evaluation: Evaluation, material: Material, scope: str) -> Judge:
        """Return what asks about items of the app's answer to a request."""
        facts, principal = evaluation.facts, evaluation.sender

        async def ask(items: AnswerItems) -> list[frozenset[str]]:
            resources = resources_of(items.kind, items.actions, items.ids, items.attributes, scope)
            asked = self._asking.question(facts, principal, resources)
            return granted(asked, await self._asking.pdp.check(asked))

        async def judge(items: AnswerItems) -> list[frozenset[str]]:
            if not items.lookups:
                return await ask(items)
            known, is_there = await self._asking.looked_up(evaluation, items, material)
            answers = iter(await ask(known) if known.ids else ())
            return [next(answers) if there else NOT_THERE for there in is_there]

        return judge

    def _permit_demanding(
        self, evaluation: Evaluation, request: Request, rule: AnswerRule, allowed: frozenset[str], judge: Judge,
        narrowed: Narrowed | None = None,
    ) -> Forward:  # fmt: skip
        """Permit what was decided, with what a rule demands of the answer, which `judge` decides; `narrowed` says how
        the app is asked for less of it, None where it cannot be."""
        facts = evaluation.facts
        if facts.mode != "enforce":
            return self._permit(evaluation, request, _BY_POLICY, (Watch(rule.demand(judge, allowed, "")),))
        evaluation.obligations = _all_unstored(evaluation.obligations)
        request, pushed = without_conditions(request), ""
        if narrowed is not None:
            request, pushed = _narrower(request, narrowed), narrowed.pushed
        given = rule.nothing if narrowed is not None and narrowed.nothing else None
        return self._permit(evaluation, request, _BY_POLICY, (rule.demand(judge, allowed, pushed),), given=given)

    async def _permit_undecided(
        self, evaluation: Evaluation, request: Request, resource: Resource, rule: AnswerLookup
    ) -> Forward:
        """Permit a request that changes nothing, and demand that the decision be made from the app's answer."""
        facts, principal = evaluation.facts, evaluation.sender
        more = tuple(action for action in rule.asks if action != resource.action)
        # where the app has no value for one of its attributes, what the request says does not stand in for it
        said = {name: value for name, value in resource.attributes.items() if name not in rule.names}

        async def conclude(attributes: Mapping[str, Any]) -> frozenset[str]:
            since = self._timer()
            asked = resource._replace(attributes={**said, **attributes}, more_actions=more)
            question = facts.asked = self._asking.question(facts, principal, (asked,))
            answer = await self._asking.pdp.check(question)
            tell(facts, resource.action, answer)
            facts.stages["decision"] = self._timer() - since
            (allowed,) = granted(question, answer)
            if resource.action not in allowed:
                raise Refused(Code.DENIED_BY_POLICY)
            return allowed

        enforced = facts.mode == "enforce"
        await self._asking.require_open(
            self._asking.question(facts, principal, (resource,)), rule.searched(request.query)
        )
        if enforced:
            evaluation.obligations = _all_unstored(evaluation.obligations)
        decide = Decide(rule, resource.id, conclude, shadow=not enforced)
        return self._permit(evaluation, without_conditions(request), _BY_POLICY, (decide,))

    def _permit(
        self, evaluation: Evaluation, request: Request, ground: Ground, obligations: tuple[Obligation, ...] = (),
        would_refuse: Code | None = None, given: HeldAnswer | None = None,
    ) -> Forward:  # fmt: skip
        headers, principal, to_app = request.headers, evaluation.principal, evaluation.to_app
        trace = evaluation.facts.trace
        if trace is not None:
            kept = [pair for pair in headers if pair[0] not in (TRACEPARENT, TRACESTATE)]
            headers = [*kept, *trace.headers(trace.upstream)]
        if to_app is not None and to_app.drops_authorization:
            headers = [pair for pair in headers if pair[0] != b"authorization"]
        if principal is not None:
            headers = headers + self._identity_headers(evaluation, principal, enforced=would_refuse is None)
        return _Permit(
            request.method.encode("ascii"), request.target, tuple(headers), ground, evaluation.facts,
            principal.expires if principal is not None else None, would_refuse, evaluation.reply_headers,
            evaluation.recheck, evaluation.cookies, obligations + evaluation.obligations,
            evaluation.rules.table.reserved, given, evaluation.upstream,
        )  # fmt: skip

    def _sender_headers(self, evaluation: Evaluation) -> list[Header]:
        """List what a permit would tell the app of the sender, the Authorization included. Raises Refused: CLAIM_*,
        IDENTITY_HEADER_TOO_LARGE."""
        request, to_app = evaluation.request, evaluation.to_app
        drops = to_app is not None and to_app.drops_authorization
        headers = request.headers if request is not None and not drops else ()
        own = [pair for pair in headers if pair[0] == b"authorization"]
        return own + self._identity_headers(evaluation, evaluation.sender, enforced=True)

    def _identity_headers(self, evaluation: Evaluation, principal: Principal, *, enforced: bool) -> list[Header]:
        """List what the app is told of the principal. Raises Refused where it is `enforced`: CLAIM_*,
        IDENTITY_HEADER_TOO_LARGE."""
        to_app = evaluation.to_app
        try:
            headers = [*identity_headers(principal[:2])]
            if to_app is not None and to_app.headers:
                headers += to_app.values(principal)
        except Refused:
            if enforced:
                raise
            # in shadow the app is told what can be told
            headers = short_headers(principal)
        if self._sign is not None:
            headers.append((ASSERTION, self._sign(principal, self._now(), evaluation.app)))
        return headers

    async def _permit_refused(self, raw: Raw, evaluation: Evaluation, refused: Exception) -> Forward | None:
        """Permit a request that is refused, None where the refusal counts. Raises where it cannot be permitted."""
        code = refused.code if isinstance(refused, Refused) else Code.INTERNAL_ERROR
        facts, request, table = evaluation.facts, evaluation.request, evaluation.rules.table
        route = table.nowhere
        if request is None or code in AMBIGUOUS:
            # it may be meant for any route
            mode = strictest(self._mode, *(table.modes if self._obeys else ()))
        else:
            route = table.meant(request.segments, request.host) or route
            mode = await self._mode_of(evaluation, request, route, code)
        facts.mode = mode
        if counts(code, mode):
            return None
        # no obligation of the route: shadow changes nothing of what the app answers
        sent = request or as_it_came(raw, evaluation.rules.reading)
        if not facts.route:
            evaluation.to_app, evaluation.upstream = table.to_app, table.home(sent.host)
        return self._permit(
            evaluation, in_own_session(evaluation, sent, route, self._sessions), Ground.SHADOW, would_refuse=code
        )  # fmt: skip

    async def _mode_of(self, evaluation: Evaluation, request: Request, route: Route, code: Code) -> Mode:
        """Return the mode of a request that is refused, and find who sent it where that has to be known. Raises Refused
        where that counts."""
        facts = evaluation.facts
        ask = route.asks.get(WEBSOCKET if request.websocket else request.method)
        own = (route.mode if ask is None else ask.mode) if self._obeys else None
        mode = facts.mode = self._mode if own is None else own.of(facts.principal)
        is_open = route.access is _PUBLIC and ask is not None
        if evaluation.principal is not None or is_open or code not in OF_RULES:
            return mode
        if mode == "shadow-policy" or (own is not None and own.varies):
            # in place of the end of what was entered
            evaluation.marks[-1] = ("identity", evaluation.marks[-1][1])
            try:
                await self._principal(evaluation, request, route, own)
            except Refused:
                if mode == "shadow-policy":
                    raise
            finally:
                self._leave(evaluation)
        return mode if own is None else own.of(facts.principal)


def _privacies(sources: Iterable[TokenSource]) -> list[KeepPrivate]:
    """List, for each source, the headers on which the answer depends that it identified: on all that goes before it,
    too."""
    privacies, names = [], list[bytes]()
    for source in sources:
        names += [name for name in source.vary.split(b", ") if name not in names]
        privacies.append(KeepPrivate(b", ".join([*names, BY_BEARER.vary])))
    return privacies


def _refusal(evaluation: Evaluation, error: Exception) -> Refuse:
    if isinstance(error, Refused):
        protected, reply_headers = evaluation.protected, evaluation.reply_headers
        if protected is not None and reply_headers:
            # a page of another origin may read the challenge, too (Fetch standard, section 3.2.3)
            reply_headers = (*reply_headers, (b"access-control-expose-headers", b"WWW-Authenticate"))
        told = masked_code(error, evaluation.missing)
        evaluation.facts.reply = error.reply or evaluation.facts.reply
        return Refuse(
            error.code,
            evaluation.facts,
            error.detail,
            error.methods,
            reply_headers,
            evaluation.cookies,
            told,
            protected.challenge if protected is not None else None,
        )
    detail = f"{type(error).__name__}: {error}"
    return Refuse(Code.INTERNAL_ERROR, evaluation.facts, detail, (), evaluation.reply_headers, evaluation.cookies)
