"""What a front end is told about requests is what the requests themselves would get."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sidecar.pages.permissions import MAX_ENTRIES
from tests.conftest import Stack
from tests.stack import ROOT, Got

PATHS = (
    "/public", "/static/a", "/me", "/contacts?owner=alice", "/contacts", "/contacts/1", "/contacts/2", "/contacts/3", "/hidden/1",
    "/strangers/1", "/nowhere", "/contacts/a%2fb", "/contacts/..", "//x", "/_sidecar/console", "/new", "/upload", "/contacts/é",
)  # fmt: skip
METHODS = ("GET", "PUT", "DELETE", "POST", "PATCH")


def ask(stack: Stack, entries: Any, user: str | None = "alice", **headers: str) -> Got:
    body = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    named = {"content_type": "application/json", **headers}
    return stack.sidecar.request("POST", "/_sidecar/permissions", stack.tokens[user] if user else None, body, **named)


@pytest.mark.parametrize("user", ["alice", "bob", "admin"])
def test_the_answer_is_that_of_the_request_itself(stack: Stack, user: str) -> None:
    entries = [{"method": method, "path": path} for path in PATHS for method in METHODS if path.isascii()]
    told = json.loads(ask(stack, entries, user).body)
    assert len(stack.upstream.seen) == 0
    assert [{"method": one["method"], "path": one["path"]} for one in told] == entries
    differences = []
    for one in told:
        before = len(stack.upstream.seen)
        got = stack.sidecar.request(one["method"], one["path"], stack.tokens[user])
        passed = len(stack.upstream.seen) > before
        code = "" if passed else got.code
        if passed is not one["allowed"] or (code and code != one["code"]):
            differences.append((one, got.status, code))
    assert differences == []


def test_the_guide_tells_the_truth(stack: Stack) -> None:
    text = (ROOT / "docs/guides/permissions.md").read_text(encoding="utf-8")
    question, answer = re.findall(r"<!-- example: \w+\.json -->\n```json\n(.*?)```", text, re.DOTALL)
    assert json.loads(ask(stack, json.loads(question)).body) == json.loads(answer)


@pytest.mark.parametrize(("folder", "code"), [("contacts", "denied_by_policy"), ("hidden", "resource_hidden")])
def test_five_hundred_ids_tell_nobody_which_there_are(stack: Stack, folder: str, code: str) -> None:
    for number in range(200, 700, 2):
        stack.hook.json(f"/{folder}/{number}", {"id": number, "owner_id": "stranger"})
    told = json.loads(ask(stack, [{"method": "PUT", "path": f"/{folder}/{n}"} for n in range(200, 700)]).body)
    assert {(one["allowed"], one["code"]) for one in told} == {(False, code)}


def test_many_are_asked_of_cerbos_in_few_calls(stack: Stack) -> None:
    for number in range(10, 110):
        stack.hook.json(f"/contacts/{number}", {"id": number, "owner_id": "alice" if number % 2 else "bob"})
    entries = [{"method": m, "path": f"/contacts/{n}"} for n in range(10, 110) for m in ("GET", "PUT", "DELETE")]
    calls = len(call_ids(stack))
    told = json.loads(ask(stack, entries).body)
    assert [one["allowed"] for one in told[:6]] == [True, False, False, True, True, True]
    assert len(told) == 300
    # each resource is looked up once for its three actions
    assert len([path for path, _ in stack.hook.asked if path.startswith("/contacts/")]) <= 300
    assert len(call_ids(stack)) == calls


def call_ids(stack: Stack) -> set[str]:
    return {line["call_id"] for line in stack.sidecar.decisions() if "call_id" in line}


def test_one_that_fails_does_not_fail_the_others(stack: Stack) -> None:
    stack.hook.pages["/contacts/1"] = (500, "text/plain", b"")
    told = json.loads(ask(stack, [{"method": "GET", "path": f"/contacts/{number}"} for number in (1, 2)]).body)
    assert [(one["allowed"], one["code"]) for one in told] == [(False, "lookup_status"), (True, "allowed")]


@pytest.mark.parametrize(
    ("entries", "status"),
    [
        (b"", 400), (b"{}", 400), (b"[]", 400), (b"[1]", 400), (b"x", 400), ([{"method": "GET"}], 400),
        ([{"method": "get", "path": "/"}], 400), ([{"method": "GET", "path": "x"}], 400), ([{"method": "GET", "path": 1}], 400),
        ([{"method": "GET", "path": "/", "as": "admin"}], 400), (b'[{"method": "GET", "path": "/", "path": "/"}]', 400),
        ([{"method": "GET", "path": "/"}] * (MAX_ENTRIES + 1), 400), ([{"method": "GET", "path": "/me"}] * MAX_ENTRIES, 200),
    ],
)  # fmt: skip
def test_a_question_that_is_none_is_refused(stack: Stack, entries: Any, status: int) -> None:
    assert ask(stack, entries).status == status


def test_it_is_for_whoever_has_come(stack: Stack) -> None:
    assert ask(stack, [{"method": "GET", "path": "/me"}], None).status == 401
    assert ask(stack, [{"method": "GET", "path": "/me"}], content_type="text/plain").status == 415
    assert stack.sidecar.get("/_sidecar/permissions", stack.tokens["alice"]).status == 405


def test_whoami_tells_the_principal_and_no_token(stack: Stack) -> None:
    got = stack.sidecar.get("/_sidecar/whoami", stack.tokens["alice"])
    told = json.loads(got.body)
    assert told["principal"] == {"id": "alice", "roles": ["user"], "attributes": {}}
    assert told["claims"]["username"] == "alice"
    assert stack.tokens["alice"].split(".")[2].encode() not in got.body
    assert got.header("cache-control") == "no-store"
    assert stack.sidecar.get("/_sidecar/whoami").status == 401
