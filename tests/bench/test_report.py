"""Goals are judged by the median of the rounds, and what is written can be read."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from bench import report
from bench.goals import GOALS, judge, measured
from bench.run import SHOTS

KEYS = (
    "download",
    "download nginx",
    "upload",
    "upload nginx",
    "growth",
    "resident",
    "soak",
    "ready",
    "list.cpu",
    "list.growth",
    "list.kept",
)


NEXT_RUN: set[str] = set()
"""Goals that the committed run did not measure yet: the next one will."""


def a_round(rate: float) -> dict[str, float]:
    found = {f"{shot.name}.{part}": 1.0 for shot in SHOTS for part in ("rate", "p50", "p99", "cpu")}
    return {**found, **dict.fromkeys(KEYS, 1.0), "bare cerbos.rate": 1.0, "allow.rate": rate}


def test_a_goal_is_met_by_the_median_of_its_ratios() -> None:
    results = {one.goal.id: one for one in judge([a_round(1.0), a_round(4.0), a_round(3.0)])}
    assert results["allow-vs-envoy-ext-authz"].ratio == 3.0
    assert results["allow-vs-envoy-ext-authz"].met
    assert not results["allow-vs-article"].met
    assert not results["allow-p50-vs-envoy-ext-authz"].met
    assert len(results) == len(GOALS)


def test_a_page_that_stands_alone_is_compared_with_a_decision_that_does() -> None:
    under_load = {"list of 50.cpu": 9.0, "allow.cpu": 1.0}
    alone = {"list of 50-1.cpu": 6.0, "allow-1.cpu": 2.0}
    results = {one.goal.id: one for one in judge([{**a_round(1.0), **under_load, **alone}])}
    assert results["list-vs-allow-cpu-1"].ratio == 3.0
    assert results["list-vs-allow-cpu-1"].met
    assert results["list-vs-allow-cpu"].ratio == 9.0
    slower = judge([{**a_round(1.0), **alone, "list of 50-1.cpu": 6.1}])
    assert not {one.goal.id: one for one in slower}["list-vs-allow-cpu-1"].met
    shots = {shot.name: shot for shot in SHOTS}
    page, decision = shots["list of 50-1"], shots["allow-1"]
    assert page.connections == decision.connections == 1
    # the same sidecar, principal and ids, and the page of the load that 8 connections ask for
    assert page == decision._replace(name=page.name, path=page.path)
    assert page == shots["list of 50"]._replace(name=page.name, connections=1)


def test_of_a_part_of_the_loads_only_its_goals_are_judged() -> None:
    part = {name: value for name, value in a_round(3.0).items() if name.startswith(("allow.", "envoy ext_authz."))}
    assert [one.goal.id for one in judge([part], measured([part]))] == ["allow-vs-envoy-ext-authz"]


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    rounds = [a_round(2.0)]
    report.write(tmp_path, rounds, judge(rounds), {"cores": 2})
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [set(one) for one in summary] == [{"id", "ratio", "goal", "met"}] * len(GOALS)
    assert json.loads((tmp_path / "results.json").read_text())["rounds"] == rounds
    assert (tmp_path / "table.md").read_text().count("\n| ") >= len(GOALS) + len(SHOTS)
    assert ET.parse(tmp_path / "chart.svg").getroot().tag.endswith("svg")


def test_the_committed_results_are_of_these_goals() -> None:
    folder = Path(report.__file__).parent / "results"
    goals = measured(json.loads((folder / "results.json").read_text())["rounds"])
    assert {goal.id for goal in GOALS} - {goal.id for goal in goals} <= NEXT_RUN
    assert [one["id"] for one in json.loads((folder / "summary.json").read_text())] == [goal.id for goal in goals]


def test_the_docs_show_the_committed_results() -> None:
    folder = Path(report.__file__).parent / "results"
    shown = (folder.parent.parent / "docs" / "performance.md").read_text()
    for part in (folder / "table.md").read_text().strip().split("\n\n"):
        assert part in shown
