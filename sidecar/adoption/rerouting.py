"""Recorded requests under another route file: which question they would be now.

A line has the path, the method and the names in the query, and the values of attributes by name. So what comes from
the path or the principal is read anew, and what comes from elsewhere is taken as it was recorded, if it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from sidecar.adoption.replay import Recalled, SkipReason, Unreplayed, decided, principal_of, restored, undecided
from sidecar.config.routes.file import RoutesFile
from sidecar.gate.ask import Ask
from sidecar.gate.codes import Code, Ground
from sidecar.gate.decision import Resource
from sidecar.gate.query import admitted
from sidecar.gate.references import Material, ReferenceSource, Template
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.routing import WEBSOCKET, Access, RouteMatch, ask_of
from sidecar.gate.verdict import Refused
from sidecar.record.line import QuestionLine
from sidecar.study.supply import PolicyQuestion, questions

_ROUTING = (Code.ROUTE_UNMAPPED, Code.METHOD_UNMAPPED, Code.QUERY_NOT_ALLOWED)
"""Codes of requests that the routes refuse, whatever a policy says."""
_OPEN = (Ground.PUBLIC, Ground.AUTHENTICATED)
_RECORDED = (ReferenceSource.PATH, ReferenceSource.PRINCIPAL)
"""Sources of references that a line has."""


class Settled(NamedTuple):
    """A request that the new routes decide without a policy. `before` is what was decided when it was recorded."""

    line: QuestionLine
    before: bool
    allowed: bool


class _Unknown(Exception):
    """Something that the new routes need is not in the line."""


class Rerouting:
    """Leads recorded requests through other routes."""

    def __init__(self, routes: RoutesFile) -> None:
        self._routes = routes
        self._reading = Reading(reserved=routes.table.reserved)
        self._asked = {question.where: question for question in questions(routes) if not question.item}

    def route(self, line: QuestionLine) -> Recalled | Settled | Unreplayed:
        """Return the question of a request under the new routes, or what they decide."""
        before = _before(line)
        if before is None:
            return undecided(line)
        try:
            return self._routed(line, before)
        except _Unknown as unknown:
            return Unreplayed(line, SkipReason.REROUTED, str(unknown))
        except Refused as refused:
            return Settled(line, before, False) if refused.code in _ROUTING else _rerouted(line, refused.code)

    def _routed(self, line: QuestionLine, before: bool) -> Recalled | Settled | Unreplayed:
        request = _request(line, self._reading)
        match = self._routes.table.match(request)
        ask = ask_of(match.route, request)
        if ask.query is not None and line.query:
            admitted("&".join([quote(name, safe="") for name in line.query]).encode("ascii"), ask.query)
        if match.route.access is not Access.POLICY:
            return Settled(line, before, match.route.access is Access.PUBLIC or bool(line.principal))
        if not line.principal:
            return Unreplayed(line, SkipReason.NO_PRINCIPAL, line.code)
        if ask.operations is not None:
            raise _Unknown("a body that says what is asked")
        self._require_principal(line)
        principal = principal_of(line)
        question = self._asked[f"{_method(line, match)} {match.route.name}"]
        asked = _Asked(line, Material(request, match.path, principal), ask, question)
        return Recalled(line, principal, self._resources(asked, ask), before)

    def _require_principal(self, line: QuestionLine) -> None:
        recorded = {*(line.principal_attributes or ()), *_redacted(line, "principal")}
        for name in self._routes.principal.attributes.keys() - self._routes.principal.optional - recorded:
            raise _Unknown(f"principal.{name}")

    def _resources(self, asked: _Asked, ask: Ask) -> tuple[Resource, ...]:
        line = asked.line
        if (ask.each is None) is not (line.resources is None):
            raise _Unknown("a request about one resource in place of one about many, or the other way round")
        scope = "" if ask.scope is None else asked.text(ask.scope, line.scope)
        if line.resources is None:
            one = "-" if ask.id is None else asked.text(ask.id, line.id if line.asked else None)
            return (Resource(ask.kind, one, ask.action, asked.attributes(line.attributes or {}), (), scope),)
        return tuple(
            Resource(ask.kind, str(one["id"]), ask.action, asked.attributes(one["attributes"]), (), scope)
            for one in line.resources
        )


def _before(line: QuestionLine) -> bool | None:
    if line.code in _ROUTING:
        return False
    return True if line.code in _OPEN else decided(line)


def _rerouted(line: QuestionLine, detail: str) -> Unreplayed:
    return Unreplayed(line, SkipReason.REROUTED, detail)


def _request(line: QuestionLine, reading: Reading) -> Request:
    websocket = line.method == WEBSOCKET
    headers = [(b"host", (line.host or "localhost").encode("ascii", "replace"))]
    target = line.path.encode("utf-8")
    return read(
        Raw("GET" if websocket else line.method, target, headers, "", "http", line.request_id, websocket), reading
    )


def _method(line: QuestionLine, match: RouteMatch) -> str:
    return "GET" if line.method == "HEAD" and "GET" in match.route.asks else line.method


def _redacted(line: QuestionLine, owner: str) -> list[str]:
    return [name.partition(".")[2] for name in line.redacted or () if name.startswith(f"{owner}.")]


def _is_recorded(template: Template) -> bool:
    return all(reference.source in _RECORDED for reference in template.references)


class _Asked(NamedTuple):
    """A recorded request under the new routes: its line, and what its path says."""

    line: QuestionLine
    material: Material
    ask: Ask
    question: PolicyQuestion

    def text(self, template: Template, recorded: str | None) -> str:
        """The template's text, as it was recorded where it reads what a line has not. Raises _Unknown."""
        if _is_recorded(template):
            return str(template.value(self.material))
        if recorded is None:
            raise _Unknown(template.source)
        return recorded

    def attributes(self, recorded: object) -> Mapping[str, Any]:
        """The attributes of a resource that the new routes supply. Raises _Unknown."""
        line, redacted = self.line, _redacted(self.line, "resource")
        known = dict(recorded) if isinstance(recorded, dict) else {}
        if line.resources is None:
            known |= dict.fromkeys(restored(line), line.principal)
        found: dict[str, Any] = {}
        for name, supply in self.question.attributes.items():
            template = self.ask.attributes.get(name)
            if template is not None and _is_recorded(template):
                found[name] = template.value(self.material)
            elif name in known:
                found[name] = known[name]
            elif name not in redacted and not (supply.absent and line.asked):
                raise _Unknown(f"resource.{name}")
        return found
