"""One line and one count per verdict, with nothing secret in it."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from sidecar.gate.verdict import Code, Facts, Forward, Ground, Preflight, Refuse, Verdict
from sidecar.journal import Journal, Metrics, Outcome, open_stream

NOW = 1_700_000_000.0


def facts(**more: Any) -> Facts:
    return Facts("req-1", "GET", "/contacts/7", "10.0.0.9", **more)


def forward(ground: Ground = Ground.ALLOWED, would_refuse: Code | None = None, **more: Any) -> Forward:
    return Forward(b"GET", b"/contacts/7?token=SECRET", (), ground, facts(**more), would_refuse=would_refuse)


def written(outcome: Outcome) -> tuple[dict[str, Any], str]:
    stream, metrics = io.StringIO(), Metrics()
    Journal(stream, metrics, lambda: NOW).record(outcome)
    (line,) = stream.getvalue().splitlines()
    return json.loads(line), generate_latest(metrics.registry).decode()


def test_an_allowed_request_is_one_line_with_all_that_an_auditor_asks() -> None:
    verdict = forward(
        route="/contacts/{id}", principal="a-1", kind="contact", resource_id="7", action="read", call_id="01H", policy="p",
        stages={"decision": 0.0012},
    )  # fmt: skip
    entry, metrics = written(Outcome(verdict, 200, 0.0042))
    assert entry == {
        "time": "2023-11-14T22:13:20.000+00:00", "event": "decision", "request_id": "req-1", "outcome": "allow",
        "code": "allowed", "status": 200, "method": "GET", "path": "/contacts/7", "route": "/contacts/{id}",
        "principal": "a-1", "kind": "contact", "id": "7", "action": "read", "peer": "10.0.0.9",
        "ms": {"decision": 1.2}, "total_ms": 4.2, "call_id": "01H", "policy": "p",
    }  # fmt: skip
    assert 'sidecar_requests_total{code="allowed",outcome="allow",route="/contacts/{id}",status="200"} 1.0' in metrics
    assert 'sidecar_stage_seconds_count{stage="decision"} 1.0' in metrics


@pytest.mark.parametrize(
    ("verdict", "outcome", "code"),
    [
        (Refuse(Code.DENIED_BY_POLICY, facts()), "refuse", "denied_by_policy"),
        (forward(Ground.PUBLIC), "allow", "public"),
        (forward(Ground.SHADOW, Code.NO_ROLES), "shadow_refuse", "no_roles"),
        (Preflight((), facts()), "allow", "preflight"),
    ],
)
def test_each_kind_of_verdict_says_what_it_was(verdict: Verdict, outcome: str, code: str) -> None:
    entry, _ = written(Outcome(verdict, 200, 0.0))
    assert (entry["outcome"], entry["code"]) == (outcome, code)


def test_a_fault_after_the_permit_is_the_code_while_the_outcome_stays_allow() -> None:
    entry, metrics = written(Outcome(forward(), 502, 0.0, Code.UPSTREAM_UNAVAILABLE))
    assert (entry["outcome"], entry["code"], entry["dep"], entry["fault"]) == (
        "allow", "upstream_unavailable", "upstream", "unavailable",
    )  # fmt: skip
    assert 'sidecar_dep_errors_total{dep="upstream",fault="unavailable"} 1.0' in metrics


def test_nothing_that_came_from_a_client_can_break_or_colour_the_line() -> None:
    hostile = '\x1b]0;x\x07\n\u2028{"allow":true}'
    entry, _ = written(Outcome(forward(principal=hostile), 200, 0.0))
    assert entry["principal"] == hostile
    stream = io.StringIO()
    Journal(stream, Metrics(), lambda: NOW).record(Outcome(forward(principal=hostile), 200, 0.0))
    assert stream.getvalue().isascii()
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert "SECRET" not in stream.getvalue()


def test_the_detail_of_a_refusal_is_capped() -> None:
    entry, _ = written(Outcome(Refuse(Code.TOKEN_INVALID, facts(), "x" * 1000), 401, 0.0))
    assert len(entry["detail"]) == 256


def test_an_answer_that_broke_off_has_a_line_of_its_own() -> None:
    stream, metrics = io.StringIO(), Metrics()
    Journal(stream, metrics, lambda: NOW).broken_off(facts(route="/x"), Code.UPSTREAM_PARTIAL)
    assert json.loads(stream.getvalue())["event"] == "broken_off"
    assert b'sidecar_dep_errors_total{dep="upstream",fault="partial"} 1.0' in generate_latest(metrics.registry)


def test_a_file_is_appended_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text("before\n")
    with open_stream(str(path)) as stream:
        stream.write("after\n")
    assert path.read_text() == "before\nafter\n"
    open_stream("stdout").write("here")
    assert capsys.readouterr().out == "here"
