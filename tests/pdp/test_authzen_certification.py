"""The certification scenario of AuthZEN 1.0 (openid.github.io/authzen, 2026), asked by our client: each decision that the
scenario fixes comes out right, of a PDP that takes requests as strictly as the scenario says, and of the real Cerbos.

It certifies PDPs, in levels. Those with requests that a PEP of ours sends are Basic, Batch and Discovery; it has no Search,
no properties of an action, and one subject in a question.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.gate.decision import Question, Resource, granted, judge
from sidecar.gate.identity import Principal
from sidecar.pdp.authzen import AuthZen
from tests.fakes import Web, answer
from tests.policy_table import RealCerbos, real_cerbos

POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: record
  version: default
  rules:
    - {actions: [read], effect: EFFECT_ALLOW, roles: [user]}
    - actions: [write]
      effect: EFFECT_ALLOW
      roles: [user]
      condition:
        match:
          any:
            of:
              - expr: P.id == "alice" && !(has(R.attr.status) && R.attr.status == "archived")
              - expr: has(P.attr.role) && P.attr.role == "admin" && has(R.attr.status) && R.attr.status == "archived"
"""
"""The fixture (section 3.4): rules 1 to 6."""


def allows(subject: dict[str, Any], action: str, resource: dict[str, Any]) -> bool:
    """As POLICY."""
    archived = resource.get("properties", {}).get("status") == "archived"
    if action == "write":
        admin = subject.get("properties", {}).get("role") == "admin"
        return bool(admin if archived else subject["id"] == "alice")
    return action == "read"


class Fixture:
    """PDP of the scenario: it takes what the scenario says that a PDP must take, and nothing else."""

    def __init__(self) -> None:
        self.web = Web(self._behave)
        self.evaluated = 0

    async def _behave(self, writer: asyncio.StreamWriter) -> None:
        line, headers = self.web.asked[-1]
        if line.startswith("GET /.well-known/authzen-configuration "):
            told: Any = {
                "policy_decision_point": self.web.origin,
                "access_evaluation_endpoint": f"{self.web.origin}/access/v1/evaluation",
                "access_evaluations_endpoint": f"{self.web.origin}/access/v1/evaluations",
            }
        else:
            assert headers["content-type"] == "application/json"
            told = self._evaluated(line.split()[1], json.loads(self.web.bodies[-1]))
        echoed = f"X-Request-ID: {headers['x-request-id']}" if "x-request-id" in headers else "X-A: b"
        await answer(200, json.dumps(told).encode(), echoed)(writer)

    def _evaluated(self, path: str, sent: dict[str, Any]) -> dict[str, Any]:
        if path == "/access/v1/evaluation":
            return self._decision(sent)
        assert path == "/access/v1/evaluations"
        assert sent["options"] == {"evaluations_semantic": "execute_all"}
        # members of the message are the defaults of each evaluation
        defaults: dict[str, Any] = {
            name: sent[name] for name in ("subject", "action", "resource", "context") if name in sent
        }
        return {"evaluations": [self._decision({**defaults, **each}) for each in sent["evaluations"]]}

    def _decision(self, sent: dict[str, Any]) -> dict[str, Any]:
        subject, resource, action = sent["subject"], sent["resource"], sent["action"]["name"]
        for entity in (subject, resource):
            assert isinstance(entity["type"], str)
            assert isinstance(entity["id"], str)
            assert isinstance(entity.get("properties", {}), dict)
        assert isinstance(action, str)
        assert isinstance(sent.get("context", {}), dict)
        self.evaluated += 1
        return {"decision": allows(subject, action, resource)}


@pytest.fixture(scope="module")
def cerbos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCerbos]:
    folder = tmp_path_factory.mktemp("certification")
    (folder / "policies").mkdir()
    Path(folder / "policies/record.yaml").write_text(POLICY)
    with real_cerbos(folder, folder / "policies") as running:
        yield running


@asynccontextmanager
async def client(target: str) -> AsyncIterator[AuthZen]:
    authzen = AuthZen(target, timeout=10.0, now=time.monotonic)
    try:
        yield authzen
    finally:
        await authzen.aclose()


@pytest.fixture(params=["fixture", "cerbos"])
async def pdp(request: pytest.FixtureRequest) -> AsyncIterator[AuthZen]:
    if request.param == "fixture":
        async with Fixture().web as web, client(f"authzen+{web.origin}") as authzen:
            yield authzen
    else:
        real: RealCerbos = request.getfixturevalue("cerbos")
        async with client(f"authzen+http://127.0.0.1:{real.port}") as authzen:
            yield authzen


def subject(name: str, **properties: Any) -> Principal:
    return Principal(name, ("user",), properties, "iss", 0.0, {})


def record(number: int, action: str, more: tuple[str, ...] = (), **properties: Any) -> Resource:
    return Resource("record", f"record-{number}", action, properties, more)


async def decisions(pdp: AuthZen, who: Principal, *resources: Resource) -> list[bool]:
    asked = Question("r-1", who, resources)
    return judge(asked, await pdp.check(asked))


ADMIN = {"role": "admin"}


@pytest.mark.parametrize(
    ("who", "resource", "allowed"),
    [
        (subject("alice"), record(1, "read"), True), (subject("alice"), record(1, "write"), True),
        (subject("bob"), record(1, "read"), True), (subject("bob"), record(1, "write"), False),
        (subject("alice"), record(2, "write", status="archived"), False), (subject("bob", **ADMIN), record(2, "write", status="archived"), True),
        (subject("alice", department="Sales", role="manager"), record(1, "read", status="active", owner="bob"), True),
    ],
)  # fmt: skip
async def test_basic(pdp: AuthZen, who: Principal, resource: Resource, allowed: bool) -> None:
    """Levels Basic Core and Basic Properties; the same each time (2.6)."""
    assert [await decisions(pdp, who, resource) for _ in range(3)] == [[allowed]] * 3


async def test_batch(pdp: AuthZen) -> None:
    """Levels Batch Core and Batch Properties, in the order of the request, and in one message."""
    assert len(await decisions(pdp, subject("alice"), record(1, "read"), record(2, "read"))) == 2
    asked = Question("r-1", subject("bob"), (record(1, "read", ("write",)),))
    assert granted(asked, await pdp.check(asked)) == [frozenset({"read"})]
    both = record(1, "write", status="active"), record(2, "write", status="archived")
    assert await decisions(pdp, subject("alice"), *both) == [True, False]
    assert await decisions(pdp, subject("alice"), *reversed(both)) == [False, True]
    assert await decisions(pdp, subject("bob", **ADMIN), *both) == [False, True]
    assert pdp.calls == pdp.questions == 5


async def test_discovery(pdp: AuthZen) -> None:
    """Level Discovery, where a PDP has metadata."""
    assert await pdp.serving()


async def test_a_list_that_no_message_holds_goes_in_several_and_comes_back_in_order() -> None:
    fixture = Fixture()
    async with fixture.web as web, client(f"authzen+{web.origin}") as authzen:
        rows = [record(number, "write", status="archived" if number % 3 else "active") for number in range(25)]
        assert await decisions(authzen, subject("alice"), *rows) == [number % 3 == 0 for number in range(25)]
    assert (fixture.evaluated, authzen.calls) == (25, 3)
