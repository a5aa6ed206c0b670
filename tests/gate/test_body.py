"""A body that references read: JSON, whole, strict, bounded."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.gate.body import read_json
from sidecar.gate.request import Header, Raw, Reading, Request, read
from sidecar.gate.verdict import Code, Refused

JSON: Header = (b"content-type", b"application/json")


class Door:
    """A body as a door gives it, and how often and up to how many bytes it was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[int] = []

    async def read(self, limit: int) -> bytes:
        self.asked.append(limit)
        if len(self.data) > limit:
            raise Refused(Code.BODY_TOO_LARGE)
        return self.data


def request(*headers: Header) -> Request:
    return read(Raw("POST", b"/docs", [(b"host", b"x"), *headers], "", "http", "r"), Reading())


async def refusal(data: bytes, *headers: Header, limit: int = 100) -> tuple[Code, list[int]]:
    door = Door(data)
    with pytest.raises(Refused) as caught:
        await read_json(request(*headers), door.read, limit)
    return caught.value.code, door.asked


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json;charset=utf-8",
        b'application/json ; charset="UTF-8"',
    ],
)
async def test_json_is_read_whole_and_once(content_type: bytes) -> None:
    door = Door(b'{"owner":"a-1"}')
    assert await read_json(request((b"content-type", content_type)), door.read, 100) == {"owner": "a-1"}
    assert door.asked == [100]


@pytest.mark.parametrize("data", [b"[]", b'"a"', b"1", b"null"])
async def test_any_json_value_is_read(data: bytes) -> None:
    """Whether a reference finds something in it is that reference's to say."""
    await read_json(request(JSON), Door(data).read, 100)


@pytest.mark.parametrize(
    "headers",
    [
        (), *(((b"content-type", kind),) for kind in (
            b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"application/jsonx",
            b"application/json;charset=utf-16", b"application/json; charset=utf-8; q=1", b"application/json, text/plain",
            b"application/merge-patch+json", b"text/json", b"",
        )),
        (JSON, (b"content-encoding", b"gzip")), (JSON, (b"content-encoding", b"identity, gzip")), (JSON, (b"content-encoding", b"")),
    ],
)  # fmt: skip
async def test_another_type_or_coding_is_415_and_no_byte_is_read(headers: tuple[Header, ...]) -> None:
    assert await refusal(b"{}", *headers) == (Code.BODY_TYPE_UNSUPPORTED, [])


async def test_the_identity_coding_is_none() -> None:
    assert await read_json(request(JSON, (b"content-encoding", b"Identity")), Door(b"1").read, 9) == 1


async def test_a_length_over_the_limit_is_413_before_a_byte_is_read() -> None:
    assert await refusal(b"{}", JSON, (b"content-length", b"101")) == (Code.BODY_TOO_LARGE, [])
    assert await read_json(request(JSON, (b"content-length", b"100")), Door(b"7").read, 100) == 7


async def test_a_body_without_a_length_is_bounded_by_the_door() -> None:
    assert await refusal(b"1" * 101, JSON, (b"transfer-encoding", b"chunked")) == (Code.BODY_TOO_LARGE, [100])


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"{} {}", b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":1e999}', b'{"a":"\\ud800"}', b"\xef\xbb\xbf{}", b"\xff",
     '{"a":1}'.encode("utf-16"), b"[" * 90_000],
)  # fmt: skip
async def test_a_body_with_two_readings_is_400(data: bytes) -> None:
    assert (await refusal(data, JSON, limit=100_000))[0] is Code.BODY_INVALID


async def test_what_the_door_refuses_stays_what_it_is() -> None:
    async def stalled(_: int) -> Any:
        raise Refused(Code.REQUEST_TIMEOUT)

    with pytest.raises(Refused) as caught:
        await read_json(request(JSON), stalled, 100)
    assert caught.value.code is Code.REQUEST_TIMEOUT
