"""Every answer is read whole, byte by byte and in any pieces, and a byte after its end is always noticed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import http1_response as http1
from sidecar.wire.http1_response import (
    CHUNKED,
    LAST_CHUNK,
    MAX_HEAD,
    MAX_HEADERS,
    MAX_INTERIM,
    MAX_TRAILERS,
    BadAnswer,
    ResponseReader,
    encode_chunk,
    encode_request,
)
from tests.tries import tries

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: 2\r\n\r\nok"
CHUNKS = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"


@dataclass(frozen=True)
class Sample:
    wire: bytes
    body: bytes = b""
    status: int = 200
    length: int | None = None
    keep_alive: bool = True
    head_request: bool = False
    interim: int = 0


GOOD = {
    "length": Sample(LENGTH, b"ok", length=2),
    "length 0": Sample(OK + b"Content-Length: 0\r\n\r\n", length=0),
    "spaces around the length": Sample(OK + b"Content-Length: \t2 \t\r\n\r\nok", b"ok", length=2),
    "zeros before the length": Sample(OK + b"Content-Length: 002\r\n\r\nok", b"ok", length=2),
    "chunked": Sample(CHUNKS + b"2\r\nok\r\n3\r\nay!\r\n0\r\n\r\n", b"okay!"),
    "chunked, other case": Sample(OK + b"TRANSFER-ENCODING: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
    "chunk of 16, both cases": Sample(CHUNKS + b"A\r\n0123456789\r\na\r\n0123456789\r\n00\r\n\r\n", b"0123456789" * 2),
    "chunk holds line ends": Sample(CHUNKS + b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n"),
    "chunk extension": Sample(CHUNKS + b"2;a=b;c=\"d\"\r\nok\r\n0;e\r\n\r\n", b"ok"),
    "trailers": Sample(CHUNKS + b"2\r\nok\r\n0\r\nX-Auth-Subject: eve\r\nSet-Cookie: a=b\r\n\r\n", b"ok"),
    "empty chunked": Sample(CHUNKS + b"0\r\n\r\n"),
    "no reason": Sample(b"HTTP/1.1 404\r\nContent-Length: 2\r\n\r\nno", b"no", 404, 2),
    "close": Sample(OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", length=2, keep_alive=False),
    "chunked, and close before it": Sample(
        OK + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", keep_alive=False
    ),
    "close in a list": Sample(OK + b"Connection: X-A, CLOSE\t\r\nContent-Length: 0\r\n\r\n", length=0, keep_alive=False),
    "second Connection": Sample(
        OK + b"Connection: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", length=0, keep_alive=False
    ),
    "HTTP/1.0": Sample(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok", length=2, keep_alive=False
    ),
    "HEAD with a length": Sample(OK + b"Content-Length: 2\r\n\r\n", length=2, head_request=True),
    "HEAD with chunked": Sample(OK + b"Transfer-Encoding: chunked\r\n\r\n", head_request=True),
    "HEAD with nothing": Sample(OK + b"\r\n", head_request=True),
    "204": Sample(b"HTTP/1.1 204 No Content\r\n\r\n", status=204),
    "204 may have no length": Sample(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", status=204),
    "304 with a length": Sample(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", status=304, length=5),
    "205 is framed as any": Sample(b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", status=205, length=0),
    "599": Sample(b"HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n", status=599, length=0),
    "103 first": Sample(EARLY + LENGTH, b"ok", length=2, interim=1),
    "100, 102, 103 and 199 first": Sample(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + EARLY + b"HTTP/1.1 199 X\r\n\r\n" + LENGTH,
        b"ok", length=2, interim=4,
    ),
    "as many interims as may be": Sample(EARLY * MAX_INTERIM + LENGTH, b"ok", length=2, interim=MAX_INTERIM),
    "a framing in an interim frames nothing": Sample(
        b"HTTP/1.1 103 X\r\nContent-Length: 9\r\n\r\n" + LENGTH, b"ok", length=2, interim=1
    ),
    "an upgrade nobody asked for and that is not one": Sample(
        OK + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok", b"ok", length=2
    ),
    "as many headers as may be": Sample(OK + b"A: b\r\n" * (MAX_HEADERS - 1) + b"Content-Length: 0\r\n\r\n", length=0),
    "bytes over 127 in a value": Sample(OK + b"X: caf\xe9\r\nContent-Length: 0\r\n\r\n", length=0),
}  # fmt: skip

UNTIL_END = {
    "no framing": Sample(OK + b"\r\nall of it", b"all of it", keep_alive=False),
    "no framing, HTTP/1.0": Sample(b"HTTP/1.0 200 OK\r\n\r\nall of it", b"all of it", keep_alive=False),
}

BAD = {
    "length and chunked": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nok",
    "length and chunked, to HEAD and 304 too": b"HTTP/1.1 304 X\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "two lengths, the same": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "length with a sign": OK + b"Content-Length: +2\r\n\r\nok",
    "negative length": OK + b"Content-Length: -2\r\n\r\nok",
    "hexadecimal length": OK + b"Content-Length: 0x2\r\n\r\nok",
    "empty length": OK + b"Content-Length:\r\n\r\nok",
    "length over 18 digits": OK + b"Content-Length: 0000000000000000002\r\n\r\nok",
    "length over 64 bits": OK + b"Content-Length: 18446744073709551618\r\n\r\nok",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, chunked": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "xchunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nok",
    "quoted chunked": OK + b"Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "empty coding": OK + b"Transfer-Encoding:\r\n\r\nok",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unsolicited 101": b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "unsolicited 101 without Upgrade": b"HTTP/1.1 101 X\r\n\r\n",
    "status 0": b"HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n",
    "status 99": b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 X\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 X\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "small letters": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "another protocol": b"220 mail.test ESMTP\r\n",
    "empty lines first": b"\r\n\r\n" + LENGTH,
    "an empty line first": b"\r\n" + LENGTH,
    "folded header": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "folded framing": OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "line feed alone in the head": OK + b"X: a\nY: b\r\nContent-Length: 0\r\n\r\n",
    "line feeds end the head": OK + b"X: a\n\nEVIL: x\r\n\r\n",
    "line feeds only": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "carriage return alone": OK + b"X: a\rY: b\r\nContent-Length: 0\r\n\r\n",
    "NUL": OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "control character": OK + b"X: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": OK + b"Content-Length : 0\r\n\r\n",
    "no colon": OK + b"Content-Length\r\n\r\n",
    "no name": OK + b": a\r\n\r\n",
    "name with a bracket": OK + b"X(A): b\r\n\r\n",
    "one interim too many": EARLY * (MAX_INTERIM + 1) + LENGTH,
    "one header too many": OK + b"A: b\r\n" * MAX_HEADERS + b"Content-Length: 0\r\n\r\n",
    "chunk without a size": CHUNKS + b"\r\nok\r\n0\r\n\r\n",
    "chunk of another size": CHUNKS + b"3\r\nokay\r\n0\r\n\r\n",
    "chunk of a smaller size": CHUNKS + b"2\r\no\r\n\r\n0\r\n\r\n",
    "chunk size with 0x": CHUNKS + b"0x2\r\nok\r\n0\r\n\r\n",
    "chunk size with a sign": CHUNKS + b"+2\r\nok\r\n0\r\n\r\n",
    "negative chunk size": CHUNKS + b"-2\r\nok\r\n0\r\n\r\n",
    "chunk size with an underscore": CHUNKS + b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "space before the chunk size": CHUNKS + b" 2\r\nok\r\n0\r\n\r\n",
    "chunk size over 60 bits": CHUNKS + b"1000000000000002\r\nok\r\n0\r\n\r\n",
    "chunk size ends with a line feed": CHUNKS + b"2\nok\r\n0\r\n\r\n",
    "chunk ends with a line feed": CHUNKS + b"2\r\nok\n0\r\n\r\n",
    "chunk ends with two line feeds": CHUNKS + b"2\r\nok\n\n0\r\n\r\n",
    "chunk ends with two other bytes": CHUNKS + b"2\r\nokXX0\r\n\r\n",
    "chunk ends with a return and another byte": CHUNKS + b"2\r\nok\rX0\r\n\r\n",
    "carriage return in an extension": CHUNKS + b"2;a\rb\r\nok\r\n0\r\n\r\n",
    "line feed in an extension": CHUNKS + b"2;a\nb\r\nok\r\n0\r\n\r\n",
    "chunk line without end": CHUNKS + b"2;" + b"a" * 5000,
    "trailer without end": CHUNKS + b"0\r\nX: " + b"a" * (MAX_TRAILERS + 1),
    "trailers without end": CHUNKS + b"0\r\n" + b"X: a\r\n" * (MAX_TRAILERS // 4 + 1),
}  # fmt: skip


def read(pieces: list[bytes], head_request: bool = False, upgrade: bool = False) -> tuple[ResponseReader, bytes]:
    reader = ResponseReader(head_request, upgrade)
    return reader, b"".join([reader.feed(piece) for piece in pieces])


def octets(data: bytes) -> list[bytes]:
    return [bytes([octet]) for octet in data]


def outcome(pieces: list[bytes], head_request: bool) -> object:
    """Everything that a client of the reader can see, or the fault."""
    try:
        reader, body = read(pieces, head_request)
    except BadAnswer:
        return BadAnswer
    state = (reader.head_done, reader.complete, reader.residual, reader.keep_alive, reader.ends_with_connection)
    return state, reader.status, reader.length, reader.raw_headers, reader.interim, body


def assert_is(sample: Sample, reader: ResponseReader, body: bytes) -> None:
    assert (reader.status, body, reader.length) == (sample.status, sample.body, sample.length)
    assert (reader.keep_alive, reader.interim, reader.head_done) == (sample.keep_alive, sample.interim, True)


@pytest.mark.parametrize("sample", GOOD.values(), ids=GOOD)
class TestGood:
    def test_is_read_whole_and_byte_by_byte(self, sample: Sample) -> None:
        for pieces in ([sample.wire], octets(sample.wire)):
            reader, body = read(pieces, sample.head_request)
            assert_is(sample, reader, body)
            assert reader.complete
            assert not reader.residual
            assert not reader.ends_with_connection

    def test_is_not_complete_one_byte_earlier(self, sample: Sample) -> None:
        """A truncated answer can never be taken for a whole one, wherever it is cut."""
        reader = ResponseReader(sample.head_request)
        for octet in octets(sample.wire):
            assert not reader.complete
            reader.feed(octet)
        assert reader.complete

    @pytest.mark.parametrize("trailing", [b"\r\n", b"x", LENGTH, b"\0"], ids=["line", "x", "answer", "NUL"])
    def test_bytes_after_the_end_are_residual_and_nobody_gets_them(self, sample: Sample, trailing: bytes) -> None:
        for pieces in (
            [sample.wire + trailing],
            [sample.wire, trailing],
            octets(sample.wire + trailing),
            [sample.wire[:-1], sample.wire[-1:] + trailing],
        ):
            reader, body = read(pieces, sample.head_request)
            assert_is(sample, reader, body)
            assert reader.complete
            assert reader.residual
            assert reader.tail == b""


@pytest.mark.parametrize("sample", UNTIL_END.values(), ids=UNTIL_END)
def test_a_body_without_framing_is_never_complete_by_itself(sample: Sample) -> None:
    """Only the end of the connection ends it, and whoever reads the connection is told so."""
    for pieces in ([sample.wire], octets(sample.wire)):
        reader, body = read(pieces)
        assert_is(sample, reader, body)
        assert reader.ends_with_connection
        assert not reader.complete
        assert not reader.residual


@pytest.mark.parametrize("wire", BAD.values(), ids=BAD)
def test_what_has_no_single_reading_is_refused(wire: bytes) -> None:
    for pieces in ([wire], octets(wire)):
        with pytest.raises(BadAnswer) as refusal:
            read(pieces)
        assert str(refusal.value)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


SAMPLES = [*GOOD.values(), *UNTIL_END.values(), *(Sample(wire) for wire in BAD.values())]
CUTS = st.lists(st.integers(0, 400), max_size=12)


@tries(300)
@given(sample=st.sampled_from(SAMPLES), trailing=st.sampled_from([b"", b"x", LENGTH]), places=CUTS)
def test_where_the_network_cuts_makes_no_difference(sample: Sample, trailing: bytes, places: list[int]) -> None:
    data = sample.wire + trailing
    assert outcome(cut(data, places), sample.head_request) == outcome([data], sample.head_request)


@tries(400)
@given(
    sample=st.sampled_from([sample for sample in SAMPLES if len(sample.wire) < 400]),
    at=st.integers(0, 400),
    octet=st.sampled_from(
        [b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b"0", b"1", b":", b";", b",", b"\0", b"\xff", b"A"]
    ),
    replaced=st.integers(0, 2),
)
def test_one_changed_byte_is_read_alike_in_one_piece_and_byte_by_byte(
    sample: Sample, at: int, octet: bytes, replaced: int
) -> None:
    at = min(at, len(sample.wire))
    data = sample.wire[:at] + octet + sample.wire[at + replaced :]
    assert outcome(octets(data), sample.head_request) == outcome([data], sample.head_request)


@tries(300)
@given(data=st.binary(max_size=200), prefix=st.sampled_from([b"", OK, CHUNKS, LENGTH[:-2], EARLY]), head=st.booleans())
def test_any_bytes_are_an_answer_or_a_bad_one(data: bytes, prefix: bytes, head: bool) -> None:
    assert outcome(octets(prefix + data), head) == outcome([prefix + data], head)


# --- limits ---


@pytest.mark.parametrize("step", [100, MAX_HEAD * 2])
def test_a_head_may_have_64_kib_and_no_byte_more(step: int) -> None:
    start, end = OK + b"Content-Length: 0\r\nX: ", b"\r\n\r\n"
    fits = start + b"a" * (MAX_HEAD - len(start)) + end
    assert read([fits[at : at + step] for at in range(0, len(fits), step)])[0].complete
    longer = start + b"a" * (MAX_HEAD - len(start) + 1) + end
    with pytest.raises(BadAnswer, match=str(MAX_HEAD)):
        read([longer[at : at + step] for at in range(0, len(longer), step)])


def test_a_head_without_end_is_refused_as_soon_as_it_is_too_long() -> None:
    reader = ResponseReader(False)
    reader.feed(OK + b"X: ")
    for _ in range(MAX_HEAD // 1000):
        reader.feed(b"a" * 1000)
    with pytest.raises(BadAnswer, match=str(MAX_HEAD)):
        reader.feed(b"a" * 1000)


def test_the_limits_of_a_head_hold_for_interim_answers() -> None:
    with pytest.raises(BadAnswer, match="headers"):
        read([b"HTTP/1.1 103 X\r\n" + b"A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n" + LENGTH])
    with pytest.raises(BadAnswer, match=str(MAX_HEAD)):
        read([b"HTTP/1.1 103 X\r\nA: " + b"b" * MAX_HEAD + b"\r\n\r\n" + LENGTH])


def test_a_body_is_handed_on_as_it_comes() -> None:
    """An event stream must not wait for its next piece."""
    for head, pieces in (
        (CHUNKS, [b"6\r\nevent1\r\n", b"6\r\nevent2\r\n"]),
        (OK + b"Content-Length: 99\r\n\r\n", [b"event1", b"event2"]),
        (OK + b"\r\n", [b"event1", b"event2"]),
    ):
        reader = ResponseReader(False)
        assert reader.feed(head) == b""
        assert [reader.feed(piece) for piece in pieces] == [b"event1", b"event2"]


def test_a_chunk_is_handed_on_before_it_has_ended() -> None:
    reader = ResponseReader(False)
    assert reader.feed(CHUNKS + b"ffffff\r\nabc") == b"abc"
    assert reader.feed(b"def") == b"def"


# --- upgrades ---

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("tail", [b"", b"\x81\x02hi", LENGTH])
def test_101_ends_an_upgrade_and_the_rest_belongs_to_the_new_protocol(tail: bytes) -> None:
    for pieces in ([SWITCH + tail], [SWITCH, tail], octets(SWITCH + tail)):
        reader, body = read(pieces, upgrade=True)
        assert (reader.status, reader.complete, body) == (101, True, b"")
        assert reader.tail == tail
        assert not reader.residual
        assert not reader.keep_alive


def test_an_upgrade_may_be_answered_by_any_other_answer() -> None:
    reader, body = read([EARLY + b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nnox"], upgrade=True)
    assert (reader.status, body, reader.residual, reader.tail) == (403, b"no", True, b"")


# --- headers for the client ---


def test_names_come_in_lower_case_and_values_without_the_spaces_around_them() -> None:
    reader, _ = read(
        [OK + b"X-Long-Name: \t a  b \t\r\nSET-COOKIE: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 0\r\n\r\n"]
    )
    assert reader.raw_headers[:-1] == [(b"x-long-name", b"a  b"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")]


# --- requests ---

HEADERS = ((b"host", b"app.test"), (b"x-a", b"b"))


@pytest.mark.parametrize(
    ("length", "framing"),
    [
        (None, b""),
        (0, b"content-length: 0\r\n"),
        (1234, b"content-length: 1234\r\n"),
        (CHUNKED, b"transfer-encoding: chunked\r\n"),
    ],
)
def test_a_request_is_sent_as_decided_with_one_framing(length: int | None, framing: bytes) -> None:
    expected = b"POST /a%2Fb?q=%zz HTTP/1.1\r\nhost: app.test\r\nx-a: b\r\n" + framing + b"\r\n"
    assert encode_request(b"POST", b"/a%2Fb?q=%zz", HEADERS, length) == expected


@given(pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=8))
def test_chunks_are_read_as_they_were_written(pieces: list[bytes]) -> None:
    reader, body = read([CHUNKS + b"".join(map(encode_chunk, pieces)) + LAST_CHUNK])
    assert body == b"".join(pieces)
    assert reader.complete
    assert not reader.residual


class _Parsed:
    """What the parser of llhttp makes of a head."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.rstrip(b" \t")))


LINES = st.sampled_from(
    b"X-A: b|Server:nginx|x-a:  c \t|Date: Fri, 27 Nov 2026 23:39:15 GMT|X-Empty:|X: caf\xe9|Set-Cookie: a=b; Path=/|"
    b"Content-Type: text/html|Content-Length : 1|Connection: keep-alive|X-A|: b|X A: b| folded|X: a\rb|X: a\nb|X: \x01|"
    b"X\xe9: a|Via: 1.1 a, 1.0 b|_a.b: c".split(b"|")
)


@given(st.lists(LINES, max_size=4), st.sampled_from([b"200 OK", b"404", b"299 ", b"500 \xe9"]))
def test_a_head_that_is_read_says_to_another_parser_what_it_says_here(lines: list[bytes], status: bytes) -> None:
    head = b"HTTP/1.1 " + status + b"".join(b"\r\n" + line for line in lines) + b"\r\n\r\n"
    for _ in range(2):  # afresh, and from what is remembered
        reader = ResponseReader(True)
        try:
            reader.feed(head)
        except BadAnswer:
            return
        parsed = _Parsed()
        parser = httptools.HttpResponseParser(parsed)
        parser.feed_data(head)
        assert (reader.status, reader.raw_headers) == (parser.get_status_code(), parsed.headers)


def test_lines_of_heads_are_remembered_within_bounds_and_cookies_never() -> None:
    for number in range(3000):
        ResponseReader(True).feed(
            OK + b"X-N: %d\r\nSet-Cookie: n=%d\r\nX-Long: %b\r\n\r\n" % (number, number, b"a" * 200)
        )
    assert 500 <= len(http1._LINES) <= 1500
    assert http1._LINES.get(b"X-N: 2999") == (b"x-n", b"2999")
    assert http1._LINES.get(b"Set-Cookie: n=2999") is None
    assert http1._LINES.get(b"X-Long: " + b"a" * 200) is None
