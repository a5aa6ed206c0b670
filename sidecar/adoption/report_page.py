"""The report as one HTML page: it opens offline, loads nothing and runs no script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecar.adoption.charts import Chart, Column, chart_of, share_of
from sidecar.adoption.readiness import RouteState, days_between
from sidecar.adoption.report import NOT_COMPARED, Finding, Report
from sidecar.adoption.report_text import moment, number_of, plain, principals
from sidecar.adoption.sighting import AppStatus, Relation, Verdict, relation_of

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWN = 200
"""Differences of one relation on the page; JSON has all."""
FOLDER = Path(__file__).parent / "html"
_IN_CHARTS = (Relation.WOULD_BREAK, Relation.APP_KNOWS_MORE, Relation.UNDECIDED)
_SECTIONS = (*_IN_CHARTS, Relation.UNCLEAR, Relation.REFUSED)
_MEANINGS = {
    Relation.WOULD_BREAK: "These requests work today. Enforcing would refuse them.",
    Relation.APP_KNOWS_MORE: "We allow these, and the app refuses them. It has a rule that no policy has.",
    Relation.UNDECIDED: "A lookup, the PDP or a key server failed or came late. Enforcing would answer 503.",
    Relation.UNCLEAR: "We would refuse these, and the app's status does not tell whether it would let them through.",
    Relation.REFUSED: "Refused for real: the route is enforced, or the request is refused in each mode.",
}


class HorizontalBar(NamedTuple):
    """A horizontal bar: its label, its number, and how long it is, in percent."""

    label: str
    number: int
    share: float


class Section(NamedTuple):
    """The differences of one relation."""

    relation: Relation
    meaning: str
    requests: int
    findings: list[Finding]
    more: int
    beyond: int


def as_html(report: Report) -> str:
    """Return a report as a page."""
    return _environment().get_template("report.html").render(_values(report))


_made: Environment | None = None


def _environment() -> Environment:
    """The environment of the page, made once."""
    global _made
    if _made is None:
        # here and not above: only this page needs it
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        _made = Environment(
            loader=FileSystemLoader(str(FOLDER)), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        _made.filters |= {"plain": plain, "moment": moment, "number": "{:,}".format, "principals": principals}
    return _made


def _values(report: Report) -> dict[str, Any]:
    return {
        "report": report, "readiness": report.readiness,
        "who": number_of(report.principals, report.more_principals, "principal"),
        "days": days_chart(report), "busy": requests_chart(report), "causes": list(causes(report)),
        "relations": _IN_CHARTS, "sections": list(sections(report)), "statuses": list(AppStatus),
        "rows": list(_rows(report)),
        "states": [(state, [one for one in report.readiness.routes if one.state is state]) for state in RouteState],
        "State": RouteState, "Relation": Relation, "period": lambda finding: period(report, finding),
        "share_of": share_of, "shown": SHOWN, "not_compared": NOT_COMPARED,
    }  # fmt: skip


def days_chart(report: Report) -> Chart:
    """Return the chart of what differs, day by day."""
    return chart_of(
        [
            Column(
                day.day[5:],
                f"{day.day}: " + ", ".join(f"{day.counts.get(one, 0):,} {one.text}" for one in _IN_CHARTS),
                [(one.value, day.counts.get(one, 0)) for one in _IN_CHARTS],
            )
            for day in report.days
        ]
    )


def requests_chart(report: Report) -> Chart:
    """Return the chart of all requests, day by day."""
    return chart_of(
        [Column(day.day[5:], f"{day.day}: {day.requests:,} requests", [("all", day.requests)]) for day in report.days]
    )


def causes(report: Report) -> Iterator[HorizontalBar]:
    """Return what the requests that would break are refused for, the most frequent first."""
    counts: Counter[str] = Counter()
    for finding in report.of(Relation.WOULD_BREAK):
        if not finding.intended:
            counts[finding.cause.text] += finding.group.span.requests
    most = max(counts.values(), default=0)
    for text, number in counts.most_common():
        yield HorizontalBar(text, number, share_of(number, most, 0.5))


def sections(report: Report) -> Iterator[Section]:
    """Return the differences by relation, the worst first."""
    for relation in _SECTIONS:
        total, findings = report.totals[relation], report.of(relation)
        if total.requests:
            more = max(len(findings) - SHOWN, 0)
            yield Section(relation, _MEANINGS[relation], total.requests, findings[:SHOWN], more, total.beyond)


def _rows(report: Report) -> Iterator[tuple[Verdict, list[tuple[Relation, int, str]]]]:
    for verdict in Verdict:
        cells = []
        for status in AppStatus:
            cell = report.matrix.get((verdict, status))
            title = principals(cell.principals) if cell is not None else ""
            cells.append((relation_of(verdict, status), cell.span.requests if cell is not None else 0, title))
        yield verdict, cells


def period(report: Report, finding: Finding) -> tuple[float, float]:
    """Return where a difference lies in the time of the report: where it begins and how long it is, in percent."""
    span, whole = finding.group.span, report.readiness.days
    begins = share_of(days_between(report.span.first, span.first), whole)
    length = share_of(days_between(span.first, span.last), whole)
    return min(begins, 98.5), max(length, 1.5)
