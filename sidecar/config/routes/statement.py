"""A lookup's `sql` -> the statement that is asked of a database."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from sidecar.config.shapes import Entry, Mark, Reader
from sidecar.gate.lookup import ResourceField
from sidecar.gate.references import Reference, ReferenceSource
from sidecar.gate.statement import Database, SqlDialect, Statement, statement_of

_SCHEME = re.compile(r"([a-z0-9]+)(?:\+[a-z0-9_]+)?://.*", re.DOTALL)
_DIALECTS = {**{str(dialect): dialect for dialect in SqlDialect}, "mariadb": SqlDialect.MYSQL}
_NOWHERE = Database("", "", SqlDialect.POSTGRESQL)


def read_statement(entry: Entry, environ: Mapping[str, str], reader: Reader) -> Statement:
    """The statement of a lookup; `environ` gives the URL of its database. Faults are noted with `reader`."""
    database = _database(entry, environ, reader)
    try:
        statement = statement_of(entry["sql"], database, entry["parameters"])
    except ValueError as error:
        reader.fault(entry.at("sql"), str(error))
        return Statement(database, (), (), "")
    for mark, message in _batch_faults(entry, statement):
        reader.fault(mark, message)
    return statement


def _batch_faults(entry: Entry, statement: Statement) -> Iterator[tuple[Mark, str]]:
    """Find what `batch` and the statement cannot mean together."""
    values = statement.values
    if entry["batch"] is None:
        if ResourceField.IDS in values:
            yield entry.at("sql"), "found a parameter that {ids} fill, expected :id, or `batch: true` beside it"
    elif ResourceField.IDS not in values or ResourceField.ID in values:
        yield entry.at("sql"), "found no :ids, or not it alone, beside `batch`, expected `id in :ids` and no :id"
    elif any(isinstance(part, Reference) and part.source is ReferenceSource.LOOKUP for part in values):
        yield entry.mark, "found {lookup.…} beside `batch`, expected what is the same for all ids of a call"


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
