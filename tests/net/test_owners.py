"""`net/owners.py`: who uses a place, and how many one may use."""

from __future__ import annotations

import ipaddress

import pytest

from sidecar.gate.codes import Ground
from sidecar.gate.forwarded import client_of
from sidecar.gate.verdict import Facts, Forward
from sidecar.net.owners import Owners, Places
from tests.permits import Permit

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"),)


def permit(peer: str, said: bytes = b"", principal: str = "", issuer: str = "https://issuer") -> Forward:
    """As the gate makes one of a request from there."""
    headers = [(b"host", b"a"), *([(b"x-forwarded-for", said)] if said else [])]
    facts = Facts("r", "GET", "/", client_of(headers, peer, TRUSTED), issuer=issuer, principal=principal)
    return Permit(b"GET", b"/", tuple(headers), Ground.PUBLIC, facts)


@pytest.mark.parametrize(
    ("peer", "said", "principal", "owners"),
    [
        ("198.51.100.9", b"203.0.113.7", "", ("client 198.51.100.9",)),
        ("198.51.100.9", b"", "alice", ("client 198.51.100.9", "principal https://issuer alice")),
        ("2001:db8:1:2:3::4", b"", "", ("client 2001:db8:1:2::/64",)),
        ("10.0.0.1", b"203.0.113.7", "", ("client 203.0.113.7",)),
        ("10.0.0.1", b"6.6.6.6, 203.0.113.7, 10.0.0.2", "", ("client 203.0.113.7",)),
        ("10.0.0.1", b"2001:db8:1:2:3::4", "", ("client 2001:db8:1:2::/64",)),
        # a proxy that says nothing of its clients, or a unix socket: nobody to count by
        ("10.0.0.1", b"", "alice", ("principal https://issuer alice",)),
        ("", b"203.0.113.7", "", ()),
    ],
)
def test_a_permit_is_used_in_the_name_of_its_client_and_principal(
    peer: str, said: bytes, principal: str, owners: tuple[str, ...]
) -> None:
    assert Owners(TRUSTED).of_permit(permit(peer, said, principal)) == owners


def test_equal_ids_of_two_issuers_are_two_owners() -> None:
    one, other = (permit("10.0.0.1", principal="alice", issuer=f"https://{name}") for name in ("one", "other"))
    places = Places(90, Owners(TRUSTED).of_permit)
    for _ in range(45):
        assert places.take(one) is not None
    assert places.take(one) is None
    assert places.take(other) is not None


def test_a_trusted_proxy_is_no_owner() -> None:
    owners = Owners(TRUSTED)
    assert [owners.of_peer(peer) for peer in ("10.1.2.3", "", "192.0.2.1", "2001:db8::1")] == [
        "", "", "192.0.2.1", "2001:db8::/64",
    ]  # fmt: skip


def test_one_owner_gets_as_many_places_as_are_free() -> None:
    places = Places(90, Owners(TRUSTED).of_permit)

    def taken(peer: str, principal: str = "") -> int:
        count = 0
        while places.take(permit(peer, principal=principal)) is not None:
            count += 1
        return count

    assert [taken("192.0.2.1"), taken("192.0.2.2"), taken("2001:db8::1"), taken("2001:db8::2")] == [45, 23, 11, 0]
    # a proxy's are limited by all there is
    assert taken("10.0.0.1") == 11
    assert taken("10.0.0.1") == 0


def test_a_principal_has_one_share_whatever_the_address() -> None:
    places = Places(100, Owners(TRUSTED).of_permit)
    taken = [places.take(permit(f"192.0.2.{number}", principal="alice")) for number in range(100)]
    assert sum(owners is not None for owners in taken) == 50
    for owners in taken:
        if owners is not None:
            places.give_back(owners)
    assert places.take(permit("192.0.2.1", principal="alice")) is not None
    assert len(places._used) == 2
