"""The guide "decide by a form's fields" as it stands: its routes and policy, before the real Cerbos, through every door."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse

from sidecar.doors.ext_authz import CHECK
from sidecar.net.grpc_client import Channel
from sidecar.net.grpc_client_connection import GrpcMethod
from tests import guide_commands
from tests.doors.test_ext_authz import WHOLE, question
from tests.hostile.form_cases import CASES, MULTIPART, URLENCODED
from tests.stack import ROOT, Got, Recorder, Sidecar, Web, free_port, running_sidecar
from tests.test_big_bodies import Peak
from tests.tokens import CLIENT, POOL, claims, key_set, mint

PAGE = (ROOT / "docs/guides/forms.md").read_text(encoding="utf-8")
PUBLIC = "  - {path: /page, access: public}\n"


def example(name: str) -> str:
    (found,) = re.findall(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@dataclass
class World:
    sidecar: Sidecar
    upstream: Recorder
    hook: Web
    envoy: int
    environ: dict[str, str]

    def post(self, target: str, body: bytes, kind: str = URLENCODED) -> Got:
        return self.sidecar.request("POST", target, token(), body, content_type=kind)

    def url(self, target: str) -> str:
        return f"http://127.0.0.1:{self.sidecar.port}{target}"

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {token()}"}


def token() -> str:
    return mint(claims(time.time(), sub="alice")).decode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, hook, upstream, envoy = Web(), Web(), Recorder(), free_port()
    keys.json("/jwks", key_set())
    environ = {
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks",
    }  # fmt: skip
    doors = {
        "SIDECAR_FORWARD_AUTH": "nginx", "SIDECAR_TRUSTED_PROXIES": "127.0.0.1/32", "SIDECAR_HOSTS": "app.test,127.0.0.1",
        "SIDECAR_EXT_AUTHZ_LISTEN": f"127.0.0.1:{envoy}",
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("forms")
    (folder / "policies").mkdir()
    (folder / "policies/contact.yaml").write_text(example("policies/contact.yaml"))
    routes = (example("routes.yaml") + PUBLIC).replace("127.0.0.1:9000", f"127.0.0.1:{hook.port}")
    # a busy machine is no fault of the hook
    routes = routes.replace("echo: id}", "echo: id, timeout: 20s}")
    for number in (1, 2, 7):
        hook.json(f"/contacts/{number}", {"id": number, "owner_id": "bob" if number == 2 else "alice"})
    where = f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(folder, routes, folder / "policies", where, {**environ, **doors}, shared=True) as sidecar:
        yield World(sidecar, upstream, hook, envoy, environ)
    for part in (keys, hook, upstream):
        part.close()


@pytest.fixture
def world(shared: World) -> World:
    shared.upstream.reset()
    return shared


def test_the_policy_decides_by_the_fields_and_the_app_gets_the_form_as_it_came(world: World) -> None:
    body = b"%6fwner=alice&amount=5&tags=a&tags=b&note=%0D%0A&&x"
    assert world.post("/contacts", body).status == 200
    assert [seen.body for seen in world.upstream.seen] == [body]
    for refused in (b"owner=bob", b"owner=alice&amount=2000"):
        assert world.post("/contacts", refused).code == "denied_by_policy"
    assert world.post("/contacts", b"amount=5").code == "body_invalid"
    assert world.post("/contacts", b'{"owner": "alice"}', "application/json").code == "body_type_unsupported"
    assert len(world.upstream.seen) == 1


@pytest.mark.parametrize("body", example("refused").splitlines())
def test_what_two_servers_could_read_differently_is_400(world: World, body: str) -> None:
    got = world.post("/contacts", body.encode())
    assert (got.status, got.code, world.upstream.received) == (400, "body_invalid", b"")


def test_no_hostile_form_reaches_the_app(world: World) -> None:
    assert world.post("/contacts", b"owner=alice").status == 200
    world.upstream.reset()
    for case in CASES:
        got = world.post("/contacts", case.body, case.kind)
        code = "body_invalid" if case.kind in (URLENCODED, MULTIPART) else "body_type_unsupported"
        assert (got.code, world.upstream.received) == (code, b""), case.why


def test_a_field_is_not_in_the_query_too(world: World) -> None:
    assert world.post("/contacts?owner=alice", b"owner=alice").code == "query_not_allowed"


@pytest.mark.parametrize(
    ("ids", "status"),
    [("ids=1&ids=7", 200), ("ids=1&ids=2", 403), ("ids=1&ids=07", 400), ("x=1", 400), ("ids[]=1", 400)],
)
def test_checkboxes_name_many_records(world: World, ids: str, status: int) -> None:
    assert world.post("/contacts/archive", ids.encode()).status == status
    assert len(world.upstream.seen) == (status == 200)


# --- multipart, as clients write it ---

PHOTO = b"\x89PNG\r\n--x\r\n" + b"\0" * 3_000_000


def test_a_file_goes_through_byte_for_byte(world: World) -> None:
    """From httpx, in chunks and with a length, larger than what is held in memory."""
    made = httpx.Request(
        "POST", world.url("/contacts/7/photo"), headers=world.headers, data={"photo[kind]": "portrait", "note": "Zo\xeb"},
        files={"photo[file]": ('a "b".png', PHOTO, "image/png")},
    )  # fmt: skip
    body = made.read()
    with httpx.Client(timeout=30) as client:
        assert client.send(made).status_code == 200
        chunked = {**world.headers, "content-type": made.headers["content-type"]}

        def pieces(end: float) -> Iterator[bytes]:
            yield from (body[at : at + 50_000] for at in range(0, len(body), 50_000))
            # the chunk that is the end comes alone then
            time.sleep(end)

        for end in (0.0, 0.3):
            sent = client.post(world.url("/contacts/7/photo"), headers=chunked, content=pieces(end))
            assert sent.status_code == 200
    assert [seen.body == body for seen in world.upstream.seen] == [True, True, True]
    assert world.upstream.seen[1].values("transfer-encoding") == ["chunked"]


def test_a_second_field_after_a_large_file_is_seen_before_the_app_gets_anything(world: World) -> None:
    made = httpx.Request(
        "POST",
        "http://x",
        data={"photo[kind]": "portrait"},
        files=[("photo[file]", PHOTO), ("photo[kind]", (None, b"other"))],
    )
    got = world.post("/contacts/7/photo", made.read(), made.headers["content-type"])
    assert (got.code, world.upstream.received) == ("body_invalid", b"")


def test_what_curl_writes_is_read(world: World, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(PHOTO[:1000])
    of_file = ["-F", "photo[kind]=portrait", "-F", f"photo[file]=@{tmp_path / 'photo.png'};type=image/png"]
    for more, target in ((of_file, "/contacts/7/photo"), (["-d", "owner=alice", "-d", "tags=a"], "/contacts")):
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Bearer {token()}"]
        done = subprocess.run([*command, *more, world.url(target)], capture_output=True, text=True, check=True)
        assert done.stdout == "200"
    assert PHOTO[:1000] in world.upstream.seen[0].body


def test_a_large_upload_takes_no_memory(world: World, tmp_path: Path) -> None:
    parts = b'--b\r\nContent-Disposition: form-data; name="photo[kind]"\r\n\r\nportrait\r\n--b\r\n'
    parts += b'Content-Disposition: form-data; name="photo[file]"; filename="x"\r\n\r\n'
    body = parts + b"x" * 12_000_000 + b"\r\n--b--\r\n"
    peak = Peak(world.sidecar.pid)
    assert world.post("/contacts/7/photo", body, "multipart/form-data; boundary=b").status == 200
    assert world.upstream.seen[0].body == body
    assert peak.grown < 8


# --- every other door ---


def test_a_proxy_that_asks_by_http_is_told(world: World) -> None:
    got = world.sidecar.get(
        "/_sidecar/authorize", token(), host="app.test", x_original_method="POST", x_original_uri="/contacts",
        x_forwarded_for="192.0.2.7", x_forwarded_proto="https", content_type=URLENCODED,
    )  # fmt: skip
    assert "proxy_unable" in (got.header("x-auth-problem") or "")


@pytest.mark.parametrize(
    ("body", "code"), [(b"owner=alice", ""), (b"owner=bob", "denied_by_policy"), (b"owner=a&owner=b", "body_invalid")]
)
async def test_envoy_is_told_by_grpc(world: World, body: bytes, code: str) -> None:
    method = GrpcMethod(CHECK.decode(), "localhost", 5.0)
    channel = Channel(f"127.0.0.1:{world.envoy}", method)
    headers = [
        WHOLE, (b"authorization", b"Bearer " + token().encode()), (b"content-type", URLENCODED.encode()),
        (b"content-length", str(len(body)).encode()),
    ]  # fmt: skip
    asked = question(*headers, method="POST", path="/contacts", body=body)
    answer = CheckResponse.FromString(await channel.call(method, asked, asyncio.get_running_loop().time() + 5))
    await channel.aclose()
    assert code in answer.denied_response.body
    assert bool(answer.denied_response.body) == bool(code)


# --- the commands ---


def command(world: World, *words: str) -> Any:
    environ = {
        "PATH": "/usr/bin", **world.environ, "SIDECAR_ROUTES": str(world.sidecar.folder / "routes.yaml"),
        "SIDECAR_POLICIES": str(world.sidecar.folder / "policies"),
    }  # fmt: skip
    return guide_commands.sidecar(world.sidecar.folder, *words, environ=environ)


def test_explain_takes_a_form(world: World) -> None:
    words = shlex.split(example("explain"))[1:]
    done = command(world, *words)
    assert 'resource attributes   {"owner": "alice", "tags": ["a", "b"]}' in done.stdout, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "verdict    FORWARD allowed"
    done = command(world, *words, "--form", "tags")
    assert "found 'tags', expected NAME=VALUE" in done.stderr
    raw = [
        "explain",
        "POST",
        "/contacts",
        *words[3:5],
        "--header",
        f"Content-Type: {URLENCODED}",
        "--body",
        "owner=alice",
    ]
    assert command(world, *raw).stdout.splitlines()[-1] == "verdict    FORWARD allowed"


def test_a_case_has_a_form(world: World) -> None:
    user = {"sub": "alice", "username": "alice", "cognito:groups": ["user"]}
    cases = [
        {"name": "own", "user": "alice", "request": "POST /contacts", "form": {"owner": "alice"}, "expect": "allowed"},
        {"name": "bob's", "user": "alice", "request": "POST /contacts", "form": {"owner": "bob"}, "expect": "denied_by_policy"},
        {"name": "twice", "user": "alice", "request": "POST /contacts", "form": {"owner": ["a", "b"]}, "expect": "body_invalid"},
    ]  # fmt: skip
    (world.sidecar.folder / "cases.yaml").write_text(json.dumps({"users": {"alice": user}, "cases": cases}))
    done = command(world, "test", "cases.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
