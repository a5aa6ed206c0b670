"""A GraphQL request -> the root fields that may be executed, with their arguments in one form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from graphql import get_introspection_query

from sidecar.bodies.graphql import GraphQL, GraphqlReader, RootCall
from sidecar.bodies.graphql_document import DocumentLimits
from sidecar.gate.ask import Ask
from sidecar.gate.codes import Code
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.verdict import Refused

READER = GraphqlReader(DocumentLimits(fields=4))


def calls(body: Any, reader: GraphqlReader = READER) -> list[tuple[str, dict[str, Any]]]:
    return [(call.field, dict(call.arguments)) for call in reader.calls(body)]


def refused(body: Any, reader: GraphqlReader = READER) -> Refused:
    with pytest.raises(Refused) as caught:
        reader.calls(body)
    return caught.value


def test_each_root_field_of_the_chosen_operation_is_a_call() -> None:
    text = "query A{a} mutation B($id:ID!){x:b(id:$id) ...F} fragment F on Mutation{c __typename}"
    assert GraphqlReader(DocumentLimits()).calls({"query": text, "operationName": "B", "variables": {"id": 7}}) == [
        RootCall("Mutation.b", "x", {"id": 7}),
        RootCall("Mutation.c", "", {}),
    ]
    assert calls({"query": text, "operationName": "A"}) == [("Query.a", {})]
    assert calls({"query": "subscription{s}"}) == [("Subscription.s", {})]


@pytest.mark.parametrize(
    ("declared", "argument", "variables", "expected"),
    [
        ("", "7", {}, 7), ("", '"7"', {}, "7"), ("($i:ID)", "$i", {"i": 7}, 7), ("($i:ID)", "$i", {"i": "7"}, "7"),
        ('($i:ID="7")', "$i", {}, "7"), ("($i:ID=7)", "$i", {"i": 8}, 8), ("($i:ID=7)", "$i", {"i": None}, None),
        ("", "{k:[1,E,true,null]}", {}, {"k": [1, "E", True, None]}), ("($i:I)", "$i", {"i": {"k": ["$i"]}}, {"k": ["$i"]}),
        ("($i:I $j:I)", "{k:$i,l:[$j,{m:$j}],n:$j}", {"i": 1}, {"k": 1, "l": [None, {}]}),
        ("($i:I={k:[1]})", "[$i]", {}, [{"k": [1]}]),
    ],
)  # fmt: skip
def test_arguments_have_one_form(declared: str, argument: str, variables: Any, expected: Any) -> None:
    assert calls({"query": f"query{declared}{{a(x:{argument})}}", "variables": variables}) == [
        ("Query.a", {"x": expected})
    ]


def test_an_argument_whose_variable_is_not_given_is_not_there() -> None:
    assert calls({"query": "query($i:ID){a(x:$i,y:1)}"}) == [("Query.a", {"y": 1})]
    assert calls({"query": "query($i:ID){a(x:$i,y:1)}", "variables": None}) == [("Query.a", {"y": 1})]


def test_a_document_is_parsed_once_for_many_variables() -> None:
    reader, text = GraphqlReader(DocumentLimits()), "query($i:ID){a(x:$i)}"
    for number in range(3):
        assert calls({"query": text, "variables": {"i": number}}, reader) == [("Query.a", {"x": number})]
    assert len(reader._documents) == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ([], "list of 0"), ([{"query": "{a}"}], "list of 1"), ("{a}", "found str"), (None, "found nothing"), ({}, "query: found nothing"),
        ({"query": None}, "query: found nothing"), ({"query": 1}, "query: found int"), ({"query": {"a": 1}}, "query: found dict"),
        ({"query": "{a}", "id": "x"}, "found 'id'"), ({"documentId": "x"}, "found 'documentId'"), ({"query": "{a}", "Query": "{b}"}, "found 'Query'"),
        ({"query": "{a}", "operationname": "x"}, "found 'operationname'"), ({"query": "{a}", "variables": []}, "variables: found list"),
        ({"query": "{a}", "variables": "{}"}, "variables: found str"), ({"query": "{a}", "operationName": ""}, "operationName"),
        ({"query": "{a}", "operationName": 1}, "operationName"), ({"query": "{a}", "operationName": "A"}, "found 'A'"),
        ({"query": "query A{a}", "operationName": "a"}, "found 'a'"), ({"query": "query A{a} query B{b}"}, "found nothing"),
        ({"query": "query A{a} query B{b}", "operationName": "C"}, "one of 2"), ({"query": "{a}", "extensions": "x"}, "extensions: found str"),
        ({"query": "{a}", "extensions": {"persistedQuery": {"version": 1}}}, "'persistedQuery'"), ({"extensions": {"persistedQuery": {}}}, "query: found nothing"),
        ({"query": "{a}", "variables": {"x": 1}}, "does not declare"), ({"query": "query($x:I){a}", "variables": {"X": 1}}, "does not declare"),
        ({"query": "query A($x:I){a} query B{b}", "operationName": "B", "variables": {"x": 1}}, "does not declare"),
        ({"query": "{a(x:$y)}"}, "'y' is not declared"), ({"query": "query A{...F} query B($y:I){b} fragment F on Q{a(x:{z:[$y]})}", "operationName": "A"}, "not declared"),
        ({"query": "{a"}, "expected a field"),
    ],
)  # fmt: skip
def test_a_request_that_servers_could_read_differently_is_refused(body: Any, why: str) -> None:
    found = refused(body)
    assert found.code is Code.BODY_INVALID
    assert why in found.detail


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"documentId": "x"}, "found 'documentId', expected "),
        ({"query": "{a}", "id": "x"}, "found 'id', expected "),
        ({"query": "{a}", "Doc_ID": "x"}, "found 'Doc_ID', expected "),
        (
            {"query": "{a}", "extensions": {"persistedQuery": {"version": 1}}},
            "which may change what is executed, expected ",
        ),
        ({"extensions": {"persistedQuery": {}}}, "query: found nothing, expected "),
    ],
)
def test_of_a_persisted_document_it_is_said_what_is_expected(body: Any, found: str) -> None:
    assert refused(body).detail.endswith(
        f"{found}the document itself in `query`: the sidecar knows no persisted one; turn persisted documents off in the client"
    )


def test_of_another_name_it_is_said_which_ones_there_are() -> None:
    for name in ("Query", "operationname"):
        assert refused({"query": "{a}", name: "x"}).detail == (
            f"found {name!r}, expected no other names than extensions, operationName, query, variables"
        )
    assert refused({"query": "{a}", "extensions": {"x": 1}}).detail == (
        "extensions: found 'x', which may change what is executed, expected no other than clientLibrary"
    )


def test_an_extension_that_only_names_the_client_passes() -> None:
    client = {"clientLibrary": {"name": "@apollo/client", "version": "4.0.0"}}
    assert calls({"query": "{a}", "extensions": client, "operationName": None}) == [("Query.a", {})]
    assert calls({"query": "{a}", "extensions": {}}) == [("Query.a", {})]


def test_introspection_is_refused_unless_it_is_allowed() -> None:
    for field in (
        "__schema{types{name}}",
        '__type(name:"T"){name}',
        "x:__schema{types{name}}",
        "...on Query{__type(name:1){name}}",
    ):
        found = refused({"query": f"{{a {field}}}"})
        assert found.code is Code.OPERATION_UNMAPPED
        assert calls({"query": f"{{a {field}}}"}, GraphqlReader(DocumentLimits(), introspection=True)) == [
            ("Query.a", {})
        ]
    assert calls({"query": "{__typename x:__typename}"}) == []
    # of other root types they are fields like any other, of which no server has one
    assert calls({"query": "mutation{__schema{a}}"}, GraphqlReader(DocumentLimits(), introspection=True)) == [
        ("Mutation.__schema", {})
    ]


def test_each_request_of_a_batch_is_read_where_the_route_takes_batches() -> None:
    reader = GraphqlReader(DocumentLimits(fields=3, batch=2))
    one, two = {"query": "{a}"}, {"query": "mutation($i:ID){b(i:$i) c}", "variables": {"i": 1}}
    assert calls([one, two], reader) == [("Query.a", {}), ("Mutation.b", {"i": 1}), ("Mutation.c", {})]
    assert calls(one, reader) == [("Query.a", {})]
    assert "list of 3" in refused([one] * 3, reader).detail
    assert "list of 0" in refused([], reader).detail
    assert "4 root fields" in refused([two, two], reader).detail
    assert "found list" in refused([[one]], reader).detail


def test_a_url_says_what_a_body_says() -> None:
    query = b"query=query+Q(%24i%3AID)%7Ba(x%3A%24i)%7D&operationName=Q&variables=%7B%22i%22%3A%22a%20b%2Bc%22%7D&extensions={}"
    assert READER.calls_by_url(query) == [RootCall("Query.a", "", {"x": "a b+c"})]
    assert READER.calls_by_url(b"query={a}&other=1") == [RootCall("Query.a", "", {})]


@pytest.mark.parametrize(
    ("query", "code", "why"),
    [
        (b"", Code.BODY_INVALID, "query: found nothing"), (b"query={a}&variables", Code.BODY_INVALID, "variables: "),
        (b"query={a}&variables=null1", Code.BODY_INVALID, "variables: "), (b"query={a}&extensions=%22%22", Code.BODY_INVALID, "extensions: found str"),
        (b"query={a}&operationName=", Code.BODY_INVALID, "operationName"), (b"query={a}&query={b}", Code.REFERENCE_INVALID, "found 2"),
        (b"query={a}&QUERY={b}", Code.REFERENCE_INVALID, "another spelling"), (b"query[x]={a}", Code.REFERENCE_INVALID, "another spelling"),
        (b"query=mutation{a}", Code.METHOD_UNMAPPED, "found a mutation by GET"), (b"query=subscription{a}", Code.METHOD_UNMAPPED, "a subscription by GET"),
    ],
)  # fmt: skip
def test_a_url_that_servers_could_read_differently_is_refused(query: bytes, code: Code, why: str) -> None:
    with pytest.raises(Refused) as caught:
        READER.calls_by_url(query)
    assert caught.value.code is code
    assert why in caught.value.detail


def test_what_is_remembered_of_documents_has_a_bound() -> None:
    reader = GraphqlReader(DocumentLimits(tokens=2000, fields=100))
    for number in range(300):
        arguments = " ".join(f'a{field}(x:"{number}{"y" * 300}" z:{{k:[{number}]}})' for field in range(20))
        reader.calls({"query": f"{{{arguments}}}"})
    assert 0 < len(reader._documents) < 250
    assert reader._documents.weight <= 2 * 1024 * 1024


@pytest.mark.parametrize(
    "text", ["query($v:I){" + "a(x:$v)" * 4 + "}", "query($v:I){a(" + " ".join(f"x{n}:$v" for n in range(400)) + ")}"]
)
@pytest.mark.parametrize("value", [[1] * 10_000, {"x" * 10_000: 1}, [[[{"a": [1] * 100}]] * 100]])
def test_a_document_makes_not_much_of_a_large_variable_by_naming_it_often(text: str, value: Any) -> None:
    # each expression that reads an argument looks at all of it: one request of 1 MiB took seconds
    assert "times, expected at most" in refused({"query": text, "variables": {"v": value}}).detail
    assert calls({"query": "query($v:I){a(x:$v)}", "variables": {"v": value}}) == [("Query.a", {"x": value})]
    assert calls({"query": text, "variables": {"v": {"id": "7"}}})


def test_a_value_of_a_variable_is_never_told() -> None:
    for body in (
        {"query": "{a}", "variables": {"x": "secret"}},
        {"query": "query($x:I){a(", "variables": {"x": "secret"}},
    ):
        assert "secret" not in refused(json.loads(json.dumps(body))).detail


def test_the_usual_introspection_fits_into_the_usual_limits() -> None:
    text = get_introspection_query(
        specified_by_url=True, directive_is_repeatable=True, schema_description=True, input_value_deprecation=True
    )
    assert (
        calls(
            {"query": text, "operationName": "IntrospectionQuery"}, GraphqlReader(DocumentLimits(), introspection=True)
        )
        == []
    )


def test_a_query_in_a_url_has_no_body_beside_it_from_which_a_server_takes_the_variables() -> None:
    raw = Raw("GET", b"/graphql?query={a}", [(b"host", b"a"), (b"content-length", b"2")], "", "http", "r1")
    rule = GraphQL({"Query.a": Ask("read", "doc")}, READER)
    with pytest.raises(Refused) as caught:
        rule.read(read(raw, Reading()), b"")
    assert (caught.value.code, caught.value.detail[:26]) == (Code.BODY_INVALID, "found a body beside a quer")
    assert len(rule.read(read(raw._replace(headers=raw.headers[:1]), Reading()), b"")) == 1
