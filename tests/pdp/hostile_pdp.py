"""A Cerbos in this process that is late, refuses, resets and answers calls out of order; and many who ask it at once.

Each resource carries a number of its own, and its answer says it back as the name of the policy: so an answer tells
which question it belongs to, though kinds and ids repeat.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import NamedTuple

import uvloop
from cerbos.effect.v1 import effect_pb2
from cerbos.request.v1 import request_pb2
from cerbos.response.v1 import response_pb2

from sidecar.gate.decision import ALLOW, Question, Resource, judge
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused
from sidecar.net.breaker import Breaker
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.cerbos_messages import BATCH
from tests.net import grpc_peer
from tests.net.grpc_peer import RST_STREAM, WINDOW_UPDATE, Peer, answer, frame, headers, settings

BAD = "bad"
"""A kind for which a whole call is INVALID_ARGUMENT, as it is for an empty id."""


def policy_of(principal: str, number: int) -> str:
    """Name the policy that decides about one resource of one principal."""
    return f"{principal}.{number}"


def allows(principal: str, number: int) -> bool:
    """Return what is decided about it."""
    return (number * 7 + len(principal)) % 3 != 0


def decided(request: request_pb2.CheckResourcesRequest) -> response_pb2.CheckResourcesResponse:
    """Answer a whole call as it should be."""
    message = response_pb2.CheckResourcesResponse(request_id=request.request_id, cerbos_call_id="c" * 26)
    for entry in request.resources:
        result, number = message.results.add(), int(entry.resource.attr["n"].number_value)
        result.resource.kind, result.resource.id = entry.resource.kind, entry.resource.id
        allowed = allows(request.principal.id, number)
        for action in entry.actions:
            result.actions[action] = effect_pb2.EFFECT_ALLOW if allowed else effect_pb2.EFFECT_DENY
            result.meta.actions[action].matched_policy = policy_of(request.principal.id, number)
    return message


class Pdp:
    """`choose` names the behavior for a call, by the number of it."""

    def __init__(self, behaviors: Iterable[str], late: float = 0.003) -> None:
        self._behaviors = iter(behaviors)
        self._late = late
        self.sizes: Counter[int] = Counter()
        self.told: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, peer: Peer, stream: int, body: bytes) -> None:
        request = request_pb2.CheckResourcesRequest.FromString(body[5:])
        peer.send(frame(WINDOW_UPDATE, 0, 0, len(body).to_bytes(4, "big")))
        behavior = next(self._behaviors, "answer")
        self.sizes[len(request.resources)] += 1
        if len(request.resources) > BATCH or any(entry.resource.kind == BAD for entry in request.resources):
            behavior = "refuse"
        self.told[behavior] += 1
        task = asyncio.get_running_loop().create_task(self._act(peer, stream, request, behavior))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _act(self, peer: Peer, stream: int, request: request_pb2.CheckResourcesRequest, behavior: str) -> None:
        if behavior == "break":
            peer.writer.close()
        if behavior in ("break", "never"):
            return
        if behavior == "late":
            await asyncio.sleep(self._late)
        if behavior in WORDS:
            peer.send(WORDS[behavior](stream))
            return
        message = decided(request)
        ALTERED.get(behavior, lambda _: None)(message)
        peer.send(answer(stream, message.SerializeToString()))


def _refused(stream: int) -> bytes:
    return headers(stream, [*grpc_peer.HEAD, ("grpc-status", "3"), ("grpc-message", "no")], end=True)


WORDS: dict[str, Callable[[int], bytes]] = {
    "refuse": _refused,
    "reset": lambda stream: frame(RST_STREAM, 0, stream, b"\0\0\0\2"),
    "refused_stream": lambda stream: frame(RST_STREAM, 0, stream, b"\0\0\0\7"),
    "garbage": lambda stream: answer(stream, b"\xff\xff\xff\xff"),
}
"""What is said in place of an answer."""


def _of_another(message: response_pb2.CheckResourcesResponse) -> None:
    message.results[-1].resource.id += "x"


ALTERED: dict[str, Callable[[response_pb2.CheckResourcesResponse], object]] = {
    "fewer": lambda message: message.results.pop(),
    "more": lambda message: message.results.append(message.results[0]),
    "another_request": lambda message: setattr(message, "request_id", "other"),
    "another_resource": _of_another,
    "no_effect": lambda message: message.results[-1].actions.clear(),
}
"""What is done to an answer."""
BEHAVIORS = ("answer", "late", "break", "never", *WORDS, *ALTERED)
"""What becomes of a call. `never` is until the deadline."""


class Wanted(NamedTuple):
    """One question: of which of the principals, about what, and after how many seconds its asker leaves, if it does."""

    principal: int
    kind: str
    id: str
    number: int
    leaves: float | None = None


def principal_of(number: int) -> Principal:
    """Return a principal, each time another object."""
    return Principal(f"p{number}", ("user", f"r{number % 3}"), {"n": number}, "iss", 0.0, {})


async def ask(cerbos: Cerbos, wanted: Wanted) -> str:
    """Ask, and return what came of it. Raises AssertionError for an answer of another question."""
    principal = principal_of(wanted.principal)
    resource = Resource(wanted.kind, wanted.id, "read", {"n": wanted.number})
    question = Question(f"r-{wanted.number}", principal, (resource,))
    try:
        async with asyncio.timeout(wanted.leaves):
            given = await cerbos.check(question)
        (allowed,) = judge(question, given)
    except TimeoutError:
        return "left"
    except Refused as refused:
        return refused.code
    (result,) = given.results
    assert result.policies == {"read": policy_of(principal.id, wanted.number)}, (wanted, result)
    assert allowed is allows(principal.id, wanted.number) is (result.effects["read"] == ALLOW)
    return "own"


def idle(cerbos: Cerbos) -> bool:
    """Return whether nothing is left of any question: no call, no place, nobody who waits."""
    held = [cerbos._calls, cerbos._waiting, cerbos._gathered, cerbos.shares._held, cerbos.shares._queues]
    return not any(held) and cerbos.shares.under_way == 0


async def until_idle(cerbos: Cerbos) -> None:
    """Wait until nothing is left. Raises AssertionError where something is."""
    for _ in range(200):
        if idle(cerbos):
            return
        await asyncio.sleep(0.01)
    raise AssertionError((cerbos._calls, cerbos._waiting, cerbos._gathered, cerbos.shares._held))


async def told_of_all(
    askers: Iterable[list[list[Wanted]]], pdp: Pdp, *, places: int, streams: int, timeout: float
) -> Counter[str]:
    """Ask all of it: each asker its bursts one after the other, the askers side by side. Count what came of them."""
    told: Counter[str] = Counter()

    async def asks(bursts: list[list[Wanted]], cerbos: Cerbos) -> None:
        for burst in bursts:
            told.update(await asyncio.gather(*(ask(cerbos, one) for one in burst)))

    async with grpc_peer.talking(pdp, settings((3, streams))) as (server, talk):
        cerbos = Cerbos(talk.target, timeout=timeout, now=time.monotonic, limit=places)
        # what opens it is tested elsewhere, and here it would hide the rest
        cerbos._breaker = Breaker(time.monotonic, failures=10**9)
        async with asyncio.TaskGroup() as group:
            for bursts in askers:
                group.create_task(asks(bursts, cerbos))
        await until_idle(cerbos)
        await cerbos.aclose()
        for peer in server.peers:
            # frames that were kept for a look at them
            peer.seen.clear()
    return told


PRINCIPALS, ASKERS, BURST = 50, 2, 8


def interleaved(turns: int, seed: int = 0) -> tuple[Counter[str], Pdp]:
    """Two askers for each of 50 principals, with so many bursts of 1 to 15 questions each, to a PDP with all its
    faults: what came of them. Raises AssertionError for an answer of another question."""
    choice = random.Random(seed)
    rare = [one for one in BEHAVIORS if one not in ("answer", "late", "never")]
    numbers = count()

    def behaviors() -> Iterator[str]:
        while True:
            yield choice.choice(rare) if choice.random() < 0.1 else choice.choice(("answer", "answer", "late"))

    def wanted(principal: int) -> Wanted:
        kind = BAD if choice.random() < 0.005 else choice.choice(("a", "b"))
        leaves = choice.random() * 0.01 if choice.random() < 0.02 else None
        return Wanted(principal, kind, str(choice.randrange(3)), next(numbers), leaves)

    askers = [
        [[wanted(asker % PRINCIPALS) for _ in range(choice.randrange(1, 2 * BURST))] for _ in range(turns)]
        for asker in range(ASKERS * PRINCIPALS)
    ]
    pdp = Pdp(behaviors())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        # a busy machine is no fault of the PDP
        return runner.run(told_of_all(askers, pdp, places=128, streams=20, timeout=60.0)), pdp
