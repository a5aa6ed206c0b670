"""Durations and sizes."""

import re
from pathlib import Path

import pytest

from sidecar.config import units


@pytest.mark.parametrize(
    ("text", "seconds"), [("300ms", 0.3), ("2s", 2.0), ("1.5s", 1.5), ("5m", 300.0), ("1h", 3600.0), ("0s", 0.0)]
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert units.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "3", "3 s", "-1s", "1d", "1s\n", "s", "٣s x", "٣s", "9999999999s", "9" * 400 + "h"]
)
def test_what_is_no_duration_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 300ms") as caught:
        units.duration(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(("text", "count"), [("512B", 512), ("64KiB", 65536), ("1MiB", 1048576), ("2GiB", 2 * 1024**3)])
def test_a_size_is_bytes(text: str, count: int) -> None:
    assert units.size(text) == count


@pytest.mark.parametrize("text", ["", "1", "1MB", "1.5MiB", "-1B", "1MiB\n", "٣MiB"])
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size such as"):
        units.size(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("[::1]", True), ("10.0.0.1", False), ("localhost.evil", False)],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert units.is_loopback(host) is loopback


def test_the_reference_says_how_durations_and_sizes_are_written() -> None:
    duration, size = (re.findall(r"`([^`]+)`", half) for half in units.FORMS.split(";"))
    for texts, units_of, read in (
        (duration, ("ms", "s", "m", "h"), units.duration),
        (size, ("B", "KiB", "MiB", "GiB"), units.size),
    ):
        assert tuple(texts[:4]) == units_of
        assert all(read(f"1{unit}") for unit in units_of)
        assert all(read(example) for example in texts[4:])
        assert len(texts) > 4
    for name in ("settings.md", "routes.md"):
        page = Path(__file__).parents[2] / "docs" / "reference" / name
        assert units.FORMS in page.read_text(encoding="utf-8")
