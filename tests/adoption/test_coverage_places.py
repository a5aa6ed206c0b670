"""Places of routes and attributes, wherever a route file may say them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.adoption.coverage_places import RoutePlaces

ROUTES = """\
version: 1
principal:
  attributes:
    a.b: claim
lookups:
  contact:
    url: http://127.0.0.1/{id}
    attributes: {owner: owner}
routes:
  - {path: /open, access: public, methods: [GET, HEAD]}
  - path: /contacts
    resource: contact
    attributes: {of_route: x}
    items:
      at: "@"
      id: id
      attributes:
        listed: x
    actions:
      GET: list
      POST:
        action: create
        attributes:
          own: "{body.own}"
"""


@pytest.fixture(name="places")
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RoutePlaces:
    monkeypatch.chdir(tmp_path)
    Path("routes.yaml").write_text(ROUTES)
    return RoutePlaces("routes.yaml")


@pytest.mark.parametrize(("path", "method", "line"), [
    ("/open", "GET", 10), ("/contacts", "", 11), ("/contacts", "GET", 20), ("/contacts", "POST", 22), ("/none", "", 1),
])  # fmt: skip
def test_a_route_and_its_methods_have_places(places: RoutePlaces, path: str, method: str, line: int) -> None:
    assert places.route(path, method) == f"routes.yaml:{line}"


@pytest.mark.parametrize(("method", "where", "line"), [
    ("GET", "lookups.contact.attributes.owner", 8), ("", "principal.attributes.a.b", 4), ("GET", "attributes.of_route", 13),
    ("POST", "attributes.own", 24), ("GET", "items.attributes.listed", 18), ("GET", "attributes.none", 11),
])  # fmt: skip
def test_an_attribute_has_a_place(places: RoutePlaces, method: str, where: str, line: int) -> None:
    assert places.attribute("/contacts", method, where) == f"routes.yaml:{line}"


def test_a_route_with_hosts_is_found_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(
        "version: 1\nroutes:\n  - {path: /a, access: public, hosts: [CRM.test, b.test]}\n"
        "  - {path: /a, access: public, hosts: wiki.test}\n  - {path: /a, access: public}\n"
    )
    places = RoutePlaces(str(file))
    assert [places.route(name).rpartition(":")[2] for name in ("crm.test,b.test/a", "wiki.test/a", "/a")] == [
        "3", "4", "5",
    ]  # fmt: skip
