"""`each`: one request about many resources, read out of its body or query. All of them must be allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sidecar.gate.chain import Known
from sidecar.gate.codes import Code
from sidecar.gate.decision import Resource
from sidecar.gate.lookup import Attribute, Lookup, Missing, attributes_in, id_text, merged, search_in
from sidecar.gate.query import query_values
from sidecar.gate.references import Material, Reference, ReferenceSource, form_texts, search_body
from sidecar.gate.values import Type, check_string, checked, from_text, type_of
from sidecar.gate.verdict import EachAsked, Refused
from sidecar.wire.spelling import respelled

MAX_EACH = 100
"""Resources of one request, where the file says no other number."""


class Each(NamedTuple):
    """Rule of a route for requests about many resources.

    `at` finds the list, in a body, a form or a query. `id` and `attributes` are read in each element, of which there
    may be `most`. `lookup` names the lookups that are asked for each id. `separator` stands between the elements in one
    text. `names` are those in expressions that may find something without them: an element may not have one in another
    spelling.
    """

    at: Reference
    id: Attribute
    attributes: Mapping[str, Attribute]
    optional: frozenset[str] = frozenset()
    lookup: tuple[str, ...] = ()
    most: int = MAX_EACH
    separator: str = ""
    names: frozenset[str] = frozenset()


class Element(NamedTuple):
    """Resource that a request names, and what the request says of it."""

    id: str
    attributes: Mapping[str, Any]


class Found(NamedTuple):
    """Resources of a request: those to ask about, and the ids of those that are missing, with the refusal of each."""

    resources: list[Resource]
    missing: list[tuple[str, Refused]]


def elements_of(each: Each, material: Material) -> list[Element]:
    """The resources that a request names, each once. Raises Refused: BODY_INVALID, REFERENCE_INVALID."""
    in_body = each.at.source is ReferenceSource.BODY
    code = Code.REFERENCE_INVALID if each.at.source is ReferenceSource.QUERY else Code.BODY_INVALID
    found = search_body(each.at, material.body) if in_body else _in_texts(each, material, code)
    if not isinstance(found, list):
        raise Refused(code, f"each.at: found {type_of(found)}, expected a list")
    if not 1 <= len(found) <= each.most:
        raise Refused(code, f"each.at: found {len(found)} elements, expected 1 to {each.most}")
    if each.names and (other := respelled(found, each.names)) is not None:
        raise Refused(code, f"each: found {other[:64]!r}, another spelling of a name that it reads")
    unique: dict[tuple[str, str], Element] = {}
    for at, value in enumerate(found):
        try:
            element = _element(each, value)
        except Refused as refused:
            raise Refused(code, f"each[{at}]: {refused.detail}") from None
        unique.setdefault((element.id, json.dumps(element.attributes, sort_keys=True)), element)
    return list(unique.values())


def _in_texts(each: Each, material: Material, code: Code) -> list[Any]:
    in_query = each.at.source is ReferenceSource.QUERY
    texts = query_values(material.request.query, each.at.name) if in_query else form_texts(each.at, material.form)
    if each.separator:
        if len(texts) > 1:
            raise Refused(code, f"{each.at}: found {len(texts)}, expected one")
        texts = [part for text in texts for part in text.split(each.separator)]
    # a text that is no canonical number stays one, and is refused where an int is declared
    return [from_text(Type.INT, text) for text in texts] if each.id.type is Type.INT else list(texts)


def _element(each: Each, value: Any) -> Element:
    found = search_in(each.id.search, value)
    if each.id.type is not None:
        checked(each.id.type, found, "id", Code.BODY_INVALID)
    text = id_text(found)
    if not text:
        raise Refused(Code.BODY_INVALID, f"id: found {type_of(found)}, expected a text or a whole number")
    if isinstance(found, int):
        # an app that reads doubles would take another one for it
        checked(Type.INT, found, "id", Code.BODY_INVALID)
    check_string("id", text, Code.BODY_INVALID)
    return Element(text, attributes_in(value, each.attributes, each.optional, "attributes"))


def found_of(
    elements: Sequence[Element], known: Mapping[str, Known], common: Resource, lookups: Sequence[Lookup] = ()
) -> Found:
    """Make a resource of each element: of what it has in `common` with the others, of what the request says of it, and
    of what is `known`, where `lookups` were asked."""
    found = Found([], [])
    for element in elements:
        attributes = {**common.attributes, **element.attributes}
        looked_up = known.get(element.id)
        if looked_up is None:
            found.resources.append(common._replace(id=element.id, attributes=attributes))
        elif isinstance(looked_up, Refused):
            found.missing.append((element.id, looked_up))
        else:
            attributes = merged(attributes, lookups, looked_up)
            found.resources.append(common._replace(id=element.id, attributes=attributes))
    return found


class NamedResource(NamedTuple):
    """Resource of one operation among several, by the operation's name, or the refusal of one that is missing;
    `missing` is the treatment of such, where a lookup was asked."""

    name: str
    found: Resource | Refused
    missing: Missing | None = None


def judged_of_named(
    named: Sequence[NamedResource], allowed: Sequence[bool]
) -> tuple[EachAsked, Refused | None, Missing | None]:
    """Judge a request by the answers about the resources of its operations, as `judged_of`; the last is the treatment
    of what is missing that all have: where one hides, the client is told of no other."""
    missing = tuple([one.name for one in named if isinstance(one.found, Refused)])
    names = [one.name for one in named if isinstance(one.found, Resource)]
    asked = _asked([one.name for one in named], names, missing, allowed)
    treatments = [one.missing for one in named]
    treatment = next((kind for kind in (Missing.HIDE, Missing.DENY) if kind in treatments), None)
    code = Code.RESOURCE_HIDDEN if treatment is Missing.HIDE else Code.RESOURCE_MISSING
    return asked, _refused(asked, missing, Refused(code)), treatment


def judged_of(asked: EachAsked, found: Found, allowed: Sequence[bool]) -> tuple[EachAsked, Refused | None]:
    """Judge a request by the answers about its resources, of which all must be allowed.

    One that is missing counts like one that is denied, and the others are asked about all the same: what the client is
    told of their number does not tell which it was (CWE-204).
    """
    missing = tuple([resource_id for resource_id, _ in found.missing])
    asked = _asked(asked.ids, [one.id for one in found.resources], missing, allowed)
    return asked, _refused(asked, missing, found.missing[0][1] if missing else None)


def _asked(ids: Sequence[str], names: Sequence[str], missing: tuple[str, ...], allowed: Sequence[bool]) -> EachAsked:
    denied = tuple([name for name, ok in zip(names, allowed, strict=True) if not ok])
    return EachAsked(tuple(ids), denied + missing, tuple(allowed))


def _refused(asked: EachAsked, missing: tuple[str, ...], of_missing: Refused | None) -> Refused | None:
    if not asked.denied:
        return None
    detail = f"each: {len(asked.denied)} of {len(asked.ids)} not allowed"
    detail += f", {len(missing)} of them missing" if missing else ""
    if len(asked.denied) > len(missing) or of_missing is None:
        return Refused(Code.DENIED_BY_POLICY, detail)
    return Refused(of_missing.code, detail, about_another=of_missing.about_another)
