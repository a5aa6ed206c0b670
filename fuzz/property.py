"""`python -m fuzz.property COUNT`: for generated targets, the bytes decided are the bytes sent and the bytes logged."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from urllib.parse import parse_qsl

from sidecar.gate.ask import asks
from sidecar.gate.decision import ALLOW, PdpAnswer, Question, Result
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.lookup import Call, Reply
from sidecar.gate.query import rule_of, taken_for
from sidecar.gate.references import parse_template
from sidecar.gate.request import Raw, Reading
from sidecar.gate.routing import Access, Route, RouteTable, parse_path
from sidecar.gate.target import Oddity
from sidecar.gate.verdict import Forward
from sidecar.record.journal import Journal, Outcome
from sidecar.record.metrics import Metrics
from sidecar.wire.http1_response import encode_request
from tests.fakes import OneByOne
from tests.log import Kept
from tests.tokens import CLIENT, ISSUER, claims, mint, public_key

PIECES = [
    b"/", b"a", b"B", b"7", b".", b"..", b"-", b"~", b"@", b":", b"%41", b"%61", b"%2e", b"%2E", b"%2f", b"%5c", b"%25", b"%252e", b"%c3%a9",
    b"%20", b";", b"%3b", b"%00", b"%ff", b"?", b"#", b"\\", b"%", b"x=1", b"&", b"x", b"=", b"own", b"[", b"OWN=b", b"%0a", b"+", b"%7e", b"*", b"'",
]  # fmt: skip
NOW = 1_700_000_000.0


class Ports(OneByOne):
    """An upstream of allows: what is asked is kept."""

    def __init__(self) -> None:
        self.asked: Question | None = None

    async def ask(self, call: Call) -> Reply:
        raise AssertionError("no lookup here")

    async def check(self, question: Question) -> PdpAnswer:
        self.asked = question
        resource = question.resources[0]
        return PdpAnswer(question.request_id, "c", (Result(resource.kind, resource.id, {resource.action: ALLOW}),))


async def _find(_: str, __: str) -> object:
    return public_key("k1")


async def _no_body(_: int, __: object, ___: object) -> None:
    pass


def gate(ports: Ports) -> Gate:
    """A gate whose routes take any depth, with what may be allowed allowed."""
    everything = frozenset(Oddity)
    routes = [
        Route(
            path,
            parse_path(path),
            Access.POLICY,
            asks(
                {"GET": "read"},
                kind="thing",
                id=parse_template("{path.a}"),
                query=rule_of(["x", "a"], ["own"]),
                set_query={"own": parse_template("{principal.id}")},
            ),
            allow=everything,
        )
        for path in ("/{a:any}", "/{a:any}/**")
    ]
    tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), _find)  # type: ignore[arg-type]
    return Gate(Rules(RouteTable(routes), {}, tokens, Reading()), ports, ports, now=lambda: NOW, timer=lambda: 0.0)


async def check(count: int, seed: int, progress: bool = False) -> tuple[int, int]:
    """Decide `count` targets. -> (forwarded, refused). Raises AssertionError at the first difference."""
    rng, ports, stream = random.Random(seed), Ports(), Kept()  # noqa: S311 - no secret
    journal, made = Journal(stream, Metrics(), lambda: NOW), gate(ports)
    headers = [(b"host", b"x"), (b"authorization", b"Bearer " + mint(claims(NOW)))]
    forwarded = 0
    for number in range(count):
        target = b"/" + b"".join(rng.choices(PIECES, k=rng.randint(1, 8)))
        verdict = await made.decide(Raw("GET", target, headers, "", "http", "r"), _no_body)
        if isinstance(verdict, Forward):
            forwarded += 1
            _check(verdict, ports, journal, stream)
        if progress and number % 50_000 == 49_999:
            print(f"{number + 1} targets, {forwarded} forwarded, no difference", flush=True)
    return forwarded, count - forwarded


def _check(permit: Forward, ports: Ports, journal: Journal, stream: Kept) -> None:
    sent = encode_request(permit.method, permit.target, permit.headers, None).split(b"\r\n", 1)[0]
    assert sent == b"GET " + permit.target + b" HTTP/1.1"
    stream.seek(0)
    stream.truncate()
    journal.record(Outcome(permit, 200, 0.0))
    line = json.loads(stream.getvalue())
    path, _, query = permit.target.partition(b"?")
    pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True)
    assert {name for name, _ in pairs} <= {"x", "a", "own"}
    assert [value for name, value in pairs if "own" in taken_for(name)] == ["a-1"]
    assert line["path"].encode("ascii") == path
    assert ports.asked is not None
    assert ports.asked.resources[0].id == line["id"]


def main() -> int:
    """Run it with lines of progress."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    forwarded, refused = asyncio.run(check(count, random.randrange(2**32), progress=True))  # noqa: S311
    print(f"{count} targets: {forwarded} forwarded, {refused} refused, bytes decided == bytes sent == bytes logged")
    return 0


if __name__ == "__main__":
    sys.exit(main())
