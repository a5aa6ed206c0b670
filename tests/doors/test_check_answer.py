"""`doors/check_answer.py`, read with Envoy's own types."""

from __future__ import annotations

import pytest
from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from envoy.type.v3.http_status_pb2 import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from sidecar.doors import check_answer
from sidecar.doors.answer import status_of
from sidecar.doors.check_answer import APPEND, OVERWRITE, Change
from sidecar.gate.codes import Code
from sidecar.wire.grpc import Status

NAME = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=200).map(str.encode)
VALUE = st.text(max_size=300).map(str.encode)
CHANGES = st.lists(st.tuples(NAME, VALUE, st.sampled_from([OVERWRITE, APPEND])), max_size=6)
FACTS = st.lists(st.tuples(NAME, st.text(max_size=200)), max_size=4, unique_by=lambda fact: fact[0])
ACTIONS = {
    OVERWRITE: HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    APPEND: HeaderValueOption.APPEND_IF_EXISTS_OR_ADD,
}


def changes_of(options: list[HeaderValueOption]) -> list[tuple[bytes, bytes, int]]:
    return [(each.header.key.encode(), each.header.value.encode(), each.append_action) for each in options]


def expected(changes: list[Change]) -> list[tuple[bytes, bytes, int]]:
    return [(name, value, ACTIONS[action]) for name, value, action in changes]


@given(CHANGES, st.lists(NAME, max_size=6), CHANGES, FACTS)
def test_allowed(
    changes: list[Change], remove: list[bytes], reply: list[Change], facts: list[tuple[bytes, str]]
) -> None:
    read = CheckResponse.FromString(check_answer.allowed(changes, remove, reply, facts))
    assert read.status.code == 0
    assert read.WhichOneof("http_response") == "ok_response"
    assert changes_of(read.ok_response.headers) == expected(changes)
    assert [name.encode() for name in read.ok_response.headers_to_remove] == remove
    assert changes_of(read.ok_response.response_headers_to_add) == expected(reply)
    assert {name.encode(): value.string_value for name, value in read.dynamic_metadata.fields.items()} == dict(facts)


@given(st.sampled_from(list(Code)), CHANGES, st.text(max_size=300).map(str.encode), FACTS)
def test_denied(code: Code, headers: list[Change], body: bytes, facts: list[tuple[bytes, str]]) -> None:
    made = check_answer.denied(status_of(code), Status.PERMISSION_DENIED, headers, body, facts)
    read = CheckResponse.FromString(made)
    assert read.status.code == Status.PERMISSION_DENIED
    assert read.WhichOneof("http_response") == "denied_response"
    assert read.denied_response.status.code == status_of(code)
    # Envoy takes no status that it does not know
    assert status_of(code) in StatusCode.values()
    assert changes_of(read.denied_response.headers) == expected(headers)
    assert read.denied_response.body.encode() == body
    assert {name.encode(): value.string_value for name, value in read.dynamic_metadata.fields.items()} == dict(facts)


@pytest.mark.parametrize("size", [0, 127, 128, 16383, 16384, 2_100_000])
def test_lengths(size: int) -> None:
    read = CheckResponse.FromString(check_answer.allowed([(b"a", b"x" * size, OVERWRITE)], [], [], []))
    assert len(read.ok_response.headers[0].header.value) == size


def test_a_value_that_is_not_text_cannot_be_said() -> None:
    with pytest.raises(UnicodeDecodeError):
        check_answer.allowed([(b"cookie", b"a=\xff", OVERWRITE)], [], [], [])
