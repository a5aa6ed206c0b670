"""Candidate policies beside the real ones, with two real Cerbos: what differs is in the log and the metrics alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.settings import read_settings
from sidecar.pdp.policy_files import read_policies
from sidecar.run import candidate as module
from sidecar.run.candidate import CANDIDATE, candidate_policies
from sidecar.run.deciding import wall_clock
from sidecar.run.errors import StartError
from tests.conftest import Stack, policies
from tests.stack import Sidecar, binary, reply, running_sidecar, wait_for

BROKEN = "apiVersion: api.cerbos.dev/v1\nresourcePolicy: {resource: contact, version: default, rules: [{}]}\n"


def changed(folder: Path) -> Path:
    """The policies of the demo, by which no user may read, and each may delete."""
    shutil.copytree(policies(), folder, ignore=shutil.ignore_patterns("tests"))
    path = folder / "contact.yaml"
    text = path.read_text()
    assert text.count("actions: [read]\n") == 1
    path.write_text(text.replace("actions: [read]\n", "actions: [delete]\n"))
    return folder


def environ_of(stack: Stack, folder: Path) -> dict[str, str]:
    return {**stack.environ, "SIDECAR_CANDIDATE_POLICIES": str(folder)}


def upstream_of(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.upstream.port}"


def counted(sidecar: Sidecar) -> dict[str, int]:
    results = ("same", "allow_to_deny", "deny_to_allow", "failed", "dropped")
    found = {result: int(sidecar.metric("sidecar_candidate_total", result=result)) for result in results}
    return {result: number for result, number in found.items() if number}


def differences(sidecar: Sidecar) -> list[dict[str, Any]]:
    return [line for line in sidecar.decisions() if line["event"] == "candidate_differs"]


def shown(sidecar: Sidecar) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sidecar.admin("/config").body)["candidate"]
    return found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_the_candidate_would_decide_otherwise_is_told_and_changes_nothing(
    stack: Stack, tmp_path: Path, workers: str
) -> None:
    folder = changed(tmp_path / "candidate")
    environ = {**environ_of(stack, folder), "SIDECAR_WORKERS": workers}
    with running_sidecar(tmp_path / "run", stack.routes, policies(), upstream_of(stack), environ) as sidecar:
        # either worker may answer, with what the other wrote last
        wait_for(
            lambda: not any(sidecar.metric("sidecar_candidate_failed") for _ in range(10)),
            what="the candidate's policies in force",
        )
        stack.upstream.reset(reply(200))
        alice = stack.tokens["alice"]
        # of others' contacts: may be read today, and not by the candidate; may not be deleted today
        assert sidecar.get("/contacts/2", alice).status == 200
        assert sidecar.request("DELETE", "/contacts/2", alice).status == 403
        assert sidecar.get("/contacts", alice).status == 400
        assert sidecar.get("/contacts?owner=x", alice).status == 200
        wait_for(lambda: counted(sidecar) == {"same": 1, "allow_to_deny": 1, "deny_to_allow": 1})
        wait_for(lambda: len(differences(sidecar)) == 2)
        lines = {line["action"]: line for line in differences(sidecar)}
        ids = {line["action"]: line["request_id"] for line in sidecar.decisions() if line["event"] == "decision"}
        base = {
            "event": "candidate_differs", "route": "/contacts/{id}", "kind": "contact", "id": "2", "principal": "alice",
            "roles": ["user"], "revision": read_policies(policies()).digest, "candidate_revision": read_policies(folder).digest,
        }  # fmt: skip
        told = {
            action: {name: value for name, value in line.items() if name != "time"} for action, line in lines.items()
        }
        assert told["read"] == {
            **base, "request_id": ids["read"], "action": "read", "ours": "allow", "theirs": "deny", "policy": "resource.contact.vdefault",
            "candidate_policy": told["read"].get("candidate_policy"),
        }  # fmt: skip
        assert (told["delete"]["ours"], told["delete"]["theirs"]) == ("deny", "allow")
        wait_for(lambda: sidecar.metric("sidecar_candidate_failed") == 0)
        assert sidecar.admin("/readyz").status == 200
        # a change of its folder is in force without a restart
        shutil.copy(policies() / "contact.yaml", folder / "contact.yaml")
        wait_for(lambda: shown(sidecar)["revision"] == read_policies(folder).digest)
        assert sidecar.get("/contacts/2", alice).status == 200
        wait_for(lambda: counted(sidecar) == {"same": 2, "allow_to_deny": 1, "deny_to_allow": 1})


def test_a_candidate_that_cannot_start_hinders_nobody_and_starts_when_it_can(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "candidate"
    folder.mkdir()
    (folder / "contact.yaml").write_text(BROKEN)
    with running_sidecar(
        tmp_path / "run", stack.routes, policies(), upstream_of(stack), environ_of(stack, folder)
    ) as sidecar:
        wait_for(lambda: "the candidate policies cannot be used" in sidecar.log())
        assert f"{folder}/contact.yaml:1:1: resourcePolicy.rules[0].effect" in sidecar.log()
        stack.upstream.reset(reply(200))
        assert sidecar.get("/contacts/1", stack.tokens["alice"]).status == 200
        wait_for(lambda: counted(sidecar) == {"failed": 1})
        assert sidecar.metric("sidecar_candidate_failed") == 1
        assert sidecar.admin("/readyz").status == 200
        assert shown(sidecar)["failed"] is True
        shutil.copytree(policies(), folder, ignore=shutil.ignore_patterns("tests"), dirs_exist_ok=True)
        wait_for(lambda: shown(sidecar)["revision"], what="the candidate's start")
        assert sidecar.get("/contacts/1", stack.tokens["alice"]).status == 200
        wait_for(lambda: counted(sidecar).get("same") == 1)
        wait_for(lambda: sidecar.metric("sidecar_candidate_failed") == 0)


def test_a_worker_asks_the_candidate_of_its_parent(tmp_path: Path) -> None:
    settings = read_settings({"SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_CANDIDATE_POLICIES": "none"}, {})
    told = {CANDIDATE: f"unix:{tmp_path}/grpc.sock {tmp_path}/state.json"}
    made = candidate_policies(settings, told, wall_clock)
    assert made is not None
    assert made.failed
    assert made.shown() == {"revision": "", "reload": "ok", "failed": True}


def test_without_the_setting_there_is_none_and_a_folder_that_is_not_there_is_refused() -> None:
    least = {"SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_CERBOS_BINARY": str(binary())}
    assert candidate_policies(read_settings(least, {}), {}, wall_clock) is None
    with pytest.raises(StartError, match="SIDECAR_CANDIDATE_POLICIES: found no folder 'none'"):
        candidate_policies(read_settings({**least, "SIDECAR_CANDIDATE_POLICIES": "none"}, {}), {}, wall_clock)
    assert module.AGAIN_AFTER > module.LOOK_EVERY
