"""`each` of a route: what it is read into, and what it cannot mean."""

from __future__ import annotations

import pytest

from sidecar.gate.each import MAX_EACH
from sidecar.gate.references import ReferenceSource
from sidecar.gate.values import Type
from tests.config.routes.reading import faults, one_route, read

LOOKUPS = """\
lookups:
  doc: {url: "http://h/{id}", attributes: {owner: o}}
  echoed: {url: "http://h/{id}", attributes: {owner: o}, echo: id}
  folder: {url: "http://h/f/{body.folder}", attributes: {owner: o}}
"""


def warnings(text: str) -> list[str]:
    return [str(warning) for warning in read(text).warnings]


def test_it_takes_the_place_of_id_and_lookup() -> None:
    route = """\
path: "/teams/{id:int}/docs"
    resource: doc
    id: "{path.id}"
    lookup: echoed
    actions:
      GET: list
      POST: {action: archive, each: {at: "{body.ids}", lookup: doc, max: 7}}
      PUT: {action: import, each: {at: "{body.docs[].doc:list}", id: "key:int", attributes: {owner: o, size: "s || n"}, optional: owner}}"""
    (made,) = read(one_route(route, LOOKUPS)).table.routes
    get, post, put = made.asks["GET"], made.asks["POST"], made.asks["PUT"]
    assert (get.each, get.lookup, get.lookups) == (None, ("echoed",), ("echoed",))
    assert (post.id, post.lookup, post.lookups, post.needs_body) == (None, (), ("doc",), True)
    assert post.each is not None
    assert (post.each.at.source, post.each.at.name, post.each.most) == (ReferenceSource.BODY, "ids", 7)
    assert (post.each.id.search("x"), post.each.id.type, post.each.names) == ("x", None, frozenset())
    assert put.each is not None
    assert (put.each.id.type, put.each.most, put.lookups) == (Type.INT, MAX_EACH, ())
    # names of an expression that finds something without one of them, and of an attribute that may be absent
    assert put.each.names == {"o", "s", "n"}


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ("each: {at: '{body.ids}'}, id: '{body.id}'", "routes[0].id: found it beside `each`, expected it in `each`"),
        ("each: {at: '{body.ids}'}, lookup: doc", "routes[0].lookup: found it beside `each`"),
        ("each: {at: '{body.ids}', lookup: nope}", "routes[0].each.lookup: found 'nope', expected one of `lookups`: doc"),
        ("each: {at: '{body.ids}', optional: [size]}", "routes[0].each.optional: found 'size', expected names of `attributes`"),
        ("each: {at: '{body.ids}', max: 0}", "routes[0].each.max: found a number '0', expected a whole number from 1 to 1000"),
        ("each: {at: '{body.ids}', max: 1001}", "expected a whole number from 1 to 1000"),
        ("each: {at: '{body.ids}', id: '@:bool'}", "routes[0].each.id: found the type bool, expected `:int`, `:string` or none"),
        ("each: {at: '{body.ids}', id: 'a['}", "routes[0].each.id: found 'a[', expected a JMESPath expression"),
        ("each: {at: '{body.ids}', separator: ','}", "routes[0].each.separator: found it with {body.…}"),
        ("each: {at: '{body.ids}', separator: ',,'}", "expected one visible character"),
        ("each: {at: '{query.id}', id: id}", "routes[0].each.id: found names, expected them with {body.…} alone"),
        ("each: {at: '{query.id}', attributes: {o: o}}", "routes[0].each.attributes: found names"),
        ("each: {at: '{query.id}'}, query: [page]", "routes[0].query: found no 'id', expected it: {query.id} reads it"),
        ("each: {at: '{form.id}', id: id}", "routes[0].each.id: found names, expected them with {body.…} alone"),
        ("each: {at: ids}", "routes[0].each.at: found 'ids', expected one {body.…}, {form.…} or {query.…} alone"),
        ("each: {at: '{path.id}'}", "expected one {body.…}, {form.…} or {query.…} alone"),
        ("each: {at: '{body.a}{body.b}'}", "expected one {body.…}, {form.…} or {query.…} alone"),
        ("each: {at: '{body.ids?}'}", "expected it without '?'"),
        ("each: {at: '{body.ids:int}'}", "without the type of an element"),
        ("each: {id: '@'}", "found no 'at', expected it"),
        ("each: {at: '{body.ids}'}, fields: {phone: view_phone}", "routes[0].fields: found it beside `each`"),
    ],
)  # fmt: skip
def test_what_it_cannot_mean_is_named_with_its_place(route: str, says: str) -> None:
    found = faults(one_route(f"{{path: /x, resource: r, actions: {{POST: a}}, {route}}}", LOOKUPS))
    assert any(says in fault for fault in found), found


def test_a_method_without_a_body_has_no_list_in_it() -> None:
    (fault,) = faults(one_route("{path: /x, resource: r, actions: {GET: a, POST: b}, each: {at: '{body.ids}'}}"))
    assert "routes[0].each: GET: found {body.ids} on a method without a body" in fault
    assert "found it beside `access: authenticated`" in faults(
        one_route("{path: /x, access: authenticated, each: {at: '{query.ids}'}}")
    )[0]  # fmt: skip


def test_its_lookup_may_read_the_body_too() -> None:
    route = "{path: /x, resource: r, query: [id], actions: {POST: a}, each: {at: '{query.id}', lookup: folder}}"
    assert read(one_route(route, LOOKUPS)).table.routes[0].asks["POST"].needs_body


@pytest.mark.parametrize(
    ("each", "warned"),
    [("lookup: doc", True), ("lookup: echoed", False), ("lookup: doc, id: '@:int'", False), ("id: '@'", False)],
)
def test_an_id_that_has_several_spellings_is_warned_of(each: str, warned: bool) -> None:
    route = f"{{path: /x, resource: r, actions: {{POST: a}}, each: {{at: '{{body.ids}}', {each}}}}}"
    found = [warning for warning in warnings(one_route(route, LOOKUPS)) if "`07`" in warning]
    assert bool(found) is warned
    if warned:
        assert "routes[0].each" in found[0]
        assert "expected `:int` after it, or `echo` in lookups.doc" in found[0]


def test_a_query_that_is_open_beside_it_is_warned_of() -> None:
    found = warnings(one_route("{path: /x, resource: r, actions: {DELETE: a}, each: {at: '{query.id}'}}"))
    assert any("the rule depends on the query (id)" in warning for warning in found)
