"""Every policy of the repository, compiled and tested by both Cerbos: 0.55 evaluates strictly, 0.51 cannot."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sidecar.config.routes.file import read_routes
from sidecar.study import lint
from sidecar.study.policies import parse_policies
from tests.stack import ROOT, binary, older_binary
from tests.study.compiled import Together

EXAMPLE = re.compile(r"<!-- example: policies/(\S+) -->\n```\w+\n(.*?)```", re.DOTALL)
PAGES = {
    str(page.relative_to(ROOT)): examples
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if (examples := EXAMPLE.findall(page.read_text(encoding="utf-8")))
}
FOLDERS = ("policies", "deploy/k8s/authz/policies", "examples/dynamodb/policies", "tests/hostile/policies")


TESTED = [
    *(folder for folder in FOLDERS if (ROOT / folder / "tests").is_dir()),
    *(page for page, examples in PAGES.items() if any(name.endswith("_test.yaml") for name, _ in examples)),
]
"""Those with tests of their policies, which name kinds by their versions."""


def written(name: str, folder: Path) -> Path:
    """A copy of a folder of policies, or of those of a page."""
    if name in FOLDERS:
        return Path(shutil.copytree(ROOT / name, folder))
    (folder / "tests").mkdir(parents=True)
    for file, text in PAGES[name]:
        (folder / file).write_text(text)
    return folder


@pytest.fixture(params=[*TESTED, "all others"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param in TESTED:
        return written(request.param, tmp_path / "policies")
    together = Together()
    for name in (*FOLDERS, *PAGES):
        if name not in TESTED:
            together.add(written(name, tmp_path / "each" / name), name.replace("/", "-"))
    return together.write(tmp_path / "all")


def compiled(program: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), "compile", *flags, str(folder)], capture_output=True, text=True, check=False, timeout=60
    )


def test_it_passes_under_strict_evaluation(folder: Path) -> None:
    done = compiled(binary(), folder, "--strict-evaluation")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_passes_with_the_older_cerbos(folder: Path) -> None:
    done = compiled(older_binary(), folder)
    assert done.returncode == 0, done.stdout + done.stderr


ROUTES = re.compile(r"<!-- example: routes\.yaml -->\n```\w+\n(.*?)```", re.DOTALL)
ROUTE_FILES = {
    "routes.yaml": "policies",
    "deploy/compose/routes.yaml": "policies",
    "deploy/k8s/authz/routes.yaml": "deploy/k8s/authz/policies",
    "examples/dynamodb/routes.yaml": "examples/dynamodb/policies",
    "tests/hostile/routes.yaml": "tests/hostile/policies",
}


@pytest.mark.parametrize("file", ROUTE_FILES)
def test_the_policies_of_a_route_file_have_no_warning(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8").replace("<hook>", "127.0.0.1:1")
    assert lint.warnings(read_routes(text, file, {}), parse_policies(ROOT / ROUTE_FILES[file])) == []


# a page that is about policies alone has no routes
@pytest.mark.parametrize("page", [page for page in PAGES if ROUTES.search((ROOT / page).read_text(encoding="utf-8"))])
def test_the_examples_of_a_page_have_no_warning(page: str, tmp_path: Path) -> None:
    # the policies of a page are those of its first route file; others show one thing more
    routes = ROUTES.findall((ROOT / page).read_text(encoding="utf-8"))[0]
    for name, text in PAGES[page]:
        (tmp_path / name).write_text(text)
    environ = {"APP_TOKEN": "of-the-sidecar", "INVOICES_URL": "sqlite:////none.db"}
    assert lint.warnings(read_routes(routes, "routes.yaml", environ), parse_policies(tmp_path)) == []


def test_no_policy_is_left_out() -> None:
    """A folder that gets its first policy is to be named here."""
    files = subprocess.run(["git", "ls-files", "*.yaml", "*.yml"], cwd=ROOT, capture_output=True, text=True, check=True)
    policies = [
        file
        for file in files.stdout.split()
        if re.search(r"^apiVersion: api\.cerbos\.dev/v1$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert policies
    assert [file for file in policies if not file.startswith(FOLDERS)] == []
