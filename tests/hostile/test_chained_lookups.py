"""What a client can do by a record of its own that leads to the next lookup, and by a name that stands in an expression:
another question, another member, or a decision about nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from cerbos.effect.v1 import effect_pb2
from cerbos.request.v1 import request_pb2

from tests.faults.fakes import FakeCerbos, allowing
from tests.faults.test_faults import environment
from tests.stack import ROOT, Got, Recorder, Sidecar, Web, running_sidecar
from tests.tokens import claims, key_set, mint

pytestmark = pytest.mark.process
ROUTES = """\
version: 1
lookups:
  contact: {url: "http://<hook>/contacts/{id}", attributes: {account: account, quota: quota}, optional: [quota], echo: id, timeout: 5s}
  account:
    url: "http://<hook>/accounts/{lookup.contact.account}?of={principal.id}"
    attributes: {role: "members[?id=='{principal.id}'].role | [0]", level: 'levels."{principal.id}"'}
    optional: [level]
    timeout: 5s
  team: {url: "http://<hook>/teams/{lookup.account.role}", attributes: {team: "names[?@=='{lookup.contact.account}'] | [0]"}, timeout: 5s}
routes:
  - {path: "/contacts/{id:int}", resource: contact, id: "{path.id}", lookup: [contact, account], query: [], actions: {GET: read}}
  - {path: "/teams/{id:int}", resource: contact, id: "{path.id}", lookup: [contact, account, team], query: [], actions: {GET: read}}
  - {path: /many, resource: contact, query: [], each: {at: "{body.ids}", id: "@:int", lookup: [contact, account]}, actions: {POST: read}}
"""
OWNER = {"members": [{"id": "alice", "role": "owner"}], "levels": {"alice": 1, "*": 9}, "names": ["acme"]}


def by_role(request: request_pb2.CheckResourcesRequest, _: grpc.ServicerContext) -> bytes:
    """What a Cerbos says whose policy lets the owner of the account do everything."""
    message = allowing(request)
    for entry, result in zip(request.resources, message.results, strict=True):
        if entry.resource.attr["role"].string_value != "owner":
            for action in entry.actions:
                result.actions[action] = effect_pb2.EFFECT_DENY
    return message.SerializeToString()


@dataclass
class World:
    sidecar: Sidecar
    upstream: Recorder
    hook: Web

    def ask(self, target: str, name: str = "alice", body: bytes | None = None) -> Got:
        token = mint(claims(time.time(), sub=name)).decode()
        method = "GET" if body is None else "POST"
        return self.sidecar.request(method, target, token, body, content_type="application/json")

    @property
    def asked(self) -> list[str]:
        """What the hook was asked."""
        return [path for path, _ in self.hook.asked]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, hook, cerbos, upstream = Web(), Web(), FakeCerbos(), Recorder()
    keys.json("/jwks", key_set())
    cerbos.check = by_role
    environ = {
        **environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}", "SIDECAR_CERBOS_TIMEOUT": "5s",
    }  # fmt: skip
    routes, where = ROUTES.replace("<hook>", f"127.0.0.1:{hook.port}"), f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(
        tmp_path_factory.mktemp("chained-hostile"), routes, ROOT / "policies", where, environ
    ) as sidecar:
        yield World(sidecar, upstream, hook)
    for part in (keys, hook, cerbos, upstream):
        part.close()


@pytest.fixture
def world(shared: World) -> World:
    """Contact 7 is of acme, which alice owns; what 8 is of, its author writes. The hook has more that a path may lead to."""
    shared.hook.pages.clear()
    shared.hook.asked.clear()
    shared.upstream.reset()
    shared.hook.json("/contacts/7", {"id": 7, "account": "acme"})
    for path in ("/accounts/acme?of=alice", "/accounts/acme", "/accounts/", "/", "/admin", "/accounts/admin?of=alice"):
        shared.hook.json(path, OWNER)
    return shared


ACCOUNTS: dict[str, Any] = {
    "above": "../admin", "dots": "..", "dot": ".", "below": "a/../acme", "query": "acme?of=bob", "fragment": "acme#",
    "escaped": "acme%2f..", "slash": "acme/", "backslash": "..\\acme", "lines": "acme\r\nX-Auth: root", "nul": "acme\0", "empty": "",
    "blank": "acme ", "place": "{principal.id}", "other place": "{id}", "wide": "\uff41cme", "long": "a" * 9000, "number": 7,
    "list": ["acme"], "map": {"acme": 1}, "true": True, "null": None, "ampersand": "acme&of=root", "host": "@evil.test:80/",
    "absolute": "http://evil.test/", "half": "\ud800",
}  # fmt: skip


@pytest.mark.parametrize("account", ACCOUNTS.values(), ids=list(ACCOUNTS))
def test_a_record_leads_to_one_segment_of_the_next_question_or_to_none(world: World, account: Any) -> None:
    world.hook.json("/contacts/8", {"id": 8, "account": account})
    got = world.ask("/contacts/8")
    assert got.status in (403, 503)
    assert world.upstream.received == b""
    first, *others = world.asked
    assert first == "/contacts/8"
    if others:
        assert others == [f"/accounts/{quote(str(account), safe='')}?of=alice"]
    # and nobody else's question is answered by it
    assert world.ask("/contacts/7").status == 200


@pytest.mark.parametrize("account", ["acme", "../admin", None], ids=str)
def test_one_of_many_that_leads_elsewhere_lets_none_pass(world: World, account: str | None) -> None:
    world.hook.json("/contacts/8", {"id": 8, "account": account})
    got = world.ask("/many", body=b'{"ids": [7, 8]}')
    assert (got.status == 200, bool(world.upstream.received)) == (account == "acme", account == "acme")
    assert {path.partition("?")[0] for path in world.asked} <= {
        "/contacts/7", "/contacts/8", "/accounts/acme", "/accounts/..%2Fadmin",
    }  # fmt: skip


NAMES = (
    "' || '1'=='1", "alice' || id=='alice", "alice'].role | ['owner", "\\", "\\'", "`true`", '`"alice"`', "{id}", "{principal.id}",
    "@", "*", "[]", "id", "members[0].id", "alice ", "ALICE", "\uff41lice", 'alice"."x', "null", "a'||'lice",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_an_expression_is_compared_and_never_read(world: World, name: str) -> None:
    """Nobody of these is a member, and `levels` has a member of the name of one alone."""
    for path in (f"/accounts/acme?of={quote(name, safe='')}", f"/teams/{quote(name, safe='')}"):
        world.hook.json(path, OWNER)
    got = world.ask("/contacts/7", name)
    # no role is no decision: it is required
    assert got.status in (401, 403, 503)
    assert world.upstream.received == b""


def test_what_a_later_lookup_gives_takes_the_place_of_nothing(world: World) -> None:
    """A hook that says more than it is asked for says nothing of what another one gave."""
    account = {**OWNER, "account": "evil", "contact": {"account": "evil"}, "lookup": {"contact": {"account": "evil"}}}
    world.hook.json("/accounts/acme?of=alice", account)
    world.hook.json("/teams/owner", {"names": ["acme", "evil"]})
    assert world.ask("/teams/7").status == 200
    assert world.asked == ["/contacts/7", "/accounts/acme?of=alice", "/teams/owner"]


@pytest.mark.parametrize("broken", ["/contacts/7", "/accounts/acme?of=alice", "/teams/owner"])
@pytest.mark.parametrize("status", [404, 500, 302, 200])
def test_a_chain_that_breaks_anywhere_is_no_decision(world: World, broken: str, status: int) -> None:
    world.hook.json("/teams/owner", OWNER)
    world.hook.json(broken, {"id": 9, "message": "not yours"}, status)
    got = world.ask("/teams/7")
    assert got.status in (403, 404, 503)
    assert world.upstream.received == b""
