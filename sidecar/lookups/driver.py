"""Own part of each kind of database: how it is told to only read, and what its errors mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from sidecar.gate.lookup import ResourceField
from sidecar.gate.statement import Binding, Statement, asked_values
from sidecar.gate.verdict import Refused
from sidecar.net.connection import Fault
from sidecar.net.faults import reason_of

if TYPE_CHECKING:
    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

NAME = "authorization-sidecar"
"""Name of the sidecar in the database's list of sessions."""


class UnusableDatabase(ValueError):
    """Reason why a database cannot be asked, which nobody but its owner can mend. No secret of the URL is in it."""


class Rows(NamedTuple):
    """Names of columns, and rows of their values: two at most, or one more than the ids that were asked about."""

    names: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Driver(ABC):
    """One kind of database, which SQLAlchemy connects to. `options` is what its driver is told besides the URL. A
    connection is one of that driver."""

    module: str
    extra: str
    parameters: tuple[str, ...] = ()
    """Words of the URL's query that are known; none where the kind looks at its query itself."""
    numbered = False
    """A mark names its value, which may stand at several places then."""

    def __init__(self, url: URL, seconds: float) -> None:
        from sqlalchemy import NullPool
        from sqlalchemy.ext.asyncio import create_async_engine

        self.url = url.set(drivername=f"{url.get_backend_name()}+{self.module}")
        self.seconds = seconds
        self.options = self._options()
        self.engine: AsyncEngine = create_async_engine(
            self.url, poolclass=NullPool, pool_reset_on_return=None, isolation_level="AUTOCOMMIT",
            connect_args=self.options,
        )  # fmt: skip
        """It opens connections, and keeps none."""

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """Return the arguments of the driver that make a session which only reads. Raises UnusableDatabase."""

    @abstractmethod
    async def prepare(self, connection: Any) -> None:
        """Set what only a statement can in a new session."""

    @abstractmethod
    async def fetch(self, connection: Any, sql: str, values: Sequence[Any]) -> Rows:
        """Run a statement. Raises what the driver does."""

    @abstractmethod
    async def kill(self, connection: Any) -> None:
        """End a connection at once, whatever runs on it."""

    @abstractmethod
    def mark(self, position: int, kind: Binding) -> str:
        """Return what stands for a parameter."""

    def literal(self, sql: str) -> str:
        """Return SQL beside such marks."""
        return sql

    def value(self, kind: Binding, value: Any) -> Any:
        """Return a value of a question as the driver takes it."""
        return Decimal(repr(value)) if kind is Binding.NUMBER else value

    @abstractmethod
    def read(self, error: BaseException) -> tuple[Fault | Refused, bool] | None:
        """Read an error of the driver: what it means, and whether the connection ended with it. None for another."""


class PreparedStatement(NamedTuple):
    """A statement in the words of one driver, with places for so many `ids`, and which value of a question stands at
    each place."""

    sql: str
    order: tuple[tuple[int, Binding], ...]
    ids: int = 1

    def values(self, driver: Driver, question: str) -> list[Any]:
        """The values of a question, in the order of the places."""
        found = list[Any]()
        for value in asked_values(question):
            # the last id stands at all places that are left: it asks for nothing else
            found += [*value, *value[-1:] * (self.ids - len(value))] if isinstance(value, list) else [value]
        return [driver.value(kind, found[at]) for at, kind in self.order]


def places_for(ids: int) -> int:
    """The number of places for so many ids, a power of two: a server keeps ten statements instead of 500."""
    return 1 << max(ids - 1, 0).bit_length()


def prepared(statement: Statement, driver: Driver, ids: int = 1) -> PreparedStatement:
    """Put a statement in the words of a driver: as a table of its own, so that it cannot be anything but one SELECT,
    and of one row more than it may have, since more say no more than that."""
    places = dict[str, list[int]]()
    for each in statement.parameters:
        first = sum(map(len, places.values()))
        places[each.name] = [*range(first, first + (ids if each.value is ResourceField.IDS else 1))]
    sql, order = list[str](), list[tuple[int, Binding]]()
    if driver.numbered:
        order = [(at, each.type) for each in statement.parameters for at in places[each.name]]
    for part in statement.parts:
        if isinstance(part, str):
            sql.append(driver.literal(part))
            continue
        marks = ", ".join([driver.mark(at + 1, part.type) for at in places[part.name]])
        sql.append(f"({marks})" if part.value is ResourceField.IDS else marks)
        if not driver.numbered:
            order += [(at, part.type) for at in places[part.name]]
    # on lines of its own: what of it is text and what is a value, the gate has told apart
    return PreparedStatement(f"select * from (\n{''.join(sql)}\n) as asked limit {ids + 1}", tuple(order), ids)  # noqa: S608


def fault_of(driver: Driver, error: Exception) -> tuple[Fault | Refused, bool]:
    """Tell what an error means, and whether the connection ended with it. Nothing of the URL, the values or the rows
    is in it."""
    if isinstance(error, Fault):
        return error, True
    for each in _causes(error):
        found = driver.read(each)
        if found is not None:
            return found
    return Fault(reason_of(error), type(error).__name__), True


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def milliseconds(seconds: float) -> int:
    """A time as databases are told it: of 0 they would think that there is no limit."""
    return max(1, round(seconds * 1000))
