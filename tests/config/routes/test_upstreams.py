"""`upstreams`, `hosts` and `upstream` in `routes.yaml`."""

from __future__ import annotations

import pytest

from sidecar.config.routes.upstreams import PlacedHosts
from sidecar.config.shapes import Mark
from sidecar.gate.verdict import Destination
from tests.config.routes.reading import faults, one_route, read

APPS = """\
upstreams:
  crm: "http://crm:3000"
  wiki: {url: "https://wiki:8443", ca: /etc/ca.pem, server_name: wiki.internal, head_timeout: 5s}
  files: "unix:/run/files.sock"
"""
ALL = """\
  - {path: /a, access: public, upstream: crm, hosts: [CRM.example.com, "*.Example.org:8443"]}
  - {path: /a, access: public, upstream: wiki, hosts: wiki.example.com}
  - {path: /a, access: public, upstream: files}
"""


def test_an_app_is_a_url_or_a_mapping_and_a_host_has_one_spelling() -> None:
    table = read(f"version: 1\n{APPS}routes:\n{ALL}").table
    assert table.upstreams == (
        Destination("crm", "http://crm:3000"),
        Destination("wiki", "https://wiki:8443", "/etc/ca.pem", server_name="wiki.internal", head_timeout=5.0),
        Destination("files", "unix:/run/files.sock"),
    )
    assert table.hosts == {"crm.example.com", "*.example.org:8443", "wiki.example.com"}
    assert [(route.name, route.path) for route in table.routes] == [
        ("crm.example.com,*.example.org:8443/a", "/a"), ("wiki.example.com/a", "/a"), ("/a", "/a"),
    ]  # fmt: skip


def test_a_file_without_hosts_and_apps_has_none() -> None:
    table = read(one_route("{path: /a, access: public}")).table
    assert (table.hosts, table.upstreams, table.routes[0].hosts, table.routes[0].upstream) == (None, (), (), None)


@pytest.mark.parametrize(
    ("more", "route", "told"),
    [
        ("", "upstream: crm", "upstream: found 'crm', expected a name of `upstreams`, which the file has not"),
        (APPS, "upstream: wikis", "upstream: found 'wikis', expected one of crm, wiki, files, did you mean 'wiki'?"),
        (APPS, "upstream: [crm]", "upstream: found a list, expected the name of an upstream"),
        ("", "hosts: []", "hosts: found 0 items, expected at least 1"),
        ("", "hosts: crm.example.com.", "hosts: found 'crm.example.com.', expected a host such as"),
        ("", "hosts: a..b", "hosts: found 'a..b', expected a host such as"),
        ("", "hosts: 'a.*.b'", "hosts: found 'a.*.b', expected a host such as"),
        ("", "hosts: '*'", "hosts: found '*', expected a host such as"),
        ("", "hosts: 'http://a.b'", "hosts: found 'http://a.b', expected a host such as"),
        ("", "hosts: bücher.example", "hosts: found 'bücher.example', expected a host such as"),
        ("", "hosts: 'a.b:99999'", "hosts: found 'a.b:99999', expected a host such as"),
        ("", "hosts: [a.b, A.b]", "hosts: found 'a.b' twice, expected it once"),
    ],
)  # fmt: skip
def test_a_fault_of_a_route_is_told_with_its_place(more: str, route: str, told: str) -> None:
    found = faults(one_route(f"{{path: /a, access: public, {route}}}", more))
    assert len(found) == 1
    assert f"routes[0].{told}" in found[0]
    assert found[0].startswith(f"routes.yaml:{3 + more.count(chr(10))}:")


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("crm:3000", "upstreams.app: found 'crm:3000', expected http(s)://host:port or unix:/path"),
        ("{ca: /ca.pem}", "upstreams.app: found no 'url', expected it"),
        ('{url: "http://a", ca: /ca.pem}', "upstreams.app.ca: found it for http://a, expected it for an https"),
        ('{url: "https://a", key: /k.pem}', "upstreams.app: found one of `certificate` and `key`, expected both"),
        ('{url: "https://a", server_name: "a:1"}', "upstreams.app.server_name: found 'a:1', expected a host's name"),
        ('{url: "https://a", port: 1}', "found the name 'port', expected one of url, ca, certificate"),
        ("[crm]", "upstreams.app: found a list, expected http(s)://host:port or unix:/path"),
    ],
)
def test_a_fault_of_an_app_is_told_with_its_place(app: str, told: str) -> None:
    """Alone: that a route leads to it is right."""
    (found,) = faults(one_route("{path: /a, access: public, upstream: app}", f"upstreams:\n  app: {app}\n"))
    assert told in found
    assert found.startswith("routes.yaml:3:")


def test_two_routes_may_not_name_one_path_at_one_host() -> None:
    rest = '\n  - {path: "/{x}", access: public'
    both = one_route('{path: "/{id}", access: public, hosts: [a.test, b.test]}' + rest + ", hosts: [c.test, b.test]}")
    assert faults(both) == [
        "routes.yaml:4:12: routes[1].path: names the same paths at b.test as '/{id}' in line 3",
    ]
    for hosts in ("", ", hosts: c.test", ", hosts: '*.test'", ", hosts: 'a.test:1'"):
        assert (
            len(
                read(
                    one_route('{path: "/{id}", access: public, hosts: [a.test, b.test]}' + rest + hosts + "}")
                ).table.routes
            )
            == 2
        )


def test_an_app_to_which_nothing_leads_is_warned_of() -> None:
    found = read(
        one_route("{path: /a, access: public, upstream: crm}", 'upstreams: {crm: "http://a", old: "http://b"}\n')
    )
    assert [str(each) for each in found.warnings] == [
        "routes.yaml:2:35: upstreams.old: found no route that leads to it, expected one with `upstream`, or it removed"
    ]


POOL = "  - {{region: eu-west-1, user_pool_id: eu-west-1_{}, client_ids: [web], hosts: {}}}\n"


def identities(*hosts: str) -> str:
    pools = "".join(POOL.format(letter, each) for letter, each in zip("ABC", hosts, strict=False))
    return one_route("{path: /a, access: authenticated}", f"identity:\n{pools}")


def test_a_wildcard_of_one_pool_may_not_stand_for_a_host_of_another() -> None:
    wanted = "expected each host in one of them"
    assert faults(identities("'*.a.test'", "[x.a.test]")) == [
        f"routes.yaml:4:78: identity[1].hosts: found 'x.a.test', which '*.a.test' in line 3 stands for too, {wanted}"
    ]
    assert wanted in faults(identities("a.test", "'a.test:8443'"))[0]
    assert read(identities("['*.a.test', x.a.test]", "b.test")).identities[0].hosts == ("*.a.test", "x.a.test")


def test_a_host_of_two_pools_is_warned_of() -> None:
    found = read(identities("a.test", "[b.test, A.test]")).warnings
    assert [str(each) for each in found] == [
        "routes.yaml:4:78: identity[1].hosts: found 'a.test', as in line 3: tokens of both pass there"
    ]


@pytest.mark.parametrize(
    ("hosts", "listed", "unlisted"),
    [
        (("a.test",), {"a.test"}, ""),
        (("a.test",), {"*.test"}, ""),
        (("a.test:1",), {"a.test"}, ""),
        (("a.test",), {"a.test:1"}, ""),
        (("*.test",), {"a.test"}, ""),
        (("a.test", "b.test"), {"a.test"}, "b.test"),
        (("*.a.test",), {"a.test"}, "*.a.test"),
        (("b.test", "a.test", "c.test"), {"a.test"}, "b.test c.test"),
    ],
)
def test_a_host_that_the_settings_turn_away_is_found(hosts: tuple[str, ...], listed: set[str], unlisted: str) -> None:
    assert PlacedHosts(Mark(1, 1, ""), hosts).unlisted(frozenset(listed)) == tuple(unlisted.split())
