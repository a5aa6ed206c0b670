"""The docs say what the code does: generated pages are equal, examples work, links lead somewhere."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from sidecar import cli
from sidecar.clients.embedded import compile_policies, find_binary
from sidecar.gate.request import IDENTITY_HEADERS
from sidecar.gate.verdict import Code
from sidecar.routes_file import read_routes
from sidecar.settings import read_settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]
EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\s*(sidecar .+?)(?:\s+#.*)?$", re.MULTILINE)


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_reference_is_that_of_the_code() -> None:
    """Run `python scripts/reference.py` when this fails."""
    made = reference()
    for name, make in made.PAGES.items():
        assert (made.FOLDER / name).read_text(encoding="utf-8") == make(), name


def test_every_code_is_explained() -> None:
    made = reference()
    assert set(made.CODE_SAYS) == set(Code)


def examples() -> list[tuple[Path, str, str]]:
    return [(page, name, text) for page in PAGES for name, text in EXAMPLE.findall(page.read_text(encoding="utf-8"))]


def test_every_route_example_has_no_fault() -> None:
    texts = [text for _, name, text in examples() if name == "routes.yaml"]
    assert len(texts) >= 2
    for text in texts:
        assert read_routes(text, "routes.yaml", {}).table.routes


def test_every_environment_example_is_one() -> None:
    texts = [text for _, name, text in examples() if name == "environ"]
    assert len(texts) >= 2
    for text in texts:
        environ = dict(line.split("=", 1) for line in text.splitlines())
        assert read_settings({"SIDECAR_UPSTREAM": "http://127.0.0.1:5000", **environ}, {}).login_modes


def test_every_policy_example_compiles(tmp_path: Path) -> None:
    folders: dict[Path, Path] = {}
    for page, name, text in examples():
        if name.startswith("policies/"):
            folder = folders.setdefault(page, tmp_path / page.stem)
            folder.mkdir(exist_ok=True)
            (folder / Path(name).name).write_text(text)
    assert folders
    for folder in folders.values():
        assert compile_policies(find_binary(None), folder) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_command_in_the_docs_is_one() -> None:
    commands = [command for page in PAGES for command in COMMAND.findall(page.read_text(encoding="utf-8"))]
    assert len(commands) >= 5
    for command in commands:
        arguments = shlex.split(command)[1:]
        if arguments != ["demo"]:
            cli.parser().parse_args(arguments)


def test_the_headers_page_names_every_header_that_we_own() -> None:
    text = (ROOT / "docs/reference/headers.md").read_text(encoding="utf-8").lower()
    for header in IDENTITY_HEADERS:
        assert f"`{header.decode()}`" in text
