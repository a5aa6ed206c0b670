"""Heads and bodies: each sample whole, cut at every byte, and with bytes after its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.bounded import Bounded
from sidecar.wire import http1_request as incoming
from sidecar.wire.http1_request import CHUNKED, MAX_HEAD, BadRequest, Head, HeadReader, Sized, Violation, body_of
from tests.tries import tries

AFTER = b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n"


def head(*lines: str, request: str = "GET /x HTTP/1.1", host: str = "Host: app.test") -> bytes:
    return "".join(f"{line}\r\n" for line in (request, host, *lines, "")).encode("latin-1")


def read(data: bytes) -> Head:
    found = HeadReader().feed(data)
    assert found is not None
    return plain(found)


def plain(found: Head) -> Head:
    """A head whether it was remembered or not."""
    return found._replace(headers=list(found.headers))


def cuts(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(data[:at], data[at:]) for at in range(1, len(data))]


def in_pieces(pieces: list[bytes]) -> tuple[Head, bytes]:
    reader = HeadReader()
    for number, piece in enumerate(pieces):
        found = reader.feed(piece)
        if found is not None:
            return plain(found), reader.rest + b"".join(pieces[number + 1 :])
    raise AssertionError("no head")


GOOD = {
    "smallest": head(),
    "http/1.0": head(request="GET /x HTTP/1.0"),
    "headers": head("Accept: */*", "X-A:1", "X-B: \t two words \t", "Connection: keep-alive", "X-Empty:"),
    "obs-text": head("X-A: caf\xe9 \xff"),
    "sized": head("Content-Length: 4", request="POST /x?y=1 HTTP/1.1"),
    "chunked": head("Transfer-Encoding: Chunked", request="PUT /x HTTP/1.1"),
    "extension": head("X-A: 1", "Content-Length: 4", request="MKCALENDAR /x HTTP/1.1"),
    "unregistered": head("Accept: */*", request="FOO-BAR /x?y HTTP/1.1"),
    "extension chunked": head("Transfer-Encoding: chunked", request="VERSION-CONTROL /x HTTP/1.1"),
    "extension http/1.0": head("Connection: keep-alive", request="LABEL /x HTTP/1.0"),
    "h2c": head("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"),
    "websocket": head(
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ),
    "empty line first": b"\r\n" + head(),
}


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD.keys())
def test_a_head_reads_the_same_whole_cut_anywhere_and_byte_by_byte(data: bytes) -> None:
    whole = read(data)
    for left, right in cuts(data):
        assert in_pieces([left, right + AFTER]) == (whole, AFTER)
    assert in_pieces([bytes([octet]) for octet in data + AFTER]) == (whole, AFTER)


LINES = (
    ["Accept: */*"], ["Connection: close"], ["Connection: keep-alive"], ["Expect: 100-continue"], ["Content-Length: 4"],
    ["Content-Length: 0"], ["Transfer-Encoding: chunked"], ["Connection: Upgrade", "Upgrade: h2c"], ["X: " + "a" * 5000],
    ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"],
)  # fmt: skip
REQUESTS = (
    "GET /x HTTP/1.1",
    "GET /y HTTP/1.1",
    "HEAD /x HTTP/1.1",
    "POST /x HTTP/1.1",
    "GET /x HTTP/1.0",
    "GET /# HTTP/1.1",
)


@contextmanager
def nothing_remembered() -> Iterator[None]:
    """What other connections have said is unknown meanwhile."""
    with mock.patch.object(incoming, "_HEADS", Bounded(0)):
        yield


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(REQUESTS), st.sampled_from(LINES)), min_size=1, max_size=24
    )
)  # fmt: skip
def test_what_is_remembered_of_one_request_changes_no_other(requests: list[tuple[int, str, list[str]]]) -> None:
    readers = [HeadReader() for _ in range(3)]
    for number, request, lines in requests:
        data = head(*lines, request=request)
        with nothing_remembered():
            fresh = outcome(HeadReader(), data)
        again = outcome(readers[number], data)
        if not isinstance(again, Head) or not isinstance(fresh, Head):
            assert again == fresh
            readers[number] = HeadReader()
            continue
        assert plain(again) == plain(fresh)
        if not again.keep_alive or again.length or again.websocket:
            readers[number] = HeadReader()
        # nobody who changes what it got changes what the next one gets
        if isinstance(again.headers, list):
            again.headers.append((b"x-added", b""))


def test_what_comes_again_on_another_connection_is_read_once() -> None:
    data = head("Accept: */*", "Authorization: Bearer came-again")
    remembered: Bounded[bytes, Head] = Bounded(64 * 1024, longest=4096)
    with mock.patch.object(incoming, "_HEADS", remembered):
        once = HeadReader().feed(data)
        # what came once takes no place
        assert once is not None
        assert len(remembered) == 0
        HeadReader().feed(data)
        assert len(remembered) == 1
        others = [HeadReader().feed(data), HeadReader().feed(data)]
        assert others[0] is not None
        assert others[1] is not None
        assert others[0].headers is others[1].headers
        assert isinstance(others[0].headers, tuple)
        assert plain(others[0]) == plain(once)
        # another token is another head, and so is another method
        assert HeadReader().feed(data.replace(b"again", b"never")) != once
        deleted = HeadReader().feed(data.replace(b"GET", b"DELETE"))
        assert deleted is not None
        assert deleted.method == "DELETE"


def outcome(reader: HeadReader, data: bytes) -> Head | Violation | None:
    try:
        return reader.feed(data)
    except BadRequest as error:
        return error.fault


def test_names_are_lower_case_values_are_stripped_of_blanks_and_bytes_are_kept() -> None:
    found = read(
        head("X-A: caf\xe9 \xff", "X-Trailing: \t b c \t ", "X-Empty:", request="PATCH /a%2e?b=%zz&c HTTP/1.1")
    )
    assert found == Head(
        "PATCH",
        b"/a%2e?b=%zz&c",
        "1.1",
        [(b"host", b"app.test"), (b"x-a", b"caf\xe9 \xff"), (b"x-trailing", b"b c"), (b"x-empty", b"")],
        length=0,
        keep_alive=True,
        expects_continue=False,
        websocket=False,
    )


def test_heads_follow_each_other_on_one_reader_whatever_each_was() -> None:
    reader = HeadReader()
    kept = [data for data in GOOD.values() if read(data).keep_alive]
    for data in [*kept, *reversed(kept)]:
        again = reader.feed(data)
        assert again is not None
        assert plain(again) == read(data)


INVALID, TARGET, AMBIGUOUS = Violation.INVALID, Violation.TARGET_INVALID, Violation.HEADER_AMBIGUOUS


def line(request: str) -> bytes:
    return head(request=request)


REFUSED: dict[str, tuple[bytes, Violation]] = {
    # versions
    "http/0.9": (b"GET /docs/1\r\n\r\n", INVALID),
    "http/1.2": (line("GET /x HTTP/1.2"), INVALID),
    "http/2.0": (line("GET /x HTTP/2.0"), INVALID),
    "http/1.10": (line("GET /x HTTP/1.10"), INVALID),
    "lower case version": (line("GET /x http/1.1"), INVALID),
    "rtsp": (line("DESCRIBE /x RTSP/1.0"), INVALID),
    "options rtsp": (line("OPTIONS /x RTSP/1.0"), INVALID),
    "get ice": (line("GET /x ICE/1.0"), INVALID),
    "ice": (line("SOURCE /x ICE/1.0"), INVALID),
    "h2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", INVALID),
    # methods
    "connect": (line("CONNECT /x HTTP/1.1"), INVALID),
    "connect authority": (line("CONNECT a:443 HTTP/1.1"), INVALID),
    "trace": (line("TRACE /x HTTP/1.1"), INVALID),
    "track": (line("TRACK /x HTTP/1.1"), INVALID),
    "preface": (line("PRI /x HTTP/1.1"), INVALID),
    "websocket": (line("WS /x HTTP/1.1"), INVALID),
    "long method": (line("A" * 33 + " /x HTTP/1.1"), INVALID),
    "hyphen at the end": (line("M- /x HTTP/1.1"), INVALID),
    "underscore in a method": (line("M_SEARCH /x HTTP/1.1"), INVALID),
    "digit": (line("GET2 /x HTTP/1.1"), INVALID),
    "octet": (line("G\xc9T /x HTTP/1.1"), INVALID),
    "lower case": (line("get /x HTTP/1.1"), INVALID),
    "no method": (line(" /x HTTP/1.1"), INVALID),
    # the request line
    "two spaces": (line("GET  /x HTTP/1.1"), INVALID),
    "two spaces before the version": (line("GET /x  HTTP/1.1"), INVALID),
    "space at the end": (line("GET /x HTTP/1.1 "), INVALID),
    "tab": (line("GET\t/x HTTP/1.1"), INVALID),
    "space in target": (line("GET /x y HTTP/1.1"), INVALID),
    "two empty lines first": (b"\r\n\r\n" + head(), INVALID),
    # targets
    "absolute-form": (line("GET http://evil.test/admin/x HTTP/1.1"), TARGET),
    "absolute-form, user": (line("GET https://u:p@evil.test:8443/admin/x HTTP/1.1"), TARGET),
    "absolute-form, ftp": (line("GET ftp://evil.test/admin/x HTTP/1.1"), TARGET),
    "absolute-form, no path": (line("GET http://evil.test?x=1 HTTP/1.1"), TARGET),
    "absolute-form, capitals": (line("GET HTTP://APP.TEST/admin/x HTTP/1.1"), TARGET),
    "no slash": (line("GET admin/x HTTP/1.1"), TARGET),
    "query only": (line("GET ?x=1 HTTP/1.1"), TARGET),
    "authority": (line("GET @evil.test/ HTTP/1.1"), TARGET),
    "star": (line("GET * HTTP/1.1"), TARGET),
    "options star": (line("OPTIONS * HTTP/1.1"), TARGET),
    "empty target": (line("GET  HTTP/1.1"), TARGET),
    "fragment": (line("GET /admin/x#/public/a HTTP/1.1"), TARGET),
    "fragment in the query": (line("GET /x?a#b HTTP/1.1"), TARGET),
    "raw utf-8": (line("GET /docs/1?q=caf\xc3\xa9 HTTP/1.1"), TARGET),
    "tab in target": (line("GET /x\ty HTTP/1.1"), TARGET),
    "8193 bytes": (line("GET /" + "a" * 8192 + " HTTP/1.1"), Violation.TARGET_TOO_LONG),
    # host
    "no host": (head(host=""), INVALID),
    "empty host, 1.0": (b"GET /x HTTP/1.0\r\nHost:\r\n\r\n", INVALID),
    "two hosts": (head("Host: app.test"), AMBIGUOUS),
    "empty host": (head(host="Host:"), INVALID),
    "userinfo": (head(host="Host: a@b"), INVALID),
    "path in host": (head(host="Host: a/c?x"), INVALID),
    "list in host": (head(host="Host: a, b"), INVALID),
    "bad port": (head(host="Host: a:b"), INVALID),
    "long host": (head(host="Host: " + "a" * 256), INVALID),
    # framing
    "cl and te": (head("Content-Length: 4", "Transfer-Encoding: chunked"), INVALID),
    "te and cl": (head("Transfer-Encoding: chunked", "Content-Length: 4"), INVALID),
    "te in 1.0": (head("Transfer-Encoding: chunked", request="POST /x HTTP/1.0"), INVALID),
    "two te": (head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), INVALID),
    "two cl": (head("Content-Length: 4", "Content-Length: 4"), INVALID),
    "two different cl": (head("Content-Length: 4", "Content-Length: 5"), INVALID),
    "cl beyond all size": (head("Content-Length: 18446744073709551619"), INVALID),
    "cl of 16 digits": (head("Content-Length: 1000000000000000"), INVALID),
    "te after a space": (head("Content-Length: 3", "Transfer-Encoding : chunked"), INVALID),
    "te after a tab": (head("Content-Length: 3", "Transfer-Encoding\t: chunked"), INVALID),
    # header names and values
    "underscore": (head("X_A: 1"), AMBIGUOUS),
    "dot": (head("X.A: 1"), AMBIGUOUS),
    "other token": (head("X!A: 1"), AMBIGUOUS),
    "brackets": (head("X(A): 1"), INVALID),
    "non-ascii name": (head("X-\xc3\xa9: 1"), INVALID),
    "no name": (head(": 1"), INVALID),
    "no colon": (head("X-A"), INVALID),
    "nul": (head("X-A: o\0ne"), INVALID),
    "\\x01": (head("X-A: o\x01ne"), INVALID),
    "\\x7f": (head("X-A: o\x7fne"), INVALID),
    "bare cr": (head("X-A: one\rX-B: two"), INVALID),
    "folded": (head("X-A: one", " two"), INVALID),
    "first header line starts with a space": (head(host=" Host: app.test"), INVALID),
    "bare lf everywhere": (head().replace(b"\r\n", b"\n"), INVALID),
    "bare lf once": (head("X-A: 1").replace(b"test\r\n", b"test\n"), INVALID),
    "bare lf at the end": (head()[:-2] + b"\n", INVALID),
    "lf lf in a value": (b"GET /x HTTP/1.1\r\nHost: a\r\nUseless:\n\nGET / HTTP/1.1\r\n\r\n", INVALID),
    "value with lf": (head("User: \nadmin "), INVALID),
    "tls hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", INVALID),
    "101 headers": (head(*[f"X-{number}: 1" for number in range(100)]), Violation.HEADERS_TOO_LARGE),
    "expectation": (head("Expect: y"), Violation.EXPECTATION_UNKNOWN),
    # offers to upgrade
    "two upgrades": (head("Upgrade: websocket", "Upgrade: websocket"), AMBIGUOUS),
}
for _value in (
    "xchunked", "chunked, identity", "identity, chunked", "gzip, chunked", ",chunked", "chunked,", '"chunked"',
    "identity", "\x0bchunked", "\xa0chunked\xa0", "chunked;a=b", "chunked, chunked", "",
):  # fmt: skip
    REFUSED[f"te {_value!r}"] = (head(f"Transfer-Encoding: {_value}"), INVALID)
for _value in ("+3", "-3", "0x3", "1_0", "3 3", "3, 3", "3,", "", "\u00b2", "3;", "3.0"):
    REFUSED[f"cl {_value!r}"] = (head(f"Content-Length: {_value}"), INVALID)
for _name in (
    "Authorization", "Content-Type", "Origin", "Expect", "Sec-WebSocket-Key", "sec-websocket-version", "Upgrade",
):  # fmt: skip
    REFUSED[f"two {_name}"] = (head(f"{_name}: 100-continue", f"{_name.upper()}: 100-continue"), AMBIGUOUS)

_HANDSHAKE = ("Connection: Upgrade", "Upgrade: websocket")
_KEY, _VERSION = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"
for _title, _lines in {
    "version 777": (_KEY, "Sec-WebSocket-Version: 777"),
    "no version": (_KEY,),
    "no key": (_VERSION,),
    "short key": (_VERSION, "Sec-WebSocket-Key: c2hvcnQ="),
    "key of 17 bytes": (_VERSION, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="),
    "key with spare bits": (_VERSION, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAB=="),
    "body": (_KEY, _VERSION, "Content-Length: 41"),
    "chunked body": (_KEY, _VERSION, "Transfer-Encoding: chunked"),
}.items():
    REFUSED[f"handshake, {_title}"] = (head(*_HANDSHAKE, *_lines), INVALID)


def refusal(pieces: list[bytes]) -> Violation | None:
    reader = HeadReader()
    for piece in pieces:
        try:
            assert reader.feed(piece) is None
        except BadRequest as error:
            return error.fault
    return None


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_is_refused_whole_cut_anywhere_and_byte_by_byte(case: tuple[bytes, Violation]) -> None:
    data, fault = case
    assert refusal([data]) is fault
    assert refusal([data + AFTER]) is fault
    step = max(1, len(data) // 200)
    for left, right in cuts(data)[::step]:
        assert refusal([left, right + AFTER]) is fault
    assert refusal([bytes([octet]) for octet in data]) is fault


def test_a_target_of_8192_bytes_and_100_headers_are_read() -> None:
    data = head(*[f"X-{number}: 1" for number in range(99)], request="GET /" + "a" * 8191 + " HTTP/1.1")
    found = read(data)
    assert len(found.target) == 8192
    assert len(found.headers) == 100
    assert in_pieces([bytes([octet]) for octet in data])[0] == found


@pytest.mark.parametrize("size", [1000, 4096, 65536])
def test_an_endless_header_is_refused_at_32_kib_however_it_comes(size: int) -> None:
    reader = HeadReader()
    sent = 0

    def endless() -> None:
        nonlocal sent
        reader.feed(head("X-A: ")[:-4])
        while sent < 10 * MAX_HEAD:
            sent += size
            reader.feed(b"a" * size)

    with pytest.raises(BadRequest) as raised:
        endless()
    assert raised.value.fault is Violation.HEADERS_TOO_LARGE
    assert len(reader.held) < MAX_HEAD
    assert sent <= MAX_HEAD + size


def test_a_head_of_32_kib_is_read_and_one_byte_more_is_refused_in_one_piece() -> None:
    fill = MAX_HEAD - len(head("X-A: "))
    assert len(read(head("X-A: " + "a" * fill)).headers) == 2
    assert refusal([head("X-A: " + "a" * (fill + 1))]) is Violation.HEADERS_TOO_LARGE


def test_an_endless_request_line_is_414() -> None:
    assert refusal([b"GET /", b"a" * 8000, b"a" * 300]) is Violation.TARGET_TOO_LONG


def test_the_memory_of_header_names_is_bounded() -> None:
    for start in range(0, 3000, 90):
        read(head(*[f"X-Client-{number}: 1" for number in range(start, start + 90)]))
    assert 300 <= len(incoming._NAMES) <= 1024
    assert read(head("X-Client-2999: 1")).headers[1] == (b"x-client-2999", b"1")


@pytest.mark.parametrize("value", ["app.test", "app.test:8080", "127.0.0.1:1", "[::1]", "[::1]:80", "my_app", "A.B"])
def test_a_host_with_or_without_port_is_read(value: str) -> None:
    assert read(head(host=f"Host: {value}")).headers == [(b"host", value.encode())]


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        (["Content-Length: 0"], 0),
        (["Content-Length: 13"], 13),
        (["Content-Length: 999999999999999"], 999999999999999),
        (["Transfer-Encoding: chunked"], CHUNKED),
        (["Transfer-Encoding: CHUNKED"], CHUNKED),
        ([], 0),
    ],
)
def test_one_framing_or_none_is_read(lines: list[str], length: int) -> None:
    assert read(head(*lines, request="POST /x HTTP/1.1")).length == length


@pytest.mark.parametrize(
    ("request_line", "connection", "keep_alive"),
    [
        ("GET /x HTTP/1.1", "Connection: keep-alive", True),
        ("GET /x HTTP/1.1", "Connection: Close", False),
        ("GET /x HTTP/1.1", "Connection: te, close", False),
        ("GET /x HTTP/1.0", "Connection: keep-alive", False),
    ],
)
def test_whether_the_connection_is_kept(request_line: str, connection: str, keep_alive: bool) -> None:
    assert read(head(connection, request=request_line)).keep_alive is keep_alive


def test_a_connection_header_that_comes_twice_counts_as_one_list() -> None:
    assert read(head("Connection: te", "Connection: close")).keep_alive is False


def test_expect_100_continue_is_read_and_in_http_1_0_ignored() -> None:
    assert read(head("Expect: 100-Continue", "Content-Length: 1")).expects_continue is True
    assert read(head("Expect: 100-continue", request="POST /x HTTP/1.0")).expects_continue is False
    assert read(head("Expect: y", request="POST /x HTTP/1.0")).expects_continue is False


def test_a_valid_websocket_handshake_is_told_and_kept_as_it_came() -> None:
    found = read(head(*_HANDSHAKE, _KEY, _VERSION, "Sec-WebSocket-Protocol: chat"))
    assert found.websocket is True
    assert [name for name, _ in found.headers] == [
        b"host", b"connection", b"upgrade", b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-protocol",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "request_line"),
    [
        (("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"), "POST /x HTTP/1.1"),
        (("Connection: upgrade", "Upgrade: x"), "GET /x HTTP/1.1"),
        (("Connection: upgrade", "Upgrade: websocket, h2c"), "GET /x HTTP/1.1"),
        (("Connection: upgrade", "Upgrade: websocket"), "POST /x HTTP/1.1"),
        (("Connection: upgrade", "Upgrade: websocket"), "GET /x HTTP/1.0"),
        (("Upgrade: websocket",), "GET /x HTTP/1.1"),
        (("Connection: upgrade",), "GET /x HTTP/1.1"),
        (("HTTP2-Settings: AAMAAABkAAQ",), "GET /x HTTP/1.1"),
    ],
)
def test_an_offer_that_is_not_taken_is_removed_and_nobody_behind_hears_of_it(
    lines: tuple[str, ...], request_line: str
) -> None:
    found = read(head(*lines, "Accept: a", request=request_line))
    assert found.websocket is False
    assert b"upgrade" not in dict(found.headers)
    assert b"http2-settings" not in dict(found.headers)
    assert (b"accept", b"a") in found.headers


def test_only_the_tokens_of_the_offer_leave_the_connection_header() -> None:
    found = read(head("Connection: keep-alive, Upgrade, HTTP2-Settings, close", "Upgrade: h2c"))
    assert (b"connection", b"keep-alive, close") in found.headers
    assert found.keep_alive is False


# --- bodies ---


def feed_all(length: int, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """-> (the body, what follows the message). Raises AssertionError if the body does not end."""
    reader, body, rest = body_of(length), b"", b""
    for number, piece in enumerate(pieces):
        part, rest = reader.feed(piece)
        body += part
        if reader.done:
            return body, rest + b"".join(pieces[number + 1 :])
    raise AssertionError("no end")


CHUNKED_BODIES = {
    "one": (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    "empty": (b"0\r\n\r\n", b""),
    "two, upper case and leading zeros": (b"003\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n", b"abc0123456789"),
    "extensions": (b"3;a;b=c\r\nabc\r\n0;d=e\r\n\r\n", b"abc"),
    "trailers": (b"3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\nHost: evil\r\n\r\n", b"abc"),
    "a request in the data": (
        b"19\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\n0\r\n\r\n",
        b"\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ),
}


@pytest.mark.parametrize("case", CHUNKED_BODIES.values(), ids=CHUNKED_BODIES.keys())
def test_a_chunked_body_reads_the_same_whole_cut_anywhere_and_byte_by_byte(case: tuple[bytes, bytes]) -> None:
    data, body = case
    assert feed_all(CHUNKED, [data + AFTER]) == (body, AFTER)
    for left, right in cuts(data):
        assert feed_all(CHUNKED, [left, right + AFTER]) == (body, AFTER)
    assert feed_all(CHUNKED, [bytes([octet]) for octet in data + AFTER]) == (body, AFTER)


BROKEN_CHUNKS = [
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"-1\r\n\r\n",
    b"+3\r\nabc\r\n",
    b"\r\n3\r\nabc\r\n",
    b"3 \r\nabc\r\n0\r\n\r\n",
    b" 3\r\nabc\r\n0\r\n\r\n",
    b"g\r\n",
    b"3\nabc\r\n0\r\n\r\n",
    b"3\rabc\r\n0\r\n\r\n",
    b"3;a\n=b\r\nabc\r\n0\r\n\r\n",
    b"3;a\r=b\r\nabc\r\n0\r\n\r\n",
    b"3;\r\nabc\r\n0\r\n\r\n",
    b"3; a=b c\r\nabc\r\n0\r\n\r\n",
    b"3;" + b"a" * 300 + b"\r\nabc\r\n0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"3\r\nabc0\r\n\r\n",
    b"3\r\nabc\n0\r\n\r\n\r\n",
    b"10000000000000000\r\nabc\r\n",
    b"0\r\n\n\r\n",
    b"0\r\nno colon\r\n\r\n",
    b"0\r\n X-A: 1\r\n\r\n",
    b"0\r\nX-A: \x00\r\n\r\n",
    b"0\r\n" + b"X-A: aaaaaaaaaaaaaaaa\r\n" * 500 + b"\r\n",
    b"0\r\nX-A: " + b"a" * 9000,
]


@pytest.mark.parametrize("data", BROKEN_CHUNKS, ids=[repr(data[:24]) for data in BROKEN_CHUNKS])
def test_broken_chunks_are_refused_whole_cut_anywhere_and_byte_by_byte(data: bytes) -> None:
    pieces = [[data], [bytes([octet]) for octet in data], *([left, right] for left, right in cuts(data)[:200])]
    for each in pieces:
        with pytest.raises(BadRequest) as raised:
            feed_all(CHUNKED, each)
        assert raised.value.fault is Violation.INVALID


@tries(200)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 400), max_size=8))
def test_any_chunks_cut_anywhere_give_the_body_and_leave_the_rest(chunks: list[bytes], places: list[int]) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n" + AFTER
    marks = sorted({0, len(data), *(place for place in places if place < len(data))})
    pieces = [data[start:end] for start, end in pairwise(marks)]
    assert feed_all(CHUNKED, pieces) == (b"".join(chunks), AFTER)


def test_a_sized_body_ends_at_its_length_and_not_a_byte_later() -> None:
    data = b"GET /inside HTTP/1.1\r\n\r\n"
    for left, right in cuts(data):
        assert feed_all(len(data), [left, right + AFTER]) == (data, AFTER)
    reader = Sized(5)
    assert reader.feed(b"abc") == (b"abc", b"")
    assert not reader.done
    assert reader.feed(b"de") == (b"de", b"")
    assert reader.done


def test_a_chunk_that_has_not_ended_gives_what_came_of_it() -> None:
    reader = body_of(CHUNKED)
    assert reader.feed(b"ff\r\nabc") == (b"abc", b"")
    assert reader.feed(b"def") == (b"def", b"")
    assert not reader.done


def test_connection_has_at_most_64_options() -> None:
    assert read(head("Connection: a" + ",a" * 63)).keep_alive
    with pytest.raises(BadRequest) as raised:
        read(head("Connection: close" + "," * 64))
    assert raised.value.fault is Violation.INVALID


def test_http_1_0_may_name_no_host_as_health_checks_do() -> None:
    found = read(b"GET /livez HTTP/1.0\r\n\r\n")
    assert (found.target, found.headers, found.keep_alive) == (b"/livez", [], False)
    assert read(b"GET /livez HTTP/1.0\r\nAccept: */*\r\n\r\n").length == 0
