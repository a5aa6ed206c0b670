"""A hook's URL: each value is exactly one segment or query value."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.hook import Hook
from sidecar.gate.identity import Principal
from sidecar.gate.lookup import ResourceField
from sidecar.gate.references import Material, parse_reference
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.verdict import Refused

MATERIAL = Material(
    read(Raw("GET", b"/", [(b"host", b"x")], "", "http", "r"), Reading()), {"org": "a/b"}, Principal("p", ("r",), {}, "i", 1.0, {"n": 5}), None
)  # fmt: skip
HOOK = Hook("http://h", ("/c/", ResourceField.ID))


@pytest.mark.parametrize(
    ("identifier", "target"),
    [("7", "/c/7"), ("a/b", "/c/a%2Fb"), ("a?b=1#c", "/c/a%3Fb%3D1%23c"), ("é", "/c/%C3%A9"), ("%2e%2e", "/c/%252e%252e"),
     ("a@b:80", "/c/a%40b%3A80"), ("...", "/c/..."), ("{{7*7}}", "/c/%7B%7B7%2A7%7D%7D")],
)  # fmt: skip
def test_a_value_becomes_exactly_one_segment(identifier: str, target: str) -> None:
    assert HOOK.fill("contact", identifier, MATERIAL) == target


@given(st.text(st.sampled_from("aZ09._~-+/%{é \n")) | st.text(st.characters(exclude_categories=["Cs"])))
def test_what_needs_no_escape_is_written_as_all_else_is(identifier: str) -> None:
    if identifier in ("", ".", ".."):
        return
    assert HOOK.fill("contact", identifier, MATERIAL) == "/c/" + quote(identifier, safe="")


@pytest.mark.parametrize("identifier", ["", ".", ".."])
def test_a_value_that_cannot_be_a_segment_is_refused(identifier: str) -> None:
    with pytest.raises(Refused) as caught:
        HOOK.fill("contact", identifier, MATERIAL)
    assert caught.value.code is Code.REFERENCE_INVALID


def test_kind_and_references_fill_a_target_too() -> None:
    target = ("/", ResourceField.KIND, "/", parse_reference("path.org"), "?n=", parse_reference("claims.n:int"))
    assert HOOK._replace(target=target).fill("k", "7", MATERIAL) == "/k/a%2Fb?n=5"


def test_a_hook_tells_what_fills_it_and_how_it_is_asked() -> None:
    org = parse_reference("path.org")
    hook = Hook("http://h:9", ("/", org, "/", ResourceField.ID, "?all"), "s3cret")
    assert (hook.source, hook.values) == ("http://h:9", (org, ResourceField.ID))
    assert hook.shown("/a/7?all") == "GET http://h:9/a/7?all"
