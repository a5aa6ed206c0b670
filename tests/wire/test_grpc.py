"""`wire/grpc.py`: fields, messages and statuses of gRPC."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder

from sidecar.wire import grpc
from sidecar.wire.grpc import CallFailed, Status, response_block
from sidecar.wire.http2 import CompressionError


def block(*fields: tuple[str, str]) -> bytes:
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode(fields)


def said(block: bytes) -> dict[str, str]:
    return {str(name): str(value) for name, value in Decoder().decode(block)}


HEAD = [(":status", "200"), ("content-type", "application/grpc+proto")]

# --- messages ---


@pytest.mark.parametrize("message", [b"", b"a", b"x" * 70_000])
def test_a_message_comes_back_from_its_body(message: bytes) -> None:
    body = grpc.prefixed(message)
    assert body[:5] == b"\0" + len(message).to_bytes(4, "big")
    assert grpc.message_of(body) == message


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\0", b"\0\0\0\0", grpc.prefixed(b"ab")[:-1], grpc.prefixed(b"ab") + b"c", grpc.prefixed(b"a") * 2,
        b"\1" + grpc.prefixed(b"a")[1:], b"\0\xff\xff\xff\xff",
    ],
)  # fmt: skip
def test_what_is_not_one_whole_message_is_none(body: bytes) -> None:
    assert grpc.message_of(body) is None
    assert grpc.is_compressed(body) == body.startswith(b"\1")


# --- calls ---


def test_the_headers_of_a_call() -> None:
    plain = dict(grpc.call_fields("/a.B/C", "host", 0.5, "", secure=False))
    assert plain[b":scheme"] == b"http"
    assert plain[b"grpc-timeout"] == b"500m"
    assert b"authorization" not in plain
    other = dict(grpc.call_fields("/a.B/C", "host", 0.0001, "Basic x", secure=True))
    assert (other[b":scheme"], other[b"grpc-timeout"], other[b"authorization"]) == (b"https", b"1m", b"Basic x")


# --- answers ---


def test_a_server_s_blocks_are_read_as_they_are_meant() -> None:
    assert response_block(grpc.RESPONSE_HEADERS) == (False, None, response_block(grpc.RESPONSE_HEADERS).not_trailers)
    assert response_block(grpc.TRAILERS_OK).not_trailers is None
    assert said(grpc.UNSUPPORTED_MEDIA_TYPE) == {":status": "415"}


def test_a_detail_is_cut_and_escaped() -> None:
    written = grpc.trailers_only(CallFailed(Status.NOT_FOUND, "\u20ac" * 1000))
    assert len(written) < 200
    fields = said(written)
    assert fields["grpc-status"] == "5"
    assert fields["grpc-message"].startswith("%E2%82%AC")


def test_a_failure_is_read_as_it_was_written() -> None:
    written = grpc.trailers_only(CallFailed(Status.ABORTED, "50% of \u20ac"))
    read = response_block(written)
    assert read.not_headers is None
    assert read.not_trailers is not None
    assert (read.not_trailers.status, read.not_trailers.detail) == (Status.ABORTED, "50% of \u20ac")
    assert "grpc-message" not in said(grpc.trailers_only(CallFailed(Status.ABORTED)))


@pytest.mark.parametrize(
    ("status", "means"),
    [("0", None), ("17", Status.UNKNOWN), ("00", Status.UNKNOWN), ("", Status.UNKNOWN)]
    + [(str(int(status)), status) for status in Status if status],
)
def test_the_status_of_trailers(status: str, means: Status | None) -> None:
    failed = response_block(block(("grpc-status", status))).not_trailers
    assert (failed and failed.status) == means


@pytest.mark.parametrize(
    ("fields", "means"),
    [
        (HEAD, None),
        ([(":status", "200"), ("content-type", "text/html")], Status.UNKNOWN),
        ([(":status", "200")], Status.UNKNOWN),
        ([("content-type", "application/grpc")], Status.UNKNOWN),
        ([(":status", "401")], Status.UNAUTHENTICATED),
        ([(":status", "404")], Status.UNIMPLEMENTED),
        ([(":status", "503")], Status.UNAVAILABLE),
        ([(":status", "500")], Status.UNKNOWN),
    ],
)
def test_the_status_of_headers(fields: list[tuple[str, str]], means: Status | None) -> None:
    failed = response_block(block(*fields)).not_headers
    assert (failed and failed.status) == means


def test_interim_headers_are_told_apart() -> None:
    assert response_block(block((":status", "103"))).interim
    assert not response_block(block(*HEAD)).interim


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (7, Status.UNAVAILABLE),
        (8, Status.CANCELLED),
        (11, Status.RESOURCE_EXHAUSTED),
        (12, Status.PERMISSION_DENIED),
        (2, Status.INTERNAL),
    ],
)
def test_the_status_of_a_reset(code: int, status: Status) -> None:
    assert grpc.failure_of_reset(code).status is status


@pytest.mark.parametrize("twice", ["8889", "88" * 2, "5f01615f0162"])
def test_what_can_be_there_only_once_is_refused_twice(twice: str) -> None:
    with pytest.raises(CompressionError, match="twice"):
        response_block(bytes.fromhex(twice))


def test_another_field_may_be_there_twice() -> None:
    assert response_block(block(("x", "a"), ("x", "b"), ("grpc-status", "0"))).not_trailers is None
