"""JMESPath expressions (jmespath.org/specification.html), judged when they are read, not when they meet a value.

The library compiles a call of a function that there is not, or with too few arguments, and raises when it is evaluated.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from jmespath.parser import ParsedResult

_SIGNATURES: dict[str, tuple[dict[str, Any], ...]] = {
    name: entry["signature"] for name, entry in Functions.FUNCTION_TABLE.items()
}


def compile_expression(text: str) -> Any:
    """Compile an expression; its `search` evaluates it. Raises ValueError that says what was found and expected."""
    compiled = _compiled(text)
    place = next(_places(compiled.parsed), None)
    if place is not None and _RESERVED.fullmatch(place):
        raise ValueError(
            f"found {{{place}}} in {text!r}, expected it in `attributes` of `lookups` alone: elsewhere it is a text"
        )
    return compiled


def _compiled(text: str) -> Any:
    try:
        compiled = jmespath.compile(text)
    except JMESPathError as error:
        raise ValueError(f"found {text!r}, expected a JMESPath expression: {str(error).splitlines()[0]}") from None
    # `&` gives an expression in place of a value: to a function, and to nothing else
    for node in _nodes({"type": "", "children": [compiled.parsed]}):
        if node["type"] == "function_expression":
            _check_call(text, node["value"], node["children"])
        elif any(isinstance(child, dict) and child["type"] == "expref" for child in node["children"]):
            raise ValueError(f"found '&' in {text!r}, expected it before an argument of a function alone")
    return compiled


def _nodes(parsed: Any) -> Iterator[Any]:
    rest: list[Any] = [parsed]
    while rest:
        node = rest.pop()
        yield node
        rest += [child for child in node["children"] if isinstance(child, dict)]


# --- values of a request in an expression ---

_PLACE = re.compile(r"\{([^{}]+)\}")
_RESERVED = re.compile(r"id|kind|[a-z]+\..+")
_WITH_VALUE = frozenset(("literal", "field"))
"""Nodes in whose place a value may stand: `'{id}'`, and a member's name, `"{id}"`."""


class ValueExpression(NamedTuple):
    """An expression with places for values of a request.

    A place is a whole literal or a whole name of the parsed expression. The value takes the place of that node, and no
    text is parsed afterwards: whatever it holds, it is compared or looked up as it is.
    """

    text: str
    parsed: Any

    def bind(self, values: Mapping[str, Any]) -> Callable[[Any], Any]:
        """Return what evaluates the expression with these values, by what stands between the braces."""
        search: Callable[[Any], Any] = ParsedResult(self.text, _with_values(self.parsed, values)).search
        return search


def value_expression(text: str) -> tuple[ValueExpression | None, dict[str, bool]]:
    """Parse an expression that may have places for values: -> (it, None without any; place -> whether a member's name
    stands there). Raises ValueError, as `compile_expression`."""
    parsed = _compiled(text).parsed
    places: dict[str, bool] = {}
    for node in _nodes(parsed):
        place = _place_in(node)
        if place is not None:
            places[place] = places.get(place, False) or node["type"] == "field"
        elif node["type"] in _WITH_VALUE and isinstance(node["value"], str) and _PLACE.search(node["value"]):
            raise ValueError(
                f"found {node['value']!r} in {text!r}, expected {{…}} alone between its quotes: a value stands for "
                "itself, and is never a part of a text"
            )
    return (ValueExpression(text, parsed) if places else None), places


def _places(parsed: Any) -> Iterator[str]:
    return (place for place in map(_place_in, _nodes(parsed)) if place is not None)


def _place_in(node: Any) -> str | None:
    if node["type"] not in _WITH_VALUE or not isinstance(node["value"], str):
        return None
    match = _PLACE.fullmatch(node["value"])
    return match[1] if match is not None else None


def _with_values(node: Any, values: Mapping[str, Any]) -> Any:
    if not isinstance(node, dict):
        return node
    place = _place_in(node)
    if place is not None:
        return {**node, "value": values[place]}
    return {**node, "children": [_with_values(child, values) for child in node["children"]]}


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
