"""Attributes that a condition reads, with guards against absence and the values compared.

Known is what a guard says: `has(R.attr.x)` or `"x" in R.attr`, on either side of `&&` (in CEL an error beside false is
false), in an earlier term of `all`, or the other way round under `||`, `!`, `?:` and `any`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from sidecar.config.yaml_nodes import Place, Scalar
from sidecar.study.cel import CelError, Node, parse
from sidecar.study.policies import Condition, Match, PolicyNames

WHOLE = "*"
"""Stands for an attribute whose name is not written out: all of them, or one that is worked out."""


_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class AttributeReference(NamedTuple):
    """`owner` is `principal`, `resource` or `jwt` (of Cerbos' auxData)."""

    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self._map}.{self.name}" if _IDENTIFIER.fullmatch(self.name) else f'{self._map}["{self.name}"]'

    @property
    def guard(self) -> str:
        """The expression that says whether it is there."""
        return f"has({self})" if _IDENTIFIER.fullmatch(self.name) else f'"{self.name}" in {self._map}'

    @property
    def _map(self) -> str:
        return "request.auxData.jwt" if self.owner == "jwt" else f"request.{self.owner}.attr"


class Use(NamedTuple):
    """One place where an attribute is read. `guarded`: it is known to be there, or its absence is no error.

    `with_` is the type of the literal that it is compared with (`number`, `bool`, `string`), `bool` where its value is
    taken for one, or "".
    """

    attribute: AttributeReference
    place: Place
    guarded: bool
    with_: str = ""


class UnreadExpression(NamedTuple):
    """An expression that could not be read, and why."""

    place: Place
    reason: str


_Known = frozenset[AttributeReference]
_NOTHING: _Known = frozenset()
_MACROS = {"exists": 1, "all": 1, "filter": 1, "map": 1, "exists_one": 1, "existsOne": 1, "sortBy": 1}
"""Of a list or map: how many variables it binds at least (cel-spec, "Macros", and cel-go's extensions)."""
_WIDE_MACROS = {"transformList": 2, "transformMap": 2, "transformMapEntry": 2}
_TESTS = ("exists", "all", "filter", "exists_one", "existsOne")
"""Macros whose last argument is taken for true or false."""
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in")
_ARITHMETIC = ("+", "-", "*", "/", "%")
_SAME = ("orValue", "value", "dyn")
"""Functions whose value is that of what they are called with."""
_RESULTS = {
    ("call", "int"): "number", ("call", "uint"): "number", ("call", "double"): "number", ("call", "size"): "number",
    ("method", "size"): "number", ("call", "string"): "string", ("call", "bool"): "bool", ("call", "has"): "bool",
}  # fmt: skip
_WHOLES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("P",): ("principal",), ("request", "principal"): ("principal",),
    ("R",): ("resource",), ("request", "resource"): ("resource",),
    ("request",): ("principal", "resource"),
}  # fmt: skip
_OWNERS: dict[tuple[str, ...], str] = {
    ("P", "attr"): "principal", ("request", "principal", "attr"): "principal",
    ("R", "attr"): "resource", ("request", "resource", "attr"): "resource",
    ("request", "auxData", "jwt"): "jwt", ("request", "aux_data", "jwt"): "jwt",
}  # fmt: skip
_MAX_DEPTH = 32
"""Variables within variables."""


def uses(condition: Condition) -> list[Use | UnreadExpression]:
    """Everything that a condition reads, in its order."""
    return list(_Reading(condition.names).match(condition.match, _NOTHING))


class _Reading:
    """Reads the expressions of one policy, variables in place of their names."""

    def __init__(self, names: PolicyNames, depth: int = 0) -> None:
        self._names = names
        self._depth = depth
        self._text = Scalar(Place("", 1, 1), "", "")
        self._bound: frozenset[str] = frozenset()

    # --- a tree of matches ---

    def match(self, match: Match, known: _Known) -> Iterator[Use | UnreadExpression]:
        """Cerbos takes the terms in turn, and stops at the first that decides: a guard counts for those after it."""
        if match.kind == "expr":
            if match.expression is not None:
                yield from self.expression(match.expression, known)
            return
        for term in match.of:
            yield from self.match(term, known)
            known |= self._of_match(term, wanted=match.kind == "all")

    def _of_match(self, match: Match, wanted: bool) -> _Known:
        """Return what is known to be there once `match` is true (or false, as `wanted` says)."""
        if match.kind == "expr":
            inner, tree = self._inner(match.expression)
            return inner.known_if(tree, wanted) if tree is not None else _NOTHING
        wanted = wanted if match.kind != "none" else not wanted
        each = [self._of_match(term, wanted) for term in match.of]
        return _joined(each, every=wanted == (match.kind == "all"))

    def expression(self, text: Scalar, known: _Known, boolean: bool = True) -> Iterator[Use | UnreadExpression]:
        """Read one expression of the policy."""
        if self._depth > _MAX_DEPTH:
            yield UnreadExpression(text.start, "too many variables within variables")
            return
        try:
            tree = parse(text.value)
        except CelError as error:
            yield UnreadExpression(text.start, str(error))
            return
        inner = self._at(text)
        yield from inner.boolean(tree, known) if boolean else inner.read(tree, known)

    def _at(self, text: Scalar) -> _Reading:
        inner = _Reading(self._names, self._depth + 1)
        inner._text = text
        return inner

    def _inner(self, text: Scalar | None) -> tuple[_Reading, Node | None]:
        if text is None or self._depth > _MAX_DEPTH:
            return self, None
        try:
            return self._at(text), parse(text.value)
        except CelError:
            return self, None

    # --- an expression ---

    def boolean(self, node: Node, known: _Known) -> Iterator[Use | UnreadExpression]:
        """Read a node whose value is taken for true or false."""
        yield from self.read(node, known, "bool")

    def read(self, node: Node, known: _Known, with_: str = "") -> Iterator[Use | UnreadExpression]:
        """Read a node, with these attributes known to be there; `with_` is the type that its value is taken for."""
        variable = self._variable(node)
        if variable is not None:
            inner, tree = self._inner(variable)
            if tree is not None and inner.attribute(tree) is not None:
                # a variable that is another name of an attribute
                yield from inner.read(tree, known, with_)
            else:
                yield from self.expression(variable, known, boolean=with_ == "bool")
            return
        attribute = self.attribute(node)
        if attribute is None:
            yield from self._by_kind(node, known, with_)
            return
        yield self._use(attribute, node, known, with_)
        for index in node.children[1:]:
            yield from self.read(index, known)

    def _by_kind(self, node: Node, known: _Known, with_: str) -> Iterator[Use | UnreadExpression]:
        guarded = self._guarded(node)
        if guarded is not None:
            yield self._use(guarded, node, frozenset((guarded,)))
        elif node.kind == "op" and node.text in ("&&", "||", "!", "?:"):
            yield from self._logic(node, known, with_)
        elif node.kind == "op" and node.text in _COMPARISONS:
            yield from self._comparison(node, known)
        elif node.kind == "op" and node.text in _ARITHMETIC:
            yield from self._computed(node, known, with_)
        elif node.kind in ("method", "call"):
            yield from self._called(node, known, with_)
        else:
            yield from self._others(node, known)

    def _others(self, node: Node, known: _Known) -> Iterator[Use | UnreadExpression]:
        if owners := self._whole(node):
            for owner in owners:
                yield self._use(AttributeReference(owner, WHOLE), node, known)
        elif not (node.kind == "select" and self._whole(node.children[0])):
            # an id or the roles are no attributes
            for child in node.children:
                yield from self.read(child, known)

    def _whole(self, node: Node) -> tuple[str, ...]:
        """Return the owners of all attributes that a node brings along."""
        path = _path(node)
        if not path or path[0] in self._bound:
            return ()
        owner = self._owner(node)
        return (owner,) if owner is not None else _WHOLES.get(path, ())

    def _logic(self, node: Node, known: _Known, with_: str) -> Iterator[Use | UnreadExpression]:
        if node.text == "!":
            yield from self.boolean(node.children[0], known)
        elif node.text == "?:":
            condition, then, otherwise = node.children
            yield from self.boolean(condition, known)
            yield from self.read(then, known | self.known_if(condition, wanted=True), with_)
            yield from self.read(otherwise, known | self.known_if(condition, wanted=False), with_)
        else:
            left, right = node.children
            wanted = node.text == "&&"
            yield from self.boolean(left, known | self.known_if(right, wanted))
            yield from self.boolean(right, known | self.known_if(left, wanted))

    def _comparison(self, node: Node, known: _Known) -> Iterator[Use | UnreadExpression]:
        left, right = node.children
        for side, other in ((left, right), (right, left)):
            among = node.text == "in"
            # what is looked for is compared with the items of a list, and not with the list
            with_ = "" if among and side is right else self._type(other, among)
            yield from self.read(side, known, with_)

    def _computed(self, node: Node, known: _Known, with_: str) -> Iterator[Use | UnreadExpression]:
        """Read the operands of arithmetic. Of JSON values, texts and lists have sums, and numbers all of it."""
        numbers = node.text != "+" or "number" in (with_, *(self._type(child) for child in node.children))
        for child in node.children:
            yield from self.read(child, known, "number" if numbers else "")

    def _called(self, node: Node, known: _Known, with_: str) -> Iterator[Use | UnreadExpression]:
        if node.kind == "call" and node.text == "has" and len(node.children) == 1:
            # of `has(a.b.c)` the last name alone may be absent
            for child in node.children[0].children[:1]:
                yield from self.read(child, known)
            return
        target, arguments = (node.children[:1], node.children[1:]) if node.kind == "method" else ((), node.children)
        if node.text == "orValue" and len(arguments) == 1:
            with_ = with_ or self._type(arguments[0])
        same = node.text in _SAME
        for each in target:
            yield from self.read(each, known, with_ if same else "")
        bound = self._binds(node, arguments)
        outer, self._bound = self._bound, self._bound | bound
        for argument in arguments:
            if not (argument.kind == "name" and argument.text in bound):
                taken = "bool" if bound and node.text in _TESTS and argument is arguments[-1] else with_ if same else ""
                yield from self.read(argument, known, taken)
        self._bound = outer

    def _binds(self, node: Node, arguments: tuple[Node, ...]) -> frozenset[str]:
        """The variables that a macro binds."""
        if node.kind != "method":
            return frozenset()
        if node.text == "bind" and node.children[0].text == "cel":
            count = 1
        elif node.text in _MACROS or node.text in _WIDE_MACROS:
            # with one more argument than usual, it binds a key or index, too
            count = _WIDE_MACROS.get(node.text, 1)
            count = 2 if node.text != "map" and len(arguments) >= 3 else count
        else:
            return frozenset()
        return frozenset(argument.text for argument in arguments[:count] if argument.kind == "name")

    # --- what is known ---

    def known_if(self, node: Node, wanted: bool) -> _Known:
        """The attributes that are there if `node` is true (or false, as `wanted` says)."""
        guarded = self._guarded(node)
        if guarded is not None:
            return frozenset((guarded,)) if wanted else _NOTHING
        if node.kind == "op" and node.text == "!":
            return self.known_if(node.children[0], not wanted)
        if node.kind == "op" and node.text in ("&&", "||"):
            each = [self.known_if(child, wanted) for child in node.children]
            return _joined(each, every=wanted == (node.text == "&&"))
        variable = self._variable(node)
        inner, tree = self._inner(variable)
        return inner.known_if(tree, wanted) if tree is not None else _NOTHING

    def _guarded(self, node: Node) -> AttributeReference | None:
        """The attribute whose presence a node asks for."""
        if node.kind == "call" and node.text == "has" and len(node.children) == 1:
            return self.attribute(node.children[0])
        if node.kind == "op" and node.text == "in" and (owner := self._owner(node.children[1])):
            name = node.children[0]
            return AttributeReference(owner, name.value) if (name.kind, name.text) == ("literal", "string") else None
        return None

    # --- names ---

    def attribute(self, node: Node) -> AttributeReference | None:
        """The attribute that a node names, in any of its spellings."""
        if node.kind not in ("select", "optional", "index", "optional_index"):
            return None
        owner = self._owner(node.children[0])
        if owner is None:
            return None
        if node.kind in ("select", "optional"):
            return AttributeReference(owner, node.text)
        index = node.children[1]
        return AttributeReference(owner, index.value if (index.kind, index.text) == ("literal", "string") else WHOLE)

    def _owner(self, node: Node) -> str | None:
        """Return the owner of the attributes that a node is."""
        path = _path(node)
        if not path or path[0] in self._bound:
            return None
        return _OWNERS.get(path)

    def _variable(self, node: Node) -> Scalar | None:
        path = _path(node)
        if len(path) != 2 or path[0] not in ("V", "variables") or path[0] in self._bound:
            return None
        return self._names.variables.get(path[1])

    def _type(self, node: Node, listed: bool = False) -> str:
        """The type that a node has whatever the request says, "" where that is open; of the first item of a list where
        the other side is to be among them."""
        if node.kind == "literal":
            return node.text if node.text in ("number", "bool", "string") else ""
        if node.kind == "op":
            return self._type_of_op(node)
        if node.kind in ("call", "method"):
            return self._type(node.children[-1]) if node.text == "orValue" else _RESULTS.get((node.kind, node.text), "")
        if listed and node.kind == "list":
            return next(filter(None, map(self._type, node.children)), "")
        path = _path(node)
        if len(path) == 2 and path[0] in ("C", "constants"):
            constant = self._names.constants.get(path[1])
            return constant.json_type if constant is not None else ""
        return ""

    def _type_of_op(self, node: Node) -> str:
        if node.text in _ARITHMETIC or node.text == "?:":
            # not of times, which have differences, too
            operands = node.children[1:] if node.text == "?:" else node.children
            return next(filter(None, map(self._type, operands)), "")
        return "bool"

    def _use(self, attribute: AttributeReference, node: Node, known: _Known, with_: str = "") -> Use:
        guarded = attribute in known or node.kind in ("optional", "optional_index")
        return Use(attribute, self._text.place(node.at, node.end), guarded, with_)


def _joined(each: list[_Known], every: bool) -> _Known:
    """Return what is known when every one of these holds, or one of them."""
    if not each:
        return _NOTHING
    return _NOTHING.union(*each) if every else each[0].intersection(*each[1:])


def _path(node: Node) -> tuple[str, ...]:
    """`a.b.c` -> its names; () for another node."""
    if node.kind == "name":
        return (node.text,)
    if node.kind != "select":
        return ()
    head = _path(node.children[0])
    return (*head, node.text) if head else ()
