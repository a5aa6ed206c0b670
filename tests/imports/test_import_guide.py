"""docs/guides/import.md as it stands: its log gives its draft."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecar.cli import main
from tests.stack import ROOT

GUIDE = (ROOT / "docs/guides/import.md").read_text(encoding="utf-8")


def test_the_log_of_the_guide_gives_its_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (log,) = re.findall(r"^```text\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    (draft,) = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    Path("access.log").write_text(log)
    assert main(["import", "access.log", "--out", "routes.yaml"]) == 0
    assert Path("routes.yaml").read_text() == draft
