"""What runs beside the servers."""

from __future__ import annotations

import asyncio

from sidecar.run.tasks import Tasks


async def test_what_still_runs_is_cancelled_and_awaited() -> None:
    ended = []

    async def work(name: str, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            ended.append(name)

    tasks = Tasks()
    tasks.spawn(work("short", 0.0))
    tasks.spawn(work("long", 60.0))
    while ended != ["short"]:
        await asyncio.sleep(0)
    await tasks.aclose()
    assert ended == ["short", "long"]
    await tasks.aclose()
