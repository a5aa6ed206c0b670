"""Pages that are filled, through real sockets and the real Cerbos: what a client gets, and what the app is asked for."""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.faults.test_faults import environment
from tests.stack import Answer, Got, Recorder, Seen, Sidecar, Web, raw_reply, reply, running_sidecar, wait_for
from tests.tokens import claims, key_set, mint

POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: note
  version: default
  rules:
    - {actions: [list], effect: EFFECT_ALLOW, roles: [user]}
    - {actions: [read], effect: EFFECT_ALLOW, roles: [user], condition: {match: {expr: R.attr.owner == P.id}}}
    - {actions: [view_phone], effect: EFFECT_ALLOW, roles: [user], condition: {match: {expr: R.attr.mine == true}}}
"""
ROUTES = """\
version: 1
principal: {id: username, roles: "cognito:groups"}
routes:
  - path: /linked
    resource: note
    actions: {GET: list}
    items: &items
      at: "@"
      id: id
      attributes: {owner: owner, mine: mine}
      optional: [mine]
      fields: {phone: view_phone}
      refill: 3
  - path: /body
    resource: note
    actions: {GET: list}
    items: &body
      <<: *items
      at: data
      total: total
      max: 40
      max_size: 8KiB
      refill: &refill {pages: 10, next: paging.next, last: paging.more}
  - path: /tokens
    resource: note
    query: [page, size]
    set_query: {tenant: "{principal.id}"}
    actions: {GET: list}
    items: {<<: *body, refill: {<<: *refill, next: cursor, parameter: page}}
  - {path: /short, resource: note, actions: {GET: list}, items: {<<: *body, refill: {<<: *refill, timeout: 300ms}}}
  - path: /set
    resource: note
    query: [page, size]
    set_query: {tenant: "{principal.id}"}
    actions: {GET: list}
    items: *body
  - {path: /plain, resource: note, actions: {GET: list}, items: {at: "@", id: id, attributes: {owner: owner}}}
"""
JSON = "Content-Type: application/json"


def rows(*owners: str, mine: bool = True) -> list[dict[str, Any]]:
    return [
        {"id": at, "owner": {"a": "alice", "b": "bob"}[owner], "mine": mine, "phone": f"+{at}"}
        for at, owner in enumerate("".join(owners))
    ]


@dataclass
class App:
    """An app with pages of `size`, by all the ways to tell of the next. `instead` answers for a page in its place."""

    rows: list[dict[str, Any]]
    size: int = 4
    instead: dict[int, Answer] = field(default_factory=dict)
    next: Callable[[str, int], str] = lambda target, page: _with_page(target, page)

    def __call__(self, recorder: Recorder, connection: socket.socket, seen: Seen) -> None:
        page = int(parse_qs(urlsplit(seen.target).query).get("page", ["1"])[0])
        self.instead.get(page, self.page(page))(recorder, connection, seen)

    def page(self, page: int) -> Answer:
        def answer(recorder: Recorder, connection: socket.socket, seen: Seen) -> None:
            data = self.rows[(page - 1) * self.size : page * self.size]
            more = page * self.size < len(self.rows)
            following = self.next(seen.target, page + 1) if more else None
            headers = [JSON, f"X-Total-Count: {len(self.rows)}", f"X-Page: {page}"]
            if following is not None:
                headers.append(f'Link: <?page=1>; rel="first", <{following}>; rel="next"')
            whole = {
                "page": page,
                "total": len(self.rows),
                "data": data,
                "paging": {"next": following, "more": more},
                "cursor": page + 1 if more else None,
            }
            body = json.dumps(data if seen.target.startswith(("/linked", "/plain")) else whole).encode()
            reply(200, body, *headers)(recorder, connection, seen)

        return answer


def _with_page(target: str, page: int) -> str:
    path, _, query = target.partition("?")
    kept = [pair for pair in query.split("&") if pair and not pair.startswith("page=")]
    return f"{path}?{'&'.join([*kept, f'page={page}'])}"


@dataclass
class World:
    upstream: Recorder
    sidecar: Sidecar
    token: str

    def get(self, app: Answer, target: str) -> Got:
        """Ask for a target of this app."""
        self.upstream.reset(app)
        return self.sidecar.get(target, self.token)

    def pages(self) -> list[str]:
        """The pages that the app was asked for."""
        return [parse_qs(urlsplit(seen.target).query).get("page", ["1"])[0] for seen in self.upstream.seen]

    def items(self) -> dict[str, Any]:
        """The numbers in the log of the last request."""
        found: dict[str, Any] = self.sidecar.decisions()[-1]["items"]
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, upstream, folder = Web(), Recorder(), tmp_path_factory.mktemp("refill")
    keys.json("/jwks", key_set())
    (folder / "policies").mkdir()
    (folder / "policies" / "note.yaml").write_text(POLICY)
    where = f"http://127.0.0.1:{upstream.port}"
    environ = environment(keys.port) | {"SIDECAR_CERBOS_TIMEOUT": "5s"}
    with running_sidecar(folder, ROUTES, folder / "policies", where, environ) as sidecar:
        yield World(upstream, sidecar, mint(claims(time.time())).decode())
    for part in (keys, upstream):
        part.close()


def ids(got: Got) -> list[int]:
    body = json.loads(got.body)
    return [row["id"] for row in (body["data"] if isinstance(body, dict) else body)]


def link_of(got: Got) -> str | None:
    """The link to the next page, as a client finds it."""
    found = re.search(r'<([^>]*)>; rel="next"', got.header("link") or "")
    return found[1] if found else None


def next_of(got: Got) -> str | None:
    """The next page, as a client finds it."""
    body = json.loads(got.body)
    return body["paging"]["next"] if isinstance(body, dict) else link_of(got)


def test_a_page_that_lost_items_is_filled(world: World) -> None:
    app = App(rows("abbb", "abba", "aabb", "abab"))
    got = world.get(app, "/linked?q=x")
    assert (got.status, ids(got)) == (200, [0, 4, 7, 8, 9])
    assert [seen.target for seen in world.upstream.seen] == ["/linked?q=x", "/linked?q=x&page=2", "/linked?q=x&page=3"]
    assert got.header("link") == '</linked?q=x&page=4>; rel="next", <?page=1>; rel="first"'
    assert (got.header("x-page"), got.header("x-total-count")) == ("1", None)
    assert (got.header("cache-control"), got.header("content-length")) == ("private, no-store", str(len(got.body)))
    assert world.items() == {"seen": 12, "kept": 5, "masked": 0, "calls": 3, "pages": 3}
    assert [seen.values("x-auth-subject") for seen in world.upstream.seen] == [["alice"]] * 3
    assert len({tuple(seen.values("x-request-id")) for seen in world.upstream.seen}) == 1


def test_in_the_body_everything_else_is_that_of_the_first_page(world: World) -> None:
    got = world.get(App(rows("abbb", "aaab", "aaaa")), "/body?page=1")
    rest = json.loads(got.body)
    assert [row["id"] for row in rest.pop("data")] == [0, 4, 5, 6]
    assert rest == {"page": 1, "paging": {"next": "/body?page=3", "more": True}, "cursor": 2}
    assert link_of(got) == "/body?page=3"


def test_a_page_that_lost_nothing_is_not_filled(world: World) -> None:
    assert ids(world.get(App(rows("aaaa", "aaaa")), "/linked")) == [0, 1, 2, 3]
    assert (world.pages(), "pages" in world.items()) == (["1"], False)
    assert ids(world.get(App(rows("abbb", "aaaa")), "/plain")) == [0]
    assert (world.pages(), "pages" in world.items()) == (["1"], False)


def test_no_more_than_so_many_pages_are_asked_for(world: World) -> None:
    got = world.get(App(rows("bbbb" * 5, "aaaa")), "/linked")
    assert (ids(got), world.pages(), link_of(got)) == ([], ["1", "2", "3", "4"], "/linked?page=5")
    assert (got.body, world.items()["pages"]) == (b"[]", 4)


def test_the_end_of_the_list_is_told(world: World) -> None:
    app = App(rows("abbb", "ab"))
    got = world.get(app, "/linked")
    assert (ids(got), world.pages(), link_of(got)) == ([0, 4], ["1", "2"], None)
    got = world.get(app, "/body")
    assert (ids(got), world.pages(), link_of(got)) == ([0, 4], ["1", "2"], None)
    assert json.loads(got.body)["paging"] == {"next": None, "more": False}


def test_fields_are_hidden_on_each_page(world: World) -> None:
    got = world.get(App(rows("ab", "ab", mine=False), 2), "/linked")
    assert json.loads(got.body) == [{"id": at, "owner": "alice", "mine": False} for at in (0, 2)]
    assert world.items()["masked"] == 2


@pytest.mark.parametrize(
    "elsewhere", ["http://evil.example/linked?page=2", "/body?page=2", "//x/linked?page=2", "/linked/../body?page=2"]
)
def test_a_cursor_to_another_place_is_not_followed(world: World, elsewhere: str) -> None:
    got = world.get(App(rows("abbb", "aaaa"), next=lambda *_: elsewhere), "/linked")
    assert (ids(got), world.pages(), link_of(got)) == ([0], ["1"], elsewhere)


def test_the_apps_own_name_may_stand_in_a_cursor(world: World) -> None:
    host = f"127.0.0.1:{world.sidecar.port}"
    got = world.get(App(rows("abbb", "aaaa"), next=lambda _, page: f"http://{host}/linked?page={page}"), "/linked")
    assert (ids(got), world.pages()) == ([0, 4, 5, 6, 7], ["1", "2"])


def test_a_cursor_that_leads_in_a_circle_ends(world: World) -> None:
    got = world.get(App(rows("bbbb" * 9), next=lambda _, page: f"/body?page={page % 3 + 1}"), "/body?page=1")
    assert (ids(got), world.pages()) == ([], ["1", "3", "2"])


def page_of(count: int, pad: int = 0) -> bytes:
    return json.dumps({"data": [{"id": at, "owner": "alice"} for at in range(count)], "pad": "x" * pad}).encode()


def cut(_: Recorder, connection: socket.socket, __: Seen) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
    connection.close()


FAULTS: dict[str, tuple[Answer, str]] = {
    "500": (reply(500, b"secret", "Content-Type: text/plain"), "items_unreadable"),
    "500 with items": (
        reply(500, b'{"data": [{"id": 9, "owner": "alice", "pad": "secret"}]}', JSON),
        "items_unreadable",
    ),
    "204": (raw_reply(b"HTTP/1.1 204 No Content\r\n\r\n"), "items_unreadable"),
    "redirect": (reply(302, b"", "Location: /body?page=3"), "items_unreadable"),
    "html": (reply(200, b"<p>secret", "Content-Type: text/html"), "items_unreadable"),
    "an item without an owner": (reply(200, b'{"data": [{"id": "secret"}]}', JSON), "items_unreadable"),
    "a cursor that is none": (reply(200, b'{"data": [], "paging": {"next": {}}}', JSON), "items_unreadable"),
    "a link that is none": (reply(200, b'{"data": []}', JSON, "Link: secret"), "items_unreadable"),
    "too many items": (reply(200, page_of(41), JSON), "items_too_many"),
    "too many items of all": (reply(200, page_of(37), JSON), "items_too_many"),
    "too large": (reply(200, page_of(1, 8192), JSON), "items_too_many"),
    "too large with the first": (reply(200, page_of(1, 8100), JSON), "items_too_many"),
    "no HTTP": (raw_reply(b"secret\r\n\r\n"), "upstream_protocol"),
    "broken off": (lambda _, connection, __: connection.close(), "upstream_unavailable"),
    "cut": (cut, "upstream_partial"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_further_page_leaves_the_answer_that_is_there(world: World, fault: str) -> None:
    answer, code = FAULTS[fault]
    got = world.get(App(rows("abbb", "abbb", "aaaa"), instead={3: answer}), "/body")
    assert (got.status, ids(got), next_of(got)) == (200, [0, 4], "/body?page=3")
    # one that is closed without an answer is asked for once more
    assert [*dict.fromkeys(world.pages())] == ["1", "2", "3"]
    assert b"secret" not in got.body
    items = world.items()
    assert (items["seen"], items["kept"], items["pages"], items["ended"]) == (8, 2, 2, code)


def test_a_first_page_that_is_large_is_not_filled(world: World) -> None:
    large = [{"id": at, "owner": "alice", "pad": "x" * 600_000} for at in range(2)]
    got = world.get(App([*large, *rows("baaa")], 3), "/linked")
    assert (ids(got), world.pages(), link_of(got)) == ([0, 1], ["1"], "/linked?page=2")
    assert world.items()["ended"] == "items_too_many"


def test_a_first_page_whose_cursor_is_none_stays_as_it_is(world: World) -> None:
    got = world.get(
        App(rows("abbb"), instead={1: reply(200, b'{"data": [{"id": 1, "owner": "bob"}], "cursor": {}}', JSON)}),
        "/tokens",
    )
    assert (got.body, world.items()["ended"], world.pages()) == (
        b'{"data": [], "cursor": {}}',
        "items_unreadable",
        ["1"],
    )


def test_all_further_pages_have_one_deadline(world: World) -> None:
    go = threading.Event()

    def waits(*_: object) -> None:
        go.wait(20)

    app = App(rows("abbb", "abbb", "aaaa"), instead={3: waits})
    got = world.get(app, "/short")
    go.set()
    assert (ids(got), next_of(got), world.items()["ended"]) == ([0, 4], "/short?page=3", "deadline")


def test_a_client_that_leaves_ends_the_asking(world: World) -> None:
    there, gone = threading.Event(), threading.Event()

    def waits(_: Recorder, connection: socket.socket, __: Seen) -> None:
        there.set()
        gone.wait(20)
        # the sidecar has closed it
        assert connection.recv(1) == b""
        gone.clear()

    world.upstream.reset(App(rows("abbb", "abbb", "aaaa"), instead={2: waits}))
    with closing(http.client.HTTPConnection("127.0.0.1", world.sidecar.port, timeout=10)) as client:
        client.request("GET", "/linked", headers={"authorization": f"Bearer {world.token}"})
        assert there.wait(10)
    wait_for(lambda: world.sidecar.decisions()[-1]["status"] == 499)
    gone.set()
    wait_for(lambda: not gone.is_set(), what="the connection to the app is closed")
    assert world.pages() == ["1", "2"]


def test_head_is_answered_as_get_would_be(world: World) -> None:
    app = App(rows("abbb", "aaaa"))
    got = world.get(app, "/linked")
    head = world.sidecar.request("HEAD", "/linked", world.token)
    assert (head.status, head.body, head.header("content-length")) == (200, b"", str(len(got.body)))
    assert {seen.method for seen in world.upstream.seen} == {"GET"}
    assert world.pages() == ["1", "2", "1", "2"]


def test_the_gate_decides_each_page_by_its_own_query(world: World) -> None:
    """The app's cursor has what the sidecar put in, which no client may send, and then what no client may send."""
    app = App(rows("abbb", "abbb", "aaaa"))
    got = world.get(app, "/set?size=4")
    assert (ids(got), world.pages()) == ([0, 4, 8, 9, 10, 11], ["1", "2", "3"])
    assert world.upstream.seen[-1].target == "/set?size=4&page=3&tenant=alice"
    for query in ("page=2&admin=1", "page=2;x", "page=%zz&tenant=bob&deleted"):
        got = world.get(App(rows("abbb", "aaaa"), next=lambda *_, query=query: f"/set?{query}"), "/set")
        assert (ids(got), world.pages(), world.items()["ended"]) == ([0], ["1"], "query_not_allowed")
    # a value of another tenant goes, as it would from a client
    got = world.get(App(rows("abbb", "aaaa"), next=lambda *_: "/set?page=2&tenant=bob"), "/set")
    assert world.upstream.seen[-1].target == "/set?page=2&tenant=alice"
    # and a hidden field is searched by nobody, whatever the app says
    got = world.get(App(rows("abbb", "aaaa"), next=lambda *_: "/linked?page=2&sort=phone"), "/linked")
    assert (ids(got), world.pages(), world.items()["ended"]) == ([0], ["1"], "query_not_allowed")


def test_a_token_in_the_body_becomes_a_parameter(world: World) -> None:
    got = world.get(App(rows("abbb", "abbb", "aaaa", "a")), "/tokens?page=1&size=4")
    assert (ids(got), json.loads(got.body)["cursor"]) == ([0, 4, 8, 9, 10, 11], 4)
    assert world.upstream.seen[-1].target == "/tokens?size=4&page=3&tenant=alice"


def test_many_clients_at_once_get_their_own(world: World) -> None:
    world.upstream.reset(App(rows("abbb", "abbb", "aaaa")))
    got: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: got.append(ids(world.sidecar.get("/linked", world.token)))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[0, 4, 8, 9, 10, 11]] * 8


@pytest.mark.parametrize("target", ["/linked", "/body", "/tokens", "/set"])
def test_whoever_follows_the_cursors_sees_what_is_allowed_once_and_in_order(world: World, target: str) -> None:
    chance = random.Random(target)
    for size, share in ((1, 0.3), (4, 0.1), (4, 0.6)):
        all_rows = rows(*("a" if chance.random() < share else "b" for _ in range(chance.randrange(20, 40))))
        app, seen, following = App(all_rows, size), list[int](), target
        world.upstream.reset(app)
        while following:
            got = world.sidecar.get(following, world.token)
            assert got.status == 200
            shown = ids(got)
            seen += shown
            if target == "/tokens":
                cursor = json.loads(got.body)["cursor"]
                following = f"{target}?page={cursor}" if cursor else ""
            else:
                following = next_of(got) or ""
            # filled, or at the end, or as many pages as may be
            items = world.items()
            assert len(shown) >= size or not following or items["pages"] == (4 if target == "/linked" else 11)
            assert "ended" not in items
        assert seen == [row["id"] for row in all_rows if row["owner"] == "alice"]
