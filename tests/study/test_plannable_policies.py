"""Plans of random policies, against checks: one that is trusted loses no row, by no version of Cerbos."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from sidecar.gate.decision import Question, Resource, judge
from sidecar.gate.narrowing import ListQuestion
from sidecar.gate.verdict import Refused
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.cerbos_plan import CerbosPlans
from sidecar.plans.filter import RowField
from sidecar.plans.plan import Always
from sidecar.plans.translate import FieldNames, filter_of
from sidecar.study.plannable import Plannable
from sidecar.study.policies import parse_policies
from tests import policy_table, stack
from tests.plans.oracle import has
from tests.study.random_policies import ACME, PRINCIPALS, Policies, principal

pytestmark = pytest.mark.process

NAMES = FieldNames(
    {name: RowField((name,)) for name in ("owner", "n", "ok", "note", "tags", "k", "account")},
    RowField(("id",), identifies=True),
)


@pytest.mark.parametrize(("version", "strict", "seed"), [("0.51", False, 1), ("0.55", False, 2), ("0.55", True, 3)])
async def test_a_trusted_plan_has_every_row_that_a_check_allows(
    version: str, strict: bool, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version == "0.51":
        older = stack.older_binary()
        monkeypatch.setattr(policy_table, "binary", lambda: older)
    policies, folder = Policies(seed, 30), tmp_path / "policies"
    folder.mkdir()
    for name, policy in policies.files.items():
        (folder / name).write_text(json.dumps(policy), encoding="utf-8")
    trusted, seen = Plannable(parse_policies(folder), strict=strict), Counter[str]()
    with policy_table.real_cerbos(tmp_path, folder, strict=strict) as running:
        cerbos = Cerbos(running.grpc, timeout=10.0, now=time.monotonic)
        for kind in policies.kinds:
            for id_, roles in PRINCIPALS:
                for scope in ("", ACME):
                    await _compare(cerbos, trusted, ListQuestion("r", principal(id_, roles), kind, "read", scope),
                                   policies, seen)  # fmt: skip
        await cerbos.aclose()
    # the seeds have cases of each
    assert seen["trusted"] > 50
    assert seen["not trusted"] > 50
    assert seen["allowed"] > 200
    assert seen["lost where it is not trusted"] > 0


async def _compare(
    cerbos: Cerbos, trusted: Plannable, question: ListQuestion, policies: Policies, seen: Counter[str]
) -> None:
    trust, rows = trusted(question), policies.rows(10)
    try:
        plan = await CerbosPlans(cerbos).plan(question)
    except Refused:
        return
    resources = [
        Resource(question.kind, row["id"], "read", {name: value for name, value in row.items() if name != "id"}, (),
                 question.scope)
        for row in rows
    ]  # fmt: skip
    asked = Question("r", question.principal, tuple(resources))
    allowed = judge(asked, await cerbos.check(asked))
    lost = [row for row, ok in zip(rows, allowed, strict=True) if ok and not has(filter_of(plan, NAMES), row)]
    believed = trust.denied if plan is Always.DENIED else trust.conditions
    assert not (believed and lost), (question.kind, question.principal.id, question.scope, lost)
    if plan is Always.ALLOWED and trust.allowed:
        assert all(allowed), (question.kind, question.principal.id, question.scope)
    seen["trusted" if believed else "not trusted"] += 1
    seen["allowed"] += sum(allowed)
    seen["lost where it is not trusted"] += len(lost)
