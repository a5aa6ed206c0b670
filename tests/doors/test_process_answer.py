"""`doors/process_answer.py`: bytes that the library reads as it would have written them."""

from __future__ import annotations

import pytest
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingResponse
from hypothesis import given
from hypothesis import strategies as st

from sidecar.doors import process_answer
from sidecar.doors.process_answer import (
    BodyMode,
    HeaderMutation,
    difference,
    go_on,
    instead,
    metadata,
    mode,
    without_trailers,
)
from sidecar.wire.grammar import Header
from sidecar.wire.grpc import Status


def add(mutation: object, name: str, value: bytes, beside: bool) -> None:
    option = mutation.set_headers.add()  # type: ignore[attr-defined]
    option.header.key, option.header.raw_value = name, value
    option.append.value = beside


PARTS = ["request_headers", "response_headers", "request_body", "response_body"]
TAGS = [
    process_answer.REQUEST_HEADERS, process_answer.RESPONSE_HEADERS, process_answer.REQUEST_BODY,
    process_answer.RESPONSE_BODY,
]  # fmt: skip


@pytest.mark.parametrize(("name", "tag"), list(zip(PARTS, TAGS, strict=True)))
@pytest.mark.parametrize("body", [None, b"", b"x" * 300])
def test_an_answer_that_goes_on(name: str, tag: bytes, body: bytes | None) -> None:
    expected = ProcessingResponse()
    part = getattr(expected, name).response
    part.header_mutation.remove_headers.append("gone")
    add(part.header_mutation, "x-a", b"\xff", False)
    add(part.header_mutation, "x-b", b"1", True)
    if body:
        part.body_mutation.body = body
    elif body is not None:
        part.body_mutation.clear_body = True
    made = go_on(tag, HeaderMutation([b"gone"], [(b"x-a", b"\xff")], [(b"x-b", b"1")]), body)
    assert ProcessingResponse.FromString(made) == expected


@pytest.mark.parametrize("request_body", BodyMode)
@pytest.mark.parametrize("response_body", BodyMode)
def test_a_mode(request_body: BodyMode, response_body: BodyMode) -> None:
    made = ProcessingResponse.FromString(go_on(TAGS[0], more=mode(request_body, response_body)))
    assert made.mode_override == ProcessingMode(
        request_header_mode="SEND", response_header_mode="SEND", request_body_mode=request_body.name,
        response_body_mode=response_body.name, request_trailer_mode="SKIP",
        response_trailer_mode="SEND" if response_body else "SKIP",
    )  # fmt: skip
    assert made.WhichOneof("response") == "request_headers"


def test_an_answer_of_ours() -> None:
    expected = ProcessingResponse()
    immediate = expected.immediate_response
    immediate.status.code, immediate.body, immediate.grpc_status.status = 403, b"no", 7
    add(immediate.headers, "x-a", b"1", False)
    space = expected.dynamic_metadata.fields["envoy.filters.http.ext_proc"].struct_value
    space.fields["code"].string_value = "café"
    made = instead(
        403, HeaderMutation((), [(b"x-a", b"1")]), b"no", Status.PERMISSION_DENIED, metadata([(b"code", "caf\u00e9")])
    )
    assert ProcessingResponse.FromString(made) == expected


def test_trailers_that_go() -> None:
    made = ProcessingResponse.FromString(without_trailers(process_answer.RESPONSE_TRAILERS, [b"a", b"b"]))
    assert made.response_trailers.header_mutation.remove_headers == ["a", "b"]


HEADERS = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([b"1", b"2"])), max_size=6)


@given(HEADERS, HEADERS)
def test_a_difference_makes_of_some_headers_the_others(before: list[Header], after: list[Header]) -> None:
    change = difference(before, after)
    made = [header for header in before if header[0] not in change.remove] + list(change.add)
    for name in (b"a", b"b", b"c"):
        assert [value for own, value in made if own == name] == [value for own, value in after if own == name]
    if before == after:
        assert change == HeaderMutation([], (), [])
