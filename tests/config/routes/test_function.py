"""A lookup's `function` in a route file."""

from __future__ import annotations

import pytest

from sidecar.config.routes.file import RoutesError
from sidecar.gate.function import Function
from sidecar.gate.lookup import Batch
from tests.config.routes.reading import faults, one_route, read


def text(fields: str) -> str:
    route = "{path: '/x/{id}', resource: r, id: '{path.id}', lookup: l, actions: {GET: a}}"
    return one_route(route, f"lookups: {{l: {{{fields}, attributes: {{a: b}}}}}}\n")


def test_a_function_is_read_and_not_imported() -> None:
    lookup = read(text('function: "nobody.has_this:team_of"')).lookups["l"]
    assert lookup.inquiry == Function("nobody.has_this:team_of")
    lookup = read(text('function: "m:C.method", as: principal')).lookups["l"]
    assert lookup.inquiry == Function("m:C.method", as_principal=True)


@pytest.mark.parametrize(
    "name", ["acme", "acme:", ":f", "acme:f()", "a-b:f", "acme:f g", "acme:f:g", "../x:f", "a..b:f"]
)
def test_a_name_is_a_module_and_what_is_in_it(name: str) -> None:
    (fault,) = faults(text(f"function: '{name}'"))
    assert "expected module:function" in fault


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ('function: "m:f", url: "http://h/{id}"', "lookups.l.function: found it beside `url`"),
        (
            'function: "m:f", bearer_env: T',
            "lookups.l.bearer_env: found it beside `function`, expected it beside `url`",
        ),
        ('url: "http://h/{id}", as: principal', "lookups.l.as: found it beside `url`, expected it beside"),
        ('function: "m:f", as: nobody', "expected service or principal"),
    ],
)
def test_what_belongs_to_another_source_is_a_fault(fields: str, says: str) -> None:
    assert any(says in fault for fault in faults(text(fields)))


def test_a_function_that_is_asked_about_many() -> None:
    text = "lookups: {team: {function: 'm:f', batch: BATCH, attributes: {a: a}}}\n"
    route = "{path: '/x/{id}', resource: x, id: '{path.id}', lookup: team, actions: {GET: read}}"
    lookup = read(one_route(route, text.replace("BATCH", "{max: 7}"))).lookups["team"]
    assert (lookup.inquiry, lookup.batch, lookup.echo) == (Function("m:f", batch=True), Batch(7), None)
    with pytest.raises(RoutesError, match=r"batch.at: found it beside `function`, expected it beside `url`"):
        read(one_route(route, text.replace("BATCH", "{at: data}")))
