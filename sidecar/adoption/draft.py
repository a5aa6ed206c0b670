"""A draft of policies from recorded traffic: what is granted, what is not, and the files that say so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sidecar.adoption.evidence import Answers, Evidence, Hits, RequestGroup
from sidecar.adoption.grants import Action, Enough, Granted, Ungranted, actions_of, is_writable
from sidecar.adoption.policy_files import (
    KindDraft,
    evidence_of,
    files_of,
    own_text,
    quoted,
    slugs,
    ungranted_text,
    who_of,
)
from sidecar.adoption.report_text import number_of, plain
from sidecar.adoption.seal import MARK, sealed
from sidecar.pdp.policy_names import kind_name

VERSION = 1


class Unwritable(NamedTuple):
    """A name out of the log that no policy can have as it is, and why."""

    what: str
    name: str
    reason: str


@dataclass(frozen=True)
class PolicyDraft:
    """A draft of all kinds. `files` are their texts by name."""

    kinds: tuple[KindDraft, ...]
    files: Mapping[str, str]
    unwritable: tuple[Unwritable, ...]
    skipped: Mapping[str, int]
    lists: tuple[str, ...]
    requests: int

    @property
    def granted(self) -> int:
        """Number of grants."""
        return sum(len(kind.granted) for kind in self.kinds)

    @property
    def ungranted(self) -> int:
        """Number of cases that a person must decide."""
        return sum(len(kind.ungranted) for kind in self.kinds)


def draft_of(evidence: Evidence, enough: Enough) -> PolicyDraft:
    """Return the draft that the evidence allows."""
    cases, unwritable = _writable(evidence.cases)
    by_kind: dict[str, list[Action]] = {}
    for action in actions_of(cases, enough):
        by_kind.setdefault(action.kind, []).append(action)
    names = slugs(by_kind)
    kinds = tuple(KindDraft(kind, names[kind], actions) for kind, actions in by_kind.items())
    head = _head(evidence)
    files: dict[str, str] = {}
    for kind in kinds:
        files |= {name: sealed(text) for name, text in files_of(kind, _tested(cases, kind, enough), head)}
    return PolicyDraft(
        kinds, files, tuple(unwritable), dict(evidence.skipped), tuple(sorted(evidence.lists)), evidence.span.requests
    )


def _head(evidence: Evidence) -> str:
    span = evidence.span
    requests = number_of(span.requests, False, "recorded request")
    return f"{MARK} from {requests}, {span.first[:10]} to {span.last[:10]}. Read each rule before you use it."


def _writable(cases: Mapping[RequestGroup, Answers]) -> tuple[dict[RequestGroup, Answers], list[Unwritable]]:
    """The cases whose kind and action a policy can name, and the names that none can.

    Cases with such roles stay: the app's refusals of them count.
    """
    names: dict[str, str] = {}
    for kind in sorted({case.kind for case in cases}):
        names.setdefault(kind_name(kind), kind)
    found: dict[RequestGroup, Answers] = {}
    unwritable: set[Unwritable] = set()
    for case, answers in cases.items():
        unwritable.update(Unwritable("role", role, _WILDCARD) for role in case.roles if not is_writable(role))
        other = names[kind_name(case.kind)]
        if not _KIND.fullmatch(case.kind):
            unwritable.add(Unwritable("kind", case.kind, "Cerbos takes no kind with any of ! * ? [ ] { }"))
        elif not is_writable(case.action):
            unwritable.add(Unwritable("action", case.action, _WILDCARD))
        elif other != case.kind:
            unwritable.add(Unwritable("kind", case.kind, f"Cerbos takes it for {plain(other)}"))
        else:
            found[case] = answers
    return found, sorted(unwritable)


_KIND = re.compile(r"[^!*?\[\]{}]+")
_WILDCARD = "a policy would take it for a wildcard, or for nothing"


def _tested(cases: Mapping[RequestGroup, Answers], kind: KindDraft, enough: Enough) -> list[RequestGroup]:
    """The cases with enough evidence in which the draft answers as the app did."""
    actions = {action.action: action for action in kind.actions}
    found = []
    for case, answers in cases.items():
        if case.kind != kind.kind or not all(map(is_writable, case.roles)):
            continue
        allowed = actions[case.action].allows(case.roles, case.own)
        as_the_app = answers.admitted if allowed else answers.refused
        other = answers.refused if allowed else answers.admitted
        if enough.is_met(as_the_app) and not other.span.requests:
            found.append(case)
    return sorted(found, key=lambda case: (sorted(case.roles), sorted(case.own), case.action))


# --- for people, and for programs ---


def as_text(draft: PolicyDraft) -> str:
    """Return what was drafted, and what a person must decide, as lines."""
    lines = [
        f"{number_of(draft.granted, False, 'rule')} for {number_of(len(draft.kinds), False, 'kind')}, "
        f"from {number_of(draft.requests, False, 'request')}"
    ]
    for kind in draft.kinds:
        lines += ["", plain(kind.kind)]
        for action, granted in kind.granted:
            mark = "?" if granted.together else "+"
            lines.append(f"  {mark} {plain(action)}, {who_of(granted.grant)}: {evidence_of(granted.hits)}")
            if granted.together:
                lines.append("      these roles were never seen apart: decide which of them counts")
        if kind.ungranted:
            lines.append("  not granted, decide:")
        lines += [f"  - {ungranted_text(each)}" for each in kind.ungranted]
    lines += ["", *_notes(draft)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _notes(draft: PolicyDraft) -> list[str]:
    notes = [f"{one.what} {quoted(plain(one.name))}: left out, {one.reason}" for one in draft.unwritable]
    if draft.lists:
        shown = ", ".join(plain(route) for route in draft.lists[:5])
        notes.append(
            f"items of lists ({shown}): the log does not have them one by one, see that a rule allows their action"
        )
    notes += [f"{count:,} requests left out: {why}" for why, count in sorted(draft.skipped.items())]
    return [f"note: {note}" for note in notes]


def as_json(draft: PolicyDraft) -> dict[str, Any]:
    """Return a draft as an object. Names are only ever added."""
    return {
        "version": VERSION, "requests": draft.requests, "files": sorted(draft.files),
        "kinds": [
            {
                "kind": kind.kind,
                "rules": [_granted(action, granted) for action, granted in kind.granted],
                "not_granted": [_ungranted(each) for each in kind.ungranted],
            }
            for kind in draft.kinds
        ],
        "left_out": [one._asdict() for one in draft.unwritable],
        "lists": list(draft.lists), "skipped": dict(draft.skipped),
    }  # fmt: skip


def _granted(action: str, granted: Granted) -> dict[str, Any]:
    return {
        "action": action, "roles": sorted(granted.grant.roles), "own": _own(granted.grant.own),
        "ambiguous": granted.together, **_hits(granted.hits),
    }  # fmt: skip


def _ungranted(each: Ungranted) -> dict[str, Any]:
    return {
        "action": each.case.action, "roles": sorted(each.case.roles),
        "own": [_own(one) for one in sorted(each.case.own)],
        "reason": each.reason, "refused": each.answers.refused.span.requests, **_hits(each.answers.admitted),
    }  # fmt: skip


def _own(own: str | None) -> str | None:
    return own_text(own) if own is not None else None


def _hits(hits: Hits) -> dict[str, Any]:
    return {
        "requests": hits.span.requests, "principals": len(hits.principals), "first": hits.span.first or None,
        "last": hits.span.last or None,
        "app_statuses": {str(status): count for status, count in sorted(hits.statuses.items())},
    }  # fmt: skip
