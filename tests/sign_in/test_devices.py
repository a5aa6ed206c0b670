"""The cookie of a known device: whose failures are counted apart."""

from __future__ import annotations

import pytest

from sidecar.gate.own import DEVICE_COOKIE, OWN_COOKIES
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.sessions.seal import Seal
from sidecar.sign_in.attempts import KNOWN_FOR, known_key
from sidecar.sign_in.devices import Devices

NOW = 1_700_000_000.0
ALICE, ALIAS, BOB = known_key("alice"), known_key("alice@example.com"), known_key("bob")


@pytest.fixture
def devices() -> Devices:
    return Devices(Seal(("0123456789abcdef0123456789abcdef",)))


def request_with(cookie: bytes = b"") -> Request:
    headers = [(b"host", b"app.test"), *([(b"cookie", cookie.partition(b";")[0])] if cookie else [])]
    return read(Raw("GET", b"/", headers, "", "http", "r"), Reading())


def test_a_device_is_known_as_each_name_of_its_user_and_as_nobody_else(devices: Devices) -> None:
    request = request_with(devices.cookie(request_with(), (ALICE, ALIAS), NOW))
    assert devices.known(request, ALICE, NOW)
    assert devices.known(request, ALIAS, NOW)
    assert devices.known(request, BOB, NOW) == ""
    assert devices.known(request, known_key("\uff41lice"), NOW) == ""
    assert devices.known(request, "", NOW) == ""


def test_a_device_keeps_its_id_and_its_other_users_and_forgets_in_time(devices: Devices) -> None:
    first = request_with(devices.cookie(request_with(), (ALICE,), NOW))
    second = request_with(devices.cookie(first, (BOB,), NOW + 1000))
    third = request_with(devices.cookie(second, (ALICE,), NOW + 2000))
    ids = {devices.known(request, ALICE, NOW + 2000) for request in (first, second, third)}
    assert len(ids) == 1
    assert devices.known(third, BOB, NOW + 1000 + KNOWN_FOR - 1)
    assert devices.known(third, BOB, NOW + 1000 + KNOWN_FOR) == ""
    assert devices.known(third, ALICE, NOW + 1000 + KNOWN_FOR)


def test_a_cookie_of_many_users_stays_short(devices: Devices) -> None:
    cookie = b""
    for number in range(20):
        cookie = devices.cookie(request_with(cookie), (known_key(f"u{number}"), known_key(f"mail{number}")), NOW)
    assert len(cookie) < 700
    assert devices.known(request_with(cookie), known_key("u19"), NOW)
    assert devices.known(request_with(cookie), known_key("u0"), NOW) == ""


@pytest.mark.parametrize("value", [b"", b"x", b"0.0", b"A" * 3000])
def test_a_cookie_of_somebody_elses_making_names_nobody(devices: Devices, value: bytes) -> None:
    assert devices.known(request_with(DEVICE_COOKIE.encode() + b"=" + value), ALICE, NOW) == ""


def test_a_cookie_of_another_purpose_names_nobody(devices: Devices) -> None:
    seal = Seal(("0123456789abcdef0123456789abcdef",))
    sealed = seal.seal("login", f'[1,["{ALICE}","d",99999999999]]'.encode())
    assert devices.known(request_with(f"{DEVICE_COOKIE}={sealed}".encode()), ALICE, NOW) == ""


def test_the_app_neither_gets_the_cookie_nor_sets_it() -> None:
    assert DEVICE_COOKIE.encode().startswith(OWN_COOKIES)
