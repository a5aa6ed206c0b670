"""Every row of docs/reference/references.md is what the gate does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sidecar.gate.ask import asks
from sidecar.gate.expressions import value_expression
from sidecar.gate.form import Form
from sidecar.gate.identity import Principal
from sidecar.gate.references import ABSENT, Material, ReferenceSource, parse_template
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.routing import Access, Pattern, Route, RouteTable, parse_path
from sidecar.gate.values import Type
from sidecar.gate.verdict import Refused
from sidecar.wire.urlencoded import fields_of

PAGE = (Path(__file__).parent.parent / "docs/reference/references.md").read_text(encoding="utf-8")
(SENT,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
CLAIMS = json.loads(re.findall(r"the claims `(\{.*?\})`", PAGE)[0])
ARGUMENTS = json.loads(re.findall(r"the arguments `(\{.*?\})`", PAGE)[0])
ALICE = Principal("alice", ("user",), {"level": 3}, "issuer", 1.0, CLAIMS)


def rows(head: str) -> list[list[str]]:
    """The cells of the tables whose heading begins so."""
    tables = re.findall(rf"^\| {re.escape(head)}[^\n]*\n\|[ -|]*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def read_target(target: str) -> Request:
    return read(Raw("GET", target.encode(), [(b"host", b"x")], "", "http", "r"), Reading())


def whole_request() -> Material:
    """The request that the page shows."""
    head, _, body = SENT.partition("\n\n")
    first, *headers = head.splitlines()
    method, target = first.split()
    named = [tuple(part.strip().lower() for part in header.split(":", 1)) for header in headers]
    raw = Raw(
        method, target.encode(), [(b"host", b"x"), *((n.encode(), v.encode()) for n, v in named)], "", "http", "r"
    )
    variables = {"team": "blue", "id": "7"}
    fields = fields_of(re.findall(r"form read `(.*?)`", PAGE)[0].encode(), 10)
    return Material(read(raw, Reading()), variables, ALICE, json.loads(body), ARGUMENTS, form=Form(fields))


@pytest.mark.parametrize(("reference", "reads", "value"), rows("reference | reads"))
def test_a_reference_reads_what_the_page_says(reference: str, reads: str, value: str) -> None:
    assert parse_template(code(reference)[0]).value(whole_request()) == json.loads(code(value)[0])


def test_every_source_and_every_type_is_on_the_page() -> None:
    named = [code(cells[0])[0] for cells in rows("reference | reads")]
    assert {name.strip("{").partition(".")[0] for name in named} < set(ReferenceSource)
    assert {code(cells[0])[0] for cells in rows("source |")} == set(ReferenceSource)
    assert {code(cells[0])[0] for cells in rows("type")} == set(Type)
    assert {cells[0].strip("`") for cells in rows("pattern")} == set(Pattern)


def listed(column: int) -> list[Any]:
    return [
        pytest.param(code(cells[0])[0], text, id=f"{cells[0]}-{text}")
        for cells in rows("type")
        for text in code(cells[column])
    ]


@pytest.mark.parametrize(("kind", "text"), listed(1))
def test_a_type_takes_this_text(kind: str, text: str) -> None:
    material = whole_request()._replace(request=read_target(f"/?x={text}"))
    assert parse_template(f"{{query.x:{kind}}}").value(material) == json.loads(text)


@pytest.mark.parametrize(
    ("kind", "text"), [one for one in listed(3) if one.values[1] in ("07", "7.0", "+7", "1e3", ".5", "NaN")]
)
def test_a_type_refuses_this_text(kind: str, text: str) -> None:
    material = whole_request()._replace(request=read_target(f"/?x={text.replace('+', '%2B')}"))
    with pytest.raises(Refused):
        parse_template(f"{{query.x:{kind}}}").value(material)


def taken_as_json(kind: str) -> list[str]:
    return [text for cells in rows("type") if code(cells[0])[0] == kind for text in code(cells[2])]


@pytest.mark.parametrize(
    ("kind", "text"), [*listed(2), *(one for one in listed(3) if one.values[1].startswith('"') or one.values[1] == "5")]
)
def test_a_type_takes_or_refuses_this_json(kind: str, text: str) -> None:
    material, template = whole_request()._replace(body={"x": json.loads(text)}), parse_template(f"{{body.x:{kind}}}")
    if text in taken_as_json(kind):
        assert template.value(material) == json.loads(text)
    else:
        with pytest.raises(Refused):
            template.value(material)


(DOCUMENT,) = re.findall(r"<!-- example: document -->\n```json\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(
    ("expression", "value"),
    re.findall(r"^\| `([^`]*\{[^`]*)` \| [^`|]* \| `([^`]+)` \|$", PAGE.partition("## Values")[2], re.MULTILINE),
)
def test_an_expression_reads_with_a_value_what_the_page_says(expression: str, value: str) -> None:
    found, places = value_expression(expression.replace("\\|", "|"))
    assert found is not None
    assert found.bind({place: {"id": "7", "principal.id": "alice"}[place] for place in places})(
        json.loads(DOCUMENT)
    ) == json.loads(value)


def test_strings_are_joined() -> None:
    assert parse_template("{path.team}/{path.id}").value(whole_request()) == "blue/7"


@pytest.mark.parametrize(("reference", "given", "value"), rows("reference | with"))
def test_an_optional_reference_is_absent_or_refused(reference: str, given: str, value: str) -> None:
    text, material = code(given)[0], whole_request()
    body = json.loads(text) if text.startswith("{") else None
    material = material._replace(body=body) if body is not None else material._replace(request=read_target(f"/?{text}"))
    template = parse_template(code(reference)[0])
    if value == "absent":
        assert template.value(material) is ABSENT
    else:
        with pytest.raises(Refused):
            template.value(material)


def table_of(*paths: str) -> RouteTable:
    return RouteTable(Route(path, parse_path(path), Access.AUTHENTICATED, asks({"GET": ""})) for path in paths)


@pytest.mark.parametrize(("path", "taken", "other"), rows("in `path`"))
def test_a_pattern_takes_this_path_and_not_that(path: str, taken: str, other: str) -> None:
    table = table_of(code(path)[0])
    assert table.match(read_target(code(taken)[0])).route.name == code(path)[0]
    with pytest.raises(Refused):
        table.match(read_target(code(other)[0]))


@pytest.mark.parametrize(("routes", "path", "winner"), rows("routes"))
def test_the_most_specific_route_wins(routes: str, path: str, winner: str) -> None:
    assert table_of(*code(routes)).match(read_target(code(path)[0])).route.name == code(winner)[0]
