"""`sidecar import`: its exit codes, and where draft and report go."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from sidecar.cli import main
from sidecar.config.routes.file import read_routes
from tests.imports.test_combined import TIME

LOG = b"h - - " + TIME + b' "GET /contacts/7?page=1 HTTP/1.1" 200 12 "-" "curl"\n'


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.log").write_bytes(LOG * 3 + b"broken\n")
    return tmp_path


def test_the_draft_goes_to_stdout_and_the_report_to_stderr(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "a.log"]) == 0
    said = capsys.readouterr()
    assert [route.name for route in read_routes(said.out, "draft", {}).drafts] == ["/contacts/{id:int}"]
    assert "a.log:4: found no time" in said.err
    assert said.err.startswith("1 route from\n  a.log (combined): 3 requests, 1 that cannot be read\n")


def test_a_file_takes_the_draft_and_is_never_replaced_by_itself(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "a.log", "--out", "routes.yaml"]) == 0
    assert capsys.readouterr().out.startswith("1 route from\n")
    (log / "routes.yaml").write_text("mine")
    assert main(["import", "a.log", "--out", "routes.yaml"]) == 2
    assert capsys.readouterr().err == "--out: routes.yaml exists, expected a new file; --force replaces it\n"
    assert (log / "routes.yaml").read_text() == "mine"
    assert main(["import", "a.log", "--out", "routes.yaml", "--force"]) == 0
    assert read_routes((log / "routes.yaml").read_text(), "r", {}).drafts
    assert main(["import", "a.log", "--out", "none/routes.yaml"]) == 2
    assert "cannot write none/routes.yaml: No such file" in capsys.readouterr().err


def test_json_has_the_draft_unless_a_file_takes_it(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "a.log", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["routes"][0]["path"] == "/contacts/{id:int}"
    assert read_routes(found["draft"], "r", {}).drafts
    assert main(["import", "a.log", "--json", "--out", "r.yaml"]) == 0
    assert "draft" not in json.loads(capsys.readouterr().out)


def test_stdin_and_templates_of_a_person(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(LOG.replace(b"/contacts/7", b"/alice/secret")))
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["import", "-", "--template", "/{owner}/{repo}", "--format", "combined", "--host", "h"]) == 0
    assert [route.name for route in read_routes(capsys.readouterr().out, "r", {}).drafts] == ["/{owner}/{repo}"]


def test_files_that_cannot_be_used_are_named(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "a.log", "none.log"]) == 1
    assert capsys.readouterr().err.startswith("none.log: cannot be read: No such file or directory, expected")
    (log / "bad.log").write_bytes(LOG.replace(b" 200 ", b" 404 "))
    assert main(["import", "bad.log"]) == 1
    assert "found no evidence of a route in these files" in capsys.readouterr().err


def test_wrong_usage_is_told(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--template", "/<int:id>"], ["--format", "xml"]):
        with pytest.raises(SystemExit) as ended:
            main(["import", "a.log", *arguments])
        assert ended.value.code == 2
    assert "did you mean" in capsys.readouterr().err
