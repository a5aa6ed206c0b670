"""`sql` of a lookup: its variable, its URL, its text and its parameters."""

from __future__ import annotations

import pytest

from sidecar.config.routes.file import RoutesError
from sidecar.gate.lookup import Batch, ResourceField
from sidecar.gate.statement import Binding, SqlDialect, Statement
from tests.config.routes.reading import one_route, read

ROUTE = "{path: '/x/{id}', resource: invoice, id: '{path.id}', lookup: invoice, actions: {GET: read}}"
URL = "postgresql://reader:s3cret@db.internal/app"


def of(lookup: str, url: str | None = URL) -> Statement:
    found = read(one_route(ROUTE, f"lookups: {{invoice: {lookup}}}\n"), {} if url is None else {"INVOICES_URL": url})
    inquiry = found.lookups["invoice"].inquiry
    assert isinstance(inquiry, Statement)
    return inquiry


def fault(lookup: str, url: str | None = URL) -> str:
    with pytest.raises(RoutesError) as caught:
        of(lookup, url)
    told = "\n".join(map(str, caught.value.problems))
    assert "s3cret" not in told
    assert "db.internal" not in told
    return told


def test_a_statement_is_read_with_its_database_and_parameters() -> None:
    found = of(
        "{sql: 'select owner_id from invoices where id = :id and org = :org', database: INVOICES_URL, "
        "parameters: {id: '{id:int}', org: '{principal.id}'}, attributes: {owner: owner_id}}"
    )
    assert (found.database.variable, found.database.url, found.database.dialect) == (
        "INVOICES_URL",
        URL,
        SqlDialect.POSTGRESQL,
    )
    assert [(each.name, each.type) for each in found.parameters] == [("id", Binding.INT), ("org", Binding.STRING)]
    assert found.parameters[0].value is ResourceField.ID


@pytest.mark.parametrize(
    ("url", "dialect"),
    [("postgresql+asyncpg://u@h/d", SqlDialect.POSTGRESQL), ("mysql://u@h/d", SqlDialect.MYSQL), ("mariadb+aiomysql://u@h/d", SqlDialect.MYSQL),
     ("sqlite:///a.db", SqlDialect.SQLITE), (f"  {URL}\n", SqlDialect.POSTGRESQL)],
)  # fmt: skip
def test_the_scheme_says_which_kind_of_database_it_is(url: str, dialect: SqlDialect) -> None:
    assert (
        of("{sql: 'select a from t where id = :id', database: INVOICES_URL, attributes: {}}", url).database.dialect
        is dialect
    )


WHOLE = "{sql: 'select a from t where id = :id', database: INVOICES_URL, attributes: {owner: a}}"


@pytest.mark.parametrize(
    ("lookup", "url", "told"),
    [
        (WHOLE, None, "lookups.invoice.database: the variable INVOICES_URL is not set"),
        (WHOLE, "  ", "the variable INVOICES_URL is not set"),
        (WHOLE, "oracle://u:s3cret@db.internal/d", "one that begins with 'oracle'"),
        (WHOLE, "s3cret", "a text that is no URL"),
        (WHOLE, "postgres://u:s3cret@db.internal/d", "one that begins with 'postgres'"),
        (WHOLE.replace(", database: INVOICES_URL", ""), URL, "found `sql` without `database`"),
        (WHOLE.replace("INVOICES_URL", "postgresql://u:p@h/d"), URL, "expected a variable's name"),
        (WHOLE.replace("select a", "delete"), URL, "expected a statement that begins with SELECT"),
        (WHOLE.replace("attributes", "parameters: {org: '{principal.id}'}, attributes"), URL, "found no :org"),
        (WHOLE.replace("attributes", "parameters: {id: '{nobody.x}'}, attributes"), URL, "lookups.invoice.parameters.id: found"),
        (WHOLE.replace("sql", "url: 'http://h/{id}', sql"), URL, "beside `url`"),
        (WHOLE.replace("attributes", "bearer_env: TOKEN, attributes"), URL, "bearer_env: found it beside `sql`"),
        ("{url: 'http://h/{id}', database: INVOICES_URL, attributes: {}}", URL, "database: found it beside `url`, expected it beside `sql`"),
        ("{url: 'http://h/{id}', parameters: {id: '{id}'}, attributes: {}}", URL, "parameters: found it beside `url`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_without_the_url(lookup: str, url: str | None, told: str) -> None:
    assert told in fault(lookup, url)


def test_a_statement_about_many_has_its_ids_in_a_column() -> None:
    text = "{sql: 'select id, o from t where id in :ids', database: INVOICES_URL, batch: BATCH, attributes: {o: o}}"
    for batch, most in (("true", 100), ("{max: 7}", 7)):
        found = read(one_route(ROUTE, f"lookups: {{invoice: {text.replace('BATCH', batch)}}}\n"), {"INVOICES_URL": URL})
        lookup = found.lookups["invoice"]
        assert (lookup.batch, lookup.echo({"id": 7, "n": 8})) == (Batch(most), 7)
    named = text.replace("BATCH", "true, echo: n")
    found = read(one_route(ROUTE, f"lookups: {{invoice: {named}}}\n"), {"INVOICES_URL": URL})
    assert found.lookups["invoice"].echo({"id": 7, "n": 8}) == 8


MANY = "{sql: 'select id from t where id in :ids', database: INVOICES_URL, batch: true, attributes: {}}"


@pytest.mark.parametrize(
    ("lookup", "told"),
    [
        (MANY.replace("batch: true, ", ""), "found a parameter that {ids} fill, expected :id, or `batch: true` beside it"),
        (MANY.replace("in :ids", "= :id"), "found no :ids, or not it alone, beside `batch`"),
        (MANY.replace("in :ids", "in :ids or id = :id"), "found no :ids, or not it alone, beside `batch`"),
        (MANY.replace("in :ids", "in (:ids)"), "found :ids elsewhere, expected it once"),
        (MANY.replace("true", "{at: data}"), "batch.at: found it beside `sql`, expected it beside `url`"),
        (MANY.replace("true", "{separator: ','}"), "batch.separator: found it beside `sql`"),
        (MANY.replace("batch", "parameters: {ids: '{ids:bool}'}, batch"), "expected {ids}, {ids:int} or {ids:uuid}"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_many_is_told(lookup: str, told: str) -> None:
    assert told in fault(lookup)


def test_a_claim_that_fills_a_parameter_is_one_that_the_route_reads() -> None:
    text = one_route(
        ROUTE.replace("id: '{path.id}'", "id: '{path.id}', max_body: 1KiB").replace("GET", "PUT"),
        "lookups: {invoice: {sql: 'select a from t where id = :id and o = :o', database: INVOICES_URL, "
        "parameters: {o: '{body.owner}'}, attributes: {}}}\n",
    )
    assert read(text, {"INVOICES_URL": URL}).table.routes[0].asks["PUT"].max_body is not None
