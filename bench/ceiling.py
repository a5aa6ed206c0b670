"""How near each goal could be come: CPU of every process for a request, and what would be left were ours nothing.

python -m bench.ceiling [--rounds N] [--seconds N]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench import load
from bench.run import SHOTS, Shot, fire
from bench.stack import Stack

Costs = Mapping[str, float]
"""CPU seconds for a request, by role of the process."""
OURS = "sidecar"
ONE_THREAD = (OURS, "envoy", "authorizer", "wrk")
"""Roles that use one core at most."""
_ROLES = {" server ": "cerbos", "envoy": "envoy", "authorizer.py": "authorizer", "sidecar.cli": OURS, "nginx": "nginx"}
"""A part of a command line -> the role."""


class Pair(NamedTuple):
    """A load of ours, that of a peer, and the goal: how many times as many requests."""

    load: str
    peer: str
    goal: float


PAIRS = tuple(
    Pair(f"{ours}{many}", f"{peer}{many}", goal)
    for ours, peer, *goals in (
        ("allow", "envoy ext_authz", 2.5, 1.9),
        ("fresh lookup", "envoy ext_authz", 1.8, 1.5),
        ("envoy, asking", "envoy ext_authz", 1.5, 1.2),
        ("nginx, asking", "nginx auth_request", 1.5, 1.2),
        ("cached decision", "envoy jwt_authn", 1.1, 1.1),
    )
    for many, goal in zip(("", ", 32 principals"), goals, strict=True)
)


def seconds(costs: Costs, cores: int) -> float:
    """Seconds that a request takes at least: of the busiest thread, or of all cores together."""
    return max(*(costs.get(role, 0.0) for role in ONE_THREAD), sum(costs.values()) / cores)


class Ceiling(NamedTuple):
    """Ratio as the CPU has it, ratio were our CPU nothing, and the part of our CPU at which the goal would be met, 0.0
    where it would not be."""

    now: float
    most: float
    part: float


def ceiling(ours: Costs, peer: Costs, goal: float, cores: int) -> Ceiling:
    """What CPU alone allows, were no core ever idle."""
    theirs, others = seconds(peer, cores), {**ours, OURS: 0.0}
    wanted = theirs / goal
    left = min(wanted, cores * wanted - sum(others.values())) if seconds(others, cores) <= wanted else 0.0
    return Ceiling(theirs / seconds(ours, cores), theirs / seconds(others, cores), max(left, 0.0) / ours[OURS])


def role_of(command: str) -> str:
    """The role of a process, "" for none that takes part."""
    return next((role for part, role in _ROLES.items() if part in command), "")


def _used() -> dict[str, float]:
    """CPU seconds of our children so far, by role; wrk is the only one that is waited for."""
    found: dict[str, float] = {}
    for pid in load.family(os.getpid())[1:]:
        with contextlib.suppress(OSError):
            role = role_of(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
            found[role] = found.get(role, 0.0) + load.cpu([pid])
    waited = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {**found, "wrk": waited.ru_utime + waited.ru_stime}


def _costs(stack: Stack, shot: Shot, length: float) -> dict[str, float]:
    before = _used()
    rate = fire(stack, shot, length)[f"{shot.name}.rate"]
    requests = rate * max(1, round(length))
    return {role: (used - before.get(role, 0.0)) / requests for role, used in _used().items() if role}


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.ceiling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    names = {name for pair in PAIRS for name in (pair.load, pair.peer)}
    shots = [shot for shot in SHOTS if shot.name in names]
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as folder, contextlib.ExitStack() as stack:
        started = Stack(Path(folder), stack)
        started.start_peers()
        started.start_sidecar("sidecar")
        started.start_sidecar("caching", "cache: {decisions: 1s}\n")
        started.start_asked_by_envoy("envoy, asking")
        started.start_asked_by_nginx("nginx, asking")
        rounds = [
            {shot.name: _costs(started, shot, options.seconds) for shot in shots} for _ in range(options.rounds + 1)
        ]
    found = {
        name: {role: statistics.median([one[name][role] for one in rounds[1:]]) for role in rounds[0][name]}
        for name in sorted(names)
    }
    print("| load | CPU us per request |\n| --- | --- |")
    for name, costs in found.items():
        print(f"| {name} | {', '.join(f'{role} {used * 1e6:.0f}' for role, used in costs.items() if used > 1e-6)} |")
    print("\n| load | goal | by CPU | were ours nothing | our CPU at the goal / now |\n| --- | --- | --- | --- | --- |")
    for pair in PAIRS:
        now, most, part = ceiling(found[pair.load], found[pair.peer], pair.goal, os.cpu_count() or 1)
        print(f"| {pair.load} | {pair.goal:g} | {now:.2f} | {most:.2f} | {part:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
