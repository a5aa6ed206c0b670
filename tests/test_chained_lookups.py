"""The guide "when the owner is stored elsewhere" as it stands: its routes and policy, before the real Cerbos."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.stack import ROOT, Got, Recorder, Sidecar, Web, running_sidecar
from tests.tokens import CLIENT, POOL, claims, key_set, mint

PAGE = (ROOT / "docs/guides/chained-lookups.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    found, *_ = re.findall(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@dataclass
class World:
    sidecar: Sidecar
    upstream: Recorder
    hook: Web

    def ask(self, method: str, target: str, body: Any = None, name: str = "alice") -> Got:
        sent = None if body is None else json.dumps(body).encode()
        token = mint(claims(time.time(), sub=name)).decode()
        return self.sidecar.request(method, target, token, sent, content_type="application/json")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, hook, upstream = Web(), Web(), Recorder()
    keys.json("/jwks", key_set())
    environ = {
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks",
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("chained")
    (folder / "policies").mkdir()
    (folder / "policies/contact.yaml").write_text(example("policies/contact.yaml"))
    routes = example("routes.yaml").replace("127.0.0.1:9000", f"127.0.0.1:{hook.port}")
    # a busy machine is no fault of the hook; what is asked of it is counted
    routes = routes.replace("    cache: 10s\n", "    timeout: 20s\n").replace(
        "    echo: id\n", "    echo: id\n    timeout: 20s\n"
    )
    where = f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(folder, routes, folder / "policies", where, environ) as sidecar:
        yield World(sidecar, upstream, hook)
    for part in (keys, hook, upstream):
        part.close()


@pytest.fixture
def world(shared: World) -> World:
    """Contacts 7 and 9 are of acme, 8 of another account, 5 of none, and 4 of one that is not there."""
    shared.hook.pages.clear()
    shared.hook.asked.clear()
    shared.upstream.reset()
    for number, account in ((4, "gone"), (7, "acme"), (8, "other"), (9, "acme")):
        shared.hook.json(f"/contacts/{number}", {"id": number, "account_id": account, "status": "open"})
    shared.hook.json("/contacts/5", {"id": 5, "status": "open"})
    members = [{"id": "alice", "role": "owner"}, {"id": "bob", "role": "guest"}]
    shared.hook.json("/accounts/acme", {"tenant": "t", "members": members})
    shared.hook.json("/accounts/other", {"tenant": "t", "members": []})
    return shared


@pytest.mark.parametrize(
    ("name", "method", "number", "status"),
    [
        ("alice", "GET", 7, 200), ("alice", "DELETE", 7, 200), ("bob", "GET", 7, 200), ("bob", "DELETE", 7, 404),
        ("alice", "GET", 8, 404), ("x'||'owner", "GET", 7, 404), ("alice", "GET", 3, 404), ("alice", "GET", 4, 404),
    ],
)  # fmt: skip
def test_the_second_lookup_decides_by_what_the_first_one_gave(
    world: World, name: str, method: str, number: int, status: int
) -> None:
    got = world.ask(method, f"/contacts/{number}", name=name)
    assert got.status == status
    assert bool(world.upstream.seen) is (status == 200)
    account = {3: [], 4: ["/accounts/gone"], 7: ["/accounts/acme"], 8: ["/accounts/other"]}[number]
    assert [path for path, _ in world.hook.asked] == [f"/contacts/{number}", *account]
    line = world.sidecar.decisions()[-1]
    assert line["ms"]["lookup"] > 0
    if status == 404:
        assert got.code == "resource_hidden"


def test_what_the_first_did_not_give_is_no_decision(world: World) -> None:
    got = world.ask("GET", "/contacts/5")
    assert (got.status, got.code) == (503, "lookup_mismatch")
    line = world.sidecar.decisions()[-1]
    assert (line["code"], line["dep"]) == ("lookup_mismatch", "lookup")
    assert world.upstream.received == b""


def test_many_are_each_decided_by_their_own_account(world: World) -> None:
    assert world.ask("POST", "/contacts/archive", {"ids": [7, 9]}).status == 200
    assert sorted(path for path, _ in world.hook.asked)[-2:] == ["/contacts/7", "/contacts/9"]
    got = world.ask("POST", "/contacts/archive", {"ids": [7, 8, 3]})
    assert (got.status, json.loads(got.body)["each"]) == (404, {"asked": 3, "denied": 2})
