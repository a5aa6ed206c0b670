"""The cache cases once more, with decisions that are remembered: nobody gets another's, and none outlives its time."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hostile.cache_cases import POLICY, child_named, two_kinds
from tests.hostile.key_cases import view
from tests.hostile.test_hostile import CASES, RUNS
from tests.hostile.world import World, running_world
from tests.paused import paused
from tests.stack import Sidecar

SECONDS = 3.0
REMEMBERING = f"\ncache: {{decisions: {SECONDS:.0f}s}}\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The fixture of the file, but for what it remembers."""
    with running_world(Path(tmp_path_factory.mktemp("remembered"))) as running:
        remembering = replace(running, more=REMEMBERING)
        with remembering.another("remembering") as sidecar:
            yield replace(remembering, sidecar=sidecar)


def hits(world: World) -> float:
    return world.sidecar.metric("sidecar_cache_total", cache="decision", outcome="hit")


AS_THEY_ARE = ("c01", "c02", "c03", "c05", "c08")
"""Cases that hold with and without; c04 and c06 speak of time, and have tests of their own below."""


@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_no_decision_is_anothers(world: World, name: str) -> None:
    world.fresh()
    RUNS[name](world, CASES[name])


def test_every_cache_case_is_run() -> None:
    assert {name for name, case in CASES.items() if case["cat"] == "cache"} == {*AS_THEY_ARE, "c04", "c06"}


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


def test_another_policy_is_seen_within_the_time_that_decisions_are_remembered(world: World) -> None:
    # c04; what Cerbos says is asked of the permissions API, which remembers nothing
    world.fresh()
    token = world.token("alice")
    with two_kinds(world, "c04-remembered") as (sidecar, policies):
        assert view(sidecar, token, "/one/c") == 200
        (policies / "one.yaml").write_text(POLICY.format(kind="a:b", effect="EFFECT_DENY"))
        deadline = time.monotonic() + 15
        while _says(sidecar, token, "/one/c"):
            # what is remembered is renewed until the end, so that it is young when the policy changes
            view(sidecar, token, "/one/c")
            assert time.monotonic() < deadline
        changed = time.monotonic()
        while view(sidecar, token, "/one/c") == 200:
            assert time.monotonic() < changed + SECONDS + 0.5
        assert view(sidecar, token, "/one/c") == 403
        outcomes = [(line["code"], line["cache"]) for line in sidecar.decisions() if line.get("path") == "/one/c"]
        assert ("allowed", "hit") in outcomes
        # the change was seen by asking, not by luck
        assert outcomes[outcomes.index(("denied_by_policy", "miss")) - 1] == ("allowed", "hit")


def _says(sidecar: Sidecar, token: str, path: str) -> bool:
    body = json.dumps([{"method": "GET", "path": path}]).encode()
    got = sidecar.request(
        "POST", "/_sidecar/permissions", token, body, host="app.test", content_type="application/json"
    )
    (result,) = json.loads(got.body)
    return bool(result["allowed"])


def test_while_cerbos_is_away_what_is_remembered_goes_on_for_its_time_and_no_longer(world: World) -> None:
    # c06
    world.fresh()
    with world.another("away", environ={"SIDECAR_CERBOS_TIMEOUT": "1s"}, shared=False) as sidecar:
        assert view(sidecar, world.token("alice")) == 200
        asked = time.monotonic()
        cerbos = child_named(sidecar.pid, "cerbos")
        with paused(cerbos):
            assert view(sidecar, world.token("alice")) == 200
            # never decided: not remembered either
            assert view(sidecar, world.token("alice"), "/docs/2") == 503
            time.sleep(max(0.0, asked + SECONDS - time.monotonic()) + 0.1)
            assert view(sidecar, world.token("alice")) == 503
        # no fault was remembered
        assert view(sidecar, world.token("alice")) == CASES["c06"]["expect"]["next"]
        assert view(sidecar, world.token("alice"), "/docs/2") == 403


def test_a_reload_forgets(world: World) -> None:
    world.fresh()
    with world.another("reloaded") as sidecar:
        for _ in range(2):
            assert view(sidecar, world.token("alice")) == 200
        os.kill(sidecar.pid, signal.SIGHUP)
        deadline = time.monotonic() + 5
        while "generation 2" not in sidecar.log():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert view(sidecar, world.token("alice")) == 200
        assert [line["cache"] for line in sidecar.decisions()] == ["miss", "hit", "miss"]
