"""The question log of the real sidecar, with the real Cerbos: what it has of each request, and what it never has."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from sidecar.config.settings import understand
from sidecar.pdp.policy_files import read_policies
from sidecar.record.line import QuestionLine, read
from sidecar.run.parts import prepare
from sidecar.run.serving import Sidecar
from tests.conftest import Stack, policies
from tests.record.test_rotated_file import files_of
from tests.stack import binary, raw_reply, reply, running_sidecar

pytestmark = pytest.mark.usefixtures("embedded_shared")

MORE = """\
  - path: /answer/{id}
    resource: contact
    id: "{path.id}"
    lookup: {from: answer, attributes: {owner: owner_id}}
    actions: {GET: read}
  - path: /many
    resource: contact
    each: {at: "{body.ids}", id: "@", lookup: contact}
    actions: {POST: delete}
"""
DECIDED_ONCE = "version: 1\ncache: {decisions: 30s}\n"


class Played(NamedTuple):
    """A sidecar in this process, and the lines that it has written when it has ended."""

    ask: Callable[..., Any]
    lines: list[QuestionLine]


@asynccontextmanager
async def played(stack: Stack, folder: Path, **more: str) -> AsyncIterator[Played]:
    (folder / "routes.yaml").write_text(more.pop("routes", stack.routes + MORE))
    log = folder / "questions.jsonl"
    environ = {
        **stack.environ, "SIDECAR_UPSTREAM": f"http://127.0.0.1:{stack.upstream.port}",
        "SIDECAR_ROUTES": str(folder / "routes.yaml"), "SIDECAR_POLICIES": str(policies()),
        "SIDECAR_CERBOS_BINARY": str(binary()), "SIDECAR_CERBOS_TIMEOUT": "5s",
        "SIDECAR_DECISION_LOG": str(folder / "decisions.jsonl"), "SIDECAR_QUESTION_LOG": str(log), **more,
    }  # fmt: skip
    prepared = prepare(understand(environ, {}), environ)
    sidecar = Sidecar(prepared, None)
    assert prepared.deciding.embedded is not None
    assert prepared.deciding.policies is not None
    await prepared.deciding.embedded.start()
    await prepared.deciding.policies.look()  # type: ignore[union-attr]  # it is ours
    app: Any = sidecar.traffic
    transport = httpx.ASGITransport(app)
    lines: list[QuestionLine] = []
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as client:

        async def ask(method: str, path: str, user: str = "", **more: Any) -> httpx.Response:
            headers = {"authorization": f"Bearer {stack.tokens[user]}"} if user else {}
            return await client.request(method, path, headers={**headers, **more.pop("headers", {})}, **more)

        yield Played(ask, lines)
    await sidecar.aclose()
    lines += questions_in(log.read_bytes().splitlines())


def questions_in(lines: Iterable[bytes]) -> list[QuestionLine]:
    found = [read(line) for line in lines]
    assert all(isinstance(line, QuestionLine) and not line.extra for line in found)
    return [line for line in found if isinstance(line, QuestionLine)]


async def test_each_way_to_decide_leaves_the_question_and_what_the_app_said(stack: Stack, tmp_path: Path) -> None:
    shown = {"SIDECAR_QUESTION_LOG_ATTRIBUTES": "owner"}
    contact = b'{"owner_id": "alice"}'
    async with played(stack, tmp_path, **shown) as play:
        stack.upstream.reset(reply(404, b"gone"))
        await play.ask("GET", "/contacts/1?page=2&sort=name", "alice")
        await play.ask("PUT", "/contacts/2", "alice")
        await play.ask("GET", "/public")
        await play.ask("GET", "/contacts/1")
        await play.ask("GET", "/contacts/500", "alice")
        stack.upstream.reset(
            raw_reply(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n" + contact)
        )
        await play.ask("GET", "/answer/9", "alice")
        body = b'[{"id": 2, "owner_id": "bob", "phone": "1234"}]'
        stack.upstream.reset(
            raw_reply(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 47\r\n\r\n" + body)
        )
        await play.ask("GET", "/list", "alice")
        stack.upstream.reset(reply(204, b""))
        await play.ask("POST", "/many", "alice", json={"ids": ["1"]})
        await play.ask("POST", "/many", "alice", json={"ids": ["1", "2", "77"]})
        stack.upstream.reset(raw_reply(b"nonsense\r\n\r\n"))
        await play.ask("GET", "/me", "alice")
    lines = play.lines
    told = [
        (line.path, line.code, line.status, line.app_status, line.asked, line.attributes, line.owner) for line in lines
    ]
    assert told == [
        ("/contacts/1", "allowed", 404, 404, True, {"owner": "alice"}, ("owner",)),
        ("/contacts/2", "denied_by_policy", 403, None, True, {"owner": "bob"}, None),
        ("/public", "public", 404, 404, False, None, None),
        ("/contacts/1", "token_missing", 401, None, False, None, None),
        ("/contacts/500", "resource_missing", 403, None, False, None, None),
        ("/answer/9", "allowed", 200, 200, True, {"owner": "alice"}, ("owner",)),
        ("/list", "allowed", 200, 200, True, {}, None),
        ("/many", "allowed", 204, 204, True, None, ("owner",)),
        ("/many", "denied_by_policy", 403, None, True, None, None),
        ("/me", "upstream_protocol", 502, None, False, None, None),
    ]  # fmt: skip
    assert lines[0].query == ("page", "sort")
    assert lines[0].policy == "resource.contact.vdefault"
    assert 0 < (lines[0].app_ms or 0) <= lines[0].total_ms
    assert lines[6].items == {"seen": 1, "kept": 1, "masked": 1, "calls": 1}
    alice, bob = {"owner": "alice"}, {"owner": "bob"}
    assert lines[7].resources == ({"id": "1", "allowed": True, "attributes": alice},)
    assert lines[8].resources == (
        {"id": "1", "allowed": True, "attributes": alice}, {"id": "2", "allowed": False, "attributes": bob},
    )  # fmt: skip
    assert lines[8].missing == 1
    assert {line.revision for line in lines} == {read_policies(policies()).digest}
    assert {line.weight for line in lines} == {1}


async def test_a_remembered_decision_has_its_question_too_and_shadow_its_mode(stack: Stack, tmp_path: Path) -> None:
    routes = stack.routes.replace("version: 1\n", DECIDED_ONCE, 1)
    async with played(stack, tmp_path, routes=routes, SIDECAR_MODE="shadow") as play:
        stack.upstream.reset(reply(403))
        for _ in range(3):
            await play.ask("PUT", "/contacts/2", "alice")
    assert len(play.lines) == 3
    for line in play.lines:
        assert (line.mode, line.outcome, line.code, line.app_status) == (
            "shadow",
            "shadow_refuse",
            "denied_by_policy",
            403,
        )
        assert (line.asked, line.attributes, line.redacted) == (True, {}, ("resource.owner",))


async def test_no_secret_is_in_any_line(stack: Stack, tmp_path: Path) -> None:
    """Marked values wherever a client, a hook or the app can put one: no line has any of them, nor a part of a token."""
    mark = "MARKED"
    stack.hook.json("/contacts/1", {"id": 1, "owner_id": mark + "-owner"})
    headers = {"cookie": f"__Host-session={mark}", "x-key": mark, "x-auth-subject": mark, "user-agent": mark}
    query = f"q={mark}&{mark}0123456789&token={mark}&%4D%41{mark}&owner={mark}"
    async with played(stack, tmp_path) as play:
        for user in ("", "alice", "bob"):
            for path in ("/public", "/me", "/contacts/1", "/contacts", "/nowhere", "/list", "/strangers/1", "/upload"):
                for method in ("GET", "POST", "PUT"):
                    content = json.dumps({"owner": mark, "ids": [1, mark]}).encode() if method != "GET" else None
                    kind = {"content-type": "application/json"} if content else {}
                    await play.ask(method, f"{path}?{query}", user, headers={**headers, **kind}, content=content)
        for token in (mark, stack.tokens["alice"][:-4] + mark):
            await play.ask("GET", "/me", headers={"authorization": f"Bearer {token}"})
        await play.ask("POST", "/new", "alice", content=mark, headers={"content-type": "application/json"})
        await play.ask("POST", "/many", "alice", json={"ids": [mark]})
    text = (tmp_path / "questions.jsonl").read_text()
    assert len(play.lines) > 50
    assert mark not in text
    for token in stack.tokens.values():
        assert not any(part in text for part in token.split("."))


def test_it_is_told_at_the_start_and_workers_share_the_file(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    environ = {**stack.environ, "SIDECAR_QUESTION_LOG": str(path), "SIDECAR_WORKERS": "2"}
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path, stack.routes, policies(), upstream, environ, shared=True) as sidecar:
        for number in range(30):
            assert sidecar.get(f"/public?n={number}", x_n="1").status == 200
        shown = json.loads(sidecar.admin("/config").body)["question_log"]
        assert shown == {"file": str(path), "attributes": [], "fault": ""}
        assert sidecar.metric("sidecar_question_log_stopped") == 0
        assert f"question log {path}" in sidecar.log()
    lines = questions_in(path.read_bytes().splitlines())
    assert sum(line.weight for line in lines) == 30 == len(sidecar.read_log())
    assert files_of(path) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_off_by_default(stack: Stack) -> None:
    assert json.loads(stack.sidecar.admin("/config").body)["question_log"] == {}
    assert stack.sidecar.metric("sidecar_question_log_stopped") == 0
    assert "question log" not in stack.sidecar.log()
