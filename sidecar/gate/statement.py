"""A lookup's SQL statement: its text cut at named parameters, and what of a request is bound to each, by its type."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from sidecar.gate.codes import Code
from sidecar.gate.lookup import ResourceField
from sidecar.gate.references import Material, Reference, ReferenceSource, parse_reference, resolve
from sidecar.gate.values import COMPOUND, Type, check_string, from_text, type_of
from sidecar.gate.verdict import Refused

MAX_STATEMENT = 8192
"""Characters of a statement."""
MAX_PARAMETERS = 32
"""Different parameters of a statement."""


class Binding(StrEnum):
    """Type that a parameter is bound as: that of the column which it is compared with."""

    STRING = "string"
    INT = "int"
    NUMBER = "number"
    BOOL = "bool"
    UUID = "uuid"


class SqlDialect(StrEnum):
    """Kind of a database, named as in its URL."""

    POSTGRESQL = "postgresql"
    MYSQL = "mysql"
    SQLITE = "sqlite"


class Database:
    """A database: the environment variable that has its URL, and that URL, which has a password in it and is never
    shown."""

    __slots__ = ("dialect", "url", "variable")

    def __init__(self, variable: str, url: str, dialect: SqlDialect) -> None:
        self.variable = variable
        self.url = url
        self.dialect = dialect

    def __repr__(self) -> str:
        return f"Database({self.variable})"


class Parameter(NamedTuple):
    """A named parameter, the value of the request that fills it, and the type that it is bound as."""

    name: str
    value: Reference | ResourceField
    type: Binding = Binding.STRING

    def __str__(self) -> str:
        return f":{self.name}" + (f" {self.type}" if self.type is not Binding.STRING else "")


class Statement(NamedTuple):
    """An `Inquiry`: one SELECT at `database`. `parts` are SQL and parameters in turn, `parameters` those in the order
    of their values in a question. `source` names the variable, and tells the statement from others."""

    database: Database
    parts: tuple[str | Parameter, ...]
    parameters: tuple[Parameter, ...]
    source: str

    @property
    def values(self) -> tuple[Reference | ResourceField, ...]:
        """The values that fill the parameters."""
        return tuple(parameter.value for parameter in self.parameters)

    @property
    def sql(self) -> str:
        """The statement as it is written, on one line."""
        text = "".join(part if isinstance(part, str) else f":{part.name}" for part in self.parts)
        return " ".join(text.split())

    def fill(self, kind: str, resource_id: str, material: Material) -> str:
        """The values of one request, as JSON; where it is asked about many, all but the id. Raises Refused."""
        values = [bound(each, _found(each.value, kind, resource_id, material)) for each in self.parameters]
        at = self._list_at
        if at is not None:
            values[at] = []
        return _question(values)

    @property
    def longest(self) -> None:
        """See `BatchInquiry`: no line of a server cuts it."""

    def join(self, question: str, ids: Sequence[str]) -> str:
        """The values for these ids, which are a list among them. Raises Refused."""
        at, values = self._list_at, asked_values(question)
        if at is not None:
            values[at] = [bound(self.parameters[at], each) for each in ids]
        return _question(values)

    @property
    def _list_at(self) -> int | None:
        return next((at for at, each in enumerate(self.parameters) if each.value is ResourceField.IDS), None)

    def sample(self, texts: Mapping[Binding, str], kind: str) -> str:
        """The same without a request: the kind, and a text in place of each other value of a type."""
        return _question(
            [
                [] if each.value is ResourceField.IDS
                else bound(each, kind if each.value is ResourceField.KIND else texts[each.type])
                for each in self.parameters
            ]
        )  # fmt: skip

    def sample_id(self, texts: Mapping[Binding, str], otherwise: str) -> str:
        """The text of the type that the ids have where it is asked about many, else another one."""
        at = self._list_at
        return otherwise if at is None else texts[self.parameters[at].type]

    def shown(self, question: str) -> str:
        """The statement and its parameters as a person reads them. The values stay out: a claim may be private."""
        return f"{self.database.variable}: {self.sql} ({', '.join(map(str, self.parameters))})"

    def has_one_spelling(self, field: ResourceField) -> bool:
        """Return whether each parameter that a field of the resource fills takes one spelling of each value alone."""
        own = [each.type for each in self.parameters if each.value is field]
        return bool(own) and Binding.STRING not in own


def asked_values(question: str) -> list[Any]:
    """The values in a question, in the order of the parameters."""
    values: list[Any] = json.loads(question)
    return values


def _question(values: list[Any]) -> str:
    return json.dumps(values, separators=(",", ":"))


def _found(value: Reference | ResourceField, kind: str, resource_id: str, material: Material) -> Any:
    if isinstance(value, Reference):
        return resolve(value, material)
    return kind if value is ResourceField.KIND else resource_id


_TYPES = {Binding.INT: Type.INT, Binding.NUMBER: Type.NUMBER, Binding.BOOL: Type.BOOL}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def bound(parameter: Parameter, value: Any) -> Any:
    """A value as the JSON that is bound. A text has to be the one spelling of its type: a database takes `07`, `+7` and
    `7.0` for 7, and then tells of another row. Raises Refused(REFERENCE_INVALID)."""
    if isinstance(value, str):
        check_string(f":{parameter.name}", value, Code.REFERENCE_INVALID)
        wanted = _TYPES.get(parameter.type)
        value = from_text(wanted, value) if wanted is not None else value
    if not _IS[parameter.type](value):
        raise Refused(
            Code.REFERENCE_INVALID, f":{parameter.name}: found {type_of(value)}, expected {_EXPECTED[parameter.type]}"
        )
    return value


def _is_text(value: Any) -> bool:
    # a lone surrogate is a character that no database can store
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= each <= "\udfff" for each in value))


_IS: Mapping[Binding, Callable[[Any], bool]] = {
    Binding.STRING: _is_text,
    Binding.INT: lambda value: type(value) is int,
    Binding.NUMBER: lambda value: type(value) in (int, float),
    Binding.BOOL: lambda value: isinstance(value, bool),
    Binding.UUID: lambda value: isinstance(value, str) and _UUID.fullmatch(value) is not None,
}
_EXPECTED = {
    Binding.STRING: "a text",
    Binding.INT: "an int, as 7",
    Binding.NUMBER: "a number, as 7 or 7.5",
    Binding.BOOL: "true or false",
    Binding.UUID: "a UUID in lower case",
}

_VALUE = re.compile(r"\{([^{}]*)\}")
_OF_IDS = frozenset((Binding.STRING, Binding.INT, Binding.UUID))


def parse_value(text: str) -> tuple[Reference | ResourceField, Binding]:
    """Parse what fills a parameter: `{id}`, `{id:int}`, `{principal.id:uuid}`. Raises ValueError."""
    match = _VALUE.fullmatch(text)
    if match is None:
        raise ValueError(f"found {text!r}, expected one value in braces, such as {{id:int}} or {{principal.id}}")
    inner, _, word = match[1].rpartition(":")
    own = inner in (*ResourceField, "principal.id")
    if inner == ResourceField.IDS and word not in _OF_IDS:
        raise ValueError(f"found {text!r}, expected {{ids}}, {{ids:int}} or {{ids:uuid}}: each is compared as a text")
    if inner and (word == Binding.UUID or (own and word in set(Binding))):
        # these are texts: the type is that of the column, and the text has to be in its one spelling
        return _field_or_reference(inner), Binding(word)
    value = _field_or_reference(match[1])
    return value, Binding(value.type) if isinstance(value, Reference) else Binding.STRING


def _field_or_reference(text: str) -> Reference | ResourceField:
    if text in set(ResourceField):
        return ResourceField(text)
    reference = parse_reference(text)
    if reference.optional:
        raise ValueError(f"found {{{text}}}, expected no '?': only an attribute of a route may be left out")
    if reference.type in COMPOUND or (reference.source is ReferenceSource.PRINCIPAL and reference.name == "roles"):
        raise ValueError(f"found {{{text}}}, expected a {', '.join(Binding)}: it is one value of a statement")
    return reference


_TOKEN = re.compile(
    r"""(?P<quoted>'[^']*'|"[^"]*"|`[^`]*`)|(?P<cast>::|:=)|:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<other>.)""", re.DOTALL
)
_BEGINS = re.compile(r"\s*(?:select|with)\b", re.IGNORECASE)
_WRITES = re.compile(
    r"\b(?:insert\s+into|delete\s+from|merge\s+into|replace\s+into|update\s+\S+\s+set|into)\b", re.IGNORECASE
)
_REFUSED = {
    "\\": "a backslash, expected none: databases read it in different ways",
    "--": "a comment, expected none: YAML has its own",
    "/*": "a comment, expected none: YAML has its own",
    ";": "';', expected one statement without it",
    "$": "'$', expected named parameters (:id) and texts in '…'",
    "{": "a brace, expected named parameters (:id); `parameters` says what fills them",
}
_REFUSED_OF = {
    SqlDialect.MYSQL: {"#": "'#', which begins a comment there, expected none", "?": "'?', expected named parameters"},
    SqlDialect.SQLITE: {"?": "'?', expected named parameters (:id)", "@": "'@', expected named parameters (:id)"},
}


def statement_of(
    text: str, database: Database, filled: Mapping[str, tuple[Reference | ResourceField, Binding]]
) -> Statement:
    """Make the statement of a text; `filled` says what fills a parameter that is no `:id` or `:kind`.

    Raises ValueError that says what was found and expected.
    """
    if len(text) > MAX_STATEMENT:
        raise ValueError(f"found {len(text)} characters, expected at most {MAX_STATEMENT}: make a view of it")
    parts, unquoted = _cut(text)
    _check_text(text, unquoted, database.dialect)
    named = {name: _parameter(name, filled) for name in parts[1::2]}
    _check_lists(parts, named)
    if not named:
        raise ValueError("found no parameter, expected at least one, such as :id: the row depends on the request")
    if len(named) > MAX_PARAMETERS:
        raise ValueError(f"found {len(named)} parameters, expected at most {MAX_PARAMETERS}")
    unused = sorted(set(filled) - set(named))
    if unused:
        raise ValueError(f"found no :{unused[0]}, which `parameters` names, expected it in the statement")
    whole = tuple(part if at % 2 == 0 else named[part] for at, part in enumerate(parts))
    kinds = tuple((each.name, str(each.value), each.type) for each in named.values())
    digest = hashlib.sha256(repr((text, kinds)).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return Statement(database, whole, tuple(named.values()), f"{database.variable} (statement {digest})")


def _cut(text: str) -> tuple[list[str], str]:
    """A text as SQL and names of parameters in turn, and what of it is outside of quotes."""
    parts, unquoted = [""], ""
    for token in _TOKEN.finditer(text):
        if token["name"] is not None:
            parts += [token["name"], ""]
            unquoted += " "
        else:
            parts[-1] += token[0]
            unquoted += "''" if token["quoted"] is not None else token[0]
    return parts, unquoted


def _check_text(text: str, unquoted: str, dialect: SqlDialect) -> None:
    if not _BEGINS.match(text):
        raise ValueError(f"found {' '.join(text.split())[:32]!r}, expected a statement that begins with SELECT or WITH")
    if "\\" in text:
        raise ValueError(f"found {_REFUSED[chr(92)]}")
    bare = unquoted.replace("''", "")
    lone = next((quote for quote in "'\"`" if quote in bare), None)
    if lone is not None:
        raise ValueError(f"found {lone} without its other one, expected both")
    for sign, told in (_REFUSED | _REFUSED_OF.get(dialect, {})).items():
        if sign in bare:
            raise ValueError(f"found {told}")
    writes = _WRITES.search(bare)
    if writes is not None:
        raise ValueError(f"found {' '.join(writes[0].split())!r}, expected a statement that only reads")


_IN = re.compile(r"(?<![A-Za-z0-9_])(not\s+)?in\s+$", re.IGNORECASE)


def _check_lists(parts: Sequence[str], named: Mapping[str, Parameter]) -> None:
    """Hold a parameter of many ids to the one place where a list can stand. Raises ValueError."""
    places = [at for at, name in enumerate(parts) if at % 2 and named[name].value is ResourceField.IDS]
    for at in places:
        before = _IN.search(parts[at - 1])
        if len(places) > 1 or before is None or before[1]:
            raise ValueError(
                f"found :{parts[at]} elsewhere, expected it once, as `id in :{parts[at]}` without brackets"
            )


def _parameter(name: str, filled: Mapping[str, tuple[Reference | ResourceField, Binding]]) -> Parameter:
    known = {str(field): (field, Binding.STRING) for field in ResourceField}
    value = filled.get(name) or known.get(name)
    if value is None:
        raise ValueError(
            f'found :{name}, expected :id, :kind, or what fills it: `parameters: {{{name}: "{{principal.id}}"}}`'
        )
    return Parameter(name, *value)
