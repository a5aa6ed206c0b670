"""The real stack for tests: a recording upstream, a key server, a lookup hook, and the sidecar as a process with its Cerbos."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import http.server
import json
import os
import random
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo.processes import Process, status_of
from tests.forked import Forked
from tests.log import lines_of
from tests.shared_cerbos import shared_cerbos

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
"""The browser; without a window it takes a third of the time."""


def _ports() -> Iterator[int]:
    """Yield ports below those that a kernel gives to who asks for any, and to outgoing connections: it gives out none of these,
    whether its server listens already, no longer, or again. The order is another one each time."""
    yield from random.Random().sample(range(10_000, 32_000), 22_000)


_PORTS = _ports()


def _order_of_its_own() -> None:
    """Let a process that forks from this one try ports in another order, so that the two don't try for the same at once."""
    global _PORTS
    _PORTS = _ports()


os.register_at_fork(after_in_child=_order_of_its_own)
_CLAIMS = (Path(tempfile.gettempdir()) / f"authorization-sidecar-ports-{os.getuid()}").open("a")
"""The byte of a port's number is locked by the process that has it, until that process ends."""


def free_port() -> int:
    """A port that nobody uses at any address, and that no other caller is given, in this process or beside it.

    Any other port is free only while a socket is bound to it, and only at the address of that socket.
    """
    for port in _PORTS:
        with contextlib.suppress(OSError), closing(socket.socket()) as probe:
            fcntl.lockf(_CLAIMS, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            probe.bind(("", port))
            return port
    raise AssertionError("every port is used")


# --- what stands behind and beside the sidecar ---

BACKLOG = 1024
"""Connections that wait until a thread takes them: beyond the 128 that Python asks for, a kernel drops what comes, and the
sidecar sees an app that nobody can connect to."""


@dataclass
class Seen:
    """One request as an upstream got it: the request line's parts, headers in order, and the body without framing."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of a header."""
        return [value for key, value in self.headers if key.lower() == name]


class Accepting:
    """A listening socket at a port of its own, whose connections a thread each serves."""

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self._serve = serve
        self._server = socket.create_server(("127.0.0.1", free_port()), backlog=BACKLOG)
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening.

        The thread ends before its socket is closed: it could wait on, and where a process is started the kernel begins its
        `accept` anew by the socket's number, which another server may have by then, in whose place it would answer
        (findings/python-listener-accepts-for-the-next-one.sh).
        """
        with contextlib.suppress(OSError):  # closed before
            self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()


Answer = Callable[["Recorder", socket.socket, Seen], None]


def reply(status: int = 200, body: bytes = b"ok", *headers: str) -> Answer:
    """Answer with one framing, and keep the connection."""

    lines = [f"HTTP/1.1 {status} X", *headers, f"Content-Length: {len(body)}"]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    whole = head + body

    def answer(_: Recorder, connection: socket.socket, seen: Seen) -> None:
        connection.sendall(head if seen.method == "HEAD" else whole)

    return answer


def raw_reply(data: bytes) -> Answer:
    """Answer with exactly these bytes."""
    return lambda _, connection, __: connection.sendall(data)


def echo(_: Recorder, connection: socket.socket, seen: Seen) -> None:
    """Answer with what came."""
    body = json.dumps({"method": seen.method, "target": seen.target}).encode() + seen.body
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    connection.sendall(head if seen.method == "HEAD" else head + body)


class Recorder:
    """An upstream that records every byte. `answer` says how it answers; `received` is every byte that came."""

    def __init__(self) -> None:
        self.answer: Answer = echo
        self.seen: list[Seen] = []
        self.received = b""
        self.open = 0
        self._accepting = Accepting(self._serve)
        self.port = self._accepting.port

    def reset(self, answer: Answer = echo) -> None:
        """Forget what was seen, and answer like this from now on."""
        self.answer = answer
        self.seen = []
        self.received = b""

    def close(self) -> None:
        """Stop listening."""
        self._accepting.close()

    def _serve(self, connection: socket.socket) -> None:
        self.open += 1
        buffer = _Buffer(connection, self)
        with contextlib.suppress(OSError, EOFError), connection:
            while True:
                seen = buffer.request()
                self.seen.append(seen)
                self.answer(self, connection, seen)
        self.open -= 1


class _Buffer:
    def __init__(self, connection: socket.socket, recorder: Recorder) -> None:
        self._connection = connection
        self._recorder = recorder
        self._data = b""

    def _more(self) -> None:
        data = self._connection.recv(65536)
        if not data:
            raise EOFError
        self._recorder.received += data
        self._data += data

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._data:
            self._more()
        head, _, self._data = self._data.partition(mark)
        return head

    def _exactly(self, count: int) -> bytes:
        while len(self._data) < count:
            self._more()
        data, self._data = self._data[:count], self._data[count:]
        return data

    def request(self) -> Seen:
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines[1:])]
        seen = Seen(method, target, headers, b"")
        if seen.values("transfer-encoding"):
            while size := int(self._until(b"\r\n"), 16):
                seen.body += self._exactly(size)
                self._exactly(2)
            self._exactly(2)
        elif seen.values("content-length"):
            seen.body = self._exactly(int(seen.values("content-length")[0]))
        return seen


class _QuietServer(http.server.ThreadingHTTPServer):
    """Says nothing of a client that leaves: what it would say stands among the lines of whatever test runs by then."""

    daemon_threads = True
    request_queue_size = BACKLOG

    def handle_error(self, *about: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*about)


@dataclass
class Web:
    """A small HTTP server whose answers tests switch: path -> (status, content type, body); `asked` is what came."""

    pages: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    delay: float = 0.0

    def __post_init__(self) -> None:
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                web.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                time.sleep(web.delay)
                status, kind, body = web.pages.get(self.path, (404, "application/json", b"{}"))
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _QuietServer(("127.0.0.1", free_port()), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def json(self, path: str, value: Any, status: int = 200) -> None:
        """Answer `path` with JSON."""
        self.pages[path] = (status, "application/json", json.dumps(value).encode())

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


# --- the sidecar ---


@dataclass
class Got:
    """An answer of the sidecar."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def code(self) -> str:
        """The code of a problem body."""
        assert self.header("content-type") == "application/problem+json", self
        return str(json.loads(self.body)["code"])


@dataclass
class Sidecar:
    """A running sidecar process."""

    process: Process
    port: int
    admin_port: int
    folder: Path
    ready_after: float
    _lines: list[dict[str, Any]] = field(default_factory=list)
    """Lines of the decision log that were read already."""

    @property
    def pid(self) -> int:
        """The process id of the sidecar itself."""
        return self.process.pid

    def request(
        self, method: str, path: str, token: str | None = None, body: bytes | None = None, *, source: str = "",
        **headers: str,
    ) -> Got:  # fmt: skip
        """Send one request on a connection of its own, from the address `source`."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=30, source_address=(source, 0) if source else None
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named["authorization"] = f"Bearer {token}"
        with closing(connection):
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return Got(answer.status, answer.getheaders(), answer.read())

    def get(self, path: str, token: str | None = None, **headers: str) -> Got:
        """GET."""
        return self.request("GET", path, token, None, **headers)

    def admin(self, path: str) -> Got:
        """GET from the admin port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=30)
        with closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return Got(answer.status, answer.getheaders(), answer.read())

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        total = 0.0
        for line in self.admin("/metrics").body.decode().splitlines():
            match = line.startswith(name) and re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == name:
                found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
                if all(found.get(key) == value for key, value in labels.items()):
                    total += float(match[3])
        return total

    def settle(self) -> None:
        """Return when what was answered before is in the decision log."""
        with contextlib.suppress(OSError):
            # lines are written at the end of a turn of the loop: one that comes to an end after this one's beginning
            self.admin("/livez")

    def decisions(self) -> list[dict[str, Any]]:
        """The lines of the decision log, those of all requests that were answered before."""
        self.settle()
        return self.read_log().copy()

    def read_log(self) -> list[dict[str, Any]]:
        """The lines of the decision log as they stand there, each of which is of its schema."""
        path = self.folder / "decisions.jsonl"
        if path.exists():
            self._lines += lines_of("\n".join(path.read_text().splitlines()[len(self._lines) :]))
        return self._lines

    def log(self) -> str:
        """What it wrote on stderr."""
        return (self.folder / "sidecar.log").read_text(errors="replace")


def wait_for(condition: Callable[[], object], seconds: float = 20.0, what: str = "") -> None:
    """Return when `condition()`. Fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(0.02)


@contextmanager
def running_sidecar(
    folder: Path, routes: str, policies: Path, upstream: str, environ: Mapping[str, str], *, ready: bool = True,
    shared: bool = False,
) -> Iterator[Sidecar]:  # fmt: skip
    """The sidecar as a process with these routes, policies and settings, its files in `folder`.

    It has a Cerbos of its own, or asks the `shared` one of these policies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "routes.yaml").write_text(routes)
    port, admin_port = free_port(), free_port()
    settings = {
        "SIDECAR_UPSTREAM": upstream,
        "SIDECAR_LISTEN": f"127.0.0.1:{port}",
        "SIDECAR_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
        "SIDECAR_ROUTES": str(folder / "routes.yaml"),
        "SIDECAR_POLICIES": str(policies),
        "SIDECAR_DECISION_LOG": str(folder / "decisions.jsonl"),
        "SIDECAR_CERBOS_BINARY": str(binary()),
        "SIDECAR_CERBOS_TIMEOUT": "5s",  # a machine with much to do is no fault of Cerbos
        **environ,
    }
    if shared:
        program, strict = Path(settings["SIDECAR_CERBOS_BINARY"]), settings.get("SIDECAR_CERBOS_STRICT") != "off"
        settings["SIDECAR_CERBOS"] = shared_cerbos(policies, program, strict=strict)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SIDECAR_", "AWS_"))}
    command = [sys.executable, "-m", "sidecar.cli", "run"]
    path = "/readyz" if ready else "/livez"
    started = time.monotonic()
    process = Forked.start(
        "sidecar", command, folder, {**inherited, **settings}, lambda: status_of(admin_port, path) == 200
    )
    try:
        sidecar = Sidecar(process, port, admin_port, folder, time.monotonic() - started)
        yield sidecar
    finally:
        process.stop()
    sidecar.read_log()


def binary() -> Path:
    """The Cerbos binary of the checkout's node_modules, or on PATH."""
    from sidecar.pdp.cerbos_binary import find_binary

    with contextlib.chdir(ROOT):
        return find_binary(None)


def older_binary() -> Path:
    """The Cerbos 0.51 that users may still have; the calling test is skipped on a machine for which npm has no other."""
    name = binary().name
    path = ROOT / "node_modules/cerbos/node_modules/@cerbos" / name / name
    if not path.is_file():
        pytest.skip("npm has one Cerbos for this machine")
    return path.resolve()
