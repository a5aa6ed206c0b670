"""Source is read whole, and in the order of `ast.walk`."""

from __future__ import annotations

import ast
import gc
from pathlib import Path

import pytest

from tests import test_architecture
from tests.source import nodes_of


def test_every_node_comes_in_the_order_of_ast_walk() -> None:
    text = Path(test_architecture.__file__).read_text()
    walked = [node for node in ast.walk(ast.parse(text)) if not isinstance(node, ast.expr_context)]
    assert [ast.dump(node) for node in nodes_of(text)] == [ast.dump(node) for node in walked]


def test_garbage_is_collected_again_after_it() -> None:
    with pytest.raises(SyntaxError):
        nodes_of("def")
    assert gc.isenabled()
