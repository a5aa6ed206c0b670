"""References extract; what is missing, doubled or of another type is refused, never a default."""

from __future__ import annotations

from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.form import Form
from sidecar.gate.identity import Principal
from sidecar.gate.references import (
    ABSENT,
    Material,
    Reference,
    ReferenceSource,
    parse_reference,
    parse_template,
    resolve,
)
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.values import MAX_VALUE, Type, checked
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import Header
from sidecar.wire.strict_json import EXACT_INTEGER
from sidecar.wire.urlencoded import FormField

CLAIMS = {
    "sub": "a-1",
    "custom:department": "hr",
    "level": 3,
    "cognito:groups": ["user", "staff"],
    "verified": True,
    "x": None,
}
ALICE = Principal("a-1", ("user", "staff"), {"email": "a@x.test", "level": 3}, "issuer", 1.0, CLAIMS)
BODY = {
    "owner": "a-1", "amount": 12.5, "count": 3, "open": False, "tags": ["a", 1, True, 0.5], "deep": {"a": [{"b": "c"}]},
    "nested": [["a"]], "empty": "", "control": "a\0b", "big": EXACT_INTEGER, "list": ["a-1"], "object": {"$ne": None},
}  # fmt: skip


def material(query: bytes = b"", *headers: Header, path: dict[str, str] | None = None, body: Any = BODY) -> Material:
    raw = Raw("POST", b"/docs?" + query, [(b"host", b"x"), *headers], "10.0.0.9", "http", "r")
    return Material(read(raw, Reading()), path or {}, ALICE, body)


def value(text: str, given_material: Material) -> Any:
    return parse_template(text).value(given_material)


def refusal(text: str, given_material: Material) -> Code:
    with pytest.raises(Refused) as caught:
        value(text, given_material)
    return caught.value.code


# --- as written ---


@pytest.mark.parametrize(
    ("text", "source", "name", "kind"),
    [
        ("path.id", ReferenceSource.PATH, "id", Type.STRING), ("path.id:int", ReferenceSource.PATH, "id", Type.INT),
        ("query.doc:number", ReferenceSource.QUERY, "doc", Type.NUMBER), ("header.X-Tenant", ReferenceSource.HEADER, "x-tenant", Type.STRING),
        ("claims.custom:department", ReferenceSource.CLAIMS, "custom:department", Type.STRING),
        ("claims.cognito:groups:list", ReferenceSource.CLAIMS, "cognito:groups", Type.LIST),
        ("claims.https://x.test/role", ReferenceSource.CLAIMS, "https://x.test/role", Type.STRING),
        ("principal.id", ReferenceSource.PRINCIPAL, "id", Type.STRING), ("principal.roles:list", ReferenceSource.PRINCIPAL, "roles", Type.LIST),
        ("principal.attributes.level:int", ReferenceSource.PRINCIPAL, "attributes.level", Type.INT),
        ("body.amount:number", ReferenceSource.BODY, "amount", Type.NUMBER), ("body.a.b[0]:bool", ReferenceSource.BODY, "a.b[0]", Type.BOOL),
        ("path.id:string", ReferenceSource.PATH, "id", Type.STRING),
        ("body.a[].b:json", ReferenceSource.BODY, "a[].b", Type.JSON), ("claims.x:json", ReferenceSource.CLAIMS, "x", Type.JSON),
    ],
)  # fmt: skip
def test_a_reference_is_a_source_a_name_and_a_type(text: str, source: ReferenceSource, name: str, kind: Type) -> None:
    reference = parse_reference(text)
    assert (reference.source, reference.name, reference.type) == (source, name, kind)
    assert str(reference) == f"{source}.{name}"


@pytest.mark.parametrize(
    "text",
    ["", "id", "env.HOME", "PATH.id", "path", "path.", "path.a-b", "path.1a", "path.id:float", "path.id:bool", "query.a:list",
     "header.x:bool", "header.x_a", "header.", "query.", "query.a b", "query.a[]", "claims.", "claims.a b", "principal.name",
     "path.id:json", "query.a:json", "header.x:json", "principal.attributes.", "principal.roles.0", "body.", "body.a[", "body.[", "body.a.:number"],
)  # fmt: skip
def test_a_reference_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="found"):
        parse_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "}",
        "a}",
        "{path.id",
        "{{path.id}}",
        "{path.id}}",
        "a{path.id:int}",
        "{path.a}{query.b:number}",
        "{}",
        "x{claims.a:list}",
        "x{body.a:json}",
    ],
)
def test_a_template_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="found"):
        parse_template(text)


@given(
    st.sampled_from([("path", r"[A-Za-z_][A-Za-z0-9_]{0,9}"), ("query", r"[A-Za-z0-9_.~-]{1,9}"), ("claims", r"[A-Za-z0-9_:./-]{1,9}")]).flatmap(
        lambda source: st.tuples(st.just(source[0]), st.from_regex(source[1], fullmatch=True))
    ),
    st.sampled_from([Type.STRING, Type.NUMBER, Type.INT]),
)  # fmt: skip
def test_what_was_parsed_is_what_was_written(written: tuple[str, str], kind: Type) -> None:
    text = ".".join(written)
    reference = parse_reference(f"{text}:{kind}")
    assert (str(reference), reference.type) == (text, kind)
    (whole,) = parse_template(f"{{{text}:{kind}}}").references
    assert whole == reference


def test_a_template_tells_its_references_in_order() -> None:
    template = parse_template("doc-{path.a}-{query.b}")
    assert [str(reference) for reference in template.references] == ["path.a", "query.b"]
    assert template.source == "doc-{path.a}-{query.b}"
    assert parse_template("literal").references == ()


# --- what they find ---


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("literal", "literal"), ("{path.id}", "7"), ("{path.id:int}", 7), ("{path.id:number}", 7), ("{query.q}", "a b"),
        ("{query.n:number}", -1.5), ("{query.n}", "-1.5"), ("{header.X-Tenant}", "t-1"), ("{claims.sub}", "a-1"),
        ("{claims.custom:department}", "hr"), ("{claims.level:int}", 3), ("{claims.verified:bool}", True),
        ("{claims.cognito:groups:list}", ["user", "staff"]), ("{principal.id}", "a-1"), ("{principal.roles:list}", ["user", "staff"]),
        ("{principal.attributes.email}", "a@x.test"), ("{principal.attributes.level:int}", 3), ("{body.owner}", "a-1"),
        ("{body.amount:number}", 12.5), ("{body.count:number}", 3), ("{body.count:int}", 3), ("{body.open:bool}", False),
        ("{body.tags:list}", ["a", 1, True, 0.5]), ("{body.deep.a[0].b}", "c"), ("{body.length(tags):int}", 4),
        ("{body.deep:json}", {"a": [{"b": "c"}]}), ("{body.nested:json}", [["a"]]),
        ("{claims.cognito:groups:json}", ["user", "staff"]), ("{body.amount:json?}", 12.5), ("{body.gone:json?}", ABSENT),
        ("doc-{path.id}-{principal.id}", "doc-7-a-1"), ("{path.id}.pdf", "7.pdf"),
    ],
)  # fmt: skip
def test_a_template_gives_what_the_request_says(text: str, found: Any) -> None:
    here = material(b"q=a+b&n=-1.5", (b"x-tenant", b"t-1"), path={"id": "7"})
    got = value(text, here)
    assert (got, type(got)) == (found, type(found))


@pytest.mark.parametrize(
    "text",
    [
        "{body.missing}", "{body.list}", "{body.object}", "{body.count}", "{body.open}", "{body.empty}", "{body.control}",
        "{body.owner:int}", "{body.amount:int}", "{body.open:int}", "{body.open:number}", "{body.big:int}", "{body.big:number}",
        "{body.count:bool}", "{body.owner:list}", "{body.nested:list}", "{body.object:list}", "{body.owner:number}",
        "{body.length(count):int}", "{body.abs(owner):number}", "doc-{body.missing}",
    ],
)  # fmt: skip
def test_a_body_that_has_not_what_is_declared_is_invalid(text: str) -> None:
    assert refusal(text, material()) is Code.BODY_INVALID


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "a",
        1,
        {},
        {"owner": None},
        {"owner": {"owner": "a-1"}},
        {"Owner": "a-1"},
        {"owner": "x" * (MAX_VALUE + 1)},
    ],
)
def test_a_body_of_another_shape_is_invalid(body: Any) -> None:
    assert refusal("{body.owner}", material(body=body)) is Code.BODY_INVALID


@pytest.mark.parametrize(
    "text",
    ["{claims.missing}", "{claims.x}", "{claims.level}", "{claims.sub:int}", "{claims.verified:int}", "{principal.roles}",
     "{principal.attributes.missing}", "{principal.attributes.level}", "{principal.id:bool}"],
)  # fmt: skip
def test_a_principal_that_has_not_what_is_declared_is_refused(text: str) -> None:
    assert refusal(text, material()) is Code.REFERENCE_INVALID


@pytest.mark.parametrize("text", ["", "x" * (MAX_VALUE + 1), "a\0b", "a\nb", "a\x7f", "a\x85", "a\x9f"])
def test_a_text_is_of_bounded_length_and_without_controls(text: str) -> None:
    for code in (Code.REFERENCE_INVALID, Code.BODY_INVALID):
        with pytest.raises(Refused) as caught:
            checked(Type.STRING, text, "place", code)
        assert caught.value.code is code
    assert refusal("{path.id}", material(path={"id": text})) is Code.REFERENCE_INVALID


def test_a_text_of_the_full_length_is_taken() -> None:
    assert value("{path.id}", material(path={"id": "é" * MAX_VALUE})) == "é" * MAX_VALUE


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("int", "0", 0), ("int", "-7", -7), ("int", str(EXACT_INTEGER - 1), EXACT_INTEGER - 1), ("number", "1.50", 1.5), ("number", "7", 7),
        ("number", "-0.25", -0.25),
    ],
)  # fmt: skip
def test_text_is_read_as_a_number_in_its_one_form(kind: str, text: str, found: float) -> None:
    assert value(f"{{path.id:{kind}}}", material(path={"id": text})) == found


@pytest.mark.parametrize(
    ("kind", "text"),
    [*(("int", text) for text in ("01", "+1", "1.0", "1e3", " 1", "1_0", "٣", "0x1", "", "-", str(EXACT_INTEGER), "9" * 17, "1\n")),
     *(("number", text) for text in ("1.", ".5", "1e3", "NaN", "inf", "1,5", "--1", "01.5", "1.5.1", str(EXACT_INTEGER)))],
)  # fmt: skip
def test_text_that_another_reader_would_read_as_another_number_is_refused(kind: str, text: str) -> None:
    assert refusal(f"{{path.id:{kind}}}", material(path={"id": text})) is Code.REFERENCE_INVALID


# --- the query ---


def test_an_empty_query_value_is_no_value() -> None:
    for query in (b"doc=", b"doc", b"doc=%0a", b"doc=%00"):
        assert refusal("{query.doc}", material(query)) is Code.REFERENCE_INVALID


# --- numbers that are none ---


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_compares_with_nothing_is_no_number(number: float) -> None:
    """A policy's `amount > 1000` is false of NaN: a DENY rule on it would be skipped."""
    for kind, found in ((Type.NUMBER, number), (Type.LIST, [number])):
        with pytest.raises(Refused) as caught:
            checked(kind, found, "place")
        assert caught.value.code is Code.REFERENCE_INVALID


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("{body.to_number(a):number}", {"a": "nan"}), ("{body.to_number(a):number}", {"a": "-inf"}),
        ("{body.sum(a):number}", {"a": [1e308, 1e308]}), ("{body.[to_number(a)]:list}", {"a": "nan"}),
        ("{body.floor(to_number(a)):number}", {"a": "inf"}), ("{body.ceil(to_number(a)):number}", {"a": "nan"}),
        # the library compares whatever there is, and lets the interpreter raise
        ("{body.a > b:bool}", {"a": 1, "b": "x"}), ("{body.l[?n > `5`].n | [0]:int}", {"l": [{"n": "9"}]}),
        ("{body.max_by(l, &n).n:int}", {"l": [{"n": 1}, {"n": "x"}]}),
    ],
)  # fmt: skip
def test_an_expression_cannot_make_such_a_number_of_a_body(text: str, body: Any) -> None:
    assert refusal(text, material(body=body)) is Code.BODY_INVALID


# --- headers ---


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ((), Code.REFERENCE_INVALID), (((b"x-a", b"1"), (b"x-a", b"2")), Code.REFERENCE_INVALID),
        (((b"x-a", b"\xff"),), Code.REFERENCE_INVALID), (((b"x-a", b""),), Code.REFERENCE_INVALID),
    ],
)  # fmt: skip
def test_a_header_must_be_there_once_and_be_text(headers: tuple[Header, ...], code: Code) -> None:
    assert refusal("{header.x-a}", material(b"", *headers)) is code


@pytest.mark.parametrize("name", ["x-auth-subject", "x-original-url", "x-http-method-override", "te"])
def test_a_header_that_does_not_go_upstream_decides_nothing(name: str) -> None:
    assert refusal(f"{{header.{name}}}", material(b"", (name.encode(), b"1"))) is Code.REFERENCE_INVALID


def test_a_forwarded_header_is_ours_whatever_the_client_said() -> None:
    here = material(b"", (b"x-forwarded-for", b"1.1.1.1"))
    assert value("{header.x-forwarded-for}", here) == "10.0.0.9"


def test_any_failure_of_an_expression_is_the_bodys() -> None:
    reference = Reference(ReferenceSource.BODY, "x", Type.STRING, jmespath.compile("to_number(@) > `1`").search)
    with pytest.raises(Refused) as caught:
        resolve(reference, material(body={"a": 1}))
    assert caught.value.code is Code.BODY_INVALID


# --- optional ---


@pytest.mark.parametrize(
    "text",
    [
        "{query.page?}",
        "{header.x-page?}",
        "{claims.page?}",
        "{principal.attributes.page?}",
        "{body.page?}",
        "{body.deep.page?}",
        "{query.page:int?}",
    ],
)
def test_an_optional_reference_to_nothing_is_absent(text: str) -> None:
    assert value(text, material(b"a=1")) is ABSENT


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{query.page?}", "2"), ("{query.page:int?}", 2), ("{header.x-page?}", "3"), ("{claims.level:int?}", 3),
        ("{principal.attributes.level:int?}", 3), ("{principal.id?}", "a-1"), ("{body.owner?}", "a-1"),
        ("{body.amount:number?}", 12.5),
    ],
)  # fmt: skip
def test_an_optional_reference_to_something_is_as_strict_as_any(text: str, found: Any) -> None:
    assert value(text, material(b"page=2", (b"x-page", b"3"))) == found


@pytest.mark.parametrize(
    "query", [b"page=1&page=2", b"Page=1", b"[page]=1", b"page[]=1", b"page=", b"a=1;page=2", b"%=1", b"%ef%bd%90age=1"]
)
def test_a_spelling_of_an_optional_name_is_not_its_absence(query: bytes) -> None:
    assert refusal("{query.page?}", material(query)) is Code.REFERENCE_INVALID


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("{body.page?}", {"page": None}), ("{body.page?}", {"Page": "1"}), ("{body.page?}", {"page": 1}), ("{body.page?}", []),
        ("{body.page?}", None), ("{body.a.page?}", {"a": None}), ("{body.a.page?}", {"a": "x"}), ("{body.a.page?}", {"A": {"page": "1"}}),
        ("{body.a.page?}", {"a": {"PAGE": "1"}}), ("{body.page?}", {"\uff50age": "1"}),
    ],
)  # fmt: skip
def test_null_and_a_spelling_in_a_body_are_not_absence(text: str, body: Any) -> None:
    assert refusal(text, material(body=body)) is Code.BODY_INVALID


def test_a_claim_that_is_null_is_not_absent() -> None:
    assert refusal("{claims.x?}", material()) is Code.REFERENCE_INVALID


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{path.id?}", "always there"), ("a-{query.page?}", "expected it alone"), ("{body.a[0]?}", "names with dots between"),
        ("{body.a || b?}", "names with dots between"), ("{query.page??}", "expected a name"), ("{query.page?:int}", "expected a name"),
    ],
)  # fmt: skip
def test_an_optional_reference_that_nobody_could_read_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_template(text)


# --- names in another spelling ---


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("{body.owner || 'x'}", {"Owner": "bob"}), ("{body.items[?public].id:list}", {"items": [{"Public": False, "id": 1}]}),
        ("{body.items[?public].id:list}", {"Items": []}), ("{body.items[*].id:list}", {"items": [{"a": [{"ID": 2}]}]}),
        ("{body.not_null(owner, 'x')}", {"\uff4fwner": "bob"}),
    ],
)  # fmt: skip
def test_an_expression_that_goes_on_without_a_name_takes_no_other_spelling_for_its_absence(
    text: str, body: Any
) -> None:
    assert refusal(text, material(body=body)) is Code.BODY_INVALID


def test_such_an_expression_reads_what_has_its_own_names() -> None:
    assert value("{body.owner || 'x'}", material(body={"other": 1})) == "x"
    assert value("{body.items[?open].id:list}", material(body={"items": [{"open": True, "id": 1}, {"id": 2}]})) == [1]


@pytest.mark.parametrize(
    "name", [b"x_tenant", b"X_TENANT", b"X-Tenant", b"x.tenant", b"x-tenant ", b"x\xadtenant", b"\xef\xbd\x98-tenant"]
)
def test_a_header_name_in_another_spelling_is_refused_before_any_reference_is_read(name: bytes) -> None:
    for headers in (((b"x-tenant", b"a"), (name, b"b")), ((name, b"b"),)):
        with pytest.raises(Refused) as caught:
            material(b"", *headers)
        assert caught.value.code is Code.HEADER_AMBIGUOUS


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("args.id", "7", "7"), ("args.id", 7, "7"), ("args.id", -7, "-7"), ("args.id:int", 7, 7), ("args.id:int", "7", 7),
        ("args.id:int", "-7", -7), ("args.id:number", "7.5", 7.5), ("args.id:number", 7.5, 7.5), ("args.id:bool", True, True),
        ("args.id:list", ["7", 7], ["7", 7]), ("args.id:json", {"a": "7"}, {"a": "7"}),
    ],
)  # fmt: skip
def test_an_argument_has_one_form_however_it_came(text: str, value: Any, expected: Any) -> None:
    found = resolve(parse_reference(text), material()._replace(args={"id": value}))
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("args.id", 7.0), ("args.id", True), ("args.id", None), ("args.id", EXACT_INTEGER), ("args.id", ["7"]), ("args.id", ""),
        ("args.id:int", "07"), ("args.id:int", "+7"), ("args.id:int", "7.0"), ("args.id:int", 7.0), ("args.id:int", True),
        ("args.id:number", "7.50"), ("args.id:bool", "true"), ("args.none", 7),
    ],
)  # fmt: skip
def test_an_argument_that_may_be_read_otherwise_is_refused(text: str, value: Any) -> None:
    with pytest.raises(Refused) as caught:
        resolve(parse_reference(text), material()._replace(args={"id": value}))
    assert caught.value.code is Code.BODY_INVALID


# --- forms ---


def form(*pairs: tuple[str, str]) -> Material:
    return material()._replace(body=None, form=Form([FormField(name, text) for name, text in pairs]))


@pytest.mark.parametrize(
    ("text", "pairs", "found"),
    [
        ("{form.owner}", [("owner", "alice"), ("x", "")], "alice"), ("{form.owner?}", [], ABSENT), ("{form.owner?}", [("owner", "")], ""),
        ("{form.n:int}", [("n", "7")], 7), ("{form.n:number}", [("n", "0.5")], 0.5), ("{form.n:int?}", [], ABSENT),
        ("{form.contact[owner]}", [("contact[owner]", "alice")], "alice"), ("a-{form.owner}", [("owner", "b")], "a-b"),
        ("{form.ids:list}", [("ids", "1"), ("x", "3"), ("ids", "2")], ["1", "2"]), ("{form.ids[]:list}", [("ids[]", "1")], ["1"]),
        ("{form.ids:list?}", [], ABSENT),
    ],
)  # fmt: skip
def test_a_form_gives_texts_and_lists_of_them(text: str, pairs: list[tuple[str, str]], found: Any) -> None:
    assert value(text, form(*pairs)) == found


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("{form.owner}", []), ("{form.owner}", [("owner", "")]), ("{form.owner}", [("owner", "a"), ("owner", "a")]),
        ("{form.owner?}", [("owner", "a"), ("owner", "a")]), ("{form.owner?}", [("OWNER", "a")]), ("{form.owner}", [("owner", "a\nb")]),
        ("{form.owner}", [("owner", "a" * (MAX_VALUE + 1))]), ("{form.n:int}", [("n", "07")]), ("{form.n:int?}", [("n", "")]),
        ("{form.n:number}", [("n", "1e3")]), ("{form.ids:list}", []), ("{form.ids:list}", [("ids", "")]), ("{form.ids:list?}", [("ids[]", "1")]),
    ],
)  # fmt: skip
def test_what_a_form_does_not_say_in_one_way_is_refused(text: str, pairs: list[tuple[str, str]]) -> None:
    assert refusal(text, form(*pairs)) is Code.BODY_INVALID


def test_without_a_form_nothing_is_found_in_it() -> None:
    assert refusal("{form.owner}", material()) is Code.BODY_INVALID
    assert refusal("{form.owner?}", material()) is Code.BODY_INVALID
