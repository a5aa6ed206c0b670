"""Addresses of a server: its name is resolved again every 10 seconds, and each address has a breaker of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain, zip_longest

from sidecar.net.breaker import Breaker
from sidecar.net.connection import Fault
from sidecar.net.faults import reason_of
from sidecar.record.reasons import Reason

EVERY = 10.0
"""Seconds that an answer of the name server is good for; the system's resolver does not tell its time to live."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Port: the addresses of a host, with its port for services that have one. Raises OSError, ValueError."""


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """Resolve as every program on this machine does, /etc/hosts included."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]


class Endpoint:
    """One address, or the path of a unix socket. `failed_at` is when connecting failed last, in the loop's time, and
    `trouble` how."""

    __slots__ = ("breaker", "failed_at", "host", "trouble")

    def __init__(self, host: str, breaker: Breaker | None) -> None:
        self.host = host
        self.breaker = breaker
        self.failed_at = -math.inf
        self.trouble = ""

    def allows(self) -> bool:
        """Return whether it may be tried now; whoever tries says how it ended."""
        return self.breaker is None or self.breaker.allows()

    def succeeded(self) -> None:
        """There is a connection."""
        self.failed_at = -math.inf
        if self.breaker is not None:
            self.breaker.succeeded()

    def failed(self, now: float, trouble: str) -> None:
        """There is none."""
        self.failed_at, self.trouble = now, trouble
        if self.breaker is not None:
            self.breaker.failed()


class Addresses:
    """The addresses of `host`: of an address, itself; of a name, what `resolve` says of it.

    `breaker` makes the breaker of each address, and the one of the name. As long as there are `connections`, the name
    is resolved in the background, and `changed` is told of the addresses that it has from now on.
    """

    def __init__(
        self, host: str, port: int, *, is_path: bool, resolve: Resolve, breaker: Callable[[], Breaker] | None,
        connections: Iterable[object], changed: Callable[[frozenset[str]], None],
    ) -> None:  # fmt: skip
        self._host, self._port = host, port
        self._resolve = resolve
        self._breaker = breaker
        self._connections = connections
        self._changed = changed
        self._known: dict[str, Endpoint] = {}
        self._of_name = breaker() if breaker is not None else None
        self._fresh_until = -math.inf
        self._fault = Fault(Reason.NAME_NOT_FOUND)
        self._flight: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        if is_path or _is_address(host):
            self._known, self._fresh_until = {host: self._new(host)}, math.inf

    @property
    def is_open(self) -> bool:
        """Return whether the breakers turn requests away."""
        breakers = [address.breaker for address in self._known.values()] or [self._of_name]
        return all(breaker is not None and breaker.is_open for breaker in breakers)

    async def current(self, deadline: float) -> list[Endpoint]:
        """The addresses, in the order in which to try them. Raises Fault."""
        now = asyncio.get_running_loop().time()
        if not self._known or now >= self._fresh_until:
            await self._refresh(now, deadline)
        self._follow()
        # one that has failed is the last one, until that is long ago
        return sorted(self._known.values(), key=lambda each: each.failed_at if now - each.failed_at < EVERY else -1)

    def _new(self, host: str) -> Endpoint:
        return Endpoint(host, self._breaker() if self._breaker is not None else None)

    # --- resolving ---

    async def _refresh(self, now: float, deadline: float) -> None:
        """Wait for an answer. Where the name server has none, an old one stands. Raises Fault where there is none."""
        if self._known:
            await self._wait((deadline - now) / 2)
            self._fresh_until = max(self._fresh_until, now + EVERY)
        elif self._of_name is not None and not self._of_name.allows():
            raise Fault(Reason.BREAKER_OPEN, str(self._fault))
        elif not await self._wait(deadline - now):
            self._fail(Fault(Reason.DNS_TIMEOUT, f"{self._host}: no address in time"))
        if not self._known:
            if self._of_name is not None:
                self._of_name.failed()
            raise Fault(self._fault.reason, self._fault.detail)

    async def _wait(self, seconds: float) -> bool:
        """Wait for the answer to come; whoever leaves does not take it from the others."""
        done, _ = await asyncio.wait([self._ask()], timeout=max(seconds, 0.0))
        return bool(done)

    def _ask(self) -> asyncio.Task[None]:
        if self._flight is None:
            self._flight = asyncio.get_running_loop().create_task(self._load())
            self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, _: asyncio.Task[None]) -> None:
        self._flight = None

    async def _load(self) -> None:
        try:
            hosts = await self._resolve(self._host, self._port)
            if not hosts:
                raise socket.gaierror(socket.EAI_NONAME, "no address")
        except (OSError, ValueError) as error:
            self._fail(Fault(reason_of(error), f"{self._host}: {error}"))
        else:
            self._put(_interleaved(hosts))
        self._fresh_until = asyncio.get_running_loop().time() + EVERY

    def _fail(self, fault: Fault) -> None:
        self._fault = fault
        if fault.reason is Reason.NAME_NOT_FOUND:
            # what was its address may be another's by now
            self._put([])

    def _put(self, hosts: Sequence[str]) -> None:
        before = self._known
        self._known = {host: before.get(host) or self._new(host) for host in hosts}
        if self._known and self._of_name is not None:
            self._of_name.succeeded()
        if before.keys() - self._known.keys():
            self._changed(frozenset(self._known))

    def _follow(self) -> None:
        if self._timer is None and self._fresh_until < math.inf:
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if any(True for _ in self._connections):
            self._ask()
            self._follow()

    async def aclose(self) -> None:
        """Resolve no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _interleaved(hosts: Sequence[str]) -> list[str]:
    """The same addresses, each once, with the families in turn (RFC 8305 section 4)."""
    first = ":" in hosts[0]
    pairs = zip_longest([h for h in hosts if (":" in h) == first], [h for h in hosts if (":" in h) != first])
    return list(dict.fromkeys(host for host in chain.from_iterable(pairs) if host is not None))
