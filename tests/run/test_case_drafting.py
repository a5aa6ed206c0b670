"""Cases drafted from what a real sidecar recorded: each holds at once, and what cannot be a case is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sidecar.adoption.case_draft import Cells
from sidecar.adoption.logs import Logs
from sidecar.run.case_drafting import Drafted, draft_cases
from sidecar.run.casing import run_cases
from sidecar.study.case_results import block
from sidecar.study.cases import Case, read_cases
from tests.conftest import Stack, policies
from tests.stack import binary, raw_reply, reply
from tests.test_question_log import MORE, played

pytestmark = pytest.mark.usefixtures("embedded_shared", "one_key")

REQUESTS: list[tuple[str, str, str, Any]] = [
    ("GET", "/contacts/1?page=2", "alice", None), ("PUT", "/contacts/2", "alice", None), ("DELETE", "/contacts/2", "bob", None),
    ("GET", "/contacts/1", "bob", None), ("GET", "/contacts/1", "", None), ("GET", "/hidden/7", "alice", None),
    ("GET", "/public", "", None), ("GET", "/me", "alice", None), ("GET", "/nothing", "alice", None),
    ("PATCH", "/me", "alice", None), ("GET", "/strangers/1", "alice", None), ("GET", "/contacts?owner=alice", "alice", None),
    ("POST", "/new", "alice", {"owner": "alice"}), ("POST", "/new", "alice", {"owner": "bob"}), ("POST", "/new", "alice", {}),
    ("POST", "/many", "alice", {"ids": ["1"]}), ("POST", "/many", "alice", {"ids": ["1", "2"]}),
    ("GET", "/contacts/500", "alice", None),
]  # fmt: skip


async def recorded(stack: Stack, folder: Path, **shown: str) -> dict[str, str]:
    """A log of these requests, and the settings with which it was written."""
    stack.hook.pages["/contacts/500"] = (500, "application/json", b"{}")
    async with played(stack, folder, **shown) as play:
        for method, path, user, body in REQUESTS:
            stack.upstream.reset(reply(204, b"") if method in ("DELETE", "POST") else reply(200, b"ok"))
            await play.ask(method, path, user, **({"json": body} if body is not None else {}))
        released = b'{"owner_id": "alice"}'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        stack.upstream.reset(raw_reply(head % len(released) + released))
        await play.ask("GET", "/answer/9", "alice")
        items = b'[{"id": 2, "owner_id": "bob", "phone": "1234"}]'
        stack.upstream.reset(raw_reply(head % len(items) + items))
        await play.ask("GET", "/list", "alice")
    return {
        **stack.environ, "SIDECAR_ROUTES": str(folder / "routes.yaml"), "SIDECAR_POLICIES": str(policies()),
        "SIDECAR_CERBOS_BINARY": str(binary()),
    }  # fmt: skip


async def drafted(environ: Mapping[str, str], *files: Path) -> tuple[Drafted, dict[str, Case]]:
    """Draft, and run what was drafted: all of it holds."""
    cells = Cells()
    for logged in Logs(map(str, files)).read():
        cells.add(logged)
    made = await draft_cases(cells, environ, {}, lambda _: None)
    cases = read_cases(made.text, "drafted.yaml")
    results = await run_cases(cases, environ, {}, lambda _: None)
    assert [block(result) for result in results if not result.passed] == []
    assert made.cases == len(cases) > 0
    return made, {case.name: case for case in cases}


async def test_what_a_real_run_recorded_holds_at_once(stack: Stack, tmp_path: Path) -> None:
    environ = await recorded(stack, tmp_path, SIDECAR_QUESTION_LOG_ATTRIBUTES="owner")
    made, cases = await drafted(environ, tmp_path / "questions.jsonl")
    asked = {f"{user or 'nobody'} {method} {path.partition('?')[0]}" for method, path, user, _ in REQUESTS}
    names = {name.partition(":")[0] for name in cases}
    left_out = {one.request.rpartition(" ")[0]: one.reason for one in made.left_out}
    assert left_out == {
        "GET /contacts/500": "lookup_status is a fault of that moment: write `lookups` with `unavailable` for it",
        "POST /new": left_out["POST /new"],
    }
    # a body without what the route reads cannot be told from the log
    assert left_out["POST /new"].startswith("it comes out with "), left_out
    # a path that no route has, and a method that none takes, are refused before anybody is identified
    assert asked - names == {"alice GET /contacts/500", "alice GET /nothing", "alice PATCH /me"}
    assert {"nobody GET /nothing", "nobody PATCH /me", "alice GET /answer/9", "alice GET /list"} <= names
    assert cases["alice POST /many: denied_by_policy"].expected["denied"] == ("2",)
    assert "made up" not in made.text
    tokens = [token for token in stack.tokens.values() if token in made.text]
    assert tokens == []


async def test_what_the_log_leaves_out_is_made_up_as_it_came_out(stack: Stack, tmp_path: Path) -> None:
    environ = await recorded(stack, tmp_path)
    made, cases = await drafted(environ, tmp_path / "questions.jsonl", tmp_path / "decisions.jsonl")
    denied = cases["alice PUT /contacts/2: denied_by_policy"]
    assert denied.reply("contact", "2") == {"owner_id": "somebody-else", "id": "2"}
    assert "; made up, since the log leaves it out: owner\n" in made.text


async def test_a_decision_log_alone_will_do(stack: Stack, tmp_path: Path) -> None:
    environ = await recorded(stack, tmp_path)
    _, cases = await drafted(environ, tmp_path / "decisions.jsonl")
    assert cases["bob DELETE /contacts/2: allowed"].reply("contact", "2") == {"owner_id": "bob", "id": "2"}


async def test_a_log_of_other_routes_says_what_is_other(stack: Stack, tmp_path: Path) -> None:
    environ = await recorded(stack, tmp_path)
    routes = (tmp_path / "routes.yaml").read_text().replace("/public, access: public", "/public, access: authenticated")
    (tmp_path / "routes.yaml").write_text(routes.replace(MORE, ""))
    made, cases = await drafted(environ, tmp_path / "questions.jsonl")
    reasons = {one.request: one.reason for one in made.left_out}
    assert (
        reasons["GET /public (public)"]
        == "it comes out with status 401, and not 200; code token_missing, and not public"
    )
    assert not any("/many" in name for name in cases)


def test_what_was_left_out_is_json(tmp_path: Path) -> None:
    made = Drafted("", 0, ())
    assert json.loads(json.dumps(made._asdict())) == {"text": "", "cases": 0, "left_out": []}
