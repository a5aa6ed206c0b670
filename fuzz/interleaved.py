"""`python -m fuzz.interleaved COUNT`: what is interleaved on shared connections to hostile peers, each to its own answer.

Requests of 100 users to an upstream, and questions of 50 principals to a PDP.
"""

from __future__ import annotations

import sys
from collections import Counter

from tests.net.test_pool import interleaved
from tests.pdp import hostile_pdp

BATCH = 50_000


def main() -> int:
    """Send COUNT of each in batches, with a line of progress for each."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    told: Counter[str] = Counter()
    for _ in range(0, count, BATCH):
        told += interleaved(BATCH // 100)[0]
        _say("requests", told)
    told.clear()
    turns = BATCH // (hostile_pdp.PRINCIPALS * hostile_pdp.ASKERS * hostile_pdp.BURST)
    for seed in range(0, count, BATCH):
        told += hostile_pdp.interleaved(turns, seed)[0]
        _say("questions", told)
    return 0


def _say(what: str, told: Counter[str]) -> None:
    total = sum(told.values())
    print(f"{total} {what}: {told['own']} own answers, {total - told['own']} faults, 0 of others", flush=True)


if __name__ == "__main__":
    sys.exit(main())
