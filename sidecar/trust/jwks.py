"""Key sets of the issuers: fetched on first use, kept while a key server is down, refreshed at a limited rate.

A known key never waits. An unknown one waits for one fetch that all share, at most twice a minute, so that made-up key
ids cost the key server nothing. A set that cannot be used leaves the good one in place.

Beside that, a set that was wanted at the start or that was good once is refreshed in the background: every 15 minutes,
and after a failure with growing pauses from 1 to 60 s. No request can make these fetches more.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.net.breaker import Report
from sidecar.net.faults import reason_of
from sidecar.trust.download import NO_PROXY, Downloads, Proxy, Unusable
from sidecar.wire import strict_json

log = logging.getLogger("sidecar.keys")

FETCH_WITHIN = 3.0
MAX_SET = 64 * 1024
"""Bytes of a key set."""
REFRESH_EVERY = 15 * 60.0
STALE_AFTER = 24 * 3600.0
"""Seconds after the last good fetch until which its keys are still taken."""
WINDOW, PER_WINDOW, APART = 60.0, 2, 10.0
"""For unknown keys a set is fetched PER_WINDOW times in WINDOW seconds at most, APART seconds apart; failures count."""
FIRST_BACKOFF, MAX_BACKOFF = 1.0, 60.0
_BITS = range(2048, 8192 + 1)
"""Sizes of a key: a larger one makes each verification slow."""
_KID = re.compile(r"[\x21-\x7e]{1,128}")

Clock = Callable[[], float]


class _BadSet(Exception):
    """Error: a key set cannot be used; `fault` names it for the metric, `detail` says more in the log."""

    def __init__(self, fault: str, detail: str = "") -> None:
        super().__init__(fault, detail)
        self.fault = fault
        self.detail = detail


class _Source:
    """One issuer's key set."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[str, PyJWK] = {}
        self.document: Any = None
        self.trouble = ""  # why the last fetch gave none
        self.good_at = 0.0
        self.last_good = False  # whether the last fetch gave a set
        self.wanted = False  # whether somebody has asked for it yet
        self.attempts: deque[float] = deque(maxlen=PER_WINDOW)
        self.flight: asyncio.Task[None] | None = None

    def may_fetch(self, now: float) -> bool:
        """Return whether the key server may be asked for an unknown key now."""
        # a clock that was set back makes an attempt lie ahead: such a one says nothing
        since = [now - attempt for attempt in self.attempts if attempt <= now]
        return (not since or since[-1] >= APART) and sum(age < WINDOW for age in since) < PER_WINDOW


class KeyStore:
    """The keys of all trusted issuers. `groups` are issuers that are one pool: it is ready when one of them is.

    `now` gives seconds from any beginning. `on_change` is called when a set has changed. Raises ValueError for a URL
    that is neither https nor loopback.
    """

    def __init__(
        self,
        urls: Mapping[str, str],
        groups: Sequence[Sequence[str]],
        *,
        now: Clock,
        report: Report,
        sleep: Callable[[float], Any] = asyncio.sleep,
        proxy: Proxy = NO_PROXY,
    ) -> None:
        for url in urls.values():
            _check_url(url)
        self.on_change: Callable[[], None] = lambda: None
        self._sources = {issuer: _Source(url) for issuer, url in urls.items()}
        self._groups = groups
        self._now = now
        self._report = report
        self._sleep = sleep
        self._tasks: set[asyncio.Task[None]] = set()
        self._downloads = Downloads(timeout=2.0, limit=MAX_SET, proxy=proxy)

    @property
    def ready(self) -> bool:
        """Return whether every pool has keys that may still be taken."""
        return all(any(self._usable(self._sources[issuer]) for issuer in group) for group in self._groups)

    def ages(self) -> dict[str, float]:
        """Seconds since the last good fetch of each issuer's set, of those that have one."""
        now = self._now()
        return {issuer: now - source.good_at for issuer, source in self._sources.items() if source.keys}

    def adopt(self, other: KeyStore) -> None:
        """Take over the sets that another store has of the same issuers at the same places, as old as they are."""
        for issuer, source in self._sources.items():
            known = other._sources.get(issuer)
            if known is not None and known.url == source.url and known.keys:
                source.keys, source.document = known.keys, known.document
                source.good_at, source.last_good = known.good_at, known.last_good

    async def warm(self) -> None:
        """Fetch the first issuer of each pool, and keep trying in the background until each has keys."""
        first = [self._sources[group[0]] for group in self._groups]
        await asyncio.gather(*(self._fetch(source) for source in first))
        for source in first:
            self._want(source)

    async def troubles(self) -> list[dict[str, str]]:
        """Fetch the set at each URL once, and keep none: for each pool URL -> why its set cannot be used, "" where it
        can."""
        urls = list(dict.fromkeys(source.url for source in self._sources.values()))
        found = dict(zip(urls, await asyncio.gather(*map(self._trouble, urls)), strict=True))
        return [{(url := self._sources[issuer].url): found[url] for issuer in group} for group in self._groups]

    async def _trouble(self, url: str) -> str:
        try:
            await self._set_at(url)
        except _BadSet as error:
            return f"{error.fault} {error.detail}".strip()
        return ""

    async def find(self, issuer: str, kid: str) -> PyJWK:
        """The key of an issuer. Raises Refused: TOKEN_INVALID for a kid it does not have, KEYS_UNAVAILABLE."""
        source = self._sources[issuer]
        key = source.keys.get(kid)
        if key is not None and self._usable(source):
            return key
        if source.flight is not None or source.may_fetch(self._now()):
            await self._fetch(source)
        if self._usable(source):
            # a key server that never gave a set is asked on demand only: anybody can name an issuer in a token
            self._want(source)
        key = source.keys.get(kid)
        if not self._usable(source) or (key is None and not source.last_good):
            raise Refused(Code.KEYS_UNAVAILABLE, f"the issuer's keys could not be fetched: {source.trouble}")
        if key is None:
            raise Refused(Code.TOKEN_INVALID, "kid: not one of the issuer's keys")
        return key

    def _usable(self, source: _Source) -> bool:
        return bool(source.keys) and self._now() - source.good_at < STALE_AFTER

    def _want(self, source: _Source) -> None:
        """From now on the set is refreshed in the background."""
        if not source.wanted:
            source.wanted = True
            self._spawn(self._refresh(source))

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _refresh(self, source: _Source) -> None:
        backoff = FIRST_BACKOFF
        while True:
            if source.last_good:
                backoff = FIRST_BACKOFF
                await self._sleep(REFRESH_EVERY)
            else:
                # jitter, so that a fleet does not come back to a key server all at once
                await self._sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                backoff = min(backoff * 2, MAX_BACKOFF)
            await self._fetch(source)

    async def _fetch(self, source: _Source) -> None:
        """A fetch that all waiters share; a waiter that gives up does not cancel it."""
        if source.flight is None:
            source.attempts.append(self._now())
            source.flight = self._spawn(self._load(source))
            source.flight.add_done_callback(lambda _: setattr(source, "flight", None))
        # not awaited itself: neither does a waiter who leaves cancel it, nor does its end cancel the waiters
        await asyncio.wait([source.flight])

    async def _load(self, source: _Source) -> None:
        try:
            document, keys = await self._set_at(source.url)
        except _BadSet as error:
            self._failed(source, error.fault, error.detail)
        else:
            source.trouble = ""
            changed, source.document = document != source.document, document
            source.keys, source.good_at, source.last_good = keys, self._now(), True
            if changed:
                self.on_change()

    async def _set_at(self, url: str) -> tuple[Any, dict[str, PyJWK]]:
        """A set as it was sent, and its usable keys. Raises _BadSet."""
        try:
            async with asyncio.timeout(FETCH_WITHIN):
                document = await self._download(url)
            return document, self._keys_in(document)
        except _BadSet:
            raise
        except (TimeoutError, httpx.TimeoutException):
            raise _BadSet("timeout", "no set in time") from None
        except Exception as error:  # noqa: BLE001 - whatever it was, there is no new set, and the next fetch must still come
            raise _BadSet("unavailable", f"{reason_of(error)}: {error}") from None

    def _failed(self, source: _Source, fault: str, detail: str) -> None:
        source.last_good, source.trouble = False, f"{fault} {detail}".strip()
        log.warning("no new key set from %s: %s %s", source.url, fault, detail)
        self._report("jwks", fault)
        if source.keys:
            self._report("jwks", "stale")

    async def _download(self, url: str) -> Any:
        """Raises _BadSet, httpx.HTTPError."""
        request = httpx.Request("GET", url, headers={"accept": "application/json"})
        try:
            answer = await self._downloads.ask(request, _judge)
        except Unusable as error:
            raise _BadSet("bad_set", str(error)) from None
        try:
            return strict_json.loads(answer.body)
        except ValueError as error:
            raise _BadSet("bad_set", str(error)) from None

    def _keys_in(self, document: Any) -> dict[str, PyJWK]:
        """The usable keys of a set. Raises _BadSet, so that a set is taken whole or not at all."""
        entries = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise _BadSet("bad_set", "no list of keys")
        keys: dict[str, PyJWK] = {}
        for entry in entries:
            key = _usable_key(entry)
            if key is None:
                self._report("jwks", "key_rejected")
            elif key[0] in keys:
                raise _BadSet("bad_set", "two keys of one id")
            else:
                keys[key[0]] = key[1]
        if not keys:
            raise _BadSet("bad_set", "no usable key")
        return keys

    async def aclose(self) -> None:
        """Stop refreshing, and close."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._downloads.aclose()


def _judge(response: httpx.Response) -> None:
    if response.is_redirect:
        raise _BadSet("redirect")
    if response.status_code != httpx.codes.OK:
        raise _BadSet("status", str(response.status_code))


def _usable_key(entry: Any) -> tuple[str, PyJWK] | None:
    """(kid, key) of a set's entry: RSA of 2048 bits at least, for signatures by RS256; None for any other."""
    if not isinstance(entry, dict) or (entry.get("kty"), entry.get("use"), entry.get("alg")) != ("RSA", "sig", "RS256"):
        return None
    kid = entry.get("kid")
    if not isinstance(kid, str) or not _KID.fullmatch(kid) or "d" in entry:
        return None
    try:
        key = PyJWK(entry)
    except (PyJWTError, ValueError, TypeError):
        return None
    return (kid, key) if key.key.key_size in _BITS else None


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or (parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host))):
        raise ValueError(f"found the key URL {url!r}, expected https, or http on loopback")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
