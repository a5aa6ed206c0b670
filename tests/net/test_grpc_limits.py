"""`net/grpc_limits.py`: what one connection leaves to the others."""

from __future__ import annotations

import asyncio

from sidecar.net.grpc_limits import MAX_CALLS, GrpcLimits, GrpcPlaces


def places(**limits: int) -> GrpcPlaces:
    return GrpcPlaces(GrpcLimits(**limits), asyncio.get_running_loop())


async def test_a_connection_has_as_many_calls_as_the_others_leave_free() -> None:
    shared = places(calls=100)
    own = 0
    while shared.has_call_for(own):
        own += 1
        shared.calls += 1
    assert own == 50
    other = 0
    while shared.has_call_for(other):
        other += 1
        shared.calls += 1
    assert other == 25
    assert not shared.has_call_for(own)


async def test_no_connection_has_more_calls_than_it_was_told() -> None:
    shared = places(calls=10 * MAX_CALLS)
    assert shared.has_call_for(MAX_CALLS - 1)
    assert not shared.has_call_for(MAX_CALLS)


async def test_a_connection_holds_as_much_as_the_others_leave_free() -> None:
    shared = places(held=100)
    shared.held = 50
    assert shared.has_bytes_for(50)
    shared.held = 51
    assert not shared.has_bytes_for(51)
    assert shared.has_bytes_for(49)
