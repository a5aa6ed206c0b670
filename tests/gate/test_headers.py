"""Headers that decide, that pass and that do not; the host, and the client that a proxy names."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.request import Raw, Reading, as_it_came, read
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import Header
from tests.counting import instructions
from tests.gate.raw_request import HOST, READING, raw, refusal


def test_identity_hop_by_hop_and_override_headers_never_pass() -> None:
    names = (
        b"x-auth-subject x-auth-roles x-auth-assertion x-auth-filter x-http-method-override x-http-method x-method-override "
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


# --- host, peer ---


@pytest.mark.parametrize("host", [b"", b"a b", b"a@b", b"a/b", b"a:b", b"a:123456", b"[::1", b"a,b", b"a?b"])
def test_a_host_that_is_none_is_refused(host: bytes) -> None:
    assert refusal(Raw("GET", b"/", [(b"host", host)], "", "http", "r")) is Code.REQUEST_INVALID
    assert refusal(Raw("GET", b"/", [], "", "http", "r")) is Code.REQUEST_INVALID


@pytest.mark.parametrize(
    ("host", "taken"),
    [(b"app.test", True), (b"APP.Test", True), (b"app.test:8080", True), (b"other.test", False), (b"b.test:1", True),
     (b"b.test", False), (b"b.test:2", False), (b"a.wild.test", True), (b"a.wild.test:81", True), (b"wild.test", False),
     (b"b.a.wild.test", False), (b"xwild.test", False), (b"a.port.test:1", True), (b"a.port.test", False)],
)  # fmt: skip
def test_hosts_are_listed_in_any_case_with_or_without_port(host: bytes, taken: bool) -> None:
    request = Raw("GET", b"/", [(b"host", host)], "", "http", "r")
    reading = Reading(frozenset(["app.test", "b.test:1", "*.wild.test", "*.port.test:1"]))
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


# --- what a reading costs ---


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
