"""`items` and `fields` of a route -> its rule for the app's answer."""

from __future__ import annotations

import pytest

from sidecar.config.routes.file import RoutesError, RoutesFile, read_routes
from sidecar.gate.narrowing import Push, PushedAttribute
from sidecar.gate.obligation import AnswerRule
from sidecar.gate.values import Type
from sidecar.release.cursor import LINK, Refill
from sidecar.release.fields import FieldRule
from sidecar.release.items import ItemsRule
from sidecar.release.lines import LinesRule
from sidecar.release.lookup import AnswerLookupRule
from sidecar.release.single import FieldsRule

MANY = ", ".join(f"f{at}: v{at}" for at in range(50))
ROUTES = """
version: 1
routes:
  - path: /contacts
    resource: contact
    actions: {GET: list, POST: create}
    items:
      at: result.data
      id: id
      attributes: {owner: owner_id, level: "level:int"}
      optional: [level]
      fields: {phone: view_phone, address.street: {action: view_address, mask: "***"}}
      total: [header.X-Count, meta.total]
      max: 200
      max_size: 1MiB
  - path: /notes
    resource: note
    actions:
      GET: {action: list, items: {at: "@", id: key, resource: page, action: view}}
  - path: /contacts/{id}
    resource: contact
    id: "{path.id}"
    fields: {phone: view_phone}
    actions: {GET: read, PUT: update}
"""


def rules() -> dict[str, AnswerRule | None]:
    table = read_routes(ROUTES, "routes.yaml", {}).table
    return {f"{method} {route.name}": route.asks[method].answer for route in table.routes for method in route.asks}


def test_a_list_is_read_as_the_route_says() -> None:
    made = rules()
    rule = made["GET /contacts"]
    assert isinstance(rule, ItemsRule)
    assert (rule.at, rule.kind, rule.action) == (("result", "data"), "contact", "read")
    assert (rule.id({"id": 7}), rule.attributes["owner"].search({"owner_id": "a"})) == (7, "a")
    assert (rule.optional, rule.max_items, rule.max_size) == (frozenset(["level"]), 200, 1024 * 1024)
    assert rule.fields == (
        FieldRule(("phone",), "view_phone"),
        FieldRule(("address", "street"), "view_address", b'"***"'),
    )
    assert rule.total_headers == (b"x-total-count", b"x-total", b"x-count")
    assert rule.totals == (("meta", "total"),)
    assert made["HEAD /contacts"] is rule
    assert made["POST /contacts"] is None


def test_push_has_what_a_filter_can_be_about() -> None:
    items = (
        "{at: '@', id: key, resource: page, action: view, attributes: {owner: owner_id, level: 'a.b:int'}, "
        "optional: [level], push: {dialect: json-server}}"
    )
    text = f"version: 1\nroutes: [{{path: /a, resource: a, actions: {{GET: list}}, items: {items}}}]\n"
    (route,) = read_routes(text, "routes.yaml", {}).table.routes
    attributes = {
        "owner": PushedAttribute("owner_id", None, True),
        "level": PushedAttribute("a.b", Type.INT, False),
    }
    assert route.asks["GET"].push == Push("json-server", "key", attributes, "page", "view")


OF_ITEMS = """\
version: 1
lookups:
  one: {url: "http://h/{id}", attributes: {owner: o}}
  many: {url: "http://h/?id={ids}", batch: {max: 20}, attributes: {owner: o}}
  most: {url: "http://h/?id={ids}", batch: {max: 300}, attributes: {team: t}}
  next: {url: "http://h/{lookup.many.owner}", attributes: {level: l}}
  body: {url: "http://h/{body.x}?id={ids}", batch: true, attributes: {owner: o}}
  path: {url: "http://h/{path.org}?id={ids}", batch: true, attributes: {owner: o}}
  query: {url: "http://h/{query.org}?id={ids}", batch: true, attributes: {owner: o}}
routes: [{path: /a, resource: a, actions: {GET: list, POST: add}, items: ITEMS}]
"""


def looked_up(items: str) -> RoutesFile:
    return read_routes(OF_ITEMS.replace("ITEMS", items), "routes.yaml", {})


@pytest.mark.parametrize(
    ("items", "lookups", "part"),
    [
        ("{at: d, id: id}", (), 50),
        ("{at: d, id: id, lookup: many}", ("many",), 50),
        ("{at: d, id: id, lookup: [most, many], max: 5000}", ("most", "many"), 300),
        ("{at: d, id: id, lookup: one, max: 100}", ("one",), 100),
        ("{at: d, id: id, lookup: [many, next], max: 20}", ("many", "next"), 100),
        ("{at: lines, id: id, lookup: many}", ("many",), 50),
    ],
)
def test_items_are_looked_up_as_many_at_a_time_as_go_in_one_call(
    items: str, lookups: tuple[str, ...], part: int
) -> None:
    (route,) = looked_up(items).table.routes
    rule = route.asks["GET"].answer
    assert isinstance(rule, ItemsRule | LinesRule)
    assert rule.lookups == lookups
    assert (rule.items if isinstance(rule, LinesRule) else rule).part == part
    # they are not asked about the list itself
    assert (route.asks["GET"].lookups, route.asks["GET"].all_lookups) == ((), lookups)
    assert route.asks["POST"].all_lookups == ()


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ("{at: d, id: id, lookup: mani}", "items.lookup: found 'mani', expected one of `lookups`: one, many, most"),
        ("{at: d, id: id, lookup: one}", "items.lookup: lookups.one is asked about one item in a call, and the list may have 1000, expected `batch` in that lookup, or `max: 100` or less in `items`"),
        ("{at: d, id: id, lookup: [many, next], max: 101}", "lookups.next is asked about one item in a call, and the list may have 101"),
        ("{at: lines, id: id, lookup: one}", "lookups.one is asked about one item in a call, and the list has no end, expected `batch` in that lookup"),
        ("{at: d, id: id, lookup: [next, many], max: 9}", "expected many before it: `lookup: [many, next]`"),
        ("{at: d, id: id, lookup: [many, many]}", "expected at most 8 lookups, each once"),
        ("{at: d, id: id, lookup: [many, body]}", "lookups.many and lookups.body both give 'owner'"),
        ("{at: d, id: id, lookup: body}", "found {body.x} on a method without a body"),
        ("{at: d, id: id, lookup: path}", "found {path.org}, expected a variable of the path: none"),
        ("{at: d, id: id, lookup: {from: answer, attributes: {o: o}}}", "items.lookup: found"),
    ],
)  # fmt: skip
def test_what_items_cannot_be_looked_up_by_is_a_fault(items: str, said: str) -> None:
    with pytest.raises(RoutesError) as error:
        looked_up(items)
    assert said in str(error.value)


def test_a_query_that_a_lookup_of_items_reads_is_one_that_the_rule_depends_on() -> None:
    read = looked_up("{at: d, id: id, lookup: query}")
    (route,) = read.table.routes
    assert route.asks["GET"].open_query == ("org",)
    assert any("the rule depends on the query (org)" in warning.message for warning in read.warnings)


def test_push_is_about_nothing_that_a_lookup_gives() -> None:
    """Asked by what the item says of it, the app would leave out what the lookup shows."""
    (route,) = looked_up(
        "{at: d, id: id, attributes: {owner: own, size: size}, lookup: many, push: {dialect: json-server}}"
    ).table.routes
    attributes = {"size": PushedAttribute("size", None, True)}
    assert route.asks["GET"].push == Push("json-server", "id", attributes, "a", "read")


@pytest.mark.parametrize(
    ("dialect", "searches"), [("json-server", ("tel", "q")), ("odata", ("tel", "$search")), ("rsql", ("tel",))]
)
def test_what_searches_every_field_searches_a_hidden_one(dialect: str, searches: tuple[str, ...]) -> None:
    field = "{action: view_phone, parameters: tel}"
    items = f"{{at: '@', id: id, fields: {{phone: {field}}}, push: {{dialect: {dialect}}}}}"
    text = f"version: 1\nroutes: [{{path: /a, resource: a, actions: {{GET: list}}, items: {items}}}]\n"
    (route,) = read_routes(text, "routes.yaml", {}).table.routes
    rule = route.asks["GET"].answer
    assert isinstance(rule, ItemsRule)
    assert rule.fields == (FieldRule(("phone",), "view_phone", b"", searches),)


def test_lines_are_judged_one_by_one() -> None:
    text = "version: 1\nroutes: [{path: /a, resource: a, actions: {GET: list}, items: {at: lines, id: id}}]\n"
    (route,) = read_routes(text, "routes.yaml", {}).table.routes
    rule = route.asks["GET"].answer
    assert isinstance(rule, LinesRule)
    assert (rule.items.kind, rule.items.action) == ("a", "read")


def test_an_action_has_its_own_list_with_its_own_kind() -> None:
    rule = rules()["GET /notes"]
    assert isinstance(rule, ItemsRule)
    assert (rule.at, rule.kind, rule.action, rule.actions) == ((), "page", "view", ("view",))


def test_fields_of_a_single_answer_are_of_every_method() -> None:
    made = rules()
    assert (
        made["GET /contacts/{id}"] == made["PUT /contacts/{id}"] == FieldsRule((FieldRule(("phone",), "view_phone"),))
    )


LOOKED_UP = """\
version: 1
lookups: {doc: {url: "http://h/{id}", attributes: {owner: o}}}
routes:
  - path: /docs/{id:int}
    resource: doc
    id: "{path.id}"
    query: []
    lookup: {from: answer, attributes: {owner: owner_id, acl: "acl:json"}, optional: acl, missing: hide, echo: id, max_size: 64KiB}
    fields: {phone: view_phone}
    actions: {GET: read, HEAD: read, PUT: {action: update, lookup: doc, fields: {}}}
"""


def test_a_decision_from_the_answer_is_that_of_its_method_alone() -> None:
    (route,) = read_routes(LOOKED_UP, "routes.yaml", {}).table.routes
    get, put = route.asks["GET"], route.asks["PUT"]
    rule = get.answer_lookup
    assert isinstance(rule, AnswerLookupRule)
    assert (rule.names, rule.optional, rule.missing, rule.max_size) == ({"owner", "acl"}, {"acl"}, "hide", 64 * 1024)
    assert (rule.echo({"id": 7}), rule.attributes["acl"].type) == (7, Type.JSON)
    assert rule.fields == FieldsRule((FieldRule(("phone",), "view_phone"),))
    # the fields are hidden after the decision, and by nothing else
    assert (get.answer, get.lookup, get.lookups, get.needs_answer) == (None, (), (), True)
    assert (put.answer_lookup, put.answer, put.lookup, put.needs_answer) == (None, None, ("doc",), False)
    assert route.asks["HEAD"] is get


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ("lookup: {from: answer, attributes: {o: o}}, actions: {GET: a, PUT: b, WS: c}", "lookup: PUT, WS: found `from: answer` on a method that may change something"),
        ("actions: {POST: {action: a, lookup: {from: answer, attributes: {o: o}}}}", "actions.POST.lookup: POST: found `from: answer` on a method"),
        ("lookup: {from: answer, attributes: {o: o}}, actions: {GET: a}, items: {at: '@', id: id}", "found `from: answer` beside `items`"),
        ("lookup: {from: answer, attributes: {o: o}, optional: [p]}, actions: {GET: a}", "found 'p', expected names of `attributes`"),
        ("lookup: {from: hook, attributes: {o: o}}, actions: {GET: a}", "found text 'hook', expected answer"),
        ("lookup: {from: answer}, actions: {GET: a}", "found no 'attributes', expected it"),
        ("lookup: {attributes: {o: o}}, actions: {GET: a}", "found no 'from', expected it"),
        ("lookup: {from: answer, attributes: {o: o}, cache: 1s}, actions: {GET: a}", "found the name 'cache', expected one of from, attributes"),
        ("lookup: [a], actions: {GET: a}", "lookup: found 'a', expected one of `lookups`: none"),
        ("lookup: {from: answer, attributes: {o: o}}, each: {at: '{query.id}'}, query: [id], actions: {GET: a}", "lookup: found it beside `each`"),
    ],
)  # fmt: skip
def test_where_no_decision_can_be_made_from_an_answer_is_a_fault(route: str, said: str) -> None:
    with pytest.raises(RoutesError) as error:
        read_routes(f"version: 1\nroutes: [{{path: /x, resource: r, {route}}}]\n", "routes.yaml", {})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ("{at: 'data[0]', id: id}", "found 'data[0]', expected names joined by dots"),
        ("{at: 'a.b[]', id: id}", "expected names joined by dots"),
        ("{at: data}", "found no 'id'"),
        ("{id: id}", "found no 'at'"),
        ("{at: data, id: 'x('}", "expected a JMESPath expression"),
        ("{at: data, id: id, optional: [owner]}", "found 'owner', expected names of `attributes`"),
        ("{at: data, id: id, fields: {'a[]': view}}", "found the field 'a[]', expected names joined by dots"),
        ("{at: data, id: id, total: data}", "found 'data', expected a number and not the list"),
        ("{at: a.b, id: id, total: [a]}", "found 'a', expected a number and not the list"),
        ("{at: '@', id: id, total: [total]}", "expected header.NAME: the whole answer is a list"),
        ("{at: data, id: id, total: ['@']}", "expected header.NAME, or names joined by dots"),
        ("{at: data, id: id, max: 0}", "expected"),
        ("{at: lines, id: id, total: header.x}", "found it beside `at: lines`"),
        ("{at: lines, id: id, max: 9}", "found it beside `at: lines`"),
        ("{at: lines, id: id, refill: 3}", "found it beside `at: lines`"),
        ("{at: data, id: id, refill: 0}", "expected a whole number from 1 to 10"),
        ("{at: data, id: id, refill: 11}", "expected a whole number from 1 to 10"),
        ("{at: data, id: id, refill: {next: next}}", "found no 'pages'"),
        ("{at: data, id: id, refill: {pages: 1, next: 'a[0]'}}", "expected names joined by dots"),
        ("{at: data, id: id, refill: {pages: 1, next: '@'}}", "expected names joined by dots"),
        (
            "{at: data, id: id, refill: {pages: 1, parameter: page}}",
            "beside `next: header.link`, which has a whole URL",
        ),
        ("{at: data, id: id, refill: {pages: 1, next: n, parameter: 'a b'}}", "expected a parameter's name"),
        ("{at: '@', id: id, refill: {pages: 1, next: next}}", "expected `header.link` alone"),
        ("{at: '@', id: id, refill: {pages: 1, last: more}}", "expected `header.link` alone"),
        ("{at: a.b, id: id, refill: {pages: 1, next: a}}", "found 'a', expected a member beside the list"),
        ("{at: a, id: id, refill: {pages: 1, next: n, last: [a.b]}}", "found 'a.b', expected a member beside the list"),
        ("{at: data, id: id, total: p, refill: {pages: 1, next: p.n}}", "found 'p.n', which `total` removes"),
        ("{at: data, id: id, push: {dialect: sql}}", "json-server"),
        ("{at: data, id: id, kind: x}", "found the name 'kind', expected one of at, id, resource"),
    ],
)
def test_what_a_list_cannot_be_is_a_fault(items: str, said: str) -> None:
    text = f"version: 1\nroutes: [{{path: /a, resource: a, actions: {{GET: list}}, items: {items}}}]\n"
    with pytest.raises(RoutesError) as error:
        read_routes(text, "routes.yaml", {})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ("resource: a, actions: {POST: {action: add, items: {at: d, id: id}}}", "found it on another method, expected it on GET"),
        ("resource: a, actions: {GET: list}, fields: {a: v}, items: {at: d, id: id}", "found it beside `items`, expected it within"),
        ("access: authenticated, items: {at: d, id: id}", "found it beside `access: authenticated`"),
        ("access: public, fields: {a: v}", "found it beside `access: public`"),
        (f"resource: a, actions: {{GET: read}}, fields: {{{MANY}}}", "found 50 fields, expected 49"),
    ],
)  # fmt: skip
def test_where_a_rule_for_the_answer_cannot_be_is_a_fault(route: str, said: str) -> None:
    with pytest.raises(RoutesError) as error:
        read_routes(f"version: 1\nroutes: [{{path: /a, {route}}}]\n", "routes.yaml", {})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("said", "refill"),
    [
        ("3", Refill(3)),
        ("{pages: 10, next: header.Link, timeout: 300ms}", Refill(10, LINK, seconds=0.3)),
        (
            "{pages: 1, next: a.next, parameter: cursor, last: [a.more, end]}",
            Refill(1, ("a", "next"), "cursor", (("a", "more"), ("end",))),
        ),
        ("{pages: 1, next: n, last: more}", Refill(1, ("n",), last=(("more",),))),
    ],
)
def test_a_page_is_filled_as_the_route_says(said: str, refill: Refill) -> None:
    text = f"version: 1\nroutes: [{{path: /a, resource: a, actions: {{GET: list}}, items: {{at: d, id: id, refill: {said}}}}}]\n"
    rule = read_routes(text, "routes.yaml", {}).table.routes[0].asks["GET"].answer
    assert isinstance(rule, ItemsRule)
    assert rule.refill == refill
