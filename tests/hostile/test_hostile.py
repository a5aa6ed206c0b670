"""Every case of hostile.yaml, each with all its variants, against the running sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hostile.attempts import Case
from tests.hostile.runner import run_case
from tests.hostile.world import FOLDER, World, running_world

DOCUMENT: dict[str, Any] = yaml.safe_load((FOLDER / "hostile.yaml").read_text(encoding="utf-8"))
CASES: dict[str, Case] = {case["id"]: case for case in DOCUMENT["cases"]}

_BYTES = {"path", "method", "headers", "smuggling", "query", "body", "jwt"}
"""Categories whose cases are requests of bytes, or of tokens that are made from the words of the case."""
FOLLOWED = {"s23", "s24", "s26", "s27", "s29"}
"""Cases of a poisoned upstream connection: what the next client gets is what matters."""
OF_BYTES = sorted(name for name, case in CASES.items() if case["cat"] in _BYTES and name not in FOLLOWED) + ["l01"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The fixture of the file, running."""
    with running_world(Path(tmp_path_factory.mktemp("hostile"))) as running:
        yield running


@pytest.mark.parametrize("name", OF_BYTES)
def test_bytes(world: World, name: str) -> None:
    """What is sent gets the answer that the case says, and the upstream sees only what it may."""
    assert run_case(world, CASES[name]) >= 1
