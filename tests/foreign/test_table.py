"""Every case by every way in: the same end as by the sidecar itself, and one table in the docs that says so."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http import HTTPStatus

import pytest

from tests.foreign.cases import CASES, Case
from tests.foreign.table import PAGE, placed
from tests.foreign.ways import SIGNS, WAYS, Entrance, Way
from tests.foreign.world import Outcome, World, running_world

Outcomes = dict[tuple[str, str], list[Outcome]]
"""(way, case) -> what came of each of its requests."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """Every way opened once, and everything asked: first what needs all parts, then what happens as they go."""
    found: Outcomes = {}
    chosen = {item.name.partition("[")[2].partition("-")[0] for item in request.session.items}
    ways = [way for way in WAYS if way.name in chosen and not way.missing]
    with running_world(tmp_path_factory.mktemp("foreign")) as world, ExitStack() as stack:
        # two at a time; a process goes with the thread that started it, so that the threads stay to the end
        pool = stack.enter_context(ThreadPoolExecutor(2))
        opened = pool.map(lambda way: stack.enter_context(way.open(world)), ways)
        entrances = {way.name: entrance for way, entrance in zip(ways, opened, strict=True)}
        for part in ("", "hook", "cerbos", "sidecar"):
            _take_away(part, world, entrances)
            for name, entrance in entrances.items():
                for case in CASES:
                    if case.without == part:
                        found[name, case.name] = [world.send(entrance.port, ask) for ask in case.asks]
        yield found


def _take_away(part: str, world: World, entrances: dict[str, Entrance]) -> None:
    if part == "sidecar":
        for entrance in entrances.values():
            entrance.sidecar.process.stop()
    elif part:
        world.take_away(part)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_case(outcomes: Outcomes, way: Way, case: Case) -> None:
    """What the case says, or what the way's mark says of it."""
    if way.missing:
        pytest.skip(f"{way.needs} is not installed")
    mark = way.marks.get(case.name)
    status, seen = (mark.status, mark.seen) if mark else (case.status, case.seen)
    for ask, outcome in zip(case.asks, outcomes[way.name, case.name], strict=True):
        about = f"{ask.method} {ask.target} {ask.headers}"
        if case.without == "sidecar":
            # nobody who listens, or a proxy that says so in its own words
            assert outcome.status == 0 or outcome.status >= HTTPStatus.INTERNAL_SERVER_ERROR, about
        else:
            assert outcome.status == status, about
        assert len(outcome.seen) == seen, about
        _holds(case, outcome, mark is None)


def _holds(case: Case, outcome: Outcome, as_said: bool) -> None:
    for got in outcome.seen:
        if case.sent:
            assert got.target == case.sent
        for name, values in case.app.items():
            assert sorted(got.values(name)) == sorted(values), name
    if as_said and outcome.reply is not None:
        for name, start in case.client.items():
            assert any(value.startswith(start) for value in outcome.reply.values(name)), (name, outcome.reply.head)


def test_the_docs_have_the_table() -> None:
    """Run `python -m tests.foreign.table` when this fails."""
    assert PAGE.read_text(encoding="utf-8") == placed()


def test_every_mark_is_of_a_case_and_says_what_it_is_for() -> None:
    names = {case.name for case in CASES}
    assert len(names) == len(CASES)
    for way in WAYS:
        assert set(way.marks) <= names
        assert {mark.sign for mark in way.marks.values()} <= set(SIGNS)
