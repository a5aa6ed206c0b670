"""Lists and fields in shadow: the answer goes out as it comes, and the record says what enforcing would have left."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Any

import jmespath
import pytest

from sidecar.doors.watching import MOST_LINES, MOST_OF_LINES, Watched, Watching
from sidecar.gate.codes import Code, Ground
from sidecar.gate.lookup import Attribute
from sidecar.gate.obligation import AnswerItems, Demand, HeldAnswer, Judge, Reduce, ReduceEither, ReduceLines
from sidecar.gate.verdict import Facts, Refused
from sidecar.record.journal import Outcome
from sidecar.release.fields import FieldRule
from sidecar.release.items import ItemsRule
from sidecar.release.lines import LinesRule
from sidecar.release.single import FieldsRule
from sidecar.wire.grammar import Header
from tests.permits import Permit

ITEMS = ItemsRule(
    (), jmespath.compile("id").search, "doc", "read", {"owner": Attribute(jmespath.compile("owner").search)},
    fields=(FieldRule(("phone",), "view_phone"),), max_size=4096,
)  # fmt: skip
MINE, THEIRS = {"id": 1, "owner": "a", "phone": "1"}, {"id": 2, "owner": "b"}
LIST = json.dumps([MINE, THEIRS]).encode()
LINES = b"".join(json.dumps(item).encode() + b"\n" for item in (MINE, THEIRS, THEIRS))
JSON, NDJSON = (b"content-type", b"application/json"), (b"content-type", b"application/x-ndjson")


async def own_alone(items: AnswerItems) -> list[frozenset[str]]:
    """Each may read what is theirs, and view no phone."""
    await asyncio.sleep(0)
    return [frozenset(["read"]) if each["owner"] == "a" else frozenset() for each in items.attributes]


class Records:
    """The records that were written."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def record(self, outcome: Outcome) -> None:
        """Keep it."""
        self.outcomes.append(outcome)

    @property
    def told(self) -> tuple[Mapping[str, Any] | None, Code | None, str]:
        """What the only record says of the answer."""
        (outcome,) = self.outcomes
        facts = outcome.verdict.facts
        return facts.items, facts.would_refuse, outcome.detail


def outcome(method: str = "GET") -> Outcome:
    facts = Facts("r-1", method, "/list", route="/list", mode="shadow")
    return Outcome(Permit(b"GET", b"/list", (), Ground.ALLOWED, facts), 200, 0.0)


class Sending:
    """A watched answer, and what its client got."""

    def __init__(self, demand: Demand, *headers: Header, status: int = 200, method: str = "GET", **more: Any) -> None:
        self.records = Records()
        self.watching = Watching(self.records, **more)
        self.watched: Watched = self.watching.begin(demand, HeldAnswer(status, list(headers)), outcome(method))
        self.sent: list[Any] = []
        self.send = self.watched.tap(self._send)

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    async def stream(self, *parts: bytes, ends: bool = True) -> Records:
        """Send an answer in parts, and judge it."""
        await self.send({"type": "http.response.start", "status": 200, "headers": []})
        for part in parts:
            await self.send({"type": "http.response.body", "body": part, "more_body": True})
        if ends:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        assert self.records.outcomes == []
        self.watched.end()
        await self.watching.aclose()
        return self.records


def items(judge: Judge = own_alone, **more: Any) -> Reduce:
    return Reduce(ITEMS, judge, frozenset())


def lines(judge: Judge = own_alone) -> ReduceLines:
    return ReduceLines(LinesRule(ITEMS), judge)


def either(streams: bool) -> ReduceEither:
    return ReduceEither(items(), lines(), lambda _: streams)


NUMBERS = {"seen": 2, "kept": 1, "masked": 1, "calls": 1}


async def test_the_client_gets_what_the_app_says_and_the_record_what_would_be_left() -> None:
    sending = Sending(items(), JSON)
    records = await sending.stream(LIST[:20], LIST[20:])
    assert b"".join(message.get("body", b"") for message in sending.sent) == LIST
    assert records.told == (NUMBERS, None, "")
    assert records.outcomes[0].waited >= 0
    assert sending.watching.room == 32 * 1024 * 1024


async def test_an_answer_that_could_have_been_a_stream_is_judged() -> None:
    assert (await Sending(either(False), JSON).stream(LIST)).told == (NUMBERS, None, "")


async def test_an_answer_in_one_message_is_judged_too() -> None:
    sending = Sending(items(), JSON)
    await sending.send({"type": "http.response.whole", "status": 200, "headers": [], "body": LIST})
    sending.watched.end()
    await sending.watching.aclose()
    assert sending.records.told[0] == NUMBERS


@pytest.mark.parametrize(
    ("encoding", "body"), [(b"gzip", gzip.compress(LIST)), (b"deflate", zlib.compress(LIST)), (b"identity", LIST)]
)
async def test_what_the_app_compresses_for_its_client_is_read(encoding: bytes, body: bytes) -> None:
    records = await Sending(items(), JSON, (b"content-encoding", encoding)).stream(body)
    assert records.told[0] == NUMBERS


async def test_fields_of_one_thing_are_judged() -> None:
    rule = FieldsRule((FieldRule(("phone",), "view_phone"),))
    for granted, masked in (((), 1), (("view_phone",), 0)):
        demand = Reduce(rule, own_alone, frozenset(granted))
        records = await Sending(demand, JSON).stream(json.dumps(MINE).encode())
        assert records.told[0] == {"masked": masked}


async def test_lines_are_counted_and_one_without_its_end_alone_where_the_answer_has_ended() -> None:
    assert (await Sending(lines(), NDJSON).stream(LINES)).told[0] == {"seen": 3, "kept": 1}
    assert (await Sending(lines(), NDJSON).stream(LINES[:-1])).told[0] == {"seen": 3, "kept": 1}
    # its client left, or the app broke off
    assert (await Sending(lines(), NDJSON).stream(LINES[:-1], ends=False)).told[0] == {"seen": 2, "kept": 1}
    # what comes after the first MiB, or the first thousand, is not judged
    long = json.dumps({**MINE, "text": "x" * 10_000}).encode() + b"\n"
    records = await Sending(lines(), NDJSON).stream(*[long] * (MOST_OF_LINES // len(long) + 9))
    assert records.told[0] == {"seen": MOST_OF_LINES // len(long), "kept": MOST_OF_LINES // len(long)}
    records = await Sending(lines(), NDJSON).stream(LINES * MOST_LINES)
    assert records.told[0] == {"seen": MOST_LINES, "kept": MOST_LINES // 3 + 1}


async def late(_: AnswerItems) -> list[frozenset[str]]:
    await asyncio.sleep(60)
    return []


async def unavailable(_: AnswerItems) -> list[frozenset[str]]:
    raise Refused(Code.PDP_UNAVAILABLE, "nobody there")


async def broken(_: AnswerItems) -> list[frozenset[str]]:
    raise KeyError("bug")


@pytest.mark.parametrize(
    ("demand", "headers", "body", "code", "detail"),
    [
        (items(), (JSON,), b"[{}]", Code.ITEMS_UNREADABLE, "items[0]: found no id"),
        (items(), (JSON,), b"no json", Code.ITEMS_UNREADABLE, "items.at"),
        (items(), ((b"content-type", b"text/html"),), b"<p>", Code.ITEMS_UNREADABLE, "found the content type"),
        (items(), (JSON, (b"content-encoding", b"gzip")), b"no gzip", Code.ITEMS_UNREADABLE, "not of its encoding"),
        (items(), (JSON, (b"content-encoding", b"gzip")), gzip.compress(b"[" + b" " * 9999), Code.ITEMS_TOO_MANY, "4096"),
        (items(unavailable), (JSON,), LIST, Code.PDP_UNAVAILABLE, "nobody there"),
        (items(broken), (JSON,), LIST, Code.INTERNAL_ERROR, "KeyError: 'bug'"),
        (lines(), (NDJSON,), b"{}\n", Code.ITEMS_UNREADABLE, "a line: found no id"),
    ],
)  # fmt: skip
async def test_what_enforcing_would_refuse_is_in_the_record(
    demand: Reduce | ReduceLines, headers: tuple[Header, ...], body: bytes, code: Code, detail: str
) -> None:
    numbers, found, told = (await Sending(demand, *headers).stream(body)).told
    assert (numbers, found) == (None, code)
    assert detail in told


@pytest.mark.parametrize(
    ("sending", "body", "why"),
    [
        (lambda: Sending(items(), JSON, (b"content-encoding", b"br")), LIST, "encoded"),
        (lambda: Sending(items(), JSON, status=206), LIST, "partial"),
        (lambda: Sending(items(), JSON, status=304), b"", "partial"),
        (lambda: Sending(items(), JSON, method="HEAD"), b"", "partial"),
        (lambda: Sending(items(), JSON), b" " * 4097, "too_large"),
        (lambda: Sending(items(), JSON, most=10), LIST, "busy"),
        (lambda: Sending(items(), JSON, within=-1.0), LIST, "slow"),
        (lambda: Sending(items(late), JSON, within=0.01), LIST, "slow"),
        (lambda: Sending(either(True), JSON), LIST, "stream"),
    ],
)  # fmt: skip
async def test_what_is_not_judged_says_why_and_goes_out_all_the_same(sending: Any, body: bytes, why: str) -> None:
    made: Sending = sending()
    room = made.watching.room
    records = await made.stream(body)
    assert records.told == ({"unjudged": why}, None, "")
    assert (made.sent[1]["body"], made.watching.room) == (body, room)


async def test_an_answer_that_breaks_off_is_recorded_once_and_not_judged() -> None:
    records = await Sending(items(), JSON).stream(LIST[:9], ends=False)
    assert records.told == ({"unjudged": "partial"}, None, "")


async def test_an_answer_without_content_has_no_numbers() -> None:
    assert (await Sending(items(), status=204).stream()).told == (None, None, "")
    # an error in another form
    assert (await Sending(items(), (b"content-type", b"text/plain"), status=500).stream(b"no")).told == (None, None, "")


async def test_of_many_answers_some_are_judged_at_once_and_each_is_recorded_before_the_end() -> None:
    records, under_way, most = Records(), 0, 0

    async def slow(asked: AnswerItems) -> list[frozenset[str]]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return await own_alone(asked)

    watching = Watching(records)
    for _ in range(9):
        watched = watching.begin(items(slow), HeldAnswer(200, [JSON]), outcome())

        async def nowhere(_: Any) -> None:
            pass

        await watched.tap(nowhere)({"type": "http.response.whole", "body": LIST})
        watched.end()
    await watching.aclose()
    assert [one.verdict.facts.items for one in records.outcomes] == [NUMBERS] * 9
    assert most == 2


async def test_what_takes_too_long_at_the_end_is_recorded_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.doors.watching.LAST_WITHIN", 0.0)
    records = await Sending(items(late), JSON).stream(LIST)
    assert records.told[0] == {"unjudged": "slow"}
