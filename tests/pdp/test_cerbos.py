"""`pdp/cerbos.py` against the real Cerbos, and against a fake for what the real one cannot be made to do."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from cerbos.effect.v1 import effect_pb2
from cerbos.response.v1 import response_pb2

from sidecar.gate.codes import Code
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Resource, judge
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused
from sidecar.net.grpc_client import Channel
from sidecar.net.shares import Shares
from sidecar.net.tls import tls_context
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.cerbos_messages import BATCH, principal_of
from sidecar.pdp.client import AT_ONCE
from sidecar.pdp.embedded import EmbeddedCerbos
from tests.certificates import Files, certificates
from tests.fakes import (
    Check,
    Clock,
    FakeCerbos,
    Web,
    allow,
    cut,
    environment,
    fails,
    hangs,
    refusal,
    silence,
    until,
)
from tests.net.grpc_peer import settings as settings_frame
from tests.net.grpc_peer import talking
from tests.pdp.hostile_pdp import Pdp, Wanted, ask
from tests.policy_table import real_cerbos
from tests.stack import binary, free_port

POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: doc
  version: default
  importDerivedRoles: [ownership]
  rules:
    - {actions: [edit], effect: EFFECT_ALLOW, derivedRoles: [owner]}
    - actions: [read]
      effect: EFFECT_ALLOW
      roles: [user]
      condition: {match: {expr: "request.resource.attr.address.towns[1] == request.principal.attr.town"}}
    - actions: [count]
      effect: EFFECT_ALLOW
      roles: [user]
      condition: {match: {expr: "request.resource.attr.n == 9007199254740991.0 && request.resource.attr.ok && request.resource.attr.none == null"}}
"""
ROLES = """\
apiVersion: api.cerbos.dev/v1
derivedRoles:
  name: ownership
  definitions:
    - {name: owner, parentRoles: [user], condition: {match: {expr: "request.resource.attr.owner == request.principal.id"}}}
"""
ALICE = Principal("alice", ("user",), {"town": "Köln"}, "iss", 0.0, {})

h2_by_tls = partial(tls_context, alpn=("h2",))


def question(*resources: Resource, request_id: str = "r-1") -> Question:
    return Question(request_id, ALICE, resources)


def alone() -> Question:
    """A question that shares no call."""
    return question(doc())._replace(alone=True)


def doc(number: int = 1, action: str = "edit", **attributes: Any) -> Resource:
    return Resource("doc", str(number), action, attributes or {"owner": "alice"})


def write_policies(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "doc.yaml").write_text(POLICY)
    (folder / "roles.yaml").write_text(ROLES)
    return folder


@asynccontextmanager
async def client(target: str, **options: Any) -> AsyncIterator[Cerbos]:
    cerbos = Cerbos(target, **{"timeout": 2.0, "now": time.monotonic, **options})
    try:
        yield cerbos
    finally:
        await cerbos.aclose()


@pytest.fixture
async def embedded(embedded_shared: None, tmp_path: Path) -> AsyncIterator[EmbeddedCerbos]:
    """The real Cerbos with the policies above."""
    embedded = EmbeddedCerbos(write_policies(tmp_path / "policies"), binary=str(binary()))
    await embedded.start()
    yield embedded
    await embedded.stop()


@pytest.fixture
async def fake() -> AsyncIterator[FakeCerbos]:
    """A Cerbos that says yes, until a test switches it."""
    async with FakeCerbos() as fake:
        yield fake


# --- the real one ---


async def test_cerbos_answers_with_effect_policy_and_derived_roles(embedded: EmbeddedCerbos) -> None:
    async with client(embedded.target) as cerbos:
        answer = await cerbos.check(question(doc(1), doc(2, owner="bob")))
    mine, bobs = answer.results
    assert (answer.request_id, len(answer.call_id) > 0) == ("r-1", True)
    assert (mine.kind, mine.id, dict(mine.effects), mine.derived_roles) == ("doc", "1", {"edit": ALLOW}, ("owner",))
    assert (bobs.id, dict(bobs.effects), bobs.derived_roles) == ("2", {"edit": DENY}, ())
    assert mine.policy == "resource.doc.vdefault"


async def test_nested_attributes_and_exact_values_reach_the_policy(embedded: EmbeddedCerbos) -> None:
    here = doc(1, "read", address={"towns": ["Bonn", "Köln"]})
    elsewhere = doc(2, "read", address={"towns": ["Köln", "Bonn"]})
    exact = doc(3, "count", n=2**53 - 1, ok=True, none=None)
    rounded = doc(4, "count", n=2**53 - 2, ok=True, none=None)
    async with client(embedded.target) as cerbos:
        asked = question(here, elsewhere, exact, rounded)
        assert judge(asked, await cerbos.check(asked)) == [True, False, True, False]


async def test_more_resources_than_one_call_takes_are_asked_in_order(embedded: EmbeddedCerbos) -> None:
    resources = [doc(number, owner="alice" if number % 3 else "bob") for number in range(2 * BATCH + 7)]
    asked = question(*resources)
    async with client(embedded.target) as cerbos:
        answer = await cerbos.check(asked)
    assert judge(asked, answer) == [number % 3 != 0 for number in range(2 * BATCH + 7)]


def heavy(number: int, size: int = 90_000) -> Resource:
    return doc(number, owner="alice" if number % 3 else "bob", notes="n" * size)


async def test_calls_are_cut_by_bytes_too(embedded: EmbeddedCerbos) -> None:
    """50 of these are beyond Cerbos' 4 MiB, though each alone is decided."""
    asked = question(*map(heavy, range(60)))
    async with client(embedded.target, timeout=20.0) as cerbos:
        assert judge(asked, await cerbos.check(asked)) == [number % 3 != 0 for number in range(60)]
        long = question(*(Resource("doc", "é" * 40_000 + str(n), "edit", {"owner": "alice"}) for n in range(30)))
        assert judge(long, await cerbos.check(long)) == [True] * 30
        one = question(heavy(1, 3_900_000))
        assert judge(one, await cerbos.check(one)) == [True]


async def test_a_question_beyond_what_cerbos_takes_is_the_clients_fault(fake: FakeCerbos) -> None:
    async with client(fake.target) as cerbos:
        assert await refusal(cerbos.check(question(heavy(1, 4_200_000)))) is Code.REFERENCE_INVALID
        assert await refusal(cerbos.check(question(heavy(1, 4_200_000), doc()))) is Code.REFERENCE_INVALID
    assert not fake.calls


SCOPED = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: scoped
  version: default
{scope}  rules:
    - {{actions: [{action}], effect: EFFECT_ALLOW, roles: [user]}}
"""


async def test_the_policy_is_the_one_that_decided_of_each_action(tmp_path: Path) -> None:
    for scope, action in (("", "read"), ("acme", "list"), ("acme.hr", "edit")):
        text = SCOPED.format(scope=f"  scope: {scope}\n" if scope else "", action=action)
        (tmp_path / f"{action}.yaml").write_text(text)
    embedded = EmbeddedCerbos(tmp_path, binary=str(binary()))
    await embedded.start()
    async with client(embedded.target) as cerbos:
        asked = question(Resource("scoped", "1", "read", {}, ("list", "edit", "none"), "acme.hr"))
        (result,) = (await cerbos.check(asked)).results
    await embedded.stop()
    base = "resource.scoped.vdefault"
    assert result.policies == {
        "read": base, "list": f"{base}/acme", "edit": f"{base}/acme.hr", "none": f"{base}/acme.hr",
    }  # fmt: skip


async def test_what_cerbos_refuses_to_decide_is_no_answer(embedded: EmbeddedCerbos) -> None:
    """Cerbos takes no empty action."""
    async with client(embedded.target) as cerbos:
        assert await refusal(cerbos.check(question(doc(1, "")))) is Code.PDP_STATUS


@pytest.mark.own_cerbos
async def test_serving_is_what_cerbos_says_of_itself(embedded: EmbeddedCerbos) -> None:
    async with client(embedded.target) as cerbos:
        assert await cerbos.serving()
        await embedded.stop()
        assert not await cerbos.serving()


@pytest.mark.own_cerbos
async def test_checks_fail_while_a_killed_cerbos_is_away_and_pass_when_it_is_back(embedded: EmbeddedCerbos) -> None:
    """Each check is an allow or a refusal of the PDP's, never anything else; the first after the kill is one."""
    seen: list[str] = []

    async def check(cerbos: Cerbos) -> str:
        try:
            return (await cerbos.check(question(doc()))).results[0].effects["edit"]
        except Refused as refused:
            return refused.code

    async with client(embedded.target) as cerbos:
        assert await check(cerbos) == ALLOW
        assert embedded._process is not None
        embedded._process.kill()
        await embedded._process.wait()
        seen.append(await check(cerbos))
        deadline = time.monotonic() + 10
        while seen[-1] != ALLOW:
            assert time.monotonic() < deadline, seen
            await asyncio.sleep(0.05)
            seen.append(await check(cerbos))
    assert seen[0] == Code.PDP_UNAVAILABLE
    assert set(seen[:-1]) <= {Code.PDP_UNAVAILABLE, Code.PDP_OPEN}
    assert embedded.restarts >= 1


# --- together ---


async def asked_at_once(cerbos: Cerbos, *questions: Question) -> list[PdpAnswer | BaseException]:
    return await asyncio.gather(*map(cerbos.check, questions), return_exceptions=True)


def many(count: int, **changes: Any) -> list[Question]:
    asked = [question(doc(number, owner="alice" if number % 3 else "bob")) for number in range(count)]
    return [each._replace(request_id=f"r-{number}", **changes) for number, each in enumerate(asked)]


def verdicts(questions: list[Question], answers: list[PdpAnswer | BaseException]) -> list[bool | str]:
    return [
        judge(one, answer)[0] if isinstance(answer, PdpAnswer) else str(getattr(answer, "code", answer))
        for one, answer in zip(questions, answers, strict=True)
    ]


async def test_questions_of_one_turn_are_asked_together_and_each_is_decided_by_its_own(
    embedded: EmbeddedCerbos,
) -> None:
    """Kind and id repeat with other attributes, and each entry gets its own answer."""
    asked = many(120) + [question(doc(1, "edit", owner=owner))._replace(request_id=owner) for owner in ("alice", "bob")]
    async with client(embedded.target) as cerbos:
        await cerbos.check(question(doc()))
        answers = await asked_at_once(cerbos, *asked)
        assert (cerbos.questions, cerbos.calls) == (123, 1 + 3)
    assert verdicts(asked, answers) == [number % 3 != 0 for number in range(120)] + [True, False]
    given = [answer for answer in answers if isinstance(answer, PdpAnswer)]
    assert [answer.request_id for answer in given] == [each.request_id for each in asked]
    assert len({answer.call_id for answer in given}) == 3


async def test_what_cerbos_refuses_for_one_is_asked_again_one_by_one(embedded: EmbeddedCerbos) -> None:
    """It takes no empty action, in no entry of a call."""
    asked = many(20)
    asked[7] = question(doc(7, ""))._replace(request_id="r-7")
    async with client(embedded.target) as cerbos:
        answers = await asked_at_once(cerbos, *asked)
        assert cerbos.shares.under_way == 0
        # they were not too many
        assert cerbos._most == BATCH
    expected: list[bool | str] = [number % 3 != 0 for number in range(20)]
    expected[7] = Code.PDP_STATUS
    assert verdicts(asked, answers) == expected


async def test_principals_share_a_call_only_if_they_are_equal(fake: FakeCerbos) -> None:
    others = [
        ALICE._replace(id="bob"), ALICE._replace(roles=("user", "admin")), ALICE._replace(attributes={"town": "Bonn"}),
        ALICE._replace(issuer="other"),
    ]  # fmt: skip
    equal = Principal("alice", ("user",), {"town": "Köln"}, "iss", 9.0, {"another": "token"})
    principals = [ALICE, equal, *others]
    asked = [question(doc(number))._replace(principal=one) for number, one in enumerate(principals)]
    async with client(fake.target) as cerbos:
        await asked_at_once(cerbos, *asked)
    ids = [[entry.resource.id for entry in call.resources] for call in fake.calls]
    assert sorted(ids) == [["0", "1"], ["2"], ["3"], ["4"], ["5"]]


async def test_a_question_alone_goes_out_at_once_and_is_as_it_always_was(fake: FakeCerbos) -> None:
    async with client(fake.target) as cerbos:
        for number in range(3):
            asked = question(doc(number), request_id=f"r-{number}")
            answer = await cerbos.check(asked)
            assert (answer.request_id, len(fake.calls)) == (asked.request_id, number + 1)


async def test_a_traced_question_keeps_its_trace_and_has_a_call_of_its_own(fake: FakeCerbos) -> None:
    seen: list[str] = []

    async def check(request: Any, context: Any) -> Any:
        seen.extend(value for name, value in context.invocation_metadata() if name == "traceparent")
        return await allow(request, context)

    fake.check = check
    traces = [f"00-{number:032x}-{number:016x}-01" for number in range(1, 4)]
    traced = [
        question(doc(n))._replace(trace=((b"traceparent", trace.encode()),), alone=True)
        for n, trace in enumerate(traces)
    ]
    async with client(fake.target) as cerbos:
        await asked_at_once(cerbos, *traced, *many(5))
    assert sorted(len(call.resources) for call in fake.calls) == [1, 1, 1, 5]
    assert sorted(seen) == traces


async def test_one_that_is_cancelled_cancels_no_other_and_the_last_one_gives_the_place_back(fake: FakeCerbos) -> None:
    gate = asyncio.Event()

    async def check(request: Any, context: Any) -> Any:
        await gate.wait()
        return await allow(request, context)

    fake.check = check
    async with client(fake.target, timeout=30.0) as cerbos:
        tasks = [asyncio.ensure_future(cerbos.check(each)) for each in many(3)]
        before = asyncio.ensure_future(cerbos.check(many(4)[3]))
        await asyncio.sleep(0)
        before.cancel()
        await until(lambda: fake.calls)
        tasks[0].cancel()
        await asyncio.sleep(0)
        assert cerbos.shares.under_way == 1
        gate.set()
        assert [len((await task).results) for task in tasks[1:]] == [1, 1]
        gate.clear()
        left = [asyncio.ensure_future(cerbos.check(each)) for each in many(3)]
        await until(lambda: len(fake.calls) == 2)
        for task in left:
            task.cancel()
        await asyncio.wait(left)
        assert (cerbos.shares.under_way, cerbos._calls) == (0, {})
        # all of them before it goes out
        left = [asyncio.ensure_future(cerbos.check(each)) for each in many(3)]
        await asyncio.sleep(0)
        for task in left:
            task.cancel()
        await asyncio.wait(left)
        gate.set()
        await cerbos.check(question(doc()))
    # what nobody waits for any more may have reached the server before it was taken back
    sizes = [len(call.resources) for call in fake.calls]
    assert (sizes[:2], sizes[-1]) == ([4, 3], 1)


async def test_those_who_wait_for_a_place_go_with_the_first_who_gets_it(fake: FakeCerbos) -> None:
    gate = asyncio.Event()

    async def check(request: Any, context: Any) -> Any:
        await gate.wait()
        return await allow(request, context)

    fake.check = check
    async with client(fake.target, limit=120, timeout=30.0) as cerbos:
        cerbos.shares = Shares(120)
        cerbos.shares._share = 1
        first = asyncio.ensure_future(cerbos.check(alone()))
        await until(lambda: fake.calls)
        asked = many(70)
        tasks = [asyncio.ensure_future(cerbos.check(each)) for each in asked]
        await until(lambda: cerbos.shares.waiting == 70)
        tasks[3].cancel()
        await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await first
        assert (cerbos.shares.waiting, cerbos.shares.under_way, cerbos._waiting) == (0, 0, {})
    assert [len(call.resources) for call in fake.calls] == [1, 50, 19]
    assert [one.request_id for one in answers if isinstance(one, PdpAnswer)] == [
        each.request_id for number, each in enumerate(asked) if number != 3
    ]


async def test_those_who_join_a_call_that_stalls_keep_their_own_deadlines(fake: FakeCerbos) -> None:
    fake.check = hangs
    async with client(fake.target, timeout=5.0) as cerbos:
        await asked_at_once(cerbos)
        patient = asyncio.ensure_future(cerbos.check(many(1)[0]))
        await asyncio.sleep(0)
        cerbos._timeout = 0.1
        began = time.monotonic()
        assert await refusal(cerbos.check(many(2)[1])) is Code.PDP_TIMEOUT
        assert time.monotonic() - began < 2
        assert not patient.done()
        assert len(fake.calls) == 1
        patient.cancel()


async def test_the_breaker_counts_calls(fake: FakeCerbos) -> None:
    fake.check = fails(grpc.StatusCode.INTERNAL)
    async with client(fake.target, now=Clock()) as cerbos:
        for number in range(1, 5):
            answers = await asked_at_once(cerbos, *many(10))
            assert verdicts(many(10), answers) == [Code.PDP_BAD_ANSWER] * 10
            assert cerbos._breaker._failed == number
        assert not cerbos.is_open
        await asked_at_once(cerbos, *many(10))
        assert verdicts(many(10), await asked_at_once(cerbos, *many(10))) == [Code.PDP_OPEN] * 10
        assert (len(fake.calls), cerbos.shares.under_way) == (5, 0)


async def test_a_cerbos_that_takes_fewer_in_a_call_is_asked_by_fewer(fake: FakeCerbos) -> None:
    async def check(request: Any, context: Any) -> Any:
        if len(request.resources) > 10:
            return await fails(grpc.StatusCode.INVALID_ARGUMENT)(request, context)
        return await allow(request, context)

    fake.check = check
    async with client(fake.target) as cerbos:
        for _ in range(4):
            answers = await asked_at_once(cerbos, *many(50))
            assert verdicts(many(50), answers) == [True] * 50
        before = len(fake.calls)
        await asked_at_once(cerbos, *many(50))
        assert cerbos.shares.under_way == 0
    assert {len(call.resources) for call in fake.calls[before:]} == {6, 2}


async def test_questions_wait_for_a_connection_together() -> None:
    """Nobody is there, and all of them are told so by one call."""
    async with client(f"127.0.0.1:{free_port()}", timeout=2.0) as cerbos:
        answers = await asked_at_once(cerbos, *many(10))
        assert verdicts(many(10), answers) == [Code.PDP_UNAVAILABLE] * 10
        assert (cerbos.calls, cerbos._breaker._failed, cerbos.shares.under_way) == (1, 1, 0)


async def test_questions_join_a_call_that_waits_for_the_servers_room() -> None:
    """The server takes one call at once."""
    pdp = Pdp(["late", "answer"], late=0.2)
    async with talking(pdp, settings_frame((3, 1))) as (_, talk), client(talk.target) as cerbos:
        wanted = [Wanted(0, "doc", str(number), number) for number in range(20)]
        asks = [asyncio.ensure_future(ask(cerbos, each)) for each in wanted[:1]]
        await until(lambda: pdp.sizes)
        for each in wanted[1:]:
            # one turn after the other
            asks.append(asyncio.ensure_future(ask(cerbos, each)))
            await asyncio.sleep(0)
        assert await asyncio.gather(*asks) == ["own"] * 20
    assert dict(pdp.sizes) == {1: 1, 19: 1}


# --- faults ---


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (grpc.StatusCode.UNAVAILABLE, Code.PDP_UNAVAILABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Code.PDP_TIMEOUT),
        (grpc.StatusCode.CANCELLED, Code.PDP_PARTIAL),
        (grpc.StatusCode.DATA_LOSS, Code.PDP_PARTIAL),
        (grpc.StatusCode.INTERNAL, Code.PDP_BAD_ANSWER),
        (grpc.StatusCode.UNKNOWN, Code.PDP_BAD_ANSWER),
        (grpc.StatusCode.INVALID_ARGUMENT, Code.PDP_STATUS),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Code.PDP_STATUS),
        (grpc.StatusCode.PERMISSION_DENIED, Code.PDP_STATUS),
        (grpc.StatusCode.UNAUTHENTICATED, Code.PDP_STATUS),
        (grpc.StatusCode.UNIMPLEMENTED, Code.PDP_STATUS),
        (grpc.StatusCode.NOT_FOUND, Code.PDP_STATUS),
    ],
)
async def test_each_status_has_its_code(
    fake: FakeCerbos, status: grpc.StatusCode, code: Code
) -> None:  # fmt: skip
    fake.check = fails(status)
    async with client(fake.target) as cerbos:
        assert await refusal(cerbos.check(question(doc()))) is code


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x0a", b"\x0a\x02\xff\xfe"])
async def test_bytes_that_are_no_answer_are_refused(fake: FakeCerbos, data: bytes) -> None:
    async def check(*_: Any) -> bytes:
        return data

    fake.check = check
    async with client(fake.target) as cerbos:
        assert await refusal(cerbos.check(question(doc()))) is Code.PDP_BAD_ANSWER


async def test_an_answer_without_end_is_refused(fake: FakeCerbos) -> None:
    async def check(*_: Any) -> response_pb2.CheckResourcesResponse:
        return response_pb2.CheckResourcesResponse(request_id="r-1" * 1024 * 1024)

    fake.check = check
    async with client(fake.target) as cerbos:
        assert await refusal(cerbos.check(question(doc()))) is Code.PDP_STATUS


def _altered(**changes: Any) -> Check:
    async def check(request: Any, context: Any) -> response_pb2.CheckResourcesResponse:
        answer = await allow(request, context)
        for name, value in changes.items():
            match name:
                case "request_id":
                    answer.request_id = value
                case "effect":
                    answer.results[0].actions["edit"] = value
                case "action":
                    answer.results[0].actions.clear()
                    answer.results[0].actions[value] = effect_pb2.EFFECT_ALLOW
                case "results":
                    del answer.results[value:]
                case "invalid":
                    answer.results[0].validation_errors.add(path="/owner", message=value)
                case _:
                    setattr(answer.results[0].resource, name, value)
        return answer

    return check


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": "r-2"}, {"request_id": ""}, {"kind": "dok"}, {"id": "2"}, {"action": "read"}, {"results": 0},
        {"invalid": "not a string"}, {"effect": effect_pb2.EFFECT_UNSPECIFIED}, {"effect": effect_pb2.EFFECT_NO_MATCH},
        {"effect": 77},
    ],
)  # fmt: skip
async def test_an_answer_about_something_else_is_not_an_allow(fake: FakeCerbos, changes: dict[str, Any]) -> None:
    fake.check = _altered(**changes)
    asked = question(doc())
    async with client(fake.target) as cerbos:
        answer = await cerbos.check(asked)
    with pytest.raises(Refused) as caught:
        judge(asked, answer)
    assert caught.value.code is Code.PDP_MISMATCH


async def test_a_later_batch_of_another_request_is_seen(fake: FakeCerbos) -> None:
    async def check(request: Any, context: Any) -> response_pb2.CheckResourcesResponse:
        answer = await allow(request, context)
        if len(fake.calls) == 2:
            answer.request_id = "r-2"
        return answer

    fake.check = check
    asked = question(*map(doc, range(BATCH + 1)))
    async with client(fake.target) as cerbos:
        answer = await cerbos.check(asked)
    assert len(fake.calls) == 2
    with pytest.raises(Refused) as caught:
        judge(asked, answer)
    assert caught.value.code is Code.PDP_MISMATCH


async def test_the_calls_of_one_question_are_made_side_by_side(fake: FakeCerbos) -> None:
    calls, all_there = 3, asyncio.Event()

    async def check(request: Any, context: Any) -> response_pb2.CheckResourcesResponse:
        if len(fake.calls) == calls:
            all_there.set()
        await all_there.wait()
        return await allow(request, context)

    fake.check = check
    asked = question(*map(doc, range(calls * BATCH)))
    async with client(fake.target) as cerbos:
        assert judge(asked, await cerbos.check(asked)) == [True] * calls * BATCH


async def test_one_call_of_a_question_that_fails_is_the_fault_of_all(fake: FakeCerbos) -> None:
    async def check(request: Any, context: Any) -> response_pb2.CheckResourcesResponse:
        if request.resources[0].resource.id == str(BATCH):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
        await asyncio.Event().wait()
        raise AssertionError("it waits")

    fake.check = check
    async with client(fake.target) as cerbos:
        assert await refusal(cerbos.check(question(*map(doc, range(3 * BATCH))))) is Code.PDP_STATUS
        assert cerbos.shares.under_way == 0


async def test_all_calls_of_a_question_have_one_deadline(fake: FakeCerbos) -> None:
    async def check(request: Any, context: Any) -> response_pb2.CheckResourcesResponse:
        if len(fake.calls) > AT_ONCE:
            await asyncio.Event().wait()
        await asyncio.sleep(0.6)
        return await allow(request, context)

    fake.check = check
    started = time.monotonic()
    async with client(fake.target, timeout=0.9) as cerbos:
        assert await refusal(cerbos.check(question(*map(doc, range((AT_ONCE + 1) * BATCH))))) is Code.PDP_TIMEOUT
    assert time.monotonic() - started < 1.45


async def test_a_cerbos_that_does_not_answer_costs_no_more_than_the_deadline(fake: FakeCerbos) -> None:
    fake.check = hangs
    started = time.monotonic()
    async with client(fake.target, timeout=0.2) as cerbos:
        assert await refusal(cerbos.check(question(doc()))) is Code.PDP_TIMEOUT
        assert not await cerbos.serving()
    assert 0.15 < time.monotonic() - started < 8


async def test_a_server_that_takes_connections_and_says_nothing_is_late() -> None:
    async with Web(silence) as web, client(f"127.0.0.1:{web.port}", timeout=0.2) as cerbos:
        started = time.monotonic()
        assert await refusal(cerbos.check(question(doc()))) is Code.PDP_TIMEOUT
        assert time.monotonic() - started < 8


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\x00\x00\x04\x04\x00\x00\x00\x00\x00", b""]
)
async def test_a_server_of_another_protocol_is_no_cerbos(data: bytes) -> None:
    """gRPC opens with an HTTP/2 preface, whose end is the end of a head."""
    async with Web(cut(data)) as web, client(f"127.0.0.1:{web.port}", timeout=0.5) as cerbos:
        assert await refusal(cerbos.check(question(doc()))) in (Code.PDP_UNAVAILABLE, Code.PDP_TIMEOUT)
        assert not await cerbos.serving()


@pytest.mark.parametrize("step", ["_open", "start_together", "start_later"])
async def test_a_bug_on_the_way_to_cerbos_ends_each_question_and_gives_its_place_back(
    step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Channel, step, bug)
    async with client(f"127.0.0.1:{free_port()}") as cerbos, asyncio.timeout(5):
        asked = [refusal(cerbos.check(question(doc(number)))) for number in range(3)]
        assert await asyncio.gather(*asked) == [Code.PDP_BAD_ANSWER] * 3
        assert cerbos.shares.under_way == 0
    assert "RuntimeError: a bug" in caplog.text


@pytest.mark.parametrize("target", ["127.0.0.1:{port}", "unix:{folder}/nobody.sock", "nobody.invalid:1"])
async def test_nobody_there_is_unavailable(target: str, tmp_path: Path) -> None:
    async with client(target.format(port=free_port(), folder=tmp_path)) as cerbos:
        assert await refusal(cerbos.check(question(doc()))) is Code.PDP_UNAVAILABLE
        assert not await cerbos.serving()


async def test_a_check_is_asked_once_more_where_nobody_was_there(fake: FakeCerbos) -> None:
    async def check(request: Any, context: Any) -> Any:
        return await (allow if len(fake.calls) == 2 else fails(grpc.StatusCode.UNAVAILABLE))(request, context)

    fake.check = check
    async with client(fake.target) as cerbos:
        assert judge(question(doc()), await cerbos.check(question(doc()))) == [True]
        assert len(fake.calls) == 2
        assert await refusal(cerbos.check(question(doc()))) is Code.PDP_UNAVAILABLE
        assert len(fake.calls) == 4


async def test_five_failures_in_a_row_open_the_breaker_and_one_probe_closes_it(fake: FakeCerbos) -> None:
    fake.check = fails(grpc.StatusCode.INTERNAL)
    clock = Clock()
    async with client(fake.target, now=clock) as cerbos:
        for _ in range(5):
            assert await refusal(cerbos.check(question(doc()))) is Code.PDP_BAD_ANSWER
        for _ in range(20):
            assert await refusal(cerbos.check(question(doc()))) is Code.PDP_OPEN
        assert len(fake.calls) == 5
        clock.advance(2.0)
        assert await refusal(cerbos.check(question(doc()))) is Code.PDP_BAD_ANSWER
        assert await refusal(cerbos.check(question(doc()))) is Code.PDP_OPEN
        assert len(fake.calls) == 6
        fake.check = allow
        clock.advance(2.0)
        for _ in range(3):
            await cerbos.check(question(doc()))
    assert len(fake.calls) == 9


async def test_questions_that_cerbos_refuses_do_not_open_the_breaker(fake: FakeCerbos) -> None:
    """What one caller can make Cerbos refuse must not take it away from all others."""
    fake.check = fails(grpc.StatusCode.INVALID_ARGUMENT)
    async with client(fake.target, now=Clock()) as cerbos:
        for _ in range(12):
            assert await refusal(cerbos.check(question(doc()))) is Code.PDP_STATUS
        fake.check = allow
        await cerbos.check(question(doc()))


async def test_one_principal_has_half_of_the_places_and_another_is_answered_meanwhile(fake: FakeCerbos) -> None:
    gate = asyncio.Event()

    async def check(request: Any, context: Any) -> Any:
        if request.principal.id == ALICE.id:
            await gate.wait()
        return await allow(request, context)

    fake.check = check
    async with client(fake.target, limit=8, timeout=30.0) as cerbos:
        hers = [asyncio.ensure_future(cerbos.check(alone())) for _ in range(30)]
        await until(lambda: len(fake.calls) == 4)
        his = question(doc())._replace(principal=ALICE._replace(id="bob"))
        for _ in range(10):
            assert (await cerbos.check(his)).results
        assert [call.principal.id for call in fake.calls] == [ALICE.id] * 4 + ["bob"] * 10
        gate.set()
        done = await asyncio.gather(*hers, return_exceptions=True)
    # four had a place, eight waited for their turn, and there were too many others
    assert sum(isinstance(one, PdpAnswer) for one in done) == 12
    assert {one.code for one in done if isinstance(one, Refused)} == {Code.PDP_BUSY}


async def test_a_timeout_after_a_wait_for_a_place_does_not_open_the_breaker(fake: FakeCerbos) -> None:
    """Else one user's burst could take Cerbos away from all others."""
    gate = asyncio.Event()

    async def check(request: Any, context: Any) -> Any:
        await gate.wait()
        return await allow(request, context)

    fake.check = check
    async with client(fake.target, limit=2, timeout=0.5) as cerbos:
        cerbos.shares = Shares(1)
        assert cerbos.shares.take(("", ""))
        late = asyncio.ensure_future(cerbos.check(question(doc())))
        await until(lambda: cerbos.shares.waiting == 1)
        cerbos.shares.give_back(("", ""))
        assert await refusal(late) is Code.PDP_TIMEOUT
        assert cerbos._breaker._failed == 0
        assert await refusal(cerbos.check(question(doc()))) is Code.PDP_TIMEOUT
        assert cerbos._breaker._failed == 1
        gate.set()


async def test_more_checks_at_once_than_places_wait_until_their_deadline(fake: FakeCerbos) -> None:
    gate = asyncio.Event()

    async def check(request: Any, context: Any) -> Any:
        await gate.wait()
        return await allow(request, context)

    fake.check = check
    async with client(fake.target, limit=4, timeout=1.0) as cerbos:
        running = [asyncio.ensure_future(cerbos.check(alone())) for _ in range(2)]
        await until(lambda: len(fake.calls) == 2)
        cerbos._timeout = 0.05
        assert await refusal(cerbos.check(alone())) is Code.PDP_BUSY
        cerbos._timeout = 1.0
        waiting = asyncio.ensure_future(cerbos.check(alone()))
        await asyncio.sleep(0)
        gate.set()
        assert [judge(question(doc()), await one) for one in (*running, waiting)] == [[True]] * 3
    assert len(fake.calls) == 3


async def test_a_cancelled_check_is_cancelled_and_gives_its_place_back(fake: FakeCerbos) -> None:
    fake.check = hangs
    async with client(fake.target, limit=1, timeout=5.0) as cerbos:
        running = asyncio.ensure_future(cerbos.check(question(doc())))
        await until(lambda: fake.calls)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        fake.check = allow
        await cerbos.check(question(doc()))


async def test_no_proxy_of_the_environment_is_used(fake: FakeCerbos) -> None:
    async with Web(silence) as proxy:
        variables = ("http_proxy", "HTTP_PROXY", "https_proxy", "grpc_proxy")
        with environment(**dict.fromkeys(variables, proxy.origin)):
            async with client(fake.target) as cerbos:
                await cerbos.check(question(doc()))
    assert proxy.connections == 0


async def test_a_principal_is_told_again_as_it_is_and_not_as_another(fake: FakeCerbos) -> None:
    async with client(fake.target) as cerbos:
        for number in range(5000):
            # what is freed leaves its address to the next one
            principal = Principal(f"p-{number}", ("user",), {"n": number}, "iss", 0.0, {})
            for _ in range(2):
                assert principal_of(principal) == cerbos.encoded_principal(principal)
        assert 1000 <= len(cerbos._principals) < 5000
        for name in ("alice", "bob", "alice"):
            await cerbos.check(question(doc())._replace(principal=ALICE._replace(id=name)))
    assert [call.principal.id for call in fake.calls] == ["alice", "bob", "alice"]


# --- TLS ---


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[int, Files]]:
    """A real Cerbos whose gRPC port takes TLS alone: its port, and the certificates of its authority."""
    files, port = certificates(tmp_path), free_port()
    tls = {"cert": str(files.certificate), "key": str(files.key)}
    policies = write_policies(tmp_path / "policies")
    with real_cerbos(tmp_path, policies, grpcListenAddr=f"127.0.0.1:{port}", tls=tls):
        yield port, files


async def test_a_cerbos_is_asked_over_tls_and_its_name_is_checked(secured: tuple[int, Files], tmp_path: Path) -> None:
    port, files = secured
    (tmp_path / "other").mkdir()
    other = certificates(tmp_path / "other")
    good = h2_by_tls(str(files.ca), str(files.certificate), str(files.key))
    async with client(f"127.0.0.1:{port}", tls=good) as cerbos:
        assert await cerbos.serving()
        assert judge(question(doc()), await cerbos.check(question(doc()))) == [True]
    wrong = {
        "another authority": (f"127.0.0.1:{port}", h2_by_tls(str(other.ca), "", "")),
        "the system's authorities": (f"127.0.0.1:{port}", h2_by_tls("", "", "")),
        "another name": (f"localhost:{port}", h2_by_tls(str(files.ca), "", "")),
        "no TLS": (f"127.0.0.1:{port}", None),
    }
    for how, (target, tls) in wrong.items():
        async with client(target, tls=tls) as cerbos:
            assert await refusal(cerbos.check(question(doc()))) is Code.PDP_UNAVAILABLE, how
            assert not await cerbos.serving()


async def test_a_server_that_asks_for_a_certificate_gets_ours(tmp_path: Path) -> None:
    files, seen = certificates(tmp_path), list[Any]()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.ca))
    context.load_cert_chain(files.certificate, files.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])

    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peercert")["subject"])
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    for certificate, key in (("", ""), (str(files.certificate), str(files.key))):
        async with client(f"127.0.0.1:{port}", tls=h2_by_tls(str(files.ca), certificate, key)) as cerbos:
            assert await refusal(cerbos.check(question(doc()))) is Code.PDP_UNAVAILABLE
        assert bool(seen) == bool(certificate)
    server.close()


async def test_a_server_that_speaks_no_h2_over_tls_is_no_cerbos(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with client(f"127.0.0.1:{port}", tls=h2_by_tls(str(files.ca), "", "")) as cerbos:
        with pytest.raises(Refused, match="h2"):
            await cerbos.check(question(doc()))
    server.close()


def test_a_certificate_without_its_key_is_no_start(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    with pytest.raises(OSError, match=r"PEM|key"):
        h2_by_tls(str(files.ca), str(files.certificate), str(files.ca))
    with pytest.raises(OSError, match="No such file"):
        h2_by_tls(str(tmp_path / "nothing"), "", "")
