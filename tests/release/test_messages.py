"""Lists in JSON-RPC messages: whichever request they answer, whole or in events, only allowed items go out."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.expressions import searcher
from sidecar.gate.obligation import AnswerItems, HeldAnswer, Reduced, ReduceEither
from sidecar.gate.verdict import Refused
from sidecar.release.items import ItemsRule
from sidecar.release.messages import MAX_EVENT, Events, MessagesRule
from tests.gate.test_obligation import nobody

JSON = (b"content-type", b"application/json")
STREAM = (b"content-type", b"text/event-stream")
RULE = MessagesRule(
    {
        name: ItemsRule(("result", name), searcher("name"), kind, "list", {})
        for name, kind in (("tools", "mcp_tool"), ("resourceTemplates", "mcp_resource"))
    }
)


async def policy(items: AnswerItems) -> list[frozenset[str]]:
    """Show all whose name does not begin with `secret`."""
    return [frozenset() if one.startswith("secret") else frozenset(items.actions) for one in items.ids]


def listed(*names: str, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": name} for name in names], **more}}


CALLED = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "tools"}], "isError": False}}
ERROR = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no"}}
SAMPLING = {"jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage", "params": {"tools": [{"name": "secret"}]}}
CHANGED = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}


async def reduced(value: Any, status: int = 200, header: tuple[bytes, bytes] = JSON, judge: Any = policy) -> Reduced:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return await RULE.reduce(HeldAnswer(status, [header], body), judge, frozenset())


async def test_only_allowed_items_stay_and_all_else_is_as_it_came() -> None:
    made = await reduced(
        b'{"jsonrpc": "2.0",  "id":1, "result": {"tools": [{"name":"a"}, {"name":"secret"}], "nextCursor": "c"}}'
    )
    assert made.answer.body == b'{"jsonrpc": "2.0",  "id":1, "result": {"tools": [{"name":"a"}], "nextCursor": "c"}}'
    assert made.counts == {"seen": 2, "kept": 1, "masked": 0, "calls": 1}


@pytest.mark.parametrize("scope", ["public", "private", None, 7])
async def test_no_cache_may_give_a_list_to_others(scope: Any) -> None:
    made = await reduced(listed("a", "secret", cacheScope=scope, ttlMs=5))
    assert json.loads(made.answer.body or b"") == listed("a", cacheScope="private", ttlMs=5)


@pytest.mark.parametrize(
    "value", [CALLED, ERROR, SAMPLING, CHANGED, {"detail": "no"}, {"jsonrpc": "2.0", "id": 1, "result": {}}]
)
async def test_what_has_no_list_asks_nobody_and_is_as_it_came(value: Any) -> None:
    for status in (200, 400, 503):
        made = await reduced(value, status, judge=nobody)
        assert json.loads(made.answer.body or b"") == value
        assert not made.counts


@pytest.mark.parametrize("value", [b"{", b'{"result": {}} {}', b"no JSON"])
async def test_what_has_the_name_of_no_list_in_it_is_not_read(value: bytes) -> None:
    assert (await reduced(value, judge=nobody)).answer.body == value


async def test_an_error_may_have_a_list_in_it_too() -> None:
    made = await reduced(listed("a", "secret"), 400)
    assert json.loads(made.answer.body or b"") == listed("a")


@pytest.mark.parametrize(
    ("status", "header", "body"),
    [(202, JSON, b""), (202, (b"x-a", b"1"), b""), (204, (b"x-a", b"1"), b""), (200, JSON, b""), (404, (b"content-type", b"text/html"), b"<p>")],
)  # fmt: skip
async def test_what_has_no_message_is_as_it_came(status: int, header: tuple[bytes, bytes], body: bytes) -> None:
    made = await reduced(body, status, header, nobody)
    assert made.answer == HeldAnswer(status, [header], body)


@pytest.mark.parametrize(
    "value",
    [
        [listed("a")],
        {"jsonrpc": "2.0", "id": 1, "Result": {"tools": []}},
        {"jsonrpc": "2.0", "id": 1, "result": {"Tools": []}},
        {"jsonrpc": "2.0", "id": 1, "result": {"tool\u017f": []}},
        {"jsonrpc": "2.0", "id": 1, "result": {"tools": [], "resourceTemplates": []}},
        {"jsonrpc": "2.0", "id": 1, "result": {"tools": {"a": 1}}},
        {"jsonrpc": "2.0", "id": 1, "result": [{"tools": []}]},
        listed("a") | {"result": {"tools": [{"title": "without a name"}]}},
        b'{"jsonrpc": "2.0", "id": 1, "result": {}, "result": {"tools": [{"name": "secret"}]}}',
        b'{"jsonrpc": "2.0", "id": 1, "result": {"tools": [], "tools": [{"name": "secret"}]}}',
        b'{"result": {"tools": []}} {"result": {}}',
        b"\xef\xbb\xbf" + json.dumps(CALLED).encode(),
        json.dumps(listed("secret")).encode("utf-16"),
        b"tools",
    ],
)
async def test_what_clients_could_read_in_two_ways_is_not_released(value: Any) -> None:
    with pytest.raises(Refused) as refused:
        await reduced(value)
    assert refused.value.code is Code.ITEMS_UNREADABLE
    with pytest.raises(Refused):
        await RULE.window(
            [b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"], policy
        )


@pytest.mark.parametrize(
    "header", [(b"content-type", b"text/html"), (b"x-a", b"1"), (b"content-type", b"application/json-seq")]
)
async def test_a_whole_answer_of_another_kind_is_not_released(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(Refused):
        await reduced(listed("a"), 200, header)


def test_the_head_tells_whether_it_is_a_stream() -> None:
    demand = RULE.demand(nobody, frozenset(), "")
    assert isinstance(demand, ReduceEither)
    for kind, streams in (
        (b"text/event-stream", True),
        (b"Text/Event-Stream; charset=utf-8", True),
        (b"application/json", False),
    ):
        assert demand.of(HeldAnswer(200, [(b"content-type", kind)])) is (demand.pieces if streams else demand.whole)
    # two kinds are none: such an answer is held, and refused
    assert demand.of(HeldAnswer(200, [STREAM, JSON])) is demand.whole
    with pytest.raises(Refused):
        RULE.begin(HeldAnswer(200, [STREAM, (b"content-encoding", b"gzip")]))
    assert RULE.begin(HeldAnswer(200, [STREAM, (b"etag", b"1")])) == (HeldAnswer(200, [STREAM]), True)


def event(value: Any, before: bytes = b"event: message\r\nid: 7\r\n", end: bytes = b"\r\n") -> bytes:
    return before + b"data: " + json.dumps(value).encode() + end + end


async def window(*events: bytes) -> bytes:
    return await RULE.window(events, policy)


async def test_events_that_have_a_list_are_reduced_and_others_go_out_as_they_came() -> None:
    others = [
        event(CHANGED),
        event(CALLED),
        event(SAMPLING),
        b": ping\r\n\r\n",
        b"id: 8\r\ndata: \r\n\r\n",
        b"retry: 5\n\n",
    ]
    assert await window(*others) == b"".join(others)
    made = await window(others[0], event(listed("a", "secret")))
    assert made == others[0] + event(listed("a"), b"event: message\nid: 7\n", b"\n")


async def test_the_data_of_an_event_may_stand_in_several_lines() -> None:
    text = json.dumps(listed("a", "secret"), indent=1).encode()
    made = await window(b"".join(b"data:" + line + b"\r\n" for line in text.split(b"\n")) + b"\r\n")
    assert b"secret" not in made
    assert json.loads(b"\n".join(line.removeprefix(b"data: ") for line in made.strip().split(b"\n"))) == listed("a")


@pytest.mark.parametrize(
    "odd", [b"DATA: ", b" data: ", b"\xef\xbb\xbfdata: ", b"x: y\rdata: ", b"data\t: ", b"data ", b"\tdata: "]
)
async def test_data_that_some_clients_see_and_others_not_ends_the_stream(odd: bytes) -> None:
    for before in (b"", b"data: {}\n"):
        with pytest.raises(Refused) as refused:
            await window(before + odd + json.dumps(listed("secret")).encode() + b"\n\n")
        assert refused.value.code is Code.ITEMS_UNREADABLE


async def test_data_of_another_kind_of_event_is_judged_too() -> None:
    assert await window(event(listed("secret"), b"event: other\n")) == event(listed(), b"event: other\n", b"\n")
    with pytest.raises(Refused):
        await window(b"event: endpoint\ndata: /messages?of=tools\n\n")


def test_events_are_found_in_whatever_pieces_they_come() -> None:
    stream = (
        event(CALLED) + b": ping\n\n" + event(CHANGED, b"", b"\n") + b"\r\n" + event(listed("a"), b"") + b"data: {}"
    )
    for size in (1, 2, 3, 7, len(stream)):
        events, found = Events(), list[bytes]()
        for at in range(0, len(stream), size):
            events.add(stream[at : at + size])
            found += events.take(50)
        events.end()
        found += events.take(50)
        assert b"".join(found) == stream
        assert len(found) == 5


def test_a_large_event_in_small_pieces_does_not_cost_the_square_of_its_size() -> None:
    events, piece = Events(), b"x" * 1024
    since = time.process_time()
    for _ in range(MAX_EVENT // 1024):
        events.add(piece)
    # 8 s, where each piece had all before it copied
    assert time.process_time() - since < 1


def test_an_event_is_bounded() -> None:
    events = Events(100)
    events.add(b"data: 1\n\n" * 100)
    with pytest.raises(Refused):
        events.add(b"data: " + b"x" * 101)
    with pytest.raises(Refused):
        Events().add(b"data: " + b"x" * MAX_EVENT + b"\n\n")


@given(st.lists(st.sampled_from([b"data: ", b"data:", b"\n", b"\r\n", b"\r", b": ", b"id: 1", b'{"result":', b'{"tools":', b'[{"name":"secret"}]', b"}}", b"{}", b"event: x"]), max_size=12))  # fmt: skip
async def test_whatever_comes_no_secret_goes_out(parts: list[bytes]) -> None:
    events = Events()
    events.add(b"".join(parts))
    events.end()
    try:
        made = await RULE.window(events.take(50), policy)
    except Refused:
        return
    for stream in (made, made.replace(b"\r", b"\n")):
        lines = [line for line in stream.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data:")]
        assert not any(b'"tools"' in line and b"secret" in line for line in lines)
