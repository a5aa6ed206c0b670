"""For 10,000 generated targets, the bytes decided are the bytes sent and logged; `make fuzz` does a million."""

from __future__ import annotations

import random

from fuzz.property import check
from fuzz.targets import query


async def test_decided_sent_and_logged_are_the_same_bytes() -> None:
    forwarded, refused = await check(10_000, seed=7)
    assert forwarded > 1000
    assert refused > 1000


def test_generated_queries_keep_their_promise() -> None:
    rng = random.Random(11)
    pieces = [
        b"owner", b"OWNER", b"doc", b"page", b"=", b"&", b"[", b"]", b"%5b", b"%5D", b"+", b"%20", b";", b"%6f", b"wner", b"x",
        b".", b"_", b"%", b"%00", b"\xff", b"%ef%bd%8f", b"%e2%80%8b", b"&owner=", b"&doc=1",
    ]  # fmt: skip
    for _ in range(20_000):
        query(b"".join(rng.choices(pieces, k=rng.randint(0, 9))))
