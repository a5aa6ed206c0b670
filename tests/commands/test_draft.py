"""`sidecar draft` as it is typed."""

import json
from pathlib import Path

import pytest

from tests.adoption.recorded import decision, question
from tests.commands.running import Run, log, running


@pytest.fixture(name="draft")
def _draft(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return running("draft", capsys)


SEEN = [question(day, principal=f"p-{day % 3}") for day in range(6)]


def test_files_are_written_and_told(draft: Run) -> None:
    code, out, err = draft(log("q.log", *SEEN))
    assert (code, err) == (0, "2 files in policies-draft: try them with `cerbos compile policies-draft`\n")
    assert out.startswith("1 rule for 1 kind, from 6 requests\n\ncontact\n  + read, user: 6 requests of 3 principals")
    assert sorted(path.name for path in Path("policies-draft").iterdir()) == [
        "contact_policy.yaml",
        "contact_test.yaml",
    ]


def test_json_has_all(draft: Run) -> None:
    _, out, _ = draft(log("q.log", *SEEN), "--json", "--out", "new/folder")
    (kind,) = json.loads(out)["kinds"]
    assert (kind["kind"], kind["rules"][0]["principals"]) == ("contact", 3)


def test_thresholds_and_a_period_are_flags(draft: Run) -> None:
    log("q.log", *SEEN)
    assert draft("q.log", "--out", "a", "--min-hits", "7")[1].startswith("0 rules")
    assert draft("q.log", "--out", "b", "--min-principals", "4")[1].startswith("0 rules")
    assert draft("q.log", "--out", "c", "--since", "2025-12-03T00:00Z", "--until", "2025-12-05T00:00Z")[1].startswith(
        "0 rules for 1 kind, from 2 requests"
    )
    with pytest.raises(SystemExit):
        draft("q.log", "--min-hits", "0")


def test_a_folder_with_files_is_left_alone_without_force(draft: Run) -> None:
    log("q.log", *SEEN)
    Path("mine").mkdir()
    Path("mine/own.yaml").write_text("# mine\n")
    code, _, err = draft("q.log", "--out", "mine")
    assert (code, err) == (
        1,
        "--out: mine has files, expected an empty folder: name another one, or write there with --force\n",
    )
    assert draft("q.log", "--out", "q.log")[2] == "--out: q.log is a file, expected a folder\n"


def test_with_force_files_of_an_earlier_draft_go_and_others_stay(draft: Run) -> None:
    log("q.log", *SEEN)
    log("other.log", *(line._replace(kind="order") for line in SEEN))
    draft("q.log")
    Path("policies-draft/own.yaml").write_text("# mine\n")
    assert draft("other.log", "--force")[0] == 0
    assert sorted(path.name for path in Path("policies-draft").iterdir()) == [
        "order_policy.yaml",
        "order_test.yaml",
        "own.yaml",
    ]


def test_work_of_a_person_is_not_replaced_even_with_force(draft: Run) -> None:
    draft(log("q.log", *SEEN))
    policy, test = Path("policies-draft/contact_policy.yaml"), Path("policies-draft/contact_test.yaml")
    policy.write_text(policy.read_text() + "# decided by a person\n")
    test.write_text("name: mine\n")
    before = policy.read_text(), test.read_text()
    log("other.log", *(line._replace(kind="order") for line in SEEN))
    for name, problems in (
        ("q.log", [f"{policy}: found changes since it was drafted, expected none", f"{test}: found a file of your own, expected none of this name"]),
        ("other.log", [f"{policy}: found changes since it was drafted, expected none"]),
    ):  # fmt: skip
        code, _, err = draft(name, "--force")
        *told, next_step = err.splitlines()
        assert (code, told) == (1, problems)
        assert next_step == (
            "--force replaces no work of yours: move these files out of policies-draft, or name another --out"
        )
        assert sorted(Path("policies-draft").iterdir()) == [policy, test]
    assert (policy.read_text(), test.read_text()) == before
    policy.rename("kept.yaml")
    assert draft("other.log", "--force")[0] == 0
    assert test.read_text() == "name: mine\n"


def test_a_log_that_says_nothing_of_the_app_is_an_error_and_writes_nothing(draft: Run) -> None:
    code, _, err = draft(log("q.log", decision(), question(0, None, weight=2)))
    assert code == 1
    assert err.startswith(
        "q.log: found no request about which a policy was asked and that the app answered, expected lines of SIDECAR_QUESTION_LOG\n"
    )
    assert "2 requests left out: the app was not asked" in err
    assert not Path("policies-draft").exists()


def test_lines_that_cannot_be_read_are_told(draft: Run) -> None:
    with Path(log("q.log", *SEEN)).open("a") as file:
        file.write("nonsense\n")
    assert draft("q.log")[2].startswith("q.log:7: ")
    assert draft("nowhere.log")[0] == 1
