"""How the cost of one decision grows, in microseconds of CPU, with Cerbos and hooks that answer at once.

python -m bench.growth
"""

from __future__ import annotations

import time
from typing import Any

from jwt import PyJWK

from sidecar.gate.ask import asks
from sidecar.gate.decision import ALLOW, PdpAnswer, Question, Result
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.lookup import Call, Reply
from sidecar.gate.references import parse_template
from sidecar.gate.request import Raw, Reading
from sidecar.gate.routing import Access, Route, RouteTable, parse_path
from sidecar.pdp.cerbos_messages import entries_of, message_of, principal_of
from tests.fakes import OneByOne
from tests.tokens import CLIENT, ISSUER, claims, mint, public_key

NOW = 1_700_000_000.0
LOOPS = 4000


class Ports(OneByOne):
    """Cerbos allows; the question is made as it would be sent."""

    async def check(self, question: Question) -> PdpAnswer:
        """An allow."""
        message_of(question.request_id, principal_of(question.principal), entries_of(question.resources))
        one = question.resources[0]
        return PdpAnswer(question.request_id, "call", (Result(one.kind, one.id, {one.action: ALLOW}),))

    async def ask(self, call: Call) -> Reply:
        """Nobody asks a hook here."""
        raise AssertionError


async def find(issuer: str, kid: str) -> PyJWK:
    """The key of the tokens."""
    return public_key("k1")


async def no_body(_: int, __: object, ___: object) -> None:
    """Body of a request that has none."""


def cost(routes: int = 10, roles: int = 1, attributes: int = 1, headers: int = 8) -> float:
    """Microseconds of CPU for one decision."""
    names = [f"/r{number}/x" for number in range(routes - 1)]
    template = parse_template("{path.id}")
    table = RouteTable([
        *(Route(name, parse_path(name), Access.POLICY, asks({"GET": "read"}, kind="doc")) for name in names),
        Route("/docs/{id}", parse_path("/docs/{id}"), Access.POLICY, asks(
            {"GET": "read"}, kind="doc", id=template, attributes={f"a{n}": template for n in range(attributes)})),
    ])  # fmt: skip
    token = mint(claims(NOW, **{"cognito:groups": [f"role-{n}" for n in range(roles)]}))
    tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), find)
    ports = Ports()
    gate = Gate(Rules(table, {}, tokens, Reading()), ports, ports, now=lambda: NOW, timer=time.perf_counter)
    more = [(b"x-header-%d" % n, b"value") for n in range(headers)]
    raw = Raw("GET", b"/docs/7", [(b"host", b"a"), (b"authorization", b"Bearer " + token), *more], "", "http", "r")
    for _ in range(200):
        _run(gate.decide(raw, no_body))
    began = time.process_time()
    for _ in range(LOOPS):
        _run(gate.decide(raw, no_body))
    return (time.process_time() - began) / LOOPS * 1e6


def _run(work: Any) -> None:
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


def main() -> None:
    """Print a Markdown table."""
    print("| | | | |\n| --- | --- | --- | --- |")
    for name, values in (
        ("routes", (10, 1000, 10_000)), ("roles", (1, 10, 50)), ("attributes", (1, 10, 50)), ("headers", (8, 30, 80)),
    ):  # fmt: skip
        cells = [f"{value:,}: {cost(**{name: value}):.0f} us" for value in values]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
