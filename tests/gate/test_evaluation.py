"""How far one request came, and the rules by which it is decided."""

from sidecar.gate.decision_cache import DecisionCache
from sidecar.gate.evaluation import Rules
from sidecar.gate.identity import PrincipalRules, Tokens
from sidecar.gate.request import Reading
from sidecar.gate.routing import RouteTable
from tests.gate.test_each import World


def test_rules_with_another_way_to_tell_who_has_come_remember_nothing() -> None:
    """Or what is decided about one who is only spoken of would be remembered for the one who comes."""
    tokens, others = Tokens({}, PrincipalRules(), World().find), Tokens({}, PrincipalRules(), World().find)
    rules = Rules(RouteTable([]), {}, tokens, Reading(), DecisionCache(10.0))
    own = rules.by(others)
    assert own.tokens is others
    assert own.decisions is None
    assert (own.table, own.lookups, own.reading) == (rules.table, rules.lookups, rules.reading)
