"""Descriptions by proxies: believed of those that are listed, and of nobody else."""

from __future__ import annotations

import ipaddress

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.forwarded import Described, client_address, client_of, described
from sidecar.gate.origin import require_own_origin
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import Header

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"),)
PROXY, STRANGER = "10.0.0.1", "198.51.100.9"


@pytest.mark.parametrize(
    ("peer", "said", "address"),
    [
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7:50123", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7:50123, 10.0.0.2:443", "203.0.113.7"),
        ("10.0.0.1", "[2001:db8::7]:50123", "2001:db8::7"),
        ("10.0.0.1", "[2001:db8::7]", "2001:db8::7"),
        ("10.0.0.1", "203.0.113.7, garbage", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, [192.0.2.1:80]", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, 192.0.2.1:", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("198.51.100.9", "203.0.113.7", "198.51.100.9"),
    ],
)
def test_the_address_that_is_counted_is_the_last_that_a_trusted_proxy_saw(peer: str, said: str, address: str) -> None:
    assert client_address(peer, said.encode(), TRUSTED) == address


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=203.0.113.7", Described(b"203.0.113.7")),
        ("For=203.0.113.7;Proto=HTTPS;Host=app.test", Described(b"203.0.113.7", b"https", b"app.test")),
        ('for="203.0.113.7:1234";host="app.test:8443" ; by=x', Described(b"203.0.113.7", b"", b"app.test:8443")),
        ('for="[2001:db8::7]:80"', Described(b"2001:db8::7")),
        # each proxy adds its own: the outermost that is listed counts
        (
            "for=6.6.6.6;host=evil, for=203.0.113.7;host=app.test;proto=https, for=10.0.0.2;host=inner;proto=http",
            Described(b"6.6.6.6, 203.0.113.7, 10.0.0.2", b"https", b"app.test"),
        ),
        ("for=6.6.6.6;host=evil, for=203.0.113.7;host=app.test", Described(b"6.6.6.6, 203.0.113.7", b"", b"app.test")),
        # nobody, or a name that hides who it was: what was before it is not known
        ("for=6.6.6.6, for=unknown;host=app.test", Described(b"", b"", b"app.test")),
        ("for=6.6.6.6, for=_hidden, for=10.0.0.2;host=inner", Described(b"10.0.0.2", b"", b"")),
        ("", Described()),
        (",,", Described()),
        ("for=203.0.113.7, ,", Described(b"203.0.113.7")),
        # what cannot be read says nothing
        ("for=203.0.113.7;for=203.0.113.8", Described()),
        ('for="203.0.113.7', Described()),
        ("for=203.0.113.7 host=app.test", Described()),
        ("for=2001:db8::7", Described()),
        ("<script>", Described()),
        ("for=203.0.113.7, for=2001:db8::7", Described()),
        ('for=6.6.6.6;host="evil, for=6.6.6.7", for=2001:db8::7', Described()),
        # but for what the proxies said after it: nobody hides behind what cannot be read
        ('for=", for=203.0.113.7;host=app.test', Described(b"203.0.113.7", b"", b"app.test")),
        ('for=6.6.6.6;host=evil;x="a, for=203.0.113.7, for=10.0.0.2', Described(b"203.0.113.7, 10.0.0.2")),
        ('<, for=203.0.113.7;host="a\\", for=6.6.6.6;x=\\"b"', Described()),
        (", ".join(["for=6.6.6.6"] * 6 + ["for=203.0.113.7"] * 64), Described(b", ".join([b"203.0.113.7"] * 64))),
    ],
)
def test_forwarded_is_read_by_its_grammar(value: str, expected: Described) -> None:
    assert described({b"forwarded": value.encode()}, PROXY, TRUSTED) == expected
    assert described({b"forwarded": value.encode()}, STRANGER, TRUSTED) is None


@pytest.mark.parametrize(
    ("hops", "host", "port", "expected"),
    [
        ("203.0.113.7", "app.test", "8443", ("app.test", "8443")),
        ("203.0.113.7", "evil.test, app.test", "1, 2", ("app.test", "2")),
        ("203.0.113.7, 10.0.0.2", "evil.test, app.test, inner", "1, 2, 3", ("app.test", "2")),
        ("203.0.113.7, 10.0.0.2", "app.test", "2", ("app.test", "2")),
        ("10.0.0.3, 10.0.0.2", "app.test, inner", "", ("app.test", "")),
        ("", "evil.test, app.test", "", ("app.test", "")),
    ],
)
def test_of_what_several_proxies_add_the_outermost_listed_ones_counts(
    hops: str, host: str, port: str, expected: tuple[str, str]
) -> None:
    seen = {b"x-forwarded-for": hops.encode(), b"x-forwarded-host": host.encode(), b"x-forwarded-port": port.encode()}
    said = described(seen, PROXY, TRUSTED)
    assert said is not None
    assert (said.host.decode(), said.port.decode()) == expected


def test_x_forwarded_counts_before_forwarded() -> None:
    """A proxy that knows the older ones alone passes on what its client says in the other."""
    seen = {b"x-forwarded-for": b"203.0.113.7", b"forwarded": b"for=6.6.6.6;host=evil.test"}
    assert described(seen, PROXY, TRUSTED) == Described(b"203.0.113.7")


def test_the_client_of_a_request_that_is_not_read() -> None:
    headers: list[Header] = [(b"host", b"a"), (b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"203.0.113.7")]
    assert client_of(headers, PROXY, TRUSTED) == "203.0.113.7"
    assert client_of(headers, STRANGER, TRUSTED) == STRANGER
    assert client_of([(b"forwarded", b"for=203.0.113.7")], PROXY, TRUSTED) == "203.0.113.7"
    lines: list[Header] = [(b"forwarded", b'for="'), (b"forwarded", b"for=203.0.113.7")]
    assert client_of(lines, PROXY, TRUSTED) == "203.0.113.7"


# --- in a request ---

LISTED = Reading(frozenset({"app.test"}), TRUSTED)


def asked(*headers: tuple[str, str], peer: str = PROXY, reading: Reading = LISTED, host: str = "app.test") -> Request:
    pairs = [(b"host", host.encode()), *((name.encode(), value.encode()) for name, value in headers)]
    return read(Raw("POST", b"/x", pairs, peer, "http", "r"), reading)


@pytest.mark.parametrize(
    "said",
    [
        [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-host", "APP.test"), ("x-forwarded-proto", "https")],
        [("forwarded", "for=203.0.113.7;host=APP.test;proto=https")],
    ],
)
def test_behind_a_proxy_that_writes_another_host_its_clients_is_judged_and_told(said: list[tuple[str, str]]) -> None:
    request = asked(*said, ("origin", "https://app.test"), host="sidecar:8080")
    assert (request.host, request.seen[b"host"]) == ("app.test", b"sidecar:8080")
    require_own_origin(request)
    headers = dict(request.headers)
    assert headers[b"host"] == b"sidecar:8080"
    assert headers[b"x-forwarded-host"].lower() == b"app.test"
    assert headers[b"x-forwarded-proto"] == b"https"
    assert headers[b"x-forwarded-for"] == b"203.0.113.7, 10.0.0.1"
    assert b"forwarded" not in headers
    with pytest.raises(Refused) as caught:
        require_own_origin(asked(*said, ("origin", "https://sidecar:8080"), host="sidecar:8080"))
    assert caught.value.code is Code.ORIGIN_REFUSED


def test_a_host_that_a_proxy_names_has_to_be_listed() -> None:
    for value, code in (("evil.test", Code.HOST_NOT_ALLOWED), ("a b", Code.REQUEST_INVALID)):
        with pytest.raises(Refused) as caught:
            asked(("x-forwarded-host", value))
        assert caught.value.code is code


def test_a_proxy_may_pass_on_what_its_client_says_so_that_nothing_counts_without_a_list_of_hosts() -> None:
    request = asked(("x-forwarded-host", "evil.test"), reading=Reading(None, TRUSTED))
    assert (request.host, dict(request.headers)[b"x-forwarded-host"]) == ("app.test", b"app.test")


def test_a_strangers_words_are_removed() -> None:
    said = [
        ("x-forwarded-for", "6.6.6.6"), ("x-forwarded-host", "other.test"), ("x-forwarded-host", "b"),
        ("x-forwarded-port", "8443"), ("forwarded", "for=6.6.6.6;host=other.test"), ("origin", "https://app.test:8443"),
    ]  # fmt: skip
    request = asked(*said, peer=STRANGER)
    headers = dict(request.headers)
    assert (request.host, headers[b"x-forwarded-host"], headers[b"x-forwarded-for"]) == (
        "app.test", b"app.test", STRANGER.encode(),
    )  # fmt: skip
    assert not {b"forwarded", b"x-forwarded-port"} & headers.keys()
    with pytest.raises(Refused):
        require_own_origin(request)


def test_the_port_that_a_proxy_names_is_of_our_origin_too() -> None:
    """nginx' $host has none."""
    said = (("x-forwarded-for", "203.0.113.7"), ("x-forwarded-port", "8443"))
    for origin in ("https://app.test:8443", "https://app.test"):
        require_own_origin(asked(*said, ("origin", origin)))
    with pytest.raises(Refused):
        require_own_origin(asked(*said, ("origin", "https://app.test:8444")))
