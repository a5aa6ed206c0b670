"""`python -m sidecar.health`: whether the sidecar in this container is ready, for a health check that is a command.

The admin port listens on loopback, where nobody outside the container can ask. It imports nothing of the rest, since a
check is run every few seconds: a start of the whole package would cost more than the question.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
from collections.abc import Mapping, Sequence

DEFAULT_LISTEN = "127.0.0.1:9901"
"""SIDECAR_ADMIN_LISTEN's default, as in `settings`."""
WITHIN = 2.0
"""Seconds to wait for the answer."""
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=WITHIN)
        self._path = path

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connection(listen: str) -> http.client.HTTPConnection:
    """A connection, not opened yet, to who listens at this value of SIDECAR_ADMIN_LISTEN. Raises ValueError."""
    if listen.startswith("unix:"):
        return _Unix(listen.removeprefix("unix:"))
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    return http.client.HTTPConnection(_WILDCARDS.get(host, host), int(port), timeout=WITHIN)


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Ask `/readyz`, or `/livez` where `argv` is `livez`, and print the answer. Returns 0 for 200, else 1."""
    path = "/livez" if list(argv) == ["livez"] else "/readyz"
    asked = connection(environ.get("SIDECAR_ADMIN_LISTEN") or DEFAULT_LISTEN)
    try:
        asked.request("GET", path)
        answer = asked.getresponse()
        said, status = answer.read(65536).decode("utf-8", "replace"), answer.status
    except (OSError, http.client.HTTPException) as error:
        said, status = f"{type(error).__name__}: {error}", 0
    finally:
        asked.close()
    print(said.strip())
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
