"""The syntax of CEL (github.com/google/cel-spec, doc/langdef.md, "Syntax"): an expression -> a tree with places.

It reads what Cerbos compiles. It checks no types and evaluates nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class CelError(Exception):
    """No expression of CEL, or one that this module does not know; the message says where."""


class Node(NamedTuple):
    """A node of the tree; `at` and `end` cut its text out of the expression.

    | kind | text | children |
    | --- | --- | --- |
    | `literal` | `number`, `bool`, `string`, `bytes` or `null` | |
    | `name` | the name | |
    | `select`, `optional` (`a.?b`) | the field | the operand |
    | `index`, `optional_index` (`a[?b]`) | | operand, index |
    | `call` | the function | the arguments |
    | `method` | the function | the target, the arguments |
    | `op` | the operator, `?:` for the conditional, `!`, `-` | the operands |
    | `list`, `map`, `struct` | | the elements; keys and values in turn; the values |

    `value` is the text of a string literal.
    """

    kind: str
    text: str
    children: tuple[Node, ...]
    at: int
    end: int
    value: str = ""


_RAW = r"""(?:\"{3}(?:(?!\"{3}).)*\"{3}|'{3}(?:(?!'{3}).)*'{3}|"[^"\n\r]*"|'[^'\n\r]*')"""
_LONG = r"""\"{3}(?:\\.|(?!\"{3})[^\\])*\"{3}|'{3}(?:\\.|(?!'{3})[^\\])*'{3}"""
_SHORT = r""""(?:\\.|[^"\\\n\r])*"|'(?:\\.|[^'\\\n\r])*'"""
_TOKEN = re.compile(
    rf"""(?P<space>(?:[ \t\n\f\r]|//[^\n]*)+)
    |(?P<bytes>(?:[bB][rR]|[rR][bB]){_RAW}|[bB](?:{_LONG}|{_SHORT}))
    |(?P<string>[rR]{_RAW}|{_LONG}|{_SHORT})
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:[0-9]+\.[0-9]+|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][+-]?[0-9]+)?|[0-9]+[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<quoted>`[A-Za-z0-9_.\-/ ]+`)
    |(?P<op>&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]{{}}])""",
    re.VERBOSE | re.DOTALL,
)
_RELATIONS = frozenset(("==", "!=", "<", "<=", ">", ">=", "in"))
_WORDS = {"true": "bool", "false": "bool", "null": "null"}
_ESCAPE = re.compile(r"\\(?:([xXuU])([0-9a-fA-F]+)|([0-3][0-7]{2})|(.))", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class _Token(NamedTuple):
    kind: str
    text: str
    at: int
    end: int


def parse(text: str) -> Node:
    """Parse one expression. Raises CelError."""
    try:
        return _Parser(_tokens(text)).whole()
    except RecursionError:
        raise CelError("too deep") from None


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise CelError(f"column {at + 1}: found {text[at]!r}")
        if match.lastgroup != "space":
            tokens.append(_Token(match.lastgroup or "", match[0], at, match.end()))
        at = match.end()
    return [*tokens, _Token("end", "", at, at)]


class _Parser:
    """Recursive descent, one method for each line of the grammar."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    @property
    def _end(self) -> int:
        return self._tokens[self._next - 1].end

    def _take(self, *texts: str) -> str:
        """The next token's text if it is an operator (or the word `in`) among `texts`, which is then behind us."""
        token = self._token
        if token.text not in texts or token.kind not in ("op", "name"):
            return ""
        self._next += 1
        return token.text

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise CelError(f"column {self._token.at + 1}: found {self._token.text or 'the end'!r}, expected {text!r}")

    def whole(self) -> Node:
        node = self._expression()
        if self._token.kind != "end":
            raise CelError(f"column {self._token.at + 1}: found {self._token.text!r}, expected the end")
        return node

    def _expression(self) -> Node:
        condition = self._or()
        if not self._take("?"):
            return condition
        then = self._or()
        self._expect(":")
        return self._op("?:", condition, then, self._expression())

    def _op(self, text: str, *children: Node) -> Node:
        return Node("op", text, children, children[0].at, self._end)

    def _or(self) -> Node:
        node = self._and()
        while self._take("||"):
            node = self._op("||", node, self._and())
        return node

    def _and(self) -> Node:
        node = self._relation()
        while self._take("&&"):
            node = self._op("&&", node, self._relation())
        return node

    def _relation(self) -> Node:
        node = self._sum()
        while relation := self._take(*_RELATIONS):
            node = self._op(relation, node, self._sum())
        return node

    def _sum(self) -> Node:
        node = self._product()
        while sign := self._take("+", "-"):
            node = self._op(sign, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._unary()
        while sign := self._take("*", "/", "%"):
            node = self._op(sign, node, self._unary())
        return node

    def _unary(self) -> Node:
        at = self._token.at
        sign = self._take("!", "-")
        if not sign:
            return self._member()
        return Node("op", sign, (self._unary(),), at, self._end)

    def _member(self) -> Node:
        node = self._primary()
        while True:
            if self._take("."):
                node = self._selected(node)
            elif self._take("["):
                kind = "optional_index" if self._take("?") else "index"
                index = self._expression()
                self._expect("]")
                node = Node(kind, "", (node, index), node.at, self._end)
            elif self._token.text == "{" and node.kind in ("name", "select"):
                node = Node("struct", "", tuple(self._fields()), node.at, self._end)
            else:
                return node

    def _selected(self, node: Node) -> Node:
        kind = "optional" if self._take("?") else "select"
        field = self._identifier()
        if kind == "select" and self._take("("):
            arguments = self._until(")")
            return Node("method", field, (node, *arguments), node.at, self._end)
        return Node(kind, field, (node,), node.at, self._end)

    def _identifier(self) -> str:
        token = self._token
        if token.kind not in ("name", "quoted"):
            raise CelError(f"column {token.at + 1}: found {token.text or 'the end'!r}, expected a name")
        self._next += 1
        return token.text.strip("`")

    def _until(self, end: str) -> list[Node]:
        nodes: list[Node] = []
        while not self._take(end):
            self._take("?")
            nodes.append(self._expression())
            if not self._take(","):
                self._expect(end)
                break
        return nodes

    def _fields(self) -> list[Node]:
        """`{name: value, ...}` of a message."""
        self._expect("{")
        nodes: list[Node] = []
        while not self._take("}"):
            self._take("?")
            self._identifier()
            self._expect(":")
            nodes.append(self._expression())
            if not self._take(","):
                self._expect("}")
                break
        return nodes

    def _entries(self) -> list[Node]:
        """`key: value, ...}` of a map."""
        nodes: list[Node] = []
        while not self._take("}"):
            self._take("?")
            nodes.append(self._expression())
            self._expect(":")
            nodes.append(self._expression())
            if not self._take(","):
                self._expect("}")
                break
        return nodes

    def _primary(self) -> Node:
        token = self._token
        if token.kind in ("number", "string", "bytes") or token.text in _WORDS:
            self._next += 1
            value = _unquoted(token.text) if token.kind == "string" else ""
            return Node("literal", _WORDS.get(token.text, token.kind), (), token.at, token.end, value)
        if self._take("("):
            return self._expression_in_parentheses()
        if self._take("["):
            return Node("list", "", tuple(self._until("]")), token.at, self._end)
        if self._take("{"):
            return Node("map", "", tuple(self._entries()), token.at, self._end)
        self._take(".")
        name = self._identifier()
        if self._take("("):
            return Node("call", name, tuple(self._until(")")), token.at, self._end)
        return Node("name", name, (), token.at, self._end)

    def _expression_in_parentheses(self) -> Node:
        node = self._expression()
        self._expect(")")
        return node


def _unquoted(text: str) -> str:
    raw = text[0] in "rR"
    body = text[1:] if raw else text
    body = body[3:-3] if body[:3] in ('"""', "'''") else body[1:-1]
    return body if raw else _ESCAPE.sub(_unescaped, body)


def _unescaped(match: re.Match[str]) -> str:
    letter, digits, octal, other = match.groups()
    if octal:
        return chr(int(octal, 8))
    if letter:
        wide = {"x": 2, "u": 4, "U": 8}[letter if letter == "U" else letter.lower()]
        return chr(int(digits[:wide], 16)) + digits[wide:]
    return _ESCAPES.get(other, other)
