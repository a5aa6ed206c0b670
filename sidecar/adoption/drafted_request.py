"""A recorded request, written again: which headers, body, claims and replies make the route find what the line says.

Only what can be turned round is: a reference alone, and an expression of names. Where the log leaves out a value, one
is made up, and named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from sidecar.config.routes.file import RoutesFile
from sidecar.gate.ask import Ask
from sidecar.gate.each import Each
from sidecar.gate.expressions import names_path
from sidecar.gate.identity import PrincipalRules
from sidecar.gate.lookup import Attribute, Lookup, id_text, search_in
from sidecar.gate.references import Reference, ReferenceSource, Template
from sidecar.gate.values import Type
from sidecar.record.line import Decision, QuestionLine

Recorded = Decision | QuestionLine
SOMEBODY_ELSE = "somebody-else"
_ABSENT = object()


class Undraftable(Exception):
    """A line of which no case can be made, and why."""


class LoggedAttributes:
    """Attributes of the resource, as far as a line tells them. What it leaves out is made up: the principal's id if the
    thing is to be `own` and the line may say so, else another's."""

    def __init__(self, line: Recorded, *, own: bool) -> None:
        self._line = line
        self._own = own
        self.made_up: dict[str, None] = {}

    def value(self, name: str, kind: Type | None, known: Mapping[str, Any] | None = None) -> Any:
        """Return the value of an attribute; _ABSENT where the line says that there is none."""
        line = self._line
        of_line = line.attributes if isinstance(line, QuestionLine) else None
        attributes = of_line if known is None else known
        if attributes is not None and name in attributes:
            return attributes[name]
        if isinstance(line, QuestionLine) and name in (line.owner or ()):
            return _as(line.principal, kind)
        if isinstance(line, QuestionLine) and line.asked and f"resource.{name}" not in (line.redacted or ()):
            return _ABSENT
        self.made_up[name] = None
        return _as(line.principal, kind) if self._own and not self._names_owners else self._another(kind)

    @property
    def _names_owners(self) -> bool:
        """True if every attribute that is the principal's id is in the line's `owner`."""
        line = self._line
        return isinstance(line, QuestionLine) and line.asked and line.resources is None

    def _another(self, kind: Type | None) -> Any:
        value = _as(SOMEBODY_ELSE, kind)
        return value if str(value) != self._line.principal else _as("1", kind)


def _as(text: str, kind: Type | None) -> Any:
    """A text as a value of a type."""
    if kind in (Type.INT, Type.NUMBER):
        return int(text) if text.isdecimal() else 0
    return {Type.BOOL: False, Type.LIST: [], Type.JSON: {}}.get(kind, text) if kind is not None else text


class DraftedRequest:
    """Request that grows piece by piece, with what lookups have to tell."""

    def __init__(self, line: Recorded) -> None:
        self._line = line
        self.claims: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        self.lookups: dict[str, dict[str, Any]] = {}
        self.body: Any = None
        self.form: dict[str, list[str]] = {}
        self._query: list[tuple[str, str]] = []

    @property
    def target(self) -> str:
        """The path, with what was put into the query."""
        query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in self._query)
        return f"{self._line.path}?{query}" if query else self._line.path

    def put(self, reference: Reference, value: Any) -> None:
        """Let a reference find a value. Raises Undraftable."""
        match reference.source:
            case ReferenceSource.HEADER:
                self.headers[reference.name] = _text(value)
            case ReferenceSource.QUERY:
                self._query.append((reference.name, _text(value)))
            case ReferenceSource.BODY:
                self.body = nested(self.body, _names(f"body.{reference.name}", reference.name), value)
            case ReferenceSource.FORM:
                texts = value if isinstance(value, list) else [value]
                self.form[reference.name] = [_text(text) for text in texts]
            case ReferenceSource.CLAIMS:
                self.claims[reference.name] = value
            case _:
                # the path and the principal are as the line has them
                pass

    def put_template(self, name: str, template: Template, value: Any) -> None:
        """As `put`, for a template. Raises Undraftable for one of several parts that are not known."""
        if len(template.parts) == 1 and isinstance(template.parts[0], Reference):
            self.put(template.parts[0], value)
            return
        if not _is_given(template):
            raise Undraftable(f"`{name}` is made of several parts of the request, which the log does not have apart")

    def put_lookup(self, lookup: Lookup, resource_id: str, reply: Any) -> None:
        """Say what a lookup tells about a resource."""
        self.lookups.setdefault(lookup.name, {})[resource_id] = reply


def _is_given(template: Template) -> bool:
    """Return whether a template finds all that it needs in a path and a principal that are as the line has them."""
    given = (ReferenceSource.PATH, ReferenceSource.PRINCIPAL)
    return all(reference.source in given for reference in template.references)


def put_principal(made: DraftedRequest, line: Recorded, rules: PrincipalRules) -> None:
    """Put the claims of the principal into a token. Raises Undraftable."""
    claims = made.claims
    if rules.id != "sub":
        claims[rules.id] = line.principal
    if isinstance(line, Decision) and line.roles_cut:
        raise Undraftable(f"the line leaves out {line.roles_cut} roles of the principal")
    if line.roles and set(line.roles) != set(rules.default_roles):
        claims[rules.roles[0].name] = list(line.roles)
    known = line.principal_attributes if isinstance(line, QuestionLine) else None
    for name, claim in rules.attributes.items():
        if known is not None and name in known:
            claims[claim.name] = known[name]
        elif line.kind and (
            name not in rules.optional or (isinstance(line, QuestionLine) and _is_redacted(line, name))
        ):
            raise Undraftable(
                f"the log leaves out the principal's attribute {name}: list principal.{name} in "
                "SIDECAR_QUESTION_LOG_ATTRIBUTES"
            )


def _is_redacted(line: QuestionLine, name: str) -> bool:
    return f"principal.{name}" in (line.redacted or ())


def put_resource(
    made: DraftedRequest,
    line: Recorded,
    ask: Ask,
    routes: RoutesFile,
    logged_attributes: LoggedAttributes,
    *,
    missing: bool,
) -> None:
    """Let the route find the resource and its attributes. Raises Undraftable."""
    if ask.operations is not None:
        raise Undraftable("its body says what is asked, and the log leaves bodies out")
    if ask.id is not None:
        made.put_template("id", ask.id, line.id)
    for name, template in ask.attributes.items():
        put_attribute(made, name, template, logged_attributes)
    for lookup in map(routes.lookups.__getitem__, ask.lookup):
        made.put_lookup(lookup, line.id, "missing" if missing else document_of(lookup, line.id, logged_attributes))
    if ask.each is not None:
        _put_each(made, line, ask.each, routes, logged_attributes)


def put_attribute(made: DraftedRequest, name: str, template: Template, logged_attributes: LoggedAttributes) -> None:
    """Let a template find an attribute. Raises Undraftable."""
    if _is_given(template):
        return
    value = logged_attributes.value(name, template.references[0].type)
    if value is not _ABSENT:
        made.put_template(name, template, value)


def document_of(
    lookup: Lookup, resource_id: str, logged_attributes: LoggedAttributes, known: Mapping[str, Any] | None = None
) -> Any:
    """Return what a lookup must tell, so that its attributes are found. Raises Undraftable."""
    document = filled(lookup.attributes, logged_attributes, known)
    if lookup.echo is not None and id_text(search_in(lookup.echo, document)) != resource_id:
        expression = lookup.echo.__self__.expression
        document = nested(document, _names(f"lookups.{lookup.name}.echo", expression), resource_id)
    return document if document is not None else {}


def filled(
    attributes: Mapping[str, Attribute], logged_attributes: LoggedAttributes, known: Mapping[str, Any] | None = None
) -> Any:
    """Return a document in which attributes are found; None where it needs nothing. Raises Undraftable."""
    document: Any = None
    for name, attribute in attributes.items():
        value = logged_attributes.value(name, attribute.type, known)
        if value is not _ABSENT:
            document = nested(document, _names(name, attribute.expression), value)
    return document


def _put_each(
    made: DraftedRequest, line: Recorded, each: Each, routes: RoutesFile, logged_attributes: LoggedAttributes
) -> None:
    """Let a route about many find its resources. Raises Undraftable."""
    resources = _resources(line)
    elements: list[Any] = []
    for resource_id, known in resources:
        whole: Any = int(resource_id) if each.id.type is Type.INT and resource_id.isdecimal() else resource_id
        element = nested(None, _names("each.id", each.id.expression), whole)
        for name, attribute in each.attributes.items():
            value = logged_attributes.value(name, attribute.type, known)
            if value is not _ABSENT:
                element = nested(element, _names(f"each.{name}", attribute.expression), value)
        elements.append(element)
        for lookup in map(routes.lookups.__getitem__, each.lookup):
            made.put_lookup(lookup, resource_id, document_of(lookup, resource_id, logged_attributes, known))
    if each.separator:
        made.put(each.at, each.separator.join(map(_text, elements)))
    elif each.at.source is not ReferenceSource.QUERY:
        made.put(each.at, elements)
    else:
        for element in elements:
            made.put(each.at, element)


def _resources(line: Recorded) -> list[tuple[str, Mapping[str, Any] | None]]:
    if isinstance(line, QuestionLine):
        if line.resources is None or line.missing:
            raise Undraftable("the line does not have all of its resources")
        return [(str(one["id"]), _attributes(one)) for one in line.resources]
    ids = (line.each or {}).get("ids", ())
    if not ids or line.each is None or line.each.get("asked") != len(ids):
        raise Undraftable("the line does not have all of its resources")
    return [(str(one), None) for one in ids]


def _attributes(resource: Mapping[str, object]) -> Mapping[str, Any]:
    attributes = resource.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def nested(document: Any, path: Iterable[str], value: Any) -> Any:
    """Return a document with a value at a path of names. Raises Undraftable where something else is there."""
    names = tuple(path)
    if not names:
        if document is not None and document != value:
            raise Undraftable("two values have to be in one place of a document")
        return value
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise Undraftable("two values have to be in one place of a document")
    document[names[0]] = nested(document.get(names[0]), names[1:], value)
    return document


def _names(place: str, expression: str) -> tuple[str, ...]:
    try:
        return names_path(expression)
    except ValueError:
        raise Undraftable(f"`{place}` is read by {expression!r}, which cannot be turned round") from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
