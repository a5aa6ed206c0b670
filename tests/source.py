"""Source as tests read it: each text is parsed once in a process."""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
from collections.abc import Iterator


@functools.cache
def nodes_of(text: str) -> tuple[ast.AST, ...]:
    """All nodes of a text, as `below` gives them."""
    with _without_collection():
        return tuple(below(ast.parse(text)))


def below(root: ast.AST) -> list[ast.AST]:
    """A node and all that it holds, each after the one that holds it, but for those that say only how a name is used:
    as `ast.walk` does, in half the time."""
    found = [root]
    # it grows meanwhile
    for node in found:
        for value in vars(node).values():
            if isinstance(value, list):
                found += [one for one in value if isinstance(one, ast.AST)]
            elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
                found.append(value)
    return found


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Nothing of a tree is garbage: to look for it takes longer than to parse."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
