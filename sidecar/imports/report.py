"""Report of an import: each route with its evidence; contradictions, decisions, and what could not be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sidecar.imports.collect import Collected
from sidecar.imports.draft import evidence_text, shown
from sidecar.imports.evidence import MethodEvidence, requests
from sidecar.imports.naming import Guess
from sidecar.imports.proposal import Proposal, Proposed
from sidecar.imports.sighting import Notes

_PREFLIGHTS = "OPTIONS is no action of the draft: where browsers call from other origins, `cors` says who may"


class ImportReport(NamedTuple):
    """All that an import tells."""

    proposed: Proposed
    conflicts: list[str]
    notes: Notes
    collected: Collected

    @property
    def decisions(self) -> list[str]:
        """Questions that a person has to decide, by path."""
        found = [f"{one.path}: {text}" for one in self.proposed.proposals for text in one.decide]
        if self.collected.preflights:
            found.append(f"{requests(self.collected.preflights)} with {_PREFLIGHTS}")
        return found


def as_text(report: ImportReport) -> str:
    """Return the report for a person."""
    return "\n".join(map(shown, _lines(report))) + "\n"


def _lines(report: ImportReport) -> Iterator[str]:
    notes, proposals = report.notes, report.proposed.proposals
    yield f"{len(proposals)} route{'' if len(proposals) == 1 else 's'} from"
    for (file, form), count in sorted(notes.read.items()):
        broken = f", {notes.broken[file]} that cannot be read" if notes.broken[file] else ""
        yield f"  {file} ({form}): {count:,} {'operations' if form in ('openapi', 'postman') else 'requests'}{broken}"
    yield ""
    for proposal in proposals:
        yield from _route(proposal)
    yield from _section("Contradictions", [*report.conflicts, *report.proposed.impossible])
    yield from _section("To decide", report.decisions)
    yield from _section("No evidence of a route", _unproven(report))
    yield from _section("Cannot be read", _broken(notes))


def _route(proposal: Proposal) -> Iterator[str]:
    named = proposal.named
    identity = f" id {named.id.value}" if named.id is not None else ""
    sure = f"{named.kind.word} {named.kind.confidence:.2f}"
    yield f"{proposal.path}  {named.kind.value}{identity}  ({sure}: {named.kind.reason})"
    for method, guess in named.actions.items():
        yield f"  {method:<7} {guess.value:<12} {guess.word} {guess.confidence:.2f}: {guess.reason}"
    yield f"          {evidence_text(proposal.template.methods)}"
    if proposal.query:
        yield f"          query: {', '.join(proposal.query)}"
    if proposal.attributes:
        yield f"          a lookup could give: {', '.join(map(shown, proposal.attributes))}"


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield title
        yield from (f"  - {line}" for line in lines)


def _unproven(report: ImportReport) -> list[str]:
    collected, notes = report.collected, report.notes
    found = [
        f"{requests(count)} that the app answered with {status}, and whose path it never answered well"
        for status, count in sorted(collected.unproven.items())
    ]
    for reason, count in sorted(notes.skipped.items()):
        found.append(f"{count:,} x {reason} ({_places(notes.skipped_places[reason], count)})")
    return found


def _places(places: Sequence[str], count: int) -> str:
    return ", ".join(places) + (", …" if count > len(places) else "")


def _broken(notes: Notes) -> list[str]:
    more = sum(notes.broken.values()) - len(notes.broken_places)
    return [*notes.broken_places, *([f"and {more:,} more"] if more else [])]


def as_json(report: ImportReport) -> dict[str, Any]:
    """Return the report as JSON; its names stay as they are from version to version."""
    return {
        "routes": [_route_json(one) for one in report.proposed.proposals],
        "conflicts": [*report.conflicts, *report.proposed.impossible],
        "decide": report.decisions,
        "read": [
            {"file": file, "format": form, "count": count, "broken": report.notes.broken[file]}
            for (file, form), count in sorted(report.notes.read.items())
        ],
        "unproven": {str(status): count for status, count in sorted(report.collected.unproven.items())},
        "skipped": [
            {"reason": reason, "count": count, "places": report.notes.skipped_places[reason]}
            for reason, count in sorted(report.notes.skipped.items())
        ],
        "broken": report.notes.broken_places,
    }


def _route_json(proposal: Proposal) -> dict[str, Any]:
    named = proposal.named
    return {
        "path": proposal.path,
        "resource": _guess(named.kind),
        "id": _guess(named.id) if named.id is not None else None,
        "attributes": named.parents,
        "query": list(proposal.query) if proposal.query is not None else None,
        "lookup_could_give": list(proposal.attributes),
        "decide": list(proposal.decide),
        "methods": {
            method: {"action": _guess(guess), **_evidence(proposal.template.methods[method])}
            for method, guess in named.actions.items()
        },
    }


def _guess(guess: Guess) -> dict[str, Any]:
    return {"value": guess.value, "confidence": round(guess.confidence, 2), "word": guess.word, "reason": guess.reason}


def _evidence(evidence: MethodEvidence) -> dict[str, Any]:
    return {
        "hits": evidence.hits,
        "statuses": {str(status): count for status, count in sorted(evidence.statuses.items())},
        "ids": len(evidence.ids),
        "more_ids": evidence.ids.is_more,
        "operations": [one.id for one in evidence.operations],
        "in_collection": evidence.in_collection,
        "first": str(evidence.first),
    }
