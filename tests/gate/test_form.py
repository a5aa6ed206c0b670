"""Fields of a form: each under one name, in one spelling, and nowhere else in the request."""

from __future__ import annotations

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.form import MAX_FIELDS, MAX_URLENCODED, Form, FormRule, judged, reader_of
from sidecar.gate.verdict import Refused
from sidecar.wire.urlencoded import FormField

URLENCODED = b"application/x-www-form-urlencoded"


def form(*names: str) -> Form:
    return Form([FormField(name, str(number)) for number, name in enumerate(names, 1)])


def read(names: str, query: bytes = b"", reads: str = "owner", parameters: str = "") -> Form:
    fields = [FormField(name, "1") for name in names.split(",")]
    return judged(fields, query, FormRule(frozenset(reads.split(",")), frozenset(parameters.split(",")) - {""}))


@pytest.mark.parametrize(
    ("names", "name", "texts"),
    [
        (["owner", "x"], "owner", ["1"]), (["x"], "owner", []), (["owner", "owner"], "owner", ["1", "2"]),
        (["ids[]", "x", "ids[]"], "ids[]", ["1", "3"]), (["contact[owner]", "contact[name]", "contact[owner_id]"], "contact[owner]", ["1"]),
        (["owner2", "co-owner", "owner-id", "ownerid"], "owner", []), (["owner.id", "owner.name"], "owner.id", ["1"]),
    ],
)  # fmt: skip
def test_a_field_is_found_by_the_name_that_it_has_for_all_servers(
    names: list[str], name: str, texts: list[str]
) -> None:
    assert form(*names).texts(name) == texts


@pytest.mark.parametrize(
    "other",
    [
        "OWNER", "Owner", " owner", "owner ", "owner[]", "owner[id]", "owner[0]", "[owner]", "owner]", "owner[", "owner.id", "owner.",
        "!owner", "\uff4fwner", "own\u200ber", "owner\x00x", "owner:int", "owner:utf8:list",
    ],
)  # fmt: skip
def test_another_spelling_is_refused_whether_or_not_the_name_is_there(other: str) -> None:
    for made in (form("owner", other), form(other, "owner"), form(other)):
        with pytest.raises(Refused, match="which some servers") as caught:
            made.texts("owner")
        assert caught.value.code is Code.BODY_INVALID


@pytest.mark.parametrize(
    ("name", "marker"),
    [("owner", "_owner"), ("owner", "_Owner"), ("ids[]", "_ids"), ("contact[owner]", "_contact.owner")],
)
def test_a_marker_for_an_empty_field_is_refused_where_the_field_is_not_there(name: str, marker: str) -> None:
    assert form(name, marker).texts(name) == ["1"]
    with pytest.raises(Refused, match="Spring") as caught:
        form(marker).texts(name)
    assert caught.value.code is Code.BODY_INVALID


@pytest.mark.parametrize(
    "other",
    [
        "contact", "contact[]", "contact.owner", "contact_owner", "contact[Owner]", "contact[owner][]", "contact[owner][id]", "contact[owner",
        "contact[owner]x", "contact[ owner]", "[contact][owner]", "contact owner",
    ],
)  # fmt: skip
def test_a_name_in_brackets_has_one_spelling_too(other: str) -> None:
    with pytest.raises(Refused):
        form("contact[owner]", other).texts("contact[owner]")


def test_a_name_that_php_makes_another_is_refused() -> None:
    for other in ("doc.id", "doc id", "doc[id", "doc[id]", "DOC_ID", "doc..id"):
        with pytest.raises(Refused):
            form("doc_id", other).texts("doc_id" if other != "doc..id" else "doc__id")


def test_a_file_is_no_text() -> None:
    made = Form([FormField("owner", "1"), FormField("owner", None, "a file")])
    with pytest.raises(Refused, match="a file"):
        made.texts("owner")


@pytest.mark.parametrize(
    "name", ["_charset_", "_CHARSET_", "_method", "_Method", "X-HTTP-Method-Override", "_method[]"]
)
def test_a_field_that_changes_what_all_others_say_is_refused(name: str) -> None:
    with pytest.raises(Refused) as caught:
        read(f"owner,{name}")
    assert caught.value.code is Code.BODY_INVALID


def test_a_method_in_a_form_is_for_whom_it_is_read() -> None:
    assert read("owner,_method", reads="owner,_method").texts("_method") == ["1"]


@pytest.mark.parametrize("query", [b"owner=2", b"a=1&owner", b"OWNER=2", b"owner[]=2", b"a=1;b=2", b"%=1"])
def test_a_field_that_the_query_may_have_too_is_refused(query: bytes) -> None:
    """Servlets take the parameter first, Go and Rails the field."""
    with pytest.raises(Refused) as caught:
        read("owner", query)
    assert caught.value.code is Code.REFERENCE_INVALID
    assert read("owner", b"page=2").texts("owner") == ["1"]


def test_a_parameter_that_is_read_or_set_is_no_field() -> None:
    for name in ("tenant", "Tenant", "tenant[]"):
        with pytest.raises(Refused, match="in the query alone") as caught:
            read(f"owner,{name}", b"tenant=a", parameters="tenant")
        assert caught.value.code is Code.BODY_INVALID
    assert read("owner,x", b"tenant=a", parameters="tenant").texts("owner") == ["1"]


@pytest.mark.parametrize(
    "kind",
    [
        URLENCODED, b"Application/X-WWW-Form-Urlencoded; charset=UTF-8", URLENCODED + b';charset="utf-8"',
        b"multipart/form-data; boundary=b",
    ],
)  # fmt: skip
def test_forms_are_read_by_their_type(kind: bytes) -> None:
    assert reader_of(kind) is not None


@pytest.mark.parametrize(
    "kind",
    [
        b"", b"application/json", b"text/plain", URLENCODED + b"; charset=iso-8859-1", URLENCODED + b"; x=y", URLENCODED + b", text/plain",
        URLENCODED + b";", b"multipart/form-data", b"multipart/mixed; boundary=b",
    ],
)  # fmt: skip
def test_nothing_else_is_a_form(kind: bytes) -> None:
    assert reader_of(kind) is None


def test_forms_are_bounded() -> None:
    reader = reader_of(URLENCODED)
    assert reader is not None
    assert reader.most == MAX_URLENCODED
    reader.feed(b"a=1&" * (MAX_FIELDS - 1))
    reader.feed(b"a=1")
    assert len(reader.end()) == MAX_FIELDS
    reader.feed(b"&a=1")
    with pytest.raises(ValueError, match="more than 512"):
        reader.end()
    multipart = reader_of(b"multipart/form-data; boundary=b")
    assert multipart is not None
    assert multipart.most is None
