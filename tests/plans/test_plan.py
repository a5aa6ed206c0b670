"""A plan as a tree shows nothing of the principal."""

from __future__ import annotations

from sidecar.plans.plan import Conditional, Constant, PlanExpression, PlanVariable


def test_no_value_is_in_a_repr() -> None:
    tree = Conditional(PlanExpression("eq", (PlanVariable("request.resource.attr.secret"), Constant("secret"))))
    for node in (tree, tree.condition, PlanVariable("secret"), Constant(("secret",))):
        assert "secret" not in repr(node)
