"""The report as JSON, for programs. Names are only ever added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.adoption.readiness import Readiness, ReadinessRule, RouteReadiness
from sidecar.adoption.report import Finding, Report
from sidecar.adoption.sighting import AppStatus, Relation, Verdict, Where, relation_of
from sidecar.adoption.tally import CandidateGroup, DistinctPrincipals, RouteCount, TrafficSpan

VERSION = 1


def as_json(report: Report) -> dict[str, Any]:
    """Return a report as an object."""
    return {
        "version": VERSION,
        **_span(report.span),
        "lines": report.lines,
        "principals": {
            "count": report.principals, "seen_twice": report.principals_twice, "more": report.more_principals,
        },
        "notes": list(report.notes),
        "readiness": _readiness(report.readiness),
        "matrix": [_cell(report, verdict, status) for verdict in Verdict for status in AppStatus],
        "totals": {relation: total._asdict() for relation, total in report.totals.items()},
        "differences": [_finding(finding) for finding in report.findings],
        "lists": [{**_where(where), **_items(count)} for where, count in report.lists],
        "candidate": [_candidate(group) for group in report.candidate],
        "days": [_day(day.day, day.counts) for day in report.days],
    }  # fmt: skip


def _span(span: TrafficSpan) -> dict[str, Any]:
    return {"requests": span.requests, "first": span.first or None, "last": span.last or None}


def _where(where: Where) -> dict[str, Any]:
    return {"method": where.method, "route": where.route, **({} if where.route else {"path": where.path})}


def _distinct(distinct: DistinctPrincipals) -> dict[str, Any]:
    return {"count": distinct.count, "more": distinct.more}


def _cell(report: Report, verdict: Verdict, status: AppStatus) -> dict[str, Any]:
    cell = report.matrix.get((verdict, status))
    head = {"verdict": verdict, "app": status, "relation": relation_of(verdict, status)}
    if cell is None:
        return {**head, "requests": 0}
    keys = [one.group.key for one in report.findings if one.group.key[:2] == (verdict, status)]
    return {
        **head, **_span(cell.span), "principals": _distinct(cell.principals),
        "routes": sorted({str(key.where) for key in keys}), "kinds": sorted({key.kind for key in keys} - {""}),
        "roles": sorted({role for key in keys for role in key.roles}),
        "causes": sorted({one.cause for one in report.findings if one.group.key[:2] == (verdict, status)}),
    }  # fmt: skip


def _finding(finding: Finding) -> dict[str, Any]:
    group = finding.group
    key = group.key
    return {
        "id": key.id, "relation": key.relation, "verdict": key.verdict, "app": key.status, **_where(key.where),
        "kind": key.kind, "action": key.action, "roles": list(key.roles), "code": key.code,
        "cause": finding.cause, "intended": finding.intended, **_span(group.span),
        "principals": _distinct(group.principals),
        "app_statuses": {str(status): count for status, count in sorted(group.statuses.items())},
        "examples": [example._asdict() for example in group.examples],
    }  # fmt: skip


def _items(count: RouteCount) -> dict[str, Any]:
    return {"answers": count.lists, "seen": count.seen, "vanish": count.vanish, "masked": count.masked}


def _candidate(group: CandidateGroup) -> dict[str, Any]:
    return {
        **group.key._asdict(), "roles": list(group.key.roles), "candidate_revision": group.revision or None,
        **_span(group.span), "principals": _distinct(group.principals), "examples": list(group.examples),
    }  # fmt: skip


def _day(day: str, counts: Mapping[Relation, int]) -> dict[str, Any]:
    return {
        "day": day,
        "requests": sum(counts.values()),
        **{relation: counts.get(relation, 0) for relation in Relation},
    }


def _readiness(readiness: Readiness) -> dict[str, Any]:
    return {
        "ready": readiness.ready, "sentence": readiness.sentence, "days_watched": round(readiness.days, 3),
        "newest_difference": readiness.newest or None, "routes_seen": readiness.share,
        "rules": [rule._asdict() for rule in readiness.rules],
        "routes": [_route(route) for route in readiness.routes],
    }  # fmt: skip


def _route(route: RouteReadiness) -> dict[str, Any]:
    count = route.counted
    counts = {relation.value: span.requests for relation, span in count.relations.items()} if count is not None else {}
    return {
        **_where(route.where), "kind": count.kind if count is not None else "",
        "action": count.action if count is not None else "", "state": route.state,
        **_span(count.span if count is not None else TrafficSpan()), **counts, "unmet": list(map(_unmet, route.unmet)),
    }  # fmt: skip


def _unmet(rule: ReadinessRule) -> dict[str, Any]:
    return {"name": rule.name, "found": rule.found, "expected": rule.expected}
