"""`sidecar demo --adopt`, which is docs/guides/adopt.md: each command of the guide is run, and what it promises holds."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml

from sidecar.demo import adopt
from sidecar.demo.adopt import Walk, WalkPorts, decided, widen
from sidecar.demo.processes import DemoError
from tests import guide_commands
from tests.forked import Forked
from tests.stack import ROOT, binary

GUIDE = (ROOT / "docs/guides/adopt.md").read_text(encoding="utf-8")


def in_this_process(self: Walk, arguments: Sequence[str]) -> CompletedProcess[str]:
    done = guide_commands.sidecar(self.folder, *arguments, environ={**self._environ, **self._settings()})
    return CompletedProcess(["python", "-m", "sidecar", *arguments], done.returncode, done.stdout, done.stderr)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    return tmp_path


def walk(project: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(adopt, "Process", Forked)
    monkeypatch.setattr(Walk, "_run", in_this_process)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SIDECAR_", "AWS_"))}
    out = io.StringIO()
    with contextlib.ExitStack() as stack:
        Walk(project, WalkPorts(*[free_port() for _ in range(4)]), environ, binary(), out, stack).walk()
    return out.getvalue()


@pytest.mark.e2e
def test_the_guide_is_walked_and_each_refusal_had_been_named(
    project: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "adopt").mkdir()
    (project / "adopt/of-an-earlier-walk").touch()
    text = walk(project, free_port, monkeypatch)
    walked = re.findall(r"^\$ (sidecar .+)$", text, re.MULTILINE)
    assert walked == re.findall(r"^(sidecar .+)$", GUIDE, re.MULTILINE)
    refused = re.findall(r"^  refused, as the report said: (.+)$", text, re.MULTILINE)
    both = ["dora PATCH /contacts/2 (denied_by_policy)", "somebody GET /db (route_unmapped)"]
    assert refused == [both[1], *both]
    assert "<svg" in (project / "adopt/report.html").read_text()
    assert not (project / "adopt/of-an-earlier-walk").exists()


def test_a_refusal_that_the_report_had_not_named_ends_the_walk(
    project: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    log = tmp_path / "enforced.log"
    log.write_text(
        '{"outcome": "refuse", "method": "GET", "route": "/x", "code": "denied_by_policy", "roles": ["user"]}\n'
    )
    with contextlib.ExitStack() as stack:
        made = Walk(project, WalkPorts(1, 2, 3, 4), {}, binary(), io.StringIO(), stack)
        with pytest.raises(DemoError, match="the report had not named it"):
            made._tell(log, frozenset())


def test_a_person_takes_the_routes_of_contacts_and_leaves_the_rest_as_drafts() -> None:
    draft = (
        "version: 1\ndraft: true\nroutes:\n  # seen\n  - path: /contacts/{id:int}\n    draft: true\n"
        '    resource: contact\n    id: "{path.id}"\n    actions: {GET: read}\n'
        "  - path: /{id}\n    draft: true\n    resource: item\n"
    )
    made = yaml.safe_load(decided(draft, 3000))
    assert "draft" not in made
    used, left = made["routes"]
    assert (used["lookup"], "draft" in used, left["draft"]) == ("contact", False, True)
    assert made["lookups"]["contact"]["url"].startswith("http://127.0.0.1:3000/")


def test_the_change_is_to_the_policy_of_contacts_alone(tmp_path: Path) -> None:
    policy = {"resourcePolicy": {"resource": "contact", "version": "default", "rules": []}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(policy))
    (tmp_path / "b.yaml").write_text("derivedRoles: {name: x}\n")
    widen(tmp_path)
    (rule,) = yaml.safe_load((tmp_path / "a.yaml").read_text())["resourcePolicy"]["rules"]
    assert (rule["roles"], rule["effect"]) == (["user"], "EFFECT_ALLOW")
    assert (tmp_path / "b.yaml").read_text() == "derivedRoles: {name: x}\n"
