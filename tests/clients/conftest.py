"""A real Redis for all tests of clients, empty for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.redis_server import BINARY, RedisServer


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The process that they share."""
    if BINARY is None:
        pytest.skip("redis-server is not on PATH (apt-get install redis-server)")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(redis_process: RedisServer) -> Iterator[RedisServer]:
    """It, empty and running, whatever the test before did to it."""
    redis_process.clean()
    yield redis_process
    redis_process.clean()
