"""`study/answers.py`: verdicts on the items of an answer, in their order and by the permit's own rule."""

from __future__ import annotations

import json

from sidecar.config.routes.file import read_routes
from sidecar.gate.codes import Code
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Result
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.identity import PrincipalRules
from sidecar.gate.request import Raw, Reading
from sidecar.gate.verdict import Forward, Refused
from sidecar.release.lines import LINES
from sidecar.study.answers import GivenAnswer, given_answer, place_of
from sidecar.study.explain import GivenClaims
from sidecar.study.recording import RecordingPDP

ROUTES = """\
version: 1
routes:
  - {path: /list, resource: r, actions: {GET: list}, items: {at: "@", id: id, max_size: 1MiB, fields: {x: see}}}
  - {path: /lines, resource: r, actions: {GET: list}, items: {at: lines, id: id, fields: {x: see}}}
"""


class Odd:
    """Denies items whose number is odd, hides `x` in every tenth, and fails from `down` on."""

    def __init__(self, down: int = 10**9) -> None:
        self.down = down

    async def check(self, question: Question) -> PdpAnswer:
        ids = [each.id for each in question.resources]
        if any(name != "-" and int(name) >= self.down for name in ids):
            raise Refused(Code.PDP_UNAVAILABLE)
        return PdpAnswer(question.request_id, "c", tuple(self.result(name) for name in ids))

    @staticmethod
    def result(name: str) -> Result:
        if name == "-":
            return Result("r", "-", {"list": ALLOW})
        effects = {"read": DENY if int(name) % 2 else ALLOW, "see": DENY if int(name) % 10 == 0 else ALLOW}
        return Result("r", name, effects, False, {"read": f"p{name}"})


async def of(body: bytes, down: int = 10**9, path: bytes = b"/list") -> GivenAnswer:
    pdp = RecordingPDP(Odd(down))
    claims = GivenClaims({"cognito:groups": ["user"]}, PrincipalRules())
    rules = Rules(read_routes(ROUTES, "r", {}).table, {}, claims, Reading())
    gate = Gate(rules, None, pdp, now=lambda: 0.0, timer=lambda: 0.0)  # type: ignore[arg-type]
    raw = Raw("GET", path, [(b"host", b"x")], "", "http", "r", holds_answer=True)
    permit = await gate.decide(raw, None)
    assert isinstance(permit, Forward)
    given = await given_answer(permit, body, pdp)
    assert given is not None
    return given


async def test_items_of_several_questions_stand_in_their_order() -> None:
    given = await of(json.dumps([{"id": number, "x": 1} for number in range(230)]).encode())
    assert [item.id for item in given.items] == [str(number) for number in range(230)]
    assert {item.kept for item in given.items[::2]} == {True}
    assert {item.kept for item in given.items[1::2]} == {False}
    assert [item.id for item in given.items if item.hidden] == [str(number) for number in range(0, 230, 10)]
    assert given.items[3].policy == "p3"
    assert (given.kept, given.masked, given.calls, given.refusal) == (115, 23, 5, None)
    assert given.size[1] < given.size[0]


async def test_a_question_that_fails_releases_nothing() -> None:
    given = await of(json.dumps([{"id": number} for number in range(60)]).encode(), down=55)
    assert given.refusal is not None
    assert given.refusal.code is Code.PDP_UNAVAILABLE
    assert len(given.items) == 50


async def test_lines_are_judged_as_they_would_come() -> None:
    lines = b"".join(b'{"id": %d, "x": 1}\n' % number for number in range(101))
    given = await of(lines, path=b"/lines")
    assert [(item.id, item.kept, item.hidden) for item in given.items[:3]] == [
        ("0", True, ("x",)), ("1", False, ()), ("2", True, ()),
    ]  # fmt: skip
    assert (len(given.items), given.kept, given.masked, given.calls) == (101, 51, 11, 3)
    broken = await of(lines + b"no JSON\n", path=b"/lines")
    assert broken.refusal is not None
    assert broken.refusal.code is Code.ITEMS_UNREADABLE
    assert len(broken.items) == 100


async def test_an_answer_that_is_too_large_is_refused() -> None:
    given = await of(b"[" + b" " * 1024**2 + b"]")
    assert given.refusal is not None
    assert given.refusal.code is Code.ITEMS_TOO_MANY


def test_a_place_as_the_route_file_has_it() -> None:
    assert [place_of(at) for at in ((), ("data", "rows"), LINES)] == ["@", "data.rows", "lines"]
