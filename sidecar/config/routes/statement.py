"""A lookup's `sql` -> the statement that is asked of a database."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sidecar.config.shapes import Entry, Reader
from sidecar.gate.statement import Database, Dialect, Statement, statement_of

_SCHEME = re.compile(r"([a-z0-9]+)(?:\+[a-z0-9_]+)?://.*", re.DOTALL)
_DIALECTS = {**{str(dialect): dialect for dialect in Dialect}, "mariadb": Dialect.MYSQL}
_NOWHERE = Database("", "", Dialect.POSTGRESQL)


def read_statement(entry: Entry, environ: Mapping[str, str], reader: Reader) -> Statement:
    """The statement of a lookup; `environ` gives the URL of its database. Faults are noted with `reader`."""
    database = _database(entry, environ, reader)
    try:
        return statement_of(entry["sql"], database, entry["parameters"])
    except ValueError as error:
        reader.fault(entry.at("sql"), str(error))
        return Statement(database, (), (), "")


def _database(entry: Entry, environ: Mapping[str, str], reader: Reader) -> Database:
    variable = entry["database"]
    if not variable:
        reader.fault(entry.mark, "found `sql` without `database`, expected the name of the variable that has its URL")
        return _NOWHERE
    url = environ.get(variable, "").strip()
    scheme = _SCHEME.fullmatch(url)
    expected = "expected a URL such as postgresql://user:password@host/database, or one of mysql or sqlite"
    if not url:
        reader.fault(entry.at("database"), f"the variable {variable} is not set, {expected}")
    elif scheme is None or scheme[1] not in _DIALECTS:
        # never more of it than the scheme: a password is in the rest
        found = f"one that begins with {scheme[1]!r}" if scheme is not None else "a text that is no URL"
        reader.fault(entry.at("database"), f"the variable {variable} has {found}, {expected}")
    else:
        return Database(variable, url, _DIALECTS[scheme[1]])
    return _NOWHERE
