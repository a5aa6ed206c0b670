"""Statements in the words of each driver, and errors that tell nothing they should not."""

from __future__ import annotations

import pytest

from sidecar.gate.statement import Database, SqlDialect, parse_value, statement_of
from sidecar.lookups.driver import Driver, fault_of, milliseconds, places_for, prepared
from sidecar.lookups.drivers import driver_of
from sidecar.net.connection import Fault
from sidecar.record.reasons import Reason

URLS = {
    SqlDialect.POSTGRESQL: "postgresql://reader:s3cret@db.internal/app",
    SqlDialect.MYSQL: "mysql://reader:s3cret@db.internal/app",
    SqlDialect.SQLITE: "sqlite:////var/lib/app.db",
}
SQL = "select a::text as a, '50%' as b from t where id = :id and n = :n and x = :id"


def driver(dialect: SqlDialect) -> Driver:
    return driver_of(Database("APP_URL", URLS[dialect], dialect), 2.5)


@pytest.mark.parametrize(
    ("dialect", "sql", "values"),
    [
        (SqlDialect.POSTGRESQL, "select a::text as a, '50%' as b from t where id = $1::text and n = $2::bigint and x = $1::text", ["7", 5]),
        (SqlDialect.MYSQL, "select a::text as a, '50%%' as b from t where id = %s and n = %s and x = %s", ["7", 5, "7"]),
        (SqlDialect.SQLITE, "select a::text as a, '50%' as b from t where id = ? and n = ? and x = ?", ["7", 5, "7"]),
    ],
)  # fmt: skip
def test_a_statement_is_a_table_of_two_rows_at_most(dialect: SqlDialect, sql: str, values: list[object]) -> None:
    asked = driver(dialect)
    statement = statement_of(SQL, Database("APP_URL", URLS[dialect], dialect), {"n": parse_value("{claims.n:int}")})
    found = prepared(statement, asked)
    assert found.sql == f"select * from (\n{sql}\n) as asked limit 2"
    assert found.values(asked, '["7",5]') == values


@pytest.mark.parametrize(
    ("dialect", "sql", "values"),
    [
        (SqlDialect.POSTGRESQL, "id in ($2::bigint, $3::bigint, $4::bigint, $5::bigint) and k = $1::text", ["k", 7, 8, 9, 9]),
        (SqlDialect.MYSQL, "id in (%s, %s, %s, %s) and k = %s", [7, 8, 9, 9, "k"]),
        (SqlDialect.SQLITE, "id in (?, ?, ?, ?) and k = ?", [7, 8, 9, 9, "k"]),
    ],
)  # fmt: skip
def test_many_ids_have_places_of_their_own_and_the_last_one_those_that_are_left(
    dialect: SqlDialect, sql: str, values: list[object]
) -> None:
    asked = driver(dialect)
    text = "select id from t where id in :ids and k = :kind"
    statement = statement_of(text, Database("APP_URL", URLS[dialect], dialect), {"ids": parse_value("{ids:int}")})
    # PostgreSQL's marks are numbered in the order of the question
    statement = statement._replace(parameters=tuple(reversed(statement.parameters)))
    found = prepared(statement, asked, places_for(3))
    assert found.sql == f"select * from (\nselect id from t where {sql}\n) as asked limit 5"
    assert found.values(asked, '["k",[7,8,9]]') == values


def test_there_are_few_numbers_of_places() -> None:
    assert [places_for(ids) for ids in (0, 1, 2, 3, 4, 5, 100, 500)] == [1, 1, 2, 4, 4, 8, 128, 512]


def test_a_time_is_never_without_limit() -> None:
    assert [milliseconds(seconds) for seconds in (0.0, 0.0001, 0.3, 2.5)] == [1, 1, 300, 2500]


def test_a_session_is_told_to_read_and_when_to_end() -> None:
    settings = driver(SqlDialect.POSTGRESQL).options["server_settings"]
    assert (settings["default_transaction_read_only"], settings["statement_timeout"]) == ("on", "2500")
    assert driver(SqlDialect.SQLITE).engine.url.query == {"mode": "ro", "uri": "true"}
    options = driver(SqlDialect.MYSQL).options
    assert (options["autocommit"], options["charset"], options["local_infile"]) == (True, "utf8mb4", False)


@pytest.mark.parametrize("dialect", SqlDialect)
def test_an_error_of_another_is_told_by_its_name_alone(dialect: SqlDialect) -> None:
    fault, ended = fault_of(driver(dialect), RuntimeError("s3cret"))
    assert ended
    assert str(fault) == "connection_failed: RuntimeError"
    refused = OSError(111, "Connect call failed ('db.internal', 5432)")
    assert fault_of(driver(dialect), refused)[0].args == (Reason.CONNECTION_REFUSED, "ConnectionRefusedError")
    known = Fault(Reason.NOT_TLS, "known")
    assert fault_of(driver(dialect), known) == (known, True)
