"""The kept corpus is replayed: every input that once found something, or that shows a corner, keeps its promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
INPUTS = [(name, path) for name in TARGETS for path in sorted((CORPUS / name).iterdir())]


def test_every_target_has_a_corpus() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(any(name == target for name, _ in INPUTS) for target in TARGETS)


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=lambda value: value if isinstance(value, str) else value.name)
def test_a_kept_input_keeps_its_promise(name: str, path: Path) -> None:
    TARGETS[name](path.read_bytes())
