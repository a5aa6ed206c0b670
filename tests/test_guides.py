"""Guides that are walked, as they stand, through the whole stack: docs/start.md, docs/guides/debug-a-403.md,
debug-a-502.md and debug-a-503.md."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import jwt

from sidecar.doors.answer import status_of
from sidecar.gate.codes import Code
from sidecar.record.reasons import Reason
from tests import guide_commands
from tests.conftest import Stack, policies
from tests.stack import ROOT, free_port, running_sidecar

FENCE = re.compile(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def command_of(text: str, word: str) -> list[str]:
    """The arguments of the page's `sidecar <word>`."""
    (line,) = re.findall(rf"^sidecar {word} .+$", text, re.MULTILINE)
    return shlex.split(line)[1:]


def test_an_app_is_protected_as_the_first_guide_says(stack: Stack, tmp_path: Path) -> None:
    text = page("start.md")
    (tmp_path / "policies").mkdir()
    for name, example in FENCE.findall(text):
        (tmp_path / name).write_text(example.replace("127.0.0.1:5000", f"127.0.0.1:{stack.hook.port}"))
    subject = jwt.decode(stack.tokens["alice"], options={"verify_signature": False})["sub"]
    stack.hook.json("/contacts/7", {"id": 7, "owner_id": subject})
    stack.hook.json("/contacts/8", {"id": 8, "owner_id": "somebody-else"})

    checked = guide_commands.sidecar(tmp_path, "check", environ=stack.environ)
    assert checked.returncode == 0, checked.stderr
    note, told = checked.stdout.splitlines()
    # the guide names the app where it starts the sidecar
    assert note.startswith("note: SIDECAR_UPSTREAM: not set, expected it, or --upstream")
    assert told == "routes.yaml and policies: nothing wrong"
    explained = guide_commands.sidecar(tmp_path, *command_of(text, "explain"), environ=stack.environ)
    assert explained.returncode == 1  # the guide's user is not the owner
    assert explained.stdout.splitlines()[-1] == "verdict    REFUSE denied_by_policy"

    routes, upstream = (tmp_path / "routes.yaml").read_text(), f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(
        tmp_path / "run", routes, tmp_path / "policies", upstream, stack.environ, shared=True
    ) as running:
        token = stack.tokens["alice"]
        assert running.get("/contacts/7").status == 401
        assert running.get("/contacts/7", token).status == 200
        assert running.request("DELETE", "/contacts/7", token).status == 200
        assert running.request("DELETE", "/contacts/8", token).status == 403
        assert running.get("/admin", token).code == "route_unmapped"
        assert running.admin("/readyz").status == 200


def test_a_403_is_followed_as_the_guide_says(stack: Stack, tmp_path: Path) -> None:
    text = page("guides/debug-a-403.md")
    shown = dict(FENCE.findall(text))
    problem, line = json.loads(shown["problem.json"]), json.loads(shown["line.json"])

    got = stack.sidecar.request("PUT", "/contacts/2", stack.tokens["alice"])
    answered = json.loads(got.body)
    assert {**answered, "request_id": ""} == {**problem, "request_id": ""}
    assert got.header("x-request-id") == answered["request_id"]

    (logged,) = [each for each in stack.sidecar.decisions() if each.get("request_id") == answered["request_id"]]
    of_this_request = ("request_id", "call_id")
    assert {name: logged[name] for name in line if name not in of_this_request} == {
        name: value for name, value in line.items() if name not in of_this_request
    }
    assert logged["call_id"]

    (tmp_path / "routes.yaml").write_text(stack.routes)
    environ = {**stack.environ, "SIDECAR_POLICIES": str(policies())}
    explained = guide_commands.sidecar(tmp_path, *command_of(text, "explain"), environ=environ)
    assert explained.returncode == 1, explained.stderr
    call = re.compile(r"call \S+")
    assert call.sub("call", explained.stdout) == call.sub("call", shown["explain.txt"])


def test_a_502_is_followed_as_the_guide_says(stack: Stack, tmp_path: Path) -> None:
    text = page("guides/debug-a-502.md")
    shown = dict(FENCE.findall(text))
    port = free_port()
    nowhere = f"http://127.0.0.1:{port}"

    def of_here(example: str) -> str:
        return example.replace("http://127.0.0.1:5000", nowhere)

    with running_sidecar(tmp_path / "run", stack.routes, policies(), nowhere, stack.environ, shared=True) as running:
        got = running.get("/public")
        answered, problem = json.loads(got.body), json.loads(shown["problem.json"])
        assert {**answered, "request_id": ""} == {**problem, "request_id": ""}
        (logged,) = [each for each in running.decisions() if each.get("request_id") == answered["request_id"]]
        line = json.loads(shown["line.json"])
        assert {name: logged[name] for name in line} == line
        warning = json.loads(of_here(shown["stderr.json"]))
        said = [json.loads(each) for each in running.log().splitlines() if warning["logger"] in each]
        assert [{name: each[name] for name in warning} for each in said] == [warning]
        assert shown["metric.txt"].strip() in running.admin("/metrics").body.decode()

    (tmp_path / "routes.yaml").write_text(stack.routes)
    environ = {**stack.environ, "SIDECAR_POLICIES": str(policies()), "SIDECAR_UPSTREAM": nowhere}
    probed = guide_commands.sidecar(tmp_path, "check", "--probe", environ=environ)
    assert probed.returncode == 1
    assert of_here(shown["probe.txt"]).strip() in probed.stderr.splitlines()


def test_the_guide_on_a_502_explains_every_reason() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", page("guides/debug-a-502.md"), re.MULTILINE)
    assert rows == [(reason.value, reason.meaning, reason.remedy) for reason in Reason]


def test_a_503_is_followed_as_the_guide_says(stack: Stack, tmp_path: Path) -> None:
    shown = dict(FENCE.findall(page("guides/debug-a-503.md")))
    routes = stack.routes.replace(f"127.0.0.1:{stack.hook.port}", f"127.0.0.1:{free_port()}")
    assert routes != stack.routes
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path, routes, policies(), upstream, stack.environ, shared=True) as running:
        got = running.get("/contacts/2", stack.tokens["alice"])
        answered, problem = json.loads(got.body), json.loads(shown["problem.json"])
        assert {**answered, "request_id": ""} == {**problem, "request_id": ""}
        assert got.header("retry-after")
        (logged,) = [each for each in running.decisions() if each.get("request_id") == answered["request_id"]]
        line = json.loads(shown["line.json"])
        assert {name: logged[name] for name in line} == line


def test_the_guide_on_a_503_has_a_row_for_every_code_with_that_status() -> None:
    text = page("guides/debug-a-503.md")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    assert [code for code, *_ in rows] == [code for code in Code if status_of(code) == 503]
    assert all(cell.strip() for row in rows for cell in row)
