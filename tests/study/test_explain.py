"""Claims in place of a token, and a PDP that remembers; the whole is tested with `sidecar explain` in test_cli.py."""

from __future__ import annotations

import pytest

from sidecar.config.routes.file import read_routes
from sidecar.gate.claims import Claim
from sidecar.gate.decision import ALLOW, PdpAnswer, Question, Resource, Result
from sidecar.gate.gate import Gate, Rules
from sidecar.gate.identity import PrincipalRules
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.verdict import Refused
from sidecar.study.explain import GivenClaims, RecordingPDP, _asked, explain

REQUEST = read(Raw("GET", b"/", [(b"host", b"x")], "", "http", "r"), Reading())


async def test_given_claims_make_a_principal_by_the_same_rules() -> None:
    principal = await GivenClaims(
        {"cognito:groups": ["user"], "email": "e@x"}, PrincipalRules(attributes={"mail": Claim("email")})
    ).principal_of(REQUEST, 0.0)
    assert (principal.id, principal.roles, principal.attributes) == ("anonymous", ("user",), {"mail": "e@x"})


async def test_given_claims_that_no_token_could_have_are_refused() -> None:
    with pytest.raises(Refused):
        await GivenClaims({"sub": "a\r\nb"}, PrincipalRules()).principal_of(REQUEST, 0.0)


async def test_a_recording_pdp_passes_on_and_remembers() -> None:
    principal = await GivenClaims({}, PrincipalRules()).principal_of(REQUEST, 0.0)
    question = Question("r", principal, ())

    class PDP:
        async def check(self, question: Question) -> PdpAnswer:
            return PdpAnswer(question.request_id, "call", ())

    recording = RecordingPDP(PDP())
    assert await recording.check(question) == PdpAnswer("r", "call", ())
    assert recording.question is question


async def test_the_scope_is_told_where_there_is_one() -> None:
    principal = await GivenClaims({}, PrincipalRules()).principal_of(REQUEST, 0.0)
    for scope, told in (("acme", ["scope      acme"]), ("", [])):
        lines = _asked(Question("r", principal, (Resource("doc", "1", "read", {}, (), scope),)))
        assert [line for line in lines if line.startswith("scope")] == told


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ("attributes: {o: '{query.owner}'}", ["query      the rule depends on owner, and any other parameter passes"]),
        ("attributes: {o: '{query.owner}'}, query: [owner]", []),
        (
            "set_query: {tenant: '{principal.id}'}",
            [
                "query      the rule depends on tenant, and any other parameter passes",
                "sent       /x?owner=b&tenant=anonymous",
            ],
        ),
        ("query: [owner], set_query: {tenant: '{principal.id}'}", ["sent       /x?owner=b&tenant=anonymous"]),
    ],
)
async def test_an_open_query_and_a_set_one_are_told(route: str, told: list[str]) -> None:
    table = read_routes(
        f"version: 1\nroutes: [{{path: /x, resource: r, actions: {{GET: a}}, {route}}}]\n", "r", {}
    ).table
    claims = GivenClaims({"cognito:groups": ["user"]}, PrincipalRules())

    class PDP:
        async def check(self, question: Question) -> PdpAnswer:
            return PdpAnswer(question.request_id, "call", (Result("r", "-", {"a": ALLOW}),))

    pdp = RecordingPDP(PDP())
    gate = Gate(Rules(table, {}, claims, Reading()), None, pdp, now=lambda: 0.0, timer=lambda: 0.0)  # type: ignore[arg-type]
    _, lines = await explain(gate, pdp, Raw("GET", b"/x?owner=b", [(b"host", b"x")], "", "http", "r"), b"")
    assert [line for line in lines if line.startswith(("query ", "sent "))] == told
