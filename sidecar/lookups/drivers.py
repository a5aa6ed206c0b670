"""The driver of a database, where its packages are installed and its URL can be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.gate.statement import Database, SqlDialect
from sidecar.lookups.driver import Driver, UnusableDatabase
from sidecar.lookups.mysql import MySql
from sidecar.lookups.postgresql import Postgres
from sidecar.lookups.sqlite import Sqlite

_DRIVERS: dict[SqlDialect, type[Driver]] = {
    SqlDialect.POSTGRESQL: Postgres,
    SqlDialect.MYSQL: MySql,
    SqlDialect.SQLITE: Sqlite,
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
    _require_known(url.query, text.partition("@")[2] if url.username is not None else text, kind.parameters)
    return kind(url, seconds)


def _require_known(query: Mapping[str, Any], behind: str, known: tuple[str, ...]) -> None:
    """Raise UnusableDatabase for a parameter that the driver does not have. `behind` is the URL without its user."""
    if "@" in behind.partition("?")[2]:
        # the end of a password may stand there, which no message may show
        raise UnusableDatabase(f"found `@` in the parameters of the URL, {_EXPECTED}")
    unknown = next((name for name in query if name not in known), None)
    if known and unknown is not None:
        raise UnusableDatabase(f"found {unknown[:40]!r} in the URL, expected of its parameters: {', '.join(known)}")


_EXPECTED = (
    "expected a URL such as postgresql://user:password@host:5432/database: percent-encode what is special in a user or "
    "a password"
)
