"""The target: one reading, or a refusal."""

from __future__ import annotations

import contextlib
import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.target import Oddity, read_target
from sidecar.gate.verdict import Refused
from tests.counting import instructions
from tests.gate.raw_request import raw, refusal
from tests.tries import tries


@pytest.mark.parametrize(
    "target",
    [
        b"/public/../admin/x", b"/public/./../admin/x", b"/..", b"/.", b"/a/.", b"/public/%2e%2e/admin/x",
        b"/public/.%2e/admin/x", b"/public/%2E./admin/x", b"/public/a/%2e", b"/public/%252e%252e/admin/x",
        b"/public/%25252e/admin", b"/docs/1%252f..%252f2", b"/public\\..\\admin", b"/public%5c..%5cadmin",
        b"/public%5Cadmin", b"/docs/1%00", b"/docs/%00/1", b"/docs/1%0d%0aX:1", b"/docs/1%09", b"/docs/1%7f",
        b"/docs/1%1b[31m", b"/docs/%zz", b"/docs/1%", b"/docs/1%4", b"/docs/%u0031", b"/docs/1%3fadmin=1",
        b"/docs/1%23x", b"/docs/1#x", b"admin/x", b"?x=1", b"@evil.test/", b"*", b"", b"http://evil.test/admin/x",
        b"/docs/1%2e%2e/2", b"/docs/1/../2", b"/%ff", b"/%c0%af", b"/%ed%a0%80", b"/%c2%85", b"/caf\xc3\xa9",
        b"/a b", b'/a"b', b"/a<b", b"/a{b}", b"/a|b", b"/a^b", b"/a`b", b"/..;/a", b"/a/..;x/b", b"/.;/a",
        b"/a%2f..%2fb", b"/a%2f%2e%2e", b"/%2f", b"/a%252fb", b"/a%253bb", b"/a?x=\x7f", b"/a?caf\xe9",
        b"/a%255cb", b"/a%2500", b"/a%250d%250ab", b"/a%257f", b"/a%2523b", b"/a%253fb", b"/docs/1%252e%252e/2", b"/docs/1.%252e/2", b"/a%25252e%25252eb", b"/%25c0%25ae%25c0%25ae", b"/a%25ff", b"/a%25c2%2585",
        b"/a?x#y", b"/a?x y", b"/a[1]", b"/%" + b"25" * 9 + b"41",
    ],
)  # fmt: skip
def test_a_target_with_two_readings_is_refused_whatever_the_route(target: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read_target(target)
    assert caught.value.code is Code.TARGET_AMBIGUOUS


@pytest.mark.parametrize(
    ("target", "path", "segments", "query"),
    [
        (b"/docs/1", b"/docs/1", ("docs", "1"), b""),
        (b"/", b"/", ("",), b""),
        (b"/docs/", b"/docs/", ("docs", ""), b""),
        (b"/%64ocs/%31", b"/docs/1", ("docs", "1"), b""),
        (b"/%7Euser/%41", b"/~user/A", ("~user", "A"), b""),
        (b"/DOCS/1", b"/DOCS/1", ("DOCS", "1"), b""),
        (b"/1.json", b"/1.json", ("1.json",), b""),
        (b"/1%2ejson", b"/1.json", ("1.json",), b""),
        (b"/1../2", b"/1../2", ("1..", "2"), b""),
        (b"/caf%c3%A9", b"/caf%c3%A9", ("café",), b""),
        (b"/a%20b%40c%3a", b"/a%20b%40c%3a", ("a b@c:",), b""),
        (b"/docs/1?x=%2e%2e/&y=a%20b&z=[1]", b"/docs/1", ("docs", "1"), b"x=%2e%2e/&y=a%20b&z=[1]"),
        (b"/docs/1?", b"/docs/1", ("docs", "1"), b""),
        (b'/a?"<>\\^`{|}', b"/a", ("a",), b'"<>\\^`{|}'),
    ],
)
def test_a_target_is_read_once(target: bytes, path: bytes, segments: tuple[str, ...], query: bytes) -> None:
    assert read_target(target) == (path, segments, query, frozenset())


@pytest.mark.parametrize("escape", [b"%2500", b"%250d", b"%255c", b"%253f", b"%2523", b"%257f", b"%252f", b"%253b"])
def test_a_separator_under_two_escapes_is_refused_whatever_the_route(escape: bytes) -> None:
    for target in (b"/a" + escape + b"b", b"/" + escape.replace(b"%25", b"%2525")):
        with pytest.raises(Refused) as caught:
            read_target(target)
        assert caught.value.code is Code.TARGET_AMBIGUOUS


def test_controls_end_where_text_begins() -> None:
    for escape in (b"%c2%80", b"%c2%9f"):
        assert refusal(raw(b"/" + escape)) is Code.TARGET_AMBIGUOUS
    assert read_target(b"/%c2%a0")[1] == ("\u00a0",)


def test_dots_inside_a_segment_are_text() -> None:
    """In a path that has escapes to be read, too."""
    assert read_target(b"/1..%C3%A9/a..b%41")[:2] == (b"/1..%C3%A9/a..bA", ("1..é", "a..bA"))


@pytest.mark.parametrize(
    ("target", "oddity"),
    [
        (b"/a%2fb", Oddity.ENCODED_SLASH), (b"/a%2Fb", Oddity.ENCODED_SLASH), (b"/a%25", Oddity.ENCODED_PERCENT),
        (b"/a%2541", Oddity.ENCODED_PERCENT), (b"/1..%2541", Oddity.ENCODED_PERCENT),
        (b"/a;b", Oddity.SEMICOLON), (b"/a%3bb", Oddity.SEMICOLON), (b"//a", Oddity.EMPTY_SEGMENT),
        (b"/a//b", Oddity.EMPTY_SEGMENT), (b"/a//", Oddity.EMPTY_SEGMENT),
    ],
)  # fmt: skip
def test_what_a_route_may_allow_is_named(target: bytes, oddity: Oddity) -> None:
    assert read_target(target)[3] == {oddity}


def test_a_target_over_8_kib_is_refused() -> None:
    assert read_target(b"/" + b"a" * 8191)[0]
    assert refusal(raw(b"/" + b"a" * 8192)) is Code.TARGET_TOO_LONG


PIECES = st.lists(
    st.sampled_from(
        [b"/", b".", b"..", b"%2e", b"%2E", b"%2f", b"%5c", b"%25", b"2e", b"2f", b"%41", b"a", b"Z9", b"%c3%a9", b"%ff",
         b"%00", b";", b"%3b", b"~", b"%7e", b"@", b":", b"?", b"%3f", b"#", b"\\", b"%", b"-", b"+", b"%20"]
    )
)  # fmt: skip


UNRESERVED = b"-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"


def unescaped(escape: re.Match[bytes]) -> bytes:
    octet = bytes.fromhex(escape[1].decode())
    return octet if octet in UNRESERVED else escape[0]


def test_each_escape_of_an_unreserved_character_is_decoded_and_no_other() -> None:
    """RFC 3986 section 6.2.2.2, octet by octet."""
    for octet in range(256):
        for escape in (b"%%%02x" % octet, b"%%%02X" % octet):
            try:
                path = read_target(b"/a" + escape + b"b")[0]
            except Refused:
                assert bytes((octet,)) not in UNRESERVED
                continue
            assert path == b"/a" + (bytes((octet,)) if bytes((octet,)) in UNRESERVED else escape) + b"b"


@pytest.mark.slow
@tries(1000)
@given(st.one_of(PIECES.map(lambda parts: b"/" + b"".join(parts)), st.binary(max_size=40)))
@example(b"/%25%32%65%25%32%65/x")
@example(b"/%%32%65%%32%65/")
def test_a_reading_is_a_fixed_point_and_never_hides_a_dot_segment(target: bytes) -> None:
    try:
        path, segments, query, oddities = read_target(target)
    except Refused:
        return
    again = path + b"?" + query if query else path
    assert read_target(again) == (path, segments, query, oddities)
    raw_path = target.partition(b"?")[0]
    # only escapes of unreserved characters differ from what came
    assert unquote_to_bytes(path) == unquote_to_bytes(raw_path)
    assert path == re.sub(
        rb"%(2[de]|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae])", unescaped, raw_path, flags=re.IGNORECASE
    )
    assert path.count(b"/") == raw_path.count(b"/")
    decoded = path
    for _ in range(6):
        for separator in (b"/", b"\\"):
            parts = [part.partition(b";")[0] for part in decoded.replace(b"\\", b"/").split(b"/")]
            assert b".." not in parts, separator
            assert b"." not in parts, separator
        assert not any(byte < 0x20 or byte == 0x7F for byte in decoded)
        decoded = unquote_to_bytes(decoded)


# --- what a reading costs ---

REPEATED = [
    b"/", b"/a", b"/.", b"/;", b"/;a", b"//a", b"/%41", b"/%2541", b"%41", b"%C3%A4", b"%41%C3%A4", b"%25", b"%2541",
    b"%252525252541", b"%2F", b"%2e", b"a%2e", b";", b".", b"=", b"a.", b"%", b"%3b", b"%2f.", b"%ff",
]  # fmt: skip


@pytest.mark.parametrize("unit", REPEATED)
def test_no_target_costs_more_than_a_few_passes(unit: bytes) -> None:
    """8 KiB of "/" took 500,000 instructions of the interpreter, a hundred refusals' worth, before anybody was known."""

    def cost(size: int) -> int:
        def work() -> None:
            with contextlib.suppress(Refused):
                read_target((b"/a" + unit * size)[:size])

        return instructions(work)

    most = max(cost(size) for size in (256, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192))
    assert most < 10_000
    assert cost(8192) < 2.5 * cost(4096)


def test_a_path_has_at_most_256_segments_and_768_escapes() -> None:
    longest = b"/" + b"%C3%A9" * 384
    assert read_target(longest)[1] == ("é" * 384,)
    assert read_target(b"/a" * 256)[1] == ("a",) * 256
    assert refusal(raw(longest + b"%C3")) is Code.TARGET_TOO_LONG
    assert refusal(raw(b"/a" * 257)) is Code.TARGET_TOO_LONG
    assert refusal(raw(b"/" + b"a%25" * 129)) is Code.TARGET_TOO_LONG
    assert read_target(b"/" + b"a%25" * 128)[3] == {Oddity.ENCODED_PERCENT}
