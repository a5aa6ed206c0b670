"""A proxy that speaks as Traefik's documentation says of its ForwardAuth, headers and routers, configured by the same file.

It stands in where Traefik's binary cannot be had. What Go's HTTP server does before any middleware is in `_head`.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from typing import Any

import yaml

from tests.stack import Accepting

_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
)
Headers = list[tuple[bytes, bytes]]
_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_MOST = 1024 * 1024
"""Bytes that a limit may be: without one Traefik keeps whole answers in memory, and warns of it."""


class Traefik:
    """Listens on `port`, with the dynamic configuration `text`; one thread for each connection."""

    def __init__(self, text: str) -> None:
        config = yaml.safe_load(text)["http"]
        self.middlewares: dict[str, Any] = config["middlewares"]
        self.routers: dict[str, Any] = config["routers"]
        self.services: dict[str, Any] = config["services"]
        self._accepting = Accepting(self._serve)
        self.port = self._accepting.port

    def close(self) -> None:
        """Stop listening."""
        self._accepting.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            try:
                request = _Request(connection, connection.getpeername()[0])
            except ValueError:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                return
            connection.sendall(self._answer(request))

    def _answer(self, request: _Request) -> bytes:
        router = self.routers[self._router_of(request)]
        cookies: list[bytes] = []
        instead: dict[str, str] = {}
        for name in router["middlewares"]:
            for kind, options in self.middlewares[name].items():
                if kind == "headers":
                    _take_away(request, options.get("customRequestHeaders", {}))
                    instead |= options.get("customResponseHeaders", {})
                else:
                    assert kind == "forwardAuth"
                    refused = _forward_auth(request, options, cookies)
                    if refused is not None:
                        return refused
        url = self.services[router["service"]]["loadBalancer"]["servers"][0]["url"]
        return _forwarded(request, url, cookies, instead)

    def _router_of(self, request: _Request) -> str:
        """The rules of the file: a prefix, and not another one; the longest rule first."""
        path = request.target.partition(b"?")[0].decode("latin-1")
        for name, router in sorted(self.routers.items(), key=lambda item: -len(item[1]["rule"])):
            terms = re.findall(r"(!?)PathPrefix\(`([^`]*)`\)", router["rule"])
            if all(path.startswith(prefix) is not bool(negated) for negated, prefix in terms):
                return str(name)
        raise AssertionError(path)


class _Request:
    """What Go's net/http makes of a connection's first request. ValueError for what it answers with 400."""

    def __init__(self, connection: socket.socket, peer: str) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                raise EOFError
            data += part
        head, _, self.body = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        self.method, self.target, _ = lines[0].split(b" ")
        self.peer = peer
        self.headers: Headers = []
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or not re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise ValueError(line)
            self.headers.append((name.lower(), value.strip(b" \t")))
        self.host = self.take(b"host")
        length = int((self.value(b"content-length") or b"0").decode())
        while len(self.body) < length:
            self.body += connection.recv(65536)
        self._parse_target()

    def _parse_target(self) -> None:
        """url.ParseRequestURI: of an absolute form the path counts, and its host; broken escapes and controls are none."""
        absolute = re.fullmatch(rb"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?@]*@)?([^/?]*)(.*)", self.target)
        if absolute:
            self.host, self.target = absolute[1], absolute[2] or b"/"
        path = self.target.partition(b"?")[0]
        if re.search(rb"[\x00-\x20\x7f]", self.target) or re.search(rb"%(?![0-9A-Fa-f]{2})", path):
            raise ValueError(self.target)

    def value(self, name: bytes) -> bytes | None:
        """The first value of a header."""
        return next((value for other, value in self.headers if other == name), None)

    def take(self, name: bytes) -> bytes:
        """The first value of a header, all of which go."""
        value = self.value(name)
        self.headers = [pair for pair in self.headers if pair[0] != name]
        return value or b""


def _take_away(request: _Request, options: dict[str, str]) -> None:
    """Documentation of the Headers middleware: an empty value removes the header."""
    for name, value in options.items():
        assert value == ""
        request.take(name.lower().encode())


def _forward_auth(request: _Request, options: dict[str, Any], cookies: list[bytes]) -> bytes | None:
    """Documentation of ForwardAuth, "Forward-Request Headers" and the options of the file -> the answer of a refusal."""
    assert options["trustForwardHeader"] is False
    replaced = {
        b"x-forwarded-method": request.method,
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": request.host,
        b"x-forwarded-uri": request.target,
        b"x-forwarded-for": request.peer.encode(),
    }
    kept = [pair for pair in request.headers if pair[0] not in _HOP | replaced.keys() | {b"content-length"}]
    address = re.fullmatch(r"http://([^/]+)(/.*)", options["address"])
    assert address is not None
    try:
        answer = _exchange(address[1], b"GET", address[2].encode(), [*kept, *replaced.items()], b"")
    except OSError:
        return _ERROR
    # documentation: one byte more than the limit, and the answer counts as an error
    assert 0 < options["maxResponseBodySize"] <= _MOST
    if len(answer.body) > options["maxResponseBodySize"]:
        return _ERROR
    if not 200 <= answer.status < 300:
        assert options["preserveLocationHeader"] is True
        return _rendered(answer, request.method, [])
    for name in options["authResponseHeaders"]:
        key = name.lower().encode()
        request.take(key)
        request.headers += [(key, value.encode("latin-1")) for value in answer.headers.get_all(name, [])]
    wanted = options["addAuthCookiesToResponse"]
    cookies += [
        value.encode() for value in answer.headers.get_all("set-cookie", []) if value.partition("=")[0] in wanted
    ]
    return None


def _forwarded(request: _Request, url: str, cookies: list[bytes], instead: dict[str, str]) -> bytes:
    """As Traefik's reverse proxy: hop-by-hop headers and those that Connection names go, X-Forwarded-* are set anew."""
    named = {token.strip().lower() for token in (request.value(b"connection") or b"").split(b",")}
    forwarded = {
        b"x-forwarded-for": request.peer.encode(),
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": request.host,
    }
    kept = [pair for pair in request.headers if pair[0] not in _HOP | named | forwarded.keys()]
    headers = [(b"host", request.host), *kept, *forwarded.items()]
    answer = _exchange(url.removeprefix("http://"), request.method, request.target, headers, request.body)
    for name, value in instead.items():
        # documentation of the Headers middleware: set in place of the app's, and an empty value removes it
        del answer.headers[name]
        if value:
            answer.headers[name] = value
    return _rendered(answer, request.method, cookies)


class _Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.reason, self.headers, self.body = (
            response.status,
            response.reason,
            response.headers,
            response.read(),
        )


def _exchange(address: str, method: bytes, target: bytes, headers: Headers, body: bytes) -> _Answer:
    host, _, port = address.partition(":")
    if not any(name == b"host" for name, _ in headers):
        headers = [(b"host", address.encode()), *headers]
    lines = [method + b" " + target + b" HTTP/1.1", *(name + b": " + value for name, value in headers)]
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(b"\r\n".join([*lines, b"", b""]) + body)
        response = http.client.HTTPResponse(connection, method=method.decode())
        response.begin()
        return _Answer(response)


def _rendered(answer: _Answer, method: bytes, cookies: list[bytes]) -> bytes:
    kept = [
        f"{name}: {value}".encode("latin-1")
        for name, value in answer.headers.items()
        if name.lower().encode() not in _HOP and name.lower() != "content-length"
    ]
    head = [
        f"HTTP/1.1 {answer.status} {answer.reason}".encode(),
        *kept,
        *(b"set-cookie: " + cookie for cookie in cookies),
    ]
    head += [b"Connection: close", b"Content-Length: %d" % len(answer.body)]
    return b"\r\n".join([*head, b"", b""]) + (b"" if method == b"HEAD" else answer.body)
