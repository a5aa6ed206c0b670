"""Recorded questions, asked of the real Cerbos with the same policies and with others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.adoption.replay import Replay, SkipReason
from sidecar.adoption.rerouting import Rerouting
from sidecar.config.routes.file import read_routes
from sidecar.gate.decision import Question, Resource, judge
from sidecar.gate.identity import Principal
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.embedded import EmbeddedCerbos
from sidecar.record.line import QuestionLine
from sidecar.run import replaying
from sidecar.run.errors import StartError
from sidecar.run.replaying import ReplayCandidate, replay
from tests.adoption.questions import denied, question, unasked
from tests.stack import ROOT, binary

pytestmark = pytest.mark.usefixtures("embedded_shared")

CONTACT = (ROOT / "policies/contact.yaml").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of our own policies, to change."""
    made = tmp_path / "policies"
    made.mkdir()
    for path in (ROOT / "policies").glob("*.yaml"):
        (made / path.name).write_bytes(path.read_bytes())
    return made


def replayed(lines: Iterable[QuestionLine], folder: Path, **more: Any) -> Replay:
    return asyncio.run(replay(lines, ReplayCandidate(folder, binary(), strict=True, **more)))[0]


@pytest.mark.own_cerbos
def test_who_gains_and_who_loses_are_told_apart(folder: Path) -> None:
    (folder / "contact.yaml").write_text(
        CONTACT.replace("actions: [list, create]", "actions: [list]").replace("== 'private'", "== 'secret'")
    )
    outcome = replayed(
        [
            question(), question(action="create", attributes={}), question(roles=("admin",), action="delete"),
            denied(attributes={"owner": "bob", "visibility": "private"}), denied(action="fly"),
        ],
        folder,
    )  # fmt: skip
    assert (outcome.requests, outcome.same) == (5, 3)
    (lost,) = [change for change in outcome.changes if not change.widens]
    assert (lost.kind, lost.action, lost.roles, lost.rules) == ("contact", "create", ("user",), ())
    (gained,) = [change for change in outcome.changes if change.widens]
    assert gained.action == "read"


def test_one_that_cannot_be_asked_is_no_fault_of_the_others(folder: Path) -> None:
    lines = [question(), question(attributes={"owner": 2**60}), question()]
    outcome = replayed(lines, folder)
    assert outcome.same == 2
    assert [reason for reason, _ in outcome.unreplayed] == [SkipReason.UNASKABLE]


def test_attributes_that_a_new_schema_refuses_lose_access(folder: Path) -> None:
    (folder / "_schemas").mkdir()
    (folder / "_schemas/contact.json").write_text('{"type": "object", "required": ["owner"]}')
    schema = "  schemas: {resourceSchema: {ref: 'cerbos:///contact.json'}}\n  rules:"
    (folder / "contact.yaml").write_text(CONTACT.replace("  rules:", schema, 1))
    outcome = replayed([question(), question(attributes={}), question()], folder)
    assert (outcome.same, outcome.changed(widens=False), outcome.changed(widens=True)) == (2, 1, 0)


def test_the_clock_is_the_recorded_time(folder: Path) -> None:
    (folder / "offer.yaml").write_text(
        """
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: offer
  version: default
  rules:
    - actions: [read]
      effect: EFFECT_ALLOW
      roles: [user]
      condition: {match: {expr: now() < timestamp(R.attr.until)}}
"""
    )
    until = {"until": "2026-01-31T12:30:00Z"}
    early = question(kind="offer", attributes=until)
    late = denied(kind="offer", attributes=until, time="2026-01-31T12:30:00.000+00:00")
    outcome = replayed([early, question(), late, early], folder)
    assert (outcome.requests, outcome.same) == (4, 4)


def test_new_routes_and_new_policies_go_together(folder: Path) -> None:
    routes = """
version: 1
routes:
  - {path: /contacts, resource: contact, actions: {GET: list}}
  - {path: "/contacts/{id}", resource: contact, id: "{path.id}", attributes: {owner: "{principal.id}"}, actions: {GET: delete}}
  - {path: /health, access: public}
"""
    rerouting = Rerouting(read_routes(routes, "routes.yaml", {}))
    outcome = replayed(
        [question(), denied(), question(path="/gone"), unasked("route_unmapped", path="/health", route="")],
        folder, rerouting=rerouting,
    )  # fmt: skip
    assert outcome.same == 1
    assert {(change.widens, change.route) for change in outcome.changes} == {
        (True, "/contacts/{id}"), (False, "/contacts/{id}"), (True, ""),
    }  # fmt: skip


def test_policies_that_do_not_compile_are_an_error_with_their_place(folder: Path) -> None:
    (folder / "contact.yaml").write_text(CONTACT.replace("== 'private'", "== == 'private'"))
    with pytest.raises(StartError, match=r"policies/contact.yaml:24:11: Invalid expression"):
        replayed([question()], folder)


def test_questions_wait_for_others_of_their_principal_within_a_bound(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "MOST_WAITING", 30_000)
    monkeypatch.setattr(replaying, "AT_ONCE", 2)
    lines = [question(principal=f"u-{at % 7}", attributes={"owner": f"u-{at % 7}"}) for at in range(100)]
    outcome = replayed(lines, folder)
    assert (outcome.requests, outcome.same) == (100, 100)


roles = st.sets(st.sampled_from(["user", "admin", "guest"]), min_size=1).map(lambda found: tuple(sorted(found)))
attributes = st.fixed_dictionaries(
    {}, optional={"owner": st.sampled_from(["a", "b", 7, None]), "visibility": st.sampled_from(["private", "all"])}
)
asks = st.tuples(
    st.sampled_from(["a", "b"]), roles, st.sampled_from(["contact", "other"]),
    st.sampled_from(["list", "read", "view_phone", "create", "update", "delete", "fly"]), attributes,
)  # fmt: skip


async def recorded(found: list[Any], folder: Path) -> list[QuestionLine]:
    """The lines that the sidecar would have recorded, by the real answers."""
    lines = []
    embedded = EmbeddedCerbos(folder, binary=str(binary()))
    await embedded.start()
    pdp = Cerbos(embedded.target, timeout=10.0, now=time.monotonic)
    try:
        for number, (who, held, kind, action, attributes) in enumerate(found):
            resource = Resource(kind, str(number), action, attributes)
            asked = Question("r", Principal(who, held, {}, "", 0.0, {}), (resource,))
            (allowed,) = judge(asked, await pdp.check(asked))
            line = (question if allowed else denied)(
                principal=who, roles=held, kind=kind, id=str(number), action=action, attributes=attributes
            )
            lines.append(line)
    finally:
        await pdp.aclose()
        await embedded.stop()
    return lines


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(asks, min_size=20, max_size=60))
def test_policies_that_decided_say_the_same_again(folder: Path, found: list[Any]) -> None:
    outcome = replayed(asyncio.run(recorded(found, folder)), folder)
    assert (outcome.same, outcome.replayed) == (len(found), len(found))
