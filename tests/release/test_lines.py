"""Lists with one value in each line: what a window lets through."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.obligation import HeldAnswer, ReduceLines
from sidecar.gate.verdict import Refused
from sidecar.release.lines import LinesRule, Windows
from tests.gate.test_obligation import nobody
from tests.release.test_items import RULE, Policy, rows

LINES = LinesRule(RULE)


async def test_lines_that_are_allowed_stay_as_they_came() -> None:
    lines = [json.dumps(row).encode() + b"\r\n" for row in rows(6)]
    policy = Policy()
    made = await LINES.window([*lines[:2], b"\n", *lines[2:]], policy)
    assert made == b"".join(
        [b'{"id": 1, "owner_id": "alice"}\r\n', b"\n", lines[2], lines[4], b'{"id": 5, "owner_id": "alice"}\r\n']
    )
    assert [len(asked.ids) for asked in policy.asked] == [6]


async def test_empty_lines_ask_nobody() -> None:
    assert await LINES.window([b"\n", b" \r\n"], nobody) == b"\n \r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"{}\n",
        b"[]\n",
        b"secret\n",
        b'{"id": 1, "owner_id": "a"} {}\n',
        b'{"id": 1, "id": 2}\n',
        b"\xff\n",
        b"\x0c\n",
        b"\xef\xbb\xbf{}\n",
    ],
)
async def test_a_line_that_cannot_be_judged_ends_it(line: bytes) -> None:
    with pytest.raises(Refused) as refused:
        await LINES.window([json.dumps(rows(3)[1]).encode(), line], Policy())
    assert refused.value.code is Code.ITEMS_UNREADABLE


def test_only_answers_with_lines_begin() -> None:
    for kind in (b"application/x-ndjson", b"application/jsonl; charset=utf-8", b"application/json"):
        held = HeldAnswer(200, [(b"content-type", kind), (b"etag", b"1"), (b"x-total-count", b"9")])
        assert LINES.begin(held) == (HeldAnswer(200, [(b"content-type", kind)]), True)
    with pytest.raises(Refused, match="text/html"):
        LINES.begin(HeldAnswer(200, [(b"content-type", b"text/html")]))
    with pytest.raises(Refused, match="status 205"):
        LINES.begin(HeldAnswer(205, [(b"content-type", b"application/jsonl")]))


@pytest.mark.parametrize(
    ("kind", "has_lines"), [(b"text/html", False), (b"application/json", False), (b"application/x-ndjson", True)]
)
def test_an_error_may_have_lines(kind: bytes, has_lines: bool) -> None:
    held = HeldAnswer(404, [(b"content-type", kind), (b"x-total", b"9")])
    assert LINES.begin(held) == (HeldAnswer(404, [(b"content-type", kind)]), has_lines)


def test_a_rule_for_lines_demands_lines() -> None:
    assert LINES.demand(nobody, frozenset(), "exact") == ReduceLines(LINES, nobody)
    assert (LINES.asks, LINES.nothing, LINES.searched(b"phone=1")) == ((), None, [("contact", "view_phone")])


@given(st.lists(st.binary(max_size=6).map(lambda data: data.replace(b"\n", b"x")), max_size=8), st.data())
def test_pieces_are_cut_into_the_lines_that_were_sent(lines: list[bytes], data: st.DataObject) -> None:
    sent = b"\n".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    windows, taken = Windows(), list[bytes]()
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        windows.add(sent[start:end])
        taken += windows.take(2)
    windows.end()
    taken += windows.take(100)
    assert b"".join(taken) == sent
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in taken[:-1])


def test_a_long_line_in_small_pieces_does_not_cost_the_square_of_its_size() -> None:
    windows, piece = Windows(4 * 1024 * 1024), b"x" * 1024
    since = time.process_time()
    for _ in range(4 * 1024):
        windows.add(piece)
    # 8 s, where each piece had all before it copied
    assert time.process_time() - since < 1


def test_lines_that_wait_stay_where_they_are_while_others_are_taken() -> None:
    windows = Windows()
    windows.add(b"a\nb\nc\nd\n")
    waiting = windows.lines
    assert [windows.take(1), windows.take(2), windows.take(9), windows.take(1)] == [
        [b"a\n"], [b"b\n", b"c\n"], [b"d\n"], [],
    ]  # fmt: skip
    # copied for each window, 64 KiB of empty lines took a fifth of a second
    assert windows.lines is waiting
    assert windows.size == 0


def test_a_line_without_an_end_is_bounded() -> None:
    windows = Windows(10)
    windows.add(b"123456789\n12345")
    windows.take(1)
    windows.add(b"67890")
    with pytest.raises(Refused, match="more than 10 bytes"):
        windows.add(b"1")
    with pytest.raises(Refused, match="more than 10 bytes"):
        Windows(10).add(b"12345678901\n")
