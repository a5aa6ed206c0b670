"""Readers of the filters that dialects write, after the grammars of those who take them. Each gives the filter back."""

from __future__ import annotations

import json
import re
from typing import Any as Anything

from sidecar.plans.filter import All, Any, Filter, Operator, RowField, Term, Unsayable, Value, all_of, any_of


def bare(part: Filter) -> Filter:
    """A filter without the types of fields, with one equality for each value of several, and flat."""
    match part:
        case All(parts):
            return all_of([bare(each) for each in parts])
        case Any(parts):
            return any_of([bare(each) for each in parts])
        case Unsayable():
            return part
        case Term(field, relation, values):
            plain = {Operator.IN: Operator.EQ, Operator.NOT_IN: Operator.NE}.get(relation, relation)
            terms: list[Filter] = [Term(RowField(field.path), plain, (_plain(value),)) for value in values]
            return all_of(terms) if plain is Operator.NE else any_of(terms)


def _plain(value: Value) -> Value:
    # Python takes True for 1
    return str(value) + "!" if isinstance(value, bool) else value


class Reader:
    """A text that is read from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def take(self, pattern: str) -> str | None:
        """The text that comes next, if it is of this pattern."""
        match = re.compile(pattern, re.DOTALL).match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match[0]

    def expect(self, pattern: str) -> str:
        """The text that comes next, which must be of this pattern."""
        found = self.take(pattern)
        assert found is not None, f"{self.text[self.at :]!r}: expected {pattern}"
        return found

    def end(self) -> None:
        """Nothing may be left."""
        assert self.at == len(self.text), self.text[self.at :]


_QUOTED = r'"(?:\\.|[^"\\])*"'


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def _scalar(text: str) -> Value:
    if text[0] == '"':
        return _unquoted(text)
    return {"true": True, "false": False}[text] if text in ("true", "false") else float(text)


# --- PostgREST: src/PostgREST/ApiRequest/QueryParams.hs, pLogicTree ---

_POSTGREST = {
    "eq": Operator.EQ, "neq": Operator.NE, "lt": Operator.LT, "lte": Operator.LE, "gt": Operator.GT, "gte": Operator.GE,
    "in": Operator.IN, "not.in": Operator.NOT_IN, "like": Operator.CONTAINS,
}  # fmt: skip


def postgrest(text: str) -> Filter:
    """The value of `and`."""
    reader = Reader(text)
    found = All(tuple(_postgrest_list(reader)))
    reader.end()
    return found


def _postgrest_list(reader: Reader) -> list[Filter]:
    reader.expect(r"\(")
    parts = [_postgrest_tree(reader)]
    while reader.take(","):
        parts.append(_postgrest_tree(reader))
    reader.expect(r"\)")
    return parts


def _postgrest_tree(reader: Reader) -> Filter:
    if (operator := reader.take(r"(?:and|or)(?=\()")) is not None:
        parts = tuple(_postgrest_list(reader))
        return All(parts) if operator == "and" else Any(parts)
    field = RowField((reader.expect(r"[A-Za-z]\w*"),))
    operator = reader.expect(r"\.(?:not\.in|eq|neq|lte?|gte?|in|like)\.")[1:-1]
    value = rf"(?:{_QUOTED}(?=[,)])|[^,()\"]+)"
    if operator in ("in", "not.in"):
        reader.expect(r"\(")
        values = [_scalar(reader.expect(value))]
        while reader.take(","):
            values.append(_scalar(reader.expect(value)))
        reader.expect(r"\)")
        return Term(field, _POSTGREST[operator], tuple(values))
    said = _scalar(reader.expect(value))
    if operator != "like":
        return Term(field, _POSTGREST[operator], (said,))
    return _like(field, str(said))


def _like(field: RowField, pattern: str) -> Term:
    """`*` and `%` are any text, an escape takes it from them."""
    starts, ends = not pattern.startswith("*"), not pattern.endswith("*")
    body = pattern[0 if starts else 1 : len(pattern) if ends else -1]
    assert not re.search(r"(?<!\\)(?:\\\\)*[*%_]", body), body
    relation = {(True, False): Operator.STARTS_WITH, (False, True): Operator.ENDS_WITH}.get(
        (starts, ends), Operator.CONTAINS
    )
    return Term(field, relation, (re.sub(r"\\(.)", r"\1", body, flags=re.DOTALL),))


# --- OData 4.01, ABNF construction rules: boolCommonExpr ---

_ODATA = {
    "eq": Operator.EQ, "ne": Operator.NE, "lt": Operator.LT, "le": Operator.LE, "gt": Operator.GT, "ge": Operator.GE,
}  # fmt: skip
_ODATA_FUNCTIONS = {
    "startswith": Operator.STARTS_WITH,
    "endswith": Operator.ENDS_WITH,
    "contains": Operator.CONTAINS,
}
_ODATA_LITERAL = r"'(?:''|[^'])*'|true|false|-?\d+(?:\.\d+)?"


def odata(text: str) -> Filter:
    """The value of `$filter`: `and` binds more strongly than `or`."""
    reader = Reader(text)
    found = _odata_or(reader)
    reader.end()
    return found


def _odata_or(reader: Reader) -> Filter:
    parts = [_odata_and(reader)]
    while reader.take(" or "):
        parts.append(_odata_and(reader))
    return any_of(parts)


def _odata_and(reader: Reader) -> Filter:
    parts = [_odata_term(reader)]
    while reader.take(" and "):
        parts.append(_odata_term(reader))
    return all_of(parts)


def _odata_term(reader: Reader) -> Filter:
    if reader.take(r"\("):
        found = _odata_or(reader)
        reader.expect(r"\)")
        return found
    function = reader.take(r"(?:startswith|endswith|contains)\(")
    field = RowField(tuple(reader.expect(r"[A-Za-z]\w*(?:/(?!any\()[A-Za-z]\w*)*").split("/")))
    if function:
        reader.expect(",")
        value = _odata_literal(reader)
        reader.expect(r"\)")
        return Term(field, _ODATA_FUNCTIONS[function[:-1]], (value,))
    if reader.take(r"/any\(e:e eq "):
        value = _odata_literal(reader)
        reader.expect(r"\)")
        return Term(field, Operator.HAS, (value,))
    operator = reader.expect(" (?:eq|ne|lt|le|gt|ge) ").strip()
    return Term(field, _ODATA[operator], (_odata_literal(reader),))


def _odata_literal(reader: Reader) -> Value:
    text = reader.expect(_ODATA_LITERAL)
    return text[1:-1].replace("''", "'") if text[0] == "'" else _scalar(text)


# --- RSQL: github.com/jirutka/rsql-parser, RSQLParser.jj ---

_RSQL = {
    "==": Operator.EQ, "!=": Operator.NE, "=lt=": Operator.LT, "=le=": Operator.LE, "=gt=": Operator.GT,
    "=ge=": Operator.GE, "=in=": Operator.IN, "=out=": Operator.NOT_IN,
}  # fmt: skip
_RSQL_VALUE = rf"{_QUOTED}|[^\"'();,=!~<> ]+"


def rsql(text: str) -> Filter:
    """The value of `filter`: `;` binds more strongly than `,`."""
    reader = Reader(text)
    found = _rsql_or(reader)
    reader.end()
    return found


def _rsql_or(reader: Reader) -> Filter:
    parts = [_rsql_and(reader)]
    while reader.take(","):
        parts.append(_rsql_and(reader))
    return any_of(parts)


def _rsql_and(reader: Reader) -> Filter:
    parts = [_rsql_term(reader)]
    while reader.take(";"):
        parts.append(_rsql_term(reader))
    return all_of(parts)


def _rsql_term(reader: Reader) -> Filter:
    if reader.take(r"\("):
        found = _rsql_or(reader)
        reader.expect(r"\)")
        return found
    field = RowField(tuple(reader.expect(r"[A-Za-z][\w.]*").split(".")))
    relation = _RSQL[reader.expect(r"=[a-z]+=|==|!=")]
    if relation not in (Operator.IN, Operator.NOT_IN):
        return Term(field, relation, (_scalar(reader.expect(_RSQL_VALUE)),))
    reader.expect(r"\(")
    values = [_scalar(reader.expect(_RSQL_VALUE))]
    while reader.take(","):
        values.append(_scalar(reader.expect(_RSQL_VALUE)))
    reader.expect(r"\)")
    return Term(field, relation, tuple(values))


# --- our own JSON ---


def header(text: bytes) -> Filter:
    """The value of `X-Auth-Filter`."""
    return _json(json.loads(text))


def _json(said: dict[str, Anything]) -> Filter:
    if "all" in said:
        return All(tuple(_json(each) for each in said["all"]))
    if "any" in said:
        return Any(tuple(_json(each) for each in said["any"]))
    several = isinstance(said["value"], list)
    values = tuple(said["value"]) if several else (said["value"],)
    return Term(RowField(tuple(said["field"].split("."))), Operator(said["is"]), values)


# --- Django: field lookups of django-filter, whose `__in` has commas between its values ---

_LOOKUPS = {
    "in": Operator.IN, "lt": Operator.LT, "lte": Operator.LE, "gt": Operator.GT, "gte": Operator.GE,
    "startswith": Operator.STARTS_WITH, "endswith": Operator.ENDS_WITH, "contains": Operator.CONTAINS,
}  # fmt: skip


def django(parameters: tuple[tuple[str, str], ...]) -> Filter:
    """All parameters, each of which is another condition. A text may be that of a number or of a truth value."""
    return all_of([_lookup(name, value) for name, value in parameters])


def _lookup(name: str, text: str) -> Filter:
    *path, last = name.split("__")
    relation = _LOOKUPS.get(last, Operator.EQ)
    field = RowField(tuple(path) if last in _LOOKUPS else (*path, last))
    texts = text.split(",") if relation is Operator.IN else [text]
    if relation in (Operator.EQ, Operator.IN):
        return any_of([Term(field, Operator.EQ, (value,)) for each in texts for value in _meant(each)])
    return Term(field, relation, (float(text) if relation in _NUMERIC else text,))


_NUMERIC = (Operator.LT, Operator.LE, Operator.GT, Operator.GE)


def _meant(text: str) -> list[Value]:
    values: list[Value] = [text]
    if text in ("True", "False"):
        values.append(text == "True")
    if re.fullmatch(r"-?\d+", text):
        values.append(float(text))
    return values
