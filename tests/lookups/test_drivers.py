"""Databases that cannot be asked: told at the start, without a word of their URL."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest

from sidecar.gate.statement import Database, SqlDialect
from sidecar.lookups.driver import UnusableDatabase
from sidecar.lookups.drivers import driver_of

MODULES = {SqlDialect.POSTGRESQL: "asyncpg", SqlDialect.MYSQL: "aiomysql", SqlDialect.SQLITE: "aiosqlite"}
PG = "postgresql://reader:s3cret@db.internal/app"
MODES = "disable, allow, prefer, require, verify-ca, verify-full"


def told(url: str, dialect: SqlDialect) -> str:
    with pytest.raises(UnusableDatabase) as caught:
        driver_of(Database("APP_URL", url, dialect), 1.0)
    assert "s3cret" not in str(caught.value)
    assert "db.internal" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "dialect"),
    [
        ("postgresql://reader:s3cret@db.internal:5432/app?ssl=require", SqlDialect.POSTGRESQL),
        ("postgresql+asyncpg://reader:s3cr%2Ft@/app?host=/var/run/postgresql", SqlDialect.POSTGRESQL),
        ("mysql://reader:s3cret@db.internal/app", SqlDialect.MYSQL), ("mariadb+aiomysql://reader@db.internal/app", SqlDialect.MYSQL),
        ("sqlite:///app.db", SqlDialect.SQLITE), ("sqlite+aiosqlite:////var/lib/a%20b.db", SqlDialect.SQLITE),
    ],
)  # fmt: skip
def test_urls_of_sqlalchemy_are_taken_with_our_driver_or_none(url: str, dialect: SqlDialect) -> None:
    driver = driver_of(Database("APP_URL", url, dialect), 1.0)
    assert driver.engine.url.get_driver_name() == MODULES[dialect]
    assert "s3cr" not in repr(driver)


@pytest.mark.parametrize(
    ("url", "dialect", "expected"),
    [
        ("postgresql://reader:s3cret@db.internal:port/app", SqlDialect.POSTGRESQL, "found what is no URL"),
        ("postgresql+psycopg2://reader:s3cret@db.internal/app", SqlDialect.POSTGRESQL, "expected '+asyncpg' in it, or none"),
        ("mysql+pymysql://reader:s3cret@db.internal/app", SqlDialect.MYSQL, "expected '+aiomysql' in it, or none"),
        ("mysql://reader:s3cret@db.internal/app?ssl_ca=/none.pem", SqlDialect.MYSQL, "FileNotFoundError"),
        (
            "postgresql://reader:s3cret@db.internal/app?ssl=verify-full&sslrootcert=/none.pem", SqlDialect.POSTGRESQL,
            "found `ssl…` in the URL that cannot be used (FileNotFoundError), expected PEM files",
        ),
        (
            "postgresql://reader:s3cret@db.internal/app?ssl=require&sslrootcert=/none.pem", SqlDialect.POSTGRESQL,
            "found `sslrootcert` in the URL, expected `ssl=verify-full` beside it",
        ),
        (
            "postgresql://reader:s3cret@db.internal/app?pooler=session", SqlDialect.POSTGRESQL,
            "found another `pooler` in the URL, expected `transaction`, or none",
        ),
        ("mysql://reader:s3cret@db.internal/app?connect_timeout=s3cret", SqlDialect.MYSQL, "found what cannot be used (ValueError)"),
        (f"{PG}?ssl=true", SqlDialect.POSTGRESQL, f"found ssl='true' in the URL, expected one of {MODES}"),
        (f"{PG}?sslmode=yes", SqlDialect.POSTGRESQL, f"found ssl='yes' in the URL, expected one of {MODES}"),
        (f"{PG}?ssl=require&ssl=disable", SqlDialect.POSTGRESQL, f"expected one of {MODES}"),
        (
            f"{PG}?ssl=verify-full", SqlDialect.POSTGRESQL,
            "found `ssl=verify-full` alone in the URL, expected `ssl=verify-full` and `sslrootcert`: a PEM file, or `system`",
        ),
        (f"{PG}?sslmode=verify-ca", SqlDialect.POSTGRESQL, "found `ssl=verify-ca` alone in the URL"),
        (f"{PG}?foo=1", SqlDialect.POSTGRESQL, "found 'foo' in the URL, expected of its parameters: ssl, sslmode, sslrootcert"),
        (f"{PG}?application_name=s3cret", SqlDialect.POSTGRESQL, "found 'application_name' in the URL"),
        ("mysql://reader:s3cret@db.internal/app?sslmode=x", SqlDialect.MYSQL, "found 'sslmode' in the URL, expected of its parameters: ssl, ssl_ca"),
        ("postgresql://reader:1@2?s3cret=x&y@db.internal/app", SqlDialect.POSTGRESQL, "found `@` in the parameters of the URL"),
        ("sqlite://", SqlDialect.SQLITE, "no plain path"), ("sqlite:///:memory:", SqlDialect.SQLITE, "no plain path"),
        ("sqlite:///file:app.db?mode=rwc&uri=true", SqlDialect.SQLITE, "no plain path"),
        ("sqlite:///app.db?mode=rwc", SqlDialect.SQLITE, "no plain path"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told(
    url: str, dialect: SqlDialect, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", "/none.pem")
    assert expected in told(url, dialect)


@pytest.mark.parametrize(
    ("dialect", "module", "extra"),
    [
        (SqlDialect.POSTGRESQL, "asyncpg", "sql-postgres"), (SqlDialect.MYSQL, "aiomysql", "sql-mysql"), (SqlDialect.SQLITE, "aiosqlite", "sql-sqlite"),
        (SqlDialect.SQLITE, "sqlalchemy.ext.asyncio", "sql-sqlite"),
    ],
)  # fmt: skip
def test_a_package_that_is_missing_is_named_with_its_extra(
    dialect: SqlDialect, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    said = told(f"{dialect}://reader:s3cret@db.internal/app", dialect)
    assert said == f"found no module {module!r}, expected it for this kind of database: pip install '.[{extra}]'"


def test_tls_of_mysql_needs_files_that_are_there(tmp_path: Path) -> None:
    plain = driver_of(Database("APP_URL", "mysql://u@h/d?ssl=false", SqlDialect.MYSQL), 1.0)
    assert "ssl" not in plain.options
    with_tls = driver_of(Database("APP_URL", "mysql://u@h/d?ssl=true", SqlDialect.MYSQL), 1.0).options["ssl"]
    assert with_tls.check_hostname
    unnamed = driver_of(Database("APP_URL", "mysql://u@h/d?ssl_check_hostname=false", SqlDialect.MYSQL), 1.0).options[
        "ssl"
    ]
    assert (unnamed.check_hostname, unnamed.verify_mode.name) == (False, "CERT_REQUIRED")


def test_postgresql_may_be_of_a_ca_of_the_system() -> None:
    url = "postgresql://u@h/d?ssl=verify-full&sslrootcert=system"
    tls = driver_of(Database("APP_URL", url, SqlDialect.POSTGRESQL), 1.0).options["ssl"]
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert tls.cert_store_stats()["x509_ca"] > 0


def test_postgresql_may_have_the_ca_of_its_own_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    monkeypatch.setenv("PGSSLROOTCERT", str(ca))
    for mode in ("verify-ca", "verify-full"):
        assert driver_of(Database("APP_URL", f"{PG}?ssl={mode}", SqlDialect.POSTGRESQL), 1.0).options["ssl"] == mode


@pytest.mark.parametrize(
    ("url", "password"),
    [("postgresql://u:a%40b@/d?user=a%40b&host=/run", "a@b"), ("postgresql://u:a?b=c@h/d?ssl=require", "a?b=c")],
)
def test_a_password_is_no_parameter(url: str, password: str) -> None:
    assert driver_of(Database("APP_URL", url, SqlDialect.POSTGRESQL), 1.0).engine.url.password == password
