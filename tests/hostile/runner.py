"""Sends the attempts of a case and holds every answer, and everything the upstream saw, against the case's `expect`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.hostile.attempts import Attempt, Case, attempts_of
from tests.hostile.forgeries import bearer_attempts
from tests.hostile.wire import Exchange, exchange
from tests.hostile.world import World
from tests.stack import Seen, raw_reply, wait_for

PEER_IP = "127.0.0.1"


@dataclass
class Result:
    """What came of one attempt: the client's side, the upstream's side, and the new lines of the decision log."""

    attempt: Attempt
    exchange: Exchange
    received: bytes
    seen: list[Seen]
    decisions: list[dict[str, Any]]


DIFFERS: dict[tuple[str, str], tuple[int, str]] = {
    ("m01", "X_HTTP_METHOD_OVERRIDE: DELETE"): (400, "a header name with '_' is refused before any route is looked at"),
    ("b03", "two Content-Type headers"): (400, "two of a header of which there is one are refused before any route"),
    ("j17", "trailing newline"): (400, "a bare LF in a head is refused before any header is read"),
    ("j19", "8 MB token"): (431, "a head of over 32 KiB is refused before it is parsed"),
    ("j19", "100k nested header"): (431, "a head of over 32 KiB is refused before it is parsed"),
    ("j19", "100k nested payload"): (431, "a head of over 32 KiB is refused before it is parsed"),
}
"""(case, attempt) -> the status where a stricter rule refuses earlier than the case says, and which rule."""


def run_case(world: World, case: Case) -> int:
    """Run every attempt of a case of bytes or tokens; how many there were."""
    attempts = bearer_attempts(case, world.mint) if case["cat"] == "jwt" else attempts_of(case, world.token)
    for attempt in attempts:
        if (case["id"], attempt.name) in DIFFERS:
            attempt.expect = {**attempt.expect, "status": DIFFERS[case["id"], attempt.name][0]}
        try:
            check(run(world, attempt, case["send"].get("upstream_reply")))
        except AssertionError as error:
            raise AssertionError(f"{case['id']}, {attempt.name!r}: {error}") from error
    return len(attempts)


def run(world: World, attempt: Attempt, upstream_reply: str | None = None) -> Result:
    """Send one attempt."""
    world.fresh()
    if upstream_reply is not None:
        world.upstream.answer = raw_reply(upstream_reply.encode("latin-1"))
    before = len(lines_of(world))
    expect = attempt.expect
    answers = 0 if "upstream_sees" in expect else len(expect.get("statuses", [None]))
    close = bool(expect.get("close")) or not answers
    done = exchange(world.sidecar.port, attempt.segments, attempt.method, answers, close)
    answered = sum(bool(reply.values("x-request-id")) for reply in done.replies)
    if answered:
        wait_for(lambda: len(lines_of(world)) >= before + answered, what="a line in the decision log for each answer")
    lines = [json.loads(line) for line in lines_of(world)[before:]]
    return Result(attempt, done, world.upstream.received, list(world.upstream.seen), lines)


def lines_of(world: World) -> list[str]:
    """The decision log's lines as they stand there; what was read once is not read again."""
    world.sidecar.settle()
    path = world.sidecar.folder / "decisions.jsonl"
    if path.exists():
        with path.open("rb") as file:
            file.seek(world.log_end)
            whole, newline, _ = file.read().rpartition(b"\n")
        world.log_end += len(whole + newline)
        world.log_lines += whole.decode("utf-8").splitlines()
    return world.log_lines


def check(result: Result) -> None:
    """Everything that the case expects, and what holds for every attempt."""
    expect = {**result.attempt.expect, **result.attempt.also}
    for name, value in expect.items():
        assert name in CHECKS, f"nobody knows what `{name}` means"
        CHECKS[name](result, value)
    _one_line_for_each_decision(result)


def _one_line_for_each_decision(result: Result) -> None:
    answered = [value for reply in result.exchange.replies for value in reply.values("x-request-id")]
    assert len(answered) == len(set(answered))
    for request_id in answered:
        assert [line["request_id"] for line in result.decisions].count(request_id) == 1
    for reply in result.exchange.replies:
        assert reply.status < 500, reply


# --- one function for each word of `expect` ---


def _status(result: Result, value: int | list[int]) -> None:
    status = result.exchange.reply.status
    assert status in (value if isinstance(value, list) else [value]), f"found the status {status}, expected {value}"


def _statuses(result: Result, value: list[int]) -> None:
    assert [reply.status for reply in result.exchange.replies] == value


def _upstream(result: Result, value: str) -> None:
    if value == "never":
        assert result.received == b"", f"the upstream got {result.received[:200]!r}"
    elif value == "once":
        assert len(result.seen) == 1, f"the upstream got {len(result.seen)} requests"
    else:
        assert value == "at most once"
        assert len(result.seen) <= 1


def _upstream_target(result: Result, value: str) -> None:
    expected = result.attempt.target if value == "byte-identical" else value
    assert [seen.target for seen in result.seen] == [expected]


def _upstream_headers(result: Result, value: dict[str, list[str]]) -> None:
    for name, values in value.items():
        assert result.seen[0].values(name) == [text.replace("{{PEER_IP}}", PEER_IP) for text in values], name


def _upstream_headers_absent(result: Result, value: list[str]) -> None:
    for name in value:
        assert result.seen[0].values(name) == [], name


OURS = {"x-auth-subject", "x-auth-roles", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"}


def _upstream_headers_exact(result: Result, value: str) -> None:
    assert value.startswith("client set minus stripped plus ours")
    sent = sorted([(name.lower(), text) for name, text in result.attempt.headers])
    got = sorted([(name.lower(), text) for name, text in result.seen[0].headers])
    assert [pair for pair in got if pair[0] not in OURS] == sent
    assert sorted(name for name, _ in got if name in OURS) == sorted(OURS)


def _upstream_value_bytes(result: Result, value: str) -> None:
    assert value == "identical"
    got = [(name.lower(), text) for name, text in result.seen[0].headers]
    for name, text in result.attempt.headers:
        # the white space around a value is not part of it (RFC 9110 section 5.5)
        assert (name.lower(), text.strip(" \t")) in got, name


def _body_if_forwarded(result: Result, value: str) -> None:
    assert all(seen.body == value.encode("latin-1") for seen in result.seen)


def _must_not_see(result: Result, value: list[str]) -> None:
    for text in value:
        assert text.lower().encode("latin-1") not in result.received.lower()


def _upstream_sees(result: Result, value: str) -> None:
    assert value == "no complete body"
    assert result.seen == []
    # a mapped body is read whole before anything is decided: nothing at all has gone out
    assert result.received == b""


def _admin_requests(result: Result, value: int) -> None:
    assert result.received.count(b"/admin/x") == value


def _absent_towards_client(result: Result, value: list[str]) -> None:
    for text in value:
        name, _, start = text.partition(": ")
        found = [given for given in result.exchange.reply.values(name) if given.startswith(start)]
        assert found == [], text


def _close(result: Result, value: bool) -> None:
    assert result.exchange.closed is value, f"the connection stayed open, after it {result.exchange.data[:200]!r}"


def _pdp_action(result: Result, value: str) -> None:
    actions = [line.get("action", "") for line in result.decisions]
    if value.startswith("never "):
        assert value.removeprefix("never ") not in actions
    else:
        assert actions == [value]


def _pdp_resource_id(result: Result, value: str) -> None:
    assert [line["id"] for line in result.decisions] == [value]


def _remark(result: Result, value: object) -> None:
    """Words for the reader."""


CHECKS: dict[str, Callable[[Result, Any], None]] = {
    "status": _status,
    "statuses": _statuses,
    "upstream": _upstream,
    "upstream_target": _upstream_target,
    "upstream_headers": _upstream_headers,
    "upstream_headers_absent": _upstream_headers_absent,
    "upstream_headers_exact": _upstream_headers_exact,
    "upstream_value_bytes": _upstream_value_bytes,
    "upstream_body_if_forwarded": _body_if_forwarded,
    "upstream_must_not_see": _must_not_see,
    "upstream_sees": _upstream_sees,
    "admin_requests": _admin_requests,
    "headers_absent": _absent_towards_client,
    "client_headers_absent": _absent_towards_client,
    "close": _close,
    "pdp_action": _pdp_action,
    "pdp_resource_id": _pdp_resource_id,
    "peer": _remark,
    "note": _remark,
}
