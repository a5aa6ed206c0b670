"""The docs say what the code does: generated pages are equal, examples work, links lead somewhere."""

import importlib.util
import itertools
import json
import re
import secrets
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import yaml

from sidecar import cli
from sidecar.config.routes.file import read_routes
from sidecar.config.setting_table import SETTINGS
from sidecar.config.settings import read_settings
from sidecar.gate.lookup import Lookup
from sidecar.gate.own import IDENTITY_HEADERS
from sidecar.gate.routing import Access, Route, Variable
from sidecar.pdp.authzen import Target
from sidecar.pdp.cerbos_binary import find_binary
from sidecar.pdp.compiling import compile_policies
from sidecar.record.line import EVENTS, write
from sidecar.record.line import read as read_line
from tests.study.compiled import Together

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


def test_a_newcomer_is_told_where_the_command_is_and_where_to_begin() -> None:
    command = f"{re.findall(r'^BIN := (.+)$', (ROOT / 'Makefile').read_text(), re.MULTILINE)[0]}/sidecar"
    assert 'sidecar = "sidecar.' in (ROOT / "pyproject.toml").read_text()
    for name in ("README.md", "docs/start.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        first = text.index("sidecar check")
        for said in (f"`{command}`", "`make setup`", "a folder of your own"):
            assert said in text[:first], (name, said)


def test_every_kind_of_line_of_the_decision_log_has_an_example() -> None:
    examples = (*reference().LINES, reference().QUESTION)
    assert {type(example) for example in examples} == {kind for kinds in EVENTS.values() for kind in kinds}
    for example in examples:
        assert read_line(write(example).encode()) == example


def examples() -> list[tuple[Path, str, str]]:
    return [(page, name, text) for page in PAGES for name, text in EXAMPLE.findall(page.read_text(encoding="utf-8"))]


SECRETS = {"APP_TOKEN": "s3cret", "INVOICES_URL": "postgresql://db/app"}
"""Variables that route files of the guides name."""


def test_every_route_example_has_no_fault() -> None:
    texts = [text for _, name, text in examples() if name == "routes.yaml"]
    assert len(texts) >= 2
    for text in texts:
        read = read_routes(text, "routes.yaml", SECRETS)
        assert read.table.routes or read.drafts


ROUTE_FILES = [ROOT / name for name in ("routes.yaml", "deploy/compose/routes.yaml", "deploy/k8s/authz/routes.yaml")]


def test_every_route_file_of_ours_says_which_query_it_takes_and_has_one_spelling_for_an_id() -> None:
    texts = [text for _, name, text in examples() if name == "routes.yaml"]
    for text in [*texts, *(path.read_text(encoding="utf-8") for path in ROUTE_FILES)]:
        routes = read_routes(text, "routes.yaml", SECRETS)
        assert routes.warnings == ()
        for route in routes.table.routes:
            for ask in route.asks.values():
                assert ask.query is not None or route.access is not Access.POLICY, route.name
                assert ask.id is None or _is_one_spelling(route, [routes.lookups[name] for name in ask.lookup]), (
                    route.name
                )


def _is_one_spelling(route: Route, lookups: Sequence[Lookup]) -> bool:
    if any(lookup.echo is not None for lookup in lookups):
        return True
    return all(part.pattern in ("int", "uuid", "slug") for part in route.segments if isinstance(part, Variable))


def environ_in(text: str) -> dict[str, str]:
    """The settings of an example, with a secret of one's own in place of each placeholder."""
    environ = dict(line.split("=", 1) for line in text.splitlines())
    own = {setting.variable: secrets.token_urlsafe(32) for setting in SETTINGS if setting.secret}
    return {
        "SIDECAR_UPSTREAM": "http://127.0.0.1:5000",
        **environ,
        **{name: own[name] for name in own.keys() & environ.keys()},
    }


def test_every_environment_example_is_one() -> None:
    texts = [text for _, name, text in examples() if name == "environ"]
    assert len(texts) >= 2
    for text in texts:
        assert read_settings(environ_in(text), {}).login_modes


def test_the_example_of_another_pdp_is_one() -> None:
    (text,) = [text for _, name, text in examples() if name == "pdp"]
    assert Target.parse(read_settings(environ_in(text), {}).pdp).path == "/tenant-a"


def test_every_policy_example_compiles(tmp_path: Path) -> None:
    folders: dict[Path, Path] = {}
    for page, name, text in examples():
        if name.startswith("policies/"):
            folder = folders.setdefault(page, tmp_path / page.stem)
            folder.mkdir(exist_ok=True)
            (folder / Path(name).name).write_text(text)
    assert folders
    together = Together()
    for folder in folders.values():
        together.add(folder, folder.name)
    assert compile_policies(find_binary(None), together.write(tmp_path / "all")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


# --- fenced blocks: each is of a kind that is checked here, or run by the test that is named ---

FENCE = re.compile(r"(?:<!-- (example|run by): (\S+) -->\n)?^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its page, what the comment before it says, its language and its text without indentation."""

    page: Path
    mark: str
    named: str
    language: str
    text: str


BLOCKS = [
    Block(page, mark, named, language, textwrap.dedent(text))
    for page in PAGES
    for mark, named, _, language, text in FENCE.findall(page.read_text(encoding="utf-8"))
]


def _is_picture(text: str) -> bool:
    return any(character in text for character in "│─▶▼└")


def _lines_of(text: str) -> Iterator[list[str]]:
    """The words of each command; one that goes on in the next line, by a backslash or within quotes, is one."""
    line = ""
    for part in text.replace("\\\n", " ").splitlines():
        line += part
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            line += "\n"
            continue
        line = ""
        if words:
            yield words


def check_shell(block: Block) -> None:
    """A shell reads it; its commands exist; what it sets are settings; options of `sidecar` are such."""
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for words in _lines_of(block.text):
        said = words[1:] if words[0] == "export" else words
        settings = list(itertools.takewhile(lambda word: re.match(r"[A-Z][A-Z0-9_]*=", word), said))
        for setting in settings:
            assert setting.partition("=")[0] in VARIABLES, (block.page, setting)
        if len(settings) == len(said):
            continue
        command, *_ = said[len(settings) :]
        assert command in COMMANDS, (block.page, command)
        if command == "jq" and shutil.which("jq"):
            # its program compiles, whatever the log has
            subprocess.run([*words[: words.index("decisions.jsonl")], "/dev/null"], check=True, capture_output=True)
        if command == "make":
            assert re.search(rf"^{words[words.index('make') + 1]}:", MAKEFILE, re.MULTILINE), words


VARIABLES = {setting.variable for setting in SETTINGS} | {"AWS_DEFAULT_REGION"}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
COMMANDS = frozenset(
    (
        "make", "sidecar", "pip", "jq", "curl", "kill", "openssl", "cerbos", "git", "cd", "docker", "docker-compose", "podman",
        "podman-compose", "mkdir", "buildah", "kubectl", "helm", "aws", "nginx", "caddy", "haproxy", "envoy", "systemctl", "tail", "watch",
    )
)  # fmt: skip
"""`make` and `sidecar` are looked at word by word; the lines of the others are read by a shell, and their settings."""


def check_yaml(block: Block) -> None:
    """Routes and policies are read and compiled above, so they must say that they are; others are YAML at least."""
    documents = [each for each in yaml.safe_load_all(block.text) if isinstance(each, dict)]
    assert documents, block.page
    for document in documents:
        if "routes" in document or "api.cerbos.dev" in str(document.get("apiVersion")):
            assert block.named == "routes.yaml" or block.named.startswith("policies/"), (
                block.page,
                "no <!-- example: -->",
            )


def check_plain(block: Block) -> None:
    """A picture, or settings."""
    if not _is_picture(block.text):
        for line in block.text.splitlines():
            assert line.partition("=")[0] in VARIABLES, (block.page, line)


def check_script(block: Block) -> None:
    """Node reads it as a module, in which `await` may stand by itself."""
    done = subprocess.run(
        ["node", "--input-type=module"],
        input=f"const run = async () => {{ {block.text} }};",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


CHECKS: dict[str, Callable[[Block], object]] = {
    "": check_plain,
    "sh": check_shell,
    "yaml": check_yaml,
    "json": lambda block: json.loads(block.text),
    # held against what is printed by tests/test_guides.py
    "text": lambda block: block.mark == "example" or pytest.fail(str(block.page)),
    "js": check_script,
    "html": lambda block: HTMLParser().feed(block.text),
}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page.stem}-{block.language}-{block.text[:20]!r}")
def test_every_block_is_of_a_kind_that_is_checked(block: Block) -> None:
    if block.mark == "run by":
        assert block.page.name in (ROOT / block.named).read_text(encoding="utf-8")
    else:
        assert block.language in CHECKS, (block.page, "expected <!-- run by: tests/test_….py --> before it")
        CHECKS[block.language](block)


def test_every_command_in_the_docs_is_one() -> None:
    commands = [command for page in PAGES for command in COMMAND.findall(page.read_text(encoding="utf-8"))]
    assert len(commands) >= 5
    parser = cli.parser()
    for command in commands:
        arguments = shlex.split(command)[1:]
        if arguments != ["demo"]:
            parser.parse_args(arguments)


def test_the_commands_page_lists_every_flag_of_every_command() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `sidecar (\w+)`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    for name, flags in (
        ("check", ["--warnings-as-errors"]),
        ("explain", ["METHOD", "TARGET", "--header", "--body", "--token", "--claims"]),
        ("schema", ["--log"]),
        (
            "inject",
            [
                "--certificate",
                "--key",
                "--image",
                "--cerbos-image",
                "--listen",
                "--uninjectable",
                "--opt-out",
                "--log-level",
            ],
        ),
        ("demo", ["--port", "--admin-port", "--app-port", "--cognito-port", "--login-port"]),
    ):
        assert [flag for flag in flags if f"| `{flag}" not in sections[name]] == []


def test_the_commands_page_lists_the_flag_of_every_setting_and_who_takes_it() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    flags = re.findall(r"^\| `(--\S+) VALUE` \| \[`(\w+)`\]\(settings\.md#\S+\) \|$", page, re.MULTILINE)
    assert flags == [(setting.flag, setting.variable) for setting in SETTINGS]
    taking = [name for name in cli.COMMANDS.keys() | {"run", "check", "explain", "inject"} if takes_every_setting(name)]
    (told,) = re.findall(r"^(\[`run`\].*) take all of these", page, re.MULTILINE)
    settings = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8").partition("## ")[0]
    for said in (told, settings.partition(" a flag of ")[2].partition(":")[0].replace("sidecar ", "")):
        assert sorted(re.findall(r"`(\w+)`", said)) == sorted(taking)


def takes_every_setting(command: str) -> bool:
    """Whether a command parses the flags of all settings."""
    flags = [word for setting in SETTINGS for word in (setting.flag, "x")]
    needed = {"explain": ["GET", "/"], "test": ["cases.yaml"]}.get(command, [])
    try:
        cli.parser(command).parse_args([command, *needed, *flags])
    except SystemExit:
        return False
    return True


def test_the_headers_page_names_every_header_that_we_own() -> None:
    text = (ROOT / "docs/reference/headers.md").read_text(encoding="utf-8").lower()
    for header in IDENTITY_HEADERS:
        assert f"`{header.decode()}`" in text


RULE = re.compile(r"\bR([1-9][0-9]?)\b")


def cited_rules(folders: Iterable[str]) -> dict[str, set[str]]:
    """The rules that files below these folders cite, by file."""
    files = [path for folder in folders for kind in ("*.py", "*.md") for path in (ROOT / folder).rglob(kind)]
    cited = {str(path.relative_to(ROOT)): set(RULE.findall(path.read_text(encoding="utf-8"))) for path in files}
    return {path: rules for path, rules in cited.items() if rules}


def test_every_rule_that_is_cited_stands_in_the_security_page() -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    written = re.findall(r'^\| <a id="r(\d+)"></a>R(\d+) \| .{40,} \|$', page, re.MULTILINE)
    assert written == [(str(number), str(number)) for number in range(1, 29)]
    cited = cited_rules(["sidecar", "tests", "docs", "bench", "fuzz", "scripts"])
    assert "13" in cited["sidecar/gate/identity.py"]
    for path, rules in cited.items():
        assert rules <= {number for number, _ in written}, path
