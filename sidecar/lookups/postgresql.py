"""PostgreSQL by asyncpg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar.gate.codes import Code
from sidecar.gate.statement import Binding
from sidecar.gate.verdict import Refused
from sidecar.lookups.driver import NAME, Driver, Rows, milliseconds
from sidecar.lookups.rows import JsonText
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


class Postgres(Driver):
    """The server keeps each statement prepared, and binds values to it."""

    module, extra, numbered = "asyncpg", "sql-postgres", True

    def _options(self) -> dict[str, Any]:
        settings = {
            "default_transaction_read_only": "on",
            "statement_timeout": str(milliseconds(self.seconds)),
            "application_name": NAME,
        }
        return {"server_settings": settings}

    async def prepare(self, connection: Any) -> None:
        """Tell columns of JSON from those of text."""
        for kind in ("json", "jsonb"):
            await connection.set_type_codec(kind, encoder=str, decoder=JsonText, schema="pg_catalog", format="text")

    async def fetch(self, connection: Any, sql: str, values: Sequence[Any]) -> Rows:
        """Run a statement, which the server keeps prepared."""
        records = await connection.fetch(sql, *values)
        return Rows(tuple(records[0].keys()) if records else (), [tuple(record.values()) for record in records])

    async def kill(self, connection: Any) -> None:
        """Close the socket."""
        connection.terminate()

    def mark(self, position: int, kind: Binding) -> str:
        """Return `$1::text` and its kin."""
        return f"${position}::{_TYPES[kind]}"

    def read(self, error: BaseException) -> tuple[Fault | Refused, bool] | None:
        """Read a SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html."""
        state = getattr(error, "sqlstate", None)
        if not isinstance(state, str) or type(error).__module__ != "asyncpg.exceptions":
            return None
        detail = f"{state} {type(error).__name__}"
        if state in _VALUES:
            return Refused(Code.REFERENCE_INVALID, f"the database takes no such value of its type ({state})"), False
        if state == "57014":
            return Fault(Reason.DATABASE_TIMEOUT, detail), False
        if state == "42501" or state[:2] == "28":
            return Fault(Reason.DATABASE_AUTH, detail), state != "42501"
        if state[:2] in ("08", "53", "57", "58", "3D"):
            reasons = {"08": Reason.CONNECTION_TERMINATED, "53": Reason.DATABASE_FULL}
            return Fault(reasons.get(state[:2], Reason.DATABASE_UNAVAILABLE), detail), True
        # what has a place in the statement's text is about that text. Functions have errors of class 42 too, about a
        # value: to_tsquery(:q), cast(:table as regclass)
        of_text = state[:2] == "42" and getattr(error, "position", None) is not None
        said = f"{state}: {getattr(error, 'message', '')}" if of_text else detail
        return Fault(Reason.STATEMENT_INVALID, f"{said}{_UNDECLARED if state in _OF_TYPES else ''}"), False
