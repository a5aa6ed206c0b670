"""Lookups that read what another one gave: what of them is a fault when the file is read, each at its place."""

from __future__ import annotations

import pytest

from tests.config.routes.reading import faults, one_route, read

LOOKUPS = """\
lookups:
  contact: {url: "http://h/c/{id}", attributes: {account: "a:int", owner: o, tags: "t:list"}, optional: [owner]}
  account: {url: "http://h/a/{lookup.contact.account:int}", attributes: {tier: t}}
  region: {url: "http://h/r/{lookup.account.tier}?o={lookup.contact.account:number}", attributes: {open: "{a: '{lookup.contact.account:int}'}.a:int"}}
"""


def route(lookup: str) -> str:
    return f"{{path: '/x/{{id:int}}', resource: r, id: '{{path.id}}', actions: {{GET: a}}, lookup: {lookup}}}"


def test_lookups_are_asked_in_the_order_of_the_route() -> None:
    (made,) = read(one_route(route("[contact, account, region]"), LOOKUPS)).table.routes
    assert made.asks["GET"].lookup == made.asks["GET"].lookups == ("contact", "account", "region")
    lookups = read(one_route(route("contact"), LOOKUPS)).lookups
    assert [lookups[name].needs for name in lookups] == [(), ("contact",), ("account", "contact")]
    each = "{path: /x, resource: r, query: [i], actions: {DELETE: a}, each: {at: '{query.i}', id: '@:int', lookup: [contact, account]}}"
    (made,) = read(one_route(each, LOOKUPS)).table.routes
    assert made.asks["DELETE"].lookups == ("contact", "account")


@pytest.mark.parametrize(
    ("lookup", "says"),
    [
        ("account", "lookups.account reads {lookup.contact.account}, expected contact before it: `lookup: [contact, account]`"),
        ("[account, contact]", "expected contact before it: `lookup: [contact, account]`"),
        ("[contact, region]", "lookups.region reads {lookup.account.tier}, expected account before it"),
        ("[contact, contact]", "found contact, contact, expected at most 8 lookups, each once"),
        ("[contact, accounts]", "found 'accounts', expected one of `lookups`: contact, account, region, did you mean 'account'?"),
    ],
)  # fmt: skip
def test_an_order_in_which_nobody_can_ask_is_a_fault(lookup: str, says: str) -> None:
    (fault,) = faults(one_route(route(lookup), LOOKUPS))
    assert fault.startswith("routes.yaml:7:")
    assert "routes[0].lookup: " in fault
    assert says in fault


def test_two_lookups_of_one_route_may_not_give_one_attribute() -> None:
    twice = (
        "lookups:\n  a: {url: 'http://h/{id}', attributes: {x: y}}\n  b: {url: 'http://h/{id}', attributes: {x: z}}\n"
    )
    (fault,) = faults(one_route(route("[a, b]"), twice))
    assert "lookups.a and lookups.b both give 'x', expected another name in one" in fault
    both = f"{route('a')}\n  - {route('b').replace('/x/', '/y/')}"
    assert len(read(one_route(both, twice)).table.routes) == 2


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("{lookup.nobody.x}", "found {lookup.nobody.x}, expected one of `lookups`: contact, account, region, l"),
        ("{lookup.contac.owner}", "did you mean 'contact'?"),
        (
            "{lookup.contact.ownr}",
            "expected an attribute of lookups.contact: account, owner, tags, did you mean 'owner'?",
        ),
        ("{lookup.contact.tags}", "lookups.contact says that it is a list"),
        ("{lookup.contact.account}", "expected {lookup.contact.account:int}, since lookups.contact says so"),
        ("{lookup.l.x}", "expected another lookup than itself"),
        ("{lookup.contact}", "expected a name that lookup can have"),
        ("{lookup.contact.owner?}", "expected no '?'"),
    ],
)
def test_what_no_lookup_gives_is_a_fault_of_the_lookup_that_reads_it(url: str, says: str) -> None:
    (fault,) = faults(f"version: 1\n{LOOKUPS}  l: {{url: 'http://h/{url}', attributes: {{x: y}}}}\nroutes: []\n")
    assert fault.startswith("routes.yaml:6:12: lookups.l.url: ")
    assert says in fault


def test_a_circle_of_lookups_is_named() -> None:
    ring = "".join(
        f"  {name}: {{url: 'http://h/{{lookup.{other}.x}}', attributes: {{x: y}}}}\n"
        for name, other in ("ab", "bc", "ca")
    )
    (fault,) = faults(f"version: 1\nlookups:\n{ring}routes: []\n")
    assert "found a circle of lookups, " in fault
    assert any(
        f"{start}, expected an end of it" in fault
        for start in ("a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c")
    )


def test_each_circle_is_named() -> None:
    rings = "".join(
        f"  {name}: {{url: 'http://h/{{lookup.{other}.x}}', attributes: {{x: y}}}}\n"
        for name, other in ("ab", "ba", "cd", "dc", "ea")
    )
    found = faults(f"version: 1\nlookups:\n{rings}routes: []\n")
    assert len(found) == 2
    assert all("found a circle of lookups, " in fault for fault in found)


def test_each_unknown_lookup_of_a_list_is_told() -> None:
    found = faults(one_route(route("[contac, region, nobody]"), LOOKUPS))
    assert [fault.partition("found ")[2].partition(",")[0] for fault in found] == ["'contac'", "'nobody'"]


def test_what_may_be_absent_is_warned_of() -> None:
    more = LOOKUPS + "  o: {url: 'http://h/{lookup.contact.owner}', attributes: {x: y}}\n"
    (warning,) = read(one_route(route("[contact, o]"), more)).warnings
    assert "{lookup.contact.owner} may be absent (`optional`, or `missing: empty`, of lookups.contact)" in str(warning)
    (warning,) = read(
        one_route(route("contact"), LOOKUPS.replace('{url: "http://h/a/', '{missing: empty, url: "http://h/a/'))
    ).warnings
    assert "{lookup.account.tier} may be absent" in str(warning)


@pytest.mark.parametrize(
    "field",
    [
        "attributes: {a: '{lookup.contact.owner}'}",
        "scope: '{lookup.contact.owner}'",
        "set_query: {a: '{lookup.contact.owner}'}",
    ],
)
def test_elsewhere_than_in_a_lookup_nothing_is_read_of_one(field: str) -> None:
    (fault,) = faults(one_route(f"{{path: /x, resource: r, actions: {{GET: a}}, {field}}}", LOOKUPS))
    assert "found {lookup.contact.owner}, expected it in another lookup, which stands after it" in fault
