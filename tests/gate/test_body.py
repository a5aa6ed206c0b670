"""A body that references read: its type, its size, and only strict JSON."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.gate.body import Show, Viewer, no_body, read_form, read_json
from sidecar.gate.codes import Code
from sidecar.gate.form import MAX_URLENCODED, FormRule
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.verdict import Refused

ALICE = ("https://issuer", "alice")


async def given(body: bytes, *headers: tuple[bytes, bytes], limit: int = 100) -> Any:
    request = read(Raw("POST", b"/", [(b"host", b"x"), *headers], "", "http", "r"), Reading())

    async def whole(most: int, show: Show, viewer: Viewer) -> None:
        if len(body) > most:
            raise Refused(Code.BODY_TOO_LARGE)
        show(body)

    return await read_json(request, whole, limit, ALICE)


JSON = (b"content-type", b"application/json")


@pytest.mark.parametrize(
    "kind",
    [b"application/json", b"APPLICATION/JSON", b"application/json; charset=utf-8", b'application/json;charset="UTF-8"'],
)
async def test_json_is_read(kind: bytes) -> None:
    assert await given(b'{"a":1}', (b"content-type", kind)) == {"a": 1}
    assert await given(b'{"a":1}', (b"content-type", kind), (b"content-encoding", b"identity")) == {"a": 1}


@pytest.mark.parametrize(
    "headers",
    [
        (), ((b"content-type", b""),), ((b"content-type", b"text/plain"),), ((b"content-type", b"application/json, text/plain"),),
        ((b"content-type", b"application/json;boundary=x"),), ((b"content-type", b"application/jsonp"),),
        ((b"content-type", b"application/json; charset=utf-16"),), ((b"content-type", b"multipart/form-data"),),
        (JSON, (b"content-encoding", b"gzip")), ((b"content-type", b"application/json\t"),),
    ],
)  # fmt: skip
async def test_anything_else_is_415(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    with pytest.raises(Refused) as caught:
        await given(b"{}", *headers)
    assert caught.value.code is Code.BODY_TYPE_UNSUPPORTED


async def test_nothing_is_read_of_what_cannot_be_taken() -> None:
    """Neither of another type or coding, nor of a length that is over the limit; of the full length everything is."""
    asked: list[int] = []

    async def one(most: int, show: Show, viewer: Viewer) -> None:
        asked.append(most)
        show(b"1")

    def post(*headers: tuple[bytes, bytes]) -> Request:
        return read(Raw("POST", b"/", [(b"host", b"x"), *headers], "", "http", "r"), Reading())

    for headers in ((JSON, (b"content-length", b"101")), (), (JSON, (b"content-encoding", b"gzip"))):
        with pytest.raises(Refused):
            await read_json(post(*headers), one, 100, ALICE)
    assert asked == []
    assert await read_json(post(JSON, (b"content-length", b"100")), one, 100, ALICE) == 1
    assert asked == [100]


async def test_a_length_that_is_none_is_left_to_the_door() -> None:
    with pytest.raises(Refused) as caught:
        await given(b'"' + b"a" * 99 + b'"', JSON, (b"content-length", b"many"))
    assert caught.value.code is Code.BODY_TOO_LARGE


async def test_too_much_is_413_before_it_is_read_and_while_it_is() -> None:
    for headers in ((JSON, (b"content-length", b"101")), (JSON,)):
        with pytest.raises(Refused) as caught:
            await given(b'"' + b"a" * 99 + b'"', *headers)
        assert caught.value.code is Code.BODY_TOO_LARGE


@pytest.mark.parametrize("body", [b"", b"{", b"{} {}", b'{"a":1,"a":2}', b"\xef\xbb\xbf{}", b"NaN", b"{" * 90])
async def test_what_is_not_strict_json_is_400(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        await given(body, JSON)
    assert caught.value.code is Code.BODY_INVALID


async def test_a_length_without_end_is_413() -> None:
    with pytest.raises(Refused) as caught:
        await given(b"{}", JSON, (b"content-length", b"9" * 5000))
    assert caught.value.code is Code.BODY_TOO_LARGE


@pytest.mark.parametrize(
    "body",
    [
        '{"owner":"a-1","Owner":"b-1"}', '{"OWNER":"b-1","owner":"a-1"}', '{"x":{"owner":1,"oWner":2}}', '{"x":[1,[{"id":1,"ID":2}]]}',
        '{"data":{"owner":"a"},"Data":{"owner":"b"}}', '{"kind":1,"\\u212aind":2}', '{"owner":1,"\uff4fwner":2}', '{"is":1,"\u0131s":2}',
        '{"is":1,"i\u017f":2}', '{"owner":1,"own\u200ber":2}', '{"\u00e9":1,"e\u0301":2}',
    ],
)  # fmt: skip
async def test_two_names_that_a_reader_without_case_takes_for_one_are_refused(body: str) -> None:
    with pytest.raises(Refused) as caught:
        await given(body.encode(), JSON)
    assert caught.value.code is Code.BODY_INVALID


@pytest.mark.parametrize(
    "body", ['{"owner":1,"owner_id":2}', '[{"a":1},{"A":2}]', '{"a":{"A":1}}', '{"r\u00e9sum\u00e9":1,"resume":2}']
)
async def test_names_of_several_objects_and_other_names_are_no_two_spellings(body: str) -> None:
    assert await given(body.encode(), JSON)


URLENCODED = (b"content-type", b"application/x-www-form-urlencoded")
RULE = FormRule(frozenset(["owner"]), frozenset())


async def form_of(*pieces: bytes, kind: bytes = URLENCODED[1], query: bytes = b"", limit: int = 10**7) -> list[str]:
    target = b"/?" + query if query else b"/"
    headers = [(b"host", b"x"), (b"content-type", kind)]
    request = read(Raw("POST", target, headers, "", "http", "r"), Reading())

    async def show(most: int, show: Show, viewer: Viewer) -> None:
        if sum(map(len, pieces)) > most:
            raise Refused(Code.BODY_TOO_LARGE)
        for piece in pieces:
            show(piece)

    return (await read_form(request, show, limit, RULE, ALICE)).texts("owner")


async def test_a_form_is_read_in_pieces() -> None:
    assert await form_of(b"own", b"er=al", b"ice") == ["alice"]
    whole = b'--b\r\nContent-Disposition: form-data; name="owner"\r\n\r\nalice\r\n--b--\r\n'
    assert await form_of(whole[:7], whole[7:60], whole[60:], kind=b"multipart/form-data; boundary=b") == ["alice"]
    assert await form_of() == []


@pytest.mark.parametrize(
    ("pieces", "more", "code"),
    [
        ([b"owner=1;x=2"], {}, Code.BODY_INVALID), ([b"owner=1"], {"kind": b"application/json"}, Code.BODY_TYPE_UNSUPPORTED),
        ([b"owner=1"], {"kind": b"multipart/form-data"}, Code.BODY_TYPE_UNSUPPORTED), ([b"owner=1"], {"query": b"owner=1"}, Code.REFERENCE_INVALID),
        ([b"owner=1"], {"limit": 6}, Code.BODY_TOO_LARGE), ([b"a" * (MAX_URLENCODED + 1)], {}, Code.BODY_TOO_LARGE),
        ([b"x--b"], {"kind": b"multipart/form-data; boundary=b"}, Code.BODY_INVALID), ([b"--b\r\n"], {"kind": b"multipart/form-data; boundary=b"}, Code.BODY_INVALID),
    ],
)  # fmt: skip
async def test_a_form_that_cannot_be_read_in_one_way_is_refused(pieces: list[bytes], more: Any, code: Code) -> None:
    with pytest.raises(Refused) as caught:
        await form_of(*pieces, **more)
    assert caught.value.code is code


async def test_a_form_needs_a_door_that_shows_it() -> None:
    request = read(Raw("POST", b"/", [(b"host", b"x"), URLENCODED], "", "http", "r"), Reading())
    with pytest.raises(Refused) as caught:
        await read_form(request, None, 100, RULE, ALICE)
    assert caught.value.code is Code.PROXY_UNABLE
    packed = read(
        Raw("POST", b"/", [(b"host", b"x"), URLENCODED, (b"content-encoding", b"gzip")], "", "http", "r"), Reading()
    )
    with pytest.raises(Refused) as caught:
        await read_form(packed, no_body, 100, RULE, ALICE)
    assert caught.value.code is Code.BODY_TYPE_UNSUPPORTED
