"""The guides on lookups that ask the app and Python, as they stand, before the real Cerbos."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from sidecar.gate.expressions import searcher
from sidecar.gate.function import Function
from sidecar.gate.lookup import Attribute, Batch, Call, Lookup
from sidecar.lookups.asking import Lookups
from sidecar.lookups.function import FunctionSource
from tests.conftest import Stack
from tests.stack import ROOT, Sidecar, Web, running_sidecar

POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: {kind}
  version: default
  rules:
    - actions: [read, delete]
      effect: EFFECT_ALLOW
      roles: [user]
      condition: {{match: {{expr: {rule}}}}}
"""
OWN = "request.resource.attr.owner == request.principal.id"


def example(page: str, name: str) -> str:
    text = (ROOT / "docs/guides" / page).read_text(encoding="utf-8")
    (found,) = re.findall(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    return str(found)


def modules() -> list[str]:
    """The functions of python-lookups.md, the one about many, and tests."""
    text = (ROOT / "docs/guides/python-lookups.md").read_text(encoding="utf-8")
    return re.findall(r"<!-- run by: tests/test_lookup_guides.py -->\n```python\n(.*?)```", text, re.DOTALL)


def policies(folder: Path, **rules: str) -> Path:
    (folder / "policies").mkdir()
    for kind, rule in rules.items():
        (folder / "policies" / f"{kind}.yaml").write_text(POLICY.format(kind=kind, rule=rule))
    return folder / "policies"


def codes(sidecar: Sidecar, path: str, *tokens: str) -> list[int | str]:
    got = [sidecar.get(path, token) for token in tokens]
    return [one.status if one.status == 200 else one.code for one in got]


def test_the_app_itself_tells_what_is_decided_from(stack: Stack, tmp_path: Path) -> None:
    alice, bob = stack.tokens["alice"], stack.tokens["bob"]
    routes = example("ask-the-app.md", "routes.yaml").replace("missing: hide", "missing: hide\n    cache: 1m")
    rules = policies(tmp_path, contact=OWN)
    with closing(Web()) as app:
        for path in ("/contacts/1", "/drafts/1"):
            app.json(path, {"all": "of it"})
        app.json("/api/contacts/1", {"id": 1, "owner_id": "alice"})
        app.json("/api/drafts/1", {"owner_id": "alice"})
        environ = {**stack.environ, "APP_TOKEN": "s3cret"}
        with running_sidecar(tmp_path, routes, rules, f"http://127.0.0.1:{app.port}", environ) as sidecar:
            assert codes(sidecar, "/contacts/1", alice) == [200]
            assert [path for path, _ in app.asked] == ["/api/contacts/1", "/contacts/1"]
            asked, sent = (headers for _, headers in app.asked)
            assert (asked["authorization"], asked["x-auth-lookup"]) == ("Bearer s3cret", "contact")
            assert "x-auth-subject" not in asked
            assert (sent["authorization"], sent["x-auth-subject"]) == (f"Bearer {alice}", "alice")
            assert "x-auth-lookup" not in sent
            assert asked["host"] == sent["host"]
            assert [codes(sidecar, f"/contacts/{number}", bob) for number in (1, 2)] == [["denied_by_policy"]] * 2
            app.asked.clear()
            # as each principal, whose answers the other does not get
            assert codes(sidecar, "/drafts/1", alice, bob, alice) == [200, "resource_hidden", 200]
            looked_up = [headers for path, headers in app.asked if path == "/api/drafts/1"]
            assert [headers["x-auth-subject"] for headers in looked_up] == ["alice", "bob"]
            assert [headers["authorization"] for headers in looked_up] == [f"Bearer {alice}", f"Bearer {bob}"]
            app.asked.clear()
            # an app that comes back with what it got
            refused = sidecar.get("/contacts/1", alice, x_auth_lookup="contact")
            assert (refused.status, refused.code, app.asked) == (508, "lookup_loop", [])


def test_functions_tell_what_is_decided_from(stack: Stack, tmp_path: Path) -> None:
    alice, bob, routes = stack.tokens["alice"], stack.tokens["bob"], example("python-lookups.md", "routes.yaml")
    (tmp_path / "acme_authz.py").write_text(modules()[0])
    rules = policies(tmp_path, document=OWN, board="'\"blue\" in request.resource.attr.teams'")
    app = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path, routes, rules, app, stack.environ) as sidecar:
        assert codes(sidecar, "/documents/1", alice, bob) == [200, "denied_by_policy"]
        assert codes(sidecar, "/documents/3", alice, bob) == ["denied_by_policy"] * 2
        assert codes(sidecar, "/board", alice, bob) == [200, "denied_by_policy"]


@pytest.mark.process
def test_a_function_is_tested_as_the_guide_says(tmp_path: Path) -> None:
    for name, text in zip(("acme_authz.py", "acme_many.py", "test_acme_authz.py"), modules(), strict=True):
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in ended.stdout, ended.stdout


async def test_a_function_about_many_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_guide_many.py").write_text(modules()[1])
    monkeypatch.syspath_prepend(tmp_path)
    inquiry = Function("acme_guide_many:owners_of", batch=True)
    lookup = Lookup("document", inquiry, {"owner": Attribute(searcher("owner"))}, batch=Batch(50))
    lookups = Lookups({Function: FunctionSource()}, now=time.monotonic)
    question = inquiry.question("document", "", None)
    replies = await lookups.ask_all([Call(lookup, question, one) for one in ("2", "3", "1")])
    await lookups.aclose()
    assert [reply.document for reply in replies] == [{"owner": "bob"}, None, {"owner": "alice"}]
