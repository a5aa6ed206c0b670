"""The guide "decide without a hook" as it stands, before the real Cerbos: no byte of an answer before the decision."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import guide_commands
from tests.stack import ROOT, Got, Recorder, Seen, Sidecar, Web, raw_reply, reply, running_sidecar
from tests.tokens import CLIENT, POOL, claims, key_set, mint

PAGE = (ROOT / "docs/guides/without-a-hook.md").read_text(encoding="utf-8")
JSON = "Content-Type: application/json"
SECRET = "+49 555 1"


def example(name: str) -> str:
    (found,) = re.findall(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@dataclass
class World:
    """Two sidecars before one app: the second is in shadow mode."""

    sidecar: Sidecar
    shadow: Sidecar
    upstream: Recorder
    environ: dict[str, str]
    policies: Path

    def get(self, path: str, who: str = "alice", **headers: str) -> Got:
        return self.sidecar.get(path, token(who), **headers)

    def line(self) -> dict[str, Any]:
        return self.sidecar.decisions()[-1]


def token(who: str) -> str:
    return mint(claims(time.time(), sub=who)).decode()


def contact(number: int = 7, owner: str = "alice", **more: Any) -> bytes:
    return json.dumps({"id": number, "owner_id": owner, "phone": SECRET, **more}).encode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, upstream = Web(), Recorder()
    keys.json("/jwks", key_set())
    folder = tmp_path_factory.mktemp("answers")
    (folder / "policies").mkdir()
    (folder / "policies/contact.yaml").write_text(example("policies/contact.yaml"))
    environ = {
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks", "SIDECAR_UPSTREAM_HEAD_TIMEOUT": "2s",
    }  # fmt: skip
    doors = {
        "SIDECAR_FORWARD_AUTH": "nginx",
        "SIDECAR_TRUSTED_PROXIES": "127.0.0.1/32",
        "SIDECAR_HOSTS": "app.test,127.0.0.1",
    }
    routes, where = example("routes.yaml"), f"http://127.0.0.1:{upstream.port}"
    with (
        running_sidecar(folder / "one", routes, folder / "policies", where, {**environ, **doors}, shared=True) as one,
        running_sidecar(
            folder / "two", routes, folder / "policies", where, environ | {"SIDECAR_MODE": "shadow"}, shared=True
        ) as two,
    ):
        yield World(one, two, upstream, environ, folder / "policies")
    keys.close()
    upstream.close()


@pytest.fixture
def world(shared: World) -> World:
    """Contact 7 is alice's."""
    shared.upstream.reset(reply(200, contact(), JSON, 'ETag: "1"'))
    return shared


def test_an_answer_goes_out_as_it_came_to_whom_it_may(world: World) -> None:
    got = world.get("/contacts/7", if_none_match='"1"', range="bytes=0-3", accept_encoding="gzip")
    assert (got.status, got.body) == (200, contact())
    assert got.header("cache-control") == "private, no-store"
    (seen,) = world.upstream.seen
    assert not {name.lower() for name, _ in seen.headers} & {"if-none-match", "range", "accept-encoding"}
    line = world.line()
    assert (line["outcome"], line["code"], line["kind"], line["id"]) == ("allow", "allowed", "contact", "7")
    assert line["call_id"]
    assert line["policy"] == "resource.contact.vdefault"
    assert "decision" in line["ms"]


def test_nothing_of_an_answer_goes_out_to_whom_it_may_not(world: World) -> None:
    world.upstream.reset(reply(200, contact(), JSON, "Set-Cookie: app=1", "X-Note: private", 'ETag: "1"'))
    got = world.get("/contacts/7", "bob")
    assert (got.status, got.code) == (403, "denied_by_policy")
    assert SECRET not in got.body.decode()
    assert not {name.lower() for name, _ in got.headers} & {"set-cookie", "x-note", "etag"}
    line = world.line()
    assert (line["outcome"], line["code"], line["status"]) == ("refuse", "denied_by_policy", 403)
    assert line["call_id"]


def test_fields_are_decided_in_the_same_question(world: World) -> None:
    world.upstream.reset(reply(200, contact(acl={"shared": ["bob"]}), JSON))
    got = world.get("/contacts/7", "bob")
    assert json.loads(got.body) == {"id": 7, "owner_id": "alice", "acl": {"shared": ["bob"]}}
    assert world.line()["items"] == {"masked": 1}


def test_head_is_decided_by_what_get_would_show(world: World) -> None:
    for who, status in (("alice", 200), ("bob", 403)):
        got = world.sidecar.request("HEAD", "/contacts/7", token(who))
        assert (got.status, got.body) == (status, b"")
        assert (got.header("content-length") == str(len(contact()))) == (status == 200)
    assert [seen.method for seen in world.upstream.seen] == ["GET", "GET"]


def test_one_that_is_not_there_is_told_as_one_of_somebody_else(world: World) -> None:
    def told(path: str, answer: Any) -> dict[str, Any]:
        world.upstream.reset(answer)
        problem: dict[str, Any] = json.loads(world.get(path, "bob").body)
        return problem | {"request_id": ""}

    for path, status in (("/contacts/7", 403), ("/notes/7", 404)):
        denied, missing = told(path, reply(200, contact(), JSON)), told(path, reply(404, b"no such contact"))
        assert denied == missing
        assert denied["status"] == status
        assert world.line()["code"] == ("resource_missing" if status == 403 else "resource_hidden")


UNUSABLE: dict[str, tuple[Callable[[Recorder, socket.socket, Seen], None], int, str]] = {
    "another status": (reply(500, contact(), JSON), 503, "lookup_status"),
    "a redirect": (reply(302, b"", "Location: /x"), 503, "lookup_status"),
    "a refusal": (reply(403, contact(), JSON), 503, "lookup_status"),
    "a part": (reply(206, contact(), JSON, "Content-Range: bytes 0-9/99"), 503, "lookup_status"),
    "no content": (reply(204, b""), 503, "lookup_status"),
    "another type": (reply(200, contact(), "Content-Type: text/html"), 503, "lookup_status"),
    "two types": (reply(200, contact(), JSON, "Content-Type: text/html"), 503, "lookup_status"),
    "an encoding": (reply(200, contact(), JSON, "Content-Encoding: gzip"), 503, "lookup_status"),
    "broken JSON": (reply(200, contact()[:-1], JSON), 503, "lookup_bad_answer"),
    "doubled": (reply(200, b'{"id": 7, "owner_id": "bob", "owner_id": "alice"}', JSON), 503, "lookup_bad_answer"),
    "large": (reply(200, contact(note="x" * 1024 * 1024), JSON), 503, "lookup_bad_answer"),
    "without an attribute": (reply(200, b'{"id": 7}', JSON), 503, "lookup_mismatch"),
    "of another type": (reply(200, contact(acl={"shared": [[[[[["deep"]]]]]]}), JSON), 503, "lookup_mismatch"),
    "about another": (reply(200, contact(8), JSON), 503, "lookup_mismatch"),
    "broken off": (
        raw_reply(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 999\r\nConnection: close\r\n\r\n{"),
        502, "upstream_partial",
    ),
    "no HTTP": (raw_reply(b"nonsense\r\n\r\n"), 502, "upstream_protocol"),
}  # fmt: skip


@pytest.mark.parametrize("how", UNUSABLE)
def test_an_answer_that_tells_nothing_is_a_refusal(world: World, how: str) -> None:
    answer, status, code = UNUSABLE[how]

    def once(recorder: Recorder, connection: socket.socket, seen: Seen) -> None:
        answer(recorder, connection, seen)
        if code.startswith("upstream"):
            connection.shutdown(socket.SHUT_RDWR)

    world.upstream.reset(once)
    got = world.get("/contacts/7")
    assert (got.status, got.code) == (status, code)
    assert SECRET not in got.body.decode()
    line = world.line()
    assert (line["outcome"], line["code"], line["status"]) == ("refuse", code, status)
    assert "call_id" not in line


def test_other_doors_do_not_ask_the_app(world: World) -> None:
    got = world.sidecar.get(
        "/_sidecar/authorize", token("alice"), host="app.test", x_original_method="GET", x_original_uri="/contacts/7",
        x_forwarded_for="192.0.2.7", x_forwarded_proto="https",
    )  # fmt: skip
    assert "proxy_unable" in (got.header("x-auth-problem") or "")
    asked = json.dumps([{"method": "GET", "path": "/contacts/7"}]).encode()
    told = world.sidecar.request(
        "POST", "/_sidecar/permissions", token("alice"), asked, content_type="application/json"
    )
    assert [(one["allowed"], one["code"]) for one in json.loads(told.body)] == [(False, "proxy_unable")]
    assert world.upstream.seen == []


@pytest.mark.parametrize(
    ("who", "answer", "said"),
    [
        ("alice", contact(), "verdict    FORWARD allowed"), ("bob", contact(), "verdict    REFUSE denied_by_policy"),
        ("alice", b"{}", "verdict    REFUSE lookup_mismatch"), ("alice", None, "verdict    REFUSE proxy_unable"),
    ],
)  # fmt: skip
def test_explain_decides_by_an_answer_that_it_is_given(
    world: World, tmp_path: Path, who: str, answer: bytes | None, said: str
) -> None:
    (tmp_path / "answer.json").write_bytes(answer or b"")
    given = [] if answer is None else ["--answer", str(tmp_path / "answer.json")]
    environ = {
        "PATH": "/usr/bin", **world.environ, "SIDECAR_ROUTES": str(world.sidecar.folder / "routes.yaml"),
        "SIDECAR_POLICIES": str(world.policies),
    }  # fmt: skip
    claimed = json.dumps({"sub": who, "cognito:groups": ["user"]})
    done = guide_commands.sidecar(
        tmp_path, "explain", "GET", "/contacts/7", "--claims", claimed, *given, environ=environ
    )
    assert said in done.stdout, done.stdout + done.stderr
    assert "lookup     the app's answer, attributes owner, shared?" in done.stdout
    assert done.returncode == (0 if "FORWARD" in said else 1)


# --- shadow mode ---


@pytest.mark.parametrize(
    ("who", "body", "code"),
    [
        ("alice", contact(), "allowed"), ("bob", contact(), "denied_by_policy"), ("bob", b"{}", "lookup_mismatch"),
        ("bob", b"no JSON", "lookup_bad_answer"), ("bob", contact(note="x" * 3_000_000), "lookup_bad_answer"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunked", [False, True])
def test_in_shadow_mode_all_goes_out_and_the_log_has_the_decision(
    world: World, who: str, body: bytes, code: str, chunked: bool
) -> None:
    if chunked:
        head = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = [body[at : at + 65536] for at in range(0, len(body), 65536)]
        world.upstream.reset(raw_reply(head + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"))
    else:
        world.upstream.reset(reply(200, body, JSON))
    got = world.shadow.get("/contacts/7", token(who))
    assert (got.status, got.body) == (200, body)
    line = world.shadow.decisions()[-1]
    assert (line["outcome"], line["code"]) == ("allow" if code == "allowed" else "shadow_refuse", code)
