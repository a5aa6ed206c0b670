"""CPU of a list by process: ours, Cerbos' and the app's, for one decision, a page of 50 and a list of 1,000; and Cerbos
alone, asked by our own client about one resource and about 50.

    python -m bench.lists [ROUNDS] [CERBOS]

Least and median of the rounds, in microseconds for a request. CERBOS is another binary than that of the checkout.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import uvloop

from bench import load
from bench.stack import ITEMS, PEERS, Stack, page
from sidecar.gate.decision import Question, Resource, judge
from sidecar.gate.identity import Principal
from sidecar.pdp.cerbos import Cerbos

ROUNDS = 8
SECONDS = 1.0
AT_ONCE = 8
"""Of the loads of lists, as `bench.run` has them. Single decisions are fired with 32 there."""
CALLS = 200
"""Questions of one kind to Cerbos in a round."""
LOADS = {
    "one decision": ("/contacts/", (32, AT_ONCE, 1)), "a page of 50, filtered": ("/list/", (AT_ONCE, 1)),
    "a page of 50, passed": ("/plain/", (AT_ONCE,)),
}  # fmt: skip
"""What is asked for: path, and connections."""
Used = Mapping[str, float]
"""Process -> microseconds of its CPU for a request."""
ALICE = Principal("alice", ("user",), {"email": "alice@example.com"}, "bench", 0.0, {})


def questions(resources: int) -> Question:
    """The question about the first items of the page."""
    asked = [
        Resource("contact", str(one["id"]), "read", {"owner": one["owner_id"], "visibility": one["visibility"]})
        for one in page(resources)
    ]
    return Question("0" * 32, ALICE, tuple(asked), alone=True)


def processes(stack: Stack, cerbos: int) -> dict[str, list[int]]:
    """Who takes part in a request."""
    nginx = stack.peers["nginx auth_request"].pids[0]
    return {"sidecar": load.family(stack.peers["sidecar"].pids[0]), "Cerbos": [cerbos], "app": load.family(nginx)}


def spent(pids: Sequence[int]) -> float:
    """CPU seconds that these processes have used, to the nanosecond (the first number of a thread's schedstat)."""
    files = [file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def fired(stack: Stack, cerbos: int, path: str, at_once: int) -> Used:
    """CPU of each process for a request of this load."""
    pids = processes(stack, cerbos)
    script = [str(PEERS / "ids.lua"), str(stack.token_file(1)), path, "200"]
    before = {name: spent(some) for name, some in pids.items()}
    got = load.wrk(f"http://127.0.0.1:{stack.peers['sidecar'].port}{path}", {}, SECONDS, at_once, script)
    if got.refused:
        raise ValueError(f"{path}: {got.refused} answers were refusals")
    return {name: (spent(some) - before[name]) / (got.rate * SECONDS) * 1e6 for name, some in pids.items()}


def fetched(stack: Stack, cerbos: int, items: int) -> Used:
    """CPU of each process for one list of so many items, asked for one after the other."""
    file, usual = stack.folder / "files" / "list.json", page(ITEMS)
    head = f"GET /list/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {stack.tokens[0]}\r\n\r\n".encode()
    file.write_text(json.dumps(page(items)))
    port, pids, times = stack.peers["sidecar"].port, processes(stack, cerbos), 20
    load.transfer(port, head)
    before = {name: spent(some) for name, some in pids.items()}
    for _ in range(times):
        load.transfer(port, head)
    used = {name: (spent(some) - before[name]) / times * 1e6 for name, some in pids.items()}
    file.write_text(json.dumps(usual))
    return used


def _program(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


async def _ask(target: str, question: Question, times: int, at_once: int) -> None:
    client = Cerbos(target, timeout=5.0, now=time.monotonic)

    async def one() -> None:
        for _ in range(times // at_once):
            judge(question, await client.check(question))

    try:
        await asyncio.gather(*[one() for _ in range(at_once)])
    finally:
        await client.aclose()


def asked(stack: Stack, cerbos: int, resources: int, at_once: int) -> Used:
    """CPU of our client and of Cerbos for a call about so many resources."""
    began, before = time.process_time(), spent([cerbos])
    uvloop.run(_ask(stack.cerbos, questions(resources), CALLS, at_once))
    ours, its = time.process_time() - began, spent([cerbos]) - before
    return {"client": ours / CALLS * 1e6, "Cerbos": its / CALLS * 1e6}


def measured(rounds: int, binary: str | None) -> dict[str, list[Used]]:
    """All rounds of all that is measured, in turn."""
    found: dict[str, list[Used]] = {}
    with tempfile.TemporaryDirectory(prefix="sidecar-lists-") as folder, contextlib.ExitStack() as stack:
        started = Stack(Path(folder), stack, binary)
        # a busy machine is no fault of Cerbos
        started.start_sidecar("sidecar", SIDECAR_CERBOS_TIMEOUT="5s")
        cerbos = next(pid for pid in load.family(os.getpid()) if _program(pid).startswith("cerbos"))
        measures: dict[str, Callable[[], Used]] = {}
        for name, (path, connections) in LOADS.items():
            for at_once in connections:
                measures[f"{name}, {at_once} at once"] = partial(fired, started, cerbos, path, at_once)
        measures["a list of 1,000"] = partial(fetched, started, cerbos, 1000)
        for resources in (1, ITEMS):
            for at_once in (AT_ONCE, 1):
                name = f"Cerbos alone, {resources} in a call, {at_once} at once"
                measures[name] = partial(asked, started, cerbos, resources, at_once)
        for measure in measures.values():
            measure()
        for _ in range(rounds):
            for name, measure in measures.items():
                found.setdefault(name, []).append(measure())
    return found


def row(name: str, rounds: Sequence[Used]) -> str:
    """A line of the table: least / median of each process, and of all of them together."""
    told = [f"{process} {_said([one[process] for one in rounds])}" for process in rounds[0]]
    return f"| {name} | {' | '.join(told)} | all {_said([sum(one.values()) for one in rounds])} |"


def _said(values: Sequence[float]) -> str:
    return f"{min(values):,.0f} / {statistics.median(values):,.0f}"


def main() -> None:
    """Measure, and print a line for each."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    for name, used in measured(rounds, sys.argv[2] if len(sys.argv) > 2 else None).items():
        print(row(name, used))


if __name__ == "__main__":
    main()
