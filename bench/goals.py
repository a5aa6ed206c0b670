"""The goals, each a ratio of two measurements of the same round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

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


GOALS = (
    Goal("allow-vs-envoy-ext-authz", "allow, fresh Cerbos decision", "Envoy + ext_authz, same Cerbos", _rates("allow", "envoy ext_authz"), 2.0),
    Goal("allow-p50-vs-envoy-ext-authz", "the same, p50 at one connection", "Envoy + ext_authz, p50", lambda r: r["allow-1.p50"] / r["envoy ext_authz-1.p50"], None, 0.6),
    Goal("allow-vs-bare-cerbos", "allow, fresh Cerbos decision", "bare Cerbos by gRPC from one Python process", _rates("allow", "bare cerbos"), 0.6),
    Goal("fresh-lookup-vs-envoy-ext-authz", "the same with a fresh HTTP lookup too", "Envoy + ext_authz without lookup", _rates("fresh lookup", "envoy ext_authz"), 1.3),
    Goal("cached-decision-vs-envoy-jwt-authn", "decision cached", "Envoy jwt_authn, no authorization", _rates("cached decision", "envoy jwt_authn"), 1.3),
    Goal("public-vs-envoy", "public route", "Envoy plain proxy, one thread", _rates("public", "envoy"), 0.9),
    Goal("forbidden-vs-allow", "refused with 403", "allowed", _rates("forbidden", "allow"), 1.0),
    Goal("unauthorized-vs-allow", "refused with 401", "allowed", _rates("unauthorized", "allow"), 1.0),
    Goal("download-vs-nginx", "large body to the client", "nginx proxy", lambda r: r["download nginx"] / r["download"], 0.5),
    Goal("upload-vs-nginx", "large body to the app", "nginx proxy", lambda r: r["upload nginx"] / r["upload"], 0.5),
    Goal("many-routes-vs-few", "10,000 routes", "10 routes", _rates("many routes", "authenticated"), 0.97),
    Goal("two-workers-vs-one", "2 workers", "1 worker", _rates("two workers", "authenticated"), 1.7),
    Goal("allow-vs-article", "allow, fresh Cerbos decision", "the article's way", _rates("allow", "article"), 60.0),
    Goal("envoy-asking-vs-envoy-ext-authz", "Envoy asks the sidecar by gRPC, fresh Cerbos decision", "Envoy + ext_authz, same Cerbos", _rates("envoy, asking", "envoy ext_authz"), 1.5),
    Goal("envoy-asking-cached-vs-yes", "the same, decision cached", "Envoy before a grpc.aio service that says yes", _rates("envoy, asking, cached", "envoy, yes by grpc.aio"), 0.5),
    Goal("envoy-asking-cached-vs-own-yes", "the same, decision cached", "Envoy before our gRPC server that says yes", _rates("envoy, asking, cached", "envoy, yes by own"), 0.5),
    Goal("nginx-asking-vs-nginx-auth-request", "nginx asks the sidecar, fresh Cerbos decision", "nginx auth_request, same Cerbos", _rates("nginx, asking", "nginx auth_request"), 1.5),
    Goal("nginx-asking-cached-vs-yes", "the same, decision cached", "nginx before a uvicorn that says yes", _rates("nginx, asking, cached", "nginx, yes by http"), 0.5),
    Goal("seconds-to-ready", "start to ready, Cerbos up", "seconds", lambda r: r["ready"], None, 1.0),
    Goal("resident-megabytes", "resident memory of a worker after load", "MB", lambda r: r["resident"] / 1e6, None, 90.0),
    Goal("body-growth-megabytes", "memory that a large body each way adds", "MB", lambda r: r["growth"] / 1e6, None, 30.0),
    Goal("soak-growth-megabytes", "memory that the load adds, last half of the run", "MB", lambda r: r["soak"] / 1e6, None, 5.0),
)  # fmt: skip


class Result(NamedTuple):
    """A goal and what was found: the median of the rounds' ratios."""

    goal: Goal
    ratio: float
    met: bool
    ratios: list[float]


def judge(rounds: Sequence[Round]) -> list[Result]:
    """Every goal by the median of its rounds. Raises KeyError where something was not measured."""
    results = []
    for goal in GOALS:
        ratios = [goal.ratio(found) for found in rounds]
        ratio = statistics.median(ratios)
        results.append(Result(goal, ratio, goal.met(ratio), ratios))
    return results
