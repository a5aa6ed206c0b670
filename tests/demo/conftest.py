"""What the tests of the demo share: ports that nobody uses, and the checkout with its node_modules."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a port of the loopback interface on which nobody listens, another at each call."""
    given: set[int] = set()

    def find() -> int:
        while True:
            with closing(socket.create_server(("127.0.0.1", 0))) as server:
                port: int = server.getsockname()[1]
            if port not in given:
                given.add(port)
                return port

    return find


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder with routes.yaml, policies/ and node_modules/."""
    return Path(__file__).parents[2]
