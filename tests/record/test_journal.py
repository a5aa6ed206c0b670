"""One line and one count per verdict, with nothing secret in it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.gate.budget import UNEXPECTED, Budget
from sidecar.gate.codes import Code, Ground
from sidecar.gate.mode import MODES, Mode
from sidecar.gate.trace import Trace
from sidecar.gate.verdict import Destination, EachAsked, Facts, Forward, Preflight, Refuse, Verdict
from sidecar.record.exposition import exposition
from sidecar.record.journal import AGAIN_AFTER, MAX_WAITING, Journal, Outcome
from sidecar.record.line import MAX_HOST, MAX_ID, MAX_IDS, MAX_ROLES, Decision, read, write
from sidecar.record.metrics import Metrics
from tests.log import Kept, lines_of
from tests.permits import Permit

NOW = 1_700_000_000.0


def facts(**more: Any) -> Facts:
    return Facts("req-1", "GET", "/contacts/7", "10.0.0.9", **more)


def forward(ground: Ground = Ground.ALLOWED, would_refuse: Code | None = None, **more: Any) -> Forward:
    return Permit(b"GET", b"/contacts/7?token=SECRET", (), ground, facts(**more), would_refuse=would_refuse)


def written(outcome: Outcome, *, mode: Mode = "enforce") -> tuple[dict[str, Any], str]:
    stream, metrics = Kept(), Metrics()
    Journal(stream, metrics, lambda: NOW, mode=mode).record(outcome)
    (line,) = lines_of(stream.getvalue())
    return line, exposition(metrics.of_all()).decode()


def test_an_allowed_request_is_one_line_with_all_that_an_auditor_asks() -> None:
    verdict = forward(
        route="/contacts/{id}", principal="a-1", kind="contact", resource_id="7", action="read", call_id="01H", policy="p",
        stages={"decision": 0.0012}, host="app.test", roles=("admin", "user"),
    )  # fmt: skip
    entry, metrics = written(Outcome(verdict, 200, 0.0042))
    assert entry == {
        "time": "2023-11-14T22:13:20.000+00:00", "event": "decision", "request_id": "req-1", "outcome": "allow",
        "mode": "enforce", "code": "allowed", "status": 200, "method": "GET", "host": "app.test", "path": "/contacts/7",
        "route": "/contacts/{id}", "principal": "a-1", "roles": ["admin", "user"], "kind": "contact", "id": "7", "action": "read", "peer": "10.0.0.9",
        "ms": {"decision": 1.2}, "total_ms": 4.2, "call_id": "01H", "policy": "p",
    }  # fmt: skip
    assert 'sidecar_requests_total{code="allowed",outcome="allow",route="/contacts/{id}",status="200"} 1.0' in metrics
    assert 'sidecar_stage_seconds_count{stage="decision"} 1.0' in metrics


@pytest.mark.parametrize(
    ("verdict", "outcome", "code"),
    [
        (Refuse(Code.DENIED_BY_POLICY, facts()), "refuse", "denied_by_policy"),
        (forward(Ground.PUBLIC), "allow", "public"),
        (forward(Ground.SHADOW, Code.NO_ROLES), "shadow_refuse", "no_roles"),
        (Preflight((), facts()), "allow", "preflight"),
    ],
)
def test_each_kind_of_verdict_says_what_it_was(verdict: Verdict, outcome: str, code: str) -> None:
    entry, _ = written(Outcome(verdict, 200, 0.0))
    assert (entry["outcome"], entry["code"]) == (outcome, code)


@pytest.mark.parametrize("code", [Code.KEYS_UNAVAILABLE, Code.IDP_UNAVAILABLE, Code.IDP_BAD_ANSWER])
def test_a_fault_that_its_client_counts_is_not_counted_twice(code: Code) -> None:
    entry, metrics = written(Outcome(Refuse(code, facts()), 503, 0.0))
    assert entry["dep"] in ("jwks", "idp")
    assert "sidecar_dep_errors_total{" not in metrics


def test_a_fault_after_the_permit_is_the_code_while_the_outcome_stays_allow() -> None:
    entry, metrics = written(Outcome(forward(), 502, 0.0, Code.UPSTREAM_UNAVAILABLE))
    assert (entry["outcome"], entry["code"], entry["dep"], entry["fault"]) == (
        "allow", "upstream_unavailable", "upstream", "unavailable",
    )  # fmt: skip
    assert 'sidecar_dep_errors_total{dep="upstream",fault="unavailable"} 1.0' in metrics


def test_nothing_that_came_from_a_client_can_break_or_colour_the_line() -> None:
    hostile = '\x1b]0;x\x07\n\u2028{"allow":true}'
    entry, _ = written(Outcome(forward(principal=hostile), 200, 0.0))
    assert entry["principal"] == hostile
    stream = Kept()
    Journal(stream, Metrics(), lambda: NOW).record(Outcome(forward(principal=hostile), 200, 0.0))
    assert stream.getvalue().isascii()
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert "SECRET" not in stream.getvalue()


def test_the_detail_of_a_refusal_is_capped() -> None:
    entry, _ = written(Outcome(Refuse(Code.TOKEN_INVALID, facts(), "x" * 1000), 401, 0.0))
    assert len(entry["detail"]) == 256


@pytest.mark.parametrize("mode", MODES)
def test_each_line_of_a_verdict_says_in_which_mode(mode: Mode) -> None:
    assert written(Outcome(forward(), 200, 0.0), mode=mode)[0]["mode"] == mode
    stream = Kept()
    Journal(stream, Metrics(), lambda: NOW, mode=mode).refused_unread(400, Code.REQUEST_INVALID, "::1", "r")
    assert lines_of(stream.getvalue())[0]["mode"] == mode


def test_a_websocket_has_a_method_of_its_own() -> None:
    assert written(Outcome(forward(websocket=True), 101, 0.0))[0]["method"] == "WS"


def test_the_ids_of_a_request_about_many_are_bounded() -> None:
    each = EachAsked(("1", "2"), ("2",))
    entry, _ = written(Outcome(forward(each=each._replace(denied=())), 200, 0.0))
    assert entry["each"] == {"asked": 2, "ids": ["1", "2"]}
    entry, _ = written(Outcome(Refuse(Code.DENIED_BY_POLICY, facts(each=each)), 403, 0.0))
    assert entry["each"] == {"asked": 2, "ids": ["1", "2"], "denied": ["2"]}
    ids = tuple("x" * 1000 + str(number) for number in range(900))
    entry, _ = written(Outcome(Refuse(Code.DENIED_BY_POLICY, facts(each=EachAsked(ids, ids))), 403, 0.0))
    assert entry["each"] == {"asked": 900, "ids": ["x" * MAX_ID] * MAX_IDS, "denied": ["x" * MAX_ID] * MAX_IDS}


def test_roles_and_host_are_bounded() -> None:
    roles = tuple(f"r{number:03d}" for number in range(MAX_ROLES + 3))
    entry, _ = written(Outcome(forward(roles=roles, host="a" * 30_000), 200, 0.0))
    assert (entry["roles"], entry["roles_cut"]) == (list(roles[:MAX_ROLES]), 3)
    assert entry["host"] == "a" * MAX_HOST
    entry, _ = written(Outcome(forward(roles=roles[:MAX_ROLES]), 200, 0.0))
    assert "roles_cut" not in entry


class Policies:
    """Port: the generation that is in force."""

    generation = 7


def test_the_line_of_a_verdict_is_that_of_its_record() -> None:
    stream = Kept()
    journal = Journal(stream, Metrics(), lambda: NOW)
    journal.policies = Policies()
    trace = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "a", "b", "c", "d", True)
    known = facts(
        call_id="01H",
        policy="p",
        cache="hit",
        trace=trace,
        roles=("r",) * (MAX_ROLES + 1),
        items={"seen": 3},
        each=EachAsked(("7",)),
        upstream=Destination("crm", "http://crm"),
    )
    journal.record(
        Outcome(Refuse(Code.RESOURCE_MISSING, known, "not there", masked_as=Code.DENIED_BY_POLICY), 403, 0.0)
    )
    journal.record(Outcome(forward(), 502, 0.0, Code.UPSTREAM_TIMEOUT))
    refused, failed = map(read, stream.getvalue().encode().splitlines())
    assert isinstance(refused, Decision)
    assert isinstance(failed, Decision)
    assert refused[-14:] == (
        "01H", "p", 7, "hit", trace.trace_id, 1, None, None, "denied_by_policy", "not there", {"seen": 3}, {"asked": 1, "ids": ["7"]}, "crm", {},
    )  # fmt: skip
    assert (failed.dep, failed.fault, failed.outcome) == ("upstream", "timeout", "allow")
    assert write(refused) + write(failed) == stream.getvalue()


def test_an_answer_that_broke_off_has_a_line_of_its_own() -> None:
    stream, metrics = Kept(), Metrics()
    Journal(stream, metrics, lambda: NOW).broken_off(facts(route="/x"), Code.UPSTREAM_PARTIAL, "why")
    assert lines_of(stream.getvalue()) == [
        {
            "time": "2023-11-14T22:13:20.000+00:00", "event": "broken_off", "request_id": "req-1",
            "code": "upstream_partial", "route": "/x", "detail": "why",
        }
    ]  # fmt: skip
    assert b'sidecar_dep_errors_total{dep="upstream",fault="partial"} 1.0' in exposition(metrics.of_all())


class Turns:
    """What is to be called later."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, seconds: float, what: Callable[[], None]) -> None:
        self.waiting.append((seconds, what))

    def pass_by(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, what in waiting:
            what()


class Slow(Kept):
    """Counts writes; takes nothing while it is `stuck`, and fails while it is `full`."""

    writes = 0
    full = stuck = False

    def __init__(self) -> None:
        super().__init__()
        self._held: list[str] = []
        self.waiting = 0

    def put(self, lines: list[str]) -> None:
        self._held += lines
        self.waiting += sum(map(len, lines))

    def send(self) -> bool:
        self.writes += 1
        if self.full:
            raise OSError(28, "No space left on device")
        if not self.stuck:
            self.write("".join(self._held))
            self._held, self.waiting = [], 0
        return not self.stuck


def test_the_lines_of_one_turn_are_written_together() -> None:
    stream, turns = Slow(), Turns()
    journal = Journal(stream, Metrics(), lambda: NOW, turns)
    for status in (200, 201, 202):
        journal.record(Outcome(forward(), status, 0.0))
    assert (stream.writes, [seconds for seconds, _ in turns.waiting]) == (0, [0.0])
    turns.pass_by()
    journal.record(Outcome(forward(), 203, 0.0))
    turns.pass_by()
    assert stream.writes == 2
    assert [json.loads(line)["status"] for line in stream.getvalue().splitlines()] == [200, 201, 202, 203]
    assert turns.waiting == []


REFUSED = Outcome(Refuse(Code.LOG_UNAVAILABLE, facts()), 503, 0.0)
LONG = forward(principal="p" * 65536)


def overfull(stream: Slow, *, mode: Mode = "enforce", drops: bool = False) -> tuple[Journal, Turns, Metrics]:
    turns, metrics = Turns(), Metrics()
    journal = Journal(stream, metrics, lambda: NOW, turns, mode=mode, drops=drops)
    while stream.waiting <= MAX_WAITING:
        assert not journal.refuses
        journal.record(Outcome(LONG, 200, 0.0))
        turns.pass_by()
    assert [seconds for seconds, _ in turns.waiting] == [AGAIN_AFTER]
    return journal, turns, metrics


def lost(metrics: Metrics) -> float:
    return metrics.values()["sidecar_decision_log_lost"][()][0]


@pytest.mark.parametrize(("fault", "said"), [("stuck", "nobody reads it"), ("full", "No space left on device")])
def test_a_log_that_nobody_takes_is_held_and_then_requests_are_refused(
    fault: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Slow()
    setattr(stream, fault, True)
    journal, turns, metrics = overfull(stream)
    assert journal.refuses
    assert f"({said}): requests are refused with log_unavailable" in caplog.text
    # what was under way leaves its line, what is refused for the log does not
    journal.record(Outcome(forward(), 201, 0.0))
    journal.record(REFUSED)
    journal.refused_unread(400, Code.REQUEST_INVALID, "::1", "r")
    turns.pass_by()
    assert lost(metrics) == 2
    assert 'code="log_unavailable"' in exposition(metrics.of_all()).decode()
    caplog.clear()
    setattr(stream, fault, False)
    turns.pass_by()
    assert (journal.refuses, journal.waiting, turns.waiting) == (False, 0, [])
    assert "written again" in caplog.text
    statuses = [json.loads(line)["status"] for line in stream.getvalue().splitlines()]
    assert statuses == [*[200] * (len(statuses) - 1), 201]


@pytest.mark.parametrize(("mode", "drops"), [("shadow", False), ("enforce", True), ("shadow-policy", True)])
def test_lines_are_dropped_and_counted_where_the_setting_or_shadow_mode_says_so(mode: Mode, drops: bool) -> None:
    stream = Slow()
    stream.stuck = True
    journal, turns, metrics = overfull(stream, mode=mode, drops=drops)
    before = stream.waiting
    journal.record(Outcome(LONG, 200, 0.0))
    turns.pass_by()
    assert (journal.refuses, stream.waiting, lost(metrics)) == (False, before, 1)
    stream.stuck = False
    turns.pass_by()
    journal.record(Outcome(forward(), 202, 0.0))
    turns.pass_by()
    assert json.loads(stream.getvalue().splitlines()[-1])["status"] == 202


def test_a_reader_that_is_only_slow_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    stream, turns = Slow(), Turns()
    journal = Journal(stream, Metrics(), lambda: NOW, turns)
    stream.stuck = True
    for _ in range(3):
        journal.record(Outcome(forward(), 200, 0.0))
        turns.pass_by()
    assert len(turns.waiting) == 1
    stream.stuck = False
    turns.pass_by()
    assert (len(stream.getvalue().splitlines()), turns.waiting, caplog.text) == (3, [], "")


def test_a_full_disk_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    stream, turns = Slow(), Turns()
    journal = Journal(stream, Metrics(), lambda: NOW, turns)
    stream.full = True
    for _ in range(3):
        journal.record(Outcome(forward(), 200, 0.0))
        turns.pass_by()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "No space left on device" in caplog.text


async def test_the_end_waits_for_the_reader_only_so_long(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.record.journal.LAST_LINES_WITHIN", 2 * AGAIN_AFTER)
    stream = Slow()
    stream.stuck = True
    turns = Turns()
    journal = Journal(stream, Metrics(), lambda: NOW, turns)
    journal.record(Outcome(forward(), 200, 0.0))
    turns.pass_by()
    await journal.aclose()
    assert f"its last {stream.waiting} bytes are lost" in caplog.text
    assert stream.closed
    # what waits to be written again is not, whoever has the file's number by then
    writes = stream.writes
    turns.pass_by()
    assert (stream.writes, turns.waiting) == (writes, [])


def test_a_file_that_cannot_be_opened_anew_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(Kept):
        def follow(self) -> None:
            raise OSError(2, "No such file or directory")

    journal = Journal(Gone(), Metrics(), lambda: NOW)
    journal.follow()
    journal.follow()
    assert caplog.text.count("No such file") == 1


def test_a_line_is_what_the_json_module_makes_of_it() -> None:
    entry, _ = written(
        Outcome(Refuse(Code.TOKEN_INVALID, facts(route='"', stages={"a": 1e-9}), "d\x7f\ud800"), 401, 1e3)
    )
    assert list(entry) == [
        "time", "event", "request_id", "mode", "outcome", "code", "status", "method", "host", "path", "route", "principal",
        "roles", "kind", "id", "action", "peer", "ms", "total_ms", "detail",
    ]  # fmt: skip
    assert (entry["route"], entry["ms"], entry["total_ms"], entry["detail"]) == ('"', {"a": 0.0}, 1e6, "d\x7f?")


# --- budgets ---


def refused(code: Code, budget: Budget, principal: str, mode: Mode = "enforce") -> Outcome:
    facts = Facts("r-1", "PUT", "/x", route="/x", principal=principal, action="update", mode=mode, budget=budget)
    return Outcome(Refuse(code, facts), 403, 0.0)


def test_refusals_that_nobody_expects_are_counted_and_the_end_of_the_budget_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [NOW]
    journal = Journal(Kept(), Metrics(), lambda: now[0])
    budget = Budget(2, 2, 60.0)
    for code in set(Code) - UNEXPECTED:
        for who in "abcd":
            journal.record(refused(code, budget, who))
    for who in "abcd":
        journal.record(refused(Code.DENIED_BY_POLICY, budget, who, "shadow-policy"))
    journal.record(refused(Code.DENIED_BY_POLICY, budget, "a"))
    now[0] += 61.0
    journal.record(refused(Code.DENIED_BY_POLICY, budget, "a"))
    # a list that cannot be judged is a fault after the permit
    permit = forward(route="/x", principal="b", mode="enforce", budget=budget)
    journal.record(Outcome(permit, 502, 0.0, Code.ITEMS_UNREADABLE))
    assert (budget.spent, caplog.records) == (False, [])
    for _ in range(3):
        journal.record(refused(Code.RESOURCE_MISSING, budget, "b"))
    assert budget.spent
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (
        "ERROR",
        "/x update is not enforced any more: more than 2 refusals of 2 principals within 60 s; so it stays until the "
        "routes are read again",
    )
