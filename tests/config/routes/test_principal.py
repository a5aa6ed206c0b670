"""`principal` of `routes.yaml`: claims with a type, roles with a format, and a fault for all else."""

from __future__ import annotations

import pytest

from sidecar.config.routes.file import RoutesError, read_routes
from sidecar.gate.claims import Claim, Format, RoleClaim
from sidecar.gate.identity import PrincipalRules
from sidecar.gate.values import Type
from tests.config.routes.reading import one_route, read


def rules(principal: str, more: str = "") -> PrincipalRules:
    return read_routes(f"version: 1\nprincipal: {principal}\n{more}routes: []\n", "routes.yaml", {}).principal


def test_an_attribute_is_a_claim_by_its_name_or_with_a_type() -> None:
    read = rules(
        '{attributes: {a: email, b: "custom:b", c: {claim: c}, d: {claim: "custom:d", type: bool}}, optional: a}'
    )
    assert read.attributes == {
        "a": Claim("email"), "b": Claim("custom:b"), "c": Claim("c"), "d": Claim("custom:d", Type.BOOL)
    }  # fmt: skip
    assert read.optional == {"a"}


def test_every_attribute_is_required_unless_the_file_says_otherwise() -> None:
    assert rules("{attributes: {a: email}}").optional == frozenset()


@pytest.mark.parametrize("kind", list(Type))
def test_each_type_is_one(kind: Type) -> None:
    assert rules(f"{{attributes: {{a: {{claim: a, type: {kind}}}}}}}").attributes["a"].type is kind


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("{}", [("cognito:groups", "list")]),
        ('{roles: "cognito:groups"}', [("cognito:groups", "list")]),
        ("{roles: scope}", [("scope", "text")]),
        ('{roles: [scope, "cognito:groups"]}', [("scope", "text"), ("cognito:groups", "list")]),
        ('{roles: {claim: "custom:groups", format: saml}}', [("custom:groups", "saml")]),
        ('{roles: [{claim: "custom:groups", format: list}, scope]}', [("custom:groups", "list"), ("scope", "text")]),
        ('{roles: {claim: "cognito:groups"}}', [("cognito:groups", "list")]),
        ('{roles: {claim: "cognito:groups", format: text}}', [("cognito:groups", "text")]),
    ],
)
def test_groups_are_a_list_and_other_roles_may_be_a_text(text: str, roles: list[tuple[str, str]]) -> None:
    assert rules(text).roles == tuple(RoleClaim(name, Format(kind)) for name, kind in roles)


def test_default_roles_come_with_it_and_without_it() -> None:
    for principal in ("{id: username}", "{}"):
        assert rules(principal, "defaults: {roles: [guest]}\n").default_roles == ("guest",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{optional: [level]}", "2:23: principal.optional: found 'level', expected names of `attributes`"),
        ("{attributes: {a: email}, optional: [a, b]}", "2:47: principal.optional: found 'b', expected names of `attributes`"),
        ("{attributes: {a: {type: int}}}", "2:29: principal.attributes.a: found no 'claim', expected it: the claim's name"),
        ("{attributes: {a: {claim: x, type: float}}}", "2:46: principal.attributes.a.type: found text 'float', expected string or"),
        ("{attributes: {a: {claim: x, from: access}}}", "principal.attributes.a.from: found text 'access', expected id"),
        ("{roles: {claim: x, from: token}}", "principal.roles.from: found text 'token', expected id"),
        ("{attributes: {a: [x]}}", "2:29: principal.attributes.a: found a list, expected a claim name"),
        ("{attributes: {a: 'x y'}}", "principal.attributes.a: found 'x y', expected a claim name"),
        ("{roles: {claim: g, format: json}}", "principal.roles.format: found text 'json', expected list or text or saml"),
        ("{roles: [{format: saml}]}", "principal.roles[0]: found no 'claim', expected it: the claim's name"),
        ("{roles: 5}", "principal.roles: found a number '5', expected a claim name"),
    ],
)  # fmt: skip
def test_a_fault_has_its_place(text: str, fault: str) -> None:
    with pytest.raises(RoutesError) as caught:
        rules(text)
    (problem,) = caught.value.problems
    assert fault in str(problem)


def test_an_attribute_or_role_may_be_of_the_id_token() -> None:
    text = "principal: {roles: [scope, {claim: 'custom:roles', from: id}], attributes: {email: {claim: email, from: id}, a: b}}\n"
    rules = read(one_route("{path: /x, access: public}", text)).principal
    assert rules.attributes == {"email": Claim("email", None, from_id=True), "a": Claim("b")}
    assert [(role.name, role.from_id) for role in rules.roles] == [("scope", False), ("custom:roles", True)]
    assert rules.of_id_token == {"email", "custom:roles"}
