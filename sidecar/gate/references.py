"""References: `{path.id}`, `{query.doc}`, `{body.amount:number}` and their kin, and the templates made of them.

They only extract. A value that is missing, doubled or of another type than declared is a refusal, never a default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import jmespath
from jmespath.exceptions import JMESPathError

from sidecar.gate.identity import Principal
from sidecar.gate.request import Request
from sidecar.gate.values import CONTROLS, Type, check_string, checked
from sidecar.gate.verdict import Code, Refused

MAX_PARAMETERS = 256
"""Of a query that a reference reads."""


class Source(StrEnum):
    """Where a reference reads."""

    PATH = "path"
    QUERY = "query"
    HEADER = "header"
    BODY = "body"
    CLAIMS = "claims"
    PRINCIPAL = "principal"


class Reference(NamedTuple):
    """One `{source.name:type}`; `search` is the compiled JMESPath of a body reference."""

    source: Source
    name: str
    type: Type
    search: Any = None

    def __str__(self) -> str:
        return f"{self.source}.{self.name}"


class Material(NamedTuple):
    """What the references of one request read. `body` is the parsed JSON, None unless the route needs it."""

    request: Request
    path: Mapping[str, str]
    principal: Principal
    body: Any = None


class Template(NamedTuple):
    """Literal text and references in turn. One reference alone keeps its type; several parts give a string."""

    source: str
    parts: tuple[str | Reference, ...]

    @property
    def references(self) -> tuple[Reference, ...]:
        """The references among the parts, in order."""
        return tuple(part for part in self.parts if isinstance(part, Reference))

    def value(self, material: Material) -> Any:
        """The template's value for one request. Raises Refused: REFERENCE_INVALID, BODY_INVALID."""
        if len(self.parts) == 1:
            part = self.parts[0]
            return part if isinstance(part, str) else resolve(part, material)
        return "".join(part if isinstance(part, str) else resolve(part, material) for part in self.parts)


_REFERENCE = re.compile(r"\{([^{}]*)\}")
_TYPED = re.compile(r"(.*):(string|number|int|bool|list)", re.DOTALL)
_NAMES = {
    Source.PATH: re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    Source.QUERY: re.compile(r"[A-Za-z0-9_.~-]+"),
    Source.HEADER: re.compile(r"[A-Za-z0-9-]+"),
    Source.CLAIMS: re.compile(r"[A-Za-z0-9_:./-]+"),
    Source.PRINCIPAL: re.compile(r"id|roles|attributes\.[A-Za-z0-9_-]+"),
}


def parse_template(text: str) -> Template:
    """Parse `text` with its `{references}`. Raises ValueError that says what was found and what was expected."""
    parts: list[str | Reference] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        parts += [_literal(text[end : match.start()]), parse_reference(match[1])]
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
    return Template(text, kept)


def _literal(text: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError(f"found a lone brace in {text!r}, expected {{source.name}}")
    return text


def parse_reference(text: str) -> Reference:
    """Parse what stands between the braces: `source.name` or `source.name:type`. Raises ValueError."""
    typed = _TYPED.fullmatch(text)
    inner, kind = (typed[1], Type(typed[2])) if typed else (text, Type.STRING)
    source, _, name = inner.partition(".")
    if source not in set(Source):
        raise ValueError(f"found {{{text}}}, expected one of {', '.join(f'{{{s}.…}}' for s in Source)}")
    if source == Source.BODY:
        return Reference(Source.BODY, name, kind, _compile(name))
    if not _NAMES[Source(source)].fullmatch(name):
        raise ValueError(f"found the name {name!r} in {{{text}}}, expected a name that {source} can have")
    if source in (Source.PATH, Source.QUERY, Source.HEADER) and kind in (Type.BOOL, Type.LIST):
        raise ValueError(f"found {{{text}}}, expected a string, number or int: {source} gives text")
    return Reference(Source(source), name.lower() if source == Source.HEADER else name, kind)


def _compile(expression: str) -> Any:
    try:
        return jmespath.compile(expression).search
    except JMESPathError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"found {expression!r}, expected a JMESPath expression: {reason}") from None


# a look at a member of an enum costs as much as three calls
_BODY, _CLAIMS, _PRINCIPAL, _PATH, _QUERY = Source.BODY, Source.CLAIMS, Source.PRINCIPAL, Source.PATH, Source.QUERY


def resolve(reference: Reference, material: Material) -> Any:
    """The value that one reference finds, of its type. Raises Refused: REFERENCE_INVALID, or BODY_INVALID for body."""
    source = reference.source
    if source is _BODY:
        return _typed_json(reference, _search(reference, material.body), Code.BODY_INVALID)
    if source is _CLAIMS:
        return _typed_json(reference, material.principal.claims.get(reference.name), Code.REFERENCE_INVALID)
    if source is _PRINCIPAL:
        return _typed_json(reference, _of_principal(material.principal, reference.name), Code.REFERENCE_INVALID)
    return _typed_text(reference, _text(reference, material))


def _search(reference: Reference, body: Any) -> Any:
    try:
        return reference.search(body)
    except (JMESPathError, ArithmeticError, ValueError) as error:
        # the last two: functions such as floor() of what to_number() made of "inf" or "nan"
        raise Refused(Code.BODY_INVALID, f"{reference}: {type(error).__name__}") from None


def _of_principal(principal: Principal, name: str) -> Any:
    if name == "id":
        return principal.id
    return list(principal.roles) if name == "roles" else principal.attributes.get(name.removeprefix("attributes."))


def _text(reference: Reference, material: Material) -> str:
    if reference.source is _PATH:
        return material.path[reference.name]
    if reference.source is _QUERY:
        return query_value(material.request.query, reference.name)
    return _header_value(material.request, reference.name)


def _header_value(request: Request, name: str) -> str:
    wanted = name.encode("ascii")
    values = [value for key, value in request.headers if key == wanted]
    if len(values) != 1:
        raise Refused(Code.REFERENCE_INVALID, f"header.{name}: found {len(values)}, expected one")
    return _decoded(values[0], f"header.{name}")


def query_value(query: bytes, name: str) -> str:
    """The one value of a query parameter, decoded as a form does. Raises Refused: REFERENCE_INVALID.

    The name may come in one spelling and once only, as frameworks differ in which of several they take, in whether
    case or a `[` in the name matters, in whether `.` and a space become `_`, and in whether `;` separates.
    """
    place = f"query.{name}"
    if b";" in query:
        raise Refused(Code.REFERENCE_INVALID, f"{place}: a ';' in the query")
    if query.count(b"&") >= MAX_PARAMETERS:
        raise Refused(Code.REFERENCE_INVALID, f"{place}: more than {MAX_PARAMETERS} parameters")
    pairs = [pair.partition(b"=") for pair in query.split(b"&")]
    keys = [_decoded(_form(key), place) for key, _, _ in pairs]
    # a NUL ends a name for some
    if any(CONTROLS.search(key) for key in keys):
        raise Refused(Code.REFERENCE_INVALID, f"{place}: a control character in a name")
    wanted = name.casefold().translate(_MANGLED)
    found = [pair[2] for key, pair in zip(keys, pairs, strict=True) if wanted in _taken_for(key)]
    exact = [value for key, _, value in pairs if _form(key) == name.encode("ascii")]
    if len(found) != 1 or found != exact:
        raise Refused(Code.REFERENCE_INVALID, f"{place}: found {len(found)}, expected one")
    return _decoded(_form(exact[0]), place)


_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def _form(data: bytes) -> bytes:
    if _BROKEN_ESCAPE.search(data):
        raise Refused(Code.REFERENCE_INVALID, "a broken escape in the query")
    return unquote_to_bytes(data.replace(b"+", b" "))


_MANGLED = str.maketrans(". [", "___")


def _taken_for(key: str) -> set[str]:
    """The names that a key may have to a framework: `a[b]` is `a`; '.', ' ' and a '[' that nothing closes are '_'."""
    folded = key.strip().casefold()
    return {folded.partition("[")[0].strip().translate(_MANGLED), folded.translate(_MANGLED)}


def _decoded(data: bytes, place: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(Code.REFERENCE_INVALID, f"{place}: not UTF-8") from None


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,15})?")
_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,15})")


def _typed_text(reference: Reference, text: str) -> Any:
    check_string(reference, text, Code.REFERENCE_INVALID)
    if reference.type is Type.STRING:
        return text
    pattern = _INT if reference.type is Type.INT else _NUMBER
    if not pattern.fullmatch(text):
        raise Refused(Code.REFERENCE_INVALID, f"{reference}: expected {reference.type}")
    return checked(reference.type, int(text) if _INT.fullmatch(text) else float(text), str(reference))


def _typed_json(reference: Reference, value: Any, code: Code) -> Any:
    return checked(reference.type, value, str(reference), code)
