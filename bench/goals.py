"""The goals, each a ratio of two measurements of the same round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bench.stack import ITEMS

Round = Mapping[str, float]
"""Measurement -> value of one round: `<name>.rate` in requests per second, `<name>.p50` in seconds, ..."""


class Goal(NamedTuple):
    """`ratio` of a round is to be `least` at least, or `most` at most."""

    id: str
    what: str
    against: str
    ratio: Callable[[Round], float]
    least: float | None = None
    most: float | None = None

    @property
    def goal(self) -> str:
        """The goal in words."""
        return f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"

    def met(self, ratio: float) -> bool:
        """Whether a ratio is good enough."""
        return ratio >= self.least if self.least is not None else self.most is not None and ratio <= self.most


def _rates(one: str, other: str) -> Callable[[Round], float]:
    return lambda found: found[f"{one}.rate"] / found[f"{other}.rate"]


def _both(id_: str, what: str, against: str, one: str, other: str, least: float, many: float) -> tuple[Goal, Goal]:
    """The goal for one principal, and for 32 of them against a peer with as many."""
    rates = _rates(f"{one}, 32 principals", f"{other}, 32 principals")
    return (
        Goal(id_, what, against, _rates(one, other), least),
        Goal(f"{id_}-32", "the same, 32 principals", against, rates, many),
    )


GOALS = (
    *_both("allow-vs-envoy-ext-authz", "allow, fresh Cerbos decision", "Envoy + ext_authz, same Cerbos", "allow", "envoy ext_authz", 2.5, 1.9),
    Goal("allow-p50-vs-envoy-ext-authz", "the same, p50 at one connection", "Envoy + ext_authz, p50", lambda r: r["allow-1.p50"] / r["envoy ext_authz-1.p50"], None, 0.55),
    Goal("allow-vs-bare-cerbos", "allow, fresh Cerbos decision", "bare Cerbos by gRPC from one Python process, one resource a call", _rates("allow", "bare cerbos"), 1.0),
    Goal("allow-vs-bare-cerbos-32", "the same, 32 principals", "bare Cerbos by gRPC from one Python process, one resource a call", _rates("allow, 32 principals", "bare cerbos"), 0.6),
    *_both("fresh-lookup-vs-envoy-ext-authz", "allow, fresh decision and fresh HTTP lookup", "Envoy + ext_authz without lookup", "fresh lookup", "envoy ext_authz", 1.8, 1.5),
    *_both("cached-decision-vs-envoy-jwt-authn", "decision cached", "Envoy jwt_authn, no authorization", "cached decision", "envoy jwt_authn", 1.1, 1.1),
    Goal("list-vs-allow-cpu", "a page of 50 items filtered, CPU", "one decision", lambda r: r["list of 50.cpu"] / r["allow.cpu"], None, 3.0),
    Goal("list-vs-allow-cpu-1", "a page of 50 items filtered, CPU, one connection each", "one decision", lambda r: r["list of 50-1.cpu"] / r["allow-1.cpu"], None, 3.0),
    Goal("list-vs-one-by-one", "items decided in a page of 50", "asked one by one", lambda r: ITEMS * r["list of 50.rate"] / r["allow.rate"], 5.0),
    Goal("list-of-1000-cpu", "a list of 1,000 items", "milliseconds of CPU", lambda r: r["list.cpu"] * 1000, None, 25.0),
    Goal("list-growth-megabytes", "memory that a list of 10 MiB takes", "MiB", lambda r: r["list.growth"] / (1 << 20), None, 40.0),
    Goal("list-kept-megabytes", "memory that stays of it", "MiB", lambda r: r["list.kept"] / (1 << 20), None, 10.0),
    Goal("public-vs-envoy", "public route", "Envoy plain proxy, one thread", _rates("public", "envoy"), 0.65),
    Goal("forbidden-vs-allow", "refused with 403", "allowed", _rates("forbidden", "allow"), 1.0),
    Goal("unauthorized-vs-allow", "refused with 401", "allowed", _rates("unauthorized", "allow"), 1.0),
    Goal("download-vs-nginx", "large body to the client", "nginx proxy", lambda r: r["download nginx"] / r["download"], 0.5),
    Goal("upload-vs-nginx", "large body to the app", "nginx proxy", lambda r: r["upload nginx"] / r["upload"], 0.5),
    Goal("many-routes-vs-few", "10,000 routes", "10 routes", _rates("many routes", "authenticated"), 0.97),
    Goal("second-worker-cpu", "CPU for a request, 2 workers", "1 worker", lambda r: r["two workers.cpu"] / r["authenticated.cpu"], None, 1.05),
    Goal("allow-vs-article", "allow, fresh Cerbos decision", "the article's way", _rates("allow", "article"), 60.0),
    *_both("envoy-asking-vs-envoy-ext-authz", "Envoy asks the sidecar by gRPC, fresh Cerbos decision", "Envoy + ext_authz, same Cerbos", "envoy, asking", "envoy ext_authz", 1.5, 1.2),
    Goal("envoy-asking-cached-vs-yes", "the same, decision cached", "Envoy before a grpc.aio service that says yes", _rates("envoy, asking, cached", "envoy, yes by grpc.aio"), 0.5),
    Goal("envoy-asking-cached-vs-own-yes", "the same, decision cached", "Envoy before our gRPC server that says yes", _rates("envoy, asking, cached", "envoy, yes by own"), 0.5),
    *_both("nginx-asking-vs-nginx-auth-request", "nginx asks the sidecar, fresh Cerbos decision", "nginx auth_request, same Cerbos", "nginx, asking", "nginx auth_request", 1.5, 1.2),
    Goal("nginx-asking-cached-vs-yes", "the same, decision cached", "nginx before a uvicorn that says yes", _rates("nginx, asking, cached", "nginx, yes by http"), 0.5),
    Goal("seconds-to-ready", "start to ready, Cerbos up", "seconds of CPU", lambda r: r["ready"], None, 0.5),
    Goal("resident-megabytes", "resident memory of a worker after load", "MB", lambda r: r["resident"] / 1e6, None, 75.0),
    Goal("body-growth-megabytes", "memory that a large body each way adds", "MB", lambda r: r["growth"] / 1e6, None, 30.0),
    Goal("soak-growth-megabytes", "memory that the load adds, last half of the run", "MB", lambda r: r["soak"] / 1e6, None, 5.0),
)  # fmt: skip


class Result(NamedTuple):
    """A goal and what was found: the median of the rounds' ratios."""

    goal: Goal
    ratio: float
    met: bool
    ratios: list[float]


def measured(rounds: Sequence[Round]) -> list[Goal]:
    """The goals of which everything was measured."""
    return [goal for goal in GOALS if _is_measured(goal, rounds[0])]


def _is_measured(goal: Goal, found: Round) -> bool:
    try:
        goal.ratio(found)
    except KeyError:
        return False
    return True


def judge(rounds: Sequence[Round], goals: Sequence[Goal] = GOALS) -> list[Result]:
    """Each goal by the median of its rounds. Raises KeyError where something was not measured."""
    results = []
    for goal in goals:
        ratios = [goal.ratio(found) for found in rounds]
        ratio = statistics.median(ratios)
        results.append(Result(goal, ratio, goal.met(ratio), ratios))
    return results
