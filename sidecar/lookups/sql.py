"""Lookup source for SQL statements: a few connections to each database, which only read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecar.bounded import Bounded
from sidecar.gate.lookup import Call, Lookup, Reply
from sidecar.gate.statement import Database, Statement
from sidecar.lookups.asking import MAX_RUNNING
from sidecar.net.connection import Fault
from sidecar.net.shares import Asker, Shares
from sidecar.record.reasons import Reason

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from sidecar.lookups.driver import Driver, PreparedStatement, Rows

IDLE = 60.0
"""Seconds after which a connection that nobody used is closed."""
CLOSE_WITHIN = 2.0
"""Seconds to take leave of a database."""
KILL_AGAIN = 0.05
"""Seconds to wait until a connection that runs a statement is ended again."""
PREPARED = 1024 * 1024
"""Bytes of the statements that are kept in the words of their databases: those of an earlier route file make room."""


class _Open(NamedTuple):
    """One connection: SQLAlchemy's, and the driver's in it, which is asked: that costs a quarter."""

    whole: AsyncConnection
    driver: Any
    used: float


class SqlSource:
    """A `Source`: asks databases, each by `most` connections at most for lookups of one timeout."""

    places = MAX_RUNNING
    """They wait for connections, which lookups share."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: dict[tuple[str, float], _Connections] = {}
        self._prepared: Bounded[tuple[str, str, int], PreparedStatement] = Bounded(PREPARED)

    async def ask(self, call: Call, seconds: float) -> Reply:
        """Run the statement of a call. Raises Fault, and Refused for a value that the database does not take."""
        from sidecar.lookups.driver import places_for, prepared
        from sidecar.lookups.rows import reply_of, reply_of_many

        statement = call.lookup.inquiry
        if not isinstance(statement, Statement):
            raise TypeError(f"lookups.{call.lookup.name}: not a statement")
        connections = self._connections_to(statement.database, call.lookup.timeout)
        ids = places_for(len(call.ids))
        key = (call.lookup.name, statement.source, ids)
        known = self._prepared.get(key)
        if known is None:
            known = prepared(statement, connections.driver, ids)
            self._prepared.put(key, known)
        found = await connections.ask(known, known.values(connections.driver, call.question), call.asker, seconds)
        return reply_of_many(found.names, found.rows) if call.ids else reply_of(found.names, found.rows)

    def _connections_to(self, database: Database, timeout: float) -> _Connections:
        key = _key_of(database, timeout)
        known = self._connections.get(key)
        if known is None:
            from sidecar.lookups.drivers import driver_of

            known = self._connections[key] = _Connections(driver_of(database, timeout), self._most)
        return known

    async def retain(self, lookups: Collection[Lookup]) -> None:
        """Close the connections to other databases than theirs, and those of other timeouts."""
        used = {_key_of(one.inquiry.database, one.timeout) for one in lookups if isinstance(one.inquiry, Statement)}
        for gone in self._connections.keys() - used:
            await self._connections.pop(gone).aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        for connections in self._connections.values():
            await connections.aclose()


def _key_of(database: Database, timeout: float) -> tuple[str, float]:
    # the server ends a statement after the timeout of its session
    return database.variable, timeout


class _Connections:
    """At most `most` connections to one database, shared fairly among askers. One that was left in the middle of a
    statement is never used again, and has its place until it is closed."""

    def __init__(self, driver: Driver, most: int) -> None:
        self.driver = driver
        self._places = Shares(most, MAX_RUNNING)
        self._idle: list[_Open] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None

    async def ask(self, prepared: PreparedStatement, values: list[Any], asker: Asker, seconds: float) -> Rows:
        """Run a statement within so many seconds. Raises Fault or Refused."""
        stage = [Reason.CONNECTION_LIMIT_REACHED]
        deadline = asyncio.get_running_loop().time() + max(seconds, 0.0)
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    await self._place(asker, deadline)
                    rows = await self._try(prepared, values, asker, stage)
                    if rows is not None:
                        return rows
        except TimeoutError:
            raise Fault(stage[0]) from None

    async def _place(self, asker: Asker, deadline: float) -> None:
        """Take a place, in turn with other askers. Raises Fault."""
        if not self._places.take(asker) and not await self._places.wait(asker, deadline):
            raise Fault(Reason.CONNECTION_LIMIT_REACHED)

    async def _try(
        self, prepared: PreparedStatement, values: list[Any], asker: Asker, stage: list[Reason]
    ) -> Rows | None:
        """Ask once, in a place; None where a connection that was used before has ended meanwhile, as after a
        restart."""
        from sidecar.lookups.driver import fault_of

        used = self._idle.pop() if self._idle else None
        connection = used
        try:
            if connection is None:
                stage[0] = Reason.CONNECTION_TIMEOUT
                connection = await self._open()
            stage[0] = Reason.DATABASE_TIMEOUT
            rows = await self.driver.fetch(connection.driver, prepared.sql, values)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises is no answer
            fault, ended = fault_of(self.driver, error)
            self._end(connection, asker) if ended or connection is None else self._keep(connection, asker)
            if ended and used is not None:
                stage[0] = Reason.CONNECTION_LIMIT_REACHED
                return None
            raise fault from None
        except BaseException:
            self._end(connection, asker)
            raise
        self._keep(connection, asker)
        return rows

    async def _open(self) -> _Open:
        whole = self.driver.engine.connect()
        await whole.start()
        try:
            driver = (await whole.get_raw_connection()).driver_connection
            await self.driver.prepare(driver)
        except BaseException:
            self._spawn(self._close(whole))
            raise
        return _Open(whole, driver, 0.0)

    def _keep(self, connection: _Open, asker: Asker) -> None:
        """Take a connection back, and its place."""
        loop = asyncio.get_running_loop()
        self._idle.append(connection._replace(used=loop.time()))
        self._places.give_back(asker)
        if self._alarm is None:
            self._alarm = loop.call_later(IDLE, self._close_idle, loop)

    def _close_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = None
        since = loop.time() - IDLE
        for connection in [each for each in self._idle if each.used <= since]:
            self._idle.remove(connection)
            self._spawn(self._close(connection.whole))
        if self._idle:
            self._alarm = loop.call_at(self._idle[0].used + IDLE, self._close_idle, loop)

    def _end(self, connection: _Open | None, asker: Asker) -> None:
        """Give up a connection; its place is free when it is closed."""
        if connection is None:
            self._places.give_back(asker)
        else:
            self._spawn(self._kill(connection, asker))

    async def _kill(self, connection: _Open, asker: Asker) -> None:
        closing = asyncio.ensure_future(connection.whole.close())
        while not closing.done():
            # a thread that has not begun with a statement does not hear that it ends
            with contextlib.suppress(Exception):
                await self.driver.kill(connection.driver)
            await asyncio.wait({closing}, timeout=KILL_AGAIN)
        closing.exception()
        self._places.give_back(asker)

    async def _close(self, whole: AsyncConnection) -> None:
        # nobody is told of a fault: it is not used again
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_WITHIN):
                await whole.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Close all that is idle, and wait for what is being closed."""
        if self._alarm is not None:
            self._alarm.cancel()
        while self._idle:
            self._spawn(self._close(self._idle.pop().whole))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.driver.engine.dispose()
