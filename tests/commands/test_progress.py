"""A command that takes long says how far it is, and a short one says nothing."""

import io

import pytest

from sidecar.commands.progress import Progress
from tests.fakes import Clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_nothing_is_said_in_the_first_two_seconds(stream: io.StringIO) -> None:
    clock = Clock()
    progress = Progress("reading", 100, "lines", stream, clock)
    for done in range(4):
        clock.now += 0.4
        progress(done)
    progress.end()
    assert stream.getvalue() == ""


def test_a_terminal_has_one_line_that_goes_away() -> None:
    clock, stream = Clock(), Terminal()
    progress = Progress("reading", 2000, "lines", stream, clock)
    clock.now += 2.0
    progress(1000)
    progress(1001)
    clock.now += 0.5
    progress(2100)
    progress.end()
    assert stream.getvalue() == (
        "\r\x1b[Kreading: 1,000 of 2,000 lines (50 %)\r\x1b[Kreading: 2,100 of 2,000 lines (100 %)\r\x1b[K"
    )


def test_a_file_gets_a_line_every_ten_seconds() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress("reading", 0, "", stream, clock)
    for done in range(30):
        progress(done)
        clock.now += 1.0
    progress.end()
    assert stream.getvalue() == "reading: 2\nreading: 12\nreading: 22\n"
