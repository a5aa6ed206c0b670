"""The console: who has come, which action is allowed where, and the whole way of one request. It forwards nothing.

A refused request tells its sender the code of its own answer and no more: what was looked up is for those who may read
the resource, and for the admins of the console.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from sidecar.doors.answer import Answer, status_of
from sidecar.doors.door import Door
from sidecar.gate.asking import PDP, Lookups
from sidecar.gate.batch import batch_of, parts_of
from sidecar.gate.body import Show, Viewer
from sidecar.gate.codes import Code
from sidecar.gate.decision import PdpAnswer, Question
from sidecar.gate.gate import Gate, Identified
from sidecar.gate.identity import Principal, principal_as
from sidecar.gate.lookup import Call, Reply
from sidecar.gate.obligation import KeepPrivate
from sidecar.gate.own import CONSOLE_PATH
from sidecar.gate.request import Raw
from sidecar.gate.routing import WEBSOCKET, Rest, Route, Variable
from sidecar.gate.verdict import Facts, Forward, Refuse, Refused, Verdict, unheld
from sidecar.pages.permissions import client_code_of, hypothetical_raw
from sidecar.pages.router import PageRequest, Paths, form_of, page, query_of
from sidecar.pages.templates import Pages
from sidecar.record.line import ConsoleAs
from sidecar.study.answers import given_answer
from sidecar.study.batch import GivenPrincipal, decide_all
from sidecar.study.explain import ask_named, mode_told
from sidecar.study.recording import RecordingPDP
from sidecar.wire import strict_json

# a path that was typed is asked for at once; without scripts there are buttons
SCRIPT = Markup(
    "document.querySelectorAll('.route input, #f-path').forEach("
    "(field) => field.addEventListener('change', () => field.form.requestSubmit()));"
)
_JSON = (b"{", b"[", b'"')
"""Beginnings of a body that is JSON; another is a form."""
_DIGEST = base64.b64encode(hashlib.sha256(SCRIPT.encode("utf-8")).digest()).decode("ascii")
_POLICY = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_DIGEST}'"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Recorder(RecordingPDP):
    """A PDP and hooks that remember what was asked and answered."""

    def __init__(self, pdp: PDP, hooks: Lookups) -> None:
        super().__init__(pdp)
        self.hooks = hooks
        self.calls: list[Call] = []

    async def ask(self, call: Call) -> Reply:
        """Pass the call on."""
        self.calls.append(call if call.lookup.batch is None else batch_of([call]))
        return await self.hooks.ask(call)

    async def ask_all(self, calls: Sequence[Call]) -> Sequence[Reply]:
        """Pass the calls on."""
        self.calls += map(batch_of, parts_of(calls))
        return await self.hooks.ask_all(calls)


class ActionCell(NamedTuple):
    """One action of a route: allowed or not and why; None where it depends on a path that nobody has named."""

    method: str
    action: str
    allowed: bool | None
    code: str


class Row(NamedTuple):
    """One route with its actions. `field` is the name of the input for its path, "" where the route is one path."""

    route: str
    kind: str
    access: str
    field: str
    path: str
    cells: list[ActionCell]


class Console:
    """Answers `/_sidecar/console`. An admin, who has the role `admin` ("" for nobody), may ask as another principal,
    and is shown the whole way of refused requests."""

    def __init__(
        self, door: Door, hooks: Lookups, pdp: PDP, pages: Pages, *, admin: str = "", lifetime: float = 0.0,
        idle: float = 0.0, forms: str = "",
    ) -> None:  # fmt: skip
        self._door = door
        self._hooks = hooks
        self._pdp = pdp
        self._pages = pages
        self._admin = admin
        self._lifetime = lifetime
        self._idle = idle
        self._forms = forms

    def paths(self) -> Paths:
        """The own path that this answers."""
        return {CONSOLE_PATH: {"GET": self.show, "POST": self.judge}}

    async def show(self, asked: PageRequest) -> Answer:
        """GET console. Raises Refused where nobody has come, or somebody asks as another who may not."""
        identified = await self._door.gate.identify(asked.request, asked.rules)
        return await self._shown(identified, query_of(asked), asked)

    async def judge(self, asked: PageRequest) -> Answer:
        """POST console: the same, with an answer of the app whose items are judged. It is for admins: who makes up
        items learns what the policy says of any. Raises Refused."""
        identified = await self._door.gate.identify(asked.request, asked.rules)
        if not self._is_admin(identified.principal):
            raise Refused(Code.DENIED_BY_POLICY, "judging an answer is for the role of SIDECAR_CONSOLE_ADMIN")
        return await self._shown(identified, form_of(asked), asked)

    async def _shown(self, identified: Identified, query: Mapping[str, str], asked: PageRequest) -> Answer:
        principal, admin = self._principal(identified, query, asked), self._is_admin(identified.principal)
        body = self._pages.render(
            "console.html", me=identified.principal, session=self._session(identified, asked.now), principal=principal,
            as_other=principal is not identified.principal, may_ask_as=admin,
            claims=_pretty(identified.principal.claims), attributes=_pretty(principal.attributes), query=query,
            rows=await self._rows(principal, query, asked), way=await self._way(principal, query, asked, admin),
            methods=METHODS, seconds=_span, script=SCRIPT,
        )  # fmt: skip
        made = page(body, policy=_POLICY, forms=self._forms)
        made.headers.extend((b"set-cookie", cookie) for cookie in identified.cookies)
        return made

    # --- who ---

    def _is_admin(self, principal: Principal) -> bool:
        return bool(self._admin) and self._admin in principal.roles

    def _principal(self, identified: Identified, query: Mapping[str, str], asked: PageRequest) -> Principal:
        """Return the principal to check: the person, or the one that an admin names. Raises Refused."""
        me, name = identified.principal, query.get("as", "").strip()
        if not name:
            return me
        if not self._is_admin(me):
            raise Refused(Code.DENIED_BY_POLICY, "asking as another principal is for the role of SIDECAR_CONSOLE_ADMIN")
        roles = [role.strip() for role in query.get("roles", "").split(",") if role.strip()]
        try:
            attributes = strict_json.loads(query.get("attributes", "").strip().encode() or b"{}")
        except ValueError as error:
            raise Refused(Code.REFERENCE_INVALID, f"attributes: {error}") from None
        if not isinstance(attributes, dict) or "" in attributes or len(name) > 256:
            raise Refused(Code.REFERENCE_INVALID, "attributes: expected a JSON object without an empty name")
        journal = self._door.journal
        journal.write(ConsoleAs(journal.time(), asked.request.request_id, me.id, name))
        return principal_as(name, roles, attributes, me, asked.rules.tokens.rules)

    def _session(self, identified: Identified, now: float) -> dict[str, int]:
        told = {"token": int(identified.principal.expires - now)}
        if identified.session is not None:
            told["idle"] = int(identified.session.used + self._idle - now)
            told["whole"] = int(identified.session.created + self._lifetime - now)
        return told

    # --- the table of actions ---

    async def _rows(self, principal: Principal, query: Mapping[str, str], asked: PageRequest) -> list[Row]:
        at = [route for route in asked.rules.table.routes if route.is_at(asked.request.host)]
        rows = [_row(number, route, query) for number, route in enumerate(at)]
        raws = [
            hypothetical_raw("GET", row.path, asked, websocket=True)
            if cell.method == WEBSOCKET
            else hypothetical_raw(cell.method, row.path, asked)
            for row in rows
            if row.path
            for cell in row.cells
        ]
        verdicts = iter(await self._decided(raws, principal, asked) if raws else [])
        return [row._replace(cells=[_judged(cell, row, verdicts) for cell in row.cells]) for row in rows]

    async def _decided(self, raws: list[Raw], principal: Principal, asked: PageRequest) -> list[Verdict]:
        return await decide_all(
            raws, principal, asked.rules, self._hooks, self._pdp, now=self._door.now,
            timer=self._door.timer, request_id=asked.request.request_id,
        )  # fmt: skip

    # --- the whole way of one request ---

    async def _way(
        self, principal: Principal, query: Mapping[str, str], asked: PageRequest, admin: bool
    ) -> dict[str, Any] | None:
        path, method = query.get("path", "").strip(), query.get("method", "GET")
        if not path or method not in METHODS:
            return None
        recorder = Recorder(self._pdp, self._hooks)
        rules = asked.rules.by(GivenPrincipal(principal))
        gate = Gate(rules, recorder, recorder, now=self._door.now, timer=self._door.timer)
        body = query.get("body", "").encode("utf-8")
        raw = hypothetical_raw(method, path if path.startswith("/") else f"/{path}", asked)
        if body:
            length = str(len(body)).encode("ascii")
            kind = b"application/json" if body.startswith(_JSON) else b"application/x-www-form-urlencoded"
            raw = raw._replace(headers=[*raw.headers, (b"content-type", kind), (b"content-length", length)])

        async def read_body(limit: int, show: Show, viewer: Viewer) -> None:
            if len(body) > limit:
                raise Refused(Code.BODY_TOO_LARGE)
            show(body)

        decided = await gate.decide(raw, read_body)
        verdict = unheld(decided)
        told = mode_told(verdict, ask_named(rules.table, verdict.facts.route, method), self._door.gate.mode)
        if not admin and not isinstance(verdict, Forward):
            return _refusal_alone(verdict)
        if not admin:
            return _whole_way(verdict, recorder)
        if not isinstance(decided, Forward):
            return _whole_way(verdict, recorder) | {"mode": told}
        answer = query.get("answer", "").strip().encode("utf-8")
        given = await given_answer(decided, answer, recorder) if answer else None
        if given is not None and verdict is not decided:
            # the decision is made from that answer
            verdict = given.refusal or decided
        judges = any(not isinstance(each, KeepPrivate) for each in decided.obligations)
        return _whole_way(verdict, recorder) | {"judges": judges, "given": given, "mode": told}


def _refusal_alone(verdict: Verdict) -> dict[str, Any]:
    """Return what the answer to the request itself would tell, in the words of the template."""
    facts = Facts(verdict.facts.request_id, verdict.facts.method, verdict.facts.path)
    hidden = dict.fromkeys(("detail", "attributes", "question", "answer", "policy"), "")
    return (
        _verdict(verdict) | hidden | {"facts": facts, "calls": [], "derived_roles": [], "whole": False, "judges": False}
    )


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "allowed": isinstance(verdict, Forward),
        "code": client_code_of(verdict),
        "status": status_of(verdict.client_code) if isinstance(verdict, Refuse) else None,
        "mode": "",
    }


def _whole_way(verdict: Verdict, recorder: Recorder) -> dict[str, Any]:
    question, answer = recorder.question, recorder.answer
    truth = {"code": verdict.code, "detail": verdict.detail} if isinstance(verdict, Refuse) else {"detail": ""}
    return (
        _verdict(verdict)
        | truth
        | {
            "whole": True,
            "judges": False,
            "given": None,
            "facts": verdict.facts,
            "calls": [call.lookup.inquiry.shown(call.question) for call in recorder.calls],
            "attributes": _pretty(_attributes(question)) if question is not None else "",
            "question": _pretty(question_json(question)) if question is not None else "",
            "answer": _pretty(answer_json(answer)) if answer is not None else "",
            "policy": answer.results[0].policy if answer is not None and answer.results else "",
            "derived_roles": list(answer.results[0].derived_roles) if answer is not None and answer.results else [],
        }
    )


def _attributes(question: Question) -> Any:
    """Attributes of the resource, or of each by its id where there are several."""
    resources = question.resources
    return resources[0].attributes if len(resources) == 1 else {one.id: dict(one.attributes) for one in resources}


def question_json(question: Question) -> dict[str, Any]:
    """A question in the words of Cerbos' HTTP API (CheckResources)."""
    principal = question.principal
    return {
        "requestId": question.request_id,
        "includeMeta": True,
        "principal": {"id": principal.id, "roles": list(principal.roles), "attr": dict(principal.attributes)},
        "resources": [
            {
                "actions": [one.action],
                "resource": {"kind": one.kind, "id": one.id, "attr": dict(one.attributes)}
                | ({"scope": one.scope} if one.scope else {}),
            }
            for one in question.resources
        ],
    }


def answer_json(answer: PdpAnswer) -> dict[str, Any]:
    """An answer in the words of Cerbos' HTTP API, as far as the gate reads it."""
    return {
        "requestId": answer.request_id,
        "cerbosCallId": answer.call_id,
        "results": [
            {
                "resource": {"kind": one.kind, "id": one.id},
                "actions": dict(one.effects),
                "meta": {"matchedPolicy": one.policy, "effectiveDerivedRoles": list(one.derived_roles)},
            }
            for one in answer.results
        ],
    }


def _row(number: int, route: Route, query: Mapping[str, str]) -> Row:
    varies = any(isinstance(segment, Variable | Rest) for segment in route.segments)
    field = f"path-{number}" if varies else ""
    path = query.get(field, "").strip() if varies else route.path
    cells = [ActionCell(method, action, None, "") for method, action in route.actions.items()]
    kinds = ", ".join(dict.fromkeys(ask.kind for _, ask in route.questions))
    return Row(route.name, kinds, route.access, field, path, cells)


def _judged(cell: ActionCell, row: Row, verdicts: Any) -> ActionCell:
    if not row.path:
        return cell._replace(
            allowed=True if row.access == "public" else None, code="public" if row.access == "public" else ""
        )
    verdict = next(verdicts)
    return cell._replace(allowed=isinstance(verdict, Forward), code=client_code_of(verdict))


def _pretty(value: Any) -> str:
    return json.dumps(
        value if not isinstance(value, Mapping) else dict(value), indent=2, ensure_ascii=False, default=str
    )


def _span(seconds: int) -> str:
    """A time that is left, for people."""
    if seconds <= 0:
        return "ended"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{rest} s"
