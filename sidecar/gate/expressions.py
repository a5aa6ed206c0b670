"""JMESPath expressions (jmespath.org/specification.html), judged when they are read, not when they meet a value.

The library compiles a call of a function that there is not, or with too few arguments, and raises when it is evaluated.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions

_SIGNATURES: dict[str, tuple[dict[str, Any], ...]] = {
    name: entry["signature"] for name, entry in Functions.FUNCTION_TABLE.items()
}


def compile_expression(text: str) -> Any:
    """Compile an expression; its `search` evaluates it. Raises ValueError that says what was found and expected."""
    try:
        compiled = jmespath.compile(text)
    except JMESPathError as error:
        raise ValueError(f"found {text!r}, expected a JMESPath expression: {str(error).splitlines()[0]}") from None
    rest: list[Any] = [compiled.parsed]
    while rest:
        node = rest.pop()
        if node["type"] == "function_expression":
            _check_call(text, node["value"], node["children"])
        rest += [child for child in node["children"] if isinstance(child, dict)]
    return compiled


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def searcher(text: str) -> Callable[[Any], Any]:
    """Return what evaluates an expression. Raises ValueError, as `compile_expression`.

    A name alone, which most are, is looked up as JMESPath does it, without the library: a list has one for each item.
    """
    search: Callable[[Any], Any] = compile_expression(text).search
    return partial(_member, text) if _NAME.fullmatch(text) else search


def _member(name: str, value: Any) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def member_name(search: Callable[[Any], Any]) -> str | None:
    """Return the name by which a searcher looks up a member, None for one that does something else."""
    return search.args[0] if isinstance(search, partial) and search.func is _member else None


def names_path(text: str) -> tuple[str, ...]:
    """Return the names that an expression is made of, none for `@`. Raises ValueError for any other expression."""
    names: list[str] = []
    rest = [compile_expression(text).parsed]
    while rest:
        node = rest.pop()
        if node["type"] == "field":
            names.append(node["value"])
        elif node["type"] == "subexpression":
            rest += reversed(node["children"])
        elif node["type"] != "current" or names or rest:
            raise ValueError(f"found {text!r}, expected names joined by dots: places in an answer are found by them")
    return tuple(names)


def _check_call(text: str, name: str, arguments: list[Any]) -> None:
    signature = _SIGNATURES.get(name)
    if signature is None:
        near = difflib.get_close_matches(name, _SIGNATURES, 1)
        hint = f": did you mean {near[0]}()?" if near else f", one of {', '.join(sorted(_SIGNATURES))}"
        raise ValueError(f"found {name}() in {text!r}, expected a function of JMESPath{hint}")
    least, variadic = len(signature), bool(signature and signature[-1].get("variadic"))
    if len(arguments) < least or (len(arguments) > least and not variadic):
        wanted = f"{least} or more" if variadic else str(least)
        plural = "" if wanted == "1" else "s"
        raise ValueError(f"found {name}() with {len(arguments)} in {text!r}, expected {wanted} argument{plural}")
    for argument, wants in zip(arguments, signature, strict=False):
        if ("expref" in wants["types"]) is not (argument["type"] == "expref"):
            expected = "an expression with '&'" if "expref" in wants["types"] else "no '&'"
            raise ValueError(f"found {name}() in {text!r}, expected {expected} as such an argument")
