"""The query: one value of a name, the names that a client may send, and those that the sidecar sets."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.query import (
    MAX_NAMES,
    UNNAMED,
    admitted,
    query_value,
    rule_of,
    shown_names,
    taken_for,
    with_values,
)
from sidecar.gate.verdict import Refused
from tests.stack import ROOT


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"doc=1", "1"), (b"a=2&doc=1&b=3", "1"), (b"%64oc=%31", "1"), (b"doc=a+b%20c", "a b c"), (b"doc=a=b", "a=b"),
        (b"doc=caf%c3%a9", "café"), (b"doc=[1]", "[1]"), (b"docs=2&doc=1&do=3", "1"), (b"doc=1&&", "1"), (b"doc=1&a=%ff", "1"),
    ],
)  # fmt: skip
def test_the_one_value_of_a_query_parameter_is_read_as_a_form_is(query: bytes, found: str) -> None:
    assert query_value(query, "doc") == found


@pytest.mark.parametrize(
    "query",
    [
        b"doc=1&doc=2", b"doc=1&doc=1", b"doc=1&%64oc=2", b"doc=1&DOC=2", b"DOC=1", b"doc=1&doc[]=2", b"doc[]=1",
        b"doc[a]=1&doc=2", b"doc%5b%5d=2&doc=1", b"doc=1;doc=2", b"a=1;doc=2", b"doc=%", b"doc=%zz", b"doc=1&%=2", b"doc=%ff",
        b"doc=1&doc%20[x]=2", b"doc=1&doc%00=2", b"doc=1&doc%00x=2", b"doc=1&%00doc=2", b"doc=1&d%09=2", b"doc=1&%ff=2", b"doc=1&+doc=2", b"doc=1&doc%20=2", b"doc=1&doc", b"doc[=1&doc=2",
        b"doc=1&[doc]=2", b"[doc]=1", b"doc=1&%2564oc=2", b"doc=1&%5bdoc%5d=2", b"doc=1&doc]=2", b"doc=1&[[doc]]=2", b"doc=1]=2", b"doc=1%5D=2",
        b"doc=1&\xef\xbd\x84oc=2", b"doc=1&%ef%bd%84oc=2", b"doc=1&do%e2%80%8bc=2",
    ],
)  # fmt: skip
def test_a_query_parameter_that_two_frameworks_could_read_differently_is_refused(query: bytes) -> None:
    with pytest.raises(Refused) as caught:
        query_value(query, "doc")
    assert caught.value.code is Code.REFERENCE_INVALID


@pytest.mark.parametrize(
    "other",
    ["doc.id", "doc id", "doc+id", "doc%20id", "doc[id", "doc%5Bid", "DOC.ID", "doc.id[]", "+doc.id", "+doc[id"],
)
@pytest.mark.parametrize("name", ["doc_id", "doc.id"])
def test_names_that_some_servers_make_one_are_one(name: str, other: str) -> None:
    """Where a server makes names of variables, '.', ' ' and a '[' that nothing closes become '_'."""
    for query in (f"{name}=1&{other}=2", f"{other}=2&{name}=1"):
        with pytest.raises(Refused) as caught:
            query_value(query.encode(), name)
        assert caught.value.code is Code.REFERENCE_INVALID
    assert query_value(f"{name}=1&doc-id=2&docid=3&doc=4&doc[x]=5".encode(), name) == "1"


def test_a_name_is_read_as_it_is_written_and_in_no_other_case() -> None:
    assert query_value(b"docId=1&doc=2", "docId") == "1"
    for query in (b"docId=1&docid=2", b"docid=1", b"DOCID=1"):
        with pytest.raises(Refused):
            query_value(query, "docId")


@pytest.mark.parametrize("other", ["doc:exact", "doc:Patient", "DOC%3anot", "doc:int"])
def test_a_name_with_a_modifier_of_fhir_or_a_type_of_zope_is_another_spelling(other: str) -> None:
    for query in (f"doc=1&{other}=2", f"{other}=2"):
        with pytest.raises(Refused) as caught:
            query_value(query.encode(), "doc")
        assert caught.value.code is Code.REFERENCE_INVALID
    assert query_value(b"x:doc=2&doc=1", "doc") == "1"


PIECES = st.sampled_from(
    [b"doc", b"DOC", b"=", b"&", b"1", b"%64", b"oc", b"[", b"]", b"+", b"%20", b";", b"a", b"%5B"]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
@example(b"doc=1&a=doc")
def test_a_query_value_that_is_taken_is_what_every_reader_takes(query: bytes) -> None:
    """First, last, any case, with or without brackets: whichever reading, the same one value."""
    try:
        found = query_value(query, "doc")
    except Refused:
        return
    pairs = parse_qsl(query.decode(), keep_blank_values=True)
    readings = {text for key, text in pairs if key.strip().lower().split("[")[0] == "doc"}
    assert readings == (set() if found is None else {found})


def test_a_query_that_is_read_has_at_most_256_parameters() -> None:
    assert query_value(b"a=1&" * 255 + b"doc=2", "doc") == "2"
    with pytest.raises(Refused) as caught:
        query_value(b"a=1&" * 256 + b"doc=2", "doc")
    assert caught.value.code is Code.REFERENCE_INVALID


def test_a_name_that_no_server_can_find_has_no_value() -> None:
    for query in (b"", b"a=1", b"a=doc", b"docs=1", b"&", b"=doc"):
        assert query_value(query, "doc") is None


# --- the names that a client may send ---


RULE = rule_of(["page", "_sort", "filter[state]", "a.b"], ())


@pytest.mark.parametrize(
    "query",
    [
        b"page=1", b"page", b"page=", b"page=1&_sort=a", b"page=1&page=2", b"p%61ge=1", b"filter[state]=x", b"filter%5Bstate%5d=x",
        b"a.b=1", b"page=1&", b"&&page=1", b"page=a=b&_sort", b"page=%zz", b"page=%3b", b"page=owner%26_where%3d1", b"page=?x",
    ],
)  # fmt: skip
def test_listed_names_go_through_byte_for_byte(query: bytes) -> None:
    assert admitted(query, RULE) == query


@pytest.mark.parametrize(
    "query",
    [
        b"owner=1", b"page=1&owner=1", b"owner=1&page=1", b"owner", b"=1", b"=", b"Page=1", b"PAGE=1", b"page[]=1", b"page[x]=1",
        b"[page]=1", b"page%20=1", b"+page=1", b"page+=1", b"page%00=1", b"page%09=1", b"pa%ge=1", b"p%ff=1", b"page=1;owner=2", b";", b"page%3b=1",
        b"filter=x", b"filter[other]=x", b"filter[state][]=x", b"a_b=1", b"a b=1", b"a[b=1", b"\xef\xbd\x90age=1",
        b"%ef%bd%90age=1", b"page%e2%80%8b=1", b"page=1&__proto__[x]=1", b"page=1%26owner=1&owner=2",
    ],
)  # fmt: skip
def test_every_other_name_is_refused(query: bytes) -> None:
    with pytest.raises(Refused) as caught:
        admitted(query, RULE)
    assert caught.value.code is Code.QUERY_NOT_ALLOWED


def test_of_a_name_that_is_refused_it_is_said_what_is_expected() -> None:
    with pytest.raises(Refused) as caught:
        admitted(b"documentId=1", rule_of(["query"], ()))
    assert caught.value.detail == "found the parameter 'documentId', expected one that the route's `query` names"


def test_no_name_at_all_may_be_the_rule_and_any_may_be() -> None:
    nothing, anything = rule_of([], ()), rule_of(None, ())
    assert admitted(b"", nothing) == b""
    assert admitted(b"&&", nothing) == b"&&"
    with pytest.raises(Refused):
        admitted(b"a", nothing)
    for query in (b"a=1;b=2", b"%=1", b"\xff"):
        assert admitted(query, anything) == query


def test_a_query_that_is_judged_has_at_most_256_parameters() -> None:
    for rule in (RULE, rule_of(None, ["owner"])):
        assert admitted(b"page=1&" * 255 + b"page=2", rule)
        with pytest.raises(Refused) as caught:
            admitted(b"page=1&" * 256 + b"page=2", rule)
        assert caught.value.code is Code.QUERY_NOT_ALLOWED


# --- the parameters that the sidecar sets ---


@pytest.mark.parametrize(
    "spelling",
    [
        b"owner=b", b"owner", b"owner=", b"OWNER=b", b"Owner=b", b"%6fwner=b", b"owner[]=b", b"owner[0]=b", b"owner%5b%5D=b", b"[owner]=b",
        b"[owner][]=b", b"owner]=b", b"owner[=b", b"+owner=b", b"owner+=b", b"owner%20=b", b"%ef%bd%8fwner=b", b"owner%e2%80%8b=b",
        b"owner:text=b", b"Owner%3Aint=b",
    ],
)  # fmt: skip
def test_every_spelling_of_a_parameter_that_the_sidecar_sets_goes(spelling: bytes) -> None:
    for rule in (rule_of(None, ["owner"]), rule_of(["page"], ["owner"]), rule_of(["page", "owner"], ["owner"])):
        for query in (b"page=1&" + spelling, spelling + b"&page=1", spelling + b"&page=1&" + spelling):
            assert admitted(query, rule) == b"page=1"
        assert admitted(spelling, rule) == b""


@pytest.mark.parametrize(
    "query", [b"a=1;owner=b", b"own%er=b", b"owner%00=b", b"%ff=b", b"\xff=b", b"owner%0a=b", b"%256fwner=b"]
)
def test_what_may_be_such_a_spelling_to_some_is_refused(query: bytes) -> None:
    with pytest.raises(Refused) as caught:
        admitted(query, rule_of(None, ["owner"]))
    assert caught.value.code is Code.QUERY_NOT_ALLOWED


def test_values_come_after_the_query_in_one_encoding() -> None:
    assert with_values(b"", [("owner", "alice")]) == b"owner=alice"
    assert with_values(b"page=1", [("owner", "a&b=c d;é%+#/?"), ("t", "x")]) == (
        b"page=1&owner=a%26b%3Dc%20d%3B%C3%A9%25%2B%23%2F%3F&t=x"
    )


NAMES = st.lists(
    st.sampled_from(["owner", "OWNER", "[", "]", "%5B", "+", "%20", ".", "_", "x", "=", "%6f", "wner", "&"]), max_size=6
).map("".join)


@given(NAMES)
@example("[owner]")
@example("owner]")
def test_no_reader_finds_a_client_s_value_of_what_the_sidecar_sets(name: str) -> None:
    """As Python's, PHP's, qs' and Rack's readers cut names; the real qs is asked below."""
    try:
        left = admitted(f"{name}=mallory".encode(), rule_of(None, ["owner"]))
    except Refused:
        return
    for key, value in parse_qsl(left.decode(), keep_blank_values=True):
        folded = key.strip().lower()
        assert "owner" not in (
            folded,
            folded.split("[")[0].strip(),
            folded.strip("[]"),
            folded.lstrip("[").split("]")[0],
        ), value


def express(queries: Iterable[bytes]) -> list[dict[str, object]]:
    """The queries as qs reads them, the parser of Express 4."""
    script = "const qs = require('qs'); const q = JSON.parse(process.argv[1]); console.log(JSON.stringify(q.map(x => qs.parse(x))))"
    node = shutil.which("node")
    assert node is not None
    told = json.dumps([query.decode("latin-1") for query in queries])
    done = subprocess.run([node, "-e", script, told], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


PARTS = [
    b"owner",
    b"[owner]",
    b"owner[]",
    b"OWNER",
    b"%5Bowner%5D",
    b"owner]",
    b"[[owner]]",
    b"x[owner]",
    b"owner[x]=1&y",
    b"[]owner",
    b"owner[x",
    b"a=[owner]",
]


@pytest.mark.process
def test_express_reads_one_value_of_a_reference_or_it_is_refused() -> None:
    queries = (
        [b"owner=alice&" + part + b"=bob" for part in PARTS]
        + [part + b"=bob" for part in PARTS]
        + [b"owner=a]=z", b"owner=a%5D=z"]
    )
    for query, read in zip(queries, express(queries), strict=True):
        try:
            value = query_value(query, "owner")
        except Refused:
            continue
        assert read.get("owner") == value, query


@pytest.mark.process
def test_express_finds_only_what_the_sidecar_has_set() -> None:
    rule = rule_of(None, ["owner"])
    queries = [with_values(admitted(part + b"=bob", rule), [("owner", "alice")]) for part in PARTS]
    assert [read["owner"] for read in express(queries)] == ["alice"] * len(PARTS)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("a", {"a"}),
        ("a[b]", {"a", "a_b]"}),
        ("[a]", {"a", "_a]"}),
        ("a]", {"a", "a]"}),
        (" A.b ", {"a_b"}),
        ("[]a", {"a", "_]a"}),
    ],
)
def test_the_names_that_a_key_may_have(key: str, names: set[str]) -> None:
    assert taken_for(key) == names


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (b"", ()), (b"page=1&page=2&q=SECRET", ("page", "q")), (b"filter%5Bname%5D=x&a.b=1&%C3%A9t%C3%A9=1", ("filter[name]", "a.b", "été")),
        # without "=" it may be a value
        (b"all", (UNNAMED,)), (b"eyJhbGciOiJSUzI1NiJ9", (UNNAMED,)), (b"0123456789abcdef", (UNNAMED,)), (b"&&", ()),
        (b"%ff=1&%zz=1&a%00=1&=1&" + b"n" * 65 + b"=1", (UNNAMED,)), (b"a%0Ab=1&$top=1&_x=2", (UNNAMED, "$top", "_x")),
        (b"&".join(b"n%d=1" % number for number in range(1000)), tuple(f"n{number}" for number in range(MAX_NAMES))),
    ],
)  # fmt: skip
def test_a_record_shows_names_of_a_query_and_no_value(query: bytes, names: tuple[str, ...]) -> None:
    assert shown_names(query) == names


@given(st.binary(max_size=200))
def test_whatever_the_query_its_names_can_be_shown(query: bytes) -> None:
    for name in shown_names(query):
        assert name == UNNAMED or (1 <= len(name) <= 64 and name.isprintable())
