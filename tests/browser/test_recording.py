"""What a real browser records of an app (HAR) becomes routes; cookies, tokens, bodies and values of queries do not."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from sidecar.cli import main
from sidecar.imports.reading import sightings
from sidecar.imports.sighting import Notes

PAGE = b"""<!doctype html><link rel="icon" href="data:,"><script>
const send = (method, path, body) => fetch(path, {method, body, headers: {"X-Api-Key": "marked", Authorization: "Bearer marked"}});
(async () => {
  await send("GET", "/api/contacts?page=1&q=marked%20a");
  await send("POST", "/api/contacts", JSON.stringify({name: "marked"}));
  await send("GET", "/api/contacts/7");
  await send("GET", "/api/contacts/../users/m%C3%A4rked");
  await send("DELETE", "/api/contacts/8");
  document.title = "done";
})();
</script>"""


class _App(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = PAGE if self.path.startswith("/home") else b'{"secret": "marked"}'
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if body is PAGE else "application/json")
        self.send_header("Set-Cookie", "session=marked")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def app() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _App)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_a_recording_of_a_browser(
    chromium: Browser, app: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = tmp_path / "recording.har"
    context = chromium.new_context(record_har_path=recording, record_har_content="embed")
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{app}/home?token=marked")
    page.wait_for_function("document.title === 'done'")
    context.close()
    assert "marked" in recording.read_text()
    found = [
        f"{one.method} {one.path} {','.join(one.query)}" for one in sightings([str(recording)], io.BytesIO(), Notes())
    ]
    assert found == [
        "GET /home token", "GET /api/contacts page,q", "POST /api/contacts ", "GET /api/contacts/7 ", "GET /api/users/m\u00e4rked ",
        "DELETE /api/contacts/8 ",
    ]  # fmt: skip
    assert main(["import", str(recording), "--json"]) == 0
    said = capsys.readouterr()
    assert "marked" not in said.out + said.err
    assert "rked" not in said.out + said.err
    paths = [route["path"] for route in json.loads(said.out)["routes"]]
    assert paths == ["/api/contacts", "/api/contacts/{id:int}", "/api/users/{id:any}", "/home"]
