"""Cerbos is asked once whether policies compile, and again where an answer may be another."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sidecar.pdp import cerbos_version, compiling
from sidecar.pdp.cerbos_version import Version
from tests.cerbos_answers import remembering

CERBOS = Path("/bin/cerbos")


def test_the_same_policies_are_compiled_once_and_broken_ones_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def compiles(program: Path, folder: Path, _: Path | None = None) -> list[str]:
        text = (folder / "a.yaml").read_text()
        asked.append((str(program), text))
        return [f"{folder}: broken"] if "broken" in text else []

    monkeypatch.setattr(compiling, "compile_policies", compiles)
    (memory := tmp_path / "memory").mkdir()
    compile_once, _ = remembering(memory, CERBOS)

    def problems(name: str, text: str, program: Path = CERBOS) -> list[str]:
        (folder := tmp_path / name).mkdir(exist_ok=True)
        (folder / "a.yaml").write_text(text)
        found: list[str] = compile_once(program, folder)
        return found

    assert problems("one", "good") == problems("two", "good") == []
    assert problems("one", "other") == []
    assert [problems(name, "broken") for name in ("one", "two")] == [
        [f"{tmp_path / n}: broken"] for n in ("one", "two")
    ]
    # another Cerbos, and a program that stands in for it
    assert problems("one", "good", Path("/old/cerbos")) == []
    assert problems("one", "good", Path("/bin/fake")) == problems("one", "good", Path("/bin/fake")) == []
    programs = ["/bin/cerbos"] * 4 + ["/old/cerbos", "/bin/fake", "/bin/fake"]
    assert asked == list(zip(programs, ["good", "other", "broken", "broken", "good", "good", "good"], strict=True))


def test_who_asks_the_same_meanwhile_waits_for_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def compiles(program: Path, folder: Path, _: Path | None = None) -> list[str]:
        asked.append(folder)
        # long enough for the other to ask, too
        time.sleep(0.1)
        return []

    monkeypatch.setattr(compiling, "compile_policies", compiles)
    (memory := tmp_path / "memory").mkdir()
    (policies := tmp_path / "policies").mkdir()
    (policies / "a.yaml").write_text("good")
    compile_once, _ = remembering(memory, CERBOS)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: compile_once(CERBOS, policies), range(2))) == [[], []]
    assert asked == [policies]


def test_the_version_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def version_of(binary: Path) -> Version:
        asked.append(binary)
        return Version(0, 55, len(asked))

    monkeypatch.setattr(cerbos_version, "version_of", version_of)
    _, ask_once = remembering(tmp_path, CERBOS)
    assert [ask_once(CERBOS), ask_once(CERBOS)] == [(0, 55, 1)] * 2
    fake = tmp_path / "fake"
    assert [ask_once(fake), ask_once(fake)] == [(0, 55, 2), (0, 55, 3)]
