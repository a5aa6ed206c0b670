"""Words: names and docstrings that a reader of the field does not stop at."""

from __future__ import annotations

import ast
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.source import nodes_of

ROOT = Path(__file__).parent.parent
QUESTION = re.compile(r"(?:What|Whether|Who|Whoever|Whom|Whose)\b")
BANNED = {
    "gate": {"way", "left", "over", "also"},
    "": {"crumb", "crumbs"},
}
"""Names that say nothing of the field: in the gate, and anywhere."""


def docstrings(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """The docstrings of a file, with their lines."""
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text


def attribute_docs(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """The strings that describe what is assigned just before them, with their lines."""
    for node in nodes:
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for before, doc in itertools.pairwise(body):
            match doc:
                case ast.Expr(value=ast.Constant(value=str(text))) if isinstance(before, ast.Assign | ast.AnnAssign):
                    yield doc.lineno, text


def given_names(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """The names that a file gives: of arguments, variables, fields, functions and classes."""
    for node in nodes:
        match node:
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name


def faults(source: str, banned: set[str]) -> list[int]:
    """Lines with a docstring that begins as a question, or with a banned name."""
    nodes = nodes_of(source)
    found = [line for line, text in (*docstrings(nodes), *attribute_docs(nodes)) if QUESTION.match(text)]
    found += [line for line, name in given_names(nodes) if name.strip("_").lower() in banned]
    return sorted(found)


@pytest.mark.parametrize(
    "source",
    [
        '"""What it does."""', 'class A:\n    """Whether it is."""', 'async def f():\n    """Whoever asks."""',
        "def f(way): ...", "class Way: ...", "for crumb in x: ...", "self._left = 1", "over: int = 1", "def also(): ...",
        'X = 1\n"""What it is."""', 'class A:\n    x: int = 1\n    """Whether it is."""',
    ],
)  # fmt: skip
def test_a_word_that_stops_a_reader_is_seen(source: str) -> None:
    assert faults(source, BANNED["gate"] | BANNED[""])


@pytest.mark.parametrize(
    "source", ['"""Return whether it is."""', '"""Whatever."""', "def f(ttl): ...", "ways = 1", 'x = "What"']
)
def test_another_word_is_none_of_these(source: str) -> None:
    assert faults(source, BANNED["gate"] | BANNED[""]) == []


def test_no_docstring_begins_as_a_question_and_no_name_is_banned() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "sidecar").rglob("*.py"))
        for line in faults(path.read_text(), BANNED[""] | BANNED.get(path.parent.name, set()))
    }
    assert found == set()


MAY_SHARE = {
    "Lookups": "the gate's port, and the class in lookups/ that implements it",
    "Principal": "the public type that a user's function gets, and the gate's own, which may change",
    "Sessions": "the sign-in pages' port, and the class in sessions/ that implements it",
    "UserPool": "the sign-in pages' port, and the class in sign_in/ that implements it",
}
"""Names that two classes have, each with the reason."""


def shared(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of public classes that several files have at their top level, with these files."""
    places: dict[str, list[str]] = defaultdict(list)
    for file, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(file)
    return {name: files for name, files in places.items() if len(files) > 1}


def test_a_name_of_two_classes_is_seen() -> None:
    sources = {"a.py": "class Reply: ...", "b.py": "class Reply: ...", "c.py": "class Reply: ..."}
    assert shared(sources) == {"Reply": ["a.py", "b.py", "c.py"]}


@pytest.mark.parametrize(
    "source", ["class Replies: ...", "class _Reply: ...", "class A:\n    class Reply: ...", "from a import Reply"]
)
def test_another_class_does_not_share_a_name(source: str) -> None:
    assert shared({"a.py": "class Reply: ...", "b.py": source}) == {}


def test_no_two_public_classes_have_the_same_name() -> None:
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "sidecar").rglob("*.py"))}
    found = shared(sources)
    assert {name: files for name, files in found.items() if name not in MAY_SHARE} == {}
    assert found.keys() == MAY_SHARE.keys()
