"""The key by which a client is counted, and which peers are believed."""

from __future__ import annotations

import gc
import ipaddress
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.peers import MAX_ADDRESS, client_key, is_trusted


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:0DB8:0001:0002::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("not:an:address", ""),
        ("x" * (MAX_ADDRESS + 1), ""),
        ("2001:db8::1%" + "x" * MAX_ADDRESS, ""),
    ],
)
def test_client_key(peer: str, key: str) -> None:
    assert client_key(peer) == key


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_all_addresses_of_a_link_have_one_key_and_no_other_link_has_it(link: int, one: int, two: int) -> None:
    address = ipaddress.IPv6Address
    # IPv4 in IPv6 form is held by the examples
    link |= 1 << 61
    key = client_key(str(address(link << 64 | one)))
    assert key == client_key(str(address(link << 64 | two)))
    assert key != client_key(str(address((link ^ 1) << 64 | one)))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_has_one_key_in_both_forms(address: ipaddress.IPv4Address) -> None:
    assert client_key(str(address)) == client_key(f"::ffff:{address}") == str(address)


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
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 256 * 1024
