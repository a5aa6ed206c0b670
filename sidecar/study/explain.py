"""`sidecar explain`: every stage of the gate for one request; forwards nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sidecar.gate.ask import Ask
from sidecar.gate.body import Show, Viewer
from sidecar.gate.codes import Code
from sidecar.gate.decision import PdpAnswer, Question, Resource
from sidecar.gate.gate import Gate
from sidecar.gate.identity import Principal, PrincipalRules, Tokens, principal_from
from sidecar.gate.mcp_session import SESSION
from sidecar.gate.mode import Mode, counts
from sidecar.gate.obligation import Reduce
from sidecar.gate.protected import Protected
from sidecar.gate.request import Raw, Request
from sidecar.gate.routing import WEBSOCKET, RouteTable
from sidecar.gate.statement import Statement
from sidecar.gate.target import read_target
from sidecar.gate.verdict import Forward, Preflight, Refuse, Refused, Verdict, unheld
from sidecar.release.items import ItemsRule
from sidecar.release.lines import LinesRule
from sidecar.release.lookup import AnswerLookupRule
from sidecar.release.single import FieldsRule
from sidecar.study.answers import GivenAnswer, ItemVerdict, given_answer, place_of
from sidecar.study.recording import RecordingPDP


class GivenClaims(Tokens):
    """In place of a token, and of a session's id token: claims that the person who asks made up. For explaining only,
    never for traffic. `trusted` verifies real tokens."""

    def __init__(self, claims: Mapping[str, Any], rules: PrincipalRules, trusted: Tokens | None = None) -> None:
        self._claims = {"sub": "anonymous", "exp": 2**40, **claims}
        self.rules = rules
        self._trusted = trusted

    def at(self, host: str) -> GivenClaims:
        """Return the same at a host, where other issuers may be trusted."""
        return self if self._trusted is None else GivenClaims(self._claims, self.rules, self._trusted.at(host))

    async def principal_of(self, request: Request, now: float) -> Principal:
        """The principal that the given claims make. Raises Refused: also for an unknown app client."""
        self._require_client()
        return principal_from(self._claims, str(self._claims.get("iss", "explain")), self.rules, self._claims)

    def _require_client(self) -> None:
        trusted = {} if self._trusted is None else self._trusted.issuers
        if not trusted or "client_id" not in self._claims:
            return
        client, named = self._claims["client_id"], self._claims.get("iss")
        own = trusted.get(named) if isinstance(named, str) else None
        known = own.client_ids if own is not None else frozenset().union(*(one.client_ids for one in trusted.values()))
        if not isinstance(client, str) or client not in known:
            expected = ", ".join(sorted(known))
            raise Refused(
                Code.TOKEN_INVALID,
                f"client_id: found {client!r}, expected an app client whose tokens are taken: {expected}",
            )

    def require_audience(self, principal: Principal, protected: Protected | None) -> None:
        """See that an `aud`, where one is given, is that of the route. Raises Refused(TOKEN_INVALID)."""
        if protected is not None and "aud" in principal.claims:
            protected.require_audience(principal.claims["aud"])


async def explain(
    gate: Gate,
    pdp: RecordingPDP,
    raw: Raw,
    body: bytes,
    answer: bytes | None = None,
    mode: Mode = "enforce",
    unjudged: str = "",
) -> tuple[Verdict, list[str]]:
    """Decide `raw` at `gate`, which asks `pdp`: the verdict, and the lines that tell how it came about. With an
    `answer` of the app, which is JSON, the verdict on each item of it, too. `mode` is that of the settings: where it,
    or the route's, is not the enforcing one, a line says so. `unjudged` is why the gate does not know whose a session
    at an MCP server is, "" where it does."""

    async def read_body(limit: int, show: Show, viewer: Viewer) -> None:
        if len(body) > limit:
            raise Refused(Code.BODY_TOO_LARGE, f"more than {limit} bytes")
        show(body)

    verdict = await gate.decide(raw, read_body)
    ask = ask_named(gate.rules.table, verdict.facts.route, WEBSOCKET if raw.websocket else raw.method)
    lines = decision_lines(verdict, pdp, ask, _statements(gate, verdict, ask))
    if isinstance(verdict, Forward) and ask is not None:
        lines += [*_sent(verdict, ask), *_of_rule(ask)]
        if answer is None and ask.needs_answer:
            lines.append("answer     the app's answer decides what is shown: give one with --answer FILE")
            verdict = unheld(verdict)
        elif answer is not None:
            given = await given_answer(verdict, answer, pdp)
            of_items = ask.answer.lookups if ask.answer is not None else ()
            lines += [*_shown_statements(gate, of_items), *_of_answer(given)]
            verdict = given.refusal if given is not None and given.refusal is not None else verdict
    if unjudged and _names_session(gate, verdict, raw):
        lines.append(f"session    Mcp-Session-Id is not judged: {unjudged}")
    told = mode_told(verdict, ask, mode)
    if told:
        lines.append(f"mode       {told}")
    return verdict, [*lines, *_remedy(verdict), f"verdict    {concluded(verdict)}"]


def _names_session(gate: Gate, verdict: Verdict, raw: Raw) -> bool:
    """Return whether a request names a session that its route binds."""
    bound = any(route.binds_sessions for route in gate.rules.table.routes if route.name == verdict.facts.route)
    return bound and any(name.lower() == SESSION for name, _ in raw.headers)


_REMEDIES = {
    Code.TOKEN_MISSING: "say who asks: --claims with the claims of a token, or --token with a token",
    Code.NO_ROLES: Code.NO_ROLES.remedy,
}
"""Next step where a first try leaves out who asks, or a role."""


def _remedy(verdict: Verdict) -> list[str]:
    text = _REMEDIES.get(verdict.code) if isinstance(verdict, Refuse) else None
    return [] if text is None else [f"remedy     {text}"]


def _statements(gate: Gate, verdict: Verdict, ask: Ask | None) -> list[str]:
    """Tell which statements were run before the decision."""
    if ask is None or "lookup" not in verdict.facts.stages:
        return []
    return _shown_statements(gate, ask.lookups)


def _shown_statements(gate: Gate, names: Iterable[str]) -> list[str]:
    """Tell statements, with the names of their parameters alone."""
    inquiries = [(name, gate.rules.lookups[name].inquiry) for name in names]
    return [f"lookup     {name}: {each.shown('')}" for name, each in inquiries if isinstance(each, Statement)]


def mode_told(verdict: Verdict, ask: Ask | None, mode: Mode) -> str:
    """Return in which mode the request of a verdict is, "" where that is the enforcing one for all. `mode` is that of
    the settings."""
    own = ask.mode if ask is not None else None
    said, mode = (mode, mode) if own is None else (str(own), own.of(verdict.facts.principal))
    if mode == said == "enforce":
        return ""
    forwarded = isinstance(verdict, Refuse) and not counts(verdict.code, mode)
    here = f": {mode} for this request" if said != mode else ""
    return f"{said}{here}{', which forwards it and records the refusal' if forwarded else ''}"


def ask_named(table: RouteTable, name: str, method: str) -> Ask | None:
    """Return the question of the route of that name for a method; None where there is none."""
    route = next((route for route in table.routes if route.name == name), None)
    return None if route is None else route.asks.get(method)


def default_host(table: RouteTable, listed: frozenset[str] | None, target: bytes) -> str:
    """Return the host of a request that names none: one at which a route has its path, where hosts are named at all.
    `listed` are those of the settings."""
    named = [host.replace("*", "any") for host in sorted(listed or table.hosts or ())] or ["localhost"]
    try:
        segments = read_target(target)[1]
    except Refused:
        return named[0]
    return next((host for host in named if table.find(segments, host) is not None), named[0])


def decision_lines(
    verdict: Verdict, pdp: RecordingPDP, ask: Ask | None, looked_up: Sequence[str] = ()
) -> list[str]:  # fmt: skip
    """Tell how a verdict came about: the route, the principal, what was `looked_up`, in lines, and what the PDP was
    asked and answered."""
    facts = verdict.facts
    lines = [f"request    {facts.method} {facts.path}"]
    lines.append(f"route      {facts.route or '(none)'}" + (f", action {facts.action}" if facts.action else ""))
    if facts.upstream is not None:
        lines.append(f"upstream   {facts.upstream.name}, {facts.upstream.url}")
    if ask is not None and ask.open_query:
        lines.append(f"query      the rule depends on {', '.join(ask.open_query)}, and any other parameter passes")
    if facts.principal:
        lines.append(f"principal  {facts.principal}")
    if facts.each is not None:
        lines.append(f"each       {facts.kind} {', '.join(facts.each.ids)}")
    elif facts.kind:
        lines.append(f"resource   {facts.kind} {facts.resource_id}")
    lines += looked_up
    if pdp.question is not None:
        lines += _asked(pdp.question)
    if pdp.answer is not None:
        lines += _answered(pdp.answer)
    if facts.each is not None and facts.each.denied:
        lines.append(f"denied     {', '.join(facts.each.denied)}")
    if isinstance(verdict, Refuse) and verdict.masked_as is not None:
        lines.append(f"told       {verdict.masked_as}, so that nobody learns which ids there are")
    return lines


def _sent(permit: Forward, ask: Ask) -> list[str]:
    """Tell what the app is asked, where it is not what the client asked, and how much of the policy is in it."""
    reduce = next((each for each in permit.obligations if isinstance(each, Reduce)), None)
    push = [f"push       {ask.push.dialect}: {reduce.pushed}"] if ask.push is not None and reduce is not None else []
    if not push and not ask.set_query:
        return []
    sent = "nothing: no item can be shown" if permit.given is not None else permit.target.decode("latin-1")
    return [*push, f"sent       {sent}"]


def _of_rule(ask: Ask) -> list[str]:
    """Tell what the route does to the app's answer."""
    if isinstance(ask.answer_lookup, AnswerLookupRule):
        read = ", ".join(f"{n}{'?' if n in ask.answer_lookup.optional else ''}" for n in ask.answer_lookup.attributes)
        return [f"lookup     the app's answer, attributes {read}"]
    match ask.answer:
        case (ItemsRule() as rule) | LinesRule(items=rule):
            read = ", ".join(f"{name}{'?' if name in rule.optional else ''}" for name in rule.attributes)
            lines = [
                f"items      {rule.kind}, action {rule.action}, each of the list at {place_of(rule.at)}"
                + (f", attributes {read}" if read else "")
                + (f", lookup {', '.join(rule.lookups)}" if rule.lookups else "")
            ]
        case FieldsRule() as rule:
            lines = []
        case _:
            return []
    fields = ", ".join(f"{'.'.join(field.path)} by {field.action}" for field in rule.fields)
    return [*lines, *([f"fields     {fields}"] if fields else [])]


def _of_answer(given: GivenAnswer | None) -> list[str]:
    """Tell what is left of an answer of the app, item by item."""
    if given is None:
        return ["answer     goes out as it comes: the route has no `items` and no `fields`"]
    lines = [f"item       {item.id} {_item(item)}; policy {item.policy or '(none matched)'}" for item in given.items]
    lines += [f"item       {missing} dropped; a lookup does not have it" for missing in given.missing]
    before, after = given.size
    if given.refusal is not None:
        return [*lines, f"answer     {before} bytes, of which nothing goes out"]
    if given.hidden:
        lines.append(f"hidden     {', '.join(given.hidden)}")
    listed = given.calls or given.missing
    kept = f"{given.kept} of {given.seen} items, {given.masked} without fields, " if listed else ""
    return [*lines, f"answer     {kept}{after} of {before} bytes, questions {given.calls}"]


def _item(item: ItemVerdict) -> str:
    return "dropped" if not item.kept else f"kept without {', '.join(item.hidden)}" if item.hidden else "kept"


def concluded(verdict: Verdict) -> str:
    """Tell a verdict in a word, with its reason."""
    match verdict:
        case Refuse():
            return f"REFUSE {verdict.code}" + (f" ({verdict.detail})" if verdict.detail else "")
        case Forward():
            return f"FORWARD {verdict.ground}"
        case Preflight():
            return "PREFLIGHT, answered by the sidecar"


def _asked(question: Question) -> list[str]:
    principal, first = question.principal, question.resources[0]
    return [
        f"roles      {', '.join(principal.roles)}",
        f"principal attributes  {json.dumps(dict(principal.attributes))}",
        *(f"{_whose(one, question)}  {json.dumps(dict(one.attributes))}" for one in question.resources),
        *([f"scope      {first.scope}"] if first.scope else []),
    ]


def _whose(resource: Resource, question: Question) -> str:
    return f"{resource.kind} {resource.id} attributes" if len(question.resources) > 1 else "resource attributes "


def _answered(answer: PdpAnswer) -> list[str]:
    lines = [f"pdp        call {answer.call_id}"]
    for result in answer.results:
        if len(answer.results) > 1:
            lines.append(f"           {result.kind} {result.id}")
        effects = ", ".join(f"{action}: {effect}" for action, effect in sorted(result.effects.items()))
        lines.append(f"           {effects}; policy {result.policy or '(none matched)'}")
        lines.append(f"           derived roles {', '.join(result.derived_roles) or '(none)'}")
    return lines
