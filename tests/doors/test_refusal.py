"""What a refused request gets: a problem, a page, the way to the sign-in, and its bad session taken away."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sidecar.doors.refusal import Refusals, status_of
from sidecar.gate.codes import Code
from sidecar.gate.request import Raw
from sidecar.gate.verdict import Facts, Refuse
from sidecar.pages.templates import Pages

HTML = (b"accept", b"text/html")
SESSION = (b"cookie", b"a=1; __Host-session=x; __Host-session.1=y; __Host-session.evil=z")
BEARER = (b"authorization", b"Bearer x")


def raw(*headers: tuple[bytes, bytes], method: str = "GET", target: bytes = b"/a?b=c&d=e") -> Raw:
    return Raw(method, target, list(headers), "", "http", "r1")


def sent(refusals: Refusals, code: Code, asked: Raw) -> tuple[int, list[tuple[bytes, bytes]]]:
    refuse = Refuse(code, Facts("r1", "GET", "/a"), cookies=(b"__Host-session=renewed",))
    made = refusals.whole(refuse, code, asked)
    return made.status, made.headers


@pytest.mark.parametrize(
    ("code", "challenge", "told"),
    [
        (Code.TOKEN_MISSING, b', scope="a b"', b'Bearer error="invalid_token", scope="a b"'),
        (Code.TOKEN_EXPIRED, b', x="y"', b'Bearer error="invalid_token", error_description="expired", x="y"'),
        (Code.TOKEN_INVALID, b"", b'Bearer error="invalid_token"'),
        (Code.SCOPE_MISSING, b', scope="a b"', b'Bearer error="insufficient_scope", scope="a b"'),
        (Code.SCOPE_MISSING, b"", b'Bearer error="insufficient_scope"'),
        # what another token would not mend is no matter of scopes: the client would ask for one again and again
        (Code.DENIED_BY_POLICY, b', scope="a b"', None),
    ],
)
@pytest.mark.parametrize("asked", [raw(), raw(HTML), raw(HTML, SESSION)])
def test_a_client_of_a_protected_resource_is_challenged_and_never_sent_to_the_sign_in(
    code: Code, challenge: bytes, told: bytes | None, asked: Raw
) -> None:
    refuse = Refuse(code, Facts("r1", "GET", "/a"), challenge=challenge)
    made = Refusals(login=True).whole(refuse, code, asked)
    headers = dict(made.headers)
    assert (made.status in (401, 403), headers.get(b"www-authenticate")) == (True, told)
    # a session is good elsewhere
    assert b"set-cookie" not in headers


def test_a_browser_is_sent_to_the_sign_in_and_comes_back_to_where_it_was_going() -> None:
    status, headers = sent(Refusals(login=True), Code.TOKEN_MISSING, raw(HTML))
    assert status == 302
    assert dict(headers)[b"location"] == b"/_sidecar/login?return_to=/a%3Fb%3Dc%26d%3De"
    assert dict(headers)[b"cache-control"] == b"no-store"
    assert dict(headers)[b"vary"] == b"Cookie, Authorization"


@pytest.mark.parametrize(
    "asked", [raw(), raw(HTML, method="POST"), raw(HTML, BEARER), raw(HTML)._replace(websocket=True)]
)
def test_a_program_gets_401_and_never_a_redirect(asked: Raw) -> None:
    assert sent(Refusals(login=True), Code.TOKEN_MISSING, asked)[0] == 401


BASIC = (b"authorization", b"Basic YTpi")


@pytest.mark.parametrize(
    ("code", "status"), [(Code.TOKEN_MISSING, 302), (Code.SESSION_EXPIRED, 302), (Code.TOKEN_INVALID, 401)]
)
def test_an_authorization_that_was_left_to_the_app_keeps_nobody_from_the_sign_in(code: Code, status: int) -> None:
    """Where it was judged as a token, the browser would come back with it for ever."""
    assert sent(Refusals(login=True), code, raw(HTML, BASIC, SESSION))[0] == status


FORM, NAVIGATE = (b"content-type", b"application/x-www-form-urlencoded"), (b"sec-fetch-mode", b"navigate")


@pytest.mark.parametrize(
    ("more", "page"),
    [
        ([FORM], True),
        ([(b"content-type", b"multipart/form-data; boundary=x")], True),
        ([NAVIGATE], True),
        ([FORM, (b"sec-fetch-mode", b"cors")], False),
        ([(b"content-type", b"application/json")], False),
        ([FORM, BEARER], True),
    ],
)
def test_a_form_of_a_browser_gets_a_page(more: list[tuple[bytes, bytes]], page: bool) -> None:
    status, headers = sent(Refusals(login=True), Code.SESSION_EXPIRED, raw(HTML, *more, method="POST"))
    assert (status, dict(headers)[b"content-type"].startswith(b"text/html")) == (401, page)


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        (b"https://a/form?x=1", b"/form%3Fx%3D1"),
        (b"https://evil.test/form", b"/"),
        (b"https://a@evil.test/", b"/"),
        (b"https://[", b"/"),
        (b"", b"/"),
        (b"https://a/" + b"x" * 9000, b"/"),
    ],
)
def test_the_way_back_is_a_page_of_ours(referer: bytes, back: bytes) -> None:
    asked = raw(HTML, FORM, (b"referer", referer), (b"host", b"a"), method="POST")
    made = Refusals(login=True, page=Pages().error).answer(Code.TOKEN_MISSING, "r", asked)
    assert b'href="/_sidecar/login?return_to=' + back + b'"' in made.body


def test_a_long_link_leads_to_a_login_that_can_be_read() -> None:
    made = Refusals(login=True).answer(Code.TOKEN_MISSING, "r", raw(HTML)._replace(target=b"/a?" + b"%20" * 2500))
    assert dict(made.headers)[b"location"] == b"/_sidecar/login?return_to=/a"


def test_without_a_sign_in_a_browser_gets_the_page() -> None:
    status, headers = sent(Refusals(), Code.TOKEN_MISSING, raw(HTML))
    assert (status, dict(headers)[b"content-type"]) == (401, b"text/html; charset=utf-8")


@pytest.mark.parametrize("login", [True, False])
def test_a_session_that_does_not_hold_is_taken_away(login: bool) -> None:
    _, headers = sent(Refusals(login=login), Code.SESSION_INVALID, raw(SESSION, HTML))
    assert [value.partition(b";")[0] for name, value in headers if name == b"set-cookie"] == [
        b"__Host-session=",
        b"__Host-session.1=",
    ]


def test_a_session_is_not_taken_away_for_a_bad_bearer_token_or_a_failing_store() -> None:
    for code, asked in ((Code.TOKEN_INVALID, raw(SESSION, BEARER)), (Code.SESSION_STORE_UNAVAILABLE, raw(SESSION))):
        _, headers = sent(Refusals(login=True), code, asked)
        assert not any(name == b"set-cookie" and value.endswith(b"Max-Age=0") for name, value in headers)


def test_a_renewed_session_is_kept_by_a_denied_request() -> None:
    _, headers = sent(Refusals(login=True), Code.DENIED_BY_POLICY, raw(SESSION))
    assert (b"set-cookie", b"__Host-session=renewed") in headers


class Spoken:
    """A protocol that says a code and nothing else."""

    content_type = b"text/x-code"

    def status(self, status: int) -> int:
        """See Reply."""
        return 200

    def body(self, code: Code, status: int, request_id: str, more: Mapping[str, object]) -> bytes:
        """See Reply."""
        return f"{code} {status} {request_id}".encode()


def test_a_refusal_may_be_told_in_the_protocol_of_the_body() -> None:
    facts = Facts("r1", "POST", "/a", reply=Spoken())
    made = Refusals(login=True).whole(Refuse(Code.PDP_UNAVAILABLE, facts), Code.PDP_UNAVAILABLE, raw(method="POST"))
    assert (made.status, made.body) == (200, b"pdp_unavailable 503 r1")
    headers = dict(made.headers)
    assert (headers[b"content-type"], headers[b"content-length"]) == (b"text/x-code", b"22")
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"retry-after"]
    assert status_of(facts, Code.PDP_UNAVAILABLE) == 200


def test_a_401_keeps_its_status_and_challenge_in_every_protocol() -> None:
    facts = Facts("r1", "POST", "/a", reply=Spoken())
    made = Refusals().whole(Refuse(Code.TOKEN_EXPIRED, facts), Code.TOKEN_EXPIRED, raw(method="POST"))
    assert made.status == status_of(facts, Code.TOKEN_EXPIRED) == 401
    assert dict(made.headers)[b"www-authenticate"].startswith(b"Bearer")
    assert b"token_expired" in made.body
