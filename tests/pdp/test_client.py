"""Clients of a PDP, in what they have in common."""

from __future__ import annotations

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.identity import Principal
from sidecar.pdp.client import COUNTS, Client
from sidecar.record.reasons import report_nothing
from tests.fakes import Clock

ALICE = Principal("alice", ("user",), {}, "i", 1.0, {})


def client(told: list[str]) -> Client:
    def tell(principal: Principal) -> bytes:
        told.append(principal.id)
        return principal.id.encode()

    return Client(timeout=1.0, now=Clock(), limit=4, tell=tell, place="SIDECAR_CERBOS: x", report=report_nothing)


def test_a_principal_is_told_of_once_as_long_as_it_is_the_same() -> None:
    told: list[str] = []
    pdp = client(told)
    again = ALICE._replace(id="alice")
    assert [pdp.encoded_principal(each) for each in (ALICE, ALICE, again, ALICE)] == [b"alice"] * 4
    assert told == ["alice", "alice"]


@pytest.mark.parametrize("code", [*sorted(COUNTS), Code.PDP_STATUS, Code.PDP_BUSY, Code.PDP_OPEN, Code.PDP_MISMATCH])
def test_only_a_pdp_that_does_not_answer_opens_the_breaker(code: Code) -> None:
    pdp = client([])
    for _ in range(5):
        pdp._failed(code, waited=False)
    assert pdp.is_open is (code in COUNTS)


def test_a_timeout_after_a_wait_says_nothing_of_the_pdp() -> None:
    pdp = client([])
    for _ in range(5):
        pdp._failed(Code.PDP_TIMEOUT, waited=True)
    assert not pdp.is_open
    for _ in range(5):
        pdp._failed(Code.PDP_UNAVAILABLE, waited=True)
    assert pdp.is_open
