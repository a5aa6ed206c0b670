"""`sidecar report` as it is typed."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar.record.line import Line, write
from tests.adoption.recorded import decision, question, refused
from tests.commands.running import Run, log, running

ROUTES = "version: 1\nroutes: [{path: '/contacts/{id}', resource: contact, id: '{path.id}', actions: {GET: read, DELETE: delete}}]\n"


@pytest.fixture(name="report")
def _report(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return running("report", capsys)


def as_json(out: str) -> dict[str, Any]:
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_several_logs_of_questions_and_decisions_are_one(report: Run) -> None:
    log("a.log", decision(0), decision(0.5, outcome="shadow_refuse", code="route_unmapped", route=""))
    log("b.log", question(1, weight=4), refused(2))
    code, out, err = report("a.log", "b.log", "--json")
    assert (code, err, as_json(out)["requests"]) == (0, "", 7)
    assert "Would break: 2 requests" in report("*.log")[1]


def test_requests_that_both_logs_have_count_once(report: Run) -> None:
    log("a.log", *(decision(day) for day in range(4)))
    log("b.log", *(question(day) for day in range(4)))
    found = as_json(report("a.log", "b.log", "--json")[1])
    assert (found["requests"], found["notes"][0][:7]) == (4, "4 lines")


def test_lines_that_cannot_be_read_are_told_with_their_place(report: Run) -> None:
    with Path(log("a.log", question())).open("a") as file:
        file.write("{}\nnonsense\n")
    assert "  note: a.log:3: found no line, expected one JSON object" in report("a.log")[1]


def test_a_log_without_a_request_is_an_error_that_says_what_is_expected(report: Run) -> None:
    Path("a.log").write_text("nonsense\n")
    code, out, err = report("a.log")
    assert (code, out) == (1, "")
    assert err.startswith("a.log: found no request that was decided, expected lines of SIDECAR_QUESTION_LOG")
    assert "\na.log:1: found no line" in err


def test_stdin_is_read(report: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(write(question()).encode())))
    assert report("-")[1].startswith("1 request of 1 principal")


def test_a_period_with_zones(report: Run) -> None:
    log("a.log", question(0), question(1), question(2))
    _, out, _ = report("a.log", "--json", "--since", "2025-12-01T12:00Z", "--until", "2025-12-02T23:00-01:00")
    assert as_json(out)["requests"] == 1
    code, _, err = report("a.log", "--since", "2025-12-01")
    assert (code, err) == (1, "--since: found '2025-12-01' without a zone, expected one, such as 2025-12-01T00:00Z\n")


def test_routes_that_nobody_used_are_those_of_the_file(report: Run) -> None:
    log("a.log", question())
    Path("routes.yaml").write_text(ROUTES)
    assert "  not seen:\n    DELETE /contacts/{id}\n" in report("a.log", "--routes", "routes.yaml")[1]
    Path("routes.yaml").write_text("version: 1\nroutes: 7\n")
    code, _, err = report("a.log", "--routes", "routes.yaml")
    assert code == 1
    assert err.startswith("routes.yaml:2:9: ")


def test_what_a_person_intends_is_no_difference(report: Run) -> None:
    log("a.log", refused())
    (difference,) = as_json(report("a.log", "--json")[1])["differences"]
    Path("intended.txt").write_text(f"{difference['id']} as agreed\n")
    assert report("a.log", "--fail-on", "would-break")[0] == 3
    assert report("a.log", "--fail-on", "would-break", "--intended", "intended.txt")[0] == 0
    Path("intended.txt").write_text("as agreed\n")
    assert report("a.log", "--intended", "intended.txt")[2].startswith("intended.txt:1: found 'as agreed'")


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (refused(), "would-break"), (question(0, 403), "app-knows-more"), (refused(code="pdp_timeout"), "undecided"),
        (question(), "not-ready"),
    ],
)  # fmt: skip
def test_ci_can_fail_on_a_difference(report: Run, line: Line, names: str) -> None:
    log("a.log", line)
    assert report("a.log")[0] == 0
    assert report("a.log", "--fail-on", names)[0] == 3
    if names != "not-ready":
        assert report(log("b.log", question()), "--fail-on", names)[0] == 0


def test_thresholds_are_flags(report: Run) -> None:
    log("a.log", question(0), question(1))
    Path("routes.yaml").write_text(ROUTES)
    bounds = ("--min-days", "1", "--quiet-days", "0.5", "--min-routes", "50", "--max-undecided", "0", "--min-seen", "1")
    assert "Enforce: every rule is met." in report("a.log", "--routes", "routes.yaml", *bounds)[1]


@pytest.mark.parametrize(
    "wrong", [("--fail-on", "moon"), ("--min-days", "-1"), ("--min-days", "x"), ("--min-seen", "x")]
)
def test_wrong_usage_is_two(report: Run, wrong: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as told:
        report("a.log", *wrong)
    assert told.value.code == 2


def test_a_file_that_is_not_there_is_told(report: Run) -> None:
    code, _, err = report("nowhere.log")
    assert code == 1
    assert "nowhere.log" in err


def test_the_page_is_written_beside_the_text(report: Run) -> None:
    code, out, _ = report(log("a.log", refused()), "--html", "report.html")
    assert (code, "Would break: 1 request" in out) == (0, True)
    assert Path("report.html").read_text().startswith("<!doctype html>")
    code, _, err = report("a.log", "--html", "nowhere/report.html")
    assert (code, "nowhere/report.html" in err) == (1, True)
