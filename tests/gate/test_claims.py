"""Claims become attributes and roles as they are declared; what is missing or of another type is never left out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.claims import GROUPS, Claim, Format, RoleClaim, attributes_from, is_name, roles_from
from sidecar.gate.codes import Code
from sidecar.gate.values import Type
from sidecar.gate.verdict import Refused

NONE: frozenset[str] = frozenset()


def read(said: dict[str, Any], kind: Type | None, *, optional: bool = False) -> Any:
    """The attribute `level` of the claim `custom:level`, or the code and the detail for which no policy may be asked."""
    found = attributes_from(
        said, {}, {"level": Claim("custom:level", kind)}, frozenset(["level"]) if optional else NONE
    )
    if found.incomplete is not None:
        assert found.values == {}
        return tuple(found.incomplete)
    return found.values.get("level", "nothing")


@pytest.mark.parametrize("said", [{}, {"custom:level": None}, {"level": 3}, {"Custom:level": 3}])
@pytest.mark.parametrize("kind", [None, *Type])
def test_a_claim_that_is_absent_or_null_is_missing_unless_it_may_be(said: dict[str, Any], kind: Type | None) -> None:
    detail = "principal.attributes.level: the token has no claim custom:level"
    assert read(said, kind) == (Code.CLAIM_MISSING, detail)
    assert read(said, kind, optional=True) == "nothing"


@pytest.mark.parametrize("value", ["", "x", "true", True, False, 0, 5, 1.5, [], ["a"], [1, "b"], "7"])
def test_without_a_type_what_a_policy_can_compare_is_taken_as_it_is(value: Any) -> None:
    found = read({"custom:level": value}, None)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        (Type.STRING, "a", "a"), (Type.STRING, "true", "true"), (Type.STRING, "5", "5"), (Type.NUMBER, 5, 5), (Type.NUMBER, 1.5, 1.5),
        (Type.NUMBER, "5", 5), (Type.NUMBER, "-0.25", -0.25), (Type.INT, 5, 5), (Type.INT, "5", 5), (Type.BOOL, True, True),
        (Type.BOOL, "true", True), (Type.BOOL, "false", False), (Type.LIST, ["a", 1], ["a", 1]), (Type.LIST, [], []),
        (Type.JSON, {"a": [1]}, {"a": [1]}), (Type.JSON, [{"a": None}], [{"a": None}]), (Type.JSON, "true", "true"),
    ],
)  # fmt: skip
def test_a_type_takes_its_json_type_or_the_text_that_is_exactly_one(kind: Type, value: Any, wanted: Any) -> None:
    found = read({"custom:level": value}, kind)
    assert (found, type(found)) == (wanted, type(wanted))


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (Type.STRING, 5, "int"), (Type.STRING, True, "bool"), (Type.STRING, ["a"], "list"), (Type.NUMBER, "5.0", "str"),
        (Type.NUMBER, "1e3", "str"), (Type.NUMBER, True, "bool"), (Type.NUMBER, "", "str"), (Type.NUMBER, "9007199254740992", "str"),
        (Type.INT, 5.0, "float"), (Type.INT, "5.5", "str"), (Type.INT, "07", "str"), (Type.INT, [5], "list"), (Type.BOOL, 1, "int"),
        (Type.BOOL, "True", "str"), (Type.BOOL, "1", "str"), (Type.BOOL, "", "str"), (Type.LIST, "a", "str"),
        (Type.LIST, "[a, b]", "str"), (Type.LIST, '["a"]', "str"), (Type.LIST, [["a"]], "list"), (Type.LIST, [None], "list"),
        (Type.LIST, {"a": 1}, "dict"), (Type.STRING, {"a": 1}, "dict"), (Type.JSON, [[[[[[1]]]]]], "list of more than 5 lists and objects within each other"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("optional", [False, True])
def test_a_claim_of_another_type_is_invalid_and_its_value_is_not_told(
    kind: Type, value: Any, found: str, optional: bool
) -> None:
    detail = f"principal.attributes.level: the claim custom:level: found {found}, expected {kind}"
    assert read({"custom:level": value}, kind, optional=optional) == (Code.CLAIM_INVALID, detail)


@pytest.mark.parametrize("text", ["", "a\0b", "x" * 1025])
def test_a_typed_text_is_of_bounded_length_and_without_controls(text: str) -> None:
    assert read({"custom:level": text}, Type.STRING)[0] is Code.CLAIM_INVALID


def test_a_list_without_a_type_may_hold_json_within_bounds() -> None:
    assert read({"custom:level": [{"a": ["b"]}]}, None) == [{"a": ["b"]}]
    assert read({"custom:level": [[[[[["deep"]]]]]]}, None)[0] is Code.CLAIM_INVALID


def test_an_object_is_taken_only_where_it_is_declared() -> None:
    assert read({"custom:level": {"a": 1}}, None) == (
        Code.CLAIM_INVALID,
        "principal.attributes.level: the claim custom:level: found an object, expected `type: json` for it",
    )


def test_every_fault_is_told_and_the_first_one_is_the_code() -> None:
    wanted = {"a": Claim("x"), "b": Claim("y", Type.INT), "c": Claim("z")}
    found = attributes_from({"y": "secret", "z": 1}, {}, wanted, NONE)
    assert found.values == {"c": 1}
    assert found.incomplete is not None
    assert found.incomplete.code is Code.CLAIM_MISSING
    assert found.incomplete.detail == (
        "principal.attributes.a: the token has no claim x; principal.attributes.b: the claim y: found str, expected int"
    )


def test_an_attribute_of_the_id_token_is_read_there_alone() -> None:
    wanted = {"email": Claim("email", Type.STRING, from_id=True), "plan": Claim("plan")}
    found = attributes_from({"email": "root@x", "plan": "free"}, {"email": "a@x", "plan": "paid"}, wanted, NONE)
    assert found == ({"email": "a@x", "plan": "free"}, None)
    without = attributes_from({"email": "root@x", "plan": "free"}, {"email": None}, wanted, NONE)
    detail = "principal.attributes.email: no id token of a session has the claim email"
    assert (without.values, without.incomplete) == ({"plan": "free"}, (Code.CLAIM_MISSING, detail))
    assert attributes_from({}, {}, wanted, frozenset(wanted)) == ({}, None)


# --- roles ---


def test_roles_of_the_id_token_are_read_there_alone() -> None:
    wanted = (RoleClaim(GROUPS, Format.LIST), RoleClaim("custom:roles", Format.TEXT, from_id=True))
    said = {GROUPS: ["user"], "custom:roles": "root"}
    assert roles_from(said, {GROUPS: ["root"], "custom:roles": "writer editor"}, wanted, ()) == (
        "editor",
        "user",
        "writer",
    )
    assert roles_from(said, {"custom:roles": None}, wanted, ()) == ("user",)
    assert roles_from({}, {}, wanted, ("guest",)) == ("guest",)
    with pytest.raises(Refused, match="custom:roles: found int"):
        roles_from(said, {"custom:roles": 5}, wanted, ())


def roles(said: dict[str, Any], *wanted: tuple[str, Format], default: tuple[str, ...] = ()) -> tuple[str, ...]:
    return roles_from(said, {}, tuple(RoleClaim(*one) for one in wanted), default)


@pytest.mark.parametrize("order", list(itertools.permutations(["user", "Admin", "b", "a:x"])))
def test_roles_have_one_order_whatever_the_tokens_is(order: tuple[str, ...]) -> None:
    said = {GROUPS: [*order, *order[:2]]}
    assert roles(said, (GROUPS, Format.LIST)) == ("Admin", "a:x", "b", "user")
    assert roles({}, (GROUPS, Format.LIST), default=(*order, order[0])) == ("Admin", "a:x", "b", "user")


def test_roles_of_several_claims_are_one_set() -> None:
    said = {"scope": "y x", GROUPS: ["user", "x"]}
    assert roles(said, ("scope", Format.TEXT), (GROUPS, Format.LIST)) == ("user", "x", "y")


@pytest.mark.parametrize(
    ("said", "found"),
    [({}, ("guest",)), ({GROUPS: []}, ("guest",)), ({GROUPS: ["user"]}, ("user",))],
)
def test_default_roles_stand_in_for_none_and_are_added_to_none(said: dict[str, Any], found: tuple[str, ...]) -> None:
    assert roles(said, (GROUPS, Format.LIST), default=("guest",)) == found


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        (Format.TEXT, "b a", ("a", "b")), (Format.TEXT, "", ()), (Format.TEXT, "admin", ("admin",)), (Format.TEXT, "[a, b]", ("[a,", "b]")),
        (Format.SAML, "[b, a]", ("a", "b")), (Format.SAML, "[b,a]", ("a", "b")), (Format.SAML, "[a]", ("a",)), (Format.SAML, "a", ("a",)),
        (Format.SAML, "[]", ()), (Format.SAML, "[Domain+Users, x%2Cy]", ("Domain+Users", "x%2Cy")),
    ],
)  # fmt: skip
def test_a_text_is_read_as_its_format_says(kind: Format, text: str, found: tuple[str, ...]) -> None:
    assert roles({"r": text}, ("r", kind)) == found


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((Format.LIST, text) for text in ("admin", "", "[admin]", "a b", '["admin"]')),
        *((Format.SAML, text) for text in (
            "", "[a", "a]", "a, b", "[a b]", "[a, b c]", "[[a], b]", "[a,, b]", "[a, ]", "[, a]", " [a]", "[a] ", "[a,  b]", "[a]\n", "[a,\tb]",
        )),
        *((kind, value) for kind in Format for value in (5, {"a": 1}, [1], [""], ["a b"], [["a"]], ["x" * 257], True, None)),
    ],
)  # fmt: skip
def test_what_is_no_list_of_names_is_refused_and_not_guessed_at(kind: Format, value: Any) -> None:
    with pytest.raises(Refused) as caught:
        roles({"r": value}, ("r", kind))
    assert caught.value.code is Code.TOKEN_INVALID
    assert caught.value.detail.startswith(
        f"r: found {'nothing' if value is None else type(value).__name__}, expected a list"
    )


@given(st.lists(st.text()))
def test_roles_are_sorted_names_each_once_or_refused(names: list[str]) -> None:
    try:
        found = roles({"r": names}, ("r", Format.LIST))
    except Refused:
        assert not all(map(is_name, names))
        return
    assert list(found) == sorted(set(names))
