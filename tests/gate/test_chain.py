"""Lookups that read what another one gave, through the gate: order, values, and what a client learns of them."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from jwt import PyJWK

from sidecar.gate.body import Show, Viewer
from sidecar.gate.codes import Code
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Result
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.lookup import Call, Reply
from sidecar.gate.request import Raw, Reading
from sidecar.gate.verdict import Forward, Refuse, Refused, Verdict
from tests.config.routes.reading import read_once
from tests.fakes import OneByOne
from tests.gate.test_gate import NOW, TOKEN
from tests.tokens import CLIENT, ISSUER, public_key

ROUTES = """\
version: 1
lookups:
  contact: {url: "http://h/contacts/{id}", attributes: {account: account_id, owner: owner}, optional: [account, owner]}
  account:
    url: "http://h/accounts/{lookup.contact.account}"
    attributes: {tier: tier, role: "members[?id=='{principal.id}'].role | [0]", mine: "to_string(owner == '{lookup.contact.account}')"}
    optional: [role]
    missing: MISSING
  limits: {url: "http://h/limits/{id}", attributes: {limit: "limit:int"}}
routes:
  - path: /contacts/{id}
    resource: contact
    id: "{path.id}"
    attributes: {tier: "{header.x-tier}", tenant: "{principal.id}"}
    lookup: [contact, account, limits]
    actions: {GET: read}
  - path: /archive
    resource: contact
    each: {at: "{body.ids}", id: "@:string", lookup: [contact, account, limits]}
    actions: {POST: archive}
"""


class World(OneByOne):
    """The ports. `documents` are the answers by their URL; what is not there is 404."""

    def __init__(self, missing: str = "deny") -> None:
        self.routes = ROUTES.replace("MISSING", missing)
        self.documents: dict[str, Any] = {
            "/contacts/7": {"account_id": "a1", "owner": "alice"}, "/limits/7": {"limit": 5},
            "/contacts/8": {"account_id": "a2", "owner": "alice"}, "/limits/8": {"limit": 6},
            "/accounts/a1": {"tier": "gold", "owner": "a1", "members": [{"id": "a-1", "role": "boss"}, {"id": "b", "role": "x"}]},
            "/accounts/a2": {"tier": "iron", "owner": "x", "members": []},
        }  # fmt: skip
        self.told: list[str] = []
        self.question: Question | None = None
        self.effect = ALLOW
        self.slow: dict[str, asyncio.Event] = {}

    async def find(self, issuer: str, kid: str) -> PyJWK:
        return public_key("k1")

    async def ask(self, call: Call) -> Reply:
        self.told.append(call.question)
        if call.question in self.slow:
            await self.slow[call.question].wait()
        document = self.documents.get(call.question)
        if isinstance(document, Refused):
            raise document
        if document is None:
            return Reply(404, "", b"")
        return Reply(200, "application/json", json.dumps(document).encode())

    async def check(self, question: Question) -> PdpAnswer:
        self.question = question
        results = [
            Result(one.kind, one.id, {one.action: self.effect}, False, {one.action: "p"}) for one in question.resources
        ]
        return PdpAnswer(question.request_id, "call", tuple(results))

    async def send(self, target: str, body: Any = None) -> Verdict:
        routes = read_once(self.routes)
        tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), self.find)
        gate = Gate(
            Rules(routes.table, routes.lookups, tokens, Reading()), self, self, now=lambda: NOW,
            timer=itertools.count().__next__,
        )  # fmt: skip
        data = b"" if body is None else json.dumps(body).encode()
        headers = [(b"host", b"a"), (b"authorization", b"Bearer " + TOKEN), (b"x-tier", b"mallory")]
        if data:
            headers += [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]

        async def read(limit: int, show: Show, viewer: Viewer) -> None:
            show(data)

        method = "GET" if body is None else "POST"
        return await gate.decide(Raw(method, target.encode(), headers, "", "http", "r1", False, None, True), read)

    def asked(self) -> list[tuple[str, dict[str, Any]]]:
        return [(one.id, dict(one.attributes)) for one in self.question.resources] if self.question else []


def refused(verdict: Verdict) -> Refuse:
    assert isinstance(verdict, Refuse), verdict
    return verdict


OF_7 = {
    "tenant": "a-1", "account": "a1", "owner": "alice", "tier": "gold", "role": "boss", "mine": "true", "limit": 5,
}  # fmt: skip


async def test_a_lookup_is_asked_with_what_the_one_before_it_gave() -> None:
    world = World()
    verdict = await world.send("/contacts/7")
    assert isinstance(verdict, Forward)
    # what a client says of the tier does not stand in for what the second lookup says
    assert world.asked() == [("7", OF_7)]
    assert sorted(world.told) == ["/accounts/a1", "/contacts/7", "/limits/7"]
    assert world.told.index("/contacts/7") < world.told.index("/accounts/a1")
    assert {"lookup", "decision"} <= set(verdict.facts.stages)


@pytest.mark.parametrize("slow", ["/limits/7", "/contacts/7"])
async def test_those_that_do_not_wait_for_one_another_are_asked_at_once(slow: str) -> None:
    world = World()
    world.slow = {slow: asyncio.Event()}
    sent = asyncio.create_task(world.send("/contacts/7"))
    others = {"/limits/7", "/contacts/7"} if slow == "/contacts/7" else {"/limits/7", "/contacts/7", "/accounts/a1"}
    async with asyncio.timeout(5):
        while set(world.told) != others:
            await asyncio.sleep(0)
    world.slow[slow].set()
    assert isinstance(await sent, Forward)


async def test_each_of_many_has_its_own_chain() -> None:
    world = World()
    assert isinstance(await world.send("/archive", {"ids": ["7", "8", "7"]}), Forward)
    of_8 = {"account": "a2", "owner": "alice", "tier": "iron", "mine": "false", "limit": 6}
    assert world.asked() == [("7", {name: value for name, value in OF_7.items() if name != "tenant"}), ("8", of_8)]
    assert len(world.told) == 6


@pytest.mark.parametrize("target", ["/contacts/7", "/archive"])
@pytest.mark.parametrize("document", [{}, {"account_id": None}])
async def test_where_the_first_does_not_give_what_the_second_reads_nobody_decides(target: str, document: Any) -> None:
    world = World()
    world.documents["/contacts/7"] = document
    refusal = refused(await world.send(target, {"ids": ["7", "8"]} if target == "/archive" else None))
    assert (refusal.code, refusal.client_code) == (Code.LOOKUP_INCOMPLETE, Code.LOOKUP_INCOMPLETE)
    assert refusal.detail == "{lookup.contact.account}: found nothing, since lookups.contact gave no account"
    assert (world.question, [told for told in world.told if told == "/accounts/None"]) == (None, [])


@pytest.mark.parametrize("account", [7, True, 1.5, "", "..", ".", "a\nb", "x" * 1025])
async def test_what_is_no_text_for_one_segment_is_a_fault_of_the_hook_and_not_of_the_client(account: Any) -> None:
    world = World()
    world.documents["/contacts/7"] = {"account_id": account}
    assert refused(await world.send("/contacts/7")).code is Code.LOOKUP_MISMATCH
    assert world.question is None


@pytest.mark.parametrize("account", ["a/../b", "a?x=1", "a#b", "ä b", "%2e%2e", "{id}", "a,b;c"])
async def test_what_the_first_gives_is_one_segment_whatever_it_holds(account: str) -> None:
    world = World()
    world.documents["/contacts/7"] = {"account_id": account}
    assert refused(await world.send("/contacts/7")).code is Code.RESOURCE_MISSING
    (asked,) = [told for told in world.told if told.startswith("/accounts/")]
    assert asked.isascii()
    assert not set(asked.removeprefix("/accounts/")) & set("/?#{} ,;")


@pytest.mark.parametrize(
    ("missing", "told"),
    [("deny", Code.DENIED_BY_POLICY), ("hide", Code.RESOURCE_HIDDEN), ("empty", Code.DENIED_BY_POLICY)],
)
async def test_a_client_learns_not_which_of_them_is_missing(missing: str, told: Code) -> None:
    """The second lookup hides: then the first one does, and the policy, or their codes tell which ids there are."""
    answers = []
    for gone, effect in (("/contacts/7", ALLOW), ("/accounts/a1", ALLOW), ("/limits/7", ALLOW), ("", DENY)):
        for target in ("/contacts/7", "/archive"):
            world = World(missing)
            world.documents.pop(gone, None)
            world.effect = effect
            verdict = await world.send(target, {"ids": ["7"]} if target == "/archive" else None)
            if (missing, gone) == ("empty", "/accounts/a1"):
                assert isinstance(verdict, Forward)
                assert "tier" not in world.asked()[0][1]
            else:
                answers.append(refused(verdict).client_code)
    assert set(answers) == {told}


async def test_one_that_is_missing_is_not_asked_about_further_and_the_others_are() -> None:
    world = World()
    del world.documents["/contacts/7"]
    refusal = refused(await world.send("/archive", {"ids": ["7", "8"]}))
    assert (refusal.client_code, refusal.more) == (Code.DENIED_BY_POLICY, {"each": {"asked": 2, "denied": 1}})
    assert [told for told in world.told if told.startswith("/accounts/")] == ["/accounts/a2"]
    assert [name for name, _ in world.asked()] == ["8"]


@pytest.mark.parametrize("where", ["/contacts/7", "/accounts/a1", "/limits/7"])
@pytest.mark.parametrize("target", ["/contacts/7", "/archive"])
async def test_any_that_has_no_answer_is_the_fault_of_all(where: str, target: str) -> None:
    world = World()
    world.documents[where] = Refused(Code.LOOKUP_TIMEOUT, "late")
    refusal = refused(await world.send(target, {"ids": ["7", "8"]} if target == "/archive" else None))
    assert (refusal.code, world.question) == (Code.LOOKUP_TIMEOUT, None)
