"""Plans are trusted by the policies in force, as they are read."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from sidecar.config.settings import read_settings
from sidecar.gate.identity import Principal
from sidecar.gate.narrowing import ListQuestion, Push, PushedAttribute
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.embedded import EmbeddedCerbos
from sidecar.pdp.policy_reload import PolicyReload, PolicyState
from sidecar.plans.narrow import PlanTrust
from sidecar.run.errors import StartError
from sidecar.run.pdp import embedded_reload
from sidecar.run.plans import FindPolicies, PolicyTrust, narrowing
from sidecar.run.route_file import load_routes
from tests.stack import binary

ALICE = Principal("alice", ("user",), {}, "iss", 0.0, {})
QUESTION = ListQuestion("r-1", ALICE, "doc", "read")
PUSH = Push("json-server", "id", {"owner": PushedAttribute("owner_id")})


def write(folder: Path, expr: str) -> Path:
    folder.mkdir(exist_ok=True)
    rule = {
        "actions": ["read"], "effect": "EFFECT_ALLOW", "roles": ["user"], "condition": {"match": {"expr": expr}},
    }  # fmt: skip
    policy = {"resource": "doc", "version": "default", "rules": [rule]}
    (folder / "doc.json").write_text(json.dumps({"apiVersion": "api.cerbos.dev/v1", "resourcePolicy": policy}))
    return folder


OWNED, TRICKY = "R.attr.owner == P.id", "!has(R.attr.hidden) || R.attr.owner == P.id"


def in_force(folder: Path, generations: list[int]) -> FindPolicies:
    return lambda: (generations[0], folder) if generations else None


async def test_another_version_is_read_anew(tmp_path: Path) -> None:
    folder, generations = write(tmp_path / "policies", OWNED), list[int]()
    trust = PolicyTrust(in_force(folder, generations), strict=False)
    assert await trust.trusted(QUESTION) == PlanTrust()
    generations.append(1)
    assert (await trust.trusted(QUESTION)).conditions
    write(folder, TRICKY)
    # until that is in force
    assert (await trust.trusted(QUESTION)).conditions
    generations[0] = 2
    assert await trust.trusted(QUESTION) == PlanTrust()


async def test_policies_that_are_not_read_in_time_warrant_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.run.plans.READ_WITHIN", 0.0)
    trust = PolicyTrust(in_force(write(tmp_path / "policies", OWNED), [1]), strict=False)
    assert await trust.trusted(QUESTION) == PlanTrust()


async def test_what_goes_wrong_in_reading_warrants_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.study.policies.parse_policies", lambda folder: 1 / 0)
    assert await PolicyTrust(in_force(tmp_path, [1]), strict=False).trusted(QUESTION) == PlanTrust()


@pytest.mark.process
async def test_the_embedded_cerbos_narrows_by_what_it_reads(tmp_path: Path) -> None:
    folder = write(tmp_path / "policies", OWNED)
    embedded = EmbeddedCerbos(folder, binary=str(binary()))
    await embedded.start()
    cerbos = Cerbos(embedded.target, timeout=5.0, now=time.monotonic)
    reload: PolicyReload = embedded_reload(embedded, time.time)
    try:
        plans = narrowing(cerbos, embedded, reload.state, folder, strict=True)
        assert (await plans.narrow(QUESTION, PUSH, b"")).parameters == (("owner_id", "alice"),)
        await reload.look()
        write(folder, TRICKY)
        # Cerbos plans it as if it were the former, without those that are not hidden
        await reload.look()
        assert reload.state.generation == 2
        assert (await plans.narrow(QUESTION, PUSH, b"")).pushed == "none"
    finally:
        await cerbos.aclose()
        await reload.aclose()
        await embedded.stop()


async def test_of_a_cerbos_elsewhere_the_policies_must_be_proven(tmp_path: Path) -> None:
    folder, state = write(tmp_path / "policies", OWNED), PolicyState()
    cerbos = Cerbos("127.0.0.1:1", timeout=0.5, now=time.monotonic)
    for known in (None, state, PolicyState(1, "broken")):
        plans = narrowing(cerbos, None, known, folder, strict=True)
        assert not (await plans._trusted(QUESTION)).conditions
    state.loaded(0.0, "0" * 16)
    assert (await narrowing(cerbos, None, state, folder, strict=True)._trusted(QUESTION)).conditions
    await cerbos.aclose()


PUSHING = """\
version: 1
routes:
  - path: /docs
    resource: doc
    actions: {GET: list}
    items: {at: "@", id: id, attributes: {owner: owner_id}, push: {dialect: json-server}}
"""


def test_a_pdp_without_plans_and_a_push_contradict_each_other(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(PUSHING)
    environ = {"SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_ROUTES": str(tmp_path / "routes.yaml")}
    assert load_routes(read_settings(environ, {}), {}).table.routes
    settings = read_settings({**environ, "SIDECAR_PDP": "authzen+http://127.0.0.1:2"}, {})
    with pytest.raises(StartError, match=r"found `push` at /docs and SIDECAR_PDP, expected one of the two"):
        load_routes(settings, {})
