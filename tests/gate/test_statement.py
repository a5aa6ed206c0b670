"""A lookup's SQL: what is a parameter of it, what is no SELECT, and which values a parameter takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.lookup import ResourceField
from sidecar.gate.references import Reference
from sidecar.gate.statement import (
    MAX_PARAMETERS,
    MAX_STATEMENT,
    Binding,
    Database,
    Parameter,
    SqlDialect,
    Statement,
    asked_values,
    bound,
    parse_value,
    statement_of,
)
from sidecar.gate.verdict import Refused
from tests.gate.test_hook import MATERIAL

SECRET = "postgresql://reader:s3cret@db/app"
DATABASE = Database("APP_URL", SECRET, SqlDialect.POSTGRESQL)
SQL = "select owner_id from invoices where id = :id"


def statement(sql: str = SQL, /, dialect: SqlDialect = SqlDialect.POSTGRESQL, **filled: str) -> Statement:
    return filled_by(sql, filled, dialect)


def filled_by(sql: str, filled: dict[str, str], dialect: SqlDialect = SqlDialect.POSTGRESQL) -> Statement:
    database = Database("APP_URL", SECRET, dialect)
    return statement_of(sql, database, {name: parse_value(text) for name, text in filled.items()})


def parameter(kind: Binding) -> Parameter:
    return Parameter("p", ResourceField.ID, kind)


def test_a_text_is_cut_at_its_parameters() -> None:
    found = statement(
        "select a::text, b from t where id = :id and kind=:kind and org = :org and x = :id", org="{path.org}"
    )
    assert [str(part) for part in found.parts] == [
        "select a::text, b from t where id = ", ":id", " and kind=", ":kind", " and org = ", ":org", " and x = ", ":id", "",
    ]  # fmt: skip
    assert [each.name for each in found.parameters] == ["id", "kind", "org"]
    assert json.loads(found.fill("k", "7", MATERIAL)) == ["7", "k", "a/b"]


@pytest.mark.parametrize("quoted", ["':x'", '":x"', "`:x`", "'it''s :x; -- ? $1 {y} into'", "'12:30'"])
def test_what_is_quoted_is_text(quoted: str) -> None:
    found = statement(f"select {quoted} from t where id = :id", SqlDialect.SQLITE)
    assert [each.name for each in found.parameters] == ["id"]
    assert quoted in found.sql


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("delete from t where id = :id", "begins with SELECT or WITH"),
        ("selects x from t where id = :id", "begins with SELECT or WITH"),
        ("select 1 where :id = 1; drop table t", "found ';'"),
        ("with d as (delete from t where id = :id returning *) select * from d", "'delete from', expected a statement"),
        ("with x as (select 1) insert into t select :id", "'insert into'"),
        ("with x as (select :id) update t set a = 1", "'update t set'"),
        ("select * into copy from t where id = :id", "'into'"),
        ("select 1 -- :id", "a comment"), ("select 1 /* x */ where :id = 1", "a comment"),
        (r"select 1 where :id = '\'' or 1=1", "a backslash"),
        ("select 'x where id = :id", "' without its other one"),
        ('select "x where id = :id', '" without its other one'),
        ("select $1 where :id = ''", "'$'"), ("select $$x$$ where :id = ''", "'$'"),
        ("select 1 from t where id = {id}", "a brace"),
        ("select 1 from t", "no parameter"),
        ("select 1 from t where id = :id and o = :owner", "found :owner"),
        ("select 1 where :id = 1" + " " * MAX_STATEMENT, "characters"),
    ],
)  # fmt: skip
def test_what_is_no_select_with_named_parameters_is_refused(sql: str, told: str) -> None:
    with pytest.raises(ValueError, match="found") as caught:
        statement(sql)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("dialect", "sql", "is_taken"),
    [
        (SqlDialect.POSTGRESQL, "select a #> '{b}', c ? 'd' from t where id = :id", True),
        (SqlDialect.MYSQL, "select a from t where id = :id # and owner = :owner", False),
        (SqlDialect.MYSQL, "select a from t where id = :id and b = ?", False),
        (SqlDialect.SQLITE, "select a from t where id = :id and b = ?", False),
        (SqlDialect.SQLITE, "select a from t where id = :id and b = @b", False),
        (SqlDialect.MYSQL, "select @@version, a from t where id = :id", True),
    ],
)
def test_signs_are_read_as_the_database_reads_them(dialect: SqlDialect, sql: str, is_taken: bool) -> None:
    if is_taken:
        assert statement(sql, dialect).sql == sql
    else:
        with pytest.raises(ValueError, match=r"found '[#?@]"):
            statement(sql, dialect)


def test_what_fills_no_parameter_and_too_many_are_refused() -> None:
    with pytest.raises(ValueError, match="found no :owner, which `parameters` names"):
        statement(SQL, owner="{principal.id}")
    many = {f"p{n}": "{id}" for n in range(MAX_PARAMETERS + 1)}
    with pytest.raises(ValueError, match=f"found {MAX_PARAMETERS + 1} parameters"):
        filled_by("select 1 where " + " and ".join(f":{name} = 1" for name in many), many)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("{id}", Binding.STRING), ("{id:int}", Binding.INT), ("{kind}", Binding.STRING), ("{id:uuid}", Binding.UUID),
     ("{principal.id}", Binding.STRING), ("{principal.id:int}", Binding.INT), ("{path.org}", Binding.STRING),
     ("{path.org:int}", Binding.INT), ("{claims.tenant:uuid}", Binding.UUID), ("{claims.level:number}", Binding.NUMBER),
     ("{body.paid:bool}", Binding.BOOL), ("{principal.attributes.org}", Binding.STRING)],
)  # fmt: skip
def test_a_parameter_has_a_value_and_a_type(text: str, kind: Binding) -> None:
    value, found = parse_value(text)
    assert found is kind
    assert isinstance(value, Reference | ResourceField)


@pytest.mark.parametrize(
    ("text", "told"),
    [("id", "one value in braces"), ("{id}-{kind}", "one value in braces"), ("x{id}", "one value in braces"),
     ("{query.page?}", "no '?'"), ("{claims.groups:list}", "one value of a statement"), ("{principal.roles}", "one value"),
     ("{body.x:json}", "one value"), ("{id:list}", "expected one of"), ("{nobody.x}", "expected one of"), ("{}", "expected one of")],
)  # fmt: skip
def test_what_is_no_value_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match="found") as caught:
        parse_value(text)
    assert told in str(caught.value)


UUID = "0b2f3c9e-0d3a-4e77-9c54-000000000001"


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [(Binding.STRING, "007", "007"), (Binding.STRING, "é', 'x'); --", "é', 'x'); --"), (Binding.INT, "7", 7), (Binding.INT, "-7", -7),
     (Binding.INT, 7, 7), (Binding.NUMBER, "7.5", 7.5), (Binding.NUMBER, 7, 7), (Binding.BOOL, "true", True), (Binding.BOOL, False, False),
     (Binding.UUID, UUID, UUID)],
)  # fmt: skip
def test_a_value_of_the_type_is_bound(kind: Binding, value: Any, found: Any) -> None:
    assert bound(parameter(kind), value) == found
    assert type(bound(parameter(kind), value)) is type(found)


@pytest.mark.parametrize(
    ("kind", "value"),
    [*((Binding.INT, text) for text in ("007", "+7", "7.0", "7e0", " 7", "7 ", "\u0667", "7abc", "-0", "0x7", "1" * 17, "9007199254740993", "x")),
     *((Binding.NUMBER, text) for text in ("07.5", "7.50", "1e3", "inf", "nan", "+1")),
     *((Binding.BOOL, text) for text in ("True", "1", "yes")),
     *((Binding.UUID, text) for text in (UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", UUID[:-1], f"urn:uuid:{UUID}")),
     (Binding.INT, True), (Binding.INT, 7.0), (Binding.BOOL, 1), (Binding.NUMBER, True), (Binding.STRING, 7), (Binding.STRING, None),
     *((Binding.STRING, text) for text in ("", "a\0b", "a\nb", "\x7f", "x" * 1025, "\ud800"))],
)  # fmt: skip
def test_another_spelling_or_type_is_the_fault_of_the_request(kind: Binding, value: Any) -> None:
    """A database takes `007` for 7, and tells of a row that nobody asked for."""
    with pytest.raises(Refused) as caught:
        bound(parameter(kind), value)
    assert caught.value.code is Code.REFERENCE_INVALID


@given(
    st.sampled_from(Binding),
    st.one_of(st.text(), st.integers(), st.floats(allow_nan=False), st.booleans(), st.uuids().map(str)),
)
def test_two_values_of_a_request_are_two_questions(kind: Binding, value: Any) -> None:
    """A text is bound only where the value that comes of it is written as that text."""
    try:
        found = bound(parameter(kind), value)
    except Refused:
        return
    if isinstance(value, str) and not isinstance(found, str):
        assert json.dumps(found) == value
    else:
        assert found == value
        assert type(found) is type(value)
    assert asked_values(json.dumps([found])) == [found]


def test_a_question_is_one_text_of_ascii() -> None:
    found = statement("select 1 where :id = :n", n="{claims.n:int}")
    question = found.fill("k", "é\"',", MATERIAL)
    assert question == '["\\u00e9\\"\',",5]'
    assert question.isascii()
    assert asked_values(question) == ["é\"',", 5]


def test_the_source_tells_statements_apart_and_has_nothing_of_the_url() -> None:
    first, other = statement(), statement(SQL.replace("owner_id", "status"))
    typed = statement(SQL, id="{id:int}")
    assert first.source == statement().source
    assert len({first.source, other.source, typed.source}) == 3
    for text in (repr(first), str(first), first.source, first.shown("[7]"), repr(DATABASE)):
        assert "s3cret" not in text
        assert "db/app" not in text
        assert "APP_URL" in text


def test_it_is_shown_with_the_names_and_types_of_its_parameters() -> None:
    found = statement("select a\n  from t\n  where id = :id and org = :org\n", id="{id:int}", org="{principal.id}")
    assert found.shown('[7,"alice"]') == "APP_URL: select a from t where id = :id and org = :org (:id int, :org)"
    assert found.values == (ResourceField.ID, parse_value("{principal.id}")[0])


def test_a_sample_has_a_value_of_each_type() -> None:
    texts = {Binding.STRING: "nobody", Binding.INT: "0", Binding.NUMBER: "0", Binding.BOOL: "false", Binding.UUID: UUID}
    found = statement("select 1 where :id = :k and :o", id="{id:int}", k="{kind}", o="{body.o:bool}")
    assert asked_values(found.sample(texts, "invoice")) == [0, "invoice", False]


@pytest.mark.parametrize(
    ("filled", "has_one"),
    [({}, False), ({"id": "{id:int}"}, True), ({"id": "{id:uuid}"}, True), ({"id": "{path.org}"}, False)],
)
def test_a_type_leaves_one_spelling(filled: dict[str, str], has_one: bool) -> None:
    assert filled_by(SQL, filled).has_one_spelling(ResourceField.ID) is has_one


def test_many_ids_are_a_list_among_the_values() -> None:
    found = statement("select id from t where org = :org and id in :ids", ids="{ids:int}", org="{path.org}")
    question = found.fill("k", "7", MATERIAL)
    assert (question, found.fill("k", "8", MATERIAL)) == ('["a/b",[]]', question)
    assert asked_values(found.join(question, ["7", "8"])) == ["a/b", [7, 8]]
    for text in ("007", "x"):
        with pytest.raises(Refused):
            found.fill("k", text, MATERIAL)
    assert found.shown(question).endswith("and id in :ids (:org, :ids int)")
    assert asked_values(found.sample({Binding.STRING: "nobody"}, "k")) == ["nobody", []]
    assert found.sample_id({Binding.INT: "0"}, "nobody") == "0"
    assert statement().sample_id({}, "nobody") == "nobody"


@pytest.mark.parametrize(
    "where", ["id = :ids", "id in (:ids)", "id not in :ids", "id in :ids or n in :ids", "begin :ids", "id in :ids and :ids = ''", "'in' :ids", ":ids = id"]
)  # fmt: skip
def test_many_ids_stand_where_a_list_may(where: str) -> None:
    with pytest.raises(ValueError, match=r"found :ids elsewhere, expected it once, as `id in :ids` without brackets"):
        statement(f"select id from t where {where}")


@pytest.mark.parametrize("text", ["{ids:number}", "{ids:bool}", "{ids:list}", "{ids:}"])
def test_ids_are_of_a_type_that_has_one_text(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected \{ids\}, \{ids:int\} or \{ids:uuid\}"):
        parse_value(text)
