"""One decoder of chunks, under the rules of each role: whole, cut at every byte, and with bytes after its end."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import http1_request, http1_response
from sidecar.wire.chunked import ChunkedReader, ChunkRules

AFTER = b"GET / HTTP/1.1\r\n\r\n"
ROLES = {"client": http1_request._CHUNKS, "server": http1_response._CHUNKS}


def outcome(rules: ChunkRules, pieces: Iterable[bytes]) -> tuple[bytes, bytes] | str | None:
    """-> (body, what follows it), None while it has not ended, "fault" where it is broken."""
    reader, body, after = ChunkedReader(rules), b"", b""
    for piece in pieces:
        if reader.done:
            after += piece
            continue
        try:
            part, after = reader.feed(piece)
        except type(rules.fault("")):
            return "fault"
        body += part
    return (body, after) if reader.done else None


def everywhere(rules: ChunkRules, data: bytes) -> tuple[bytes, bytes] | str | None:
    whole = outcome(rules, [data])
    assert outcome(rules, [bytes([octet]) for octet in data]) == whole
    for at in range(0, len(data), max(1, len(data) // 300)):
        assert outcome(rules, [data[:at], data[at:]]) == whole
    return whole


@pytest.mark.parametrize("rules", ROLES.values(), ids=ROLES)
@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"00B\r\n\r\n0\r\n\r\n\r\nab\r\n0;a=b\r\nX-A: 1\r\nHost: evil\r\n\r\n", b"\r\n0\r\n\r\n\r\nab"),
    ],
)
def test_a_body_is_read_the_same_in_both_roles(rules: ChunkRules, data: bytes, body: bytes) -> None:
    assert everywhere(rules, data + AFTER) == (body, AFTER)


@pytest.mark.parametrize("rules", ROLES.values(), ids=ROLES)
@pytest.mark.parametrize(
    "data",
    [
        b"0x3\r\n", b"+3\r\n", b"\r\n", b" 3\r\n", b"g\r\n", b"1_0\r\n", b"3\nabc\r\n", b"3\rabc\r\n", b"3;a\n\r\n",
        b"3;a\rb\r\n", b"1000000000000000\r\n", b"3\r\nabcd\r\n", b"3\r\nabc\n0\r\n", b"3\r\nabc\rX", b"0\r\n\n\r\n",
        b"0\r\nno colon\r\n\r\n", b"0\r\n X: 1\r\n\r\n", b"0\r\nX : 1\r\n\r\n", b"0\r\nX: \0\r\n\r\n", b"0\r\nX: a\nY: b\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_broken_is_broken_in_both_roles(rules: ChunkRules, data: bytes) -> None:
    assert everywhere(rules, data) == "fault"


@pytest.mark.parametrize("rules", ROLES.values(), ids=ROLES)
def test_a_line_of_the_most_bytes_is_read_however_it_is_cut_and_one_byte_more_is_not(rules: ChunkRules) -> None:
    extension = b"3;" + b"a" * (rules.max_size_line - 2)
    assert everywhere(rules, extension + b"\r\nabc\r\n0\r\n\r\n") == (b"abc", b"")
    assert everywhere(rules, extension + b"a\r\nabc\r\n0\r\n\r\n") == "fault"
    assert outcome(rules, [extension + b"a"]) == "fault"


@pytest.mark.parametrize("rules", ROLES.values(), ids=ROLES)
def test_trailers_are_bounded_together_also_before_the_last_has_ended(rules: ChunkRules) -> None:
    half = b"X:" + b"a" * (rules.max_trailers // 2 - 2)
    assert everywhere(rules, b"0\r\n" + half + b"\r\n" + half + b"\r\n\r\n") == (b"", b"")
    assert outcome(rules, [b"0\r\n" + half + b"\r\n" + half + b"a"]) == "fault"
    assert outcome(rules, [b"0\r\n" + half + b"\r\n" + half + b"a\r\n\r\n"]) == "fault"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.sampled_from(list(ROLES.values())))
def test_what_a_client_may_send_a_server_may_too(chunks: list[bytes], rules: ChunkRules) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert everywhere(rules, data + AFTER) == (b"".join(chunks), AFTER)


@given(st.text('0123456789abcdefX;="\r\n: \t').map(str.encode))
def test_a_request_is_read_at_least_as_strictly_as_an_answer(data: bytes) -> None:
    client, server = (outcome(rules, [data]) for rules in ROLES.values())
    assert server == client or client == "fault"
