"""SQLite by aiosqlite: a file that is opened to be read, and a thread for each connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sidecar.gate.statement import Binding
from sidecar.gate.verdict import Refused
from sidecar.lookups.driver import Driver, Rows, UnusableDatabase
from sidecar.net.connection import Fault
from sidecar.record.reasons import Reason

_INTERRUPTED = sqlite3.SQLITE_INTERRUPT
_FULL = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))
_BROKEN = frozenset((
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_NOTADB,
))  # fmt: skip


class _AboutValue(sqlite3.OperationalError):
    """An error that a value of the request, or of a row, has brought about: its text may have that value in it."""

    sqlite_errorname = "SQLITE_ERROR"


class Sqlite(Driver):
    """A statement goes on in its thread when nobody waits for it, until it is interrupted."""

    module, extra = "aiosqlite", "sql-sqlite"

    def _options(self) -> dict[str, Any]:
        path = self.url.database or ""
        if path in ("", ":memory:") or path.startswith("file:") or self.url.query:
            raise UnusableDatabase(
                "found no plain path of a file, expected sqlite:////var/lib/app/app.db: it is opened with mode=ro"
            )
        self.url = self.url.set(
            database=f"file:{quote(str(Path(path).absolute()))}", query={"mode": "ro", "uri": "true"}
        )  # fmt: skip
        return {"timeout": self.seconds}

    async def prepare(self, connection: Any) -> None:
        """Let rows have the names of their columns."""
        connection.row_factory = sqlite3.Row

    async def fetch(self, connection: Any, sql: str, values: Sequence[Any]) -> Rows:
        """Run a statement, in the connection's thread."""
        try:
            rows = await connection.execute_fetchall(sql, values)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_ERROR:
                raise
            # compiled and not run, it has the same error where that is about its text alone
            await connection.execute_fetchall(f"explain {sql}", values)
            raise _AboutValue from None
        return Rows(rows[0].keys() if rows else (), rows)

    async def kill(self, connection: Any) -> None:
        """Break off what runs: a thread goes on without its caller."""
        await connection.interrupt()

    def mark(self, position: int, kind: Binding) -> str:
        """Return `?`."""
        return "?"

    def value(self, kind: Binding, value: Any) -> Any:
        """Return a value as SQLite has it."""
        return value

    def read(self, error: BaseException) -> tuple[Fault | Refused, bool] | None:
        """Read a result code: https://www.sqlite.org/rescode.html."""
        if not isinstance(error, sqlite3.Error):
            return None
        number = getattr(error, "sqlite_errorcode", 0) & 0xFF
        detail = getattr(error, "sqlite_errorname", type(error).__name__)
        if number in _FULL:
            return Fault(Reason.DATABASE_FULL, detail), False
        if number == _INTERRUPTED:
            return Fault(Reason.DATABASE_TIMEOUT, detail), True
        if number in _BROKEN:
            return Fault(Reason.DATABASE_UNAVAILABLE, detail), True
        # any other text may have a value or a part of a row in it
        return Fault(
            Reason.STATEMENT_INVALID, f"{detail}: {error}" if number == sqlite3.SQLITE_ERROR else detail
        ), False
