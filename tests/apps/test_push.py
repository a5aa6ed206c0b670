"""json-server is asked for those files alone that the policy may allow, and the same are shown as without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apps.conftest import policy, protected, token
from tests.stack import Sidecar

ITEMS = 'items: {{at: "@", id: id, attributes: {{owner: owner}}{push}}}'
ROUTES = "routes:\n" + "".join(
    f"  - {{path: /{name}, resource: {kind}, query: any, actions: {{GET: list}}, {items}}}\n"
    for name, kind, items in (
        ("files", "file", ITEMS.format(push=", push: {dialect: json-server}")),
        ("drafts", "file", ITEMS.format(push="").replace("owner: owner", "owner: title")),
        (
            "articles",
            "hidden",
            ITEMS.format(push=", push: {dialect: json-server}").replace("owner: owner", "owner: title"),
        ),
    )
)
OWN = "request.resource.attr.owner == request.principal.id"
POLICIES = {
    "file.yaml": policy(
        "file",
        "{actions: [list], effect: EFFECT_ALLOW, roles: [user]}",
        f"{{actions: [read], effect: EFFECT_ALLOW, roles: [user], condition: {{match: {{expr: {OWN}}}}}}}",
    ),
    "hidden.yaml": policy("hidden", "{actions: [list], effect: EFFECT_ALLOW, roles: [user]}"),
}


@pytest.fixture(scope="module")
def sidecar(json_server: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with protected(tmp_path_factory.mktemp("push"), ROUTES, POLICIES, json_server) as made:
        yield made


def listed(sidecar: Sidecar, target: str, user: str) -> tuple[list[Any], dict[str, Any]]:
    """The ids that a user gets, and the numbers in the log."""
    answer = sidecar.get(target, token(user))
    assert answer.status == 200, answer
    return [item["id"] for item in json.loads(answer.body)], sidecar.decisions()[-1]["items"]


@pytest.mark.parametrize(("user", "ids"), [("alice", [1]), ("bob", [2]), ("o'eve&owner=bob", [])])
def test_the_app_is_asked_for_what_may_be_seen(sidecar: Sidecar, user: str, ids: list[int]) -> None:
    found, numbers = listed(sidecar, "/files", user)
    assert (found, numbers["seen"], numbers["kept"], numbers["pushed"]) == (ids, len(ids), len(ids), "weakened")


def test_what_the_client_filters_by_stays_as_it_is(sidecar: Sidecar) -> None:
    found, numbers = listed(sidecar, "/files?owner=bob", "alice")
    assert (found, numbers["seen"], numbers["pushed"]) == ([], 1, "none")


def test_where_nothing_can_be_allowed_the_app_is_not_asked(sidecar: Sidecar) -> None:
    found, numbers = listed(sidecar, "/articles", "alice")
    assert (found, numbers["seen"], numbers["pushed"]) == ([], 0, "exact")
