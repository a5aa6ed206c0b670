"""Each request that is not in order gets its own answer, at the place where RFC 6749 and AWS's guide want it."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from sidecar.demo.authorization_server import MAX_FORM, HostedPages, back_to, hosted_ui, main, single
from sidecar.demo.cognito import USERS, LocalCognito, User
from sidecar.demo.grants import OAuthError
from sidecar.demo.hosted_ui import Config
from sidecar.demo.pool import Signer, UserPoolClient, pool_key
from tests.signing_in import VERIFIER, authorize_url, forms, parameters_of

DOMAIN = "http://sign-in.test"
CALLBACK = "https://app.test/callback"


def served(cognito: LocalCognito, http: httpx.AsyncClient, users: tuple[User, ...] = USERS) -> httpx.AsyncClient:
    """A browser at the app, which asks the pool by `http`."""
    clients = {"public": None, "confidential": "s3 cr%t:"}
    config = Config(
        1, cognito.endpoint, cognito.issuer, cognito.client_id, clients, (CALLBACK, "myapp://back"), (), users
    )  # fmt: skip
    pool = UserPoolClient(http, config.endpoint, config.pool_client)
    app = hosted_ui(config, pool, Signer(pool_key(), config.issuer, 60), lambda: 1000.0, http)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=DOMAIN)


@pytest.fixture
async def browser(cognito: LocalCognito) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as http, served(cognito, http) as client:
        yield client


def asked(**parameters: str | None) -> str:
    return authorize_url(DOMAIN, **{"client_id": "public", "redirect_uri": CALLBACK, **parameters})  # type: ignore[arg-type]


# --- the authorization endpoint ---


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (asked(client_id=None), "client_id"),
        (asked(client_id="other"), "client_id"),
        (asked() + "&client_id=public", "client_id"),
        (asked(redirect_uri=None), "redirect_uri"),
        (asked(redirect_uri=f"{CALLBACK}/"), "redirect_uri"),
        (asked(redirect_uri=f"{CALLBACK}?x=1"), "redirect_uri"),
        (asked(redirect_uri=CALLBACK.upper()), "redirect_uri"),
        (asked(redirect_uri="https://evil.test/"), "redirect_uri"),
        (asked() + "&redirect_uri=https://evil.test/", "redirect_uri"),
    ],
)
async def test_nobody_is_sent_to_a_place_that_is_not_registered(
    browser: httpx.AsyncClient, url: str, says: str
) -> None:
    """RFC 6749 section 4.1.2.1: "MUST NOT automatically redirect the user-agent to the invalid redirection URI"."""
    for path in ("/oauth2/authorize", "/login", "/logout"):
        answer = await browser.get(url.replace("/oauth2/authorize", path))
        assert (answer.status_code, "location" in answer.headers) == (400, False)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert f"{says}: expected" in answer.text
        assert "<form" not in answer.text


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (asked(response_type=None), "invalid_request"),
        (asked(response_type="code token"), "invalid_request"),
        (asked(response_type="token"), "unauthorized_client"),
        (asked(code_challenge=None), "invalid_request"),
        (asked(code_challenge="A" * 42), "invalid_request"),
        (asked(code_challenge="A" * 42 + "="), "invalid_request"),
        (asked(code_challenge="A" * 43 + "\n"), "invalid_request"),
        (asked(code_challenge_method=None), "invalid_request"),
        (asked(code_challenge_method="plain"), "invalid_request"),
        (asked(code_challenge_method="s256"), "invalid_request"),
        (asked(scope="openid root"), "invalid_scope"),
        (asked(scope="openid  email"), "invalid_scope"),
        (asked(scope="email"), "invalid_scope"),
        (asked() + "&nonce=again", "invalid_request"),
        (asked(prompt="none"), "login_required"),
        (asked(resource="crm"), "invalid_target"),
        (asked(resource="https://crm.example/mcp#x"), "invalid_target"),
    ],
)
async def test_other_faults_go_to_the_client(browser: httpx.AsyncClient, url: str, error: str) -> None:
    answer = await browser.get(url)
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(f"{CALLBACK}?error=")
    back = parameters_of(answer)
    assert (back["error"], back["state"]) == (error, "state-1")
    assert "set-cookie" not in answer.headers


async def test_a_parameter_without_a_value_was_not_sent(browser: httpx.AsyncClient) -> None:
    """RFC 6749 section 3.1."""
    page = await browser.get(asked(nonce="", state="", scope=""))
    assert page.status_code == 200
    answer = await post(browser, page, username="alice", password="Alice-1234")
    assert set(parameters_of(answer)) == {"code"}


async def post(browser: httpx.AsyncClient, page: httpx.Response, **fields: str) -> httpx.Response:
    form = forms(page)[0]
    return await browser.post(form.action, data={**form.fields, **fields})


# --- the pages ---


async def test_the_page_offers_each_user_and_shows_what_was_asked(browser: httpx.AsyncClient) -> None:
    extra = {"identity_provider": "Okta", "idp_identifier": "corp.example", "lang": "de", "login_hint": "bob"}
    page = await browser.get(asked(**extra))
    for user in USERS:
        assert f"Sign in as {user.name}" in page.text
        assert user.password in page.text
    for value in (*extra.values(), CALLBACK, "openid email"):
        assert f"<dd>{value}</dd>" in page.text
    assert re.search(r'<input id="username" [^>]*value="bob"', page.text)
    assert len(forms(page)) == 1 + len(USERS)
    for form, user in zip(forms(page)[1:], USERS, strict=True):
        assert (form.fields["username"], form.fields["password"]) == (user.name, user.password)


async def test_each_button_signs_in_as_its_user(browser: httpx.AsyncClient) -> None:
    page = await browser.get(asked())
    form = forms(page)[2]
    answer = await browser.post(form.action, data=form.fields)
    assert (answer.status_code, set(parameters_of(answer))) == (303, {"code", "state"})


async def test_a_page_may_do_no_more_than_it_needs(browser: httpx.AsyncClient) -> None:
    """No script, no frame around it, and a form of it goes to us and from there to the app."""
    page = await browser.get(asked())
    policy = page.headers["content-security-policy"]
    assert "default-src 'none';" in policy
    assert "frame-ancestors 'none'" in policy
    assert policy.endswith("form-action 'self' https://app.test")
    assert (
        (await browser.get(asked(redirect_uri="myapp://back")))
        .headers["content-security-policy"]
        .endswith("form-action 'self' myapp:")
    )
    assert (await browser.get("/login")).headers["content-security-policy"].endswith("form-action 'none'")
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    for word in ("<script", "javascript:", "style=", "//cdn", "onclick"):
        assert word not in page.text
    style = await browser.get("/style.css")
    assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "prefers-color-scheme: dark" in style.text


async def test_what_came_from_outside_is_text_on_the_page(cognito: LocalCognito) -> None:
    evil = '"><script>alert(1)</script>'
    async with (
        httpx.AsyncClient(trust_env=False) as http,
        served(cognito, http, (User(evil, evil, (evil,)),)) as client,
    ):
        first = await client.get(asked(login_hint=evil, lang=evil, state=evil))
        for page in (first, await post(client, first, username=evil, password=evil)):
            assert "<script" not in page.text
            assert "&lt;script&gt;alert(1)" in page.text


async def test_a_wrong_password_and_an_unknown_user_look_the_same(browser: httpx.AsyncClient) -> None:
    page = answer = await browser.get(asked())
    said = []
    for name, password in (("alice", "wrong"), ("nobody", "wrong")):
        answer = await post(browser, page, username=name, password=password)
        assert answer.status_code == 400
        assert "Incorrect username or password." in answer.text
        said.append(answer.text.replace(f'value="{name}"', 'value=""', 1))
        assert "cognito=" not in answer.headers.get("set-cookie", "")
    assert said[0] == said[1]
    # and the page that says so can be used
    assert (await post(browser, answer, username="alice", password="Alice-1234")).status_code == 303


async def test_a_form_of_another_site_is_not_taken(browser: httpx.AsyncClient, cognito: LocalCognito) -> None:
    page = await browser.get(asked())
    action, good = forms(page)[0].action, {"username": "alice", "password": "Alice-1234"}
    for fields in (good, {**good, "_csrf": "guess"}, {**good, "_csrf": ""}):
        answer = await browser.post(action, data=fields)
        assert answer.status_code == 403
        assert "Please try again." in answer.text
        assert "location" not in answer.headers
    browser.cookies.clear()
    assert (await browser.post(action, data={**good, **forms(page)[0].fields})).status_code == 403
    assert (await browser.post(action.replace("/login", "/changePassword"), data=good)).status_code == 403


async def test_forms_of_two_tabs_live_side_by_side(browser: httpx.AsyncClient) -> None:
    first, second = await browser.get(asked(state="one")), await browser.get(asked(state="two"))
    for page, state in ((first, "one"), (second, "two")):
        answer = await post(browser, page, username="alice", password="Alice-1234")
        assert parameters_of(answer)["state"] == state


async def test_a_changed_query_of_the_form_is_judged_again(browser: httpx.AsyncClient) -> None:
    """Whoever edits the form's target gains nothing: it is read as the authorization request was."""
    page = await browser.get(asked())
    form = forms(page)[0]
    data = {**form.fields, "username": "alice", "password": "Alice-1234"}
    evil = form.action.replace("app.test", "evil.test")
    assert (await browser.post(evil, data=data)).status_code == 400
    downgraded = re.sub(r"code_challenge=[^&]+&", "", form.action)
    assert parameters_of(await browser.post(downgraded, data=data))["error"] == "invalid_request"


async def test_a_body_that_is_no_form_gets_a_page(browser: httpx.AsyncClient) -> None:
    for content, kind in ((b"{}", "application/json"), (b"username=%ff", "application/x-www-form-urlencoded")):
        answer = await browser.post(asked().replace("/oauth2/authorize", "/login"), content=content,
                                    headers={"content-type": kind})  # fmt: skip
        assert (answer.status_code, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")


async def test_a_pool_that_is_away_is_told_on_a_page(cognito: LocalCognito) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody there", request=request)

    http = httpx.AsyncClient(transport=httpx.MockTransport(refuse))
    async with http, served(cognito, http) as client:
        answer = await post(client, await client.get(asked()), username="alice", password="Alice-1234")
    assert (answer.status_code, "The user pool does not answer." in answer.text) == (502, True)


# --- the token endpoints ---


def basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


CODE = {"grant_type": "authorization_code", "code": "x", "redirect_uri": CALLBACK, "code_verifier": VERIFIER}


@pytest.mark.parametrize(
    ("form", "headers", "error"),
    [
        ({}, {}, "invalid_request"),
        ({"client_id": "public"}, {}, "invalid_request"),
        ({"client_id": "other", **CODE}, {}, "invalid_client"),
        ({"client_id": "public", "client_secret": "x", **CODE}, {}, "invalid_client"),
        ({"client_id": "confidential", **CODE}, {}, "invalid_client"),
        (CODE, basic("confidential"), "invalid_client"),
        (CODE, basic("confidential:"), "invalid_client"),
        (CODE, basic("confidential:s3 cr%t"), "invalid_client"),
        (CODE, {"Authorization": "Basic ###"}, "invalid_client"),
        (CODE, {"Authorization": "Basic /w=="}, "invalid_client"),
        (CODE, {"Authorization": "Bearer Y29uZmlkZW50aWFsOng="}, "invalid_client"),
        ({"client_id": "public", **CODE}, basic("confidential:s3+cr%25t%3A"), "invalid_client"),
        ({"client_secret": "s3 cr%t:", **CODE}, basic("confidential:s3+cr%25t%3A"), "invalid_request"),
        # from here on the client is known
        (CODE, basic("confidential:s3+cr%25t%3A"), "invalid_grant"),
        ({"client_id": "confidential", **CODE}, basic("confidential:s3+cr%25t%3A"), "invalid_grant"),
        ({"client_id": "confidential", "client_secret": "s3 cr%t:", **CODE}, {}, "invalid_grant"),
        ({"client_id": "public", **CODE}, {}, "invalid_grant"),
        ({"client_id": "public", **CODE, "code": ""}, {}, "invalid_request"),
        ({"client_id": "public", **CODE, "redirect_uri": ""}, {}, "invalid_request"),
        ({"client_id": "public", **CODE, "code_verifier": ""}, {}, "invalid_request"),
        ({"client_id": "public", "grant_type": "refresh_token"}, {}, "invalid_request"),
        ({"client_id": "public", "grant_type": "refresh_token", "refresh_token": "x"}, {}, "invalid_grant"),
        ({"client_id": "public", "grant_type": "client_credentials"}, {}, "unsupported_grant_type"),
        ({"client_id": "public", "grant_type": "password"}, {}, "unsupported_grant_type"),
    ],
)
async def test_the_token_endpoint_names_the_fault(
    browser: httpx.AsyncClient, form: dict[str, str], headers: dict[str, str], error: str
) -> None:
    answer = await browser.post("/oauth2/token", data=form or {"x": "y"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.headers["content-type"] == "application/json;charset=UTF-8"
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"grant_type": "refresh_token"}', "application/json"),
        (b"grant_type=refresh_token", "text/plain"),
        (b"grant_type=refresh_token&grant_type=refresh_token", "application/x-www-form-urlencoded"),
        (b"client_id=%ff", "application/x-www-form-urlencoded"),
        (b"client_id=\xff", "application/x-www-form-urlencoded"),
        (b"client_id=public&x=" + b"a" * MAX_FORM, "application/x-www-form-urlencoded"),
    ],
)
async def test_a_body_that_is_no_form_is_an_invalid_request(
    browser: httpx.AsyncClient, content: bytes, kind: str
) -> None:
    for path in ("/oauth2/token", "/oauth2/revoke"):
        answer = await browser.post(path, content=content, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_form_may_name_its_charset(browser: httpx.AsyncClient) -> None:
    kind = "Application/X-WWW-Form-Urlencoded; charset=UTF-8"
    answer = await browser.post("/oauth2/revoke", content=b"client_id=public&token=x", headers={"content-type": kind})
    assert answer.status_code == 200


async def test_a_revocation_names_its_token(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/oauth2/revoke", data={"client_id": "public"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/oauth2/token"), ("GET", "/oauth2/revoke"), ("POST", "/oauth2/authorize"), ("POST", "/logout")],
)
async def test_each_endpoint_has_its_method(browser: httpx.AsyncClient, method: str, path: str) -> None:
    assert (await browser.request(method, path)).status_code == 405


# --- the parts ---


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("https://a/cb", "https://a/cb?code=c&state=x+y"),
        ("https://a/cb?p=1", "https://a/cb?p=1&code=c&state=x+y"),
        ("myapp://cb/in", "myapp://cb/in?code=c&state=x+y"),
    ],
)
def test_parameters_are_added_to_those_of_the_uri(uri: str, location: str) -> None:
    answer = back_to(uri, {"code": "c", "state": "x y", "nothing": None})
    assert (answer.status_code, answer.headers["location"]) == (302, location)


def test_a_parameter_comes_once() -> None:
    assert single([("a", "1"), ("b", "")]) == {"a": "1"}
    with pytest.raises(OAuthError, match="a: more than once"):
        single([("a", "1"), ("a", "1")])


def test_a_page_that_misses_a_value_is_a_fault() -> None:
    with pytest.raises(Exception, match="undefined"):
        HostedPages().show("error.html", title="t")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        main([str(tmp_path / "gone.json")])
