"""What the real sidecar recorded, replayed: by the policies that decided it, all of it is the same."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sidecar.adoption.replay import WITHOUT_POLICY, SkipReason
from sidecar.run.replaying import ReplayCandidate, replay
from tests.conftest import Stack, policies
from tests.stack import binary, reply
from tests.test_question_log import played

pytestmark = pytest.mark.usefixtures("embedded_shared")

REQUESTS = [
    *itertools.product(("GET", "PUT", "DELETE", "PATCH"), ("/contacts/1", "/contacts/2", "/contacts/77")),
    ("GET", "/contacts"), ("POST", "/contacts"), ("GET", "/public"), ("GET", "/me"), ("GET", "/nowhere"),
    ("GET", "/list"), ("GET", "/answer/9"),
]  # fmt: skip


@pytest.mark.parametrize("shown", ["owner", ""])
@pytest.mark.parametrize("mode", ["enforce", "shadow"])
async def test_a_recording_is_the_same_by_the_policies_that_decided_it(
    stack: Stack, tmp_path: Path, shown: str, mode: str
) -> None:
    given = {"SIDECAR_QUESTION_LOG_ATTRIBUTES": shown, "SIDECAR_MODE": mode}
    async with played(stack, tmp_path, **given) as play:
        stack.upstream.reset(reply(200, b'{"owner_id": "alice"}', "Content-Type: application/json"))
        for user, (method, path) in itertools.product(("", "alice", "admin"), REQUESTS):
            await play.ask(method, path, user)
        await play.ask("POST", "/many", "alice", json={"ids": ["1", "2"]})
        await play.ask("POST", "/many", "alice", json={"ids": ["1"]})
    outcome, revision = await replay(play.lines, ReplayCandidate(Path(policies()), binary(), strict=True))
    assert outcome.changes == {}
    assert set(outcome.revisions) == {revision}
    assert outcome.requests == 3 * len(REQUESTS) + 2
    why = {reason for reason, _ in outcome.unreplayed}
    if shown:
        assert why <= WITHOUT_POLICY
        assert outcome.same >= 20
    else:
        # of somebody else's contact nothing tells whose it is
        assert SkipReason.REDACTED in why
        assert outcome.same >= 5
