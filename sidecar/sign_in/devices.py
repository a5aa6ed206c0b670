"""Known devices: a sealed cookie that a browser gets at a sign-in, so that strangers cannot lock its user out.

After OWASP, "Slow Down Online Guessing Attacks with Device Cookies". The cookie signs nobody in: as the users that it
names, its holder has failures to make that are counted apart.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple

from sidecar.gate.own import DEVICE_COOKIE, set_cookie
from sidecar.gate.request import Request
from sidecar.sign_in.attempts import KNOWN_FOR
from sidecar.sign_in.pending import Sealing

_PURPOSE = "login device"
_VERSION = 1
_MOST = 6
"""Users whom one browser is known to; with another, the one who signed in least recently is not any more."""


class _Known(NamedTuple):
    user: str
    device: str
    until: int


class Devices:
    """Reads and makes the cookie. A user is a key of `sign_in.attempts.known_key`."""

    def __init__(self, sealing: Sealing) -> None:
        self._sealing = sealing

    def known(self, request: Request, user: str, now: float) -> str:
        """The id of the request's device as this user, "" where the user has not signed in there."""
        return next((known.device for known in self._read(request, now) if known.user == user), "")

    def cookie(self, request: Request, users: Iterable[str], now: float) -> bytes:
        """The Set-Cookie value after a sign-in of a user with these keys."""
        before = self._read(request, now)
        ids = {known.user: known.device for known in before}
        until = int(now) + KNOWN_FOR
        mine = [_Known(user, ids.get(user) or secrets.token_hex(8), until) for user in dict.fromkeys(users)]
        kept = [*mine, *(known for known in before if known.user not in {one.user for one in mine})][:_MOST]
        record = json.dumps([_VERSION, *kept], separators=(",", ":")).encode("ascii")
        value = self._sealing.seal(_PURPOSE, record)
        return set_cookie(DEVICE_COOKIE, value, KNOWN_FOR)

    def _read(self, request: Request, now: float) -> list[_Known]:
        """Return the users whom the cookie names; none for a cookie that is not ours, or is of another version."""
        try:
            record: Any = json.loads(self._sealing.unseal(_PURPOSE, _value(request)))
        except ValueError:
            return []
        if not isinstance(record, list) or record[:1] != [_VERSION]:
            return []
        return [known for known in (_Known(*each) for each in record[1:]) if known.until > now]


def _value(request: Request) -> str:
    for cookie_pair in request.seen.get(b"cookie", b"").split(b";"):
        name, _, value = cookie_pair.strip().partition(b"=")
        if name == DEVICE_COOKIE.encode():
            return value.decode("latin-1")
    return ""
