"""Choice of what the question log keeps of a request, and of which requests: redacted by rule, and sampled by cells.

A cell is one kind of request: route, method, kind, action, roles, owner, verdict and the app's status. Of each the
first requests of an hour are kept, those of a principal who is new to it, and of the others one in ever more. The
`weight` of a line is how many it stands for, so that totals are exact: a cell that is forgotten, or that nobody asks
for any more, leaves a line for the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sidecar.bounded import Bounded, size_of
from sidecar.gate.decision import Question, Resource
from sidecar.gate.mode import Mode
from sidecar.gate.query import shown_names
from sidecar.gate.routing import WEBSOCKET
from sidecar.gate.verdict import Facts, Refuse, Verdict
from sidecar.record import line
from sidecar.record.line import MAX_HOST, Effect, QuestionLine

FIRST = 100
"""Requests of a cell in one hour that are all kept."""
MAX_PRINCIPALS = 1000
"""Principals of a cell that are known; of more, none is new."""
REMEMBERED = 16 * 1024 * 1024
"""Bytes of the cells of one process, about 5,000; of more, the one that changed first is forgotten."""
LONGEST_KEY = 32 * 1024
"""Bytes of a text in the key of a cell: names of the configuration, and roles, which a token bounds."""
MAX_ATTRIBUTE = 4096
"""Bytes of an attribute's JSON; a longer one is left out."""
MAX_ATTRIBUTES = 32 * 1024
"""Bytes of all attributes of one line; where there are more, the rest is left out."""
HOUR = 3600.0
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", WEBSOCKET))


class VisibleAttributes(NamedTuple):
    """Names of attributes that may stand in a line: all others are left out."""

    resource: frozenset[str] = frozenset()
    principal: frozenset[str] = frozenset()

    @classmethod
    def of(cls, names: Iterable[str]) -> VisibleAttributes:
        """Read names as the setting has them: `resource.owner`, `principal.level`."""
        pairs = [name.partition(".") for name in names]
        return cls(*(frozenset(name for whose, _, name in pairs if whose == kind) for kind in cls._fields))


class DecidedRequest(NamedTuple):
    """A request that was decided, with what the client got and what the app had said."""

    verdict: Verdict
    mode: Mode
    effect: Effect
    code: str
    status: int
    seconds: float
    detail: str = ""
    app_status: int | None = None


# --- redaction ---


class _Attributes:
    """Takes attributes into one line, as far as they may be shown and there is room."""

    def __init__(self) -> None:
        self.redacted: dict[str, None] = {}
        self._room = MAX_ATTRIBUTES

    def take(self, whose: str, shown: frozenset[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return those that are shown; the names of the others are in `redacted`."""
        kept = {}
        for name, value in attributes.items():
            if name in shown and self._fits(value):
                kept[name] = value
            else:
                self.redacted[f"{whose}.{name}"] = None
        return kept

    def _fits(self, value: Any) -> bool:
        if isinstance(value, str | list | dict) and len(value) > MAX_ATTRIBUTE:
            # it is not even written to see how long it is
            return False
        try:
            # what not every reader of JSON takes is left out, too
            size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8"))
        except (ValueError, TypeError, RecursionError):
            return False
        if size > min(MAX_ATTRIBUTE, self._room):
            return False
        self._room -= size
        return True


def owners(asked: Question) -> tuple[str, ...]:
    """Return the attributes by which each resource of a question is the principal's own: their value is its id."""
    own = [_owners(resource.attributes, asked.principal.id) for resource in asked.resources]
    return tuple([name for name in own[0] if all(name in other for other in own[1:])]) if own else ()


def _owners(attributes: Mapping[str, Any], principal: str) -> list[str]:
    return [name for name, value in attributes.items() if value == principal or _is_number(value, principal)]


def _is_number(value: Any, text: str) -> bool:
    return type(value) is int and str(value) == text


def question_of(seen: DecidedRequest, time: str, shown: VisibleAttributes, revision: str = "") -> QuestionLine:
    """Return the line of a request, which stands for itself alone."""
    facts, asked = seen.verdict.facts, asked_of(seen.verdict.facts)
    whole: QuestionLine = QuestionLine(
        time, facts.request_id, seen.mode, seen.effect, seen.code, seen.status, _method(facts), facts.host[:MAX_HOST],
        facts.path, facts.route, facts.principal, facts.roles, facts.kind, facts.resource_id, facts.action,
        round(seen.seconds * 1000, 3), 1, asked is not None,
        query=shown_names(facts.query) or None, items=facts.items or None,
        detail=line.detail_text(seen.detail or _detail(seen.verdict)) or None, revision=revision or None,
    )  # fmt: skip
    if seen.app_status is not None:
        waited = max(seen.seconds - sum(facts.stages.values()), 0.0)
        whole = whole._replace(app_status=seen.app_status, app_ms=round(waited * 1000, 3))
    return whole if asked is None else _with_question(whole, facts, asked, shown)


def _with_question(whole: QuestionLine, facts: Facts, asked: Question, shown: VisibleAttributes) -> QuestionLine:
    taken, first, each = _Attributes(), asked.resources[0], facts.each
    principal = taken.take("principal", shown.principal, asked.principal.attributes)
    told = [taken.take("resource", shown.resource, resource.attributes) for resource in asked.resources]
    resources = None
    if each is not None and each.allowed:
        resources = tuple(
            {"id": resource.id, "allowed": allowed, "attributes": attributes, **_apart(resource, whole, first)}
            for resource, allowed, attributes in zip(asked.resources, each.allowed, told, strict=True)
        )
    return whole._replace(
        attributes=told[0] if each is None else None, principal_attributes=principal, scope=first.scope or None,
        redacted=tuple(taken.redacted) or None, owner=owners(asked) or None,
        policy=(facts.policy or None) if facts.call_id else None, resources=resources,
        missing=(len(each.ids) - len(asked.resources) or None) if each is not None else None,
    )  # fmt: skip


def _apart(resource: Resource, whole: QuestionLine, first: Resource) -> dict[str, str]:
    """Return the parts that one of several resources has of its own, where a body asks for several things."""
    own = {"kind": resource.kind, "action": resource.action, "scope": resource.scope}
    told = {"kind": whole.kind, "action": whole.action, "scope": first.scope}
    return {name: value for name, value in own.items() if value != told[name]}


def asked_of(facts: Facts) -> Question | None:
    """Return the question by which a request was decided, None where there was none."""
    return facts.asked if isinstance(facts.asked, Question) else None


def _method(facts: Facts) -> str:
    return WEBSOCKET if facts.websocket else facts.method


def _detail(verdict: Verdict) -> str:
    return verdict.detail if isinstance(verdict, Refuse) else ""


# --- sampling ---

Key = tuple[object, ...]


def cell_of(seen: DecidedRequest) -> Key:
    """Return the cell of a request. Nothing that a client chooses is in it: it could make as many as it likes."""
    facts, asked = seen.verdict.facts, asked_of(seen.verdict.facts)
    method = _method(facts)
    return (
        facts.route, method if method in _METHODS else "", facts.kind, facts.action, facts.roles,
        owners(asked) if asked is not None else None, seen.mode, seen.effect, seen.code, seen.status, seen.app_status,
    )  # fmt: skip


class _Cell:
    """Requests of one kind: those of this hour, and those that no line stands for yet, with the line that may."""

    __slots__ = ("gap", "hour", "key_weight", "line", "principals", "seen", "skipped")

    def __init__(self, key_weight: int) -> None:
        self.hour = -1
        self.seen = 0
        self.skipped = 0
        self.gap = 0
        self.line: QuestionLine | None = None
        self.principals: set[int] = set()
        self.key_weight = key_weight

    def is_due(self, principal: str, hour: int, first: int) -> bool:
        """Count a request, and return whether it is kept."""
        if hour != self.hour:
            self.hour, self.seen = hour, 0
        self.seen += 1
        return self.is_new(principal) or self.seen <= first or self.skipped + 1 >= self.gap

    def is_new(self, principal: str) -> bool:
        """Return whether a principal is new to the cell."""
        return bool(principal) and hash(principal) not in self.principals and len(self.principals) < MAX_PRINCIPALS

    def rest(self) -> Iterator[QuestionLine]:
        """Yield the line for those that no line stands for, where there are any."""
        if self.line is not None:
            kept, self.line = self.line._replace(weight=self.skipped), None
            self.skipped = 0
            yield kept

    @property
    def weight(self) -> int:
        """Bytes of it, and of its key."""
        return self.key_weight + 80 * len(self.principals) + (0 if self.line is None else size_of(self.line))


class Sampler:
    """Chooses requests. `draw(n)` returns a number from 1 to n, by chance: traffic with a period is no reason to see
    one half of it alone. Of a cell the `first` of each hour are all kept."""

    def __init__(self, draw: Callable[[int], int], remembered: int = REMEMBERED, first: int = FIRST) -> None:
        self._draw = draw
        self._first = first
        self._cells: Bounded[Key, _Cell] = Bounded(remembered, longest=LONGEST_KEY)

    @property
    def remembered(self) -> int:
        """Bytes of the cells."""
        return self._cells.weight

    def take(self, key: Key, principal: str, now: float, make: Callable[[], QuestionLine]) -> Iterator[QuestionLine]:
        """Yield the lines that a request gives: its own, if it is kept, and those of cells that are forgotten for it.
        `make` makes its line. All of them must be taken."""
        cell = self._cells.get(key) or _Cell(size_of(key))
        if cell.is_due(principal, int(now // HOUR), self._first):
            yield make()._replace(weight=cell.skipped + 1)
            cell.skipped, cell.line = 0, None
            # twice as many for each line, on the average, whenever there are twice as many
            cell.gap = self._draw(2 * max(cell.seen // self._first, 1) - 1)
            if cell.is_new(principal):
                cell.principals.add(hash(principal))
            yield from self._keep(key, cell)
            return
        cell.skipped += 1
        if cell.line is None:
            cell.line = make()
            yield from self._keep(key, cell)

    def _keep(self, key: Key, cell: _Cell) -> Iterator[QuestionLine]:
        """Remember a cell as the newest, and yield the rests of those that make room."""
        self._cells.drop(key)
        weight = cell.weight
        while self._cells.has_no_room(weight) and (first := self._cells.first()) is not None:
            self._cells.drop_first()
            yield from first.rest()
        self._cells.put(key, cell, weight)

    def rests(self) -> Iterator[QuestionLine]:
        """Yield a line for each cell whose last requests no line stands for. It may be taken bit by bit."""
        for cell in self._cells.values():
            yield from cell.rest()


def written(questions: Sequence[QuestionLine]) -> list[str]:
    """Return questions as lines."""
    return [line.write(question) for question in questions]
