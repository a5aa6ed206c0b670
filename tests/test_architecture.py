"""The import table of docs/architecture.md holds, the gate is pure, and only the gate makes permits."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.source import nodes_of

ROOT = Path(__file__).parent.parent
IMPURE = {
    "asyncio",
    "socket",
    "ssl",
    "os",
    "time",
    "random",
    "threading",
    "subprocess",
    "logging",
    "pathlib",
    "urllib.request",
}


class Row(NamedTuple):
    ours: set[str]
    third: set[str]


def table(text: str) -> dict[str, Row]:
    """The rows `| module | role | ours | third party |` of the page."""
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", text, re.MULTILINE)
    return {module: Row(names(ours), names(third)) for module, ours, third in rows}


def names(cell: str) -> set[str]:
    return {name.strip(" `") for name in cell.split(",")} - {"", "nothing"}


def modules(package: Path) -> dict[str, Path]:
    """Dotted name below the package -> file; a package's `__init__` has the package's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and (parts[-1] != "__init__" or path.read_text().strip()):
            found[name] = path
    return found


@functools.cache
def imported(text: str) -> tuple[str, ...]:
    """Every module that a file of this text imports, for `from a import b` both `a` and `a.b`."""
    found: list[str] = []
    for node in nodes_of(text):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(found)


def own_imports(package: Path) -> dict[str, set[str]]:
    known = modules(package)
    prefix = f"{package.name}."
    found: dict[str, set[str]] = {}
    for module, path in known.items():
        ours = set()
        for name in imported(path.read_text()):
            if name.startswith(prefix):
                inner = name.removeprefix(prefix)
                ours.add(inner if inner in known else inner.rpartition(".")[0])
        found[module] = ours - {module, ""}
    return found


def allowed(name: str, row: Row) -> bool:
    return "everything" in row.ours or name in row.ours or any(
        pattern.endswith(".*") and name.startswith(pattern[:-1]) for pattern in row.ours
    )  # fmt: skip


def faults(package: Path, page: str) -> list[str]:
    """What breaks the table, the purity of the gate, or the rule of the permit."""
    rows, known, found = table(page), modules(package), []
    found += [f"{module} is not in the table" for module in known if module not in rows]
    found += [f"{module} is in the table and nowhere else" for module in rows if module not in known]
    found += [
        f"{module} may import {name}, which is nowhere" for module, row in rows.items() for name in nowhere(row, known)
    ]
    texts = {module: path.read_text() for module, path in known.items()}
    graph = own_imports(package)
    for module, ours in graph.items():
        row = rows.get(module, Row(set(), set()))
        found += [f"{module} imports {name}" for name in sorted(ours) if not allowed(name, row)]
        third = (
            {name.partition(".")[0] for name in imported(texts[module])} - {package.name} - set(sys.stdlib_module_names)
        )
        found += [f"{module} imports {name}" for name in sorted(third - row.third)]
    found += cycles(graph)
    for module, text in texts.items():
        if module.startswith("gate."):
            found += [
                f"{module} is not pure: {name}"
                for name in imported(text)
                if name in IMPURE or name.partition(".")[0] in IMPURE
            ]
        for warrant, (maker, name) in WARRANTS.items():
            if warrant in calls(text) or (module != maker and warrant in bases(text)):
                found.append(f"{module} makes {name}")
            if any(re.search(rf"\b{warrant}\b", other) for other in cast_to(text)):
                found.append(f"{module} takes another thing for {name}")
            if renames(text, warrant):
                found.append(f"{module} hides the name of {name}")
        found += [f"{module} imports the private {name}" for name in imported(text) if is_private(name)]
        if changes(text):
            found.append(f"{module} may change a permit")
        found += goes_around(module, text)
    return found


WARRANTS = {
    "Forward": ("gate.gate", "a permit"),
    "AppQuestion": ("gate.app_lookup", "a lookup's warrant"),
}
"""What has to be shown before anything goes to the protected app -> the one module that makes it, and its name."""


def changes(text: str) -> bool:
    """Whether a file has a means to make one frozen object of another, by which a permit would get other bytes."""
    tree = nodes_of(text)
    attributes = {
        (node.value.id, node.attr)
        for node in tree
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    means = {("dataclasses", "replace"), ("copy", "replace"), ("object", "__setattr__"), ("object", "__new__")}
    another_name = {(alias.name, alias.asname) for node in tree if isinstance(node, ast.Import) for alias in node.names}
    hidden = {name for name, told in another_name if told} & {"dataclasses", "copy", "typing"}
    taken = {"dataclasses.replace", "copy.replace", "dataclasses.*", "copy.*"}
    return bool(means & attributes or hidden or taken.intersection(imported(text)) or any(map(is_remade, tree)))


def is_remade(node: ast.AST) -> bool:
    """Whether a node makes a value of a class by another way than its call, as `type(permit)(…)`, `permit.__class__(…)`
    and `tuple.__new__(…)` do: the class of an abstract value type-checks."""
    match node:
        case ast.Call(func=ast.Call(func=ast.Name(id="type")) | ast.Attribute(attr="__class__")):
            return True
        case ast.Call(func=ast.Attribute(attr="__new__", value=ast.Name(id=maker))):
            return maker != "str"
        case ast.Call(func=ast.Name(id="super"), args=[_, *_]):
            return True
        case ast.Assign(value=ast.Attribute(attr="__new__")):
            return True
        case ast.Call(args=[ast.Attribute(attr="__new__"), *classes]):
            # `partial(tuple.__new__, Resource)` is said of one class by its name
            return not all(isinstance(one, ast.Name) for one in classes)
    return False


CONNECTS = {
    "open_connection",
    "open_unix_connection",
    "create_connection",
    "create_unix_connection",
    "sock_connect",
    "HTTPConnection",
    "HTTPSConnection",
    "urlopen",
}
CONNECTING = {"net.dialer", "net.grpc_client", "pdp.embedded", "health"}
"""The files that open connections by the standard library, besides the demo."""
CLIENTS = {"http.client", "urllib.request", "ftplib", "imaplib", "nntplib", "poplib", "smtplib", "telnetlib", "xmlrpc"}
CLIENTS |= {"asyncore", "multiprocessing", "socketserver", "logging.handlers"}
"""The modules of the standard library that open connections by themselves: only for those files."""
SOCKETS = {"config.parsers", "health", "record.outlet", "run.case_wires", "run.listening", "run.serving"}
"""The files that know sockets besides `net/` and the demo: their names, and those that listen or are given."""


IMPORTING = {"cli", "lookups.function"}
"""The files that import what they are told: commands of ours, and functions that users wrote."""


def goes_around(module: str, text: str) -> list[str]:
    """What a file does by which neither the import table nor the type checker sees whom it asks."""
    found = []
    if module not in CONNECTING and not module.startswith("demo"):
        named = {node.attr for node in nodes_of(text) if isinstance(node, ast.Attribute)}
        named |= {name.rpartition(".")[2] for name in imported(text)}
        found += [f"{module} opens connections of its own: {name}" for name in sorted(CONNECTS & named)]
        found += [f"{module} can open connections: {name}" for name in sorted(CLIENTS & packages(text))]
    if module not in SOCKETS and not module.startswith(("net.", "demo")):
        found += [f"{module} can open connections: {name}" for name in sorted({"socket", "_socket"} & packages(text))]
    if module not in IMPORTING and {"import_module", "__import__"} & calls(text):
        found.append(f"{module} imports what the table does not see")
    return found


def packages(text: str) -> set[str]:
    """Every module that a file imports, and those that it is in."""
    return {
        ".".join(parts[:end])
        for name in imported(text)
        for parts in [name.split(".")]
        for end in range(1, len(parts) + 1)
    }


def nowhere(row: Row, known: Iterable[str]) -> list[str]:
    """What a row lists and no file is."""
    patterns = sorted(row.ours - {"everything"} - set(known))
    return [name for name in patterns if not (name.endswith(".*") and any(one.startswith(name[:-1]) for one in known))]


@functools.cache
def other_names(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names that a file gives another one, by an import and by assignment."""
    aliased: set[str] = set()
    assigned: set[str] = set()
    for node in nodes_of(text):
        if isinstance(node, ast.alias) and node.asname:
            aliased.add(node.name)
        given = node.value if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr | ast.keyword) else None
        handed = [*node.args] if isinstance(node, ast.Call) and not is_isinstance(node.func) else []
        defaults = [*node.defaults, *node.kw_defaults] if isinstance(node, ast.arguments) else []
        assigned.update(name_of(one) for one in (given, *handed, *defaults))
    return frozenset(aliased), frozenset(assigned)


def name_of(node: ast.AST | None) -> str:
    """The name that an expression is, or the attribute's; `""` for another."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def is_isinstance(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "isinstance"


def renames(text: str, name: str) -> bool:
    """Whether a file gives `name` another one, as an import or by assignment."""
    aliased, assigned = other_names(text)
    return name in assigned or not aliased.isdisjoint({name, "cast"})


def untested(package: Path, tests: Path) -> list[str]:
    """The modules that have no test file in the same place below the tests."""
    return [
        module
        for module, path in modules(package).items()
        if path.name != "__init__.py"
        and not (tests / path.relative_to(package).with_name(f"test_{path.name}")).exists()
    ]


@functools.cache
def calls(text: str) -> set[str]:
    """The names that a file calls."""
    return {name_of(node.func) for node in nodes_of(text) if isinstance(node, ast.Call)}


@functools.cache
def bases(text: str) -> set[str]:
    """The names that classes of a file derive from."""
    return {name_of(base) for node in nodes_of(text) if isinstance(node, ast.ClassDef) for base in node.bases}


@functools.cache
def cast_to(text: str) -> set[str]:
    """The types that a file casts to, quoted or not."""
    return {
        ast.unparse(node.args[0])
        for node in nodes_of(text)
        if isinstance(node, ast.Call) and name_of(node.func) == "cast" and node.args
    }


def is_private(name: str) -> bool:
    """Whether a dotted name of ours has a part that its module keeps to itself."""
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


def cycles(graph: dict[str, set[str]]) -> list[str]:
    left = {module: {name for name in ours if name in graph} for module, ours in graph.items()}
    while free := [module for module, ours in left.items() if not ours]:
        left = {module: ours - set(free) for module, ours in left.items() if module not in free}
    return [f"{module} is in a cycle" for module in left]


def test_the_package_keeps_to_the_table() -> None:
    assert faults(ROOT / "sidecar", (ROOT / "docs/architecture.md").read_text()) == []


def test_every_file_has_its_test_file() -> None:
    assert untested(ROOT / "sidecar", ROOT / "tests") == []


PAGE = """
| `gate.gate` | r | gate.* | |
| `gate.x` | r | nothing | jwt |
| `door` | r | gate.gate | |
"""


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("door.py", "from pkg.gate import gate\nfrom pkg.gate.gate import Forward", None),
        ("door.py", "from pkg.gate.gate import Forward\nForward()", "door makes a permit"),
        ("door.py", "import pkg.gate.gate as g\ng.Forward()", "door makes a permit"),
        ("door.py", "from pkg.gate.gate import Forward as F\nF()", "door hides the name of a permit"),
        ("door.py", "from pkg.gate.gate import Forward\nF = Forward\nF()", "door hides the name of a permit"),
        ("door.py", "class Mine(Forward): ...", "door makes a permit"),
        ("door.py", "class Mine(verdict.Forward): ...", "door makes a permit"),
        ("gate/gate.py", "class _Permit(Forward): ...", None),
        ("gate/gate.py", "Forward()", "gate.gate makes a permit"),
        ("door.py", "cast(Forward, raw)", "door takes another thing for a permit"),
        ("door.py", "typing.cast('verdict.Forward', raw)", "door takes another thing for a permit"),
        ("door.py", "from pkg.gate.gate import _Permit", "door imports the private pkg.gate.gate._Permit"),
        ("door.py", "from dataclasses import replace\nreplace(permit, target=b'/')", "door may change a permit"),
        ("door.py", "from dataclasses import replace as swap", "door may change a permit"),
        ("door.py", "import dataclasses\ndataclasses.replace(permit, target=b'/')", "door may change a permit"),
        ("door.py", "object.__setattr__(permit, 'target', b'/')", "door may change a permit"),
        ("door.py", "from dataclasses import dataclass\n'a'.replace('a', 'b')", None),
        ("door.py", "import dataclasses as d\nd.replace(permit, target=b'/')", "door may change a permit"),
        ("door.py", "from dataclasses import *", "door may change a permit"),
        ("door.py", "type(permit)(b'GET', raw.target)", "door may change a permit"),
        ("door.py", "permit.__class__(b'GET', raw.target)", "door may change a permit"),
        ("door.py", "tuple.__new__(type(permit), (b'GET', raw.target))", "door may change a permit"),
        ("door.py", "Forward.__new__(Forward, b'GET', raw.target)", "door may change a permit"),
        ("door.py", "str.__new__(Code, 'x')", None),
        ("door.py", "new = tuple.__new__", "door may change a permit"),
        ("door.py", "new = partial(tuple.__new__, Resource)", None),
        ("door.py", "new = partial(tuple.__new__, Forward)", "door hides the name of a permit"),
        ("door.py", "new = partial(tuple.__new__, type(permit))", "door may change a permit"),
        ("door.py", "super(Forward, Forward)._make(fields)", "door may change a permit"),
        ("door.py", "kind = type(permit)", None),
        ("door.py", "cast('Forward | None', raw)", "door takes another thing for a permit"),
        ("door.py", "cast(dict[str, Forward], raw)", "door takes another thing for a permit"),
        ("door.py", "from typing import cast as c", "door hides the name of a permit"),
        ("door.py", "P = verdict.Forward", "door hides the name of a permit"),
        ("door.py", "def f(make=Forward): ...", "door hides the name of a permit"),
        ("door.py", "partial(Forward, b'GET')", "door hides the name of a permit"),
        ("door.py", "isinstance(verdict, Forward)", None),
        ("door.py", "AppQuestion(b'/', (), b'')", "door makes a lookup's warrant"),
        ("door.py", "class Mine(AppQuestion): ...", "door makes a lookup's warrant"),
        ("gate/gate.py", "class Mine(AppQuestion): ...", "gate.gate makes a lookup's warrant"),
        ("door.py", "cast(AppQuestion, raw)", "door takes another thing for a lookup's warrant"),
        ("door.py", "Q = AppQuestion", "door hides the name of a lookup's warrant"),
        (
            "door.py",
            "import asyncio\nasyncio.open_connection('app', 80)",
            "door opens connections of its own: open_connection",
        ),
        ("door.py", "from http.client import HTTPConnection", "door opens connections of its own: HTTPConnection"),
        ("door.py", "import http.client", "door can open connections: http.client"),
        ("door.py", "import http.client as h", "door can open connections: http.client"),
        ("door.py", "from http import client", "door can open connections: http.client"),
        ("door.py", "import urllib.request", "door can open connections: urllib.request"),
        ("door.py", "from urllib import request", "door can open connections: urllib.request"),
        ("door.py", "from urllib.request import build_opener", "door can open connections: urllib.request"),
        ("door.py", "from xmlrpc.client import ServerProxy", "door can open connections: xmlrpc"),
        ("door.py", "import socket", "door can open connections: socket"),
        ("door.py", "from socket import socket", "door can open connections: socket"),
        ("door.py", "from http import HTTPStatus\nfrom urllib.parse import quote", None),
        ("door.py", "import_module('pkg.net.pool')", "door imports what the table does not see"),
        ("door.py", "from pkg.gate.x import y", "door imports gate.x"),
        ("door.py", "from pkg.gate import x", "door imports gate.x"),
        ("door.py", "import pkg.gate.x", "door imports gate.x"),
        ("door.py", "import httpx", "door imports httpx"),
        ("gate/x.py", "import jwt", None),
        ("gate/x.py", "from time import monotonic", "gate.x is not pure: time.monotonic"),
        ("gate/x.py", "import asyncio", "gate.x is not pure: asyncio"),
        ("gate/x.py", "from pkg.gate.gate import z", "gate.x imports gate.gate"),
        ("gate/gate.py", "def f():\n    from pkg.door import d", "gate.gate imports door"),
        ("gate/new.py", "", None),
        ("gate/new.py", "x = 1", "gate.new is not in the table"),
    ],
)
def test_a_break_of_the_table_is_seen(tmp_path: Path, file: str, text: str, fault: str | None) -> None:
    package = tmp_path / "pkg"
    (package / "gate").mkdir(parents=True)
    for name in ("gate/gate.py", "gate/x.py", "door.py"):
        (package / name).write_text("")
    (package / file).write_text(text)
    found = faults(package, PAGE)
    if fault is None:
        assert [one for one in found if "gate.new" not in one] == []
    else:
        assert fault in found


def test_a_cycle_is_seen() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [
        "a is in a cycle",
        "b is in a cycle",
        "c is in a cycle",
    ]
    assert cycles({"a": {"b"}, "b": set()}) == []


def test_two_files_that_import_each_other_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"from {tmp_path.name} import b")
    (tmp_path / "b.py").write_text(f"def f():\n    import {tmp_path.name}.a")
    assert faults(tmp_path, "| `a` | r | b | |\n| `b` | r | a | |\n") == ["a is in a cycle", "b is in a cycle"]


def test_a_row_that_names_what_is_nowhere_is_seen(tmp_path: Path) -> None:
    (tmp_path / "door.py").write_text("")
    for listed in ("gone", "gone.*", "door, gone", "doo"):
        found = faults(tmp_path, f"| `door` | r | {listed} | |\n")
        assert found == [f"door may import {listed.split(', ')[-1]}, which is nowhere"]
    assert faults(tmp_path, "| `door` | r | everything | |\n") == []
    assert faults(tmp_path, "| `door` | r | nothing | |\n| `gone` | r | nothing | |\n") == [
        "gone is in the table and nowhere else"
    ]


def test_a_file_without_its_test_file_is_seen(tmp_path: Path) -> None:
    package, tests = tmp_path / "pkg", tmp_path / "tests"
    for name in ("pkg/gate/gate.py", "pkg/door.py", "tests/gate/test_gate.py", "tests/gate/test_door.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (package / "gate" / "__init__.py").write_text("x = 1")
    assert untested(package, tests) == ["door"]
    (tests / "test_door.py").write_text("")
    assert untested(package, tests) == []


def by_hand(tree: Iterable[ast.AST]) -> Iterator[int]:
    """Lines that bound what is remembered by hand: `lru_cache` and its kin, the oldest key of a mapping, and `if len(x)
    < …: x[…] = …`."""
    for node in tree:
        match node:
            case ast.ImportFrom(module="functools", names=names) if {"lru_cache", "cache"} & {n.name for n in names}:
                yield node.lineno
            case ast.Attribute(attr="popitem" | "lru_cache"):
                yield node.lineno
            case (
                ast.Delete(targets=[ast.Subscript(slice=oldest)])
                | ast.Call(func=ast.Attribute(attr="pop" | "drop" | "_drop"), args=[oldest, *_])
            ) if "next(iter(" in ast.unparse(oldest):
                yield node.lineno
            case ast.If(test=test, body=body) if "len(" in ast.unparse(test):
                stores = [target for child in body for target in getattr(child, "targets", ())]
                if any(
                    isinstance(target, ast.Subscript) and f"len({ast.unparse(target.value)})" in ast.unparse(test)
                    for target in stores
                ):
                    yield node.lineno


@pytest.mark.parametrize(
    "source",
    [
        "from functools import lru_cache", "import functools\n@functools.lru_cache(5)\ndef f(x): ...",
        "self._known.pop(next(iter(self._known)))", "del known[next(iter(known))]", "known.popitem(last=False)",
        "if len(known) < 5:\n    known[name] = 1",
    ],
)  # fmt: skip
def test_a_bound_by_hand_is_seen(source: str) -> None:
    assert list(by_hand(nodes_of(source)))


def test_what_is_remembered_is_bounded_by_one_module() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "sidecar").rglob("*.py"))
        if path.name != "bounded.py" and "demo" not in path.parts
        for line in by_hand(nodes_of(path.read_text()))
    }
    assert found == set()


def floors(text: str) -> list[str]:
    """The folders in the order of the page, the lowest first."""
    return re.findall(r"^\| `([a-z_]+)` \|[^|]*\|$", text, re.MULTILINE)


TOP = {"api": -1, "bounded": -1, "printable": -1, "tether": -1, "together": -1, "cli": 1000, "health": 1000}
"""Modules that are in no folder: five below all floors, two above."""


def arrows_up(graph: dict[str, set[str]], order: list[str]) -> list[str]:
    """Imports that lead from a floor to a higher one."""
    level = TOP | {folder: place for place, folder in enumerate(order)}
    height = {module: level[module.partition(".")[0]] for module in graph}
    return [
        f"{module} imports {name}, which is above it"
        for module, ours in graph.items()
        for name in sorted(ours)
        if level[name.partition(".")[0]] > height[module]
    ]


def test_no_import_leads_up() -> None:
    order = floors((ROOT / "docs/architecture.md").read_text())
    folders = {path.parent.name for path in (ROOT / "sidecar").glob("*/__init__.py")}
    assert set(order) == folders
    assert arrows_up(own_imports(ROOT / "sidecar"), order) == []


def test_an_arrow_up_is_seen() -> None:
    graph = {
        "wire.http1": {"gate.codes"},
        "gate.codes": {"wire.http1", "bounded"},
        "bounded": set(),
        "cli": {"gate.codes"},
    }
    assert arrows_up(graph, ["wire", "gate"]) == ["wire.http1 imports gate.codes, which is above it"]


def test_no_folder_holds_more_than_its_share() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in (ROOT / "sidecar").rglob("*.py")}
    for folder in (ROOT / "sidecar").iterdir():
        share = sum(count for path, count in lines.items() if folder in path.parents) / sum(lines.values())
        assert share <= 0.15, folder.name


def test_no_pattern_has_a_possessive_group() -> None:
    """Before Python 3.11.5, `re` goes on behind what a possessive group that fails has matched."""
    found = [
        f"{path.name}:{number}"
        for path in (ROOT / "sidecar").rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        # within a class of characters it is none
        if re.search(r"(?<!\\)\)[*+?]\+", re.sub(r"\(\)\*\+", "", line))
    ]
    assert found == []
