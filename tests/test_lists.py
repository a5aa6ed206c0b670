"""Lists as a client and an app see them, with the real Cerbos: item by item, field by field."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import jwt
import pytest

from tests.conftest import Stack
from tests.stack import Recorder, Seen, Sidecar, reply, running_sidecar, wait_for

POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: note
  version: default
  rules:
    - {actions: [list], effect: EFFECT_ALLOW, roles: [user, admin]}
    - actions: [read]
      effect: EFFECT_ALLOW
      roles: [user]
      condition: {match: {any: {of: [{expr: R.attr.owner == P.id}, {expr: R.attr.shared == true}]}}}
    - actions: [view_phone]
      effect: EFFECT_ALLOW
      roles: [user]
      condition: {match: {expr: R.attr.owner == P.id}}
    - {actions: [read, view_phone], effect: EFFECT_ALLOW, roles: [admin]}
    - actions: [read]
      effect: EFFECT_DENY
      roles: ["*"]
      condition: {match: {expr: R.attr.status == "deleted"}}
"""
ROUTES = """\
version: 1
principal: {{id: sub, roles: "cognito:groups"}}
defaults: {{roles: [user]}}
lookups:
  note: {{url: "http://127.0.0.1:{hook}/n/{{id}}", attributes: {{owner: owner_id, shared: shared, status: status}}}}
routes:
  - path: /notes
    resource: note
    actions: {{GET: list}}
    items: &items
      at: data
      id: id
      attributes: {{owner: owner_id, shared: shared, status: status}}
      fields: {{phone: view_phone, contact.email: {{action: view_phone, mask: hidden}}}}
      total: meta.total
      max: 500
      max_size: 64KiB
  - {{path: /all, resource: note, actions: {{GET: list}}, items: {{<<: *items, at: "@", total: []}}}}
  - {{path: /stream, resource: note, actions: {{GET: list}}, items: {{at: lines, id: id, attributes: {{owner: owner_id, shared: shared, status: status}}, fields: {{phone: view_phone}}}}}}
  - path: /notes/{{id}}
    resource: note
    id: "{{path.id}}"
    lookup: note
    fields: {{phone: view_phone}}
    actions: {{GET: read}}
"""
JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def sidecar(session_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("lists")
    (folder / "policies").mkdir()
    (folder / "policies" / "note.yaml").write_text(POLICY)
    routes = ROUTES.format(hook=session_stack.hook.port)
    upstream = f"http://127.0.0.1:{session_stack.upstream.port}"
    with running_sidecar(folder, routes, folder / "policies", upstream, session_stack.environ) as sidecar:
        yield sidecar


def subject(stack: Stack, user: str) -> str:
    return str(jwt.decode(stack.tokens[user], options={"verify_signature": False})["sub"])


def rows(stack: Stack) -> list[dict[str, Any]]:
    """Every combination of owner, shared and status."""
    return [
        {"id": at, "owner_id": owner, "shared": shared, "status": status, "phone": f"+{at}", "contact": {"email": f"{at}@x"}}
        for at, (owner, shared, status) in enumerate(
            (owner, shared, status)
            for owner in (subject(stack, "alice"), subject(stack, "bob"), "nobody")
            for shared in (True, False)
            for status in ("open", "deleted")
        )
    ]  # fmt: skip


def seen_by(stack: Stack, user: str) -> list[dict[str, Any]]:
    """The rows that a user may see, as they may be seen: the policy, said once more."""
    me, shown = subject(stack, user), []
    for row in rows(stack):
        if row["status"] == "deleted" or not (user == "admin" or row["shared"] or row["owner_id"] == me):
            continue
        if user != "admin" and row["owner_id"] != me:
            row = {name: value for name, value in row.items() if name != "phone"} | {"contact": {"email": "hidden"}}
        shown.append(row)
    return shown


@pytest.mark.parametrize("user", ["alice", "bob", "admin"])
def test_everybody_sees_what_the_policy_shows_them(stack: Stack, sidecar: Sidecar, user: str) -> None:
    body = {"data": rows(stack), "meta": {"total": 12, "page": 1}}
    stack.upstream.answer = reply(200, json.dumps(body).encode(), JSON, 'ETag: "1"', "X-Total-Count: 12", "Link: </n>")
    got = sidecar.get("/notes", stack.tokens[user])
    expected = seen_by(stack, user)
    assert got.status == 200
    assert json.loads(got.body) == {"data": expected, "meta": {"total": len(expected), "page": 1}}
    assert (got.header("x-total-count"), got.header("link"), got.header("etag")) == (str(len(expected)), "</n>", None)
    assert (got.header("cache-control"), got.header("vary")) == ("private, no-store", "Authorization")
    line = sidecar.decisions()[-1]
    masked = sum(row["contact"]["email"] == "hidden" for row in expected)
    assert line["items"] == {"seen": 12, "kept": len(expected), "masked": masked, "calls": 1}


@pytest.mark.parametrize("user", ["alice", "bob", "admin"])
def test_the_list_and_the_single_read_agree_on_every_row(stack: Stack, sidecar: Sidecar, user: str) -> None:
    stack.upstream.answer = reply(200, json.dumps(rows(stack)).encode(), JSON)
    listed = {row["id"]: row for row in json.loads(sidecar.get("/all", stack.tokens[user]).body)}
    for row in rows(stack):
        stack.hook.json(f"/n/{row['id']}", row)
        stack.upstream.answer = reply(200, json.dumps(row).encode(), JSON)
        got = sidecar.get(f"/notes/{row['id']}", stack.tokens[user])
        assert (got.status == 200) is (row["id"] in listed), row
        if got.status == 200:
            assert ("phone" in json.loads(got.body)) is ("phone" in listed[row["id"]])


def test_what_stays_is_byte_for_byte_what_came(stack: Stack, sidecar: Sidecar) -> None:
    me = subject(stack, "alice")
    numbers = '"n": 1.50e+2, "big": 123456789012345678901, "s": "\\u00e9\\/é"'
    mine = f'{{"id" : 1, "owner_id":"{me}","shared":false, {numbers}, "status":"open"}}'
    theirs = mine.replace(me, "other")
    stack.upstream.answer = reply(200, f'{{"data": [ {theirs} ,\n{mine},{theirs}], "x": 1.0}}'.encode(), JSON)
    assert sidecar.get("/notes", stack.tokens["alice"]).body == f'{{"data": [ {mine}], "x": 1.0}}'.encode()


def test_the_app_is_asked_for_the_whole_list_as_json(stack: Stack, sidecar: Sidecar) -> None:
    stack.upstream.answer = reply(200, b'{"data": []}', JSON)
    headers = {
        "accept_encoding": "gzip",
        "range": "bytes=0-5",
        "if_none_match": '"1"',
        "if_modified_since": "x",
        "if_range": "x",
    }
    assert sidecar.get("/notes?page=2", stack.tokens["alice"], **headers).status == 200
    (seen,) = stack.upstream.seen
    assert seen.target == "/notes?page=2"
    assert [seen.values(name.replace("_", "-")) for name in headers] == [[]] * 5


def test_head_is_answered_as_get_would_be(stack: Stack, sidecar: Sidecar) -> None:
    stack.upstream.answer = reply(200, json.dumps({"data": rows(stack)}).encode(), JSON)
    got = sidecar.get("/notes", stack.tokens["alice"])
    head = sidecar.request("HEAD", "/notes", stack.tokens["alice"])
    assert (head.status, head.body, head.header("content-length")) == (200, b"", str(len(got.body)))
    assert [seen.method for seen in stack.upstream.seen] == ["GET", "GET"]


ROW = b'{"id": 1, "owner_id": "x", "shared": true, "status": "open"}'


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (reply(200, b"<p>secret", "Content-Type: text/html"), "items_unreadable", "content type"),
        (reply(200, b"secret", JSON), "items_unreadable", "items.at"),
        (reply(200, b'{"rows": ["secret"]}', JSON), "items_unreadable", "no member 'data'"),
        (reply(200, b'{"data": [' + ROW + b', {"id": 2}]}', JSON), "items_unreadable", "items[1]: attributes.owner"),
        (reply(200, b'{"data": [' + ROW + b'], "data": []}', JSON), "items_unreadable", "twice"),
        (reply(200, b'{"data": []}', JSON, "Content-Encoding: gzip"), "items_unreadable", "encoding"),
        (reply(206, b'{"data": []}', JSON), "items_unreadable", "status 206"),
        (reply(200, b'{"data": [%s]}' % b",".join([ROW] * 501), JSON), "items_too_many", "more than 500 items"),
        (reply(200, b'{"data": [], "x": "%s"}' % (b"x" * 65536), JSON), "items_too_many", "more than 65536 bytes"),
    ],
)  # fmt: skip
def test_nothing_of_an_answer_that_cannot_be_judged_goes_out(
    stack: Stack, sidecar: Sidecar, answer: Any, code: str, said: str
) -> None:
    stack.upstream.answer = answer
    got = sidecar.get("/notes", stack.tokens["admin"])
    assert (got.status, got.code) == (502, code)
    assert b"secret" not in got.body
    line = sidecar.decisions()[-1]
    assert (line["outcome"], line["code"], line["status"]) == ("allow", code, 502)
    assert said in line["detail"]


@pytest.mark.parametrize("status", [302, 400, 404, 500])
def test_an_error_of_the_app_passes(stack: Stack, sidecar: Sidecar, status: int) -> None:
    stack.upstream.answer = reply(status, b"the app's own words", "Content-Type: text/plain", "Location: /x")
    got = sidecar.get("/notes", stack.tokens["alice"])
    assert (got.status, got.body) == (status, b"the app's own words")


def test_a_hidden_field_is_no_way_to_search(stack: Stack, sidecar: Sidecar) -> None:
    stack.upstream.answer = reply(200, b'{"data": []}', JSON)
    for query in ("phone=1", "sort=-phone", "filter%5Bphone%5D=1", "email_like=x"):
        got = sidecar.get(f"/notes?{query}", stack.tokens["alice"])
        assert (got.status, got.code) == (400, "query_not_allowed")
    assert stack.upstream.seen == []
    assert sidecar.get("/notes?name=1", stack.tokens["alice"]).status == 200


def test_one_thing_is_looked_for_by_a_hidden_field_only_by_who_may_see_it(stack: Stack, sidecar: Sidecar) -> None:
    row = rows(stack)[0]
    stack.hook.json("/n/0", row)
    stack.upstream.answer = reply(200, json.dumps(row).encode(), JSON)
    for user, status in (("alice", 200), ("admin", 200), ("bob", 400)):
        assert sidecar.get("/notes/0?phone__startswith=%2B1", stack.tokens[user]).status == status


def test_a_refused_list_and_a_good_one_share_a_connection(stack: Stack, sidecar: Sidecar) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=10)) as client:
        for body, status in ((b"[]", 502), (b'{"data": []}', 200), (b"x", 502), (b'{"data": []}', 200)):
            stack.upstream.answer = reply(200, body, JSON)
            client.request("GET", "/notes", headers={"authorization": f"Bearer {stack.tokens['alice']}"})
            got = client.getresponse()
            got.read()
            assert got.status == status


def stream(connection: socket.socket, lines: list[bytes]) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
    for line in lines:
        connection.sendall(b"%x\r\n%b\r\n" % (len(line), line))


def test_lines_come_as_they_are_judged_and_a_fault_breaks_off(stack: Stack, sidecar: Sidecar) -> None:
    mine = json.dumps(
        {"id": 1, "owner_id": subject(stack, "alice"), "shared": False, "status": "open", "phone": 1}
    ).encode()
    theirs, go = mine.replace(b'"owner_id": "', b'"owner_id": "x'), threading.Event()

    def answer(_: Recorder, connection: socket.socket, __: Seen) -> None:
        stream(connection, [theirs + b"\n", mine + b"\n"])
        go.wait(10)
        last = [theirs + b"\n", mine + b"\n", b'{"id": "no attributes"}\n']
        for line in last:
            connection.sendall(b"%x\r\n%b\r\n" % (len(line), line))
        connection.sendall(b"0\r\n\r\n")

    stack.upstream.answer = answer
    with closing(http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=10)) as client:
        client.request("GET", "/stream", headers={"authorization": f"Bearer {stack.tokens['alice']}"})
        got = client.getresponse()
        # it is there while the app still sends
        assert got.readline() == mine + b"\n"
        go.set()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            got.read()
    wait_for(lambda: sidecar.decisions()[-1]["event"] == "broken_off")
    line = sidecar.decisions()[-1]
    assert (line["code"], "attributes.owner" in line["detail"]) == ("items_unreadable", True)


def test_an_error_and_the_head_of_a_stream(stack: Stack, sidecar: Sidecar) -> None:
    stack.upstream.answer = reply(404, b"none", "Content-Type: text/plain")
    got = sidecar.get("/stream", stack.tokens["alice"])
    assert (got.status, got.body) == (404, b"none")
    stack.upstream.answer = reply(200, b"secret\n", "Content-Type: text/plain")
    assert sidecar.get("/stream", stack.tokens["alice"]).code == "items_unreadable"
    stack.upstream.answer = reply(200, b"secret\n", "Content-Type: application/x-ndjson")
    assert sidecar.request("HEAD", "/stream", stack.tokens["alice"]).status == 200
