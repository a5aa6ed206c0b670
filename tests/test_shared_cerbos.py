"""Tests share a Cerbos where its policies are the same, and nothing else."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.gate.decision import Question, Resource
from sidecar.gate.identity import Principal
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.embedded import EmbeddedCerbos
from tests import shared_cerbos
from tests.stack import binary

POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy: {resource: doc, version: default, rules: [{actions: [%s], effect: EFFECT_ALLOW, roles: [user]}]}
"""


def write(folder: Path, action: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "doc.yaml").write_text(POLICY % action)
    return folder


async def effect(target: str) -> str:
    pdp = Cerbos(target, timeout=5.0, now=time.monotonic)
    asked = Question("r", Principal("u", ("user",), {}, "i", 0.0, {}), (Resource("doc", "1", "read", {}),))
    answer = await pdp.check(asked)
    await pdp.aclose()
    return answer.results[0].effects["read"]


async def test_it_is_one_for_the_same_policies(tmp_path: Path) -> None:
    one, same = write(tmp_path / "one", "read"), write(tmp_path / "same", "read")
    target = shared_cerbos.shared_cerbos(one, binary())
    assert shared_cerbos.shared_cerbos(same, binary()) == target
    other = shared_cerbos.shared_cerbos(write(tmp_path / "other", "write"), binary())
    assert [await effect(target), await effect(other)] == ["EFFECT_ALLOW", "EFFECT_DENY"]
    # another content of a folder is another set of policies
    assert shared_cerbos.shared_cerbos(write(one, "write"), binary()) == other
    assert await effect(target) == "EFFECT_ALLOW"


async def test_they_end_together_and_begin_anew(tmp_path: Path) -> None:
    policies = write(tmp_path / "policies", "read")
    before = shared_cerbos.shared_cerbos(policies, binary())
    shared_cerbos.close()
    assert not Path(before.removeprefix("unix:")).exists()
    assert await effect(shared_cerbos.shared_cerbos(policies, binary())) == "EFFECT_ALLOW"


@contextlib.asynccontextmanager
async def embedded(policies: Path) -> AsyncIterator[EmbeddedCerbos]:
    made = EmbeddedCerbos(policies, binary=str(binary()))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def test_an_embedded_one_asks_it_where_a_test_lets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = write(tmp_path / "policies", "read")
    target = shared_cerbos.shared_cerbos(policies, binary())
    async with embedded(policies) as one:
        assert one._process is not None
    shared_cerbos.share(monkeypatch)
    for _ in range(2):
        async with embedded(policies) as one:
            assert one._process is None
            assert os.path.samefile(one.target.removeprefix("unix:"), target.removeprefix("unix:"))
            assert await effect(one.target) == "EFFECT_ALLOW"
    assert await effect(target) == "EFFECT_ALLOW"
    # what is wrong with policies is told as ever
    (policies / "doc.yaml").write_text(POLICY.replace("roles: [user]", "roles: []") % "read")
    with pytest.raises(OSError, match=f"{policies}/doc.yaml:2:"):
        await EmbeddedCerbos(policies, binary=str(binary())).start()
