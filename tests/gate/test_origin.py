"""Where a request with a session may come from: our own pages alone."""

from __future__ import annotations

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.origin import require_own_origin
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.verdict import Refused

OWN, EVIL, PARTNER = "https://app.test", "https://evil.test", "https://partner.test"


def check(host: str = "app.test", websocket: bool = False, **headers: str) -> None:
    pairs = [(b"host", host.encode()), *((n.replace("_", "-").encode(), v.encode()) for n, v in headers.items())]
    request = read(Raw("GET" if websocket else "POST", b"/x", pairs, "", "http", "r", websocket), Reading())
    require_own_origin(request, frozenset([PARTNER]))


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("app.test", {"origin": OWN}),
        ("app.test", {"origin": "http://app.test"}),
        ("APP.test:443", {"origin": OWN}),
        ("app.test:8080", {"origin": "http://app.test:8080"}),
        ("app.test", {"origin": "https://app.test:443"}),
        ("app.test", {"sec_fetch_site": "same-origin"}),
        ("app.test", {"sec_fetch_site": "same-origin", "origin": OWN}),
        ("app.test", {"sec_fetch_site": "cross-site", "origin": PARTNER}),
        ("app.test", {"sec_fetch_site": "same-origin", "origin": "null"}),
    ],
)
def test_our_own_pages_may(host: str, headers: dict[str, str]) -> None:
    check(host, False, **headers)


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("app.test", {}),
        ("app.test", {"origin": EVIL}),
        ("app.test", {"origin": "null"}),
        ("app.test", {"origin": "https://app.test.evil.test"}),
        ("app.test", {"origin": "https://evil.test#app.test"}),
        ("app.test", {"origin": "https://x@app.test"}),
        ("app.test", {"origin": "https://app.test/"}),
        ("app.test", {"origin": "ftp://app.test"}),
        ("app.test", {"origin": "https://[app.test"}),
        ("app.test", {"origin": "https://app.test:8443"}),
        ("app.test:8080", {"origin": "http://app.test"}),
        ("app.test", {"sec_fetch_site": "cross-site"}),
        ("app.test", {"sec_fetch_site": "cross-site", "origin": "null"}),
        ("app.test", {"sec_fetch_site": "same-site", "origin": "https://other.app.test"}),
        ("app.test", {"sec_fetch_site": "none"}),
        ("app.test", {"sec_fetch_site": "cross-site", "origin": OWN}),
        ("app.test", {"sec_fetch_site": "same-origin", "origin": EVIL}),
    ],
)
def test_others_may_not(host: str, headers: dict[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        check(host, False, **headers)
    assert caught.value.code is Code.ORIGIN_REFUSED


def test_a_websocket_must_say_its_origin() -> None:
    check(websocket=True, origin=OWN)
    with pytest.raises(Refused):
        check(websocket=True, sec_fetch_site="same-origin")
