"""A GraphQL document, read in one way only: its operations, and the root fields of each after fragments and aliases.

It is the executable grammar of the specification of September 2025 (sections 2 and B) without what servers read
differently: a byte order mark, a lone carriage return, characters that some take for the end of a line, descriptions.
graphql-core, whose parser takes ten times as long, is the measure in tests: what is read here is read there, alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.wire.spelling import are_distinct

MAX_TEXT = 128 * 1024
"""Characters of a document: large values belong into variables, which are no part of it."""
MAX_VALUE_DEPTH = 16
"""Lists and objects within each other in a value."""


class Limits(NamedTuple):
    """Bounds of a document, in which a fragment counts as often as it is spread; `batch` is that of documents in one
    request, 0 for one that is not in a list."""

    tokens: int = 2000
    depth: int = 16
    aliases: int = 50
    fields: int = 20
    batch: int = 0


class Variable(NamedTuple):
    """Place in a value where a variable stands."""

    name: str


class RootField(NamedTuple):
    """A field of an operation's root type. `variables` are the names of those in `arguments`, each as often as it
    stands there."""

    name: str
    alias: str
    arguments: Mapping[str, Any]
    variables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """An operation with the root fields that it may execute, whatever its directives say.

    `variables` are those that it declares, each with its default or NO_DEFAULT.
    """

    kind: str
    name: str
    variables: Mapping[str, Any]
    fields: tuple[RootField, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """The operations of a document by name, "" for one without. `tokens` tells how long it is."""

    operations: Mapping[str, Definition]
    tokens: int


class _NoDefault:
    """Mark of a variable without a default value."""

    def __repr__(self) -> str:
        return "NO_DEFAULT"


NO_DEFAULT = _NoDefault()
ROOTS = {"query": "Query", "mutation": "Mutation", "subscription": "Subscription"}
"""Root types as `routes.yaml` names them, whatever the app's schema calls them."""

_END = "\x03"
# the last alternative takes all that is left, so that what is no token ends the list without the mark of the end
_TOKEN = re.compile(
    r"""[\t\n\r ,]*(?:\#[^\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]*[\t\n\r ,]*)*
    (?:(
      [_A-Za-z][_A-Za-z0-9]* | [!$&()\[\]{}:=@|] | \.\.\.
    | "(?!"")[^"\\\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]*
      (?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}|u\{[0-9A-Fa-f]{1,8}\})[^"\\\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]*)*"
    | -?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![_A-Za-z0-9.])
    | \"""[^"\\\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]*
      (?:(?:\\(?:""\"|(?!""\"))|"(?!""))[^"\\\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]*)*\"""
    | \x03
    )|[\s\S]+)""",
    re.VERBOSE,
)
_AFTER_A_NAME = frozenset(":(@")
_WORDS: Mapping[str, str | bool | None] = {"true": True, "false": False, "null": None}
_ESCAPE = re.compile(r'\\(?:u\{([0-9A-Fa-f]+)\}|(u[0-9A-Fa-f]{4}(?:\\u[dD][c-fC-F][0-9A-Fa-f]{2})?)|(["\\/bfnrt]))')
_PLAIN = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LONGEST_NUMBER = 64
_NOTHING: Mapping[str, Any] = {}


def read_document(text: str, limits: Limits, directives: frozenset[str]) -> Document:
    """Read a document that has no other than these `directives`. Raises Refused(BODY_INVALID)."""
    tokens = _tokens(text, limits.tokens)
    operations: dict[str, tuple[str, Mapping[str, Any], _Selections]] = {}
    fragments: dict[str, _Selections] = {}
    at = aliases = 0
    while (token := tokens[at]) != _END:
        if token == "fragment":
            name, at = _fragment_head(tokens, at, directives)
            if name in fragments:
                raise _fault(f"the fragment {name[:64]!r} stands twice")
            fragments[name] = selections = _Selections()
        else:
            kind, name, variables, at = _operation_head(tokens, at, directives)
            if name in operations or "" in operations or (operations and not name):
                raise _fault("operations of one name, or one without a name beside another")
            selections = _Selections()
            operations[name] = kind, variables, selections
        at = selections.read(tokens, at, directives)
        aliases += selections.aliases
    if tokens[-1] != _END or at != len(tokens) - 1:
        raise _fault("found characters that are no GraphQL outside of its strings")
    if not operations:
        raise _fault("no operation")
    if aliases > limits.aliases:
        raise _fault(f"found {aliases} aliases, expected at most {limits.aliases}")
    _require_bounded({name: found for name, (_, _, found) in operations.items()}, fragments, limits)
    return Document(
        {
            name: Definition(ROOTS[kind], name, variables, _root_fields(found, fragments, limits.fields))
            for name, (kind, variables, found) in operations.items()
        },
        len(tokens),
    )


def _fault(detail: str) -> Refused:
    return Refused(Code.BODY_INVALID, f"query: {detail}")


def _tokens(text: str, most: int) -> list[str]:
    if len(text) > MAX_TEXT:
        raise _fault(f"found {len(text)} characters, expected at most {MAX_TEXT}: send large values in variables")
    if "\r" in text and text.count("\r") != text.count("\r\n"):
        raise _fault("found a carriage return that no line feed follows, which servers read differently")
    tokens = _TOKEN.findall(text + "\n" + _END)
    if len(tokens) > most + 1:
        raise _fault(f"found {len(tokens) - 1} tokens, expected at most {most}")
    return tokens


def _unexpected(token: str, wanted: str) -> Refused:
    # a string or number may be anybody's secret
    shown = repr(token[:64]) if token.isidentifier() or len(token) == 1 else "a value"
    if token in ("", _END):
        shown = "the end, or characters that are no GraphQL"
    return _fault(f"found {shown}, expected {wanted}")


def _name(token: str) -> str:
    # a token that begins like a name has nothing but letters, digits and _
    if not token.isidentifier():
        raise _unexpected(token, "a name")
    return token


def _fragment_head(tokens: Sequence[str], at: int, directives: frozenset[str]) -> tuple[str, int]:
    name = _name(tokens[at + 1])
    if name == "on" or tokens[at + 2] != "on":
        raise _unexpected(tokens[at + 2], "`fragment NAME on TYPE`")
    _name(tokens[at + 3])
    return name, _directives(tokens, at + 4, directives)


def _operation_head(
    tokens: Sequence[str], at: int, directives: frozenset[str]
) -> tuple[str, str, Mapping[str, Any], int]:
    token = tokens[at]
    if token == "{":
        return "query", "", _NOTHING, at
    if token not in ROOTS:
        raise _unexpected(token, "query, mutation, subscription, fragment or {")
    at += 1
    name, variables = "", _NOTHING
    if tokens[at].isidentifier():
        name = tokens[at]
        at += 1
    if tokens[at] == "(":
        variables, at = _variables(tokens, at + 1, directives)
    return token, name, variables, _directives(tokens, at, directives)


def _variables(tokens: Sequence[str], at: int, directives: frozenset[str]) -> tuple[Mapping[str, Any], int]:
    found: dict[str, Any] = {}
    while tokens[at] == "$":
        name = _name(tokens[at + 1])
        if name in found:
            raise _fault(f"the variable {name[:64]!r} is declared twice")
        if tokens[at + 2] != ":":
            raise _unexpected(tokens[at + 2], "`:` and the type of a variable")
        at = _type(tokens, at + 3)
        found[name] = NO_DEFAULT
        if tokens[at] == "=":
            found[name], at = _value(tokens, at + 1, MAX_VALUE_DEPTH)
            if next(variables_in(found[name]), None) is not None:
                raise _fault(f"a variable in the default of {name[:64]!r}")
        at = _directives(tokens, at, directives)
    if tokens[at] != ")" or not found:
        raise _unexpected(tokens[at], "variables, then `)`")
    if not are_distinct(found):
        raise _fault("two variables that are one without case")
    return found, at + 1


def _type(tokens: Sequence[str], at: int) -> int:
    lists = 0
    while tokens[at] == "[":
        lists += 1
        at += 1
    _name(tokens[at])
    at += 1
    while True:
        if tokens[at] == "!":
            at += 1
        if not lists:
            return at
        if tokens[at] != "]":
            raise _unexpected(tokens[at], "`]`")
        lists -= 1
        at += 1


def _directives(tokens: Sequence[str], at: int, allowed: frozenset[str]) -> int:
    seen: list[str] = []
    while tokens[at] == "@":
        name = _name(tokens[at + 1])
        if name not in allowed:
            raise _fault(f"found the directive @{name[:64]}, expected one of {', '.join(sorted(allowed))}")
        if name in seen:
            raise _fault(f"found @{name[:64]} twice at one place")
        seen.append(name)
        at += 2
        if tokens[at] == "(":
            _, at = _arguments(tokens, at + 1)
    return at


def _arguments(tokens: Sequence[str], at: int) -> tuple[Mapping[str, Any], int]:
    return _members(tokens, at, ")", MAX_VALUE_DEPTH, 1)


def _members(tokens: Sequence[str], at: int, end: str, depth: int, least: int) -> tuple[Mapping[str, Any], int]:
    found: dict[str, Any] = {}
    while (token := tokens[at]) != end:
        name = _name(token)
        if tokens[at + 1] != ":":
            raise _unexpected(tokens[at + 1], "`:` and a value")
        if name in found:
            raise _fault(f"{name[:64]!r} stands twice among arguments, or in an object")
        found[name], at = _value(tokens, at + 2, depth)
    if len(found) < least:
        raise _unexpected(end, "an argument")
    if len(found) > 1 and not are_distinct(found):
        raise _fault("two names among arguments, or in an object, that are one without case")
    return found, at + 1


def _value(tokens: Sequence[str], at: int, depth: int) -> tuple[Any, int]:
    token = tokens[at]
    if token.isidentifier():
        return _WORDS.get(token, token), at + 1
    first = token[:1]
    if first == '"':
        return _text(token), at + 1
    if first == "$":
        return Variable(_name(tokens[at + 1])), at + 2
    if first in ("{", "["):
        if not depth:
            raise _fault(f"a value of more than {MAX_VALUE_DEPTH} lists and objects within each other")
        return _members(tokens, at + 1, "}", depth - 1, 0) if first == "{" else _list(tokens, at + 1, depth - 1)
    if first == "-" or first.isdigit():
        return _number(token), at + 1
    raise _unexpected(token, "a value")


def _list(tokens: Sequence[str], at: int, depth: int) -> tuple[list[Any], int]:
    found = []
    while tokens[at] != "]":
        value, at = _value(tokens, at, depth)
        found.append(value)
    return found, at + 1


def _number(token: str) -> int | float:
    # an id of -0 is "-0" for one server and "0" for another
    if len(token) > _LONGEST_NUMBER or token == "-0":
        raise _fault(f"a number of more than {_LONGEST_NUMBER} characters, or -0")
    if token.lstrip("-").isdigit():
        return int(token)
    number = float(token)
    if number in (float("inf"), float("-inf")):
        raise _fault("a number beyond what a double holds")
    return number


def _text(token: str) -> str:
    if token.startswith('"""'):
        return _block(token[3:-3].replace('\\"""', '"""'))
    return _ESCAPE.sub(_unescaped, token[1:-1]) if "\\" in token else token[1:-1]


def _unescaped(match: re.Match[str]) -> str:
    wide, narrow, plain = match.groups()
    if plain:
        return _PLAIN[plain]
    if wide:
        number = int(wide, 16)
    else:
        number = int(narrow[1:5], 16)
        if len(narrow) > 5 and 0xD800 <= number < 0xDC00:
            return chr(0x10000 + ((number - 0xD800) << 10) + int(narrow[7:], 16) - 0xDC00)
    if 0xD800 <= number < 0xE000 or number > 0x10FFFF or len(narrow or "") > 5:
        raise _fault("an escape that is no character")
    return chr(number)


def _block(raw: str) -> str:
    """The value of a block string (section 2.9.4): without its common indentation and the blank lines around it."""
    lines = raw.replace("\r\n", "\n").split("\n")
    indents = [len(line) - len(rest) for line in lines[1:] if (rest := line.lstrip(" \t"))]
    common = min(indents, default=0)
    lines = [lines[0], *(line[common:] for line in lines[1:])]
    filled = [at for at, line in enumerate(lines) if line.strip(" \t")]
    return "\n".join(lines[filled[0] : filled[-1] + 1]) if filled else ""


class _Selections:
    """Selections of an operation or a fragment: its own root fields, and the fragments that it spreads, each with the
    number of sets around it. `depth` is that of the deepest set, `aliases` and `tokens` their numbers, without them."""

    __slots__ = ("aliases", "depth", "root", "spreads", "tokens")

    def __init__(self) -> None:
        self.root: list[RootField | str] = []
        """Fields of the outermost set and, by name, the fragments that are spread in it, in order."""
        self.spreads: list[tuple[str, int]] = []
        self.depth = 1
        self.aliases = 0
        self.tokens = 0

    def read(self, tokens: Sequence[str], at: int, directives: frozenset[str]) -> int:
        """Read the set that begins at a token; return the place after it. Raises Refused(BODY_INVALID)."""
        began = at
        at = _opened(tokens, at)
        # of the innermost set, and of the innermost that belongs to the root: all around that one are inline fragments
        depth = root_depth = 1
        while depth:
            token = tokens[at]
            if token.isidentifier():
                at += 1
                if depth == root_depth or tokens[at] in _AFTER_A_NAME:
                    at = self._field(tokens, at, directives, is_root=depth == root_depth)
                if tokens[at] != "{":
                    continue
                depth += 1
            elif token == "}":
                root_depth -= depth == root_depth
                depth -= 1
                at += 1
                continue
            elif token == "...":
                is_root = depth == root_depth
                at, spread = _spread(tokens, at + 1, directives)
                if spread:
                    self.spreads.append((spread, depth))
                    if is_root:
                        self.root.append(spread)
                    continue
                depth += 1
                root_depth += is_root
            else:
                raise _unexpected(token, "a field, `...` or `}`")
            at = _opened(tokens, at)
            if depth > self.depth:
                self.depth = depth
        self.tokens = at - began
        return at

    def _field(self, tokens: Sequence[str], at: int, directives: frozenset[str], *, is_root: bool) -> int:
        """Read what follows the first name of a field."""
        name, alias, arguments = tokens[at - 1], "", _NOTHING
        if tokens[at] == ":":
            name, alias = _name(tokens[at + 1]), name
            self.aliases += 1
            at += 2
        if tokens[at] == "(":
            arguments, at = _arguments(tokens, at + 1)
        if tokens[at] == "@":
            at = _directives(tokens, at, directives)
        if is_root:
            variables = tuple([variable.name for variable in variables_in(arguments)]) if arguments else ()
            self.root.append(RootField(name, alias, arguments, variables))
        return at


def _opened(tokens: Sequence[str], at: int) -> int:
    if tokens[at] != "{":
        raise _unexpected(tokens[at], "`{`")
    if tokens[at + 1] == "}":
        raise _fault("a selection of nothing")
    return at + 1


def _spread(tokens: Sequence[str], at: int, directives: frozenset[str]) -> tuple[int, str]:
    """Read what follows `...`: (the place after it, the fragment's name), or (the place of `{`, "")."""
    token = tokens[at]
    if token == "on":
        _name(tokens[at + 1])
        return _directives(tokens, at + 2, directives), ""
    if token.isidentifier():
        return _directives(tokens, at + 1, directives), token
    return _directives(tokens, at, directives), ""


def variables_in(value: Any) -> Iterator[Variable]:
    """Each variable in a value, however deep."""
    rest = [value]
    while rest:
        part = rest.pop()
        if isinstance(part, Variable):
            yield part
        elif isinstance(part, dict):
            rest += part.values()
        elif isinstance(part, list):
            rest += part


class _Weight(NamedTuple):
    """Measure of selections with the fragments in them, each as often as it is spread: they grow as powers do."""

    depth: int
    aliases: int
    tokens: int


def _require_bounded(
    operations: Mapping[str, _Selections], fragments: Mapping[str, _Selections], limits: Limits
) -> None:  # fmt: skip
    """See that fragments exist, are no part of themselves, and make no operation deeper or larger than the limits."""
    spreads = [name for found in (*operations.values(), *fragments.values()) for name, _ in found.spreads]
    if missing := next((name for name in spreads if name not in fragments), None):
        raise _fault(f"no fragment {missing[:64]!r}")
    known: dict[str, _Weight] = {}
    try:
        order = TopologicalSorter({name: {to for to, _ in found.spreads} for name, found in fragments.items()})
        for name in order.static_order():
            known[name] = _weight(fragments[name], known)
    except CycleError:
        raise _fault("a fragment that is a part of itself") from None
    weights = [*known.values(), *(_weight(found, known) for found in operations.values())]
    if (deepest := max(weight.depth for weight in weights)) > limits.depth:
        raise _fault(f"found {deepest} selections within each other, expected at most {limits.depth}")
    if max(weight.aliases for weight in weights) > limits.aliases:
        raise _fault(f"fragments make more than {limits.aliases} aliases, as often as they are spread")
    if max(weight.tokens for weight in weights) > limits.tokens:
        raise _fault(f"fragments make more than {limits.tokens} tokens, as often as they are spread")


def _weight(found: _Selections, known: Mapping[str, _Weight]) -> _Weight:
    if not found.spreads:
        return _Weight(found.depth, found.aliases, found.tokens)
    spread = [(known[name], around) for name, around in found.spreads]
    return _Weight(
        max(found.depth, *(weight.depth + around - 1 for weight, around in spread)),
        found.aliases + sum(weight.aliases for weight, _ in spread),
        found.tokens + sum(weight.tokens for weight, _ in spread),
    )


def _root_fields(found: _Selections, fragments: Mapping[str, _Selections], most: int) -> tuple[RootField, ...]:
    """The root fields of an operation: each fragment counts once, however often it is spread (section 6.3.2)."""
    fields: list[RootField] = []
    seen: set[str] = set()
    rest: list[RootField | str] = found.root[::-1]
    while rest:
        part = rest.pop()
        if isinstance(part, RootField):
            fields.append(part)
        elif part not in seen:
            seen.add(part)
            rest += fragments[part].root[::-1]
    if len(fields) > most:
        raise _fault(f"found {len(fields)} root fields, expected at most {most}")
    return tuple(fields)
