"""Drafts of cases for `sidecar test` from recorded lines: one for each kind of request that the log has.

A draft says what the line says, or nothing: whoever drafts runs each against the same routes and policies, and keeps
those that come out as the line says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from sidecar.adoption.drafted_request import (
    DraftedRequest,
    LoggedAttributes,
    Recorded,
    Undraftable,
    filled,
    nested,
    put_principal,
    put_resource,
)
from sidecar.adoption.logs import Logged
from sidecar.config.routes.file import RoutesFile
from sidecar.gate.ask import Ask
from sidecar.gate.codes import Code, Ground, Kind
from sidecar.record.line import Decision, Line, QuestionLine
from sidecar.release.items import ItemsRule
from sidecar.release.lines import LinesRule
from sidecar.release.lookup import AnswerLookupRule
from sidecar.study.explain import ask_named

MAX_CELLS = 10_000
"""Kinds of requests that are told apart; lines of further ones are counted."""
TRIED = 3
"""Lines of one kind of which a case is tried to be made."""
_GROUNDS = frozenset(str(ground) for ground in Ground)
_CODES: Mapping[str, Code] = {str(code): code for code in Code}
_MISSING = (Code.RESOURCE_MISSING, Code.RESOURCE_HIDDEN)
_REQUEST = re.compile(r"[A-Z]+(?:-[A-Z]+)* /[\x21-\x7e]*")
_WITH_BODY = range(200, 600)

Cell = tuple[Any, ...]


def cell_of(line: Recorded) -> Cell:
    """Return the kind of request that a line is of: route, method, kind, action, roles, verdict, and whether the thing
    is the principal's own."""
    owner = line.owner or () if isinstance(line, QuestionLine) else None
    return line.route, line.method, line.kind, line.action, line.roles, line.outcome, line.code, owner


@dataclass
class LineGroup:
    """Lines of one kind of request: the first ones, and how many there are."""

    first: list[Logged] = field(default_factory=list)
    count: int = 0


class Cells:
    """Lines of a log by kinds of requests. `beyond` are lines of kinds for which there was no room."""

    def __init__(self) -> None:
        self.lines = 0
        self.beyond = 0
        self._cells: dict[Cell, LineGroup] = {}

    def add(self, logged: Logged) -> None:
        """Take a line, if it is of a request that the gate judged."""
        line: Line = logged.line
        if not isinstance(line, Decision | QuestionLine):
            return
        self.lines += 1
        cell = cell_of(line)
        if cell not in self._cells and len(self._cells) >= MAX_CELLS:
            self.beyond += 1
            return
        found = self._cells.setdefault(cell, LineGroup())
        found.count += 1
        if len(found.first) < TRIED:
            found.first.append(logged)

    def kinds(self) -> list[LineGroup]:
        """Return the kinds, but for those of a decision log that the question log has, too."""
        asked = {cell[:-1] for cell in self._cells if cell[-1] is not None}
        return [lines for cell, lines in self._cells.items() if cell[-1] is not None or cell[:-1] not in asked]


class CaseDraft(NamedTuple):
    """A case as data, its claims apart. `made_up` are attributes of the resource that the log leaves out."""

    claims: Mapping[str, Any] | None
    case: dict[str, Any]
    made_up: tuple[str, ...]
    logged: Logged


def drafts_of(logged: Logged, routes: RoutesFile) -> Iterator[CaseDraft]:
    """Yield the drafts of one line, the likelier one first. Raises Undraftable."""
    line = logged.line
    assert isinstance(line, Decision | QuestionLine)  # noqa: S101 - for the type checker
    _require_decided(line)
    likely = line.code in _GROUNDS
    first = _draft(logged, line, routes, own=not likely)
    yield first
    if first.made_up and (other := _draft(logged, line, routes, own=likely)).case != first.case:
        yield other


def _require_decided(line: Recorded) -> None:
    code = _CODES.get(line.code)
    if code is None and line.code not in _GROUNDS:
        raise Undraftable(f"the code {line.code} is of another version")
    if code is not None and code.dependency is not None:
        raise Undraftable(f"{line.code} is a fault of that moment: write `lookups` with `unavailable` for it")
    if code is not None and code.kind in (Kind.PROXY, Kind.SIGN_IN, Kind.UPSTREAM, Kind.SIDECAR):
        raise Undraftable(f"{line.code} depends on more than the request")
    if line.code in (Code.SESSION_INVALID, Code.SESSION_EXPIRED, Code.ORIGIN_REFUSED):
        raise Undraftable(f"{line.code} is about a session, which no log has")
    if not _REQUEST.fullmatch(f"{line.method} {line.path}"):
        raise Undraftable("its path cannot be written as it came")


def _draft(logged: Logged, line: Recorded, routes: RoutesFile, *, own: bool) -> CaseDraft:
    made, logged_attributes = DraftedRequest(line), LoggedAttributes(line, own=own)
    ask = ask_named(routes.table, line.route, line.method)
    if line.principal:
        put_principal(made, line, routes.principal)
    if routes.table.hosts is not None and line.host:
        made.headers["Host"] = line.host
    missing = line.code in _MISSING
    code = _CODES.get(line.code)
    # of a request that could not be read nothing was found in it
    if ask is not None and line.kind and (code is None or code.kind is not Kind.REQUEST):
        put_resource(made, line, ask, routes, logged_attributes, missing=missing)
    app = _app(line, ask, logged_attributes, missing=missing)
    sender, claims = _sender(line, made)
    case: dict[str, Any] = {
        "name": f"{line.principal or 'nobody'} {line.method} {line.path}: {line.code}", **sender,
        "request": f"{line.method} {made.target}",
    }  # fmt: skip
    parts = {"headers": made.headers, "body": made.body, "form": made.form, "lookups": made.lookups, "app": app}
    case |= {name: part for name, part in parts.items() if part not in (None, {})}
    case["expect"] = _expected(line)
    return CaseDraft(claims, case, tuple(logged_attributes.made_up), logged)


def _sender(line: Recorded, made: DraftedRequest) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Return what the case says of who asks, and the claims of a principal, which stand in `users`."""
    if line.principal:
        return {}, made.claims
    if line.code == Code.TOKEN_EXPIRED:
        return {"claims": {"sub": "somebody", "exp": 1}}, None
    return ({"token": "invalid"} if line.code == Code.TOKEN_INVALID else {}), None


def _app(
    line: Recorded, ask: Ask | None, logged_attributes: LoggedAttributes, *, missing: bool
) -> dict[str, Any] | None:
    """Return what the app answers: its status, and of a route that judges its answer one in which nothing is."""
    status = _app_status(line)
    answer: dict[str, Any] = {} if status in (None, 200) else {"status": status}
    rule = ask.answer if ask is not None else None
    if ask is not None and isinstance(ask.answer_lookup, AnswerLookupRule) and line.kind:
        if missing:
            return {"status": 404}
        return {"body": filled(ask.answer_lookup.attributes, logged_attributes) or {}}
    if line.code not in _GROUNDS or rule is None:
        return answer or None
    if isinstance(rule, LinesRule):
        return {"headers": {"content-type": "application/x-ndjson"}, "body": "", **answer}
    return {"body": nested(None, rule.at, []) if isinstance(rule, ItemsRule) else {}, **answer}


def _app_status(line: Recorded) -> int | None:
    """Return the app's own status, where it answered."""
    status = line.app_status if isinstance(line, QuestionLine) else None
    if status is None and line.code in _GROUNDS and line.code != Ground.PREFLIGHT:
        status = line.status
    return status if status in _WITH_BODY else None


def _expected(line: Recorded) -> dict[str, Any]:
    # of a request in shadow the log does not have the status that its client will get
    status = {} if line.outcome == "shadow_refuse" else {"status": line.status}
    named = {"kind": line.kind, "id": line.id, "action": line.action}
    denied = {}
    if isinstance(line, QuestionLine) and line.resources:
        denied = {"denied": sorted({str(one["id"]) for one in line.resources if not one.get("allowed")})}
    return {**status, "code": line.code, **{name: value for name, value in named.items() if value}, **denied}


# --- the file ---


class Users:
    """Users of a file: each name with its claims, one of them with other claims under another name."""

    def __init__(self) -> None:
        self.claims: dict[str, dict[str, Any]] = {}
        self._names: dict[str, str] = {}

    def name_of(self, principal: str, claims: Mapping[str, Any]) -> str:
        """Return the name under which these claims stand in the file."""
        # `sub` is the user's name unless it is said: it stays the principal's
        whole = {"sub": principal, **claims}
        key = json.dumps(whole, sort_keys=True)
        if key not in self._names:
            name, number = principal, 1
            while name in self.claims:
                number += 1
                name = f"{principal} ({number})"
            self._names[key] = name
            self.claims[name] = dict(claims) if name == principal else whole
        return self._names[key]


class WrittenCase(NamedTuple):
    """A draft with its name and user in the file."""

    draft: CaseDraft
    case: Mapping[str, Any]


def with_names(drafts: Sequence[CaseDraft], users: Users) -> list[WrittenCase]:
    """Give each draft its user, and a name that no other has."""
    taken: dict[str, int] = {}
    written = []
    for draft in drafts:
        name = draft.case["name"]
        taken[name] = taken.get(name, 0) + 1
        named = name if taken[name] == 1 else f"{name} ({taken[name]})"
        user = {}
        if draft.claims is not None:
            user = {"user": users.name_of(_principal(draft), draft.claims)}
        rest = {key: value for key, value in draft.case.items() if key != "name"}
        written.append(WrittenCase(draft, {"name": named, **user, **rest}))
    return written


def _principal(draft: CaseDraft) -> str:
    line = draft.logged.line
    return line.principal if isinstance(line, Decision | QuestionLine) else ""


def file_of(written: Sequence[WrittenCase], users: Users) -> str:
    """Write a file of cases: each with the place of its line, and with what was made up."""
    lines = ["# Drafted from a log. When this was written, each case held: read it before you use it."]
    if users.claims:
        lines += ["users:", *(_indented({name: claims}) for name, claims in users.claims.items())]
    lines.append("cases:" if written else "cases: []")
    for one in written:
        made_up = f"; made up, since the log leaves it out: {', '.join(one.draft.made_up)}" if one.draft.made_up else ""
        lines += [f"  # {one.draft.logged.place}, {one.draft.logged.line.time}{made_up}", _indented([dict(one.case)])]
    return "\n".join(lines) + "\n"


def _indented(value: Any) -> str:
    text = _dumped(value, readable=True)
    if _BREAKS.search(text):
        text = _dumped(value, readable=False)
    return "\n".join(f"  {line}" for line in text.rstrip("\n").split("\n"))


# line ends to YAML, which the library writes as they are, and reads as blanks; and its byte order mark
_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")


def _dumped(value: Any, *, readable: bool) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, default_flow_style=None, allow_unicode=readable, width=120)
    return text
