"""`python -m fuzz.interleaved COUNT`: interleaved requests of 100 users to a hostile upstream, each to its own answer."""

from __future__ import annotations

import sys
from collections import Counter

from tests.net.test_pool import interleaved

BATCH = 50_000


def main() -> int:
    """Send COUNT requests in batches, with a line of progress for each."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    told: Counter[str] = Counter()
    for done in range(0, count, BATCH):
        told += interleaved(BATCH // 100)[0]
        print(
            f"{done + BATCH} requests: {told['own']} own answers, {sum(told.values()) - told['own']} faults, 0 of others",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
