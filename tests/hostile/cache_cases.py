"""The cache cases. By default every decision is asked for, so that nothing of another's is found anywhere; with decisions
that are remembered, `test_remembered.py` runs them again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.hostile.attempts import Case
from tests.hostile.key_cases import view
from tests.hostile.world import World
from tests.paused import paused
from tests.stack import Sidecar, wait_for


def other_principal(world: World, case: Case) -> None:
    """c01: what alice may is not what bob may."""
    assert view(world.sidecar, world.token("alice")) == 200
    assert view(world.sidecar, world.token("bob")) == case["expect"]["bob"]
    assert view(world.sidecar, world.token("alice")) == 200


def other_action(world: World, case: Case) -> None:
    """c02: that alice may view does not say that she may delete."""
    assert view(world.sidecar, world.token("alice")) == 200
    got = world.sidecar.request("DELETE", "/docs/1", world.token("alice"), host="app.test")
    assert got.status == case["expect"]["second"]


POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: "{kind}"
  version: default
  rules:
    - {{actions: [view], effect: {effect}, roles: [user]}}
"""
_KINDS = """\
version: 1
routes:
  - {path: "/one/{id:any}", resource: "a:b", id: "{path.id}", actions: {GET: view}}
  - {path: "/two/{id:any}", resource: "a", id: "{path.id}", actions: {GET: view}}
"""


@contextmanager
def two_kinds(world: World, name: str) -> Iterator[tuple[Sidecar, Path]]:
    """A sidecar of its own: a user may view what is of the kind a:b, and nothing of the kind a."""
    policies = world.folder / f"{name}-policies"
    policies.mkdir()
    (policies / "one.yaml").write_text(POLICY.format(kind="a:b", effect="EFFECT_ALLOW"))
    (policies / "two.yaml").write_text(POLICY.format(kind="a", effect="EFFECT_DENY"))
    with world.another(name, routes=_KINDS, policies=policies, shared=False) as sidecar:
        yield sidecar, policies


def no_collision(world: World, case: Case) -> None:
    """c03: kind and id are two things, and an id is a text."""
    with two_kinds(world, "c03") as (sidecar, _):
        for _ in range(2):
            assert view(sidecar, world.token("alice"), "/one/c") == 200
            assert view(sidecar, world.token("alice"), "/two/b:c") == 403
    world.hook.owners |= {"01": "b-1", "1.0": "b-1"}
    for _ in range(2):
        assert view(world.sidecar, world.token("alice"), "/docs/1") == 200
        assert view(world.sidecar, world.token("alice"), "/docs/01") == 403
        assert view(world.sidecar, world.token("alice"), "/docs/1.0") == 403
    assert case["expect"]["collision"] is False


def changed(world: World, case: Case) -> None:
    """c04: another owner is seen by the very next request; another policy as soon as Cerbos has read it."""
    assert case["expect"]["stale_s_max"] == "ttl (default 0 = off)"
    assert view(world.sidecar, world.token("alice")) == 200
    world.hook.owners["1"] = "b-1"
    assert view(world.sidecar, world.token("alice")) == 403
    assert view(world.sidecar, world.token("bob")) == 200
    with two_kinds(world, "c04") as (sidecar, policies):
        assert view(sidecar, world.token("alice"), "/one/c") == 200
        (policies / "one.yaml").write_text(POLICY.format(kind="a:b", effect="EFFECT_DENY"))
        wait_for(lambda: view(sidecar, world.token("alice"), "/one/c") == 403, 15, "the new policy is in force")


def token_ends(world: World, case: Case) -> None:
    """c05: a token that was good is not good after its end."""
    ends = int(time.time()) + 2
    token = world.mint.token(exp=ends)
    assert view(world.sidecar, token) == 200
    time.sleep(max(0.0, ends - time.time()) + 0.01)
    assert view(world.sidecar, token) == case["expect"]["after_exp"]


def pdp_comes_back(world: World, case: Case) -> None:
    """c06: while Cerbos does not answer nothing passes; once it does, it is asked again."""
    with world.another("c06", environ={"SIDECAR_CERBOS_TIMEOUT": "2s"}, shared=False) as sidecar:
        assert view(sidecar, world.token("alice")) == 200
        world.upstream.reset()
        cerbos = child_named(sidecar.pid, "cerbos")
        with paused(cerbos):
            assert view(sidecar, world.token("alice")) == 503
            assert world.upstream.received == b""
        assert view(sidecar, world.token("alice")) == case["expect"]["next"]


def child_named(parent: int, name: str) -> int:
    """The process id of a descendant whose command has this name."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    family = {parent}
    for _ in range(5):
        family |= {int(pid) for pid, ppid, _ in rows if int(ppid) in family}
    (found,) = [int(pid) for pid, _, command in rows if int(pid) in family and name in Path(command).name]
    return found


RUNS = {
    "c01": other_principal,
    "c02": other_action,
    "c03": no_collision,
    "c04": changed,
    "c05": token_ends,
    "c06": pdp_comes_back,
}
