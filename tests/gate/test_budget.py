"""How many refusals a route may give before it is put back into shadow."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.gate.budget import UNEXPECTED, Budget
from sidecar.gate.codes import Code
from sidecar.gate.decision import DENY
from sidecar.gate.mode import OF_RULES, RouteMode
from tests.gate.test_gate import NOW, World, policy
from tests.gate.test_mode import ask, bearer, gate_of, told
from tests.tokens import claims, mint


def test_it_is_spent_by_one_more_refusal_than_it_has_of_enough_principals() -> None:
    budget = Budget(3, 2, 60.0)
    assert [budget.count(who, at) for at, who in enumerate(["a", "a", "b"])] == [False] * 3
    assert (budget.count("a", 3.0), budget.spent) == (True, True)
    # it tells of it once, and stays spent
    assert (budget.count("c", 1e6), budget.spent) == (False, True)


def test_one_principal_cannot_spend_it_alone_however_often_it_is_refused() -> None:
    budget = Budget(3, 2, 60.0)
    assert not any(budget.count("a", at * 0.001) for at in range(10_000))
    assert len(budget._recent) == 4
    assert budget.count("b", 11.0)


def test_what_is_older_does_not_count() -> None:
    budget = Budget(2, 2, 60.0)
    assert not any(budget.count(who, at) for who, at in (("a", 0.0), ("b", 1.0), ("a", 60.0), ("b", 119.0)))
    assert budget.count("c", 119.5)


@example([("b", 0.0), ("b", 0.0), ("b", 1.0), ("c", 9.0), ("a", 20.0)], 1, 3)
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 20)), max_size=80), st.integers(1, 8), st.integers(2, 4)
)
def test_it_is_spent_when_a_plain_count_says_so_and_holds_little(
    refusals: list[tuple[str, float]], most: int, principals: int
) -> None:
    budget, now, seen = Budget(most, principals, 30.0), 0.0, list[tuple[float, str]]()
    for who, pause in refusals:
        now += pause
        seen = [(at, other) for at, other in (*seen, (now, who)) if at > now - 30.0]
        spends = len(seen) > most and len({other for _, other in seen}) >= principals
        assert budget.count(who, now) is spends
        assert len(budget._recent) <= max(most, (principals - 1) * (most + 1))
        if budget.spent:
            break


def test_only_what_rules_and_policies_say_of_a_known_principal_counts_and_no_fault_of_a_dependency() -> None:
    assert {Code.ITEMS_UNREADABLE, Code.ITEMS_TOO_MANY} == UNEXPECTED - OF_RULES
    assert all(code.dependency is None for code in UNEXPECTED)
    assert not {Code.TOKEN_MISSING, Code.REFERENCE_INVALID, Code.ROUTE_UNMAPPED, Code.METHOD_UNMAPPED} & UNEXPECTED


async def test_once_it_is_spent_everybody_is_in_the_other_mode() -> None:
    budget = Budget(1, 2, 60.0)
    mode = RouteMode(100, "shadow-policy", budget)
    world = World()
    world.effect = DENY
    gate = gate_of(world, policy("/some", {"GET": "view"}, mode=mode)._replace(mode=mode), mode="enforce")
    refused = await ask(gate, world, "/some", bearer())
    assert told(refused) == ("refuse", "denied_by_policy", "enforce")
    assert refused.facts.budget is budget
    assert mode.modes == {"enforce", "shadow-policy"}
    assert mode.shares() == {"enforce": 1.0, "shadow-policy": 0.0, "shadow": 0.0}
    budget.spent = True
    for who in (bearer(), bearer(mint(claims(NOW) | {"sub": "other"}))):
        assert told(await ask(gate, world, "/some", who)) == ("shadow", "denied_by_policy", "shadow-policy")
    assert told(await ask(gate, world, "/some"))[:2] == ("refuse", "token_missing")
    assert mode.shares() == {"enforce": 0.0, "shadow-policy": 1.0, "shadow": 0.0}
    assert str(mode).endswith("budget spent")
    # whoever only asks is told what enforcing would do, and counts nowhere
    asked = await ask(gate_of(world, policy("/some", {"GET": "view"}, mode=mode)), world, "/some", bearer())
    assert (told(asked)[0], asked.facts.budget) == ("refuse", None)
