"""The stand-in of the hosted UI signs users in as Cognito's does: codes, tokens, refresh, revocation, sign-out."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo.cognito import USERS, LocalCognito, User
from sidecar.demo.hosted_ui import Config, HostedUIServer
from sidecar.demo.processes import DemoError, can_listen
from tests.signing_in import (
    VERIFIER,
    App,
    Browser,
    authorize_url,
    challenge_of,
    forms,
    parameters_of,
    principal_of,
    problem,
)

CALLBACK = "http://127.0.0.1:8080/callback"
SIGNED_OUT = "http://127.0.0.1:8080/"

Start = Callable[..., HostedUIServer]


@pytest.fixture(scope="module")
def hosted(cognito: LocalCognito, free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("hosted")
    callbacks = [CALLBACK, f"{CALLBACK}?app=1"]
    with HostedUIServer(
        cognito, free_port(), folder, os.environ, redirect_uris=callbacks, logout_uris=[SIGNED_OUT]
    ) as running:
        yield running


@pytest.fixture
def start(cognito: LocalCognito, free_port: Callable[[], int], tmp_path: Path) -> Iterator[Start]:
    """Starts another one, with options of its own."""
    running: list[HostedUIServer] = []

    def begin(**options: Any) -> HostedUIServer:
        asked = {"redirect_uris": [CALLBACK], "logout_uris": [SIGNED_OUT], **options}
        running.append(HostedUIServer(cognito, free_port(), tmp_path, os.environ, **asked))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


@pytest.fixture
def app(hosted: HostedUIServer, cognito: LocalCognito) -> App:
    return App(hosted.domain, cognito.client_id)


def code_for(app: App, user: str = "alice", **parameters: str | None) -> str:
    """A code that the browser of a user brings back."""
    password = next(one.password for one in USERS if one.name == user)
    answer = Browser().sign_in(authorize_url(app.domain, app.client_id, CALLBACK, **parameters), user, password)
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith(f"{CALLBACK}?code=")
    return parameters_of(answer)["code"]


def tokens_for(app: App, user: str = "alice", **parameters: str | None) -> dict[str, Any]:
    """The tokens of a user."""
    answer = app.redeem(code_for(app, user, **parameters), CALLBACK)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    tokens: dict[str, Any] = answer.json()
    return tokens


async def test_the_code_flow_gives_tokens_that_the_sidecar_takes(
    hosted: HostedUIServer, cognito: LocalCognito, app: App
) -> None:
    """Claims as AWS's guide lists them, in both tokens; the sidecar verifies both with the pool's own key set."""
    began = int(time.time())
    answer = Browser().sign_in(authorize_url(hosted.domain, cognito.client_id, CALLBACK), "alice", "Alice-1234")
    back = parameters_of(answer)
    assert set(back) == {"code", "state"}
    assert back["state"] == "state-1"
    tokens = app.redeem(back["code"], CALLBACK).json()
    assert set(tokens) == {"access_token", "id_token", "refresh_token", "token_type", "expires_in"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 3600)
    access = await principal_of(cognito, tokens["access_token"], "access")
    identity = await principal_of(cognito, tokens["id_token"], "id")
    assert (access.id, access.roles) == (identity.id, identity.roles) == ("alice", ("user",))
    both = {"sub", "iss", "token_use", "auth_time", "exp", "iat", "jti", "origin_jti", "cognito:groups"}
    assert set(access.claims) == both | {"client_id", "username", "scope", "version"}
    assert set(identity.claims) == both | {
        "aud", "cognito:username", "email", "email_verified", "nonce", "at_hash",
    }  # fmt: skip
    assert access.claims["scope"] == "openid email"
    assert identity.claims["nonce"] == "nonce-1"
    assert (identity.claims["email"], identity.claims["email_verified"]) == ("alice@example.com", True)
    assert access.claims["origin_jti"] == identity.claims["origin_jti"]
    assert access.claims["jti"] != identity.claims["jti"]
    for claims in (access.claims, identity.claims):
        assert began <= claims["auth_time"] <= claims["iat"] <= began + 60
        assert claims["exp"] == claims["iat"] + 3600


async def test_an_admin_has_the_admins_group(cognito: LocalCognito, app: App) -> None:
    principal = await principal_of(cognito, tokens_for(app, "admin")["access_token"], "access")
    assert principal.roles == ("admin",)


async def test_scopes_say_what_is_in_the_tokens(cognito: LocalCognito, app: App) -> None:
    """Without `openid` no id token; without `email` no address in it; and without `scope` all of them."""
    assert "id_token" not in tokens_for(app, scope="aws.cognito.signin.user.admin")
    identity = await principal_of(cognito, tokens_for(app, scope="openid")["id_token"], "id")
    assert {"email", "email_verified"}.isdisjoint(identity.claims)
    access = await principal_of(cognito, tokens_for(app, scope=None)["access_token"], "access")
    assert access.claims["scope"] == "openid email phone profile aws.cognito.signin.user.admin"


async def test_without_a_nonce_there_is_none(cognito: LocalCognito, app: App) -> None:
    identity = await principal_of(cognito, tokens_for(app, nonce=None)["id_token"], "id")
    assert "nonce" not in identity.claims


def test_a_wrong_verifier_gives_nothing_and_spends_the_code(app: App) -> None:
    code = code_for(app)
    assert problem(app.redeem(code, CALLBACK, VERIFIER + "x")) == (400, "invalid_grant")
    assert problem(app.redeem(code, CALLBACK)) == (400, "invalid_grant")


def test_a_code_is_good_once(app: App) -> None:
    code = code_for(app)
    assert app.redeem(code, CALLBACK).status_code == 200
    assert problem(app.redeem(code, CALLBACK)) == (400, "invalid_grant")


def test_a_code_comes_back_with_the_redirect_uri_it_went_to(app: App) -> None:
    assert problem(app.redeem(code_for(app), f"{CALLBACK}?app=1")) == (400, "invalid_grant")


def test_a_redirect_uri_may_have_a_query(hosted: HostedUIServer, app: App) -> None:
    url = authorize_url(hosted.domain, app.client_id, f"{CALLBACK}?app=1", state="a b&c=d")
    answer = Browser().sign_in(url, "bob", "Bobby-1234")
    back = parameters_of(answer)
    assert (back["app"], back["state"]) == ("1", "a b&c=d")
    assert app.redeem(back["code"], f"{CALLBACK}?app=1").status_code == 200


def test_a_code_ends(start: Start, cognito: LocalCognito) -> None:
    app = App(start(code_seconds=0.3).domain, cognito.client_id)
    code = code_for(app)
    time.sleep(0.35)
    answer = app.redeem(code, CALLBACK)
    assert (problem(answer), answer.json()["error_description"]) == ((400, "invalid_grant"), "code: expired")


async def test_a_confidential_client_shows_its_secret(hosted: HostedUIServer, cognito: LocalCognito, app: App) -> None:
    own = App(hosted.domain, cognito.confidential_client_id, cognito.confidential_client_secret)
    tokens = tokens_for(own)
    for name, use in (("access_token", "access"), ("id_token", "id")):
        assert (await principal_of(cognito, tokens[name], use, own.client_id)).id == "alice"
    assert app.userinfo(tokens["access_token"]).json()["username"] == "alice"
    for wrong in (App(hosted.domain, own.client_id), App(hosted.domain, own.client_id, "guess")):
        assert problem(wrong.redeem(code_for(own), CALLBACK)) == (400, "invalid_client")
        assert problem(wrong.refresh(tokens["refresh_token"])) == (400, "invalid_client")
        assert problem(wrong.revoke(tokens["refresh_token"])) == (401, "invalid_client")
    # another client's code and refresh token
    assert problem(app.redeem(code_for(own), CALLBACK)) == (400, "invalid_grant")
    assert problem(app.refresh(tokens["refresh_token"])) == (400, "invalid_grant")
    assert problem(app.revoke(tokens["refresh_token"])) == (400, "invalid_grant")
    assert own.refresh(tokens["refresh_token"]).status_code == 200


async def test_a_refresh_gives_new_tokens_of_the_same_sign_in(cognito: LocalCognito, app: App) -> None:
    """No new refresh token without rotation; OpenID Connect Core section 12.2: the id token "SHOULD NOT have a nonce"."""
    tokens = tokens_for(app)
    time.sleep(1.1)
    fresh = app.refresh(tokens["refresh_token"]).json()
    assert set(fresh) == {"access_token", "id_token", "token_type", "expires_in"}
    for name, use in (("access_token", "access"), ("id_token", "id")):
        old, new = [await principal_of(cognito, one[name], use) for one in (tokens, fresh)]
        assert new.claims["jti"] != old.claims["jti"]
        assert new.claims["iat"] > old.claims["iat"]
        assert new.claims["auth_time"] == old.claims["auth_time"]
        assert new.claims["origin_jti"] == old.claims["origin_jti"]
        assert new.claims.get("scope") == old.claims.get("scope")
        assert "nonce" not in new.claims
    assert app.refresh(tokens["refresh_token"]).status_code == 200


async def test_tokens_live_as_long_as_asked(start: Start, cognito: LocalCognito) -> None:
    app = App(start(token_seconds=1).domain, cognito.client_id)
    tokens = tokens_for(app)
    assert tokens["expires_in"] == 1
    time.sleep(1.1)
    assert problem(app.userinfo(tokens["access_token"])) == (401, "invalid_token")
    assert app.refresh(tokens["refresh_token"]).json()["expires_in"] == 1


def test_rotation_gives_a_new_refresh_token_each_time(start: Start, cognito: LocalCognito) -> None:
    app = App(start(rotation_grace=0).domain, cognito.client_id)
    first = tokens_for(app)["refresh_token"]
    second = app.refresh(first).json()["refresh_token"]
    assert problem(app.refresh(first)) == (400, "invalid_grant")
    third = app.refresh(second).json()["refresh_token"]
    assert len({first, second, third}) == 3


def test_rotation_with_grace_forgives_two_at_once(start: Start, cognito: LocalCognito) -> None:
    app = App(start(rotation_grace=60).domain, cognito.client_id)
    first = tokens_for(app)["refresh_token"]
    given = [app.refresh(first).json()["refresh_token"] for _ in range(2)]
    assert len({first, *given}) == 3
    assert all(app.refresh(token).status_code == 200 for token in given)


async def test_a_revoked_grant_ends_everywhere_but_in_a_local_check(cognito: LocalCognito, app: App) -> None:
    tokens, other = tokens_for(app), tokens_for(app)
    fresh = app.refresh(tokens["refresh_token"]).json()
    answer = app.revoke(tokens["refresh_token"])
    assert (answer.status_code, answer.content) == (200, b"")
    assert problem(app.refresh(tokens["refresh_token"])) == (400, "invalid_grant")
    for one in (tokens, fresh):
        assert problem(app.userinfo(one["access_token"])) == (401, "invalid_token")
        assert (await principal_of(cognito, one["access_token"], "access")).id == "alice"
    # another sign-in of the same user is not touched
    assert app.userinfo(other["access_token"]).status_code == 200
    assert app.refresh(other["refresh_token"]).status_code == 200
    # RFC 7009 section 2.2: "invalid tokens do not cause an error response"
    assert [app.revoke(token).status_code for token in (tokens["refresh_token"], "nonsense")] == [200, 200]


def test_only_refresh_tokens_can_be_revoked(app: App) -> None:
    tokens = tokens_for(app)
    for name in ("access_token", "id_token"):
        assert problem(app.revoke(tokens[name])) == (400, "unsupported_token_type")
    assert app.userinfo(tokens["access_token"]).status_code == 200


def test_userinfo_tells_what_the_scopes_allow(cognito: LocalCognito, app: App) -> None:
    tokens = tokens_for(app)
    told = app.userinfo(tokens["access_token"]).json()
    assert told.pop("sub")
    assert told == {"username": "alice", "email": "alice@example.com", "email_verified": "true"}
    assert "email" not in app.userinfo(tokens_for(app, scope="openid")["access_token"]).json()
    without = tokens_for(app, scope="aws.cognito.signin.user.admin")
    for token in (tokens["id_token"], tokens["refresh_token"], without["access_token"], cognito.token("alice"), "x"):
        answer = app.userinfo(token)
        assert problem(answer) == (401, "invalid_token")
        assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
    assert problem(app.http.get(f"{app.domain}/oauth2/userInfo")) == (400, "invalid_request")


def test_a_global_sign_out_ends_tokens_and_session(hosted: HostedUIServer, cognito: LocalCognito, app: App) -> None:
    browser, url = Browser(), authorize_url(hosted.domain, cognito.client_id, CALLBACK)
    code = parameters_of(browser.sign_in(url, "bob", "Bobby-1234"))["code"]
    late = parameters_of(browser.open(url))["code"]
    tokens = app.redeem(code, CALLBACK).json()
    assert app.userinfo(tokens["access_token"]).status_code == 200
    cognito.sign_out_everywhere("bob")
    assert problem(app.userinfo(tokens["access_token"])) == (401, "invalid_token")
    assert problem(app.refresh(tokens["refresh_token"])) == (400, "invalid_grant")
    assert problem(app.redeem(late, CALLBACK)) == (400, "invalid_grant")
    # not around in circles: the user is asked
    assert browser.open(url).status_code == 200


def test_who_has_signed_in_is_not_asked_again(hosted: HostedUIServer, cognito: LocalCognito, app: App) -> None:
    """The session is a cookie of one hour. `auth_time` is that of the sign-in."""
    browser, url = Browser(), authorize_url(hosted.domain, cognito.client_id, CALLBACK)
    first = browser.sign_in(url, "alice", "Alice-1234")
    cookie = next(line for line in first.headers.get_list("set-cookie") if line.startswith("cognito="))
    for part in ("HttpOnly", "Max-Age=3600", "Path=/", "SameSite=lax"):
        assert part in cookie
    again = browser.open(authorize_url(hosted.domain, cognito.client_id, CALLBACK, state="second", prompt="none"))
    assert (again.status_code, parameters_of(again)["state"]) == (302, "second")
    assert app.redeem(parameters_of(again)["code"], CALLBACK).status_code == 200
    assert browser.open(url + "&prompt=login").status_code == 200
    assert browser.open(url.replace("/oauth2/authorize", "/login")).status_code == 200


def test_logout_ends_the_session_and_no_grant(hosted: HostedUIServer, cognito: LocalCognito, app: App) -> None:
    browser, url = Browser(), authorize_url(hosted.domain, cognito.client_id, CALLBACK)
    code = parameters_of(browser.sign_in(url, "alice", "Alice-1234"))["code"]
    stolen = browser.http.cookies["cognito"]
    out = browser.open(f"{hosted.domain}/logout?client_id={cognito.client_id}&logout_uri={SIGNED_OUT}")
    assert (out.status_code, out.headers["location"]) == (302, SIGNED_OUT)
    assert "cognito" not in browser.http.cookies
    assert browser.open(url).status_code == 200
    # the cookie's value is worth nothing any more
    browser.http.cookies.set("cognito", stolen, domain="127.0.0.1")
    assert browser.open(url).status_code == 200
    assert app.refresh(app.redeem(code, CALLBACK).json()["refresh_token"]).status_code == 200


def test_logout_with_an_authorization_request_asks_anew(hosted: HostedUIServer, cognito: LocalCognito) -> None:
    browser, url = Browser(), authorize_url(hosted.domain, cognito.client_id, CALLBACK)
    browser.sign_in(url, "alice", "Alice-1234")
    out = browser.open(url.replace("/oauth2/authorize", "/logout"))
    assert out.headers["location"] == url.removeprefix(hosted.domain).replace("/oauth2/authorize", "/login")
    page = browser.open(hosted.domain + out.headers["location"])
    assert parameters_of(browser.submit(forms(page)[0], username="bob", password="Bobby-1234"))["code"]


def test_a_sign_out_url_must_be_registered(hosted: HostedUIServer, cognito: LocalCognito) -> None:
    """Nobody is sent anywhere else, and nobody is signed out by such a link."""
    browser, url = Browser(), authorize_url(hosted.domain, cognito.client_id, CALLBACK)
    browser.sign_in(url, "alice", "Alice-1234")
    for query in (f"client_id={cognito.client_id}&logout_uri=http://evil.example/", f"logout_uri={SIGNED_OUT}", ""):
        out = browser.open(f"{hosted.domain}/logout?{query}")
        assert (out.status_code, out.headers.get("location")) == (400, None)
    assert browser.open(url).status_code == 302


def test_a_temporary_password_is_changed_at_the_first_sign_in(
    hosted: HostedUIServer, cognito: LocalCognito, app: App
) -> None:
    browser, url = Browser(), authorize_url(hosted.domain, cognito.client_id, CALLBACK)
    page = browser.sign_in(url, "carol", "Carol-1234")
    assert page.status_code == 200
    assert "Choose a new password" in page.text
    form = forms(page)[0]
    for password, again, said in (
        ("Better-9876", "Bitter-9876", "The two passwords are not the same."),
        ("short", "short", "Password"),
    ):
        refused = browser.submit(form, new_password=password, confirm_password=again)
        assert (refused.status_code, said in refused.text) == (400, True)
    # whose challenge it is, the form cannot say
    answer = browser.submit(form, new_password="Better-9876", confirm_password="Better-9876", username="alice")
    code = parameters_of(answer)["code"]
    told = app.userinfo(app.redeem(code, CALLBACK).json()["access_token"]).json()
    assert told["username"] == "carol"
    assert browser.submit(form, new_password="Again-9876", confirm_password="Again-9876").status_code == 403
    assert Browser().sign_in(url, "carol", "Better-9876").status_code == 303
    assert Browser().sign_in(url, "alice", "Alice-1234").status_code == 303


def test_it_is_gone_when_it_was_stopped(cognito: LocalCognito, free_port: Callable[[], int], tmp_path: Path) -> None:
    """No process, and its port is free; while it runs, its file is for its owner alone."""
    port = free_port()
    with HostedUIServer(
        cognito, port, tmp_path, os.environ, redirect_uris=[CALLBACK], logout_uris=[SIGNED_OUT]
    ) as hosted:
        assert hosted.domain == f"http://127.0.0.1:{port}"
        assert stat.S_IMODE((tmp_path / "hosted-ui.json").stat().st_mode) == 0o600
        code_for(App(hosted.domain, cognito.client_id))
        assert not can_listen(port)
    with pytest.raises(DemoError, match="hosted-ui ended"):
        hosted.process.check()
    assert can_listen(port)


def test_it_says_nothing_that_should_not_be_said(start: Start, cognito: LocalCognito, tmp_path: Path) -> None:
    app = App(start().domain, cognito.client_id)
    tokens_for(app)
    assert (tmp_path / "hosted-ui.log").read_text() == ""


@pytest.mark.parametrize("uri", ["/callback", "http:///callback", "127.0.0.1:8080", "http://a/#b", "http://a/#"])
def test_a_uri_that_cannot_be_registered_is_named(cognito: LocalCognito, tmp_path: Path, uri: str) -> None:
    for callbacks, signed_out in (([uri], []), ([], [uri])):
        with pytest.raises(ValueError, match="expected an absolute one without a fragment") as caught:
            HostedUIServer(cognito, 1, tmp_path, os.environ, redirect_uris=callbacks, logout_uris=signed_out)
        assert repr(uri) in str(caught.value)


def test_a_config_survives_its_file(tmp_path: Path) -> None:
    users = (User("eve", "Evening-1", ("night", "day"), "eve@example.com", True), User("bob", "x", ()))
    config = Config(1, "http://p", "https://i", "c", {"c": None, "d": "s"}, (CALLBACK,), (), users, 5, 0.5, 2.0)
    config.write(tmp_path / "config.json")
    assert Config.read(tmp_path / "config.json") == config
    assert json.loads((tmp_path / "config.json").read_text())["rotation_grace"] == 2.0


def test_challenges_are_made_as_the_rfc_has_it() -> None:
    """RFC 7636, appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
