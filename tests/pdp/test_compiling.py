"""`pdp/compiling.py` with the real Cerbos: every problem of a policy folder, and its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.gate.decision import ALLOW
from sidecar.pdp.compiling import all_problems_of, compile_policies, compile_snapshot, problems_of
from sidecar.pdp.policy_files import read_policies
from tests.pdp.test_embedded import POLICY, write
from tests.stack import binary, older_binary


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


def ends_at(marker: str, path: Path) -> Path:
    """Cerbos, but for files with this in them, at which it ends as a program in Go does."""
    words = "echo 'panic: runtime error: a fault' >&2; echo >&2; echo 'goroutine 1 [running]:' >&2; exit 2"
    path.write_text(
        f'#!/bin/sh\nfor folder; do :; done\ngrep -rqs "{marker}" "$folder" && {{ {words}; }}\nexec {binary()} "$@"\n'
    )
    path.chmod(0o755)
    return path


def test_a_file_at_which_cerbos_itself_ends_is_found_and_the_others_are_looked_at(tmp_path: Path) -> None:
    policies = write(tmp_path / "policies")
    for name in ("a", "b", "c", "d"):
        (policies / f"{name}.yaml").write_text(POLICY.format(effect=ALLOW).replace("doc", name))
    for name in ("a", "c"):
        (policies / f"{name}.yaml").write_text("# ends here\n" + POLICY.format(effect=ALLOW).replace("doc", name))
    (policies / "d.yaml").write_text(
        POLICY.format(effect=ALLOW)
        .replace("doc", "d")
        .replace("roles: [user]", "condition: {match: {expr: 'a =='}}, roles: [user]")
    )
    found = all_problems_of(ends_at("ends here", tmp_path / "cerbos"), policies, read_policies(policies), ())
    said = ": found what ends Cerbos itself (panic: runtime error: a fault), expected one policy"
    assert [str(problem) for problem in found.problems[:2]] == [f"{policies}/{name}.yaml{said}" for name in "ac"]
    assert [Path(problem.file).name for problem in found.problems[2:]] == ["d.yaml"]
    assert not found.stopped


def test_where_no_file_alone_ends_cerbos_the_folder_is_named(tmp_path: Path) -> None:
    policies = write(tmp_path / "policies")
    cerbos = tmp_path / "cerbos"
    cerbos.write_text(
        '#!/bin/sh\nfor folder; do :; done\nset -- "$folder"/*\n[ $# -lt 2 ] && exit 0\necho "fatal error: both" >&2\nexit 2\n'
    )
    cerbos.chmod(0o755)
    write(policies, name="other.yaml")
    (problem,) = compile_policies(cerbos, policies)
    assert problem == f"{policies}: found what ends Cerbos itself (fatal error: both), expected one policy"


def scoped(about: str = "resource: doc", *, version: str = "default", scope: str = "a", kind: str = "resource") -> str:
    return f"apiVersion: api.cerbos.dev/v1\n{kind}Policy:\n  {about}\n  version: {version}\n  scope: {scope}\n  rules: []\n"


def test_a_policy_without_those_of_its_parent_scopes_is_told_at_its_scope_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "doc.yaml").write_text(scoped(scope="a.b"))
    (told,) = problems_of(binary(), tmp_path)
    assert told == (
        f"{tmp_path}/doc.yaml:5:10: found the policy resource.doc.vdefault/a.b, expected one for each of its parent "
        "scopes, too: add resource.doc.vdefault and resource.doc.vdefault/a, or change its scope"
    )


def test_a_parent_that_is_disabled_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/doc.yaml").write_text(scoped(scope="a.b"))
    (tmp_path / "p.yaml").write_text("# not yet\ndisabled: true\n" + scoped(scope="''"))
    (tmp_path / "other.yaml").write_text(scoped("resource: other", scope="''") + "disabled: true\n")
    (tmp_path / "no.yaml").write_text("- disabled: true\n  a: [\n")
    told = [problem for problem in problems_of(binary(), tmp_path) if "/doc.yaml" in problem]
    expected = f"{tmp_path}/a/doc.yaml:5:10: found the policy resource.doc.vdefault/a.b, expected one for each of its parent scopes, too: "
    enable = f"enable resource.doc.vdefault, which is disabled in {tmp_path}/p.yaml:2:11, or change its scope"
    assert told == [f"{expected}add resource.doc.vdefault/a, {enable}"]
    (tmp_path / "a/a.yaml").write_text(scoped(scope="a"))
    told = [problem for problem in problems_of(binary(), tmp_path) if "/doc.yaml" in problem]
    assert told == [f"{expected}{enable}"]


def test_the_same_parent_is_missed_by_each_of_several_policies(tmp_path: Path) -> None:
    for scope in ("a", "b"):
        (tmp_path / f"{scope}.yaml").write_text(scoped(scope=scope))
    told = problems_of(binary(), tmp_path)
    assert [problem.partition(": ")[0] for problem in told] == [f"{tmp_path}/{scope}.yaml:5:10" for scope in "ab"]


def test_a_parent_that_is_there_and_does_not_load_is_none_to_add(tmp_path: Path) -> None:
    (tmp_path / "child.yaml").write_text(scoped(scope="a"))
    (tmp_path / "grandchild.yaml").write_text(scoped(scope="a.b.c"))
    (tmp_path / "parent.yaml").write_text(scoped(scope="''").replace("rules", "rulez"))
    compiled = all_problems_of(binary(), tmp_path, read_policies(tmp_path), ())
    assert not compiled.stopped
    assert sorted(map(str, compiled.problems)) == [
        f"{tmp_path}/grandchild.yaml:5:10: found the policy resource.doc.vdefault/a.b.c, expected one for each of its "
        "parent scopes, too: add resource.doc.vdefault/a.b, or change its scope",
        f'{tmp_path}/parent.yaml:6:3: unknown field "rulez"',
    ]


def test_a_policy_that_has_no_parent_for_what_was_left_out_and_cannot_be_placed_stops_the_looks(tmp_path: Path) -> None:
    (tmp_path / "child.yaml").write_text(scoped("resource: %doc"))
    (tmp_path / "parent.yaml").write_text(scoped("resource: '%doc'", scope="''").replace("rules", "rulez"))
    compiled = all_problems_of(binary(), tmp_path, read_policies(tmp_path), ())
    assert list(map(str, compiled.problems)) == [f'{tmp_path}/parent.yaml:6:3: unknown field "rulez"']
    assert compiled.stopped


ORPHANS = {
    "principal.yaml": scoped("principal: doc", kind="principal"),
    "version.yaml": scoped(version="'20'"),
    "child.yaml": scoped(scope="a.b"),
    "slash.yaml": scoped("resource: a/b.vx:c"),
    "name.yaml": scoped("resource: 'c d/e'"),
    "alias.yaml": scoped("resource: alias\n  variables: {local: {x: &s a}}", scope="*s"),
    "block.yaml": scoped("resource: block", scope="|-\n    a"),
    "escape.yaml": scoped("resource: escape", scope='"\\x61"'),
    "spelling.yaml": scoped("resource: spelling").replace("resourcePolicy", "resource_policy"),
    "json.json": '{\n\t"apiVersion": "api.cerbos.dev/v1",\n\t"resourcePolicy": {"resource": "json", "version": "default", "scope": "a"}}',
}
OTHERS = {
    "0-comment.yaml": scoped(scope="''  # of no scope: a, unlike\n  # scope: a"),
    "0-text.yaml": "apiVersion: api.cerbos.dev/v1\ndescription: |\n  resource: doc\n  scope: a\nderivedRoles: {name: d, definitions: [{name: x, parentRoles: [y]}]}\n",
    "0-disabled.yaml": "disabled: true\n" + scoped(scope="a.b"),
    "0-broken.yaml": scoped(scope="a.b") + "  rulez: []\n",
    "0_test.yaml": scoped(scope="a.b"),
}


@pytest.mark.parametrize("program", [binary, older_binary])
def test_each_is_told_at_the_file_that_says_its_kind_name_version_and_scope(
    tmp_path: Path, program: Callable[[], Path]
) -> None:
    for name, text in {**ORPHANS, **OTHERS}.items():
        (tmp_path / name).write_text(text)
    told = compile_snapshot(program(), tmp_path, read_policies(tmp_path))
    placed = {problem.file: problem for problem in told if problem.kind == "missing_scope_details"}
    assert {Path(file).name for file in placed} == set(ORPHANS)
    for name, text in ORPHANS.items():
        problem = placed[str(tmp_path / name)]
        # what an alias stands for has its own place
        at = re.search(r"(?=&s a)" if name == "alias.yaml" else r"scope\"?: ", text)
        assert at is not None
        place = text.count("\n", 0, at.end()) + 1, at.end() - text.rfind("\n", 0, at.end())
        assert (problem.line, problem.column) == place, name
    assert [problem.file for problem in told if problem.kind == "load_failures"] == [f"{tmp_path}/0-broken.yaml"]
