"""The column of the fault matrix for a form that is held until it is decided: each fault is a refusal, and nothing stays."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.doors.held_body import IN_MEMORY, PIECE
from sidecar.doors.proxy import ClientBody
from sidecar.gate.body import read_form
from sidecar.gate.codes import Code
from sidecar.gate.form import FormRule
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.verdict import Refused
from sidecar.net.room import Rooms, rooms

HEAD = b'--b\r\nContent-Disposition: form-data; name="owner"\r\n\r\nalice\r\n--b\r\n'
HEAD += b'Content-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
END = b"\r\n--b--\r\n"
SIZE = IN_MEMORY + 2 * PIECE
CHUNKED = [(b"transfer-encoding", b"chunked")]
RULE = FormRule(frozenset(["owner"]), frozenset())
LARGE = 1024**3
ALICE = ("https://issuer", "alice")


def body_of(receive: Callable[[], Any], held: Rooms | None = None) -> ClientBody:
    return ClientBody(CHUNKED, receive, held or rooms(LARGE, LARGE), "10.0.0.9")


def used(held: Rooms) -> tuple[int, int]:
    return held.memory.used, held.disk.used


def request() -> Request:
    headers = [(b"host", b"x"), (b"content-type", b"multipart/form-data; boundary=b")]
    return read(Raw("POST", b"/", headers, "", "http", "r"), Reading())


def client(*pieces: bytes, gone: bool = False) -> Callable[[], Any]:
    """A client that sends these pieces, and then leaves or has sent all."""
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or gone}

    return receive


async def refusal(body: ClientBody, limit: int = 10**8) -> Code:
    with pytest.raises(Refused) as caught:
        await read_form(request(), body.show, limit, RULE, ALICE)
    return caught.value.code


async def test_a_large_form_is_held_and_goes_on_byte_for_byte() -> None:
    held, sent = rooms(LARGE, LARGE), [HEAD, *[bytes([at % 7]) * 65536 for at in range(SIZE // 65536)], END]
    body = body_of(client(*sent), held)
    assert (await read_form(request(), body.show, 10**8, RULE, ALICE)).texts("owner") == ["alice"]
    assert held.disk.used >= PIECE
    # who sends it on must not take it all into memory at once
    assert not body.complete
    taken = b""
    while data := await body.read():
        assert len(data) <= PIECE
        taken += data
    assert taken == b"".join(sent)
    assert (used(held), body.complete) == ((0, 0), True)


async def test_a_client_that_leaves_has_sent_no_form() -> None:
    held = rooms(LARGE, LARGE)
    body = body_of(client(HEAD, b"x" * SIZE, gone=True), held)
    assert await refusal(body) is Code.BODY_INVALID
    body.close()
    assert used(held) == (0, 0)


async def test_without_a_folder_for_files_a_large_form_is_503(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert await refusal(body_of(client(HEAD, b"x" * SIZE, END))) is Code.BODY_NO_ROOM
    small = body_of(client(HEAD, b"x" * 1000, END))
    assert (await read_form(request(), small.show, 10**8, RULE, ALICE)).texts("owner") == ["alice"]


async def test_where_others_have_all_the_room_a_large_form_is_503() -> None:
    held = rooms(LARGE, PIECE)
    bodies = [body_of(client(HEAD, b"x" * SIZE, END), held) for _ in range(2)]
    assert [await refusal(body) for body in bodies] == [Code.BODY_NO_ROOM] * 2
    for body in bodies:
        body.close()
    assert used(held) == (0, 0)


async def test_more_than_the_limit_is_413_before_all_of_it_came() -> None:
    held, asked = rooms(LARGE, LARGE), client(HEAD, *[b"x" * PIECE] * 50, END)
    body = body_of(asked, held)
    assert await refusal(body, SIZE) is Code.BODY_TOO_LARGE
    assert (await asked())["more_body"]
    body.close()
    assert used(held) == (0, 0)
