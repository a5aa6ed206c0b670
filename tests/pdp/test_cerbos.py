"""`pdp/cerbos.py` against the real Cerbos, and against a fake for what the real one cannot be made to do."""

from __future__ import annotations

import asyncio
import json
import math
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
from cerbos.engine.v1 import engine_pb2
from cerbos.request.v1 import request_pb2
from cerbos.response.v1 import response_pb2
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Resource, judge
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused
from sidecar.net.shares import Shares
from sidecar.net.tls import tls_context
from sidecar.pdp.cerbos import BATCH, Cerbos, answer_of, message_of, parts_of, principal_of, read_answer, value_of
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


def request_of(asked: Question) -> request_pb2.CheckResourcesRequest:
    """The question as Cerbos reads it."""
    return request_pb2.CheckResourcesRequest.FromString(message_of(asked, principal_of(asked.principal)))


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
async def embedded(tmp_path: Path) -> AsyncIterator[EmbeddedCerbos]:
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


def test_a_call_has_so_many_resources_and_so_many_bytes() -> None:
    resources = [heavy(number) for number in range(60)]
    entries = [b"x" * 90_000] * 60
    calls = [slice(*part.indices(60)) for part in parts_of(resources, entries, 1000)]
    assert [(part.start, part.stop) for part in calls] == [(0, 23), (23, 46), (46, 60)]
    assert [part.stop - part.start for part in parts_of([doc()] * 107, [b"x"] * 107, 10)] == [50, 50, 7]
    # what is too much alone is asked alone
    assert [part.stop for part in parts_of(resources[:3], [b"x", b"x" * 3_000_000, b"x"], 10)] == [1, 2, 3]


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


async def test_serving_is_what_cerbos_says_of_itself(embedded: EmbeddedCerbos) -> None:
    async with client(embedded.target) as cerbos:
        assert await cerbos.serving()
        await embedded.stop()
        assert not await cerbos.serving()


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
        hers = [asyncio.ensure_future(cerbos.check(question(doc()))) for _ in range(30)]
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
        running = [asyncio.ensure_future(cerbos.check(question(doc()))) for _ in range(2)]
        await until(lambda: len(fake.calls) == 2)
        cerbos._timeout = 0.05
        assert await refusal(cerbos.check(question(doc()))) is Code.PDP_BUSY
        cerbos._timeout = 1.0
        waiting = asyncio.ensure_future(cerbos.check(question(doc())))
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


# --- values ---

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner))


def plain(value: Any) -> bool:
    """Whether a JSON document can say the value so that everybody reads the same."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int):
        return abs(value) < 2**53
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(plain, value.keys())) and all(map(plain, value.values()))
    return all(map(plain, value))


@given(ANYTHING)
@settings(max_examples=150)
def test_a_value_is_told_exactly_or_refused(value: Any) -> None:
    asked = question(Resource("doc", "1", "read", {"x": value}))
    if not plain(value):
        with pytest.raises(Refused) as caught:
            request_of(asked)
        assert caught.value.code is Code.REFERENCE_INVALID
        return
    told = request_of(asked).resources[0].resource.attr["x"]
    assert json.loads(MessageToJson(told)) == value


@pytest.mark.parametrize(
    "value", [2**53, -(2**53), float("nan"), float("inf"), "\ud800", {"\udfff": 1}, [b"x"], {1: 2}, object()]
)
def test_what_has_no_exact_form_is_refused(value: Any) -> None:
    for asked in (
        question(Resource("doc", "1", "read", {"x": value})),
        Question("r", ALICE._replace(attributes={"x": {"y": [value]}}), (doc(),)),
    ):
        with pytest.raises(Refused) as caught:
            request_of(asked)
        assert caught.value.code is Code.REFERENCE_INVALID


def test_what_is_nested_without_end_is_refused() -> None:
    value: Any = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(Refused) as caught:
        request_of(question(Resource("doc", "1", "read", {"x": value})))
    assert caught.value.code is Code.REFERENCE_INVALID


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.builds(
    # longer than 127 bytes, whose length takes two
    lambda character, times: character * times, st.characters(exclude_categories=["Cs"]), st.integers(100, 300)
)  # fmt: skip
ATTRIBUTES = st.dictionaries(TEXT, ANYTHING.filter(plain), max_size=4)
RESOURCES = st.builds(Resource, TEXT, TEXT, TEXT, ATTRIBUTES, scope=TEXT)


@given(
    TEXT,
    st.builds(Principal, TEXT, st.lists(TEXT).map(tuple), ATTRIBUTES, TEXT, st.just(0.0), st.just({})),
    st.lists(RESOURCES, max_size=4),
)
def test_the_message_is_what_the_library_makes_of_the_question(
    request_id: str, principal: Principal, resources: list[Resource]
) -> None:
    """Byte for byte but for the order in a map, which has none."""
    asked = Question(request_id, principal, tuple(resources))
    theirs = request_pb2.CheckResourcesRequest(
        request_id=request_id,
        include_meta=True,
        principal=engine_pb2.Principal(
            id=principal.id, roles=principal.roles, attr={n: value_of(v) for n, v in principal.attributes.items()}
        ),
        resources=[
            request_pb2.CheckResourcesRequest.ResourceEntry(
                actions=[each.action, *each.more_actions],
                resource=engine_pb2.Resource(
                    kind=each.kind,
                    id=each.id,
                    scope=each.scope,
                    attr={n: value_of(v) for n, v in each.attributes.items()},
                ),
            )
            for each in resources
        ],
    )
    ours = request_of(asked)
    assert ours == theirs
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


async def test_a_principal_is_told_again_as_it_is_and_not_as_another(fake: FakeCerbos) -> None:
    async with client(fake.target) as cerbos:
        for number in range(5000):
            # what is freed leaves its address to the next one
            principal = Principal(f"p-{number}", ("user",), {"n": number}, "iss", 0.0, {})
            for _ in range(2):
                assert principal_of(principal) == cerbos._told(principal)
        assert 1000 <= len(cerbos._principals) < 5000
        for name in ("alice", "bob", "alice"):
            await cerbos.check(question(doc())._replace(principal=ALICE._replace(id=name)))
    assert [call.principal.id for call in fake.calls] == ["alice", "bob", "alice"]


@pytest.mark.parametrize("field", ["id", "kind", "action"])
def test_a_lone_surrogate_anywhere_in_the_question_is_refused(field: str) -> None:
    with pytest.raises(Refused) as caught:
        request_of(question(Resource(**{**doc()._asdict(), field: "\ud800"})))
    assert caught.value.code is Code.REFERENCE_INVALID


def test_a_bool_stays_a_bool_and_an_integer_a_number() -> None:
    assert value_of(True).WhichOneof("kind") == "bool_value"
    assert value_of(1).WhichOneof("kind") == "number_value"
    assert value_of(None).WhichOneof("kind") == "null_value"
    assert value_of([]).WhichOneof("kind") == "list_value"
    assert value_of({}).WhichOneof("kind") == "struct_value"


def read_by_library(data: bytes) -> object:
    try:
        return answer_of(response_pb2.CheckResourcesResponse.FromString(data))
    except (DecodeError, UnicodeDecodeError):
        return None


def read_here(data: bytes) -> object:
    try:
        return read_answer(data)
    except (DecodeError, UnicodeDecodeError):
        return None


TEXTS = st.text(max_size=5) | st.sampled_from(["r" * 32, "r" * 127, "r" * 128, "é" * 300])


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=2), st.data())
def test_an_answer_is_read_as_the_library_reads_it_whatever_is_done_to_its_bytes(
    request_id: str, call_id: str, ids: list[str], draw: st.DataObject
) -> None:
    message = response_pb2.CheckResourcesResponse(request_id=request_id, cerbos_call_id=call_id)
    for number, name in enumerate(ids):
        entry = message.results.add()
        entry.resource.kind, entry.resource.id = "contact", name
        entry.actions["read"] = effect_pb2.EFFECT_ALLOW if number else effect_pb2.EFFECT_DENY
        entry.meta.actions["read"].matched_policy = "p" * (number * 100)
    data = message.SerializeToString()
    for _ in range(2):  # afresh, and from what is remembered
        assert read_here(data) == answer_of(message)
    at = draw.draw(st.integers(0, max(0, len(data) - 1)))
    changed = data[:at] + draw.draw(st.binary(max_size=2)) + data[at + draw.draw(st.integers(0, 2)) :]
    assert read_here(changed) == read_by_library(changed)


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
