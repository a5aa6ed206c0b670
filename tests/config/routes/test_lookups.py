"""`lookups` of a route file -> lookups of the gate: whom each asks."""

import pytest

from sidecar.config.routes.lookups import SOURCES
from tests.config.routes.reading import faults, one_route, read


def test_a_lookup_that_says_not_whom_it_asks_is_one_fault_and_its_name_is_known() -> None:
    (fault,) = faults(
        one_route("{path: /x, resource: r, actions: {GET: a}, lookup: l}", "lookups: {l: {attributes: {a: b}}}\n")
    )
    assert (
        fault
        == f"routes.yaml:2:14: lookups.l: found nothing that says whom it asks, expected one of {', '.join(SOURCES)}"
    )


@pytest.mark.parametrize(
    ("attribute", "says"),
    [
        ("m[?id=='{idd}'].r", "found {idd}, expected one of {path.…}"),
        ("m[?id=='u-{id}'].r", "expected {…} alone between its quotes"),
        ("m[?id=='{query.a?}'].r", "without '?'"),
        ("m[?id=='{claims.a:list}'].r", "expected a string, number, int or bool"),
        ('m."{claims.a:int}"', "as the name of a member, expected a string"),
    ],
)
def test_a_place_for_a_value_that_nothing_can_fill_is_refused(attribute: str, says: str) -> None:
    (fault,) = faults(
        f"version: 1\nlookups:\n  l:\n    url: http://h/{{id}}\n    attributes:\n      a: >-\n        {attribute}\nroutes: []\n"
    )
    assert fault.startswith("routes.yaml:6:10: ")
    assert says in fault


def test_what_expressions_read_is_read_by_the_rule_like_what_fills_the_url() -> None:
    expression = "m[?id=='{path.org}' && to_string(n)=='{query.n}'].r | [0]"
    lookups = f'lookups: {{l: {{url: "http://h/{{id}}", attributes: {{a: "{expression}"}}}}}}\n'
    good = read(one_route("{path: '/{org}', resource: r, query: [n], actions: {GET: a}, lookup: l}", lookups))
    assert set(good.lookups["l"].places) == {"path.org", "query.n"}
    problems = faults(one_route("{path: /x, resource: r, query: [], actions: {GET: a}, lookup: l}", lookups))
    assert "found {path.org}, expected a variable of the path: none" in problems[1]
    assert "found no 'n', expected it: {query.n} reads it" in problems[0]
