"""`lookups/asking.py` against a hook with a switch, with the gate's reading of the answer where that decides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from typing import Any, NamedTuple

import jmespath
import pytest

from sidecar.gate.codes import Code
from sidecar.gate.hook import Hook
from sidecar.gate.lookup import Attribute, Batch, Call, Lookup, Reply, ResourceField, attributes_from
from sidecar.gate.references import Material, Reference
from sidecar.gate.values import Type
from sidecar.gate.verdict import Refused
from sidecar.lookups.asking import CACHED, MAX_RUNNING, Lookups
from sidecar.lookups.http import MAX_BODY, HttpSource
from sidecar.net.connection import Fault
from sidecar.record.reasons import Reason
from tests.fakes import (
    Behave,
    Clock,
    Web,
    answer,
    cut,
    held,
    json_answer,
    raw,
    refusal,
    silence,
    until,
)

GOOD = json_answer({"id": "1", "owner_id": "alice"})
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


USES: list[tuple[str, str]] = []


def uses(_: Lookups, outcome: str) -> int:
    """How often the cache of lookups was looked into with this outcome."""
    return USES.count(("lookup", outcome))


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """A hook, which knows the owner of everything."""
    async with Web(GOOD) as web:
        yield web


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def hooks(clock: Clock) -> AsyncIterator[Lookups]:
    hooks = Lookups({Hook: HttpSource()}, now=clock, count=lambda cache, outcome: USES.append((cache, outcome)))
    USES.clear()
    yield hooks
    await hooks.aclose()


def call(origin: str, target: str = "/docs/1", **options: Any) -> Call:
    owner = Attribute(jmespath.compile("owner_id").search, Type.STRING)
    hook = Hook(origin, (), options.pop("bearer", ""))
    named = {"name": "doc", "attributes": {"owner": owner}, "timeout": 5.0, **options}
    return Call(Lookup(inquiry=hook, **named), target, "1")


async def read(hooks: Lookups, asked: Call) -> dict[str, Any]:
    """What the gate does."""
    return attributes_from(asked, await hooks.ask(asked))


# --- one flight ---


async def test_equal_questions_at_once_are_asked_once(web: Web, hooks: Lookups) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, GOOD)
    equal = [asyncio.ensure_future(hooks.ask(call(web.origin))) for _ in range(50)]
    other = asyncio.ensure_future(hooks.ask(call(web.origin, "/docs/2")))
    another_lookup = asyncio.ensure_future(hooks.ask(call(web.origin, name="as-admin", bearer="s3cret")))
    await until(lambda: len(web.asked) == 3)
    gate.set()
    assert {reply.status for reply in await asyncio.gather(*equal, other, another_lookup)} == {200}
    assert len(web.asked) == 3
    await hooks.ask(call(web.origin))
    assert len(web.asked) == 4


async def test_a_fault_of_the_flight_is_everybodys(web: Web, hooks: Lookups) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, cut())
    waiting = [asyncio.ensure_future(refusal(hooks.ask(call(web.origin)))) for _ in range(10)]
    await until(lambda: web.asked)
    gate.set()
    assert set(await asyncio.gather(*waiting)) == {Code.LOOKUP_UNAVAILABLE}
    assert len(web.asked) == 1


async def test_one_who_leaves_does_not_take_the_answer_from_the_others(web: Web, hooks: Lookups) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, GOOD)
    first, second = (asyncio.ensure_future(hooks.ask(call(web.origin))) for _ in range(2))
    await until(lambda: web.asked)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()
    assert (await second).status == 200
    assert len(web.asked) == 1


async def test_a_flight_that_everybody_left_ends_by_itself(web: Web, hooks: Lookups) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, cut())
    only = asyncio.ensure_future(hooks.ask(call(web.origin)))
    await until(lambda: web.asked)
    only.cancel()
    await asyncio.wait([only])
    gate.set()
    await until(lambda: not hooks._flights)
    web.behave = GOOD
    assert (await hooks.ask(call(web.origin))).status == 200


async def test_closing_refuses_who_waits_and_cancels_nobody(web: Web, hooks: Lookups) -> None:
    web.behave = silence
    waiting = asyncio.ensure_future(refusal(hooks.ask(call(web.origin))))
    await until(lambda: web.asked)
    await hooks.aclose()
    assert await waiting is Code.LOOKUP_UNAVAILABLE


# --- the cache ---


async def test_a_reply_is_kept_as_long_as_the_route_file_says(web: Web, clock: Clock, hooks: Lookups) -> None:
    asked = call(web.origin, cache=2.0)
    first = await hooks.ask(asked)
    web.behave = json_answer({"owner_id": "bob"})
    clock.advance(1.99)
    assert await hooks.ask(asked) == first
    assert (len(web.asked), uses(hooks, "hit"), uses(hooks, "miss")) == (1, 1, 1)
    clock.advance(0.01)
    assert json.loads((await hooks.ask(asked)).body) == {"owner_id": "bob"}
    assert (len(web.asked), uses(hooks, "hit"), uses(hooks, "miss")) == (2, 1, 2)


async def test_nothing_is_kept_unless_the_route_file_says_so(web: Web, hooks: Lookups) -> None:
    for _ in range(3):
        await hooks.ask(call(web.origin))
    assert (len(web.asked), uses(hooks, "hit"), uses(hooks, "miss")) == (3, 0, 0)


async def test_each_lookup_and_each_target_has_replies_of_its_own(web: Web, hooks: Lookups) -> None:
    for _ in range(2):
        for target in ("/docs/1", "/docs/2", "/docs/1?x=1"):
            for name in ("doc", "as-admin"):
                await hooks.ask(call(web.origin, target, name=name, cache=60.0))
    assert (len(web.asked), uses(hooks, "hit")) == (6, 6)


@pytest.mark.parametrize(
    ("behave", "kept"),
    [
        (GOOD, True), (answer(404), True), (answer(500), False), (answer(403), False), (answer(302), False),
        (answer(204), False), (cut(), False), (raw(b"?\r\n\r\n"), False), (answer(200, b" " * (MAX_BODY + 1)), False),
    ],
)  # fmt: skip
async def test_only_what_says_something_about_the_resource_is_kept(
    web: Web, hooks: Lookups, behave: Behave, kept: bool
) -> None:
    web.behave = behave
    asked = call(web.origin, cache=60.0)
    for _ in range(2):
        work = asyncio.ensure_future(hooks.ask(asked))
        await asyncio.wait([work])
        work.exception()
    assert len(web.asked) == (1 if kept else 2)


async def test_the_oldest_reply_makes_room(web: Web, hooks: Lookups) -> None:
    web.behave = answer(200, b" " * MAX_BODY)
    most = CACHED // (MAX_BODY + 1024)
    for number in range(most + 1):
        await hooks.ask(call(web.origin, f"/docs/{number}", cache=60.0))
    for number in (most, most // 2, 0):
        await hooks.ask(call(web.origin, f"/docs/{number}", cache=60.0))
    assert (uses(hooks, "hit"), len(web.asked)) == (2, most + 2)


async def test_a_long_target_is_kept_by_its_digest(web: Web, hooks: Lookups) -> None:
    long = "/docs/" + "a" * 5000
    for target in (long, long, long + "b", long + "b"):
        await hooks.ask(call(web.origin, target, cache=60.0))
    assert (uses(hooks, "hit"), len(web.asked)) == (2, 2)
    assert hooks._cache.weight < 4096


# --- a hook that is away, or slow ---


async def test_five_failures_in_a_row_open_the_breaker_of_that_lookup(web: Web, clock: Clock, hooks: Lookups) -> None:
    web.behave = cut()
    for _ in range(5):
        assert await refusal(hooks.ask(call(web.origin))) is Code.LOOKUP_UNAVAILABLE
    for number in range(20):
        assert await refusal(hooks.ask(call(web.origin, f"/docs/{number}"))) is Code.LOOKUP_OPEN
    assert len(web.asked) == 5
    async with Web(GOOD) as other:
        assert (await hooks.ask(call(other.origin, name="other"))).status == 200
    web.behave = GOOD
    clock.advance(2.0)
    for _ in range(3):
        assert (await hooks.ask(call(web.origin))).status == 200
    assert len(web.asked) == 8


async def test_answers_that_cannot_be_used_do_not_open_the_breaker(web: Web, hooks: Lookups) -> None:
    """One resource with a broken answer must not close the hook to all others."""
    web.behave = answer(200, b" " * (MAX_BODY + 1))
    for _ in range(12):
        assert await refusal(hooks.ask(call(web.origin))) is Code.LOOKUP_BAD_ANSWER
    web.behave = GOOD
    assert (await hooks.ask(call(web.origin, "/docs/2"))).status == 200


def by(asker: str, origin: str, path: str, **more: Any) -> Call:
    return call(origin, path, **more)._replace(asker=("iss", asker))


async def test_more_questions_of_one_principal_than_its_share_wait_for_their_turn(web: Web, hooks: Lookups) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, GOOD)
    share = MAX_RUNNING // 2
    running = [
        asyncio.ensure_future(hooks.ask(by("alice", web.origin, f"/docs/{number}", timeout=30.0)))
        for number in range(share + MAX_RUNNING + 3)
    ]
    await until(lambda: len(web.asked) == share)
    # of those that wait there are so many, too
    await until(lambda: sum(one.done() for one in running) == 3)
    # another is asked at once, for what nobody asks and for what somebody waits to ask
    his = [
        asyncio.ensure_future(hooks.ask(by("bob", web.origin, path, timeout=30.0)))
        for path in ("/docs/bobs", f"/docs/{share + 1}")
    ]
    await until(lambda: len(web.asked) == share + 2)
    gate.set()
    assert {reply.status for reply in await asyncio.gather(*his)} == {200}
    done = await asyncio.gather(*running, return_exceptions=True)
    assert sum(isinstance(one, Reply) for one in done) == share + MAX_RUNNING
    assert {one.code for one in done if isinstance(one, Refused)} == {Code.LOOKUP_BUSY}
    assert (await hooks.ask(by("alice", web.origin, "/docs/one-more"))).status == 200
    assert hooks.shares["doc"]._held == {}


async def test_who_waits_for_a_place_until_the_deadline_is_told_that_the_lookup_is_busy(
    web: Web, hooks: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpSource, "places", 2)
    gate = asyncio.Event()
    web.behave = held(gate, GOOD)
    first = asyncio.ensure_future(hooks.ask(by("alice", web.origin, "/docs/1", timeout=30.0)))
    await until(lambda: len(web.asked) == 1)
    assert await refusal(hooks.ask(by("alice", web.origin, "/docs/2", timeout=0.05))) is Code.LOOKUP_BUSY
    gate.set()
    assert (await first).status == 200


async def test_what_was_asked_meanwhile_is_not_asked_again(
    web: Web, hooks: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpSource, "places", 2)
    gates = {"/docs/1": asyncio.Event(), "/docs/2": asyncio.Event()}

    async def behave(writer: asyncio.StreamWriter) -> None:
        await held(gates[web.asked[-1][0].split()[1]], GOOD)(writer)

    web.behave = behave
    first = asyncio.ensure_future(hooks.ask(by("alice", web.origin, "/docs/1", timeout=30.0)))
    await until(lambda: len(web.asked) == 1)
    waiting = asyncio.ensure_future(hooks.ask(by("alice", web.origin, "/docs/2", timeout=30.0, cache=60.0)))
    his = asyncio.ensure_future(hooks.ask(by("bob", web.origin, "/docs/2", timeout=30.0, cache=60.0)))
    await until(lambda: len(web.asked) == 2)
    # her turn comes while his question is under way
    gates["/docs/1"].set()
    await first
    gates["/docs/2"].set()
    assert await waiting is await his
    assert len(web.asked) == 2
    assert hooks.shares["doc"]._held == {}


async def test_a_timeout_after_a_wait_for_a_place_does_not_open_the_breaker(
    web: Web, hooks: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one user's burst could take the hook away from all others."""
    monkeypatch.setattr(HttpSource, "places", 2)
    web.behave = silence
    first = asyncio.ensure_future(hooks.ask(by("alice", web.origin, "/docs/1", timeout=0.1)))
    await until(lambda: len(web.asked) == 1)
    assert await refusal(hooks.ask(by("alice", web.origin, "/docs/2", timeout=1.0))) is Code.LOOKUP_TIMEOUT
    assert await refusal(first) is Code.LOOKUP_TIMEOUT
    assert len(web.asked) == 2
    assert hooks._breakers["doc"]._failed == 1


# --- several sources ---


class Table(NamedTuple):
    """An inquiry of another type."""

    source: str = "db"
    values: tuple[Reference | ResourceField, ...] = ()

    def fill(self, kind: str, resource_id: str, material: Material) -> str:
        return resource_id

    def shown(self, question: str) -> str:
        return f"db {question}"


class TableSource:
    """What answers it; `rows` is what is asked for -> its owner, or how it fails."""

    places = MAX_RUNNING

    def __init__(self, rows: dict[str, str | Exception]) -> None:
        self.rows = rows
        self.asked: list[str] = []
        self.closed = False

    async def ask(self, call: Call, seconds: float) -> Reply:
        self.asked.append(call.question)
        row = self.rows[call.question]
        if isinstance(row, Exception):
            raise row
        return Reply(200, "application/json", json.dumps({"owner_id": row}).encode())

    async def retain(self, lookups: Collection[Lookup]) -> None:
        self.retained = [lookup.name for lookup in lookups]

    async def aclose(self) -> None:
        self.closed = True


async def test_each_inquiry_is_asked_at_its_own_source(web: Web, clock: Clock) -> None:
    table = TableSource({"1": "bob", "2": Fault(Reason.CONNECTION_TIMEOUT), "3": KeyError("no column")})
    lookups = Lookups({Hook: HttpSource(), Table: table}, now=clock)
    hook = call(web.origin, cache=60.0)
    # the same question, and the same name, but asked elsewhere
    asked = hook._replace(lookup=hook.lookup._replace(inquiry=Table()), question="1")
    for _ in range(2):
        assert await read(lookups, hook) == {"owner": "alice"}
        assert await read(lookups, asked) == {"owner": "bob"}
    assert (len(web.asked), table.asked) == (1, ["1"])
    assert await refusal(lookups.ask(asked._replace(question="2"))) is Code.LOOKUP_TIMEOUT
    assert await refusal(lookups.ask(asked._replace(question="3"))) is Code.LOOKUP_BAD_ANSWER
    await lookups.aclose()
    assert table.closed


async def test_an_inquiry_without_a_source_is_refused(web: Web, clock: Clock) -> None:
    lookups = Lookups({}, now=clock)
    assert await refusal(lookups.ask(call(web.origin))) is Code.LOOKUP_BAD_ANSWER
    assert web.asked == []


# --- many at once ---


class Owners:
    """A source that is asked about many: `owners` has those that are there. It waits for `gate`."""

    places = 4

    def __init__(self, owners: dict[str, str]) -> None:
        self.owners = owners
        self.asked: list[tuple[str, ...]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.told: Any = None
        self.bad = ""
        self.slow = ""

    async def ask(self, call: Call, seconds: float) -> Reply:
        self.asked.append(call.ids)
        async with asyncio.timeout(seconds):
            await self.gate.wait()
            if self.slow in call.ids:
                await asyncio.Event().wait()
        if self.bad in call.ids:
            return Reply(200, "application/json", b"{")
        if self.fault is not None:
            raise self.fault
        told = {one: {"owner_id": self.owners[one]} for one in call.ids if one in self.owners}
        return Reply(200, "application/json", json.dumps(told if self.told is None else self.told).encode())

    async def retain(self, lookups: Collection[Lookup]) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


def about(*ids: str, asker: str = "a", **options: Any) -> list[Call]:
    one = call("http://h", "/docs?id={ids}", batch=Batch(3), **options)
    one = one._replace(
        lookup=one.lookup._replace(inquiry=Hook("http://h", ("/docs?id=", ResourceField.IDS))), asker=("i", asker)
    )
    return [one._replace(resource_id=name) for name in ids]


def owners_of(replies: Any) -> list[Any]:
    return [reply.document["owner_id"] if reply.status == 200 else reply.status for reply in replies]


@pytest.fixture
async def owners() -> Owners:
    return Owners({name: f"owner of {name}" for name in "1234567"})


@pytest.fixture
async def many(owners: Owners, clock: Clock) -> AsyncIterator[Lookups]:
    many = Lookups({Hook: owners}, now=clock, count=lambda cache, outcome: USES.append((cache, outcome)))
    USES.clear()
    yield many
    owners.gate.set()
    await many.aclose()


async def test_many_are_asked_about_in_as_few_calls_as_can_be(owners: Owners, many: Lookups) -> None:
    replies = await many.ask_all(about("1", "9", "2", "1", "3", "4"))
    assert owners_of(replies) == ["owner of 1", 404, "owner of 2", "owner of 1", "owner of 3", "owner of 4"]
    assert owners.asked == [("1", "9", "2"), ("3", "4")]
    assert (await many.ask(about("5")[0])).document == {"owner_id": "owner of 5"}
    assert owners.asked[2:] == [("5",)]


async def test_what_is_cached_is_not_asked_whichever_call_it_came_with(
    owners: Owners, many: Lookups, clock: Clock
) -> None:
    await many.ask_all(about("1", "9", cache=10.0))
    await many.ask(about("2", cache=10.0)[0])
    assert owners_of(await many.ask_all(about("2", "3", "9", "1", cache=10.0)))[2:] == [404, "owner of 1"]
    assert owners.asked == [("1", "9"), ("2",), ("3",)]
    assert (uses(many, "hit"), uses(many, "miss")) == (3, 4)
    clock.now += 11.0
    await many.ask_all(about("1", "3", cache=10.0))
    assert owners.asked[3:] == [("1", "3")]


async def test_what_is_under_way_is_joined(owners: Owners, many: Lookups) -> None:
    owners.gate.clear()
    first = asyncio.ensure_future(many.ask_all(about("1", "2")))
    await until(lambda: len(owners.asked) == 1)
    second = asyncio.ensure_future(many.ask_all(about("2", "3", asker="b")))
    alone = asyncio.ensure_future(many.ask(about("1", asker="c")[0]))
    await until(lambda: len(owners.asked) == 2)
    first.cancel()
    owners.gate.set()
    assert owners_of(await second) == ["owner of 2", "owner of 3"]
    assert owners_of([await alone]) == ["owner of 1"]
    assert owners.asked == [("1", "2"), ("3",)]
    assert not many._flights


@pytest.mark.parametrize(
    ("fault", "told", "code"),
    [
        (Fault(Reason.CONNECTION_FAILED), None, Code.LOOKUP_UNAVAILABLE), (KeyError("x"), None, Code.LOOKUP_BAD_ANSWER),
        (None, {"1": {"owner_id": "a"}, "4": {"owner_id": "b"}}, Code.LOOKUP_BAD_ANSWER), (None, [], Code.LOOKUP_BAD_ANSWER),
    ],
)  # fmt: skip
async def test_a_call_that_fails_is_the_fault_of_all_its_ids_and_kept_of_none(
    owners: Owners, many: Lookups, fault: Exception | None, told: Any, code: Code
) -> None:
    owners.fault, owners.told = fault, told
    assert await refusal(many.ask_all(about("1", "2", cache=10.0))) is code
    owners.fault = owners.told = None
    assert owners_of(await many.ask_all(about("1", "2", cache=10.0))) == ["owner of 1", "owner of 2"]
    assert owners.asked == [("1", "2")] * 2


async def test_one_whose_id_makes_an_answer_bad_harms_nobody_who_has_joined(owners: Owners, many: Lookups) -> None:
    """The hook answers badly about 9: who began that call fails, and who waits for it too asks again without it."""
    owners.bad = "9"
    owners.gate.clear()
    guilty = asyncio.ensure_future(refusal(many.ask_all(about("1", "2", "9"))))
    await until(lambda: len(owners.asked) == 1)
    others = [asyncio.ensure_future(many.ask_all(about("1", "2", "3", asker=name, cache=10.0))) for name in "bc"]
    alone = asyncio.ensure_future(many.ask(about("2", asker="d")[0]))
    await until(lambda: len(owners.asked) == 2)
    owners.gate.set()
    assert await guilty is Code.LOOKUP_BAD_ANSWER
    for other in others:
        assert owners_of(await other) == ["owner of 1", "owner of 2", "owner of 3"]
    assert owners_of([await alone]) == ["owner of 2"]
    assert owners.asked == [("1", "2", "9"), ("3",), ("1", "2"), ("1", "2"), ("2",)]
    assert owners_of(await many.ask_all(about("1", "2", cache=10.0))) == ["owner of 1", "owner of 2"]
    assert len(owners.asked) == 5
    assert not many._flights
    assert not many._tasks


async def test_one_whose_id_makes_an_answer_late_harms_nobody_who_has_joined(owners: Owners, many: Lookups) -> None:
    owners.slow = "9"
    guilty = asyncio.ensure_future(refusal(many.ask_all(about("1", "9", timeout=0.3))))
    await until(lambda: len(owners.asked) == 1)
    assert owners_of(await many.ask_all(about("1", asker="b", timeout=0.2))) == ["owner of 1"]
    assert owners.asked == [("1", "9"), ("1",)]
    assert not guilty.done()
    assert await guilty is Code.LOOKUP_BAD_ANSWER


async def test_a_call_about_one_that_fails_is_asked_again_by_nobody(owners: Owners, many: Lookups) -> None:
    owners.bad = "9"
    owners.gate.clear()
    asked = [asyncio.ensure_future(refusal(many.ask_all(about("9", asker=name)))) for name in "abc"]
    await until(lambda: len(owners.asked) == 1)
    owners.gate.set()
    assert set(await asyncio.gather(*asked)) == {Code.LOOKUP_BAD_ANSWER}
    assert owners.asked == [("9",)]


async def test_whoever_asks_again_without_others_fails_with_the_same_fault_once(owners: Owners, many: Lookups) -> None:
    owners.bad = "2"
    owners.gate.clear()
    first = asyncio.ensure_future(refusal(many.ask_all(about("1", "2"))))
    await until(lambda: len(owners.asked) == 1)
    second = asyncio.ensure_future(refusal(many.ask_all(about("1", "2", asker="b"))))
    await asyncio.sleep(0)
    owners.gate.set()
    assert {await first, await second} == {Code.LOOKUP_BAD_ANSWER}
    assert owners.asked == [("1", "2")] * 2


async def test_a_call_about_many_takes_one_place_and_waits_for_one(owners: Owners, many: Lookups) -> None:
    """Of four places one principal has two."""
    owners.gate.clear()
    busy = [asyncio.ensure_future(many.ask_all(about(*ids))) for ids in (("1", "2"), ("3", "4"))]
    await until(lambda: len(owners.asked) == 2)
    waiting = asyncio.ensure_future(many.ask_all(about("4", "5", "6", "7", cache=10.0)))
    # another one is served all the same, and asks what the first one waits to ask
    other = asyncio.ensure_future(many.ask_all(about("5", asker="b", cache=10.0)))
    await until(lambda: len(owners.asked) == 3)
    assert many.shares["doc"].waiting == 1
    owners.gate.set()
    assert owners_of(await waiting) == ["owner of 4", "owner of 5", "owner of 6", "owner of 7"]
    await asyncio.gather(*busy, other)
    assert sorted(name for ids in owners.asked for name in ids) == sorted("1234567")
    assert many.shares["doc"].take(("i", "c"))


async def test_a_call_about_many_keeps_its_time(owners: Owners, many: Lookups) -> None:
    owners.gate.clear()
    busy = [asyncio.ensure_future(refusal(many.ask_all(about(name, timeout=0.2)))) for name in "12"]
    await until(lambda: len(owners.asked) == 2)
    assert await refusal(many.ask_all(about("3", "4", timeout=0.05))) is Code.LOOKUP_BUSY
    assert set(await asyncio.gather(*busy)) == {Code.LOOKUP_BAD_ANSWER}


async def test_a_call_about_many_ends_with_the_lookups(owners: Owners, many: Lookups) -> None:
    owners.gate.clear()
    asked = asyncio.ensure_future(refusal(many.ask_all(about("1", "2"))))
    await until(lambda: len(owners.asked) == 1)
    await many.aclose()
    assert await asked is Code.LOOKUP_UNAVAILABLE


# --- what a reload leaves ---


async def test_what_was_kept_for_lookups_that_are_gone_is_given_back_when_all_have_ended(owners: Owners) -> None:
    many = Lookups({Hook: owners}, now=lambda: 0.0)
    owners.gate.clear()
    stays, goes = about("1"), about("2")
    goes = [one._replace(lookup=one.lookup._replace(name="goes")) for one in goes]
    asked = asyncio.gather(many.ask_all(stays), many.ask_all(goes))
    await until(lambda: len(owners.asked) == 2)
    in_force: list[Lookup] = []
    retaining = asyncio.create_task(many.retain(lambda: in_force))
    await asyncio.sleep(0)
    # what a reload brings while others are under way is in force, too
    in_force.append(stays[0].lookup)
    assert many.breakers().keys() == many.shares.keys() == {stays[0].lookup.name, "goes"}
    owners.gate.set()
    await retaining
    assert [owners_of(replies) for replies in await asked] == [["owner of 1"], ["owner of 2"]]
    assert many.breakers().keys() == many.shares.keys() == {stays[0].lookup.name}
    # a request that began before begins anew
    assert owners_of(await many.ask_all(goes)) == ["owner of 2"]
    await many.retain(list)
    assert not many.breakers()
    assert not many.shares
    await many.aclose()
