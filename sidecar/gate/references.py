"""References: `{path.id}`, `{query.doc}`, `{body.amount:number}` and their kin, and the templates made of them.

They only extract. A value that is missing, doubled or of another type than declared is a refusal, never a default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import jmespath

from sidecar.gate.codes import Code
from sidecar.gate.expressions import compile_expression
from sidecar.gate.form import Form
from sidecar.gate.identity import Principal
from sidecar.gate.query import query_value
from sidecar.gate.request import Request
from sidecar.gate.values import (
    COMPOUND,
    Type,
    check_string,
    checked,
    from_text,
    is_number,
    split_type,
    type_of,
    utf8_text,
)
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import PLAIN_NAME
from sidecar.wire.spelling import folded, respelled


class _Absent:
    """Mark of an optional reference that finds nothing."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


class ReferenceSource(StrEnum):
    """Where a reference reads."""

    PATH = "path"
    QUERY = "query"
    HEADER = "header"
    BODY = "body"
    FORM = "form"
    ARGS = "args"
    CLAIMS = "claims"
    PRINCIPAL = "principal"
    LOOKUP = "lookup"


class Reference(NamedTuple):
    """One `{source.name:type}`; `search` is the compiled JMESPath of a body reference.

    With a `?` at the end it is `optional`: where there is nothing, its value is ABSENT. `steps` are then the names that
    lead to it in a body. `names` are those in an expression that may find something without them, as `owner || 'x'`.
    """

    source: ReferenceSource
    name: str
    type: Type
    search: Any = None
    optional: bool = False
    steps: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.source}.{self.name}"


class Material(NamedTuple):
    """Parts of one request that references read. `body` is the parsed JSON, None unless the route needs it; `args` are
    the arguments of one operation that the body asks for, and `form` the form in it, where the route has such. `known`
    are the attributes that lookups have given already, by their names."""

    request: Request
    path: Mapping[str, str]
    principal: Principal
    body: Any = None
    args: Any = None
    known: Mapping[str, Any] = {}
    form: Form | None = None


class Template(NamedTuple):
    """Literal text and references in turn. One reference alone keeps its type; several parts give a string."""

    source: str
    parts: tuple[str | Reference, ...]

    @property
    def references(self) -> tuple[Reference, ...]:
        """The references among the parts, in order."""
        return tuple(part for part in self.parts if isinstance(part, Reference))

    def value(self, material: Material) -> Any:
        """The template's value for one request, ABSENT for an optional reference to nothing.

        Raises Refused: REFERENCE_INVALID, BODY_INVALID.
        """
        if len(self.parts) == 1:
            part = self.parts[0]
            return part if isinstance(part, str) else resolve(part, material)
        return "".join(part if isinstance(part, str) else resolve(part, material) for part in self.parts)


IN_JSON = frozenset((ReferenceSource.BODY, ReferenceSource.ARGS))
"""Sources that are JSON: the name of a reference to one is JMESPath."""
_REFERENCE = re.compile(r"\{([^{}]*)\}")
_NAMES = {
    ReferenceSource.PATH: re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    ReferenceSource.QUERY: re.compile(r"[A-Za-z0-9_.~-]+"),
    # names in brackets as PHP, Rails and Express read them: `contact[owner]`, `ids[]`
    ReferenceSource.FORM: re.compile(r"(?=.{1,100}$)[A-Za-z0-9_.~-]+(?:\[[A-Za-z0-9_-]*\])*"),
    ReferenceSource.HEADER: re.compile(PLAIN_NAME.pattern.decode("ascii")),
    ReferenceSource.CLAIMS: re.compile(r"[A-Za-z0-9_:./-]+"),
    ReferenceSource.PRINCIPAL: re.compile(r"id|roles|attributes\.[A-Za-z0-9_-]+"),
    ReferenceSource.LOOKUP: re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\.[A-Za-z_][A-Za-z0-9_-]*"),
}


def parse_template(text: str) -> Template:
    """Parse `text` with its `{references}`. Raises ValueError that says what was found and what was expected."""
    parts: list[str | Reference] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        parts += [_literal(text[end : match.start()]), _of_request(parse_reference(match[1]))]
        end = match.end()
    parts.append(_literal(text[end:]))
    kept = tuple(part for part in parts if part != "")
    if not kept:
        raise ValueError("found an empty text, expected a text or a {reference}")
    typed = [part for part in kept if isinstance(part, Reference) and part.type is not Type.STRING]
    if typed and len(kept) > 1:
        raise ValueError(
            f"found {{{typed[0]}:{typed[0].type}}} inside a text, expected it alone: only strings are joined"
        )
    optional = [part for part in kept if isinstance(part, Reference) and part.optional]
    if optional and len(kept) > 1:
        raise ValueError(f"found {{{optional[0]}?}} inside a text, expected it alone: an attribute is there or not")
    return Template(text, kept)


def _of_request(reference: Reference) -> Reference:
    if reference.source == ReferenceSource.LOOKUP:
        raise ValueError(
            f"found {{{reference}}}, expected it in another lookup, which stands after it: `lookup: [a, b]`"
        )
    return reference


def _literal(text: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError(f"found a lone brace in {text!r}, expected {{source.name}}")
    return text


def parse_reference(text: str) -> Reference:
    """Parse what stands between the braces: `source.name` or `source.name:type`, and `?` where it may be absent.

    Raises ValueError.
    """
    optional = text.endswith("?")
    whole = text.removesuffix("?")
    inner, typed = split_type(whole)
    kind = typed or Type.STRING
    source, _, name = inner.partition(".")
    if source not in set(ReferenceSource):
        raise ValueError(f"found {{{text}}}, expected one of {', '.join(f'{{{s}.…}}' for s in ReferenceSource)}")
    if source in IN_JSON:
        search = compile_expression(name).search
        return Reference(
            ReferenceSource(source),
            name,
            kind,
            search,
            optional,
            _steps(source, name) if optional else (),
            _loose_names(name),
        )
    if source == ReferenceSource.LOOKUP and optional:
        raise ValueError(f"found {{{text}}}, expected no '?': without it nobody knows what to ask for")
    if source == ReferenceSource.PATH and optional:
        raise ValueError(f"found {{{text}}}, expected no '?': a variable of the path is always there")
    if not _NAMES[ReferenceSource(source)].fullmatch(name):
        raise ValueError(f"found the name {name!r} in {{{text}}}, expected a name that {source} can have")
    of_text = source in (ReferenceSource.PATH, ReferenceSource.QUERY, ReferenceSource.FORM, ReferenceSource.HEADER)
    is_list = source == ReferenceSource.FORM and kind is Type.LIST
    if of_text and not is_list and (kind is Type.BOOL or kind in COMPOUND):
        raise ValueError(f"found {{{text}}}, expected a string, number or int: {source} gives text")
    return Reference(
        ReferenceSource(source), name.lower() if source == ReferenceSource.HEADER else name, kind, None, optional
    )


_PLAIN_STEPS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def _steps(source: str, expression: str) -> tuple[str, ...]:
    if not _PLAIN_STEPS.fullmatch(expression):
        raise ValueError(
            f"found {{{source}.{expression}?}}, expected names with dots between: of another expression nobody can "
            "tell whether it finds nothing or null"
        )
    return tuple(expression.split("."))


def names_in(expression: str) -> tuple[frozenset[str], bool]:
    """The names in an expression, and whether it is made of them alone: then it finds nothing where one of them is not
    there."""
    found: set[str] = set()
    rest: list[Any] = [jmespath.compile(expression).parsed]
    while rest:
        node = rest.pop()
        if node["type"] == "field":
            found.add(node["value"])
        rest += [child for child in node.get("children", ()) if isinstance(child, dict)]
    return frozenset(found), expression == "@" or _PLAIN_STEPS.fullmatch(expression) is not None


def _loose_names(expression: str) -> frozenset[str]:
    names, is_plain = names_in(expression)
    return frozenset() if is_plain else names


# a look at a member of an enum costs as much as three calls
_BODY, _ARGS, _CLAIMS, _PRINCIPAL, _PATH, _QUERY, _LOOKUP, _FORM = (
    ReferenceSource.BODY,
    ReferenceSource.ARGS,
    ReferenceSource.CLAIMS,
    ReferenceSource.PRINCIPAL,
    ReferenceSource.PATH,
    ReferenceSource.QUERY,
    ReferenceSource.LOOKUP,
    ReferenceSource.FORM,
)


def resolve(reference: Reference, material: Material) -> Any:
    """The value that one reference finds, of its type; ABSENT where it is optional and finds nothing.

    Raises Refused: REFERENCE_INVALID, or BODY_INVALID for body, args and form, LOOKUP_INCOMPLETE and LOOKUP_MISMATCH
    for lookup.
    """
    if reference.optional and _is_absent(reference, material):
        return ABSENT
    source = reference.source
    if source is _BODY or source is _ARGS:
        return _typed_json(reference, _in_json(reference, material), Code.BODY_INVALID)
    if source is _CLAIMS or source is _PRINCIPAL:
        return _typed_json(reference, principal_value(reference, material.principal), Code.REFERENCE_INVALID)
    if source is _LOOKUP:
        return _looked_up(reference, material)
    if source is _FORM:
        return _of_form(reference, form_texts(reference, material.form))
    return _typed_text(reference, _text(reference, material))


def _in_json(reference: Reference, material: Material) -> Any:
    if reference.source is _BODY:
        return search_body(reference, material.body)
    return _one_spelling(reference.type, search_body(reference, material.args))


def form_texts(reference: Reference, form: Form | None) -> list[str]:
    """The texts of a field of a form, in order. Raises Refused(BODY_INVALID)."""
    if form is None:
        raise Refused(Code.BODY_INVALID, f"{reference}: found no form")
    return form.texts(reference.name)


def _of_form(reference: Reference, texts: list[str]) -> Any:
    if reference.type is Type.LIST:
        for text in texts:
            check_string(reference, text, Code.BODY_INVALID)
        if not texts:
            raise Refused(Code.BODY_INVALID, f"{reference}: found nothing, expected one or more")
        return texts
    if len(texts) != 1:
        raise Refused(Code.BODY_INVALID, f"{reference}: found {len(texts)}, expected one")
    if texts == [""] and reference.optional and reference.type is Type.STRING:
        # browsers send each field that nobody has filled in
        return ""
    return _typed_text(reference, texts[0], Code.BODY_INVALID)


def _looked_up(reference: Reference, material: Material) -> Any:
    lookup, _, name = reference.name.partition(".")
    value = material.known.get(lookup, {}).get(name)
    if value is None:
        raise Refused(Code.LOOKUP_INCOMPLETE, f"{{{reference}}}: found nothing, since lookups.{lookup} gave no {name}")
    return _typed_json(reference, value, Code.LOOKUP_MISMATCH)


def _one_spelling(kind: Type, value: Any) -> Any:
    """Return an argument in the one form that it has for us: an id may come as a number or as its text."""
    if kind is Type.STRING and type(value) is int and is_number(value):
        return str(value)
    return from_text(kind, value) if kind in (Type.INT, Type.NUMBER) and isinstance(value, str) else value


def _is_absent(reference: Reference, material: Material) -> bool:
    source, name = reference.source, reference.name
    if source is _BODY or source is _ARGS:
        return _is_not_in_body(reference, material.body if source is _BODY else material.args)
    if source is _CLAIMS:
        return name not in material.principal.claims
    if source is _PRINCIPAL:
        return name.startswith("attributes.") and name.removeprefix("attributes.") not in material.principal.attributes
    if source is _QUERY:
        return query_value(material.request.query, name) is None
    if source is _FORM:
        return not form_texts(reference, material.form)
    wanted = name.encode("ascii")
    return all(key != wanted for key, _ in material.request.headers)


def _is_not_in_body(reference: Reference, body: Any) -> bool:
    """Return whether a way of names ends where there is no such name; null and what is no object are no such end."""
    for name in reference.steps:
        if not isinstance(body, dict):
            raise Refused(Code.BODY_INVALID, f"{reference}: found {type_of(body)} before {name!r}, expected an object")
        if name not in body:
            if (other := next((key for key in body if folded(key) == folded(name)), None)) is not None:
                raise Refused(Code.BODY_INVALID, f"{reference}: found {other[:64]!r}, expected {name!r}")
            return True
        body = body[name]
    return False


def search_body(reference: Reference, body: Any) -> Any:
    """Return what a reference finds in a body, of any type; None where it is nothing. Raises Refused(BODY_INVALID)."""
    if reference.names and (other := respelled(body, reference.names)) is not None:
        raise Refused(Code.BODY_INVALID, f"{reference}: found {other[:64]!r}, another spelling of a name that it reads")
    try:
        return reference.search(body)
    except Exception as error:  # noqa: BLE001 - whatever a body does to an expression is the body's fault
        raise Refused(Code.BODY_INVALID, f"{reference}: {type(error).__name__}") from None


def principal_value(reference: Reference, principal: Principal) -> Any:
    """The value of a claim, or of what the principal is made of, as it is; None where there is none."""
    name = reference.name
    if reference.source is _CLAIMS:
        return principal.claims.get(name)
    if name == "id":
        return principal.id
    return list(principal.roles) if name == "roles" else principal.attributes.get(name.removeprefix("attributes."))


def _text(reference: Reference, material: Material) -> str:
    if reference.source is _PATH:
        return material.path[reference.name]
    if reference.source is _QUERY:
        value = query_value(material.request.query, reference.name)
        if value is None:
            raise Refused(Code.REFERENCE_INVALID, f"{reference}: found nothing, expected one")
        return value
    return _header_value(material.request, reference.name)


def _header_value(request: Request, name: str) -> str:
    wanted = name.encode("ascii")
    values = [value for key, value in request.headers if key == wanted]
    if len(values) != 1:
        raise Refused(Code.REFERENCE_INVALID, f"header.{name}: found {len(values)}, expected one")
    return utf8_text(values[0], f"header.{name}")


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,15})?")
_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,15})")


def _typed_text(reference: Reference, text: str, code: Code = Code.REFERENCE_INVALID) -> Any:
    check_string(reference, text, code)
    if reference.type is Type.STRING:
        return text
    pattern = _INT if reference.type is Type.INT else _NUMBER
    if not pattern.fullmatch(text):
        raise Refused(code, f"{reference}: expected {reference.type}")
    return checked(reference.type, int(text) if _INT.fullmatch(text) else float(text), str(reference), code)


def _typed_json(reference: Reference, value: Any, code: Code) -> Any:
    return checked(reference.type, value, str(reference), code)
