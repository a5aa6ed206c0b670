"""Files are streams of lines, plain or gzip, within a bound of memory."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from sidecar.imports.files import CHUNK, MAX_LINE, UNREADABLE, InputFile, lines, open_source, whole
from sidecar.imports.sighting import UnusableFile


def read(data: bytes) -> list[tuple[int, bytes | None]]:
    return list(lines(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", []),
        (b"a", [(1, b"a")]),
        (b"a\nb\n", [(1, b"a"), (2, b"b")]),
        (b"\n\nc", [(1, b""), (2, b""), (3, b"c")]),
        (b"x" * (MAX_LINE + 1) + b"\nb\n", [(1, None), (2, b"b")]),
        (b"a\n" + b"x" * (3 * CHUNK), [(1, b"a"), (2, None)]),
    ],
    ids=range(6),
)
def test_lines_have_numbers_and_a_bound(data: bytes, found: list[tuple[int, bytes | None]]) -> None:
    assert read(data) == found


def test_lines_across_chunks_are_whole() -> None:
    made = [b"%d " % n + b"x" * (n % 977) for n in range(3000)]
    assert [line for _, line in read(b"\n".join(made))] == made


def test_a_file_is_plain_or_gzip_and_stdin_may_be_either(tmp_path: Path) -> None:
    data = b"line\n" * 50_000
    (tmp_path / "plain").write_bytes(data)
    (tmp_path / "packed").write_bytes(gzip.compress(data))
    for name in ("plain", "packed"):
        told: list[int] = []
        source = open_source(str(tmp_path / name), io.BytesIO(), told.append)
        assert data.startswith(source.head)
        with source.stream:
            assert source.stream.read() == data
        assert max(told) == (tmp_path / name).stat().st_size
    for stdin in (data, gzip.compress(data)):
        source = open_source("-", io.BytesIO(stdin), lambda _: None)
        assert (source.name, source.stream.read()) == ("stdin", data)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"\x1f\x8b no gzip")
    for name, said in (("missing", "No such file or directory"), ("broken", "no whole gzip file|Unknown|Not a gzip")):
        with pytest.raises(UnusableFile, match=f"{name}: cannot be read: .*({said})?.*, expected a file"):
            open_source(str(tmp_path / name), io.BytesIO(), lambda _: None)


def test_a_gzip_file_that_ends_early_is_a_fault_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(gzip.compress(bytes(range(256)) * 9000, 0)[:200_000])
    source = open_source(str(tmp_path / "cut"), io.BytesIO(), lambda _: None)
    with source.stream, pytest.raises(UNREADABLE):
        list(lines(source.stream))
    source = open_source(str(tmp_path / "cut"), io.BytesIO(), lambda _: None)
    with source.stream, pytest.raises(UnusableFile, match="cannot be read to its end"):
        whole(source)


def test_a_document_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.imports.files.MAX_DOCUMENT", 1024**2)
    assert whole(InputFile("d", b"", io.BytesIO(b"x" * 1024**2))) == b"x" * 1024**2
    with pytest.raises(UnusableFile, match="d: more than 1 MiB"):
        whole(InputFile("d", b"", io.BytesIO(b"x" * (1024**2 + 1))))
