"""`pdp/policy_names.py`, held against Cerbos."""

from __future__ import annotations

from pathlib import Path

from sidecar.pdp.policy_names import kind_name
from tests.stack import binary
from tests.study.compiled import policy, results, rule

KINDS = ["a_b", "a:b", "a/b", "a-b", "a@b", "a--b", "a.b", "a b", "a:/b", "a+b", "A_b"]


def test_kinds_are_one_where_they_are_one_to_cerbos(tmp_path: Path) -> None:
    """Each kind has a policy in a version of its own."""
    for number, kind in enumerate(KINDS):
        (tmp_path / f"{number}.yaml").write_text(policy([rule()], kind=kind, version=f"v{number}"))
    allowed = results(binary(), tmp_path, KINDS, ["read"], versions=[f"v{number}" for number in range(len(KINDS))])
    assert {name for name, _ in allowed} == {
        f"{other} v{number}"
        for number, kind in enumerate(KINDS)
        for other in KINDS
        if kind_name(other) == kind_name(kind)
    }
