"""`sidecar replay`, as one types it: its exit codes, and what it says of what it cannot use."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from sidecar.cli import main
from sidecar.record.line import QuestionLine, write
from tests.adoption.questions import denied, question, unasked
from tests.stack import ROOT, binary

SAME = [question(), denied(action="fly")]


@pytest.fixture(autouse=True)
def cerbos(embedded_shared: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_CERBOS_BINARY", str(binary()))


def log(folder: Path, lines: Iterable[QuestionLine], name: str = "questions.log") -> str:
    path = folder / name
    path.write_text("".join(map(write, lines)))
    return str(path)


def replay(*arguments: str) -> int:
    return main(["replay", *arguments, "--policies", str(ROOT / "policies")])


@pytest.mark.parametrize(
    ("lines", "flags", "code"),
    [
        (SAME, (), 0),
        ([*SAME, question(action="fly")], (), 2),
        ([*SAME, denied()], (), 3),
        ([*SAME, denied()], ("--allow-widening", "contact:read"), 2),
        ([*SAME, denied(), denied(action="update")], ("--allow-widening", "contact:read"), 3),
        ([*SAME, question(redacted=("resource.owner",))], ("--min-replayed", "60"), 0),
        ([*SAME, question(redacted=("resource.owner",))], ("--min-replayed", "70"), 1),
        (SAME, ("--min-replayed", "nan"), 1),
        ([*SAME, question(resources=())], (), 0),
        # nobody can replay what no policy had decided
        ([*SAME, unasked("token_missing", principal=""), unasked("route_unmapped")], ("--min-replayed", "100"), 0),
    ],
)
def test_exit_codes(tmp_path: Path, lines: list[QuestionLine], flags: tuple[str, ...], code: int) -> None:
    assert replay(log(tmp_path, lines), *flags) == code


def test_logs_of_two_replicas_rotated_and_compressed_are_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log(tmp_path, SAME, "a.log")
    log(tmp_path, SAME, "b.log.1")
    (tmp_path / "a.log.2.gz").write_bytes(gzip.compress("".join(map(write, SAME)).encode()))
    assert replay(str(tmp_path / "*"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["same"] == 6


def test_broken_lines_are_told_with_their_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(log(tmp_path, SAME))
    path.write_text(path.read_text() + '{"time": 7}\n')
    assert replay(str(path)) == 0
    assert "questions.log:3: event: found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("{log}", "--allow-widening", "contact"), "--allow-widening: found 'contact', expected KIND:ACTION"),
        (("nothing.log",), "nothing.log"),
        (("{log}", "--cerbos-binary", "/nowhere"), "--cerbos-binary"),
        (("{log}", "--routes", "{bad}"), "routes.yaml:1:1"),
        (("{log}", "--routes", "nowhere.yaml"), "--routes: cannot read nowhere.yaml"),
        (("{none}",), "no request could be replayed"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    bad = tmp_path / "routes.yaml"
    bad.write_text("nonsense\n")
    places = {
        "log": log(tmp_path, SAME), "bad": str(bad),
        "none": log(tmp_path, [unasked("token_missing", principal="")], "none.log"),
    }  # fmt: skip
    assert replay(*[argument.format(**places) for argument in arguments]) == 1
    assert says in capsys.readouterr().err


def test_policies_that_are_not_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", log(tmp_path, SAME), "--policies", str(tmp_path / "none")]) == 1
    assert "--policies: found no folder" in capsys.readouterr().err


def test_a_misspelt_flag_does_not_look_like_a_change(tmp_path: Path) -> None:
    assert replay(log(tmp_path, SAME), "--allow-widenings", "contact:read") == 1
    with pytest.raises(SystemExit) as ended:
        replay("--help")
    assert ended.value.code == 0
