"""`pdp/compiling.py` with the real Cerbos: every problem of a policy folder, and its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.gate.decision import ALLOW
from sidecar.pdp.compiling import compile_policies, problems_of
from tests.pdp.test_embedded import POLICY, write
from tests.stack import binary


def test_policies_that_compile_have_no_problems(tmp_path: Path) -> None:
    assert compile_policies(binary(), write(tmp_path / "policies")) == []


def test_every_problem_is_a_line_with_its_place(tmp_path: Path) -> None:
    policies = write(tmp_path / "policies")
    (policies / "syntax.yaml").write_text("apiVersion: [\n")
    (policies / "field.yaml").write_text(POLICY.format(effect=ALLOW).replace("doc", "field") + "  rulez: []\n")
    imports = POLICY.format(effect=ALLOW).replace("doc", "imports")
    (policies / "imports.yaml").write_text(imports.replace("  rules:", "  importDerivedRoles: [nowhere]\n  rules:"))
    write(policies, name="twice.yaml")
    problems = compile_policies(binary(), policies)
    places = sorted(problem.partition(": ")[0] for problem in problems)
    expected = ["field.yaml:7:3", "imports.yaml:5:24", "syntax.yaml:1:13", "twice.yaml:1:11"]
    assert places == [f"{policies}/{place}" for place in expected]
    assert any(problem.endswith("resource.doc.vdefault, as doc.yaml does") for problem in problems)


def test_an_expression_that_does_not_compile_has_its_place(tmp_path: Path) -> None:
    policies = write(tmp_path / "policies")
    text = POLICY.format(effect=ALLOW).replace("roles: [user]", "condition: {match: {expr: 'a =='}}, roles: [user]")
    (policies / "doc.yaml").write_text(text)
    (problem,) = compile_policies(binary(), policies)
    assert problem.startswith(f"{policies}/doc.yaml:6:")


def test_a_folder_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (problem,) = compile_policies(binary(), tmp_path / "nowhere")
    assert "no such file or directory" in problem


def test_a_program_that_cannot_be_run_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        compile_policies(tmp_path / "nothing", write(tmp_path / "policies"))


SCOPED = (
    "apiVersion: api.cerbos.dev/v1\nresourcePolicy:\n  resource: doc\n  version: default\n  scope: a\n  rules: []\n"
)


def test_a_policy_without_one_above_it_is_told_with_the_place_of_its_scope(tmp_path: Path) -> None:
    (tmp_path / "doc.yaml").write_text(SCOPED)
    (told,) = problems_of(binary(), tmp_path)
    assert told == (
        f"{tmp_path}/doc.yaml:5:3: found resource.doc.vdefault/a, expected resource.doc.vdefault above it, too"
    )
