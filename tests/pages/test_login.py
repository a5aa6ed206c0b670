"""Signing in and out with our own form: what each step takes and refuses. The hosted UI has its own tests."""

from __future__ import annotations

import asyncio
import http.server
import itertools
import json
import re
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from sidecar.demo.cognito import LocalCognito, User
from sidecar.gate.own import DEVICE_COOKIE
from sidecar.gate.request import Raw, Reading, read
from sidecar.sessions.seal import Seal
from sidecar.sign_in.attempts import PER_CLIENT, PER_USER
from sidecar.sign_in.challenges import CODES, NEW_PASSWORD
from sidecar.sign_in.ledger import LocalLedger
from sidecar.sign_in.pending import PendingSignIns, begin
from sidecar.sign_in.provider import Challenge
from tests.browser.conftest import ROUTES, SECRET, environ_of, html_app
from tests.pages.jar import Jar
from tests.redis_server import NEEDS_REDIS, RedisServer
from tests.stack import ROOT, Recorder, Sidecar, running_sidecar

EVIL = "https://evil.test"


@pytest.fixture(scope="module")
def app() -> Iterator[Recorder]:
    upstream = Recorder()
    upstream.answer = html_app
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def sidecar(cognito: LocalCognito, app: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    environ = environ_of(cognito)
    folder, upstream = tmp_path_factory.mktemp("login"), f"http://127.0.0.1:{app.port}"
    with running_sidecar(folder, ROUTES, ROOT / "policies", upstream, environ, shared=True) as running:
        yield running


@pytest.fixture
def jar(sidecar: Sidecar, app: Recorder) -> Jar:
    app.reset(html_app)
    return Jar(sidecar)


def test_a_browser_is_led_to_the_form_and_back(jar: Jar) -> None:
    got = jar.get("/me?a=%20b")
    assert (got.status, got.header("location")) == (302, "/_sidecar/login?return_to=/me%3Fa%3D%2520b")
    got = jar.sign_in(path="/me?a=%20b")
    assert (got.status, got.header("location")) == (303, "/me?a=%20b")
    assert set(jar.cookies) == {"__Host-session", DEVICE_COOKIE}
    assert jar.get("/me").status == 200


def test_a_program_gets_401_and_a_bad_session_is_taken_away(jar: Jar) -> None:
    for headers in ({"accept": "application/json"}, {"accept": "*/*", "sec_fetch_mode": "cors"}):
        got = jar.get("/me", **headers)
        assert (got.status, got.code) == (401, "token_missing")
    jar.cookies["__Host-session"] = "forged"
    got = jar.get("/me", accept="application/json")
    assert (got.status, got.code) == (401, "session_invalid")
    assert jar.cookies == {}


def test_answers_around_a_sign_in_are_never_stored(jar: Jar) -> None:
    state = jar.begin()
    answers = [
        jar.get("/me"), jar.get("/_sidecar/login"), jar.get("/unmapped"), jar.get("/me", accept="application/json"),
        jar.post("/_sidecar/login", {"state": state, "username": "alice", "password": "wrong"}),
        jar.sign_in(), jar.post("/_sidecar/logout", {}),
    ]  # fmt: skip
    for got in answers:
        assert got.header("cache-control") == "no-store", got
        assert got.header("vary") == "Cookie, Authorization", got


def test_each_cookie_of_ours_is_bound_to_this_host_and_hidden_from_scripts(jar: Jar) -> None:
    answers = [jar.get("/_sidecar/login"), jar.sign_in(), jar.post("/_sidecar/logout", {})]
    values = [value for got in answers for name, value in got.headers if name.lower() == "set-cookie"]
    assert len(values) >= 3
    for value in values:
        assert value.startswith("__Host-")
        assert "Domain" not in value
        for word in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
            assert word in value
        assert len(value) <= 4096


@pytest.mark.parametrize("origin", [EVIL, "null", ""])
def test_nobody_is_signed_in_by_another_site(jar: Jar, origin: str) -> None:
    fields = {"state": jar.begin(), "username": "alice", "password": "Alice-1234"}
    got = jar.post("/_sidecar/login", fields, origin=origin)
    assert (got.status, "__Host-session" in jar.cookies) == (403, False)


def test_a_form_of_another_browser_signs_nobody_in(jar: Jar, sidecar: Sidecar) -> None:
    state = Jar(sidecar).begin()
    got = jar.post("/_sidecar/login", {"state": state, "username": "alice", "password": "Alice-1234"})
    assert (got.status, "__Host-session" in jar.cookies) == (400, False)
    assert b"sign_in_invalid" in got.body


def test_a_form_signs_in_once(jar: Jar) -> None:
    state = jar.begin()
    cookies = dict(jar.cookies)
    fields = {"state": state, "username": "alice", "password": "Alice-1234"}
    assert jar.post("/_sidecar/login", fields).status == 303
    jar.cookies = cookies
    assert jar.post("/_sidecar/login", fields).status == 400


def test_a_session_that_somebody_planted_is_replaced_at_the_sign_in(jar: Jar, sidecar: Sidecar) -> None:
    attacker = Jar(sidecar)
    attacker.sign_in("bob", "Bobby-1234")
    jar.cookies["__Host-session"] = attacker.cookies["__Host-session"]
    state = re.search(r'name="state" value="([^"]+)"', jar.get("/_sidecar/login").body.decode())
    assert state is not None
    jar.post("/_sidecar/login", {"state": state[1], "username": "alice", "password": "Alice-1234"})
    assert jar.cookies["__Host-session"] != attacker.cookies["__Host-session"]
    assert b"alice" in jar.get("/me").body
    assert b"bob" in attacker.get("/me").body


@pytest.mark.parametrize(
    "to", ["//evil.test", "https://evil.test/", "/\\evil.test", "/%5cevil.test", "javascript:alert(1)"]
)
def test_nobody_is_led_away(jar: Jar, to: str) -> None:
    page = jar.get("/_sidecar/login?" + urlencode({"return_to": to})).body.decode()
    state = re.search(r'name="state" value="([^"]+)"', page)
    assert state is not None
    got = jar.post("/_sidecar/login", {"state": state[1], "username": "alice", "password": "Alice-1234"})
    assert (got.status, got.header("location")) == (303, "/")


def test_a_sign_out_ends_the_session_and_its_copy(jar: Jar, sidecar: Sidecar) -> None:
    jar.sign_in()
    copy = Jar(sidecar)
    copy.cookies = dict(jar.cookies)
    got = jar.post("/_sidecar/logout", {})
    assert (got.status, set(jar.cookies)) == (200, {DEVICE_COOKIE})
    assert b"You are signed out" in got.body
    assert copy.get("/me", accept="application/json").code == "session_invalid"


def test_a_sign_out_everywhere_says_what_became_of_it(jar: Jar, sidecar: Sidecar) -> None:
    jar.sign_in()
    got = jar.post("/_sidecar/logout", {"everywhere": "yes"})
    assert (got.status, set(jar.cookies)) == (200, {DEVICE_COOKIE})
    # the stand-in may refuse it: then nobody is told that it was done
    refused = "tokens could not be revoked" in sidecar.log()
    assert (b"couldn't be ended" if refused else b"end as well") in got.body


def test_nobody_is_signed_out_by_another_site_or_by_a_link(jar: Jar) -> None:
    jar.sign_in()
    assert jar.post("/_sidecar/logout", {}, origin=EVIL).status == 403
    got = jar.get("/_sidecar/logout", sec_fetch_site="cross-site")
    assert (got.status, b'<form method="post" action="/_sidecar/logout">' in got.body) == (200, True)
    assert jar.get("/me").status == 200


@pytest.mark.parametrize("origin", [EVIL, ""])
def test_another_site_changes_nothing_with_a_session(jar: Jar, app: Recorder, origin: str) -> None:
    jar.sign_in()
    before = len(app.seen)
    got = jar.post("/me", {"a": "b"}, origin=origin)
    assert (got.status, len(app.seen)) == (403, before)
    assert jar.post("/me", {"a": "b"}).status == 200


@pytest.mark.parametrize("origin", [EVIL, "null", ""])
def test_a_form_of_another_site_is_refused_before_anything_of_it_is_read(jar: Jar, app: Recorder, origin: str) -> None:
    jar.sign_in()
    before = len(app.seen)
    form = {"owner": "alice", "Owner": "x"}
    assert b"<code>origin_refused</code>" in jar.post("/contacts", form, origin=origin).body
    assert b"<code>body_invalid</code>" in jar.post("/contacts", form).body
    assert len(app.seen) == before


@pytest.mark.parametrize(("origin", "status"), [(EVIL, 403), ("null", 403), ("", 403), ("own", 200)])
def test_another_site_opens_no_websocket_with_a_session(jar: Jar, app: Recorder, origin: str, status: int) -> None:
    jar.sign_in()
    before = len(app.seen)
    handshake = {
        "connection": "Upgrade", "upgrade": "websocket", "sec_websocket_version": "13",
        "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==", "accept": "",
    }  # fmt: skip
    own = f"http://127.0.0.1:{jar.sidecar.port}"
    got = jar.get("/contacts?owner=alice", **handshake, origin=own if origin == "own" else origin)
    # the app of these tests answers a handshake as any request
    assert (got.status, len(app.seen) - before) == (status, 1 if status == 200 else 0)


def test_a_form_that_is_sent_after_the_session_has_ended_leads_back_to_its_page(jar: Jar, app: Recorder) -> None:
    jar.cookies["__Host-session"] = "forged"
    page = f"http://127.0.0.1:{jar.sidecar.port}/deep/form?a=%20b"
    got = jar.post("/me", {"a": "b"}, referer=page, sec_fetch_mode="navigate", sec_fetch_site="same-origin")
    assert (got.status, jar.cookies, app.seen) == (401, {}, [])
    assert b"nothing that you sent was done" in got.body
    assert b"You are signed in" not in got.body
    assert b'href="/_sidecar/login?return_to=/deep/form%3Fa%3D%2520b"' in got.body


def test_a_link_that_is_too_long_to_be_kept_signs_in_all_the_same_and_says_so(jar: Jar) -> None:
    location = jar.get("/me?a=" + "b" * 5000).header("location") or ""
    page = jar.get(location).body.decode()
    assert "too long to be kept. After the sign-in you start at /me<" in page
    assert all(len(value) < 4096 for value in jar.cookies.values())
    got = jar.sign_in(path="/me?a=" + "b" * 5000)
    assert (got.status, got.header("location")) == (303, "/me")


def test_a_sign_in_at_another_host_goes_on_at_the_callbacks(
    cognito: LocalCognito, app: Recorder, tmp_path: Path
) -> None:
    environ = environ_of(
        cognito, SIDECAR_LOGIN="hosted", AWS_COGNITO_DOMAIN="https://pool.test",
        AWS_COGNITO_HOSTED_UI_CALLBACK_URL="https://app.test/_sidecar/callback",
    )  # fmt: skip
    upstream = f"http://127.0.0.1:{app.port}"
    with running_sidecar(tmp_path, ROUTES, ROOT / "policies", upstream, environ, shared=True) as sidecar:
        jar = Jar(sidecar)
        got = jar.get("/_sidecar/login?return_to=/me%3Fa%3Db&lang=de&x=y", host="www.app.test")
        begun = "https://app.test/_sidecar/login?return_to=/me%3Fa%3Db&lang=de&moved=yes"
        assert (got.status, got.header("location"), jar.cookies) == (303, begun, {})
        for host, path in (("app.test", "?return_to=/me"), ("app.test:443", ""), ("inner:8080", "?moved=yes")):
            got = jar.get(f"/_sidecar/login{path}", host=host)
            assert (got.header("location") or "").startswith("https://pool.test/oauth2/authorize?")
        assert len(jar.cookies) == 3


def test_only_those_who_are_signed_in_are_told_so_and_offered_another_account(jar: Jar) -> None:
    unknown = jar.get("/unmapped").body
    assert (b"You are signed in" in unknown, b"/_sidecar/logout" in unknown) == (False, False)
    jar.sign_in()
    denied = jar.get("/_sidecar/console?as=bob")
    assert (denied.status, b"You are signed in, but" in denied.body) == (403, True)
    assert b'href="/_sidecar/logout"' in denied.body
    assert b'href="/_sidecar/login?prompt=login&amp;return_to=/_sidecar/console%3Fas%3Dbob"' in denied.body


def test_the_apps_own_sign_out_path_is_ours_too(cognito: LocalCognito, app: Recorder, tmp_path: Path) -> None:
    environ, upstream = environ_of(cognito, SIDECAR_LOGOUT_PATHS="/logout"), f"http://127.0.0.1:{app.port}"
    with running_sidecar(tmp_path, ROUTES, ROOT / "policies", upstream, environ, shared=True) as sidecar:
        jar = Jar(sidecar)
        jar.sign_in()
        assert b"<button" in jar.get("/logout?next=/").body
        assert "__Host-session" in jar.cookies
        assert jar.get("/logout-page").status == 403
        assert jar.post("/logout", {}, origin=EVIL).status == 403
        got = jar.post("/logout", {"csrf": "1", "everywhere": "yes"})
        assert (got.status, "__Host-session" in jar.cookies) == (200, False)
        assert b"other sessions" not in got.body


def test_the_app_gets_who_it_is_and_neither_session_nor_token(jar: Jar, app: Recorder) -> None:
    jar.sign_in()
    jar.cookies["app"] = "1"
    jar.get("/me")
    assert app.seen[-1].values("cookie") == ["app=1"]
    assert app.seen[-1].values("authorization") == []
    assert app.seen[-1].values("x-auth-subject") == ["alice"]


def test_a_sign_in_without_its_principal_ends_with_a_page_that_says_so(
    cognito: LocalCognito, app: Recorder, tmp_path: Path
) -> None:
    routes, upstream = ROUTES.replace("id: username", "id: email"), f"http://127.0.0.1:{app.port}"
    with running_sidecar(tmp_path, routes, ROOT / "policies", upstream, environ_of(cognito), shared=True) as sidecar:
        jar = Jar(sidecar)
        got = jar.sign_in()
        assert (got.status, "__Host-session" in jar.cookies) == (403, False)
        assert b"principal_missing" in got.body
        assert b"that this application knows people by" in got.body
        by_token = sidecar.get("/me", cognito.token("alice"))
        assert (by_token.status, by_token.code) == (403, "principal_missing")
        lines = [line for line in sidecar.decisions() if line.get("detail")]
        assert [line.get("code") or line.get("reason") for line in lines] == ["principal_missing"] * 2
        assert {line["detail"] for line in lines} == {"principal.id: the token has no claim email"}


def test_failures_of_one_user_have_an_end(jar: Jar, cognito: LocalCognito) -> None:
    cognito.add_user(User("guessed", "Right-1234", ("user",)))
    for _ in range(PER_USER):
        assert jar.sign_in("guessed", "wrong").status == 401
    got = jar.sign_in("GUESSED", "Right-1234")
    assert got.status == 429
    assert (got.header("content-type") or "").startswith("text/html")
    assert got.header("retry-after") is not None
    assert jar.sign_in("alice", "Alice-1234").status == 303


def test_strangers_lock_nobody_out_of_a_browser_where_they_signed_in_before(
    jar: Jar, sidecar: Sidecar, cognito: LocalCognito
) -> None:
    cognito.add_user(User("wanted", "Right-1234", ("user",)))
    assert jar.sign_in("wanted", "Right-1234").status == 303
    jar.post("/_sidecar/logout", {})
    stranger = Jar(sidecar, "127.0.0.9")
    for _ in range(PER_USER):
        assert stranger.sign_in("Wanted", "wrong").status == 401
    assert stranger.sign_in("wanted", "Right-1234").status == 429
    # by its address, with no cookie; and by its cookie, from another address
    assert Jar(sidecar).sign_in("wanted", "Right-1234").status == 303
    abroad = Jar(sidecar, "127.0.0.10")
    abroad.cookies = dict(jar.cookies)
    assert abroad.sign_in("wanted", "Right-1234").status == 303
    assert Jar(sidecar, "127.0.0.11").sign_in("wanted", "Right-1234").status == 429


@pytest.mark.parametrize("name", ["x" * 129, "x" * 2000, "two words", "\u2028"])
def test_a_name_that_no_user_can_have_gets_the_ordinary_answer(jar: Jar, name: str) -> None:
    got = jar.sign_in(name, "whatever-1")
    assert got.status == 401
    assert "Incorrect user name or password." in got.body.decode()


class CountingPool:
    """Stands in for the pool's API: says no to every guess, `delay` seconds later; `asked` counts them."""

    def __init__(self, delay: float) -> None:
        pool = self
        self.asked: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                operation = self.headers["x-amz-target"].partition(".")[2]
                pool.asked.append(operation)
                time.sleep(delay)
                body = json.dumps({"__type": pool.says(operation), "message": "no"}).encode()
                self.send_response(400)
                self.send_header("content-type", "application/x-amz-json-1.1")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def says(self, operation: str) -> str:
        return "NotAuthorizedException" if operation == "InitiateAuth" else "CodeMismatchException"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def guarded(
    cognito: LocalCognito, app: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Sidecar, CountingPool]]:
    pool = CountingPool(0.2)
    environ = {
        **environ_of(cognito), "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": pool.url,
        "SIDECAR_TRUSTED_PROXIES": "127.0.0.0/8",
    }  # fmt: skip
    folder, upstream = tmp_path_factory.mktemp("guarded"), f"http://127.0.0.1:{app.port}"
    with running_sidecar(folder, ROUTES, ROOT / "policies", upstream, environ, ready=False, shared=True) as running:
        yield running, pool
    pool.close()


def all_at_once(sidecars: list[Sidecar], forms: list[tuple[str, dict[str, str], str]]) -> list[int]:
    """The statuses of forms (cookies, fields, address of the client) that are sent at one time, to these in turn."""

    async def send(port: int, cookie: str, fields: dict[str, str], client: str) -> int:
        body = urlencode(fields)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST /_sidecar/login HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nX-Forwarded-For: {client}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\nCookie: {cookie}\r\n"
        )
        writer.write(f"{head}Connection: close\r\n\r\n{body}".encode())
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ")[1])

    async def send_all() -> list[int]:
        ports = itertools.cycle([sidecar.port for sidecar in sidecars])
        return await asyncio.gather(*(send(next(ports), *form) for form in forms))

    return asyncio.run(send_all())


def sealed(challenge: Challenge | None) -> tuple[str, str]:
    """The state of a sign-in that was begun, and its cookie, as a browser has it."""
    pending = begin("/me", time.time())._replace(challenge=challenge)
    request = read(Raw("GET", b"/", [(b"host", b"a")], "", "http", "r"), Reading())
    (cookie,) = PendingSignIns(Seal((SECRET,)), LocalLedger()).cookies(pending, request)
    return pending.state, cookie.decode().partition(";")[0]


CHALLENGES = [
    None, *(Challenge(name, "s", "user", {}) for name in (*CODES, NEW_PASSWORD)),
]  # fmt: skip


@pytest.mark.parametrize("challenge", CHALLENGES, ids=lambda challenge: challenge.name if challenge else "password")
@pytest.mark.parametrize(("spread", "most"), [(True, PER_USER), (False, PER_CLIENT)], ids=["one user", "one client"])
def test_150_guesses_at_once_are_counted_like_a_row(
    guarded: tuple[Sidecar, CountingPool], challenge: Challenge | None, spread: bool, most: int
) -> None:
    sidecar, pool = guarded
    pool.asked.clear()
    kind = f"{challenge.name if challenge else 'password'}-{spread}"
    block = zlib.crc32(kind.encode()) % 2**32
    forms = []
    for number in range(150):
        # one user from many clients, or many users from one client, an IPv6 host that takes another address each time
        user = f"{kind}-user" if spread else f"{kind}-user-{number}"
        client = (
            f"2001:db8:{number:x}:{block % 2**16:x}::1" if spread else f"2001:db8:ffff:{block % 2**16:x}::{number:x}"
        )
        state, cookie = sealed(challenge._replace(username=user) if challenge else None)
        fields = {"code": f"{number:06}", "password": f"Guess-{number}"}
        forms.append((cookie, {"state": state, "username": user, **fields}, client))
    statuses = all_at_once([sidecar], forms)
    assert len(pool.asked) == most
    assert (statuses.count(401), statuses.count(429)) == (most, 150 - most)


@NEEDS_REDIS
def test_replicas_that_share_a_redis_count_as_one_and_let_nobody_in_without_it(
    cognito: LocalCognito, app: Recorder, tmp_path: Path
) -> None:
    pool, upstream = CountingPool(0.2), f"http://127.0.0.1:{app.port}"
    with RedisServer(tmp_path) as redis:
        environ = {
            **environ_of(cognito), "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": pool.url,
            "SIDECAR_TRUSTED_PROXIES": "127.0.0.0/8", "SIDECAR_REDIS_URL": redis.url,
        }  # fmt: skip
        with (
            running_sidecar(
                tmp_path / "a", ROUTES, ROOT / "policies", upstream, environ, ready=False, shared=True
            ) as one,
            running_sidecar(
                tmp_path / "b", ROUTES, ROOT / "policies", upstream, environ, ready=False, shared=True
            ) as two,
        ):
            forms = []
            for number in range(60):
                state, cookie = sealed(None)
                fields = {"state": state, "username": "shared", "password": "Guess-1234"}
                forms.append((cookie, fields, f"192.0.2.{number}"))
            statuses = all_at_once([one, two], forms)
            # a Redis that is too slow for one of them refuses it, and never lets it through
            assert statuses.count(401) == len(pool.asked) <= PER_USER
            assert set(statuses) <= {401, 429, 503}
            asked = len(pool.asked)
            redis.pause()
            assert all_at_once([one], [forms[0]]) == [503]
            redis.resume()
            assert len(pool.asked) == asked
    pool.close()


def test_a_sign_in_and_a_sign_out_are_in_the_log_without_a_secret(jar: Jar, sidecar: Sidecar) -> None:
    jar.sign_in("bob", "wrong-password")
    jar.sign_in("bob", "Bobby-1234")
    session = jar.cookies["__Host-session"]
    jar.post("/_sidecar/logout", {})
    lines = [line for line in sidecar.decisions() if line["event"] != "decision"][-3:]
    assert [line["event"] for line in lines] == ["sign_in_failed", "signed_in", "signed_out"]
    assert lines[0]["reason"] == "wrong_password"
    assert all(line["peer"] == "127.0.0.1" and line["request_id"] for line in lines)
    told = (sidecar.folder / "decisions.jsonl").read_text() + sidecar.log()
    for secret in ("wrong-password", "Bobby-1234", session, session[20:60]):
        assert secret not in told


@pytest.mark.parametrize("fields", [{"username": "alice"}, {"password": "x"}, {"username": " ", "password": "x"}])
def test_a_form_with_a_gap_is_shown_again(jar: Jar, fields: dict[str, str]) -> None:
    assert jar.post("/_sidecar/login", {"state": jar.begin(), **fields}).status == 401


def test_a_field_without_end_is_refused(jar: Jar) -> None:
    got = jar.post("/_sidecar/login", {"state": jar.begin(), "username": "a" * 3000, "password": "x"})
    assert got.status == 400
