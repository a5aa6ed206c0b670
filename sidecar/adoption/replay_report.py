"""Outcome of a replay, as text for a person and as JSON for a program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sidecar.adoption.replay import OTHERS, ChangeTally, DecisionChange, Replay, by
from sidecar.printable import printable

DIMENSIONS = ("route", "rule", "role", "principal")
MOST_SHOWN = 20
"""Changes, reasons and names that the text shows of each kind; JSON has ten times as many."""


def as_text(replay: Replay, revision: str) -> list[str]:
    """Return the lines for a person."""
    lost, gained = (replay.changed(widens=widens) for widens in (False, True))
    before = ", ".join(name or "unknown" for name, _ in replay.revisions.most_common(3)) or "none"
    lines = [
        f"{replay.requests:,} requests from {replay.first or '-'} to {replay.last or '-'}",
        f"policies {before} -> {revision}",
        "",
        f"  same           {replay.same:>12,}",
        f"  allow -> deny  {lost:>12,}",
        f"  deny -> allow  {gained:>12,}",
        f"  not replayed   {replay.unreplayed.total():>12,}",
        *_changes(replay, "allow -> deny", widens=False),
        *_changes(replay, "deny -> allow", widens=True),
        *_unreplayed(replay),
    ]
    return list(map(printable, lines))


def _changes(replay: Replay, title: str, *, widens: bool) -> Iterator[str]:
    found = _sorted(replay, widens=widens)
    if not found:
        return
    yield from ("", title)
    for change, tally in found[:MOST_SHOWN]:
        yield f"  {_what(change)}"
        yield f"    {tally.requests:,} requests of {_principals(tally)}, {tally.first} to {tally.last}"
        yield f"    {_rules(change)}"
        yield f"    such as {', '.join(tally.examples)}"
    if len(found) > MOST_SHOWN:
        yield f"  and {len(found) - MOST_SHOWN:,} more: --json has them"
    for dimension in ("role", "principal"):
        names = [f"{name} {count:,}" for name, count in by(replay, dimension, widens=widens)[:5]]
        if names:
            yield f"  by {dimension}: {', '.join(names)}"


def _what(change: DecisionChange) -> str:
    if change == OTHERS:
        return "all further changes"
    what = f"{change.kind}:{change.action}" if change.kind else "no resource"
    return f"{change.route or 'no route'}  {what}  {', '.join(change.roles) or 'no role'}"


def _rules(change: DecisionChange) -> str:
    if not change.rules:
        return "no rule of the new policies allows it" if not change.widens else "no single rule allows it"
    return f"by {', '.join(change.rules)}"


def _principals(tally: ChangeTally) -> str:
    count = len(tally.principals)
    return f"{'more than ' if tally.more_principals else ''}{count:,} principal{'' if count == 1 else 's'}"


def _unreplayed(replay: Replay) -> Iterator[str]:
    if not replay.unreplayed:
        return
    yield from ("", "not replayed")
    found = replay.unreplayed.most_common()
    for (reason, detail), count in found[:MOST_SHOWN]:
        yield f"  {count:>10,}  {reason.meaning}{f' ({detail})' if detail else ''}"
    if len(found) > MOST_SHOWN:
        yield f"  and {len(found) - MOST_SHOWN:,} more: --json has them"


def _sorted(replay: Replay, *, widens: bool) -> list[tuple[DecisionChange, ChangeTally]]:
    found = [(change, tally) for change, tally in replay.changes.items() if change.widens is widens]
    return sorted(found, key=lambda pair: (-pair[1].requests, pair[0]))


def as_json(replay: Replay, revision: str) -> Mapping[str, Any]:
    """Return the same as data. Numbers are of requests, times as in the log."""
    most = MOST_SHOWN * 10
    return {
        "requests": replay.requests,
        "replayed": replay.replayed,
        "same": replay.same,
        "first": replay.first,
        "last": replay.last,
        "revisions": {"recorded": dict(replay.revisions.most_common(most)), "new": revision},
        "allow_to_deny": _direction(replay, most, widens=False),
        "deny_to_allow": _direction(replay, most, widens=True),
        "unreplayed": [
            {"reason": reason, "detail": detail, "requests": count}
            for (reason, detail), count in replay.unreplayed.most_common(most)
        ],
    }


def _direction(replay: Replay, most: int, *, widens: bool) -> Mapping[str, Any]:
    found = _sorted(replay, widens=widens)
    return {
        "requests": replay.changed(widens=widens),
        "changes": [_change(change, tally) for change, tally in found[:most]],
        "more_changes": max(0, len(found) - most),
        **{f"by_{dimension}": dict(by(replay, dimension, widens=widens)[:most]) for dimension in DIMENSIONS},
    }


def _change(change: DecisionChange, tally: ChangeTally) -> Mapping[str, Any]:
    return {
        "route": change.route,
        "kind": change.kind,
        "action": change.action,
        "roles": list(change.roles),
        "rules": list(change.rules),
        "requests": tally.requests,
        "principals": len(tally.principals),
        "more_principals": tally.more_principals,
        "first": tally.first,
        "last": tally.last,
        "examples": tally.examples,
    }
