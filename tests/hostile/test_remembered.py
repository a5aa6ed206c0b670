"""The cache cases once more, with decisions that are remembered: nobody gets another's, and none outlives its time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hostile import cache_cases
from tests.hostile.cache_cases import _child_named
from tests.hostile.key_cases import view
from tests.hostile.test_hostile import CASES
from tests.hostile.world import ROUTES, World, running_world

SECONDS = 3.0
REMEMBERING = f"{ROUTES}\ncache: {{decisions: {SECONDS:.0f}s}}\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The fixture of the file, but for what it remembers."""
    with (
        running_world(Path(tmp_path_factory.mktemp("remembered"))) as running,
        running.another("remembering", routes=REMEMBERING) as sidecar,
    ):
        yield replace(running, sidecar=sidecar)


def hits(world: World) -> float:
    return world.sidecar.metric("sidecar_cache_total", cache="decision", outcome="hit")


@pytest.mark.parametrize("name", ["c01", "c02", "c05"])
def test_no_decision_is_anothers(world: World, name: str) -> None:
    world.fresh()
    cache_cases.RUNS[name](world, CASES[name])


def test_a_decision_is_used_again(world: World) -> None:
    world.fresh()
    before = hits(world)
    for _ in range(5):
        assert view(world.sidecar, world.token("alice")) == 200
        assert view(world.sidecar, world.token("bob")) == 403
    assert hits(world) - before >= 8
    assert {line["cache"] for line in world.sidecar.decisions()[-8:]} == {"hit"}


def test_another_owner_is_seen_at_once(world: World) -> None:
    # c04: what the hook says is in the question
    world.fresh()
    assert view(world.sidecar, world.token("alice")) == 200
    world.hook.owners["1"] = "b-1"
    assert view(world.sidecar, world.token("alice")) == 403
    assert view(world.sidecar, world.token("bob")) == 200


def test_while_cerbos_is_away_what_is_remembered_goes_on_for_its_time_and_no_longer(world: World) -> None:
    # c06
    world.fresh()
    with world.another("away", routes=REMEMBERING) as sidecar:
        assert view(sidecar, world.token("alice")) == 200
        asked = time.monotonic()
        cerbos = _child_named(sidecar.pid, "cerbos")
        os.kill(cerbos, signal.SIGSTOP)
        try:
            assert view(sidecar, world.token("alice")) == 200
            # never decided: not remembered either
            assert view(sidecar, world.token("alice"), "/docs/2") == 503
            time.sleep(max(0.0, asked + SECONDS - time.monotonic()) + 0.1)
            assert view(sidecar, world.token("alice")) == 503
        finally:
            os.kill(cerbos, signal.SIGCONT)


def test_a_reload_forgets(world: World) -> None:
    world.fresh()
    with world.another("reloaded", routes=REMEMBERING) as sidecar:
        for _ in range(2):
            assert view(sidecar, world.token("alice")) == 200
        os.kill(sidecar.pid, signal.SIGHUP)
        deadline = time.monotonic() + 5
        while "generation 2" not in sidecar.log():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert view(sidecar, world.token("alice")) == 200
        assert [line["cache"] for line in sidecar.decisions()] == ["miss", "hit", "miss"]
