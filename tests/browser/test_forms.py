"""A form as a real browser writes it, of the guide "decide by a form's fields"."""

from __future__ import annotations

import socket

from playwright.sync_api import Page

from tests.stack import Recorder, Seen
from tests.test_forms import PHOTO, World, shared, world

__all__ = ["shared", "world"]

FORM = """\
<!doctype html><meta charset="utf-8">
<form method="post" action="/contacts/7/photo" enctype="multipart/form-data"><input name="photo[kind]" value="portrait">
<input name="note"><input type="file" name="photo[file]"><input type="file" name="none"><textarea name="more">a
b</textarea><button>Send</button></form>
"""


def test_what_a_browser_writes_is_read(world: World, page: Page) -> None:
    def answer(_: Recorder, connection: socket.socket, seen: Seen) -> None:
        body = FORM.encode() if seen.method == "GET" else b"taken"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)

    world.upstream.answer = answer
    page.set_extra_http_headers(world.headers)
    page.goto(world.url("/page"))
    page.set_input_files("[type=file] >> nth=0", {"name": "\xfc.png", "mimeType": "image/png", "buffer": PHOTO[:1000]})
    page.click("button")
    page.wait_for_url("**/photo")
    assert "taken" in page.content()
    (sent,) = [seen for seen in world.upstream.seen if seen.method == "POST"]
    assert PHOTO[:1000] in sent.body
