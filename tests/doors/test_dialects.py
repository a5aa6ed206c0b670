"""What a proxy says of its request is read in one way, or refused."""

from __future__ import annotations

import fnmatch
import gc
import re
import tracemalloc

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.setting_table import SETTINGS
from sidecar.doors import dialects
from sidecar.doors.dialects import AUTHORIZE, DIALECTS, read_question
from sidecar.gate.codes import Code
from sidecar.gate.headers import OVERRIDE_PREFIXES, OVERRIDES
from sidecar.gate.request import Raw
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import Header
from tests.stack import ROOT

ADDRESS = (b"x-forwarded-for", b"192.0.2.7")
SCHEME = (b"x-forwarded-proto", b"https")
SAID: dict[str, list[Header]] = {
    "nginx": [(b"host", b"app.test"), (b"x-original-method", b"PUT"), (b"x-original-uri", b"/docs/1?x=%2e"), ADDRESS, SCHEME],
    "haproxy": [(b"host", b"app.test"), (b"x-original-method", b"PUT"), (b"x-original-uri", b"/docs/1?x=%2e"), ADDRESS, SCHEME],
    "traefik": [
        (b"host", b"127.0.0.1:8080"), (b"x-forwarded-method", b"PUT"), (b"x-forwarded-uri", b"/docs/1?x=%2e"),
        (b"x-forwarded-host", b"app.test"), ADDRESS, SCHEME,
    ],
    "caddy": [
        (b"host", b"app.test"), (b"x-forwarded-method", b"PUT"), (b"x-forwarded-uri", b"/docs/1?x=%2e"),
        (b"x-forwarded-host", b"app.test"), ADDRESS, SCHEME,
    ],
    "envoy": [(b"host", b"app.test"), (b"content-length", b"0"), ADDRESS, SCHEME],
}  # fmt: skip
"""What each proxy says of `PUT /docs/1?x=%2e`."""


def question(name: str, headers: list[Header]) -> Raw:
    """The question as it comes from a proxy."""
    method, target = ("PUT", AUTHORIZE + b"/docs/1?x=%2e") if name == "envoy" else ("GET", AUTHORIZE)
    return Raw(method, target, headers, "127.0.0.1", "http", "r1")


def asked(name: str, *more: Header, without: bytes = b"", instead: Header = (b"", b"")) -> Raw:
    """What is read of the question, with these headers besides, without one, or with one changed."""
    headers = [instead if header[0] == instead[0] else header for header in SAID[name] if header[0] != without]
    return read_question(question(name, [*headers, *more]), DIALECTS[name])


def code_of(name: str, *more: Header, without: bytes = b"", instead: Header = (b"", b"")) -> Code:
    with pytest.raises(Refused) as caught:
        asked(name, *more, without=without, instead=instead)
    return caught.value.code


def test_every_word_of_the_setting_is_a_dialect() -> None:
    setting = next(setting for setting in SETTINGS if setting.variable == "SIDECAR_FORWARD_AUTH")
    for name in ("off", *DIALECTS):
        assert setting.parse(name) == name
    with pytest.raises(ValueError, match=f"expected off or {' or '.join(DIALECTS)}"):
        setting.parse("apache")
    assert set(SAID) == set(DIALECTS)


@pytest.mark.parametrize("name", DIALECTS)
def test_the_request_is_what_the_proxy_says(name: str) -> None:
    raw = asked(name, (b"authorization", b"Bearer x"), (b"x-mine", b"1"), (b"x-mine", b"2"))
    assert raw == Raw(
        "PUT", b"/docs/1?x=%2e", [(b"authorization", b"Bearer x"), (b"x-mine", b"1"), (b"x-mine", b"2"), (b"host", b"app.test")],
        "192.0.2.7", "https", "r1",
    )  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_missing_or_stands_twice_is_refused(name: str) -> None:
    dialect = DIALECTS[name]
    for header in {dialect.method, dialect.target, dialect.host, b"x-forwarded-for", b"x-forwarded-proto"} - {b""}:
        assert code_of(name, without=header) is Code.PROXY_AMBIGUOUS, header
        if header != b"host":  # the server takes no two of it
            value = dict(SAID[name])[header]
            assert code_of(name, (header, value)) is Code.PROXY_AMBIGUOUS, header


@pytest.mark.parametrize("name", DIALECTS)
def test_another_dialect_beside_its_own_is_refused(name: str) -> None:
    own = {DIALECTS[name].method, DIALECTS[name].target}
    others = {b"x-original-method", b"x-original-uri", b"x-forwarded-method", b"x-forwarded-uri"} - own
    assert len(others) >= 2
    for header in others:
        assert code_of(name, (header, b"/docs/1")) is Code.PROXY_AMBIGUOUS, header


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("other", DIALECTS)
def test_a_dialect_is_not_guessed(name: str, other: str) -> None:
    """A proxy that speaks another dialect than the declared one gets nothing, but where the two are the same."""
    spoken = [DIALECTS[each][:3] for each in (name, other)]
    if spoken[0] == spoken[1]:
        assert read_question(question(other, SAID[other]), DIALECTS[name]).target == b"/docs/1?x=%2e"
    else:
        with pytest.raises(Refused) as caught:
            read_question(question(other, SAID[other]), DIALECTS[name])
        assert caught.value.code is Code.PROXY_AMBIGUOUS


@pytest.mark.parametrize("scheme", [b"", b"HTTP", b"ws", b"http,https", b"https, https"])
def test_a_scheme_is_http_or_https(scheme: bytes) -> None:
    assert code_of("nginx", instead=(b"x-forwarded-proto", scheme)) is Code.PROXY_AMBIGUOUS


@pytest.mark.parametrize(
    "address", [b"", b"unknown", b"192.0.2.7, ", b"192.0.2.7:80", b"_hidden", b"\xff", b"fe80::1%eth0"]
)
def test_an_address_is_one(address: bytes) -> None:
    assert code_of("nginx", instead=(b"x-forwarded-for", address)) is Code.PROXY_AMBIGUOUS


def test_a_text_that_is_too_long_for_an_address_is_not_kept() -> None:
    tracemalloc.start()
    for number in range(1000):
        assert code_of("nginx", instead=(b"x-forwarded-for", b"%d" % number + b"1" * 8000)) is Code.PROXY_AMBIGUOUS
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 1024 * 1024


def test_the_client_is_who_is_connected_to_the_proxy() -> None:
    """What that one says of others is left to the gate, which believes it of a trusted proxy alone."""
    raw = asked("envoy", instead=(b"x-forwarded-for", b"6.6.6.6, 10.0.0.1,2001:db8::1"))
    assert raw.peer == "2001:db8::1"
    assert (b"x-forwarded-for", b"6.6.6.6, 10.0.0.1") in raw.headers


@pytest.mark.parametrize("method", [b"", b"TRACE", b"CONNECT", b"WS", b"get", b"GET /admin", b"\xff"])
def test_a_method_is_one_that_the_server_takes(method: bytes) -> None:
    assert code_of("nginx", instead=(b"x-original-method", method)) is Code.REQUEST_INVALID


def test_a_websocket_is_refused() -> None:
    """The proxy does not show whether it would open a tunnel, so that a handshake could be decided as a plain GET."""
    for name in DIALECTS:
        assert code_of(name, (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA==")) is Code.PROXY_UNABLE


def test_the_path_that_is_asked_has_no_query() -> None:
    """Caddy sends `?` alone for a request that has one."""
    for target, good in ((b"?", True), (b"?x=1", False), (b"/", False)):
        raw = question("caddy", SAID["caddy"])._replace(target=AUTHORIZE + target)
        if good:
            assert read_question(raw, DIALECTS["caddy"]).target == b"/docs/1?x=%2e"
        else:
            with pytest.raises(Refused) as caught:
                read_question(raw, DIALECTS["caddy"])
            assert caught.value.code is Code.PROXY_AMBIGUOUS


NAMES = sorted({name for headers in SAID.values() for name, _ in headers} | {b"x-mine", b"cookie"})
VALUES = st.one_of(
    st.sampled_from(sorted({value for headers in SAID.values() for _, value in headers})), st.binary(max_size=12)
)


@given(
    st.sampled_from(sorted(DIALECTS)),
    st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=10),
    st.binary(max_size=12),
)
def test_whatever_a_proxy_says_it_is_read_in_one_way_or_refused(
    name: str, headers: list[Header], target: bytes
) -> None:
    """What is read says nothing that did not stand there exactly once."""
    dialect = DIALECTS[name]
    try:
        raw = read_question(Raw("GET", AUTHORIZE + target, headers, "127.0.0.1", "http", "r1"), dialect)
    except Refused:
        return
    names = [header for header, _ in headers]
    assert all(names.count(header) == 1 for header in (dialect.method, dialect.target, dialect.host) if header)
    assert raw.target == (dict(headers)[dialect.target] if dialect.target else target)
    assert [value for header, value in raw.headers if header == b"host"] == [dict(headers)[dialect.host]]


def test_nginx_is_told_to_take_away_every_name_that_it_is_said_to() -> None:
    text = (ROOT / "deploy/nginx/sidecar.conf").read_text().partition("location / {")[2].partition("\n    }")[0]
    assert {name.lower().encode() for name in re.findall(r"proxy_set_header (\S+) ", text)} >= dialects.FIXED


def test_traefik_is_told_to_take_away_every_name_that_it_is_said_to() -> None:
    """Documentation: an empty value removes a header; what `authResponseHeaders` names is the sidecar's alone."""
    middlewares = yaml.safe_load((ROOT / "deploy/traefik/sidecar.yaml").read_text())["http"]["middlewares"]
    told = [*middlewares["strip"]["headers"]["customRequestHeaders"], *middlewares["sidecar"]["forwardAuth"]["authResponseHeaders"]]  # fmt: skip
    by_itself = set(b"x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-forwarded-server".split())
    of_the_connection = {b"proxy-authorization", b"proxy-authenticate"}
    assert {name.lower().encode() for name in told} >= dialects.FIXED - by_itself - of_the_connection


def test_caddy_takes_away_what_the_sidecar_does() -> None:
    text = (ROOT / "deploy/caddy/Caddyfile").read_text()
    patterns = [name.lower() for name in re.findall(r"request_header -(\S+)\n", text)]
    names = [name.decode() for name in (*OVERRIDES, *OVERRIDE_PREFIXES) if name != b"x-request-id"]
    assert [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)] == []
