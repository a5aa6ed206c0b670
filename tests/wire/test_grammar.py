"""The grammar of HTTP: each rule against the text of its RFC, and where two parts of the sidecar use it, that they agree."""

from __future__ import annotations

import argparse
import re
import string

import pytest

from sidecar.gate.headers import read_headers, read_host
from sidecar.gate.verdict import Refused
from sidecar.wire import grammar
from sidecar.wire.grammar import (
    CONTENT_LENGTH,
    CONTROLS,
    EXTENSION_METHODS,
    FIELD_LINE,
    FIELD_NAME,
    FOLDED,
    FORWARDED_BY_SOME,
    HOP_BY_HOP,
    LOWER_NAME,
    MAX_HOST,
    METHODS,
    ORIGIN_FORM,
    PLAIN_NAME,
    PORT,
    SINGLETONS,
    TEXT,
    host_and_port,
    is_host,
    is_method,
    list_members,
)  # fmt: skip
from sidecar.wire.http1_request import BadRequest, HeadReader


def test_a_token_is_what_rfc_9110_lists() -> None:
    tchar = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters
    for octet in range(256):
        assert bool(FIELD_NAME.fullmatch(bytes([octet]))) == (chr(octet) in tchar)
    assert not FIELD_NAME.fullmatch(b"")
    assert not FIELD_NAME.fullmatch(b"x\n")


def test_names_that_servers_read_alike_are_fewer() -> None:
    for octet in range(256):
        plain = chr(octet) in "-" + string.digits + string.ascii_letters
        assert bool(PLAIN_NAME.fullmatch(bytes([octet]))) == plain
        assert bool(LOWER_NAME.fullmatch(bytes([octet]))) == (plain and chr(octet) not in string.ascii_uppercase)
    assert b"X_Auth.Subject".translate(FOLDED) == b"x-auth-subject"


def test_controls_are_all_below_a_space_but_the_tab_and_del() -> None:
    assert {*CONTROLS} == {*range(32), 127} - {9}
    assert {*TEXT} | {*CONTROLS} == {*range(256)}
    assert not {*TEXT} & {*CONTROLS}


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"X-A: b", (b"X-A", b" b")), (b"a:", (b"a", b"")), (b"a:b:c", (b"a", b"b:c")), (b"a: caf\xe9\t", (b"a", b" caf\xe9\t")),
        (b"a : b", None), (b" a: b", None), (b": b", None), (b"a", None), (b"a: b\n", None), (b"a: b\0", None), (b"a: \x7f", None),
    ],
)  # fmt: skip
def test_a_field_line_has_a_token_a_colon_and_a_value(line: bytes, field: tuple[bytes, bytes] | None) -> None:
    match = FIELD_LINE.fullmatch(line)
    assert (match and match.groups()) == field


def test_a_method_is_capitals_that_ask_for_no_tunnel_and_no_echo() -> None:
    assert all(map(is_method, [*METHODS, *EXTENSION_METHODS, "FOO", "M-SEARCH", "WSX", "PRINT", "CONNECTS", "A" * 32]))
    assert not any(
        map(
            is_method,
            [
                "CONNECT",
                "TRACE",
                "TRACK",
                "PRI",
                "WS",
                "get",
                "Get",
                "",
                "A" * 33,
                "M_S",
                "-A",
                "A-",
                "A--B",
                "GET\n",
                "G\u0130T",
                "A1",
            ],
        )
    )
    assert not METHODS & EXTENSION_METHODS


def test_a_length_is_digits_alone() -> None:
    assert all(CONTENT_LENGTH.fullmatch(value) for value in (b"0", b"007", b"9" * 15))
    assert not any(
        CONTENT_LENGTH.fullmatch(value) for value in (b"", b"+1", b"1_0", b"1\n", b"9" * 16, b"\xb2", b"1,1")
    )


def test_members_of_a_list_are_in_lower_case_without_blanks() -> None:
    assert list_members(b"Close,\tTE , ,x") == [b"close", b"te", b"", b"x"]


def test_a_target_is_visible_ascii_without_a_fragment() -> None:
    for octet in range(256):
        taken = 0x21 <= octet <= 0x7E and octet != 0x23
        assert bool(ORIGIN_FORM.fullmatch(b"/" + bytes([octet]))) == taken
    assert not ORIGIN_FORM.fullmatch(b"x")


def read_by_the_server(*headers: bytes) -> bool:
    try:
        return (
            HeadReader().feed(b"GET / HTTP/1.1\r\n" + b"".join(header + b"\r\n" for header in headers) + b"\r\n")
            is not None
        )
    except BadRequest:
        return False


def read_by_the_gate(host: bytes) -> bool:
    try:
        return read_host(host, None) == host.decode("ascii").lower()
    except Refused:
        return False


@pytest.mark.parametrize(
    ("host", "valid"),
    [
        (b"app.test", True), (b"A.B:8080", True), (b"[::1]", True), (b"[::1]:80", True), (b"my_app", True), (b"127.0.0.1:1", True),
        (b"a" * MAX_HOST, True), (b"a" * (MAX_HOST + 1), False), (b"", False), (b"a~b", False), (b"a b", False), (b"a@b", False),
        (b"a:", False), (b"a:b", False), (b"a:123456", False), (b"[::1", False), (b"a,b", False), (b"a/b", False), (b"a%41", False),
        (b"[::1]x", False), (b":80", False),
    ],
)  # fmt: skip
def test_the_server_and_the_gate_know_the_same_hosts(host: bytes, valid: bool) -> None:
    assert is_host(host) is read_by_the_gate(host) is read_by_the_server(b"Host: " + host) is valid


@pytest.mark.parametrize("name", sorted(SINGLETONS))
def test_the_server_and_the_gate_take_none_of_these_twice(name: bytes) -> None:
    reader = HeadReader()
    others = [] if name == b"host" else [b"Host: a"]
    data = b"\r\n".join([b"GET / HTTP/1.1", *others, name + b": 1", name + b": 1", b"", b""])
    with pytest.raises(BadRequest):
        reader.feed(data)
    with pytest.raises(Refused):
        read_headers([(name, b"1"), (name, b"1")])


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_what_belongs_to_a_connection_goes_to_nobody_else(name: bytes) -> None:
    """Neither from a client to the app, nor from the app to a client, whichever part of the sidecar writes."""
    from sidecar.doors.dialects import FIXED
    from sidecar.doors.handover import _FRAMING
    from sidecar.net.answer_headers import clean_headers
    from sidecar.wire.response_head import render

    assert read_headers([(name, b"x"), (b"x-a", b"1")])[0] == [(b"x-a", b"1")]
    assert clean_headers([(name, b"x"), (b"x-a", b"1")]) == [(b"x-a", b"1")]
    assert render([(name, b"x")])[0] == b""
    assert (name in _FRAMING) is not (name in FORWARDED_BY_SOME)
    assert (name in FIXED) is (name in FORWARDED_BY_SOME)


def test_neither_a_tunnel_nor_an_echo_is_a_method() -> None:
    assert not {"CONNECT", "TRACE"} & METHODS
    assert grammar.SAFE_METHODS | grammar.BODILESS_METHODS <= METHODS


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("app.test:80", ("app.test", 80)), ("[::1]:0", ("::1", 0)), ("0.0.0.0:65535", ("0.0.0.0", 65535)), ("a:65536", None),
        ("a", None), ("::1:80", None), ("a:80\n", None), ("a:\u0661", None), ("a b:1", None), (":1", None),
    ],
)  # fmt: skip
def test_an_address_is_read_alike_by_all_that_listen_and_all_that_ask(
    text: str, address: tuple[str, int] | None
) -> None:
    from sidecar.config.parsers import address as listen
    from sidecar.inject.settings import _address as inject
    from sidecar.net.pool import Origin

    assert host_and_port(text) == address
    if address is None:
        for read in (listen, inject):
            with pytest.raises((ValueError, argparse.ArgumentTypeError)):
                read(text)
    else:
        assert listen(text)[:2] == inject(text) == address
        if address[1]:
            assert Origin.parse(f"http://{text}") == Origin("http", *address)


@pytest.mark.parametrize("port", ["0", "80", "00080", "9999", "10000", "59999", "65535"])
def test_a_port_is_one_of_tcp(port: str) -> None:
    assert re.fullmatch(PORT, port)


@pytest.mark.parametrize("port", ["65536", "65540", "66000", "70000", "99999", "123456", ""])
def test_no_port_is_beyond_the_last_one(port: str) -> None:
    assert re.fullmatch(PORT, port) is None
