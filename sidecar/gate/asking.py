"""The gate's questions: about a request to lookups, and about its resources to the PDP. It makes no permit.

It declares the ports through which it asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.ask import Ask, Operation
from sidecar.gate.body import ReadBody, read_form, read_json
from sidecar.gate.chain import Known, known_of, missing_of
from sidecar.gate.codes import Code
from sidecar.gate.decision import PdpAnswer, Question, Resource, judge
from sidecar.gate.decision_cache import key_of
from sidecar.gate.each import Each, Found, NamedResource, elements_of, found_of, judged_of, judged_of_named
from sidecar.gate.evaluation import Evaluation
from sidecar.gate.identity import Principal
from sidecar.gate.lookup import Call, Lookup, Reply, ReplyReader, call_for, is_missing, merged
from sidecar.gate.narrowing import ListQuestion, Narrowed, Plans, Push
from sidecar.gate.obligation import AnswerItems
from sidecar.gate.references import ABSENT, Material, ReferenceSource, resolve
from sidecar.gate.request import Request
from sidecar.gate.routing import RouteMatch
from sidecar.gate.values import check_string
from sidecar.gate.verdict import EachAsked, Facts, Refused
from sidecar.together import together
from sidecar.wire.grammar import Header

Clock = Callable[[], float]
LOOKUPS_AT_ONCE = 32
"""Questions of one request to one lookup under way at once."""
TOLD = 100
"""Ids of a list's items that are missing, as far as anybody is told of them."""


class Lookups(Protocol):
    """Port: asks a lookup. Raises Refused with a LOOKUP_* code when there is no answer."""

    async def ask(self, call: Call) -> Reply: ...

    async def ask_all(self, calls: Sequence[Call]) -> Sequence[Reply]:
        """Ask calls of one lookup with `batch`: -> the answers, in their order."""


class PDP(Protocol):
    """Port: asks the policy decision point. Raises Refused with a PDP_* code when there is no answer."""

    async def check(self, question: Question) -> PdpAnswer: ...


def tell(facts: Facts, action: str, answer: PdpAnswer) -> None:
    facts.call_id = answer.call_id
    if answer.results:
        first = answer.results[0]
        facts.policy, facts.access_request = first.policies.get(action, ""), first.access_request


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


def _lookups(evaluation: Evaluation, names: Sequence[str]) -> list[Lookup]:
    """The lookups of these names, which are reached now."""
    lookups = [evaluation.rules.lookups[name] for name in names]
    evaluation.missing = lookups[0].missing if len(lookups) == 1 else missing_of(lookups)
    return lookups


Tell = Callable[[Evaluation], Sequence[Header]]
"""Gives what the app would be told of the sender of a request. Raises Refused: CLAIM_*, IDENTITY_HEADER_TOO_LARGE."""


def _tell_nothing(evaluation: Evaluation) -> Sequence[Header]:
    return ()


async def _material(
    evaluation: Evaluation, request: Request, match: RouteMatch, ask: Ask, read_body: ReadBody | None
) -> Material:
    """Return what the references of a method read. Raises Refused: BODY_*, PROXY_UNABLE, REFERENCE_INVALID."""
    principal = evaluation.sender
    if ask.form is not None:
        form = await read_form(request, read_body, ask.max_body, ask.form, principal.asker)
        return Material(request, match.path, principal, form=form)
    body = await read_json(request, read_body, ask.max_body, principal.asker) if ask.needs_body else None
    return Material(request, match.path, principal, body)


class ContextHandler:
    """Asks for the gate. `now` gives Unix seconds, `timer` monotonic seconds. Without `plans` no list is narrowed, and
    nobody searches by a field that is hidden from some. `tell` is for lookups that ask the app as the sender."""

    def __init__(
        self, hooks: Lookups, pdp: PDP, plans: Plans | None, *, now: Clock, timer: Clock, tell: Tell = _tell_nothing
    ) -> None:
        self._hooks = hooks
        self.pdp = pdp
        self._plans = plans
        self._readings = ReplyReader()
        self._now = now
        self._timer = timer
        self._tell = tell

    def _ready(self, evaluation: Evaluation, call: Call, material: Material) -> Call:
        """The call with its trace, and with its warrant where it is for the app."""
        trace, inquiry = evaluation.facts.trace, call.lookup.inquiry
        if trace is not None:
            call = call._replace(trace=trace.headers(trace.lookup))
        if isinstance(inquiry, AppInquiry):
            identity = self._tell(evaluation) if inquiry.as_principal else ()
            call = call._replace(app=inquiry.warrant(call, material.request, identity, evaluation.upstream))
        return call

    async def resource(
        self, evaluation: Evaluation, request: Request, match: RouteMatch, ask: Ask, read_body: ReadBody | None
    ) -> Resource:
        return await self.resource_of(evaluation, ask, await _material(evaluation, request, match, ask, read_body))

    async def resource_of(self, evaluation: Evaluation, ask: Ask, material: Material) -> Resource:
        """Find the resource that `ask` says. Raises Refused: REFERENCE_INVALID, BODY_INVALID, LOOKUP_*, RESOURCE_*."""
        kind, resource_id = ask.kind, str(ask.id.value(material)) if ask.id is not None else "-"
        if not resource_id:
            # Cerbos takes no empty id, and its refusal would look like a fault of its own
            raise Refused(Code.REFERENCE_INVALID, "an empty id")
        evaluation.facts.kind, evaluation.facts.resource_id = kind, resource_id
        attributes = _attributes(ask, material)
        # before the lookup: a scope that is refused must not tell whether the resource is there
        scope = "" if ask.scope is None else scope_text(str(ask.scope.value(material)))
        if ask.lookup:
            lookups = _lookups(evaluation, ask.lookup)
            known = await self._known(evaluation, lookups, kind, resource_id, material)
            attributes = merged(attributes, lookups, known)
        return Resource(kind, resource_id, ask.action, attributes, (), scope)

    async def resources(
        self,
        evaluation: Evaluation,
        request: Request,
        match: RouteMatch,
        ask: Ask,
        each: Each,
        read_body: ReadBody | None,
    ) -> Found:
        """Find the resources of a request about many, and which of them are missing."""
        facts, material = evaluation.facts, await _material(evaluation, request, match, ask, read_body)
        facts.kind = ask.kind
        elements, said = elements_of(each, material), _attributes(ask, material)
        facts.each = EachAsked(tuple([element.id for element in elements]))
        scope = "" if ask.scope is None else scope_text(str(ask.scope.value(material)))
        known: dict[str, Known] = {}
        lookups = _lookups(evaluation, each.lookup) if each.lookup else []
        if lookups:
            # an id may stand there twice, with other attributes
            ids = list(dict.fromkeys([element.id for element in elements]))
            known = dict(zip(ids, await self._known_of(evaluation, lookups, ask.kind, ids, material), strict=True))
        return found_of(elements, known, Resource(ask.kind, "", ask.action, said, (), scope), lookups)

    async def _known(
        self, evaluation: Evaluation, lookups: Sequence[Lookup], kind: str, resource_id: str, material: Material
    ) -> Mapping[str, Any]:
        """Return what lookups know of one resource. Raises Refused, where it is missing too."""
        if len(lookups) == 1:
            # as most are
            call = self._ready(evaluation, call_for(lookups[0], kind, resource_id, material), material)
            return self._readings.attributes(call, await self._hooks.ask(call))
        (known,) = await self._known_of(evaluation, lookups, kind, (resource_id,), material)
        if isinstance(known, Refused):
            raise known
        return known

    async def _known_of(
        self, evaluation: Evaluation, lookups: Sequence[Lookup], kind: str, ids: Sequence[str], material: Material
    ) -> list[Known]:
        async def ask_all(calls: Sequence[Call]) -> Sequence[Reply]:
            calls = [self._ready(evaluation, call, material) for call in calls]
            if calls[0].lookup.batch is not None:
                return await self._hooks.ask_all(calls)
            return await together([partial(self._hooks.ask, call) for call in calls], LOOKUPS_AT_ONCE)

        return await known_of(lookups, kind, ids, material, ask_all, self._readings)

    def require_material(self, evaluation: Evaluation, names: Sequence[str], material: Material) -> None:
        """See that a request has what lookups will read of it, when the app has answered. Raises Refused, as
        `resolve`."""
        for name in names:
            for reference in evaluation.rules.lookups[name].references:
                if reference.source is not ReferenceSource.LOOKUP:
                    resolve(reference, material)

    async def looked_up(
        self, evaluation: Evaluation, items: AnswerItems, material: Material
    ) -> tuple[AnswerItems, list[bool]]:
        """Ask the lookups of items, as for one resource: -> the items that they have, with what they know, and of each
        item whether it is one of those. Raises Refused: ITEMS_UNREADABLE, REFERENCE_INVALID, LOOKUP_*."""
        lookups = [evaluation.rules.lookups[name] for name in items.lookups]
        # an id may stand there twice, with other attributes
        ids = list(dict.fromkeys(items.ids))
        for item_id in ids:
            check_string("id", item_id, Code.ITEMS_UNREADABLE)
        known = dict(zip(ids, await self._known_of(evaluation, lookups, items.kind, ids, material), strict=True))
        gone = [item_id for item_id, read in known.items() if isinstance(read, Refused)]
        if gone:
            evaluation.facts.missing = (*evaluation.facts.missing, *gone)[:TOLD]
        found, attributes, is_there = list[str](), list[Mapping[str, Any]](), list[bool]()
        for item_id, said in zip(items.ids, items.attributes, strict=True):
            read = known[item_id]
            is_there.append(not isinstance(read, Refused))
            if not isinstance(read, Refused):
                found.append(item_id)
                attributes.append(merged(said, lookups, read))
        return items._replace(ids=found, attributes=attributes), is_there

    async def named_resources(
        self, evaluation: Evaluation, request: Request, match: RouteMatch, operations: Sequence[Operation]
    ) -> list[NamedResource]:
        """Find the resources of a request that asks for several things, each of which may be missing."""
        facts = evaluation.facts

        async def find(operation: Operation) -> NamedResource:
            material = Material(request, match.path, evaluation.sender, None, operation.args)
            # what is said of one alone does not stand for all
            told = Facts(facts.request_id, facts.method, facts.path, trace=facts.trace)
            own = Evaluation(
                told, evaluation.rules, request=evaluation.request, principal=evaluation.principal,
                to_app=evaluation.to_app, upstream=evaluation.upstream,
            )  # fmt: skip
            try:
                return NamedResource(operation.name, await self.resource_of(own, operation.ask, material), own.missing)
            except Refused as refused:
                if own.missing is None or not is_missing(refused, own.missing):
                    raise
                return NamedResource(operation.name, refused, own.missing)

        named = await together([partial(find, operation) for operation in operations], LOOKUPS_AT_ONCE)
        facts.each = EachAsked(tuple([one.name for one in named]))
        facts.kind, facts.action = operations[0].ask.kind, operations[0].ask.action
        return named

    async def ask_named(self, evaluation: Evaluation, named: Sequence[NamedResource]) -> None:
        """Ask about all of a request's resources in one question. Raises Refused unless each is there and allowed."""
        resources = [one.found for one in named if isinstance(one.found, Resource)]
        verdicts = await self._told_verdicts(evaluation, resources)
        evaluation.facts.each, refused, evaluation.missing = judged_of_named(named, [ok for ok, _, _ in verdicts])
        if refused is not None:
            raise refused

    async def ask(self, evaluation: Evaluation, resource: Resource) -> None:
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
                if facts.access_request is None:
                    cache.keep(key, principal, (allowed, facts.call_id, facts.policy), asked, since)
        if not allowed:
            raise Refused(Code.DENIED_BY_POLICY)

    async def require_open(self, question: Question, fields: Sequence[tuple[str, str]]) -> None:
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

    async def narrowed(
        self, question: Question, push: Push | None, scope: str, query: bytes, app: str = ""
    ) -> Narrowed:
        if push is None or self._plans is None:
            return Narrowed()
        asked = ListQuestion(
            question.request_id, question.principal, push.kind, push.action, scope, question.trace, app
        )  # fmt: skip
        return await self._plans.narrow(asked, push, query)

    async def ask_each(self, evaluation: Evaluation, found: Found) -> None:
        facts, asked = evaluation.facts, evaluation.facts.each
        assert asked is not None  # noqa: S101 - for the type checker
        verdicts = await self._told_verdicts(evaluation, found.resources)
        facts.each, refused = judged_of(asked, found, [allowed for allowed, _, _ in verdicts])
        if refused is not None:
            raise refused

    async def _told_verdicts(
        self, evaluation: Evaluation, resources: Sequence[Resource]
    ) -> list[tuple[bool, str, str]]:
        """As `_verdicts`; the facts tell of them what they tell of one."""
        facts, principal = evaluation.facts, evaluation.sender
        if resources:
            facts.asked = Question(facts.request_id, principal, tuple(resources))
        verdicts = await self._verdicts(evaluation, principal, resources)
        if verdicts:
            # the first one that is denied, or the first one
            _, facts.call_id, facts.policy = min(verdicts, key=lambda verdict: verdict[0])
        return verdicts

    async def _verdicts(
        self, evaluation: Evaluation, principal: Principal, resources: Sequence[Resource]
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
        question = self.question(facts, principal, tuple(resources))
        answer = await self.pdp.check(question)
        return [
            (allowed, answer.call_id, result.policies.get(resource.action, ""))
            for allowed, resource, result in zip(judge(question, answer), resources, answer.results, strict=True)
        ]

    async def _decided(self, facts: Facts, principal: Principal, resource: Resource) -> bool:
        question = facts.asked = self.question(facts, principal, (resource,))
        answer = await self.pdp.check(question)
        tell(facts, resource.action, answer)
        return judge(question, answer)[0]

    def question(self, facts: Facts, principal: Principal, resources: tuple[Resource, ...]) -> Question:
        question, trace = Question(facts.request_id, principal, resources), facts.trace
        if trace is not None:
            question = question._replace(trace=trace.headers(trace.decision), alone=trace.sampled)
        return question
