"""A PDP's offer to ask for what it denied: what of it a client is told."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.gate.access_request import MAX_DESCRIPTION, MAX_TITLE, MAX_URL, AccessRequest, access_request_of
from sidecar.gate.codes import Code
from sidecar.gate.verdict import EachAsked, Facts, Refuse

UNTIL = "2026-04-30T20:25:00Z"
WHOLE = {
    "endpoint": "https://pdp.example.com/access/v1/requests", "template": "manager_approval", "expires_at": UNTIL,
    "binding_token": "eyJ.secret.x", "form_url": "https://requests.example.com/forms/manager?x=1&y=%20",
    "request_schema_url": "https://requests.example.com/schema.json",
    "display": {"title": "Request access", "description": "Ask <b>Zo\xeb</b>."},
}  # fmt: skip


def offered(**changes: Any) -> AccessRequest | None:
    return access_request_of({"access_request": {**WHOLE, **changes}})


def test_what_a_client_is_told_has_nothing_that_binds_it_to_the_decision() -> None:
    offer = offered()
    assert offer is not None
    assert offer.members() == {
        "form_url": WHOLE["form_url"], "template": "manager_approval", "expires_at": UNTIL, "display": WHOLE["display"],
    }  # fmt: skip
    bare = access_request_of({"access_request": {"expires_at": UNTIL}})
    assert bare is not None
    assert bare.members() == {"expires_at": UNTIL}


@pytest.mark.parametrize("context", [{}, {"access_request": None}, {"access_request": []}, {"access_request": {}}])
def test_a_denial_without_an_offer_is_one(context: dict[str, Any]) -> None:
    assert access_request_of(context) is None


@pytest.mark.parametrize(
    "time", [None, 7, "", "soon", "2026-04-30", "2026-04-30T20:25:00", f"{UNTIL}\n", "2026-04-30T20:25:00.1234567890Z"]
)
def test_an_offer_without_its_end_is_none(time: Any) -> None:
    assert offered(expires_at=time) is None


@pytest.mark.parametrize(
    "url", ["/requests?x=1", "/", "https://a.example", "https://a.example:8443/x#y", "https://a.example?x=1"]
)
def test_a_page_is_of_https_or_of_the_app(url: str) -> None:
    offer = offered(form_url=url)
    assert offer is not None
    assert offer.form_url == url


@pytest.mark.parametrize(
    "url",
    [
        None, 7, "", "http://a.example/", "HTTPS://a.example/", "javascript:alert(1)", "//evil.example", "/\\evil.example", "/a\\b", "data:text/html,x",
        "https://user@evil.example/", "https://user:x@evil.example/", "https:/evil.example", "https:evil.example", "https://", "https://a.example\\@evil/",
        "https://a.example/ x", "https://a.example/\"onclick=", "https://a.example/<b>", "https://a.example/\n", "https://a.ex\xe4mple/", "requests",
        "https://a.example/" + "x" * MAX_URL, "https://[::1]/", "ftp://a.example/",
    ],
)  # fmt: skip
def test_another_page_is_not_shown(url: Any) -> None:
    offer = offered(form_url=url)
    assert offer is not None
    assert offer.form_url == ""
    assert "form_url" not in offer.members()


@pytest.mark.parametrize("text", [7, "x" * (MAX_DESCRIPTION + 1), "a\nb", "a\u202eb", "a\u200bb", "a\x00b"])
def test_a_text_that_does_not_show_what_it_says_is_left_out(text: Any) -> None:
    offer = offered(display={"title": text, "description": text})
    assert offer is not None
    assert (offer.title, offer.description) == ("", "")
    assert len("x" * (MAX_TITLE + 1)) > MAX_TITLE


def test_only_who_is_told_of_the_denial_is_told_that_it_can_be_lifted() -> None:
    facts = Facts("r", "GET", "/", access_request=offered())
    assert "access_request" in Refuse(Code.DENIED_BY_POLICY, facts).more
    assert Refuse(Code.DENIED_BY_POLICY, facts, masked_as=Code.RESOURCE_HIDDEN).more == {}
    assert Refuse(Code.RESOURCE_MISSING, facts, masked_as=Code.DENIED_BY_POLICY).more == {}
    assert Refuse(Code.PDP_TIMEOUT, facts).more == {}
    many = Facts("r", "GET", "/", each=EachAsked(("1", "2"), ("2",)))
    assert Refuse(Code.DENIED_BY_POLICY, many).more == {"each": {"asked": 2, "denied": 1}}
