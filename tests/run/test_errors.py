"""Reasons why the sidecar cannot start are gathered, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.run.errors import Errors, StartError, blaming, require_readable, unable


def fail(*problems: str) -> int:
    if problems:
        raise StartError(*problems)
    return 1


def test_what_fails_is_kept_and_the_rest_is_made() -> None:
    errors = Errors(["first"])
    assert errors.tried(fail) == 1
    assert errors.tried(fail, "second", "first") is None
    assert errors.problems == ["first", "second"]


def test_a_bug_is_no_reason() -> None:
    with pytest.raises(ZeroDivisionError):
        Errors().tried(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("raised", "said"),
    [(ValueError("odd"), "SIDECAR_X: odd"), (FileNotFoundError(2, "gone", "a"), "SIDECAR_X: [Errno 2] gone: 'a'")],
)
def test_a_reason_names_its_setting(raised: Exception, said: str) -> None:
    with pytest.raises(StartError) as caught, blaming("SIDECAR_X"):
        raise raised
    assert str(caught.value) == said


def test_a_file_that_cannot_be_read_names_its_setting(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    require_readable("SIDECAR_X", str(tmp_path / "a"))
    require_readable("SIDECAR_X", "")
    with pytest.raises(StartError, match=f"^SIDECAR_X: cannot read {tmp_path}/b: No such file or directory$"):
        require_readable("SIDECAR_X", f"{tmp_path}/b")


def test_a_reason_says_what_was_expected_or_not_done() -> None:
    with pytest.raises(StartError, match=r"^SIDECAR_X: expected a file: odd$"), blaming("SIDECAR_X", "a file"):
        raise ValueError("odd")
    with pytest.raises(StartError, match=r"^SIDECAR_X: cannot open it: gone$"), unable("SIDECAR_X", "open it"):
        raise FileNotFoundError(2, "gone", "a")
