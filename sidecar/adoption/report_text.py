"""The report as text, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sidecar.adoption.readiness import RouteState
from sidecar.adoption.report import NOT_COMPARED, Finding, Report
from sidecar.adoption.sighting import AppStatus, Relation, Verdict, relation_of
from sidecar.adoption.tally import DistinctPrincipals, RouteCount, TrafficSpan
from sidecar.printable import printable

SHOWN = 20
"""Differences of one relation that are shown; JSON and the page have all."""
MAX_TEXT = 100
"""Characters of a value out of a log."""
_SHOWN_RELATIONS = (Relation.WOULD_BREAK, Relation.APP_KNOWS_MORE, Relation.UNDECIDED, Relation.UNCLEAR)
_MARKS = {
    Relation.WOULD_BREAK: "!", Relation.APP_KNOWS_MORE: "+", Relation.UNDECIDED: "?", Relation.UNCLEAR: "~",
}  # fmt: skip


def as_text(report: Report) -> str:
    """Return a report as lines, each with its newline."""
    parts = (
        _head(report), _readiness(report), _matrix(report), _differences(report), _lists(report), _candidate(report),
        _days(report),
    )  # fmt: skip
    return "\n".join("".join(f"{line}\n" for line in part) for part in map(list, parts) if part)


def plain(text: str, most: int = MAX_TEXT) -> str:
    """Return a value out of a log so that a terminal shows it, and does nothing else; shortened."""
    shown = text if len(text) <= most else f"{text[: most - 1]}…"
    return printable(shown)


def moment(time: str) -> str:
    """Return a time as people read it."""
    return f"{time[:10]} {time[11:16]} UTC"


def principals(distinct: DistinctPrincipals) -> str:
    """Return how many principals there are."""
    return number_of(distinct.count, distinct.more, "principal")


def number_of(count: int, more: bool, noun: str) -> str:
    """Return a number with its noun; `more`: there may be more than that."""
    return f"{count:,}{' or more' if more else ''} {noun}{'' if count == 1 and not more else 's'}"


def _requests(count: int) -> str:
    return number_of(count, False, "request")


def _head(report: Report) -> Iterator[str]:
    span = report.span
    who = number_of(report.principals, report.more_principals, "principal")
    yield f"{_requests(span.requests)} of {who}, {moment(span.first)} to {moment(span.last)}"
    for note in report.notes:
        yield f"  note: {plain(note, 300)}"


def _readiness(report: Report) -> Iterator[str]:
    readiness = report.readiness
    yield "Is it time to enforce?"
    for rule in readiness.rules:
        mark = {True: "yes", False: "no", None: "?"}[rule.met]
        yield f"  {mark:<4}{rule.found} (expected: {rule.expected})"
    if report.principals:
        yield f"      {report.principals_twice:,} of {report.principals:,} principals were seen more than once"
    for line in _wrapped(readiness.sentence):
        yield f"  {line}"
    for state in RouteState:
        routes = [route for route in readiness.routes if route.state is state]
        if routes:
            yield f"  {state.text}:"
        for route in routes[:SHOWN]:
            why = "; ".join([*(rule.found for rule in route.unmet), *_loss(route.counted)])
            yield f"    {plain(str(route.where))}{f': {why}' if why else ''}"
        if len(routes) > SHOWN:
            yield f"    and {len(routes) - SHOWN:,} more"


def _loss(count: RouteCount | None) -> Iterator[str]:
    if count is not None and count.vanish:
        yield f"its lists lose {count.vanish / count.seen:.1%} of their items"


def _matrix(report: Report) -> Iterator[str]:
    yield "Our verdict, and the app's own status"
    rows = [["", *(status.text for status in AppStatus)]]
    for verdict in Verdict:
        rows.append([verdict.text, *(_count(report, verdict, status) for status in AppStatus)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = (f"{text:>{width}}" for text, width in zip(row, widths, strict=True))
        yield f"  {row[0]:<{len(first)}}  {'  '.join(others)}".rstrip()
    marks = [f"{mark} {relation.text}" for relation, mark in _MARKS.items()]
    yield f"  {', '.join(marks)}"


def _count(report: Report, verdict: Verdict, status: AppStatus) -> str:
    cell = report.matrix.get((verdict, status))
    if cell is None:
        return "-"
    return f"{cell.span.requests:,}{_MARKS.get(relation_of(verdict, status), ' ')}"


def _differences(report: Report) -> Iterator[str]:
    first = True
    for relation in _SHOWN_RELATIONS:
        total, findings = report.totals[relation], report.of(relation)
        if not total.requests:
            continue
        if not first:
            yield ""
        first = False
        yield f"{relation.text[0].upper()}{relation.text[1:]}: {_requests(total.requests)}"
        for finding in findings[:SHOWN]:
            yield from _finding(finding)
        more = len(findings) - SHOWN
        if more > 0 or total.beyond:
            beyond = f", and {_requests(total.beyond)} of more kinds than are told apart" if total.beyond else ""
            yield f"  {max(more, 0):,} more with --json or --html{beyond}"


def _finding(finding: Finding) -> Iterator[str]:
    group = finding.group
    key = group.key
    asked = f"  {plain(key.kind)} {plain(key.action)}".rstrip()
    roles = ", ".join(map(plain, key.roles)) or "none"
    yield f"  {key.id}  {plain(str(key.where))}{asked}  roles: {roles}{'  (intended)' if finding.intended else ''}"
    yield f"    {finding.cause.text} ({plain(key.code)}): {finding.cause.remedy}"
    statuses = f", app {_statuses(group.statuses)}" if group.statuses else ""
    yield f"    {_requests(group.span.requests)} of {principals(group.principals)}{statuses}, {_period(group.span)}"
    yield f"    such as {', '.join(plain(example.request_id) for example in group.examples)}"


def _statuses(statuses: Mapping[int, int]) -> str:
    return ", ".join(f"{status} ({count:,})" for status, count in sorted(statuses.items(), key=lambda one: -one[1]))


def _period(span: TrafficSpan) -> str:
    return moment(span.first) if span.first == span.last else f"{moment(span.first)} to {moment(span.last)}"


def _lists(report: Report) -> Iterator[str]:
    if not report.lists:
        return
    yield "Lists that would get shorter, or are shorter already"
    rows: list[tuple[str, ...]] = [("route", "answers", "items", "vanish", "")]
    for where, count in report.lists[:SHOWN]:
        share = f"{count.vanish / count.seen:.1%}" if count.seen else ""
        rows.append((plain(str(where)), f"{count.lists:,}", f"{count.seen:,}", f"{count.vanish:,}", share))
    yield from _table(rows)


def _candidate(report: Report) -> Iterator[str]:
    if not report.candidate:
        return
    yield "Candidate policies (SIDECAR_CANDIDATE_POLICIES) would decide otherwise"
    for line in _wrapped(NOT_COMPARED):
        yield f"  {line}"
    for group in report.candidate[:SHOWN]:
        key = group.key
        roles = ", ".join(map(plain, key.roles)) or "none"
        yield f"  {key.ours} -> {key.theirs}  {plain(key.route)}  {plain(key.kind)} {plain(key.action)}  roles: {roles}"
        yield f"    {_requests(group.span.requests)} of {principals(group.principals)}, {_period(group.span)}"
        yield f"    such as {', '.join(map(plain, group.examples))}"
    if len(report.candidate) > SHOWN:
        yield f"  {len(report.candidate) - SHOWN:,} more with --json or --html"


def _days(report: Report) -> Iterator[str]:
    yield "Per day"
    rows: list[tuple[str, ...]] = [("day", "requests", *(relation.text for relation in _DAY_RELATIONS))]
    for day in report.days[-SHOWN:]:
        counts = (f"{day.counts.get(relation, 0):,}" for relation in _DAY_RELATIONS)
        rows.append((day.day, f"{day.requests:,}", *counts))
    yield from _table(rows)


_DAY_RELATIONS = (Relation.WOULD_BREAK, Relation.APP_KNOWS_MORE, Relation.UNDECIDED)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True))
        yield f"  {first:<{widths[0]}}  {'  '.join(cells)}".rstrip()


def _wrapped(text: str, width: int = 110) -> Iterable[str]:
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}".lstrip()
    yield line
