"""A caller's trace context is read as W3C Trace Context has it, or not at all."""

from __future__ import annotations

import pytest

from sidecar.gate.trace import Header, Remote, Trace, remote_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


def of(parent: str, *states: str) -> Remote | None:
    headers: list[Header] = [(b"host", b"x"), (b"traceparent", parent.encode("latin-1"))]
    return remote_of([*headers, *((b"tracestate", state.encode("latin-1")) for state in states)])


@pytest.mark.parametrize(
    ("parent", "sampled"),
    [
        (GOOD, True),
        (f" {GOOD}\t", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", True),
    ],
)
def test_a_context_is_read(parent: str, sampled: bool) -> None:
    assert of(parent) == Remote(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        GOOD[:-1],
        f"{GOOD}0",
        f"{GOOD}-",
        f"{GOOD}-more",
        f"cc-{TRACE}-{SPAN}-01more",
        f"ff-{TRACE}-{SPAN}-01",
        f"0x-{TRACE}-{SPAN}-01",
        GOOD.upper(),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00_{TRACE}_{SPAN}_01",
        f"{GOOD},{GOOD}",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"{GOOD}\n",
        f"\xb2{GOOD[1:]}",
    ],
)
def test_what_is_no_context_begins_a_new_trace(parent: str) -> None:
    assert of(parent, "a=1") is None


def test_two_contexts_are_none() -> None:
    assert remote_of([(b"traceparent", GOOD.encode())] * 2) is None
    assert remote_of([(b"tracestate", b"a=1")]) is None


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        (["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (["a=1", "b=2"], b"a=1,b=2"),
        (["a=1 , ,\tb=2,"], b"a=1,b=2"),
        (["tenant@system=x y"], b"tenant@system=x y"),
        (["a=" + "x" * 256], b"a=" + b"x" * 256),
        ([",".join(f"k{n}=v" for n in range(32))], b",".join(b"k%d=v" % n for n in range(32))),
        # not whole, so not at all
        (["a=1,a=2"], b""),
        (["A=1"], b""),
        (["a"], b""),
        (["a="], b""),
        (["a=1=2"], b""),
        (["a=\xe9"], b""),
        (["a=1\x01"], b""),
        (["a=" + "x" * 257], b""),
        (["a=" + "x" * 250, "b=" + "x" * 250, "c=" + "x" * 250], b""),
        ([",".join(f"k{n}=v" for n in range(33))], b""),
        ([], b""),
    ],
)
def test_a_tracestate_is_handed_on_whole_or_not_at_all(states: list[str], whole: bytes) -> None:
    remote = of(GOOD, *states)
    assert remote is not None
    assert remote.state == whole


def test_each_call_names_the_span_that_it_belongs_to() -> None:
    trace = Trace(TRACE, "1" * 16, "2" * 16, "3" * 16, "4" * 16, True)
    assert trace.headers(trace.lookup) == ((b"traceparent", f"00-{TRACE}-{'2' * 16}-01".encode()),)
    unsampled = trace._replace(sampled=False, remote=Remote(TRACE, SPAN, True, b"a=1"))
    assert unsampled.headers(trace.upstream) == (
        (b"traceparent", f"00-{TRACE}-{'4' * 16}-00".encode()), (b"tracestate", b"a=1"),
    )  # fmt: skip
