"""Connects to a server: its addresses in turn, and the next one beside a slow one (RFC 8305, "Happy Eyeballs")."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sidecar.net.addresses import Addresses, Endpoint
from sidecar.net.connection import Connection, Fault
from sidecar.net.faults import reason_of, said_by
from sidecar.record.reasons import Reason

NEXT_AFTER = 0.25
"""Seconds until the next address is tried beside one that has not answered (RFC 8305 section 5)."""

Made = TypeVar("Made", bound=Connection[Any])
Make = Callable[[Endpoint], Made]
"""Makes the protocol of a connection that is to be opened, and takes its place. Raises Fault where there is none."""


@dataclass(frozen=True, slots=True)
class Dialer:
    """`port` is None for unix sockets; `tls` with the `server_name` that is asked for and checked; `within` are the
    seconds for a connection, whatever has to be tried. `has_room` tells whether one more may be opened beside another.
    """

    addresses: Addresses
    port: int | None
    tls: ssl.SSLContext | None
    server_name: str
    within: float
    has_room: Callable[[], bool]

    async def dial(self, make: Make[Made]) -> Made:
        """Open a connection. Raises Fault."""
        deadline = asyncio.get_running_loop().time() + self.within
        addresses = await self.addresses.current(deadline)
        if len(addresses) > 1:
            return await self._race(addresses, make, deadline)
        if not addresses[0].allows():
            raise _turned_away(addresses)
        return await self._connect(addresses[0], make, deadline)

    async def _race(self, addresses: list[Endpoint], make: Make[Made], deadline: float) -> Made:
        """Try them in turn; the first connection wins."""
        waiting = deque(addresses)
        running: dict[asyncio.Task[Made], Endpoint] = {}
        faults: list[Fault] = []
        winner: asyncio.Task[Made] | None = None
        try:
            while winner is None:
                self._start_next(waiting, running, make, deadline)
                if not running:
                    raise _all_of(faults) if faults else _turned_away(addresses)
                patience = NEXT_AFTER if waiting else None
                done, _ = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is None:
                        winner = task
                    else:
                        del running[task]
                        faults.append(_fault_of(task))
            del running[winner]
            return winner.result()
        finally:
            self._abandon(running, slower=winner is not None)

    def _start_next(
        self, waiting: deque[Endpoint], running: dict[asyncio.Task[Made], Endpoint], make: Make[Made], deadline: float
    ) -> None:  # fmt: skip
        """Begin with the next address that may be tried."""
        loop = asyncio.get_running_loop()
        while waiting and (not running or self.has_room()):
            address = waiting.popleft()
            if address.allows():
                running[loop.create_task(self._connect(address, make, deadline))] = address
                return

    def _abandon(self, running: dict[asyncio.Task[Made], Endpoint], *, slower: bool) -> None:
        """Give up what has not won; an address that was `slower` comes last from now on."""
        for task, address in running.items():
            if not task.cancel() and task.exception() is None:
                task.result().give_up()
            elif slower:
                address.failed_at = asyncio.get_running_loop().time()

    async def _connect(self, address: Endpoint, make: Make[Made], deadline: float) -> Made:
        """Open a connection to one address. Raises Fault."""
        loop = asyncio.get_running_loop()
        connection = make(address)
        try:
            async with asyncio.timeout_at(deadline):
                if self.port is None:
                    await loop.create_unix_connection(lambda: connection, address.host)
                else:
                    name = self.server_name if self.tls is not None else None
                    await loop.create_connection(
                        lambda: connection, address.host, self.port, ssl=self.tls, server_hostname=name
                    )
        except (OSError, ValueError) as error:
            connection.give_up()
            fault = self._fault(address, error)
            address.failed(loop.time(), str(fault))
            raise fault from None
        except BaseException:
            # the loop may have made the connection, and does not always say then that it lost it
            connection.give_up()
            raise
        address.succeeded()
        return connection

    def _fault(self, address: Endpoint, error: Exception) -> Fault:
        timeout = isinstance(error, TimeoutError) and error.errno is None
        said = f"no connection within {self.within:g} s" if timeout else said_by(error)
        return Fault(reason_of(error), f"{address.host}: {said}")


def _fault_of(task: asyncio.Task[Any]) -> Fault:
    error = task.exception()
    if isinstance(error, Fault):
        return error
    raise error or RuntimeError("a connection that was made")


def _all_of(faults: list[Fault]) -> Fault:
    """The fault of the last address, with what is known of the others."""
    return Fault(faults[-1].reason, "; ".join(fault.detail for fault in faults))


def _turned_away(addresses: list[Endpoint]) -> Fault:
    return Fault(Reason.BREAKER_OPEN, "; ".join(address.trouble for address in addresses))
