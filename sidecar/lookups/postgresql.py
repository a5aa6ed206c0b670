"""PostgreSQL by asyncpg."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sidecar.gate.codes import Code
from sidecar.gate.statement import Binding
from sidecar.gate.verdict import Refused
from sidecar.lookups.driver import NAME, Driver, Rows, UnusableDatabase, milliseconds
from sidecar.lookups.rows import JsonColumn
from sidecar.net.connection import Fault
from sidecar.record.reasons import Reason

_TYPES = {
    Binding.STRING: "text", Binding.INT: "bigint", Binding.NUMBER: "numeric", Binding.BOOL: "boolean",
    Binding.UUID: "uuid",
}  # fmt: skip
_VALUES = frozenset(("22P02", "22P03", "22003", "22007", "22008", "22021"))
"""States that say of a value that its type does not have it."""
_OF_TYPES = frozenset(("42883", "42804"))
_UNDECLARED = "; a parameter is bound as a text, or as the type that `parameters` declares, such as {id:int}"


_POOLER, _TRANSACTION = "pooler", "transaction"
_POOLED = f"a pooler that takes no settings of a session, expected `{_POOLER}={_TRANSACTION}` in the URL"
_TLS = ("ssl", "sslmode", "sslrootcert", "sslcert", "sslkey")
"""Words of a URL about TLS, as libpq has them; `ssl` is asyncpg's word for `sslmode`."""

_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_CA = "`sslrootcert`: a PEM file, or `system`"


def _has_default_ca() -> bool:
    return Path(os.environ.get("PGSSLROOTCERT") or Path.home() / ".postgresql" / "root.crt").is_file()


def _tls(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what asyncpg is told of TLS. Raises UnusableDatabase."""
    mode = said["ssl"] or said["sslmode"]
    files = [name for name in ("sslrootcert", "sslcert", "sslkey") if said[name] is not None]
    if mode is not None and mode not in _MODES:
        raise UnusableDatabase(f"found ssl={mode!r} in the URL, expected one of {', '.join(_MODES)}")
    if not files:
        if mode in ("verify-ca", "verify-full") and not _has_default_ca():
            raise UnusableDatabase(f"found `ssl={mode}` alone in the URL, expected `ssl=verify-full` and {_CA}")
        return {} if mode is None else {"ssl": mode}
    if mode != "verify-full":
        raise UnusableDatabase(f"found `{files[0]}` in the URL, expected `ssl=verify-full` beside it")
    try:
        file = said["sslrootcert"]
        context = ssl.create_default_context(cafile=None if file == "system" else file)
        if said["sslcert"] is not None:
            context.load_cert_chain(said["sslcert"], said["sslkey"])
    except OSError as error:
        raise UnusableDatabase(
            f"found `ssl…` in the URL that cannot be used ({type(error).__name__}), expected PEM files"
        ) from None
    return {"ssl": context}


class Postgres(Driver):
    """The server keeps each statement prepared, and binds values to it."""

    module, extra, numbered = "asyncpg", "sql-postgres", True
    parameters = (
        *_TLS, _POOLER, "host", "port", "user", "password", "database", "passfile", "service", "servicefile",
        "direct_tls", "target_session_attrs", "krbsrvname", "gsslib", "prepared_statement_cache_size",
    )  # fmt: skip

    def _options(self) -> dict[str, Any]:
        said = {name: self.url.query.get(name) for name in (_POOLER, *_TLS)}
        self.url = self.url.difference_update_query(said)
        if said[_POOLER] not in (None, _TRANSACTION):
            raise UnusableDatabase(f"found another `{_POOLER}` in the URL, expected `{_TRANSACTION}`, or none")
        self._pooled = said[_POOLER] is not None
        options = {**_tls(said), "server_settings": {"application_name": NAME}}
        if self._pooled:
            # what is prepared stays behind at one server, and the next statement may come to another
            return {**options, "statement_cache_size": 0}
        options["server_settings"] |= {
            "default_transaction_read_only": "on",
            "statement_timeout": str(milliseconds(self.seconds)),
        }
        return options

    async def prepare(self, connection: Any) -> None:
        """Tell columns of JSON from those of text."""
        for kind in ("json", "jsonb"):
            await connection.set_type_codec(kind, encoder=str, decoder=JsonColumn, schema="pg_catalog", format="text")

    async def fetch(self, connection: Any, sql: str, values: Sequence[Any]) -> Rows:
        """Run a statement, which the server keeps prepared."""
        if self._pooled:
            records = await self._in_transaction(connection, sql, values)
        else:
            records = await connection.fetch(sql, *values)
        return Rows(tuple(records[0].keys()) if records else (), [tuple(record.values()) for record in records])

    async def _in_transaction(self, connection: Any, sql: str, values: Sequence[Any]) -> Any:
        """Run a statement where a pooler may give each transaction another session, which it began by itself."""
        limit = milliseconds(self.seconds)
        await connection.execute(f"begin read only; set local statement_timeout = {limit}")
        try:
            records = await connection.fetch(sql, *values)
        except Exception:
            if not connection.is_closed():
                await connection.execute("rollback")
            raise
        await connection.execute("rollback")
        return records

    async def kill(self, connection: Any) -> None:
        """Close the socket."""
        connection.terminate()

    def mark(self, position: int, kind: Binding) -> str:
        """Return `$1::text` and its kin."""
        return f"${position}::{_TYPES[kind]}"

    def read(self, error: BaseException) -> tuple[Fault | Refused, bool] | None:
        """Read a SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html."""
        if type(error) is ConnectionError and "rejected SSL upgrade" in str(error):
            return Fault(Reason.NOT_TLS, "the server offers no TLS, and the URL asks for it"), True
        state = getattr(error, "sqlstate", None)
        if not isinstance(state, str) or type(error).__module__ != "asyncpg.exceptions":
            return None
        return _ended(state, error) or (_of_statement(state, error), False)


def _ended(state: str, error: BaseException) -> tuple[Fault, bool] | None:
    """Return a fault of the session, with which it ended; None for another."""
    detail = f"{state} {type(error).__name__}"
    if state[:2] == "28":
        return Fault(Reason.DATABASE_AUTH, detail), True
    if state == "08P01" and "startup parameter" in str(error):
        return Fault(Reason.DATABASE_UNAVAILABLE, f"{state}: {_POOLED}"), True
    if state[:2] in ("08", "53", "57", "58", "3D") and state != "57014":
        reasons = {"08": Reason.CONNECTION_TERMINATED, "53": Reason.DATABASE_FULL, "3D": Reason.DATABASE_NOT_FOUND}
        return Fault(reasons.get(state[:2], Reason.DATABASE_UNAVAILABLE), detail), True
    return None


def _of_statement(state: str, error: BaseException) -> Fault | Refused:
    detail = f"{state} {type(error).__name__}"
    if state in _VALUES:
        return Refused(Code.REFERENCE_INVALID, f"the database takes no such value of its type ({state})")
    if state == "57014":
        return Fault(Reason.DATABASE_TIMEOUT, detail)
    if state == "42501":
        return Fault(Reason.DATABASE_PRIVILEGE, detail)
    # what has a place in the statement's text is about that text. Functions have errors of class 42 too, about a
    # value: to_tsquery(:q), cast(:table as regclass)
    of_text = state[:2] == "42" and getattr(error, "position", None) is not None
    said = f"{state}: {getattr(error, 'message', '')}" if of_text else detail
    return Fault(Reason.STATEMENT_INVALID, f"{said}{_UNDECLARED if state in _OF_TYPES else ''}")
