"""A line of the decision or question log → our verdict against the app's own status, and why they differ."""

from __future__ import annotations

import re
from typing import NamedTuple

from sidecar.adoption.causes import LabeledEnum
from sidecar.gate.codes import Code, Dependency, Ground, Kind
from sidecar.record.line import Decision, QuestionLine

Judged = Decision | QuestionLine
"""Lines that tell of a request that the gate judged."""


class Verdict(LabeledEnum):
    """Our verdict: a row of the matrix."""

    ALLOW = "allow", "allow"
    WOULD_REFUSE = "would_refuse", "would refuse"
    REFUSE = "refuse", "refused"
    UNDECIDED = "undecided", "could not decide"


class AppStatus(LabeledEnum):
    """The app's own status: a column of the matrix."""

    DONE = "2xx_3xx", "2xx, 3xx"
    REFUSED = "401_403", "401, 403"
    MISSING = "404", "404"
    OTHER = "4xx", "other 4xx"
    FAULT = "5xx", "5xx"
    NONE = "none", "no answer"


class Relation(LabeledEnum):
    """How verdict and status stand to each other: a cell's color."""

    WOULD_BREAK = "would_break", "would break"
    APP_KNOWS_MORE = "app_knows_more", "the app knows more than the policy"
    UNDECIDED = "undecided", "could not decide"
    UNCLEAR = "unclear", "the app's status does not tell"
    REFUSED = "refused", "refused already"
    AGREE = "agree", "no difference"


DISAGREEMENTS = (Relation.WOULD_BREAK, Relation.APP_KNOWS_MORE)


_UNREADABLE_LISTS = frozenset({Code.ITEMS_UNREADABLE, Code.ITEMS_TOO_MANY})
_UNDECIDED = frozenset(
    str(code) for code in Code if code.kind is Kind.SIDECAR or code.dependency not in (None, Dependency.UPSTREAM)
)
_APP_FAULTS = frozenset(str(code) for code in Code if code.kind is Kind.UPSTREAM)


def verdict_of(line: Judged) -> Verdict:
    """Return what was decided, or would have been.

    A list that cannot be read is refused once the route is enforced, though
    the verdict on the request itself was to allow it.
    """
    if line.outcome == "allow" and line.code not in _UNREADABLE_LISTS:
        return Verdict.ALLOW
    if line.code in _UNDECIDED:
        return Verdict.UNDECIDED
    enforced = line.outcome == "refuse" or (line.outcome == "allow" and line.mode == "enforce")
    return Verdict.REFUSE if enforced else Verdict.WOULD_REFUSE


def app_status_of(line: Judged) -> int | None:
    """Return the app's own status; None where it was not asked or gave no answer.

    The decision log has it only where the app's answer was sent on.
    """
    if isinstance(line, QuestionLine):
        return line.app_status
    if line.outcome == "refuse" or line.code in _APP_FAULTS or line.code == Ground.PREFLIGHT or line.status == LEFT:
        return None
    return None if line.dep == Dependency.UPSTREAM else line.status


LEFT = 499
"""Status of a line whose client left before the answer."""


def column_of(status: int | None) -> AppStatus:
    """Return the class of the app's status."""
    if status is None:
        return AppStatus.NONE
    if status < 400:
        return AppStatus.DONE
    if status in (401, 403):
        return AppStatus.REFUSED
    if status == 404:
        return AppStatus.MISSING
    return AppStatus.OTHER if status < 500 else AppStatus.FAULT


_WOULD_REFUSE = {
    AppStatus.DONE: Relation.WOULD_BREAK, AppStatus.REFUSED: Relation.AGREE, AppStatus.MISSING: Relation.AGREE,
}  # fmt: skip


def relation_of(verdict: Verdict, status: AppStatus) -> Relation:
    """Return how a cell of the matrix is to be read."""
    match verdict:
        case Verdict.ALLOW:
            return Relation.APP_KNOWS_MORE if status is AppStatus.REFUSED else Relation.AGREE
        case Verdict.WOULD_REFUSE:
            return _WOULD_REFUSE.get(status, Relation.UNCLEAR)
        case Verdict.REFUSE:
            return Relation.REFUSED
        case _:
            return Relation.UNDECIDED


class Where(NamedTuple):
    """The route of a request; `path` is the shape of its path where it has none."""

    method: str
    route: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.route or self.path}"


def where_of(line: Judged) -> Where:
    """Return the route of a request, or the shape of its path. HEAD is decided as GET."""
    method = "GET" if line.method == "HEAD" else line.method
    return Where(method, line.route) if line.route else Where(method, "", shape_of(line.path))


MAX_SEGMENTS = 8
MAX_PATH = 256
"""Characters of a path that are kept."""
_SHAPES = (
    (re.compile(r"[0-9]+"), "{number}"),
    (re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"), "{uuid}"),
    (re.compile(r"(?=.*[0-9])[A-Za-z0-9_~.=-]{16,}|.{65,}", re.DOTALL), "{id}"),
)


def shape_of(path: str) -> str:
    """Return a path with a placeholder for each segment that looks like an id."""
    segments = path[:MAX_PATH].split("/")
    shape = "/".join(map(_shape_of_segment, segments[: MAX_SEGMENTS + 1]))
    return shape if len(segments) <= MAX_SEGMENTS + 1 else f"{shape}/…"


def _shape_of_segment(segment: str) -> str:
    return next((shape for pattern, shape in _SHAPES if pattern.fullmatch(segment)), segment)
