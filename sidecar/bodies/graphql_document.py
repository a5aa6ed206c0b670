"""A GraphQL document, read in one way only: its operations, and the root fields of each after fragments and aliases.

It is the executable grammar of the specification of September 2025 (sections 2 and B) without what servers read
differently: a byte order mark, a lone carriage return, characters that some take for the end of a line, descriptions.
graphql-core, whose parser takes ten times as long, is the measure in tests: what is read here is read there, alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.wire.spelling import are_distinct

MAX_TEXT = 128 * 1024
"""Characters of a document: large values belong into variables, which are no part of it."""
MAX_VALUE_DEPTH = 16
"""Lists and objects within each other in a value."""


class DocumentLimits(NamedTuple):
    """Bounds of a document, in which a fragment counts as often as it is spread; `batch` is that of documents in one
    request, 0 for one that is not in a list."""

    tokens: int = 2000
    depth: int = 16
    aliases: int = 50
    fields: int = 20
    batch: int = 0


class VariableReference(NamedTuple):
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
_STRING = "\x02"
"""Place of a string, while the other tokens are found. Neither this nor _END can be in a document."""
_MARKS = ("!", "$", "(", ")", "...", ":", "=", "@", "[", "]", "{", "}")
_SPACED = ((",", " "), *((mark, f" {mark} ") for mark in _MARKS))
_CHARACTERS = re.compile(r"[\t\n\r ,!$()\[\]{}:=@_A-Za-z0-9.+\x02-]*")
# the last alternative takes all that is left, so that what is no string ends the list
_PIECES = re.compile(
    r"""([^"\#]*)(?:(
      "(?!"")[^"\\\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]*
      (?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}|u\{[0-9A-Fa-f]{1,8}\})[^"\\\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]*)*"
    | \"""[^"\\\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]*
      (?:(?:\\(?:""\"|(?!""\"))|"(?!""))[^"\\\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]*)*\"""
    | \#[^\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]*
      (?:[\t\n\r\ ,]+\#[^\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]*)*
    )|"[\s\S]*)?""",
    re.VERBOSE,
)
"""A text between strings and comments, and the string or the comments after it."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_OR_STRING = frozenset("-0123456789" + _STRING)
_AFTER_OPENING = frozenset(("...",))
_AFTER_NAME = frozenset((":", "(", "@", "{", "}", "..."))
_AFTER_ALIAS = _AFTER_NAME - {":"}
_AFTER_ARGUMENTS = _AFTER_ALIAS - {"("}
_AFTER_DIRECTIVES = _AFTER_ARGUMENTS - {"@"}
_AFTER_SELECTION = _AFTER_DIRECTIVES - {"{"}
"""Tokens that may follow in a set, beside a name, which begins a field."""
_WORDS: Mapping[str, str | bool | None] = {"true": True, "false": False, "null": None}
_ESCAPE = re.compile(r'\\(?:u\{([0-9A-Fa-f]+)\}|(u[0-9A-Fa-f]{4}(?:\\u[dD][c-fC-F][0-9A-Fa-f]{2})?)|(["\\/bfnrt]))')
_PLAIN = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LONGEST_NUMBER = 64
_NO_GRAPHQL = "found characters that are no GraphQL outside of its strings"
_NOTHING: Mapping[str, Any] = {}


def read_document(text: str, limits: DocumentLimits, directives: frozenset[str]) -> Document:
    """Read a document that has no other than these `directives`. Raises Refused(BODY_INVALID)."""
    tokens = _tokens(text, limits.tokens)
    rest = iter(tokens)
    operations: dict[str, tuple[str, Mapping[str, Any], _Selections]] = {}
    fragments: dict[str, _Selections] = {}
    at = aliases = 0
    while (token := tokens[at]) != _END:
        began = at
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
        if tokens[at] != "{":
            raise _unexpected(tokens[at], "`{`")
        at = selections.read(tokens, rest, _passed(rest, began, at + 1), directives)
        aliases += selections.aliases
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
    if _STRING in text:
        raise _fault(_NO_GRAPHQL)
    strings: list[str] = []
    if '"' in text or "#" in text:
        text, strings = _without_strings(text, most)
    if not _CHARACTERS.fullmatch(text):
        raise _fault(_NO_GRAPHQL)
    for mark, spaced in _SPACED:
        text = text.replace(mark, spaced)
    tokens = text.split()
    if len(tokens) > most:
        raise _fault(f"found {len(tokens)} tokens, expected at most {most}")
    if "-" in text or "+" in text or text.count(".") != 3 * text.count("..."):
        _require_names(tokens)
    if strings:
        rest = iter(strings)
        tokens = [next(rest) if token == _STRING else token for token in tokens]
    tokens.append(_END)
    return tokens


def _without_strings(text: str, most: int) -> tuple[str, list[str]]:
    """Return a text with marks in place of its strings and without its comments, and the strings. Raises Refused, for
    more than so many tokens, too: a long text may have nothing but strings."""
    # between comments there is a token
    room = 2 * most + 4
    pieces: list[tuple[str, str]]
    if text.count('"') + text.count("#") < room:
        pieces = _PIECES.findall(text)
    else:
        pieces = [(match[1], match[2] or "") for match in islice(_PIECES.finditer(text), room + 1)]
        if len(pieces) > room:
            raise _fault(f"found more tokens than {most}, expected at most {most}")
    if sum([len(plain) + len(rest) for plain, rest in pieces]) != len(text):
        raise _fault(_NO_GRAPHQL)
    strings = [rest for _, rest in pieces if rest[:1] == '"']
    return "".join([f"{plain} {_STRING} " if rest[:1] == '"' else plain + " " for plain, rest in pieces]), strings


def _require_names(tokens: Sequence[str]) -> None:
    """See that signs and dots are in numbers alone, which are read where a value is."""
    for token in tokens:
        if not token.isidentifier() and token not in _MARKS and token[0] not in _NUMBER_OR_STRING:
            raise _fault(_NO_GRAPHQL)


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
    while (name := tokens[at]) != end:
        if not name.isidentifier():
            raise _unexpected(name, "a name")
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
    first = token[0]
    if first == "$":
        return VariableReference(_name(tokens[at + 1])), at + 2
    if first == '"':
        return _text(token), at + 1
    if token == "{" or token == "[":
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
    if token.isdigit() and token[0] != "0" and len(token) <= _LONGEST_NUMBER:
        return int(token)
    if not _NUMBER.fullmatch(token):
        raise _fault(_NO_GRAPHQL)
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


_Field = tuple[str, str, Mapping[str, Any]]
"""Name, alias and arguments of a root field; of a fragment in its place the name, and _SPREAD."""
_SPREAD = "..."


class _Selections:
    """Selections of an operation or a fragment: its own root fields, and the fragments that it spreads, each with the
    number of sets around it. `depth` is that of the deepest set, `aliases` and `tokens` their numbers, without them."""

    __slots__ = ("aliases", "depth", "root", "spreads", "tokens")

    def __init__(self) -> None:
        self.root: list[_Field] = []
        """Fields and fragments of the outermost set, in order."""
        self.spreads: list[tuple[str, int]] = []
        self.depth = 1
        self.aliases = 0
        self.tokens = 0

    def read(
        self, tokens: Sequence[str], rest: Iterator[str], at: int, directives: frozenset[str], around: int = 0
    ) -> int:
        """Read a set after its `{`; return the place after it. `rest` has the tokens from there on, and `around` is the
        number of sets around it: what has some is below the root, and nothing of it is kept. Raises
        Refused(BODY_INVALID)."""
        began, depth, follow = at, around + 1, _AFTER_OPENING
        for token in rest:
            at += 1
            if token.isidentifier():
                follow = _AFTER_NAME
                if not around:
                    self.root.append((token, "", _NOTHING))
            elif token not in follow:
                raise _out_of_place(token)
            elif token == "}":
                if depth > self.depth:
                    self.depth = depth
                depth -= 1
                if depth == around:
                    break
                follow = _AFTER_SELECTION
            elif token != "{":
                end, follow = self._more(token, tokens, at, directives, depth, around)
                at = _passed(rest, at, end)
                depth += follow is _AFTER_OPENING
            elif around:
                depth += 1
                follow = _AFTER_OPENING
            else:
                at = self.read(tokens, rest, at, directives, depth)
                follow = _AFTER_SELECTION
        self.tokens = at - began + 1
        return at

    def _more(
        self, token: str, tokens: Sequence[str], at: int, directives: frozenset[str], depth: int, around: int
    ) -> tuple[int, frozenset[str]]:
        """Read what such a token begins, but for sets; return the place after it, and what may follow."""
        match token:
            case "...":
                at, spread = _spread(tokens, at, directives)
                if not spread:
                    return at, _AFTER_OPENING
                self.spreads.append((spread, depth))
                if not around:
                    self.root.append((spread, _SPREAD, _NOTHING))
                return at, _AFTER_SELECTION
            case "(":
                arguments, at = _arguments(tokens, at)
                if not around:
                    self.root[-1] = *self.root[-1][:2], arguments
                return at, _AFTER_ARGUMENTS
            case ":":
                self.aliases += 1
                name = _name(tokens[at])
                if not around:
                    self.root[-1] = name, self.root[-1][0], _NOTHING
                return at + 1, _AFTER_ALIAS
            case _:
                return _directives(tokens, at - 1, directives), _AFTER_DIRECTIVES


def _out_of_place(token: str) -> Refused:
    return _fault("a selection of nothing") if token == "}" else _unexpected(token, "a field, `...` or `}`")


def _passed(rest: Iterator[str], at: int, end: int) -> int:
    """Take the tokens from one place to another, which is returned."""
    next(islice(rest, end - at, end - at), None)
    return end


def _spread(tokens: Sequence[str], at: int, directives: frozenset[str]) -> tuple[int, str]:
    """Read what follows `...`: (the place after it, the fragment's name), or (the place after `{`, "")."""
    token = tokens[at]
    if token.isidentifier() and token != "on":
        return _directives(tokens, at + 1, directives), token
    if token == "on":
        _name(tokens[at + 1])
        at += 2
    at = _directives(tokens, at, directives)
    if tokens[at] != "{":
        raise _unexpected(tokens[at], "`{`")
    return at + 1, ""


def variables_in(value: Any) -> Iterator[VariableReference]:
    """Each variable in a value, however deep."""
    rest = [value]
    while rest:
        part = rest.pop()
        if isinstance(part, VariableReference):
            yield part
        elif isinstance(part, dict):
            rest += part.values()
        elif isinstance(part, list):
            rest += part


_Weight = tuple[int, int, int]
"""Depth, aliases and tokens of selections with the fragments in them, each as often as it is spread: they grow as
powers do."""


def _require_bounded(
    operations: Mapping[str, _Selections], fragments: Mapping[str, _Selections], limits: DocumentLimits
) -> None:  # fmt: skip
    """See that fragments exist, are no part of themselves, and make no operation deeper or larger than the limits."""
    for found in (*operations.values(), *fragments.values()):
        for name, _ in found.spreads:
            if name not in fragments:
                raise _fault(f"no fragment {name[:64]!r}")
    known = _weights(fragments)
    for depth, aliases, tokens in (*known.values(), *[_weight(found, known) for found in operations.values()]):
        if depth > limits.depth:
            raise _fault(f"found {depth} selections within each other, expected at most {limits.depth}")
        if aliases > limits.aliases:
            raise _fault(f"fragments make more than {limits.aliases} aliases, as often as they are spread")
        if tokens > limits.tokens:
            raise _fault(f"fragments make more than {limits.tokens} tokens, as often as they are spread")


def _weights(fragments: Mapping[str, _Selections]) -> dict[str, _Weight]:
    """Weigh fragments, each after those that it spreads. Raises Refused(BODY_INVALID)."""
    known: dict[str, _Weight] = {}
    begun: set[str] = set()
    rest = list(fragments)
    while rest:
        name = rest[-1]
        if name in known:
            rest.pop()
        elif missing := [to for to, _ in fragments[name].spreads if to not in known]:
            # those that it spreads were put above it, and are known when it is the last again
            if name in begun:
                raise _fault("a fragment that is a part of itself")
            begun.add(name)
            rest += missing
        else:
            known[name] = _weight(fragments[name], known)
    return known


def _weight(found: _Selections, known: Mapping[str, _Weight]) -> _Weight:
    depth, aliases, tokens = found.depth, found.aliases, found.tokens
    for name, around in found.spreads:
        below, more_aliases, more_tokens = known[name]
        depth = max(depth, below + around - 1)
        aliases += more_aliases
        tokens += more_tokens
    return depth, aliases, tokens


def _root_fields(found: _Selections, fragments: Mapping[str, _Selections], most: int) -> tuple[RootField, ...]:
    """The root fields of an operation: each fragment counts once, however often it is spread (section 6.3.2)."""
    fields: list[_Field] = []
    seen: set[str] = set()
    rest = found.root[::-1]
    while rest:
        field = name, alias, _ = rest.pop()
        if alias != _SPREAD:
            fields.append(field)
        elif name not in seen:
            seen.add(name)
            rest += fragments[name].root[::-1]
    if len(fields) > most:
        raise _fault(f"found {len(fields)} root fields, expected at most {most}")
    return tuple([RootField(*field, tuple([one.name for one in variables_in(field[2])])) for field in fields])
