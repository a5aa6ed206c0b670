"""`mode` of routes and actions: what it is read into, and what it cannot be."""

from __future__ import annotations

import pytest

from sidecar.gate.mode import RouteMode
from tests.config.routes.reading import faults, one_route, read

ROUTE = "path: /x\n    resource: doc\n    actions: {GET: read, PUT: {action: update, mode: enforce}}\n    mode: "


@pytest.mark.parametrize(
    ("text", "mode", "shown"),
    [
        ("shadow", RouteMode(0, "shadow"), "shadow"),
        ("shadow-policy", RouteMode(0, "shadow-policy"), "shadow-policy"),
        ("enforce", RouteMode(100, "enforce"), "enforce"),
        ("{enforce: 10%}", RouteMode(10, "shadow-policy"), "enforce for 10%, otherwise shadow-policy"),
        ("{enforce: 0%, otherwise: shadow}", RouteMode(0, "shadow"), "shadow"),
        ("{enforce: 100%}", RouteMode(100, "shadow-policy"), "enforce"),
    ],
)
def test_a_route_has_a_mode_and_an_action_its_own(text: str, mode: RouteMode, shown: str) -> None:
    (route,) = read(one_route(ROUTE + text)).table.routes
    assert (route.mode, route.asks["GET"].mode, route.asks["HEAD"].mode) == (mode, mode, mode)
    assert route.asks["PUT"].mode == RouteMode(100, "enforce")
    assert str(mode) == shown


def test_a_share_that_is_said_once_is_of_each_route_that_names_it_and_each_has_its_own_budget() -> None:
    text = (
        "version: 1\nroutes:\n"
        "  - {path: /a, access: authenticated, mode: &share {enforce: 10%, budget: {refusals: 9}}}\n"
        "  - {path: /b, access: authenticated, mode: *share}\n"
    )
    a, b = (route.mode for route in read(text).table.routes)
    assert a is not None
    assert b is not None
    assert (a.share, b.share) == (10, 10)
    assert a.budget is not b.budget


def test_a_budget_has_its_numbers() -> None:
    (route,) = read(one_route(ROUTE + "{enforce: 50%, budget: {refusals: 20}}")).table.routes
    assert route.mode is not None
    budget = route.mode.budget
    assert budget is not None
    assert (budget.refusals, budget.principals, budget.within, budget.spent) == (20, 5, 600.0, False)
    assert str(route.mode).endswith("budget of 20 refusals of 5 principals within 600 s")
    # all methods without a mode of their own count in one
    assert route.asks["GET"].mode is route.mode


def test_without_one_it_is_that_of_the_settings() -> None:
    (route,) = read(one_route("path: /x\n    access: authenticated")).table.routes
    assert (route.mode, route.asks["GET"].mode) == (None, None)
    (route,) = read(one_route("path: /x\n    access: authenticated\n    mode: shadow")).table.routes
    assert route.asks["GET"].mode == RouteMode(0, "shadow")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("open", "found text 'open', expected enforce or shadow-policy or shadow"),
        ("[shadow]", "found a list, expected a mapping"),
        ("{otherwise: shadow}", "found no 'enforce', expected it"),
        ("{enforce: 10}", "found a number '10', expected whole percents such as 10%"),
        ("{enforce: 101%}", "found '101%', expected whole percents such as 10%"),
        ("{enforce: 1.5%}", "found '1.5%', expected whole percents such as 10%"),
        ("{enforce: 10%, otherwise: enforce}", "found text 'enforce', expected shadow-policy or shadow"),
        ("{enforce: 10%, budget: {}}", "found no 'refusals', expected it"),
        ("{enforce: 10%, budget: {refusals: 0}}", "expected a whole number from 1 to 1000"),
        ("{enforce: 10%, budget: {refusals: 9, principals: 1}}", "expected a whole number from 2 to 50"),
        ("{enforce: 10%, budgets: 1}", "found the name 'budgets', expected one of enforce, otherwise"),
    ],
)
def test_what_it_cannot_be(text: str, told: str) -> None:
    (fault,) = faults(one_route(ROUTE + text))
    assert told in fault
