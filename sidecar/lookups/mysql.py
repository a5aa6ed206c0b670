"""MySQL and MariaDB by aiomysql, which puts values into the text of a statement: it escapes them as UTF-8."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

from sidecar.gate.statement import Binding
from sidecar.gate.verdict import Refused
from sidecar.lookups.driver import NAME, Driver, Rows, UnusableDatabase, milliseconds
from sidecar.net.connection import Fault
from sidecar.net.faults import reason_of
from sidecar.record.reasons import Reason

_AUTH = frozenset((1045, 1251, 1698))
_PRIVILEGE = frozenset((1044, 1142, 1143, 1227, 1370))
_UNKNOWN = frozenset((1049,))
_LATE = frozenset((1205, 1317, 1969, 3024))
_FULL = frozenset((1040, 1203, 1226))
_DOWN = frozenset((1053, 1077, 1129, 1130, 1152, 1927))
_NAMES = frozenset((1052, 1054, 1060, 1109, 1146, 1305))
"""Errors that name a table, a column or a function, and no value."""


def _cursor_class() -> type[Any]:
    from aiomysql import Cursor

    class Quiet(Cursor):  # type: ignore[misc]
        """One that asks for no warnings, which would be a second question, with values of the request in its answer."""

        async def _show_warnings(self, conn: Any) -> None:
            pass

    return Quiet


_CLIENT_SSL = 0x800
"""The flag of a server that can do TLS (https://mariadb.com/kb/en/connection/)."""


_IN_CLEAR = "mysql_clear_password"


async def _connect(**arguments: Any) -> Any:
    """Connect, and say nothing in the clear that has to be secret. aiomysql goes on where a server, or who stands
    before it, offers no TLS, and sends the password as it is to whoever asks for it so."""
    from aiomysql import Connection

    class Careful(Connection):  # type: ignore[misc]
        """One that asks for what it was told to, or ends."""

        async def _request_authentication(self) -> None:
            by_tls = self._ssl_context is not None
            if by_tls and not self.server_capabilities & _CLIENT_SSL:
                raise Fault(Reason.NOT_TLS, "the server offers no TLS, and the URL asks for it")
            _require_secret(self._server_auth_plugin, secure=by_tls or self._secure)
            await super()._request_authentication()

        async def _process_auth(self, plugin_name: bytes, auth_packet: Any) -> Any:
            _require_secret(plugin_name.decode("latin-1"), secure=self._secure)
            return await super()._process_auth(plugin_name, auth_packet)

    connection = Careful(**arguments)
    await connection._connect()  # noqa: SLF001 - as aiomysql.connect does
    return connection


def _require_secret(plugin: str, *, secure: bool) -> None:
    """Raise Fault for a way to sign in that sends the password as it is, where others may read it."""
    if plugin == _IN_CLEAR and not secure:
        raise Fault(Reason.NOT_TLS, "the server asks for the password in the clear, expected TLS in the URL: `ssl_ca`")


class MySql(Driver):
    """Both servers; only their words for a time limit differ."""

    module, extra = "aiomysql", "sql-mysql"
    parameters = (
        "ssl", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_check_hostname", "ssl_cipher", "unix_socket", "host",
        "user", "password", "charset", "use_unicode", "connect_timeout", "sql_mode", "init_command", "client_flag",
        "auth_plugin", "server_public_key", "read_default_file", "read_default_group", "local_infile",
    )  # fmt: skip

    def _options(self) -> dict[str, Any]:
        options = {
            "autocommit": True, "charset": "utf8mb4", "program_name": NAME, "local_infile": False,
            "cursorclass": _cursor_class(), "async_creator_fn": _connect,
        }  # fmt: skip
        tls = self._tls()
        return options if tls is None else {**options, "ssl": tls}

    def _tls(self) -> ssl.SSLContext | None:
        _, found = self.url.get_dialect()().create_connect_args(self.url)
        given = found.get("ssl")
        if given is None or str(given).lower() in ("0", "false"):
            return None
        files = given if isinstance(given, dict) else {}
        try:
            context = ssl.create_default_context(cafile=files.get("ca"), capath=files.get("capath"))
            context.check_hostname = files.get("check_hostname", True) is not False
            if "cert" in files:
                context.load_cert_chain(files["cert"], files.get("key"))
        except OSError as error:
            raise UnusableDatabase(
                f"found `ssl_…` in the URL that cannot be used ({type(error).__name__}), expected PEM files"
            ) from None
        return context

    async def prepare(self, connection: Any) -> None:
        """Let the session read only, and no longer than the lookup may."""
        mariadb = "mariadb" in connection.get_server_info().lower()
        limit = (
            f"max_statement_time = {milliseconds(self.seconds) / 1000}"
            if mariadb
            else f"max_execution_time = {milliseconds(self.seconds)}"
        )
        await connection.query("SET SESSION TRANSACTION READ ONLY")
        await connection.query(f"SET SESSION {limit}")

    async def fetch(self, connection: Any, sql: str, values: Sequence[Any]) -> Rows:
        """Run a statement."""
        async with connection.cursor() as cursor:
            await cursor.execute(sql, tuple(values))
            return Rows([column[0] for column in cursor.description or ()], await cursor.fetchall())

    async def kill(self, connection: Any) -> None:
        """Close the socket."""
        connection.close()

    def mark(self, position: int, kind: Binding) -> str:
        """Return `%s`."""
        return "%s"

    def literal(self, sql: str) -> str:
        """Return SQL with its percent signs doubled."""
        return sql.replace("%", "%%")

    def read(self, error: BaseException) -> tuple[Fault | Refused, bool] | None:
        """Read a number: https://mariadb.com/kb/en/mariadb-error-codes/."""
        if not type(error).__module__.startswith("pymysql."):
            return None
        number = error.args[0] if error.args and type(error.args[0]) is int else 0
        detail = f"error {number}"
        if number in (0, 2002, 2003, 2005, 2006, 2013, 2014, 2027, 2055):
            reason = reason_of(error)
            return Fault(
                Reason.CONNECTION_TERMINATED if reason is Reason.CONNECTION_FAILED else reason, detail
            ), True  # fmt: skip
        for numbers, reason, ended in (
            (_AUTH, Reason.DATABASE_AUTH, True),
            (_PRIVILEGE, Reason.DATABASE_PRIVILEGE, number not in (1142, 1143, 1370)),
            (_UNKNOWN, Reason.DATABASE_NOT_FOUND, True),
            (_LATE, Reason.DATABASE_TIMEOUT, False),
            (_FULL, Reason.DATABASE_FULL, True),
            (_DOWN, Reason.DATABASE_UNAVAILABLE, True),
        ):
            if number in numbers:
                return Fault(reason, detail), ended
        said = f"{detail}: {error.args[1]}" if number in _NAMES else detail
        return Fault(Reason.STATEMENT_INVALID, said), False
