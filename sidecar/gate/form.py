"""Fields of a form that references read: each under one name, in one spelling, and nowhere else in the request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from sidecar.gate.codes import Code
from sidecar.gate.query import are_one, names_of, query_values
from sidecar.gate.verdict import Refused
from sidecar.wire.multipart import MultipartReader, boundary_of
from sidecar.wire.urlencoded import FormField, fields_of

MAX_FIELDS = 512
"""Of one form, files included. With as many parameters as are read it is less than PHP, Django, qs and Tomcat take:
none of them leaves out a field that is read here."""
MAX_URLENCODED = 1024 * 1024
"""Bytes of a form that is not multipart, which is held as a whole while it is read."""
_URLENCODED = re.compile(
    rb"application/x-www-form-urlencoded(?:[ \t]*;[ \t]*charset=(?:utf-8|\"utf-8\"))?", re.IGNORECASE
)
CHARSET = "_charset_"
"""Field by which a form says in which encoding its texts are (RFC 7578 section 4.6): some servers obey it."""
OVERRIDES = ("_method", "x-http-method-override")
"""Fields that Rails, Laravel, Spring and ASP.NET take for the method of the request."""


class FormRule(NamedTuple):
    """Names that the rule of a method reads in forms, and the parameters that it reads in, or puts into, the query."""

    names: frozenset[str]
    parameters: frozenset[str]


class Form:
    """Fields of one form in order."""

    def __init__(self, fields: Sequence[FormField]) -> None:
        self._fields = [(field, names_of(field.name)) for field in fields]

    def texts(self, name: str) -> list[str]:
        """The texts of all fields of this name. Raises Refused(BODY_INVALID) where one has a spelling that only some
        take for it, or is no text."""
        found = self._taken_for(name)
        if not found:
            self.require_none(f"_{name}", f"which Spring takes for an empty {name!r} where there is none")
        for field in found:
            if field.name != name:
                raise Refused(
                    Code.BODY_INVALID, f"form.{name}: found {field.name[:64]!r}, which some servers take for it"
                )
            if field.text is None:
                raise Refused(Code.BODY_INVALID, f"form.{name}: found {field.description}, expected a text")
        return [field.text for field in found if field.text is not None]

    def require_none(self, name: str, where: str) -> None:
        """Refuse a form that has a field which some server takes for this name. Raises Refused(BODY_INVALID)."""
        if found := self._taken_for(name):
            raise Refused(Code.BODY_INVALID, f"found the field {found[0].name[:64]!r} in the form, {where}")

    def _taken_for(self, name: str) -> list[FormField]:
        wanted = names_of(name)
        return [field for field, names in self._fields if are_one(names, wanted)]


class FormReader(Protocol):
    """Reader of one body, of at most so many bytes. Both methods raise ValueError."""

    most: int | None

    def feed(self, data: bytes) -> None:
        """Read the next bytes."""

    def end(self) -> list[FormField]:
        """The fields, when all bytes were fed."""


class _Urlencoded:
    most: int | None = MAX_URLENCODED

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self._pieces.append(data)

    def end(self) -> list[FormField]:
        return fields_of(b"".join(self._pieces), MAX_FIELDS)


class _Multipart(MultipartReader):
    most: int | None = None


def reader_of(content_type: bytes) -> FormReader | None:
    """Return the reader of a form of that type; None for any other type, and for one that servers may read
    differently."""
    if _URLENCODED.fullmatch(content_type):
        return _Urlencoded()
    boundary = boundary_of(content_type)
    return None if boundary is None else _Multipart(boundary, MAX_FIELDS)


def judged(fields: Sequence[FormField], query: bytes, rule: FormRule) -> Form:
    """The form that these fields make, with a request that has this query. Raises Refused: BODY_INVALID,
    REFERENCE_INVALID."""
    form = Form(fields)
    form.require_none(CHARSET, "which changes the encoding of the others for some servers")
    for name in _unread(OVERRIDES, rule.names):
        form.require_none(name, "which some servers take for the method, and which the rule does not read")
    if query:
        for name in rule.names:
            if query_values(query, name):
                # a servlet takes the parameter first, Go and Rails the field
                raise Refused(Code.REFERENCE_INVALID, f"form.{name}: found it in the query, too")
    for name in rule.parameters - rule.names:
        form.require_none(name, "expected it in the query alone: many servers put both together")
    return form


def _unread(names: Iterable[str], read: frozenset[str]) -> list[str]:
    return [name for name in names if name not in read]
