"""A real browser opens a WebSocket through the sidecar, says text and bytes, and hears them and the close code."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page

from tests.doors.test_websocket import Upstream, behind
from tests.stack import Web

PAGE = """<!doctype html><title>ws</title><script>
const heard = [];
const socket = new WebSocket("ws://127.0.0.1:%d/open");
socket.binaryType = "arraybuffer";
socket.onopen = () => { socket.send("text \\u00e9"); socket.send(new Uint8Array([0, 255, 7])); };
socket.onmessage = (event) => {
  heard.push(typeof event.data === "string" ? event.data : Array.from(new Uint8Array(event.data)).join());
  if (heard.length === 2) socket.send("bye");
};
const tell = (result) => fetch("/told?" + new URLSearchParams({result: JSON.stringify(result)}));
socket.onerror = () => heard.push("error");
socket.onclose = (event) => tell({heard, code: event.code, reason: event.reason});
</script>"""


def test_a_browser_speaks_through_the_sidecar(page: Page, tmp_path: Path) -> None:
    upstream, web = Upstream(), Web()

    def play(connection: object) -> None:
        for message in connection:  # type: ignore[attr-defined]
            if message == "bye":
                connection.close(4242, "said bye")  # type: ignore[attr-defined]
                return
            connection.send(message)  # type: ignore[attr-defined]

    upstream.play = play
    with behind(tmp_path / "sidecar", upstream.port) as (sidecar, _):
        web.pages["/"] = (200, "text/html; charset=utf-8", (PAGE % sidecar.port).encode())
        with page.expect_request("**/told?*") as told:
            page.goto(f"http://127.0.0.1:{web.port}/")
    web.close()
    upstream.close()
    result = json.loads(parse_qs(urlsplit(told.value.url).query)["result"][0])
    assert result == {"heard": ["text é", "0,255,7"], "code": 4242, "reason": "said bye"}
    assert upstream.handshakes[0]["origin"] == f"http://127.0.0.1:{web.port}"
