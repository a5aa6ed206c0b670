"""The driver of a database, where its packages are installed and its URL can be used."""

from __future__ import annotations

from sidecar.gate.statement import Database, Dialect
from sidecar.lookups.driver import Driver, UnusableDatabase
from sidecar.lookups.mysql import MySql
from sidecar.lookups.postgresql import Postgres
from sidecar.lookups.sqlite import Sqlite

_DRIVERS: dict[Dialect, type[Driver]] = {
    Dialect.POSTGRESQL: Postgres,
    Dialect.MYSQL: MySql,
    Dialect.SQLITE: Sqlite,
}


def driver_of(database: Database, seconds: float) -> Driver:
    """The driver of a database, for statements that take so many seconds at most. Raises UnusableDatabase."""
    kind = _DRIVERS[database.dialect]
    try:
        return _made(kind, database.url, seconds)
    except UnusableDatabase:
        raise
    except ImportError as error:
        raise UnusableDatabase(
            f"found no module {error.name!r}, expected it for this kind of database: pip install '.[{kind.extra}]'"
        ) from None
    except Exception as error:  # noqa: BLE001 - a library's word about a URL may have the URL in it
        raise UnusableDatabase(f"found what cannot be used ({type(error).__name__}), {_EXPECTED}") from None


def _made(kind: type[Driver], text: str, seconds: float) -> Driver:
    import sqlalchemy.ext.asyncio
    from sqlalchemy.exc import ArgumentError

    try:
        url = sqlalchemy.make_url(text)
    except (ArgumentError, ValueError):
        raise UnusableDatabase(f"found what is no URL, {_EXPECTED}") from None
    if url.drivername.partition("+")[2] not in ("", kind.module):
        raise UnusableDatabase(f"found a URL for another driver, expected '+{kind.module}' in it, or none")
    return kind(url, seconds)


_EXPECTED = (
    "expected a URL such as postgresql://user:password@host:5432/database: percent-encode what is special in a user or "
    "a password"
)
