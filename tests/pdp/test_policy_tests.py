"""Decisions at a time of the past, by the real `cerbos compile` of both versions."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.gate.decision import Resource
from sidecar.gate.identity import Principal
from sidecar.pdp.policy_tests import Moment, decide_at
from tests.fakes import environment
from tests.stack import binary, older_binary

OFFER = """
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: offer
  version: default
  rules:
    - actions: ["read:now"]
      effect: EFFECT_ALLOW
      roles: [user]
      condition: {match: {expr: now() < timestamp(R.attr.until) && R.attr.owner == P.attr.name}}
"""
ALICE = Principal("alice", ("user",), {"name": "alice \u2028 \"'"}, "", 0.0, {})
UNTIL = {"until": "2026-01-31T12:00:00Z", "owner": "alice \u2028 \"'"}


def moment(time: str, **attributes: object) -> Moment:
    return Moment(time, ALICE, Resource("offer", "7", "read:now", UNTIL | attributes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "offer.yaml").write_text(OFFER)
    return tmp_path


@pytest.mark.parametrize("cerbos", [binary, older_binary])
@pytest.mark.parametrize("strict", [False, True])
def test_each_question_is_asked_at_its_own_time(folder: Path, cerbos: Callable[[], Path], strict: bool) -> None:
    moments = [
        moment("2026-01-31T11:59:59.999+00:00"), moment("2026-01-31T12:00:00.000+00:00"),
        moment("2026-01-31T13:59:59.999+02:00"), moment("2026-01-31T11:00:00Z", owner="bob"),
        moment("2026-01-31T11:00:00Z", until=7),
    ]  # fmt: skip
    strict = strict and cerbos is binary
    assert decide_at(cerbos(), folder, moments, strict=strict) == [True, False, True, False, False]
    assert [path.name for path in folder.iterdir()] == ["offer.yaml"]


def test_equal_ids_and_names_are_told_apart_by_their_place(folder: Path) -> None:
    moments = [moment("2026-01-31T11:00:00Z", owner=owner) for owner in (UNTIL["owner"], "bob")] * 20
    assert decide_at(binary(), folder, moments, strict=True) == [True, False] * 20


def test_tests_of_the_user_beside_the_policies_are_no_questions(folder: Path) -> None:
    (folder / "offer_test.yaml").write_text("name: offer\nprincipals: 5\n")
    assert decide_at(binary(), folder, [moment("2026-01-31T11:00:00Z")], strict=True) == [True]


def test_a_time_of_another_form_is_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"found 'yesterday', expected a time such as 2026"):
        decide_at(binary(), folder, [moment("yesterday")], strict=True)


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("echo no; exit 3", "told no result of its tests"),
        ("echo '{\"suites\": []}'", "told no result of its tests"),
        ("echo '{}'; echo 'bad policies' >&2", "bad policies"),
        (
            """echo '{"suites": [{"testCases": [{"name": "t0", "principals": [{"resources": [{"actions": [{"details": """
            """{"result": "RESULT_SKIPPED"}}]}]}]}]}]}'""",
            "a test ended with RESULT_SKIPPED",
        ),
    ],
)
def test_what_is_no_result_is_no_decision(folder: Path, tmp_path: Path, does: str, says: str) -> None:
    """A stand-in, since the real one tells each result."""
    program = tmp_path / "cerbos"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    with pytest.raises(OSError, match=says):
        decide_at(program, folder, [moment("2026-01-31T11:00:00Z")], strict=False)


def test_cerbos_gets_nothing_of_our_environment_that_it_does_not_need(folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "cerbos"
    program.write_text('#!/bin/sh\necho "secret: ${SIDECAR_SESSION_SECRET-none}, path: ${PATH+some}" >&2\n')
    program.chmod(0o755)
    with environment(SIDECAR_SESSION_SECRET="s"), pytest.raises(OSError, match="secret: none, path: some"):
        decide_at(program, folder, [moment("2026-01-31T11:00:00Z")], strict=False)


def test_a_cerbos_that_does_not_end_is_ended(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, timeout: float, **__: object) -> None:
        raise subprocess.TimeoutExpired("cerbos", timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(OSError, match="did not test the policies"):
        decide_at(tmp_path, folder, [moment("2026-01-31T11:00:00Z")], strict=False)
    assert [path.name for path in folder.iterdir()] == ["offer.yaml"]
