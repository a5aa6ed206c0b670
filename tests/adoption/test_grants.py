"""Which grants explain what the app did."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from sidecar.adoption.evidence import Evidence, RequestGroup
from sidecar.adoption.grants import Action, Enough, Grant, actions_of
from tests.adoption.recorded import question


def action_of(*rows: tuple[str, int, int], enough: Enough | None = None) -> Action:
    """Return what is granted of one action. A row: `role role/attribute`, the app's status, principals of two requests each."""
    evidence = Evidence()
    for who, status, people in rows:
        roles, _, own = who.partition("/")
        for number in range(people):
            line = question(
                0,
                status,
                roles=tuple(sorted(roles.split())),
                principal=f"{who}-{number}",
                owner=tuple(own.split()) or None,
                weight=2,
            )
            evidence.add(line)
    (action,) = actions_of(evidence.cases, enough or Enough(6, 3))
    return action


def grants(action: Action) -> set[Grant]:
    return {one.grant for one in action.granted}


def grant(roles: str, own: str | None = None) -> Grant:
    return Grant(frozenset(roles.split()), own)


def test_a_role_grants_if_everybody_who_has_it_was_admitted() -> None:
    assert grants(action_of(("user", 200, 3), ("guest", 403, 3))) == {grant("user")}


def test_of_several_roles_the_one_that_explains_it_grants() -> None:
    # user alone is refused, so that it is admin; intern always comes with user
    assert grants(action_of(("user", 403, 1), ("admin user", 200, 3), ("intern user", 403, 1))) == {grant("admin")}
    assert grants(action_of(("user", 200, 3), ("intern user", 200, 3))) == {grant("user")}


def test_owners_are_found_where_the_others_are_refused_and_where_nobody_else_asked() -> None:
    assert grants(action_of(("user/owner", 200, 3), ("user", 403, 3))) == {grant("user", "owner")}
    assert grants(action_of(("user/owner", 200, 3))) == {grant("user", "owner")}


def test_who_may_do_it_to_all_needs_no_rule_for_their_own() -> None:
    assert grants(action_of(("user/owner", 200, 3), ("user", 200, 3))) == {grant("user")}


def test_owners_and_a_role_that_may_everything_stand_beside_each_other() -> None:
    found = action_of(("user/owner", 200, 3), ("user", 403, 3), ("admin user", 200, 3), ("admin user/owner", 200, 3))
    assert grants(found) == {grant("user", "owner"), grant("admin")}


def test_the_attribute_that_is_called_owner_is_taken_of_two_that_explain_it() -> None:
    assert grants(action_of(("user/author owner_id", 200, 3), ("user", 403, 3))) == {grant("user", "owner_id")}
    assert grants(action_of(("user/author owner_id", 200, 3), ("user/owner_id", 403, 3))) == {grant("user", "author")}


def test_roles_that_were_never_apart_grant_together() -> None:
    found = action_of(("a b", 200, 3), ("a b/owner", 200, 3))
    assert grants(found) == {grant("a b")}
    assert found.granted[0].together
    assert grants(action_of(("a b/owner", 200, 3), ("a b", 403, 3))) == {grant("a b", "owner")}


def test_roles_that_grant_only_together_do() -> None:
    assert grants(action_of(("a", 403, 3), ("b", 403, 3), ("a b", 200, 3))) == {grant("a b")}


def test_too_little_evidence_grants_nothing_and_says_so() -> None:
    found = action_of(("user", 200, 2))
    assert grants(found) == set()
    assert [one.reason for one in found.ungranted] == ["too few, expected 6 requests of 3 principals"]
    assert grants(action_of(("user", 200, 3), enough=Enough(7, 3))) == set()
    assert grants(action_of(("user", 200, 3), enough=Enough(6, 4))) == set()


def test_a_few_requests_to_others_do_not_widen_what_owners_may() -> None:
    found = action_of(("user/owner", 200, 30), ("user", 200, 1))
    assert grants(found) == {grant("user", "owner")}
    assert [one.case.own for one in found.ungranted] == [frozenset()]


def test_what_the_app_decides_by_something_else_is_not_granted() -> None:
    found = action_of(("user", 200, 9), ("user", 403, 1))
    assert grants(found) == set()
    assert found.ungranted[0].reason.startswith("the app refused such requests, too")


def test_a_role_that_is_a_wildcard_grants_nothing_and_its_refusals_count() -> None:
    assert grants(action_of(("*", 200, 9))) == set()
    assert grants(action_of(("us*", 200, 9), ("user", 200, 9))) == {grant("user")}
    assert grants(action_of(("us* user", 403, 1), ("user", 200, 9))) == set()


# --- any app that decides by roles and owners ---

ROLES = ("admin", "editor", "guest", "user")
policies = st.dictionaries(st.sampled_from(ROLES), st.sampled_from(["all", "own"]))
cases = st.sets(
    st.tuples(st.frozensets(st.sampled_from(ROLES), min_size=1), st.booleans()).map(lambda one: (one[0], frozenset({"owner"} if one[1] else ()))),
    min_size=1,
)  # fmt: skip


def admits(policy: dict[str, str], roles: Iterable[str], own: Iterable[str]) -> bool:
    return any(policy.get(role) == "all" or (policy.get(role) == "own" and "owner" in own) for role in roles)


@given(policies, cases, st.data())
def test_the_draft_does_what_the_app_did_and_nothing_that_nobody_was_seen_to_do(
    policy: dict[str, str], asked: set[tuple[frozenset[str], frozenset[str]]], data: st.DataObject
) -> None:
    evidence = Evidence()
    enough = Enough(2, 2)
    seen = {one: data.draw(st.integers(1, 3)) for one in sorted(asked, key=str)}
    for (roles, own), people in seen.items():
        status = 200 if admits(policy, roles, own) else 403
        for number in range(people):
            evidence.add(
                question(
                    0, status, roles=tuple(sorted(roles)), owner=tuple(own) or None, principal=f"{roles}{own}{number}"
                )
            )
    (action,) = actions_of(evidence.cases, enough)
    for (roles, own), people in seen.items():
        if people >= 2:
            assert action.allows(roles, own) == admits(policy, roles, own)
        if not admits(policy, roles, own):
            assert not action.allows(roles, own)
    for role in ROLES:
        if action.allows({role}, {"owner"}):
            assert any(role in roles and admits(policy, roles, own) for roles, own in seen)
    covered = {one.case for one in action.ungranted}
    for roles, own in seen:
        if admits(policy, roles, own):
            assert action.allows(roles, own) != (RequestGroup("contact", "read", roles, own) in covered)
