"""`lookups` of a route file -> lookups of the gate."""

import pytest

from sidecar.gate.lookup import Batch
from tests.config.routes.reading import faults, hook_of, one_route, read


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://{host}/owner", "without {values}"),
        ("http://hook/{id}/../admin", "without dot segments"),
        ("file:///x", "expected http(s)://host:port/path"),
        ("ftp://h/x", "expected http(s)://host:port/path"),
        ("http://169.254.169.254/{id}", "no link-local address"),
        ("http://[fe80::1]/{id}", "no link-local address"),
        ("http://user:pass@hook/{id}", "no user and password"),
        ("user:pass@hook/{id}", "expected http(s)://host:port/path"),
        ("http://user:pass@hook", "expected http(s)://host:port/path"),
        ("http://hook/{id}#x", "without a fragment"),
        ("http://ho ok/{id}", "expected http(s)://host:port"),
        ("http://hook/a b", "expected visible ASCII"),
        ("http://hook:port/{id}", "expected http(s)://host:port"),
        ("http://hook:99999/{id}", "expected http(s)://host:port"),
        ("http://hook/{nope}", "expected one of {path.…}"),
        ("http://hook/{claims.l:list}", "found {claims.l:list}, expected a string, number, int or bool"),
        ("http://hook/{body.l:json}", "it is one part of a URL"),
        ("http://hook/{id", "found a lone brace"),
        ("http://hook", "expected http(s)://host:port/path"),
    ],
)
def test_a_hook_whose_host_could_move_is_refused(url: str, says: str) -> None:
    (fault,) = faults(f"version: 1\nlookups:\n  l: {{url: '{url}', attributes: {{a: b}}}}\nroutes: []\n")
    assert fault.startswith("routes.yaml:3:12: ")
    assert says in fault
    # a fault is logged, at a reload too
    assert "pass@" not in fault


def test_a_lookup_may_use_a_reference_that_all_its_routes_have() -> None:
    lookups = "lookups: {l: {url: 'http://h/{path.org}/{id}?t={claims.sub}', attributes: {a: 'b:list', c: d, e: 'f[].g:json'}}}\n"
    good = read(one_route("{path: '/{org}', resource: r, actions: {GET: a}, lookup: l}", lookups))
    assert [str(part) for part in hook_of(good.lookups["l"]).target] == [
        "/",
        "path.org",
        "/",
        "id",
        "?t=",
        "claims.sub",
    ]
    (fault,) = faults(one_route("{path: '/x', resource: r, actions: {GET: a}, lookup: l}", lookups))
    assert "found {path.org}, expected a variable of the path: none" in fault


def test_a_hooks_token_comes_from_the_environment() -> None:
    text = "version: 1\nlookups: {l: {url: 'http://h/{id}', attributes: {a: b}, bearer_env: HOOK_TOKEN, echo: id}}\nroutes: []\n"
    lookup = read(text, {"HOOK_TOKEN": "t0ken"}).lookups["l"]
    assert hook_of(lookup).bearer == "t0ken"
    assert lookup.echo({"id": "7"}) == "7"
    (fault,) = faults(text)
    assert "the variable HOOK_TOKEN holds no token" in fault


@pytest.mark.parametrize(
    ("lookup", "place", "says"),
    [
        ("{url: 'http://h/{id}', attributes: {a: lenght(b)}}", "routes.yaml:3:45: ", "did you mean length()?"),
        ("{url: 'http://h/{id}', attributes: {a: 'abs(b, c):int'}}", "routes.yaml:3:45: ", "expected 1 argument"),
        ("{url: 'http://h/{id}', attributes: {a: b}, echo: to_sting(id)}", "routes.yaml:3:55: ", "to_string()"),
    ],
)
def test_an_expression_that_can_find_nothing_is_named_with_its_place(lookup: str, place: str, says: str) -> None:
    (fault,) = faults(f"version: 1\nlookups:\n  l: {lookup}\nroutes: []\n")
    assert fault.startswith(place)
    assert says in fault


@pytest.mark.parametrize(
    ("url", "more", "says"),
    [
        ("http://h/{ids}", "", "found {ids}, expected {id}, or `batch: true` beside it"),
        ("http://h/{id}", "batch: true", "expected {ids} once and no {id}: ?id={ids}"),
        ("http://h/?a={ids}&b={ids}", "batch: true", "expected {ids} once"),
        ("http://h/{id}?a={ids}", "batch: true", "expected {ids} once and no {id}"),
        ("http://h/{ids}?a=b", "batch: {separator: ','}", "found {ids} elsewhere, expected it as"),
        ("http://h/?a=in.({ids})", "batch: true", "or a part of one with a `separator`"),
        ("http://h/?a={kind}{ids}", "batch: true", "the whole value of a parameter, ?id={ids}"),
        ("http://h/?{ids}", "batch: true", "the whole value of a parameter"),
        ("http://h/?a={ids}", "batch: {max: 0}", "expected a whole number from 1 to 500"),
        ("http://h/?a={ids}", "batch: {separator: '&'}", "expected one of , ; | ! *"),
        ("http://h/?a={ids}", "batch: {at: 'a[0]'}", "expected names joined by dots"),
        ("http://h/{id}", "batch: many", "found text 'many', expected true or false"),
        ("http://h/?a={ids}&b={lookup.o.x}", "batch: true", "found {lookup.…} beside `batch`"),
    ],
)
def test_a_url_that_cannot_be_asked_about_many_is_refused(url: str, more: str, says: str) -> None:
    other = "o: {url: 'http://h/{id}', attributes: {x: y}}"
    text = f"version: 1\nlookups:\n  {other}\n  l: {{url: '{url}', attributes: {{a: b}}{', ' if more else ''}{more}}}\nroutes: []\n"
    (fault,) = faults(text)
    assert fault.startswith("routes.yaml:4:")
    assert says in fault


def test_a_lookup_that_is_asked_about_many() -> None:
    text = "version: 1\nlookups: {l: {url: 'http://h/{kind}?x=1&id={ids}&t={claims.sub}', attributes: {a: b}, BATCH}}\nroutes: []\n"
    made = [
        read(text.replace("BATCH", said)).lookups["l"]
        for said in ("batch: true", "batch: {max: 7, at: a.b, separator: ','}")
    ]
    assert [lookup.batch for lookup in made] == [Batch(100), Batch(7, ("a", "b"))]
    assert [hook_of(lookup).separator for lookup in made] == ["", ","]
    assert read(text.replace("{ids}", "{id}").replace("BATCH", "batch: false")).lookups["l"].batch is None
