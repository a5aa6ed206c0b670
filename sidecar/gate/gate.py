"""The gate: reading, routing, identity, lookup and decision in a row -> one verdict. No HTTP and no I/O in here.

It declares the ports through which it asks, and it alone makes a permit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, final

from sidecar.gate import cors
from sidecar.gate.ask import Ask
from sidecar.gate.body import ReadBody, read_json
from sidecar.gate.codes import Code, Ground
from sidecar.gate.decision import PdpAnswer, Question, Resource, granted, judge, resources_of
from sidecar.gate.decision_cache import DecisionCache, key_of
from sidecar.gate.each import LOOKUPS_AT_ONCE, Each, Found, Known, elements_of, found_of, judged_of, known_of
from sidecar.gate.forwarded import client_of
from sidecar.gate.identity import Principal, Tokens
from sidecar.gate.lookup import Call, Lookup, Missing, Readings, Reply, call_for, masked_code, merged
from sidecar.gate.mode import AMBIGUOUS, OF_RULES, Mode, RouteMode, counts, strictest
from sidecar.gate.narrowing import ListQuestion, Narrowed, Plans, Push
from sidecar.gate.obligation import (
    AnswerItems,
    AnswerLookup,
    AnswerRule,
    Decide,
    HeldAnswer,
    KeepPrivate,
    Obligation,
    Watch,
)
from sidecar.gate.origin import require_own_origin
from sidecar.gate.own import ASSERTION
from sidecar.gate.query import admitted, with_values
from sidecar.gate.references import ABSENT, Material
from sidecar.gate.request import Raw, Reading, Request, as_it_came, read
from sidecar.gate.routing import WEBSOCKET, Access, Match, Route, RouteTable, ask_of
from sidecar.gate.session import Session, TokenSource
from sidecar.gate.to_app import AuthorizationRule, ToApp, identity_headers, short_headers
from sidecar.gate.trace import TRACEPARENT, TRACESTATE
from sidecar.gate.verdict import EachAsked, Facts, Forward, Preflight, Refuse, Refused, Verdict
from sidecar.together import together
from sidecar.wire.grammar import SAFE_METHODS, Header

MAX_LOGGED_PATH = 512
"""Bytes of a path that could not be read, as far as the log tells of it."""

NOBODY: frozenset[str] = frozenset()

# a look at a member of an enum costs as much as three calls
_PUBLIC, _AUTHENTICATED = Access.PUBLIC, Access.AUTHENTICATED
_BY_NOBODY, _BY_TOKEN, _BY_POLICY = Ground.PUBLIC, Ground.AUTHENTICATED, Ground.ALLOWED

Clock = Callable[[], float]


class Lookups(Protocol):
    """Port: asks a lookup hook. Raises Refused with a LOOKUP_* code when there is no answer."""

    async def ask(self, call: Call) -> Reply: ...


class PDP(Protocol):
    """Port: asks the policy decision point. Raises Refused with a PDP_* code when there is no answer."""

    async def check(self, question: Question) -> PdpAnswer: ...


Sign = Callable[[Principal, float], bytes]
"""Port: (principal, now) -> the X-Auth-Assertion of this moment."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of `routes.yaml` and the settings, in force as one: a reload swaps the whole, what is remembered of
    `decisions` included. None remembers nothing."""

    table: RouteTable
    lookups: Mapping[str, Lookup]
    tokens: Tokens
    reading: Reading
    decisions: DecisionCache | None = None

    def by(self, tokens: Tokens) -> Rules:
        """The same rules with another way to tell who has come; nothing is remembered."""
        return Rules(self.table, self.lookups, tokens, self.reading)


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


@dataclass(slots=True)
class _Evaluation:
    """How far one request came: what its refusal or permit is made of."""

    facts: Facts
    rules: Rules
    request: Request | None = None
    principal: Principal | None = None
    reply_headers: tuple[Header, ...] = ()
    cookies: tuple[bytes, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    """Obligations from the kind of sign-in, in addition to the route's."""
    recheck: float = 0.0
    to_app: ToApp | None = None
    missing: Missing | None = None
    """The `missing` of the lookup that was reached: the treatment of a resource that does not exist."""
    marks: list[tuple[str, float]] = field(default_factory=list)
    """The stages that were entered, and when."""

    @property
    def sender(self) -> Principal:
        """The principal, in the stages behind identity."""
        assert self.principal is not None  # noqa: S101 - for the type checker
        return self.principal


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


def _tell(facts: Facts, action: str, answer: PdpAnswer) -> None:
    facts.call_id = answer.call_id
    if answer.results:
        facts.policy = answer.results[0].policies.get(action, "")


def _unstored(obligation: Obligation) -> Obligation:
    return KeepPrivate(obligation.vary, no_store=True) if isinstance(obligation, KeepPrivate) else obligation


# what Cerbos takes for a scope (its Policy schema): another would be a fault of the PDP's, and not of who sent it
_SCOPE = re.compile(r"[0-9A-Za-z][\w-]*(?:\.\w[\w-]*)*", re.ASCII)


def scope_text(text: str) -> str:
    """A policy's scope. Raises Refused(REFERENCE_INVALID)."""
    if _SCOPE.fullmatch(text) is None:
        raise Refused(
            Code.REFERENCE_INVALID, "an invalid scope: expected parts of letters, digits, _ and -, joined with dots"
        )
    return text


def _attributes(ask: Ask, material: Material) -> dict[str, Any]:
    """Attributes that a request says itself. Raises Refused."""
    attributes = {name: value.value(material) for name, value in ask.attributes.items()}
    if ask.has_optional:
        attributes = {name: value for name, value in attributes.items() if value is not ABSENT}
    return attributes


def _call(evaluation: _Evaluation, lookup: str, kind: str, resource_id: str, material: Material) -> Call:
    call = call_for(evaluation.rules.lookups[lookup], kind, resource_id, material)
    evaluation.missing = call.lookup.missing
    trace = evaluation.facts.trace
    return call if trace is None else call._replace(trace=trace.headers(trace.lookup))


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
    ) -> None:  # fmt: skip
        self.rules = rules
        self._hooks = hooks
        self._pdp = pdp
        self._plans = plans
        self._readings = Readings()
        self._now = now
        self._timer = timer
        self._sign = sign
        self._mode: Mode = mode or "enforce"
        self._obeys = mode is not None
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
        evaluation = _Evaluation(facts, rules)
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

    async def _decide(self, raw: Raw, read_body: ReadBody | None, evaluation: _Evaluation) -> Verdict:
        facts, rules, timer, enter = evaluation.facts, evaluation.rules, self._timer, evaluation.marks.append
        enter(("request", timer()))
        request = evaluation.request = read(raw, rules.reading)
        facts.path, facts.request_id, facts.host = request.path, request.request_id, request.host
        facts.query = request.query
        enter(("routing", timer()))
        match = rules.table.match(request)
        route = match.route
        facts.route, evaluation.recheck, evaluation.to_app = route.name, route.recheck, route.to_app
        if route.mode is not None and self._obeys:
            facts.mode = route.mode.of("")
        if route.cors is not None or cors.is_preflight(request):
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
        if route.access is not _AUTHENTICATED and principal.incomplete is not None:
            raise Refused(*principal.incomplete)
        if ask.set_query:
            request = _with_own_query(request, ask, Material(request, match.path, principal))
        if route.access is _AUTHENTICATED:
            return self._permit(evaluation, request, _BY_TOKEN)
        return await self._permit_by_policy(evaluation, request, match, ask, read_body)

    async def _permit_by_policy(
        self, evaluation: _Evaluation, request: Request, match: Match, ask: Ask, read_body: ReadBody | None
    ) -> Forward:
        evaluation.marks.append(("lookup", self._timer()))
        if ask.each is not None:
            found = await self._resources(evaluation, request, match, ask, ask.each, read_body)
            evaluation.marks.append(("decision", self._timer()))
            await self._ask_each(evaluation, found)
            return self._permit(evaluation, request, _BY_POLICY)
        resource = await self._resource(evaluation, request, match, ask, read_body)
        if ask.answer_lookup is not None:
            return await self._permit_undecided(evaluation, request, resource, ask.answer_lookup)
        evaluation.marks.append(("decision", self._timer()))
        if ask.answer is not None:
            return await self._permit_reduced(evaluation, request, resource, ask, ask.answer)
        await self._ask(evaluation, resource)
        return self._permit(evaluation, request, _BY_POLICY)

    async def identify(self, request: Request, rules: Rules, extra_origins: frozenset[str] = NOBODY) -> Identified:
        """Find who sent a request, by its bearer token or by its session. Pages of `extra_origins` may use a session
        as our own may. Raises Refused: TOKEN_*, SESSION_*, PRINCIPAL_MISSING, KEYS_UNAVAILABLE,
        ORIGIN_REFUSED."""
        now = self._now()
        if b"authorization" not in request.seen:
            for source, privacy in self._sources:
                if source.holds(request):
                    if request.websocket or request.method not in SAFE_METHODS:
                        require_own_origin(request, extra_origins)
                    presented = await source.present(request, now, rules.tokens)
                    kept = presented.session.identity if presented.session is not None else ""
                    principal = await rules.tokens.principal_of_session(presented.token, kept, now)
                    if presented.cookies:
                        privacy = KeepPrivate(privacy.vary, no_store=True)
                    return Identified(principal, presented.session, presented.cookies, privacy)
        return Identified(await rules.tokens.principal_of(request, now))

    async def _principal(
        self, evaluation: _Evaluation, request: Request, route: Route, mode: RouteMode | None
    ) -> Principal:
        if route.to_app is not None and route.to_app.takes(request.seen.get(b"authorization")):
            seen = {name: value for name, value in request.seen.items() if name != b"authorization"}
            request = request._replace(seen=seen)
        if b"authorization" in request.seen or not self._sources:
            principal, evaluation.obligations = (
                await evaluation.rules.tokens.principal_of(request, self._now()),
                _BY_BEARER,
            )
        else:
            extra_origins = (
                frozenset(route.cors.origins) if route.cors is not None and route.cors.credentials else NOBODY
            )
            identified = await self.identify(request, evaluation.rules, extra_origins)
            principal, evaluation.cookies, evaluation.obligations = (
                identified.principal,
                identified.cookies,
                (identified.privacy,),
            )
        evaluation.principal = principal
        evaluation.facts.principal, evaluation.facts.roles = principal.id, principal.roles
        if mode is not None and self._obeys:
            evaluation.facts.mode, evaluation.facts.budget = mode.of(principal.id), mode.budget
        return principal

    def _leave(self, evaluation: _Evaluation) -> None:
        """End the last of the stages that the request was in."""
        stages, marks = evaluation.facts.stages, evaluation.marks
        marks.append(("", self._timer()))
        for (stage, since), (_, end) in pairwise(marks):
            stages[stage] = end - since

    def _cross_origin(self, evaluation: _Evaluation, route: Route, request: Request) -> Verdict | None:
        if route.app_preflight and cors.is_preflight(request):
            return self._permit(evaluation, cors.without_credentials(request), Ground.PREFLIGHT)
        if cors.is_preflight(request) and "OPTIONS" not in route.actions:
            return Preflight(cors.preflight_headers(route.cors, request), evaluation.facts)
        evaluation.reply_headers = cors.answer_headers(route.cors, request)
        return None

    async def _resource(
        self, evaluation: _Evaluation, request: Request, match: Match, ask: Ask, read_body: ReadBody | None
    ) -> Resource:
        principal = evaluation.sender
        body = await read_json(request, read_body, ask.max_body) if ask.needs_body else None
        material = Material(request, match.path, principal, body)
        kind, resource_id = ask.kind, str(ask.id.value(material)) if ask.id is not None else "-"
        if not resource_id:
            # Cerbos takes no empty id, and its refusal would look like a fault of its own
            raise Refused(Code.REFERENCE_INVALID, "an empty id")
        evaluation.facts.kind, evaluation.facts.resource_id = kind, resource_id
        attributes = _attributes(ask, material)
        # before the lookup: a scope that is refused must not tell whether the resource is there
        scope = "" if ask.scope is None else scope_text(str(ask.scope.value(material)))
        if ask.lookup:
            call = _call(evaluation, ask.lookup, kind, resource_id, material)
            attributes = merged(attributes, call, self._readings.attributes(call, await self._hooks.ask(call)))
        return Resource(kind, resource_id, ask.action, attributes, (), scope)

    async def _resources(
        self, evaluation: _Evaluation, request: Request, match: Match, ask: Ask, each: Each, read_body: ReadBody | None
    ) -> Found:
        """Find the resources of a request about many, and which of them are missing."""
        principal, facts = evaluation.sender, evaluation.facts
        body = await read_json(request, read_body, ask.max_body) if ask.needs_body else None
        material = Material(request, match.path, principal, body)
        facts.kind = ask.kind
        elements, said = elements_of(each, material), _attributes(ask, material)
        facts.each = EachAsked(tuple([element.id for element in elements]))
        scope = "" if ask.scope is None else scope_text(str(ask.scope.value(material)))
        known: dict[str, Known] = {}
        if each.lookup:
            # an id may stand there twice, with other attributes
            ids = dict.fromkeys([element.id for element in elements])
            calls = [_call(evaluation, each.lookup, ask.kind, resource_id, material) for resource_id in ids]
            replies = await together([partial(self._hooks.ask, call) for call in calls], LOOKUPS_AT_ONCE)
            known = {
                call.resource_id: known_of(self._readings, call, reply)
                for call, reply in zip(calls, replies, strict=True)
            }
        return found_of(elements, known, Resource(ask.kind, "", ask.action, said, (), scope))

    async def _ask(self, evaluation: _Evaluation, resource: Resource) -> None:
        facts, cache, principal = evaluation.facts, evaluation.rules.decisions, evaluation.sender
        if cache is None:
            allowed = await self._decided(facts, principal, resource)
        else:
            # its time runs from when it was asked for: what was changed since may not be in it
            key, asked, since = key_of(principal, resource), self._now(), evaluation.marks[-1][1]
            known = cache.find(key, asked, since)
            facts.cache = "miss" if known is None else "hit"
            if known is not None:
                allowed, facts.call_id, facts.policy = known[:3]
                facts.asked = Question(facts.request_id, principal, (resource,))
            else:
                allowed = await self._decided(facts, principal, resource)
                cache.keep(key, principal, (allowed, facts.call_id, facts.policy), asked, since)
        if not allowed:
            raise Refused(Code.DENIED_BY_POLICY)

    async def _permit_reduced(
        self, evaluation: _Evaluation, request: Request, resource: Resource, ask: Ask, rule: AnswerRule
    ) -> Forward:
        """Ask about the request, and permit it with what its rule demands of the answer: in shadow, that it be watched,
        which changes nothing of what the app is asked and answers."""
        facts, principal = evaluation.facts, evaluation.sender
        more = tuple(action for action in rule.asks if action != resource.action)
        question = facts.asked = self._question(facts, principal, (resource._replace(more_actions=more),))
        answer = await self._pdp.check(question)
        _tell(facts, resource.action, answer)
        (allowed,) = granted(question, answer)
        if resource.action not in allowed:
            raise Refused(Code.DENIED_BY_POLICY)
        searched = [named for named in rule.searched(request.query) if named[0] or named[1] not in allowed]
        await self._require_open(question, searched)

        async def judge_items(items: AnswerItems) -> list[frozenset[str]]:
            asked = self._question(facts, principal, resources_of(*items, resource.scope))
            return granted(asked, await self._pdp.check(asked))

        if facts.mode != "enforce":
            return self._permit(evaluation, request, _BY_POLICY, (Watch(rule.demand(judge_items, allowed, "")),))
        evaluation.obligations = tuple([_unstored(obligation) for obligation in evaluation.obligations])
        narrowed = await self._narrowed(question, ask.push, resource.scope, request.query)
        demand = rule.demand(judge_items, allowed, narrowed.pushed if ask.push is not None else "")
        request = _narrower(without_conditions(request), narrowed)
        return self._permit(
            evaluation, request, _BY_POLICY, (demand,), given=rule.nothing if narrowed.nothing else None
        )

    async def _permit_undecided(
        self, evaluation: _Evaluation, request: Request, resource: Resource, rule: AnswerLookup
    ) -> Forward:
        """Permit a request that changes nothing, and demand that the decision be made from the app's answer."""
        facts, principal = evaluation.facts, evaluation.sender
        more = tuple(action for action in rule.asks if action != resource.action)
        # where the app has no value for one of its attributes, what the request says does not stand in for it
        said = {name: value for name, value in resource.attributes.items() if name not in rule.names}

        async def conclude(attributes: Mapping[str, Any]) -> frozenset[str]:
            since = self._timer()
            asked = resource._replace(attributes={**said, **attributes}, more_actions=more)
            question = facts.asked = self._question(facts, principal, (asked,))
            answer = await self._pdp.check(question)
            _tell(facts, resource.action, answer)
            facts.stages["decision"] = self._timer() - since
            (allowed,) = granted(question, answer)
            if resource.action not in allowed:
                raise Refused(Code.DENIED_BY_POLICY)
            return allowed

        enforced = facts.mode == "enforce"
        await self._require_open(self._question(facts, principal, (resource,)), rule.searched(request.query))
        if enforced:
            evaluation.obligations = tuple([_unstored(obligation) for obligation in evaluation.obligations])
        decide = Decide(rule, resource.id, conclude, shadow=not enforced)
        return self._permit(evaluation, without_conditions(request), _BY_POLICY, (decide,))

    async def _require_open(self, question: Question, fields: Sequence[tuple[str, str]]) -> None:
        """See that a query searches and sorts by no field that its sender may not see on every item: the order of what
        comes back tells what is hidden. Raises Refused(QUERY_NOT_ALLOWED)."""
        (resource,) = question.resources
        for kind, action in fields:
            kind = kind or resource.kind
            asked = ListQuestion(question.request_id, question.principal, kind, action, resource.scope, question.trace)
            if self._plans is None or not await self._plans.all_allowed(asked):
                raise Refused(
                    Code.QUERY_NOT_ALLOWED, f"a field that needs {action!r}, which is not allowed on every {kind!r}"
                )

    async def _narrowed(self, question: Question, push: Push | None, scope: str, query: bytes) -> Narrowed:
        if push is None or self._plans is None:
            return Narrowed()
        asked = ListQuestion(question.request_id, question.principal, push.kind, push.action, scope, question.trace)
        return await self._plans.narrow(asked, push, query)

    async def _ask_each(self, evaluation: _Evaluation, found: Found) -> None:
        facts, asked, principal = evaluation.facts, evaluation.facts.each, evaluation.sender
        assert asked is not None  # noqa: S101 - for the type checker
        if found.resources:
            facts.asked = Question(facts.request_id, principal, tuple(found.resources))
        verdicts = await self._verdicts(evaluation, principal, found.resources)
        if verdicts:
            # the first one that is denied, or the first one
            _, facts.call_id, facts.policy = min(verdicts, key=lambda verdict: verdict[0])
        facts.each, refused = judged_of(asked, found, [allowed for allowed, _, _ in verdicts])
        if refused is not None:
            raise refused

    async def _verdicts(
        self, evaluation: _Evaluation, principal: Principal, resources: Sequence[Resource]
    ) -> list[tuple[bool, str, str]]:
        """Ask about resources in one question, but for those that are remembered: for each (allowed, call, policy)."""
        cache, facts = evaluation.rules.decisions, evaluation.facts
        if cache is None:
            return await self._asked(facts, principal, resources)
        now, since = self._now(), evaluation.marks[-1][1]
        keys = [key_of(principal, resource) for resource in resources]
        verdicts = [known and known[:3] for known in (cache.find(key, now, since) for key in keys)]
        rest = [at for at, known in enumerate(verdicts) if known is None]
        facts.cache = "miss" if rest else "hit"
        for at, verdict in zip(rest, await self._asked(facts, principal, [resources[at] for at in rest]), strict=True):
            verdicts[at] = verdict
            cache.keep(keys[at], principal, verdict, now, since)
        return [verdict for verdict in verdicts if verdict is not None]

    async def _asked(
        self, facts: Facts, principal: Principal, resources: Sequence[Resource]
    ) -> list[tuple[bool, str, str]]:
        if not resources:
            return []
        question = self._question(facts, principal, tuple(resources))
        answer = await self._pdp.check(question)
        return [
            (allowed, answer.call_id, result.policies.get(resource.action, ""))
            for allowed, resource, result in zip(judge(question, answer), resources, answer.results, strict=True)
        ]

    async def _decided(self, facts: Facts, principal: Principal, resource: Resource) -> bool:
        question = facts.asked = self._question(facts, principal, (resource,))
        answer = await self._pdp.check(question)
        _tell(facts, resource.action, answer)
        return judge(question, answer)[0]

    def _question(self, facts: Facts, principal: Principal, resources: tuple[Resource, ...]) -> Question:
        question, trace = Question(facts.request_id, principal, resources), facts.trace
        if trace is not None:
            question = question._replace(trace=trace.headers(trace.decision), alone=trace.sampled)
        return question

    def _permit(
        self, evaluation: _Evaluation, request: Request, ground: Ground, obligations: tuple[Obligation, ...] = (),
        would_refuse: Code | None = None, given: HeldAnswer | None = None,
    ) -> Forward:  # fmt: skip
        headers, principal, to_app = request.headers, evaluation.principal, evaluation.to_app
        trace = evaluation.facts.trace
        if trace is not None:
            kept = [pair for pair in headers if pair[0] not in (TRACEPARENT, TRACESTATE)]
            headers = [*kept, *trace.headers(trace.upstream)]
        if to_app is not None and to_app.authorization is AuthorizationRule.DROP:
            headers = [pair for pair in headers if pair[0] != b"authorization"]
        if principal is not None:
            headers = headers + self._identity_headers(principal, to_app, enforced=would_refuse is None)
        return _Permit(
            request.method.encode("ascii"), request.target, tuple(headers), ground, evaluation.facts,
            principal.expires if principal is not None else None, would_refuse, evaluation.reply_headers,
            evaluation.recheck, evaluation.cookies, obligations + evaluation.obligations,
            evaluation.rules.table.reserved, given,
        )  # fmt: skip

    def _identity_headers(self, principal: Principal, to_app: ToApp | None, *, enforced: bool) -> list[Header]:
        """List what the app is told of the principal. Raises Refused where it is `enforced`: CLAIM_*,
        IDENTITY_HEADER_TOO_LARGE."""
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
            headers.append((ASSERTION, self._sign(principal, self._now())))
        return headers

    async def _permit_refused(self, raw: Raw, evaluation: _Evaluation, refused: Exception) -> Forward | None:
        """Permit a request that is refused, None where the refusal counts. Raises where it cannot be permitted."""
        code = refused.code if isinstance(refused, Refused) else Code.INTERNAL_ERROR
        facts, request, table = evaluation.facts, evaluation.request, evaluation.rules.table
        if request is None or code in AMBIGUOUS:
            # it may be meant for any route
            mode = strictest(self._mode, *(table.modes if self._obeys else ()))
        else:
            mode = await self._mode_of(evaluation, request, table.meant(request.segments) or table.nowhere, code)
        facts.mode = mode
        if counts(code, mode):
            return None
        if request is None or not facts.route:
            evaluation.to_app = table.to_app
        # no obligation of the route: shadow changes nothing of what the app answers
        sent = request or as_it_came(raw, evaluation.rules.reading)
        return self._permit(evaluation, sent, Ground.SHADOW, would_refuse=code)

    async def _mode_of(self, evaluation: _Evaluation, request: Request, route: Route, code: Code) -> Mode:
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


def _refusal(evaluation: _Evaluation, error: Exception) -> Refuse:
    if isinstance(error, Refused):
        told = masked_code(error, evaluation.missing)
        return Refuse(
            error.code,
            evaluation.facts,
            error.detail,
            error.methods,
            evaluation.reply_headers,
            evaluation.cookies,
            told,
        )
    detail = f"{type(error).__name__}: {error}"
    return Refuse(Code.INTERNAL_ERROR, evaluation.facts, detail, (), evaluation.reply_headers, evaluation.cookies)
