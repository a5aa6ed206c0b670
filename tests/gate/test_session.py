"""The session's own cookies among those of the app."""

from __future__ import annotations

import pytest

from sidecar.gate.session import session_cookies


@pytest.mark.parametrize(
    ("cookie", "cookie_pairs"),
    [
        (b"", {}),
        (b"a=1; b=2", {}),
        (b"__Host-session=x", {"__Host-session": "x"}),
        (b"a=1; __Host-session=x=y;__Host-session.1=z ; b=2", {"__Host-session": "x=y", "__Host-session.1": "z"}),
        (b"__host-session=x; x__Host-session=y", {}),
        (b"__Host-session", {"__Host-session": ""}),
        (b"__Host-session_id=x; __Host-session.x=y; __Host-session.=z; __Host-sessions=a", {}),
    ],
)
def test_only_our_own_cookies_are_taken(cookie: bytes, cookie_pairs: dict[str, str]) -> None:
    assert session_cookies(cookie) == cookie_pairs
