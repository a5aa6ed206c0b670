"""`net/grpc_health.py`, by the bytes of its messages (grpc.health.v1: one string in, one enum out)."""

from __future__ import annotations

import pytest

from sidecar.net.grpc_health import Health
from sidecar.wire.grpc import CallFailed, Status


@pytest.mark.parametrize("question", [b"", b"\x0a\x05a.b.C"])
async def test_it_tells_what_the_server_says_of_itself(question: bytes) -> None:
    ready = [True, False]
    health = Health(("a.b.C",), lambda: ready.pop(0))
    assert await health.check(question) == b"\x08\x01"
    assert await health.check(question) == b"\x08\x02"


@pytest.mark.parametrize("question", [b"\x0a\x05a.b.D", b"\x0a\x00", b"\x0a\xffx", b"nonsense"])
async def test_a_service_of_nobody_is_not_found(question: bytes) -> None:
    with pytest.raises(CallFailed) as failed:
        await Health(("a.b.C",), lambda: True).check(question)
    assert failed.value.status is Status.NOT_FOUND
