"""What clients, hooks and apps make up grows no memory for good, whatever they send how often."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable

import pytest

from sidecar.gate.answer_headers import clean_headers
from sidecar.gate.lookup import Attribute, Call, Lookup, Readings, Reply
from sidecar.gate.peers import is_trusted
from sidecar.gate.request import Raw, Reading, read
from sidecar.net.exchange import _render
from sidecar.wire.http1_request import HeadReader
from sidecar.wire.http1_response import ResponseReader

KIB = 1024
LOOKUP = Lookup("doc", "http://h", (), {"owner": Attribute(lambda document: document["owner"])}, cache=60.0)
readings = Readings()


def asked(header: tuple[bytes, bytes], host: bytes = b"app.test") -> None:
    read(Raw("GET", b"/", [(b"host", host), header], "192.0.2.1", "http", "0" * 32), Reading())


def header_name(number: int) -> None:
    asked((b"x-%0500d" % number, b"1"))


def long_header_name(number: int) -> None:
    asked((b"x-%08000d" % number, b"1"))


def received_name(number: int) -> None:
    reader = HeadReader()
    reader.feed(b"GET / HTTP/1.1\r\nHost: app.test\r\nX-%060d: 1\r\nX-%01000d: 1\r\n\r\n" % (number, number))
    reader.close()


def host(number: int) -> None:
    asked((b"x-a", b"1"), b"h%020000d" % number)


def repeated_headers(number: int) -> None:
    headers = ((b"host", b"app.test"), (b"x-a", b"%04000d" % number))
    read(Raw("GET", b"/", headers, "192.0.2.1", "http", "0" * 32), Reading())


def address(number: int) -> None:
    is_trusted(f"2001:db8::{number:x}%{'z' * 40}", ())
    is_trusted(f"2001:db8::{number:x}%{'z' * 8000}", ())


def hook_answer(number: int) -> None:
    body = json.dumps({"owner": "a" * 5000, "n": number, "text": "x" * 55_000}).encode()
    readings.attributes(Call(LOOKUP, f"/{number}", str(number)), Reply(200, "application/json", body))


def answered_name(number: int) -> None:
    clean_headers([(b"x-%0500d" % number, b"1"), (b"y-%08000d" % number, b"1")])
    _render([(b"X-%060d" % number, b"1"), (b"X-%0500d" % number, b"1")])


def answered_line(number: int) -> None:
    ResponseReader(False).feed(b"HTTP/1.1 200 OK\r\nX-A: %0100d\r\nX-%0100d: 1\r\n\r\n" % (number, number))


@pytest.mark.parametrize(
    ("made_up", "times", "most"),
    [
        (header_name, 30_000, 512), (long_header_name, 2_000, 512), (received_name, 20_000, 512), (host, 2_000, 256),
        (repeated_headers, 10_000, 2 * KIB), (address, 30_000, 1024), (hook_answer, 500, 10 * KIB),
        (answered_name, 20_000, 1024), (answered_line, 20_000, 1024),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
@pytest.mark.slow
def test_what_is_made_up_grows_memory_by_no_more_than_a_bound(
    made_up: Callable[[int], None], times: int, most: int
) -> None:
    """`most` KiB, which stay."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(times):
        made_up(number)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown <= most * KIB
