"""How often a sign-in may fail, by client, by user and by known device, before the next try has to wait.

A place is taken before the identity provider is asked and given back after a success, so that a burst of guesses is
counted like a row of them. Known devices and known addresses have places of their own, as OWASP's "Slow Down Online
Guessing Attacks with Device Cookies" has it: nobody elsewhere can lock their user out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import unicodedata
from collections.abc import AsyncIterator, Iterable

from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.sign_in.challenges import is_username
from sidecar.sign_in.ledger import Count, Ledger, Reservation

WINDOW = 300.0
"""Seconds in which failures are counted."""
PER_USER = 10
"""Failures as one user: from all strange places together, from each known address, and from each known device."""
PER_CLIENT = 30
"""Failures of one client, as any users and with any codes."""
KNOWN_FOR = 90 * 86_400
"""Seconds for which an address or a device of a user's is known after a sign-in."""
AT_ONCE = 8
"""Sign-ins of one client that the identity provider is asked about at once; others of it wait for their turn."""
WAITING = 64
"""Sign-ins of one client that may be under way, those that wait included."""
TURN_WITHIN = 3.0
"""Seconds to wait for a turn."""


def user_key(username: str) -> str:
    """The text that a user is counted by: 24 hexadecimal digits, "" for a name that no user can have.

    One for all spellings that a pool may take for one user: Cognito's user names are case-insensitive by default (AWS,
    "User pool case sensitivity").
    """
    if not is_username(username):
        return ""
    return _digest(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold()))


def known_key(username: str) -> str:
    """The text that a user is known by after a sign-in: as `user_key`, of this one spelling.

    A pool may take another spelling for another user, who must not become known as this one.
    """
    return _digest(username) if is_username(username) else ""


def _digest(name: str) -> str:
    # a name in Redis or in memory would be longer and telling
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


class Attempts:
    """Places for attempts to sign in. `client` is a key of `gate.peers`, `username` what the form got."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._turns: dict[str, _Turns] = {}

    async def take(self, client: str, username: str, device: str, now: float) -> Reservation:
        """A place for one try, before it is made. `device` is the id of a known device of that user, "" for none.

        Raises Refused(SIGN_IN_LIMITED) where there is none, SESSION_STORE_*."""
        by_user = await self._by_user(client, username, device, now)
        return await self._taken([*by_user, *_by_client(client, device)], now)

    async def take_for_code(self, client: str, now: float) -> Reservation:
        """A place for a code of the hosted UI, which tells no user. Raises Refused as `take` does."""
        return await self._taken(_by_client(client, ""), now)

    async def give_back(self, place: Reservation) -> None:
        """The try was no failure. Where the ledger cannot take it back, it counts as one until the window ends."""
        with contextlib.suppress(Refused):
            await self._ledger.give_back(place)

    async def remember(self, client: str, users: Iterable[str], now: float) -> None:
        """A user of these keys of `known_key` has signed in from this client, which is a known one from now on."""
        for user in users:
            with contextlib.suppress(Refused):
                await self._ledger.remember(_pair(client, user), KNOWN_FOR, now)

    @contextlib.asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """A client's turn to ask the identity provider. Raises Refused(SIGN_IN_LIMITED) for one that waits too long."""
        turns = self._turns.setdefault(client, _Turns())
        if turns.under_way >= WAITING:
            raise Refused(Code.SIGN_IN_LIMITED, "too many sign-ins at once")
        turns.under_way += 1
        try:
            await turns.wait()
            with contextlib.closing(turns):
                yield
        finally:
            turns.under_way -= 1
            if not turns.under_way:
                self._turns.pop(client, None)

    async def _by_user(self, client: str, username: str, device: str, now: float) -> list[Count]:
        known = known_key(username)
        if not known:
            return []
        if device:
            return [Count(f"device:{known}:{device}", PER_USER, WINDOW)]
        pair = _pair(client, known)
        is_known = await self._ledger.knows(pair, now)
        return [Count(pair if is_known else f"user:{user_key(username)}", PER_USER, WINDOW)]

    async def _taken(self, counts: list[Count], now: float) -> Reservation:
        place = await self._ledger.take(counts, now)
        if place is None:
            raise Refused(Code.SIGN_IN_LIMITED, "too many failures")
        return place


class _Turns:
    """The turns of one client."""

    __slots__ = ("free", "under_way")

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(AT_ONCE)
        self.under_way = 0

    async def wait(self) -> None:
        try:
            async with asyncio.timeout(TURN_WITHIN):
                await self.free.acquire()
        except TimeoutError:
            raise Refused(Code.SIGN_IN_LIMITED, "too many sign-ins at once") from None

    def close(self) -> None:
        self.free.release()


def _pair(client: str, user: str) -> str:
    return f"pair:{user}:{client}"


def _by_client(client: str, device: str) -> list[Count]:
    # behind one address there are many people: a known device is not locked out by its neighbours
    return [] if device else [Count(f"client:{client}", PER_CLIENT, WINDOW)]
