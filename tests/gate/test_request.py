"""The canonical reading: one reading, or a refusal."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import tracemalloc
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.gate.request import Header, Oddity, Raw, Reading, as_it_came, is_trusted, read, read_target
from sidecar.gate.verdict import Code, Refused
from tests.counting import instructions

HOST: Header = (b"host", b"app.test")
READING = Reading()


def raw(target: bytes = b"/docs/1", *headers: Header, method: str = "GET", peer: str = "10.0.0.9") -> Raw:
    return Raw(method, target, [HOST, *headers], peer, "http", "id-1")


def refusal(request: Raw, reading: Reading = READING) -> Code:
    with pytest.raises(Refused) as caught:
        read(request, reading)
    return caught.value.code


# --- the target ---


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


def test_the_target_that_is_sent_is_the_canonical_path_and_the_query_as_it_came() -> None:
    assert read(raw(b"/%64ocs/%31?q=%64"), READING).target == b"/docs/1?q=%64"
    assert read(raw(b"/docs/1?"), READING).target == b"/docs/1?"
    assert read(raw(b"/docs/1"), READING).target == b"/docs/1"


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


@settings(max_examples=3000)
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


# --- headers ---


def test_identity_hop_by_hop_and_override_headers_never_pass() -> None:
    names = (
        b"x-auth-subject x-auth-roles x-auth-assertion x-http-method-override x-http-method x-method-override "
        b"x-original-url x-rewrite-url x-original-uri x-forwarded-uri x-forwarded-path x-envoy-original-path "
        b"x-forwarded-method x-forwarded-prefix x-forwarded-port forwarded x-real-ip proxy-authorization "
        b"proxy-connection keep-alive te trailer http2-settings upgrade transfer-encoding content-length"
    ).split()
    request = read(raw(b"/", *[(name, b"1") for name in names], method="POST"), READING)
    assert [name for name, _ in request.headers] == [
        b"host", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id",
    ]  # fmt: skip


@pytest.mark.parametrize("rest", ["client-cert", "roles", "tenant", "for-", "x", "", "tls-client-cert-info"])
@pytest.mark.parametrize("prefix", ["x-forwarded-", "x-original-"])
@pytest.mark.parametrize("trusted", ["10.0.0.9/32", "192.0.2.0/24"])
def test_another_proxys_words_never_pass_whatever_they_end_with(prefix: str, rest: str, trusted: str) -> None:
    """Of a listed proxy only those are read that say who the client is."""
    name = f"{prefix}{rest}".encode()
    reading = Reading(None, (ipaddress.ip_network(trusted),))
    for got in (read(raw(b"/", (name, b"1")), reading), as_it_came(raw(b"/", (name, b"1")), reading)):
        assert name not in dict(got.headers)
    for fold in (b"_", b"."):
        odd = raw(b"/", (name.replace(b"-", fold), b"1"))
        assert refusal(odd) is Code.HEADER_AMBIGUOUS
        assert name.replace(b"-", fold) not in dict(as_it_came(odd, reading).headers)


@pytest.mark.parametrize("name", [b"cf-connecting-ip", b"fastly-client-ip", b"x-azure-clientip", b"wl-proxy-client-ip"])
def test_no_client_says_that_it_has_another_address(name: bytes) -> None:
    assert name not in dict(read(raw(b"/", (name, b"6.6.6.6")), READING).headers)


def test_a_name_that_only_looks_like_a_proxys_passes() -> None:
    for name in (b"x-forwardedfor", b"x-originality", b"my-x-forwarded-for"):
        assert (name, b"1") in read(raw(b"/", (name, b"1")), READING).headers


def test_everything_else_passes_as_it_came_in_order() -> None:
    headers = ((b"x-a", b"caf\xc3\xa9 \xff"), (b"accept", b"*/*"), (b"x-a", b"2"), (b"user", b"\x85admin"))
    request = read(raw(b"/", *headers), READING)
    assert tuple(request.headers[1:5]) == headers


@pytest.mark.parametrize("name", [b"authorization", b"host", b"origin", b"content-type", b"content-length", b"upgrade"])
def test_a_header_that_must_be_single_is_refused_twice(name: bytes) -> None:
    assert refusal(raw(b"/", (name, b"1"), (name, b"1"))) is Code.HEADER_AMBIGUOUS


@pytest.mark.parametrize("name", [b"x_auth_subject", b"x.auth.subject", b"x auth", b"", b"x(a)", b"x-\xe9", b"X-Upper"])
def test_an_odd_header_name_is_refused(name: bytes) -> None:
    assert refusal(raw(b"/", (name, b"1"))) is Code.HEADER_AMBIGUOUS


@pytest.mark.parametrize("value", [b"a\r\nb", b"a\nb", b"a\0b", b"a\x01", b"\x7f"])
def test_a_control_character_in_a_value_is_refused(value: bytes) -> None:
    assert refusal(raw(b"/", (b"x-a", value))) is Code.HEADER_AMBIGUOUS


def test_connection_takes_away_what_it_may_and_nothing_else() -> None:
    request = read(raw(b"/", (b"connection", b"close, X-Mine"), (b"x-mine", b"1"), (b"x-b", b"2")), READING)
    assert b"x-mine" not in dict(request.headers)
    assert dict(request.headers)[b"x-b"] == b"2"
    for token in (
        b"x-auth-subject",
        b"X_Auth_Subject",
        b"X-Forwarded-Roles",
        b"x_original_url",
        b"authorization",
        b"host",
        b"content-length",
        b"cookie",
        b"x forwarded",
    ):
        assert refusal(raw(b"/", (b"connection", token))) is Code.HEADER_AMBIGUOUS


def test_our_own_cookies_are_taken_out_and_others_stay_byte_for_byte() -> None:
    def cookie(value: bytes) -> bytes | None:
        return dict(read(raw(b"/", (b"cookie", value)), READING).headers).get(b"cookie")

    assert cookie(b'a=1;b="x y"; c') == b'a=1;b="x y"; c'
    assert cookie(b"a=1; __Host-session=s; b=2") == b"a=1; b=2"
    assert cookie(b"__Host-session.0=s; __Host-session.1=t; __Host-login=u") is None


@pytest.mark.parametrize("value", [b"__Host-session=a; __Host-session=b", b"__Host-login=a;x=1;__Host-login=a"])
def test_two_cookies_of_one_name_of_ours_are_refused(value: bytes) -> None:
    assert refusal(raw(b"/", (b"cookie", value))) is Code.HEADER_AMBIGUOUS
    one, other = value.split(b";", 1)
    assert refusal(raw(b"/", (b"cookie", one), (b"cookie", other))) is Code.HEADER_AMBIGUOUS
    assert as_it_came(raw(b"/", (b"cookie", value)), READING).headers


def test_the_wait_for_100_is_ours_and_other_expectations_pass() -> None:
    assert b"expect" not in dict(read(raw(b"/", (b"expect", b"100-Continue")), READING).headers)
    assert b"expect" in dict(read(raw(b"/", (b"expect", b"other")), READING).headers)


def test_a_common_connection_header_takes_nothing_away() -> None:
    for value in (b"keep-alive", b"close, TE", b"Upgrade,,"):
        assert (b"x-a", b"1") in read(raw(b"/", (b"connection", value), (b"x-a", b"1")), READING).headers


def test_more_names_than_are_remembered_are_read_all_the_same() -> None:
    for number in range(1100):
        name = b"x-many-%d" % number
        assert (name, b"1") in read(raw(b"/", (name, b"1")), READING).headers
    assert refusal(raw(b"/", (b"x_odd", b"1"))) is Code.HEADER_AMBIGUOUS


def test_another_header_that_speaks_of_our_cookies_stays_as_it_is() -> None:
    said = (b"x-note", b"a=1; __Host-session=s ;")
    assert said in read(raw(b"/", (b"cookie", b"__Host-session=s"), said), READING).headers
    assert (b"cookie", b" a=1 ; b") in read(raw(b"/", (b"cookie", b" a=1 ; b")), READING).headers


# --- host, peer, body ---


@pytest.mark.parametrize("host", [b"", b"a b", b"a@b", b"a/b", b"a:b", b"a:123456", b"[::1", b"a,b", b"a?b"])
def test_a_host_that_is_none_is_refused(host: bytes) -> None:
    assert refusal(Raw("GET", b"/", [(b"host", host)], "", "http", "r")) is Code.REQUEST_INVALID
    assert refusal(Raw("GET", b"/", [], "", "http", "r")) is Code.REQUEST_INVALID


@pytest.mark.parametrize(
    ("host", "taken"),
    [(b"app.test", True), (b"APP.Test", True), (b"app.test:8080", True), (b"other.test", False), (b"b.test:1", True),
     (b"b.test", False), (b"b.test:2", False)],
)  # fmt: skip
def test_hosts_are_listed_in_any_case_with_or_without_port(host: bytes, taken: bool) -> None:
    request = Raw("GET", b"/", [(b"host", host)], "", "http", "r")
    reading = Reading(frozenset(["app.test", "b.test:1"]))
    if taken:
        assert read(request, reading).host == host.decode().lower()
    else:
        assert refusal(request, reading) is Code.HOST_NOT_ALLOWED


FORGED = ((b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-proto", b"https"), (b"x-request-id", b"abc"))


def forwarded(request: Raw, *trusted: str) -> tuple[bytes, bytes, bytes]:
    networks = tuple(map(ipaddress.ip_network, trusted))
    headers = dict(read(request, Reading(None, networks)).headers)
    return headers.get(b"x-forwarded-for", b""), headers[b"x-forwarded-proto"], headers[b"x-request-id"]


def test_nobody_is_believed_but_a_listed_proxy() -> None:
    assert forwarded(raw(b"/", *FORGED)) == (b"10.0.0.9", b"http", b"id-1")
    assert forwarded(raw(b"/", *FORGED), "192.168.0.0/16") == (b"10.0.0.9", b"http", b"id-1")
    assert forwarded(raw(b"/", *FORGED), "10.0.0.0/8") == (b"1.2.3.4, 10.0.0.9", b"https", b"abc")
    assert forwarded(raw(b"/", *FORGED, peer="::ffff:10.0.0.9"), "10.0.0.0/8")[0] == b"1.2.3.4, ::ffff:10.0.0.9"
    assert forwarded(raw(b"/", *FORGED, peer=""), "10.0.0.0/8") == (b"", b"http", b"id-1")


def test_what_a_listed_proxy_says_must_be_of_its_kind() -> None:
    odd = ((b"x-forwarded-for", b"<script>"), (b"x-forwarded-proto", b"gopher"), (b"x-request-id", b"a b"))
    assert forwarded(raw(b"/", *odd), "10.0.0.0/8") == (b"10.0.0.9", b"http", b"id-1")


@pytest.mark.parametrize(
    "said", [b"1.2.3", b"1.2.3.4:80", b"::::", b"1.2.3.4,,5.6.7.8", b"999.1.1.1", b"unknown", b"\xff"]
)
def test_what_a_listed_proxy_says_of_the_client_must_be_addresses(said: bytes) -> None:
    assert forwarded(raw(b"/", (b"x-forwarded-for", said)), "10.0.0.0/8")[0] == b"10.0.0.9"


ALB: tuple[Header, ...] = (
    (b"x-amzn-oidc-accesstoken", b"a.b.c"), (b"x-amzn-oidc-data", b"d.e.f"), (b"x-amzn-oidc-identity", b"s"),
    (b"x-amzn-oidc-new", b"n"),
)  # fmt: skip


def test_a_load_balancers_sign_in_is_for_the_sidecar_alone_where_it_is_read() -> None:
    for reading, kept in ((Reading(alb=True), []), (READING, list(ALB))):
        for judge in (read, as_it_came):
            request = judge(raw(b"/", *ALB, (b"x-amzn-trace-id", b"t")), reading)
            assert [header for header in request.headers if header[0].startswith(b"x-amzn-oidc")] == kept
            assert (b"x-amzn-trace-id", b"t") in request.headers
            assert request.seen[b"x-amzn-oidc-accesstoken"] == b"a.b.c"
            assert request.seen[b"x-amzn-oidc-data"] == b"d.e.f"


@pytest.mark.parametrize("name", [b"x-amzn-oidc-accesstoken", b"x-amzn-oidc-data"])
def test_two_of_a_load_balancers_headers_are_refused(name: bytes) -> None:
    for reading in (Reading(alb=True), READING):
        assert refusal(raw(b"/", (name, b"a"), (name, b"b")), reading) is Code.HEADER_AMBIGUOUS
        assert refusal(raw(b"/", (b"connection", name), (name, b"b")), reading) is Code.HEADER_AMBIGUOUS


def test_a_peer_without_an_address_is_never_trusted() -> None:
    assert not is_trusted("", (ipaddress.ip_network("10.0.0.0/8"),))
    assert is_trusted("fd00::1", (ipaddress.ip_network("fd00::/8"),))


def test_a_text_that_is_too_long_for_an_address_is_neither_trusted_nor_kept() -> None:
    """Python takes a zone of any length; what a client can make up must not fill the memory."""
    trusted = (ipaddress.ip_network("fe80::/10"),)
    assert is_trusted("fe80::1%eth0", trusted)
    tracemalloc.start()
    for number in range(1000):
        assert not is_trusted(f"fe80::1%{number}{'x' * 8000}", trusted)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 256 * 1024


@pytest.mark.parametrize(
    ("method", "header", "odd", "has"),
    [
        ("GET", (b"content-length", b"5"), True, True), ("HEAD", (b"transfer-encoding", b"chunked"), True, True),
        ("DELETE", (b"content-length", b"1"), True, True), ("GET", (b"content-length", b"0"), False, False),
        ("POST", (b"content-length", b"5"), False, True), ("POST", (b"x-a", b""), False, False),
    ],
)  # fmt: skip
def test_a_body_where_none_belongs_is_odd(method: str, header: Header, odd: bool, has: bool) -> None:
    request = read(raw(b"/", header, method=method), READING)
    assert (Oddity.REQUEST_BODY in request.oddities, request.has_body) == (odd, has)


# --- shadow mode's reading ---


def test_as_it_came_judges_nothing_and_still_takes_our_headers_out() -> None:
    headers = (
        (b"x-auth-subject", b"root"), (b"x_odd", b"1"), (b"authorization", b"a"), (b"authorization", b"b"),
        (b"connection", b"x-auth-subject, x-mine"), (b"x-mine", b"1"), (b"x-forwarded-for", b"1.1.1.1"),
    )  # fmt: skip
    request = as_it_came(raw(b"/a/../b?x=1", *headers), READING)
    assert (request.target, request.path, request.query) == (b"/a/../b?x=1", "/a/../b", b"x=1")
    names = [name for name, _ in request.headers]
    assert names.count(b"authorization") == 2
    assert not {b"x-auth-subject", b"x_odd", b"x-mine"} & set(names)
    assert dict(request.headers)[b"x-forwarded-for"] == b"10.0.0.9"


def test_as_it_came_needs_no_host() -> None:
    request = as_it_came(Raw("GET", b"/", [], "", "http", "r"), READING)
    assert request.headers == [(b"x-forwarded-proto", b"http"), (b"x-request-id", b"r")]


def test_as_it_came_lets_connection_take_nothing_that_decides_and_drops_no_plain_name() -> None:
    headers = ((b"connection", b"authorization"), (b"authorization", b"a"), (b"x-shadow-only", b"\x01"))
    kept = as_it_came(raw(b"/", *headers), READING).headers
    assert kept[1:3] == [(b"authorization", b"a"), (b"x-shadow-only", b"\x01")]


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


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        (b"connection", b",a"), (b"connection", b","), (b"cookie", b"__Host-session=1;"), (b"cookie", b";__Host-login"),
        (b"x-forwarded-for", b"1.2.3.4,"), (b"x-forwarded-for", b"::1, "), (b"accept", b"a,"), (b"host", b"a."),
    ],
)  # fmt: skip
def test_no_header_costs_more_than_a_few_passes(name: bytes, unit: bytes) -> None:
    headers = [(name, unit * (30_000 // len(unit)))]
    if name != b"host":
        headers.append(HOST)
    crafted = Raw("GET", b"/", headers, "10.0.0.9", "http", "id-1")

    def work() -> None:
        with contextlib.suppress(Refused):
            read(crafted, Reading(trusted=(ipaddress.ip_network("10.0.0.0/8"),)))

    assert instructions(work) < 10_000


def test_a_path_has_at_most_256_segments_and_768_escapes() -> None:
    longest = b"/" + b"%C3%A9" * 384
    assert read_target(longest)[1] == ("é" * 384,)
    assert read_target(b"/a" * 256)[1] == ("a",) * 256
    assert refusal(raw(longest + b"%C3")) is Code.TARGET_TOO_LONG
    assert refusal(raw(b"/a" * 257)) is Code.TARGET_TOO_LONG
    assert refusal(raw(b"/" + b"a%25" * 129)) is Code.TARGET_TOO_LONG
    assert read_target(b"/" + b"a%25" * 128)[3] == {Oddity.ENCODED_PERCENT}


def test_beside_our_own_a_request_has_at_most_256_cookies() -> None:
    assert read(raw(b"/", (b"cookie", b"__Host-session=1" + b"; a=1" * 255)), READING)
    assert refusal(raw(b"/", (b"cookie", b"__Host-session=1" + b"; a=1" * 256))) is Code.HEADERS_TOO_LARGE


def test_connection_names_at_most_64_headers() -> None:
    assert read(raw(b"/", (b"connection", b"a" + b",a" * 63)), READING)
    flood = (b"connection", b"a" + b",a" * 64)
    assert refusal(raw(b"/", flood)) is Code.HEADER_AMBIGUOUS
    assert as_it_came(raw(b"/", flood, (b"x-mine", b"1")), READING).headers[1] == (b"x-mine", b"1")


def test_more_than_64_hops_are_no_list_of_addresses() -> None:
    reading = Reading(trusted=(ipaddress.ip_network("10.0.0.0/8"),))
    for count, said in ((64, b"1.1.1.1" + b", 1.1.1.1" * 63 + b", 10.0.0.9"), (65, b"10.0.0.9")):
        header = (b"x-forwarded-for", b", ".join([b"1.1.1.1"] * count))
        assert dict(read(raw(b"/", header), reading).headers)[b"x-forwarded-for"] == said
