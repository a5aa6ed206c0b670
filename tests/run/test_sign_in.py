"""What a sign-in proves: tokens of one user, of our app client, and of this sign-in."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from jwt import PyJWK

from sidecar.config.setting_table import Settings
from sidecar.config.settings import read_settings
from sidecar.doors.answer import Answer
from sidecar.gate.claims import Claim
from sidecar.gate.codes import Code
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate, Identified
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.routing import RouteTable
from sidecar.gate.session import Session
from sidecar.gate.values import Type
from sidecar.gate.verdict import Refused
from sidecar.pages.login import Login, VerifiedSignIn
from sidecar.pages.router import PageRequest
from sidecar.pages.templates import Pages
from sidecar.record.journal import Journal
from sidecar.record.line import MAX_DETAIL
from sidecar.record.metrics import Metrics
from sidecar.run.sign_in import Browser
from sidecar.sessions.seal import Seal
from sidecar.sessions.sessions import claims_of
from sidecar.sign_in import attempts, provider
from sidecar.sign_in.attempts import AT_ONCE, PER_CLIENT
from sidecar.sign_in.challenges import USER_ADMIN
from sidecar.sign_in.ledger import LocalLedger
from sidecar.sign_in.pending import PendingSignIns, begin
from sidecar.sign_in.provider import MAX_CONNECTIONS, TokenSet
from tests.log import Kept
from tests.tokens import CLIENT, ISSUER, SESSION_SECRET, claims, mint, public_key

NOW = 1_700_000_000.0
NONCE = "the-nonce-of-this-sign-in"
SETTINGS = read_settings(
    {
        "SIDECAR_UPSTREAM": "http://127.0.0.1:9", "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_AbC",
        "AWS_COGNITO_CLIENT_ID": CLIENT, "AWS_COGNITO_DOMAIN": "contacts", "SIDECAR_HOSTS": "app.test",
        "SIDECAR_SESSION_SECRET": SESSION_SECRET,
    },
    {},
)  # fmt: skip


async def find(issuer: str, kid: str) -> PyJWK:
    return public_key("k1")


TOKENS = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), find)
RULES = Rules(RouteTable([]), {}, TOKENS, Reading())


def browser(settings: Settings = SETTINGS) -> Browser:
    return Browser(settings, lambda dep, fault: None, lambda: NOW)


async def verified(
    grant: TokenSet, nonce: str | None, now: float, use: str = "access", issuers: dict[str, Issuer] | None = None,
    rules: PrincipalRules | None = None,
) -> VerifiedSignIn:  # fmt: skip
    trusted = issuers or {ISSUER: Issuer(ISSUER, frozenset([CLIENT, "other"]), frozenset([use]))}
    return await browser().verify(grant, nonce, now, Tokens(trusted, rules or PrincipalRules(), find))


def access(**more: Any) -> str:
    return mint(claims(NOW, username="alice", **more)).decode()


def identity(**more: Any) -> str:
    made = {key: value for key, value in claims(NOW).items() if key not in ("client_id", "scope")}
    return mint(
        {**made, "token_use": "id", "aud": CLIENT, "nonce": NONCE, "cognito:username": "alice", **more}
    ).decode()


async def test_tokens_that_belong_together_sign_in() -> None:
    signed_in = await verified(TokenSet(access(), identity(), "r"), NONCE, NOW)
    assert (signed_in.principal, signed_in.username) == ("a-1", "alice")
    assert signed_in.expires == int(NOW) + 3600


async def test_an_issuer_of_id_tokens_alone_gives_the_session_one() -> None:
    token = identity()
    signed_in = await verified(TokenSet("opaque", token, "r"), NONCE, NOW, use="id")
    assert (signed_in.token, signed_in.username) == (token, "alice")


@pytest.mark.parametrize(
    ("id_token", "nonce"),
    [
        ("", NONCE),
        (identity(nonce="of another"), NONCE),
        (identity(nonce=None), NONCE),
        (identity(nonce=[NONCE]), NONCE),
        (identity(sub="b-2"), NONCE),
        (identity(aud="other"), NONCE),
        (identity(token_use="access"), NONCE),
        (identity(iss="https://evil.test"), NONCE),
        (identity(exp=int(NOW) - 1), NONCE),
        (identity()[:-4] + "AAAA", NONCE),
        ("eyJhbGciOiJub25lIn0." + identity().split(".")[1] + ".", NONCE),
        (identity(sub="b-2"), None),
    ],
)
async def test_tokens_that_do_not_belong_to_this_sign_in_are_none(id_token: str, nonce: str | None) -> None:
    with pytest.raises(Refused) as caught:
        await verified(TokenSet(access(), id_token, "r"), nonce, NOW)
    assert caught.value.code is Code.SIGN_IN_INVALID


@pytest.mark.parametrize(
    "token", [access(client_id="stranger"), access(exp=int(NOW)), access(iss="https://evil.test"), "x"]
)
async def test_an_access_token_that_the_gate_would_refuse_opens_no_session(token: str) -> None:
    with pytest.raises(Refused) as caught:
        await verified(TokenSet(token, identity(), "r"), NONCE, NOW)
    assert caught.value.code is Code.SIGN_IN_INVALID


async def test_a_sign_in_without_its_principal_opens_no_session() -> None:
    with pytest.raises(Refused) as caught:
        await verified(TokenSet(access(), identity(email="a@b.c"), "r"), NONCE, NOW, rules=PrincipalRules(id="email"))
    assert (caught.value.code, caught.value.detail) == (
        Code.PRINCIPAL_MISSING,
        "principal.id: the token has no claim email",
    )


async def test_roles_that_the_gate_would_refuse_open_no_session() -> None:
    token = access(**{"cognito:groups": "admin"})
    with pytest.raises(Refused) as caught:
        await verified(TokenSet(token, identity(), "r"), NONCE, NOW)
    assert caught.value.code is Code.SIGN_IN_INVALID


async def test_tokens_of_two_pools_do_not_belong_together() -> None:
    two = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Two"
    issuers = {name: Issuer(name, frozenset([CLIENT])) for name in (ISSUER, two)}
    with pytest.raises(Refused) as caught:
        await verified(TokenSet(access(), identity(iss=two), "r"), NONCE, NOW, issuers=issuers)
    assert caught.value.code is Code.SIGN_IN_INVALID


async def test_keys_that_cannot_be_had_are_no_fault_of_the_persons() -> None:
    async def none(issuer: str, kid: str) -> PyJWK:
        raise Refused(Code.KEYS_UNAVAILABLE)

    tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), none)
    with pytest.raises(Refused) as caught:
        await browser().verify(TokenSet(access(), identity(), ""), NONCE, NOW, tokens)
    assert caught.value.code is Code.KEYS_UNAVAILABLE


# --- a person comes back from the hosted UI, and signs out everywhere ---


class Cognito:
    """Stands in for a domain and its pool by the documented rules that moto does not keep: an access token has the
    scopes that were asked for, and GlobalSignOut takes none without `aws.cognito.signin.user.admin`, and none that has
    ended. Each token is good for `life` seconds, `more` is in its id tokens, and without `id_token` it gives none."""

    def __init__(self) -> None:
        self.scope = self.nonce = self.email = ""
        self.life = 3600
        self.more: dict[str, Any] = {}
        self.id_token = True
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            body = (await reader.readexactly(length)).decode()
            status, told = self._answer(head, body)
            text = json.dumps(told).encode()
            kind = f"content-type: application/json\r\ncontent-length: {len(text)}\r\nconnection: close"
            writer.write(f"HTTP/1.1 {status} X\r\n{kind}\r\n\r\n".encode() + text)
            await writer.drain()
        writer.close()

    def _answer(self, head: str, body: str) -> tuple[int, dict[str, str]]:
        if "globalsignout" in head:
            self.asked.append("GlobalSignOut")
            return self._signed_out(json.loads(body)["AccessToken"])
        self.asked.append(head.split()[1])
        if "/revoke" in head:
            return 200, {}
        renewed = dict(parse_qsl(body))["grant_type"] == "refresh_token"
        life = 3600 if renewed else self.life
        tokens = {
            "access_token": access(scope=self.scope, exp=int(NOW) + life, email=self.email),
        }
        if self.id_token:
            tokens["id_token"] = identity(**{"nonce": self.nonce, "exp": int(NOW) + life, **self.more})
        return 200, {**tokens, "refresh_token": "r.r.r", "token_type": "Bearer"}

    def _signed_out(self, token: str) -> tuple[int, dict[str, str]]:
        said = claims_of(token)
        if said["token_use"] != "access" or int(str(said["exp"])) <= NOW + LATER:
            return 400, {"__type": "NotAuthorizedException", "message": "Access Token has expired"}
        if USER_ADMIN not in str(said["scope"]).split():
            return 400, {"__type": "NotAuthorizedException", "message": "Access Token does not have required scopes"}
        return 200, {}


LATER = 10
"""Seconds from a sign-in of these tests to its sign-out."""


@pytest.fixture
async def cognito() -> AsyncIterator[Cognito]:
    made = Cognito()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


ANY_HOST = Reading()


class Person:
    """A browser before the login of these settings, and the lines that it leaves in the log."""

    def __init__(
        self,
        cognito: Cognito,
        tokens: Tokens = TOKENS,
        host: str = "app.test",
        reading: Reading = ANY_HOST,
        **changed: Any,
    ) -> None:
        self.host = host
        self.sent_back = ""
        url = f"http://127.0.0.1:{cognito.port}"
        self.settings = SETTINGS._replace(domain=url, cognito_endpoint=url, **changed)
        self.cognito = cognito
        self.now = NOW
        self.made = Browser(self.settings, lambda dep, fault: None, lambda: self.now)
        self.lines = Kept()
        self.journal = Journal(self.lines, Metrics(), lambda: NOW, lambda seconds, what: None)
        self.login = self.made.login(Pages(), self.journal)
        self.rules = Rules(RouteTable([]), {}, tokens, reading)
        self.cookies: dict[str, str] = {}

    async def begin(self) -> str:
        """Go to the hosted UI. Returns the state."""
        location = dict((await self._kept(self.login.begin(self._asked("GET", "/_sidecar/login")))).headers)[
            b"location"
        ]
        query = dict(parse_qsl(urlsplit(location.decode()).query))
        self.cognito.scope, self.cognito.nonce = query["scope"], query["nonce"]
        self.sent_back = query["redirect_uri"]
        return query["state"]

    async def back(self, **query: str) -> Answer:
        """Come back from it."""
        return await self._kept(self.login.callback(self._asked("GET", f"/_sidecar/callback?{urlencode(query)}")))

    async def sign_in(self) -> None:
        assert (await self.back(state=await self.begin(), code="c")).status == 303

    async def sign_out_everywhere(self) -> Answer:
        self.now = NOW + LATER
        answer = await self._kept(self.login.sign_out(self._asked("POST", "/_sidecar/logout", b"everywhere=yes")))
        await self.made.aclose()
        return answer

    async def refused_without_words(self) -> Answer:
        return await self.back(state=await self.begin(), error="access_denied")

    def last_line(self) -> dict[str, Any]:
        self.journal.flush()
        line: dict[str, Any] = json.loads(self.lines.getvalue().splitlines()[-1])
        return line

    def _asked(self, method: str, target: str, body: bytes = b"") -> PageRequest:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items()).encode()
        host = self.host.encode()
        headers = [(b"host", host), (b"origin", b"https://" + host), (b"sec-fetch-site", b"same-origin")]
        headers += [(b"content-type", b"application/x-www-form-urlencoded"), (b"cookie", cookie)]
        raw = Raw(method, target.encode(), headers, "192.0.2.1", "https", "r")
        return PageRequest(read(raw, self.rules.reading), raw, body, self.now, self.rules)

    async def _kept(self, answering: Awaitable[Answer]) -> Answer:
        answer = await answering
        self.take(value for name, value in answer.headers if name == b"set-cookie")
        return answer

    def take(self, cookies: Iterable[bytes]) -> None:
        """Keep values of Set-Cookie."""
        for value in cookies:
            key, _, content = value.decode().partition(";")[0].partition("=")
            self.cookies[key] = content


async def test_a_sign_out_everywhere_ends_all_sessions_where_the_scope_was_asked_for(cognito: Cognito) -> None:
    person = Person(cognito, scopes=("openid", USER_ADMIN))
    await person.sign_in()
    page = await person.sign_out_everywhere()
    assert b"end as well" in page.body
    assert cognito.asked == ["/oauth2/token", "GlobalSignOut"]
    line = person.last_line()
    assert (line["event"], line["everywhere"], "detail" in line) == ("signed_out", "ended", False)


async def test_a_sign_out_everywhere_without_the_scope_tells_the_person_and_the_log(
    cognito: Cognito, caplog: pytest.LogCaptureFixture
) -> None:
    # SIDECAR_LOGOUT=cognito leads away from the page at once, but for this
    person = Person(cognito, logout="cognito")
    await person.sign_in()
    page = await person.sign_out_everywhere()
    assert page.status == 200
    assert b"couldn't be ended" in page.body
    assert f'href="http://127.0.0.1:{cognito.port}/logout?'.encode() in page.body
    # its own refresh token is ended all the same
    assert cognito.asked == ["/oauth2/token", "GlobalSignOut", "/oauth2/revoke"]
    line = person.last_line()
    assert (line["everywhere"], USER_ADMIN in line["detail"]) == ("idp_bad_answer", True)
    assert "AWS_COGNITO_SCOPES" in caplog.text


async def test_a_sign_out_everywhere_renews_a_token_that_has_ended(cognito: Cognito) -> None:
    cognito.life = LATER
    person = Person(cognito, scopes=("openid", USER_ADMIN))
    await person.sign_in()
    assert b"end as well" in (await person.sign_out_everywhere()).body
    assert cognito.asked == ["/oauth2/token", "/oauth2/token", "GlobalSignOut"]


async def test_a_sign_out_everywhere_takes_an_access_token_where_the_session_has_an_id_token(cognito: Cognito) -> None:
    issuer = Issuer(ISSUER, frozenset([CLIENT]), frozenset(["id"]))
    person = Person(cognito, Tokens({ISSUER: issuer}, PrincipalRules(), find), scopes=("openid", USER_ADMIN))
    await person.sign_in()
    assert b"end as well" in (await person.sign_out_everywhere()).body


async def test_a_sign_out_everywhere_with_no_token_and_none_to_be_had_says_so(
    cognito: Cognito, monkeypatch: pytest.MonkeyPatch
) -> None:
    cognito.life = LATER
    person = Person(cognito)
    monkeypatch.setattr(Cognito, "_answer", without_refresh_token(Cognito._answer))
    await person.sign_in()
    assert b"couldn't be ended" in (await person.sign_out_everywhere()).body
    assert person.last_line()["everywhere"] == "session_expired"


def without_refresh_token(
    answer: Callable[[Cognito, str, str], tuple[int, dict[str, str]]],
) -> Callable[[Cognito, str, str], tuple[int, dict[str, str]]]:
    def without(self: Cognito, head: str, body: str) -> tuple[int, dict[str, str]]:
        status, told = answer(self, head, body)
        return status, {name: value for name, value in told.items() if name != "refresh_token"}

    return without


async def test_the_log_names_a_person_as_decisions_do(cognito: Cognito) -> None:
    tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(id="email"), find)
    person = Person(cognito, tokens)
    person.cognito.email = "a@b.test"
    await person.sign_in()
    line = person.last_line()
    assert (line["event"], line["principal"]) == ("signed_in", "a@b.test")
    await person.sign_out_everywhere()
    line = person.last_line()
    assert (line["event"], line["principal"]) == ("signed_out", "a@b.test")


async def test_what_the_hosted_ui_says_of_its_refusal_is_shown_and_logged(
    cognito: Cognito, caplog: pytest.LogCaptureFixture
) -> None:
    person = Person(cognito)
    says = "PreSignUp failed: <script>alert(1)</script>\r\nX: 1 -request-id- " + "x" * 1000
    page = await person.back(state=await person.begin(), error="access_denied", error_description=says)
    shown = "PreSignUp failed: &lt;script&gt;alert(1)&lt;/script&gt; X: 1 -request-id- x"
    assert (page.status, shown.encode() in page.body, b"<script>" in page.body) == (400, True, False)
    assert page.body.count(b"x" * 100) == 1
    assert b"x" * 201 not in page.body
    line = person.last_line()
    assert (line["event"], line["reason"]) == ("sign_in_failed", "sign_in_refused")
    assert line["detail"].startswith("access_denied: PreSignUp failed: <script>alert(1)</script> X: 1")
    assert len(line["detail"]) <= MAX_DETAIL
    assert "access_denied: PreSignUp failed" in caplog.text
    # the sign-in has ended, and its cookie with it
    assert all(b"Max-Age=0" in value for name, value in page.headers if name == b"set-cookie")
    plain = await Person(cognito).refused_without_words()
    assert b"The sign-in page says" not in plain.body


# --- floods of callbacks ---


class TokenEndpoint:
    """Stands in for the domain's token endpoint: codes are none, once `answers` is set; refresh tokens are good."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.codes = 0
        self.refreshed = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            form = dict(parse_qsl((await reader.readexactly(length)).decode()))
            status, told = await self._answer(form)
            body = json.dumps(told).encode()
            kind = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close"
            writer.write(f"HTTP/1.1 {status} X\r\n{kind}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    async def _answer(self, form: dict[str, str]) -> tuple[int, dict[str, str]]:
        if form["grant_type"] == "refresh_token":
            self.refreshed += 1
            return 200, {"access_token": access(), "id_token": identity(), "token_type": "Bearer"}
        self.codes += 1
        await self.answers.wait()
        return 400, {"error": "invalid_grant"}


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    made = TokenEndpoint()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    made.answers.set()
    server.close()


@pytest.fixture
async def signing(endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Browser, Login]]:
    # what is held here is how many ask at once, and not for how long: 400 tasks take a busy machine seconds to begin
    monkeypatch.setattr(provider, "ASK_WITHIN", 60.0)
    monkeypatch.setattr(attempts, "TURN_WITHIN", 60.0)
    made = browser(at(endpoint.port))
    journal = Journal(Kept(), Metrics(), lambda: NOW, lambda seconds, what: None)
    yield made, made.login(Pages(), journal)
    await made.aclose()


def at(port: int) -> Settings:
    return SETTINGS._replace(domain=f"http://127.0.0.1:{port}")


def callbacks(count: int, states: int, clients: int) -> list[PageRequest]:
    """Callbacks of sign-ins that were begun, with made-up codes, in turn of so many states and so many clients."""
    begun = [begin("/", NOW) for _ in range(states)]
    signs = PendingSignIns(Seal(SETTINGS.session_secrets), LocalLedger())
    made = []
    for number in range(count):
        pending = begun[number % states]
        (cookie,) = signs.cookies(pending, read(Raw("GET", b"/", [(b"host", b"a")], "", "http", "r"), Reading()))
        headers = [(b"host", b"app.test"), (b"cookie", cookie.partition(b";")[0])]
        target = f"/_sidecar/callback?code=made-up-{number}&state={pending.state}".encode()
        raw = Raw("GET", target, headers, f"2001:db8:0:{number % clients:x}::{number:x}", "http", "r")
        made.append(PageRequest(read(raw, Reading()), raw, b"", NOW, RULES))
    return made


async def answer(login: Login, asked: PageRequest) -> Code:
    try:
        await login.callback(asked)
    except Refused as refused:
        return refused.code
    raise AssertionError("a made-up code signed somebody in")


async def test_400_callbacks_of_one_sign_in_ask_once(
    signing: tuple[Browser, Login], endpoint: TokenEndpoint
) -> None:  # fmt: skip
    _, login = signing
    waiting = [asyncio.create_task(answer(login, asked)) for asked in callbacks(400, states=1, clients=400)]
    # all but one end before the token endpoint has answered that one
    done, rest = await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    while len(rest) > 1:
        done, rest = await asyncio.wait(rest, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        assert done
    await until(lambda: endpoint.codes == 1)
    endpoint.answers.set()
    assert {await task for task in waiting} == {Code.SIGN_IN_INVALID}
    assert endpoint.codes == 1


async def test_a_client_has_so_many_wrong_codes_for_any_number_of_sign_ins(
    signing: tuple[Browser, Login], endpoint: TokenEndpoint
) -> None:
    _, login = signing
    endpoint.answers.set()
    codes = [await answer(login, asked) for asked in callbacks(PER_CLIENT + 5, states=PER_CLIENT + 5, clients=1)]
    assert codes == [Code.SIGN_IN_INVALID] * PER_CLIENT + [Code.SIGN_IN_LIMITED] * 5
    assert endpoint.codes == PER_CLIENT


@pytest.mark.slow
async def test_renewals_go_on_in_a_flood_of_callbacks(
    signing: tuple[Browser, Login], endpoint: TokenEndpoint
) -> None:  # fmt: skip
    made, login = signing
    session = Session("ab" * 16, access(), "", "refresh", "alice", int(NOW) + 10, int(NOW), int(NOW), hosted=True)
    flood = [asyncio.create_task(answer(login, asked)) for asked in callbacks(400, states=400, clients=400)]
    await until(lambda: endpoint.codes >= MAX_CONNECTIONS)
    for _ in range(20):
        assert (await made.renew(session, TOKENS)).expires == int(NOW) + 3600
    assert (endpoint.codes, endpoint.refreshed) == (MAX_CONNECTIONS, 20)
    endpoint.answers.set()
    await asyncio.gather(*flood)


async def test_one_client_leaves_places_for_the_sign_ins_of_others(
    signing: tuple[Browser, Login], endpoint: TokenEndpoint
) -> None:
    _, login = signing
    flood = [asyncio.create_task(answer(login, asked)) for asked in callbacks(400, states=400, clients=1)]
    await until(lambda: endpoint.codes >= AT_ONCE)
    await asyncio.sleep(0.1)
    assert endpoint.codes == AT_ONCE
    (other,) = callbacks(1, states=1, clients=1)
    other = other._replace(raw=other.raw._replace(peer="192.0.2.1"))
    flood.append(asyncio.create_task(answer(login, other)))
    await until(lambda: endpoint.codes >= AT_ONCE + 1)
    endpoint.answers.set()
    await asyncio.gather(*flood)


async def until(is_so: Callable[[], bool]) -> None:
    # what it waits for comes, or never does
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.005)


# --- claims of the id token ---

OF_ID = PrincipalRules(attributes={"email": Claim("email", Type.STRING, from_id=True)})
WANTING = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, OF_ID, find)


async def seen(person: Person) -> Identified:
    """The person as the gate knows them now, whose browser keeps the cookies of the answer."""
    cookie = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
    asked = read(Raw("GET", b"/", [(b"host", b"app.test"), (b"cookie", cookie.encode())], "", "http", "r"), Reading())
    nobody: Any = None
    gate = Gate(
        person.rules, nobody, nobody, now=lambda: person.now, timer=lambda: 0.0, sources=(person.made.sessions,)
    )
    found = await gate.identify(asked, person.rules)
    person.take(found.cookies)
    return found


async def signed_in(cognito: Cognito, tokens: Tokens = WANTING, **more: Any) -> Person:
    """A person whose access token is good for 100 s, and whose id token says more."""
    cognito.life, cognito.more = 100, more
    person = Person(cognito, tokens)
    await person.sign_in()
    return person


async def test_a_session_knows_what_its_id_token_says_and_a_renewal_brings_it_anew(cognito: Cognito) -> None:
    person = await signed_in(cognito, email="alice@example.com", phone_number="+1 202 555 0100")
    first = await seen(person)
    assert (first.principal.attributes, first.principal.incomplete) == ({"email": "alice@example.com"}, None)
    assert first.session is not None
    # no more of it than the route file names
    assert first.session.identity == '{"email":"alice@example.com"}'
    person.now, cognito.more = NOW + 101, {"email": "alice@example.org"}
    for _ in range(2):
        assert (await seen(person)).principal.attributes == {"email": "alice@example.org"}
    assert cognito.asked == ["/oauth2/token"] * 2


async def test_a_renewal_without_an_id_token_keeps_what_was_known(cognito: Cognito) -> None:
    person = await signed_in(cognito, email="alice@example.com")
    person.now, cognito.id_token = NOW + 101, False
    assert (await seen(person)).principal.attributes == {"email": "alice@example.com"}


async def test_a_person_without_the_claim_lacks_it_and_is_not_asked_again(cognito: Cognito) -> None:
    person = await signed_in(cognito)
    for _ in range(2):
        found = await seen(person)
        assert found.principal.incomplete is not None
        assert found.principal.incomplete.code is Code.CLAIM_MISSING
    assert cognito.asked == ["/oauth2/token"]


@pytest.mark.parametrize("id_token", [True, False])
async def test_a_session_from_before_the_claim_was_named_gets_it_or_ends(cognito: Cognito, *, id_token: bool) -> None:
    person = await signed_in(cognito, TOKENS, email="alice@example.com")
    person.rules = dataclasses.replace(person.rules, tokens=WANTING)
    cognito.id_token = id_token
    if id_token:
        assert (await seen(person)).principal.attributes == {"email": "alice@example.com"}
        return
    with pytest.raises(Refused) as caught:
        await seen(person)
    assert caught.value.code is Code.SESSION_EXPIRED


@pytest.mark.parametrize(
    "more", [{"sub": "b-2"}, {"aud": "other"}, {"token_use": "access"}, {"iss": "https://evil.test"}]
)
async def test_an_id_token_of_a_renewal_is_verified(cognito: Cognito, more: dict[str, Any]) -> None:
    person = await signed_in(cognito, email="alice@example.com")
    person.now, cognito.more = NOW + 101, more
    with pytest.raises(Refused) as caught:
        await seen(person)
    assert caught.value.code in (Code.IDP_BAD_ANSWER, Code.SESSION_INVALID)


# --- several hosts ---

BY_HOST = Reading(frozenset(["crm.test", "wiki.test:8443", "*.team.test"]), by_host=True)
LISTED = ("https://app.test/_sidecar/callback", "http://crm.test/_sidecar/callback")


@pytest.mark.parametrize(
    ("host", "listed", "sent_back"),
    [
        ("crm.test", (), "https://crm.test/_sidecar/callback"),
        ("wiki.test:8443", (), "https://wiki.test:8443/_sidecar/callback"),
        ("a.team.test", (), "https://a.team.test/_sidecar/callback"),
        ("crm.test", LISTED, "http://crm.test/_sidecar/callback"),
        ("a.team.test", LISTED, "https://a.team.test/_sidecar/callback"),
    ],
)
async def test_each_host_has_its_own_callback_and_its_own_session(
    cognito: Cognito, host: str, listed: tuple[str, ...], sent_back: str
) -> None:
    person = Person(cognito, host=host, reading=BY_HOST, callback_urls=listed, hosts=None, logout="cognito")
    await person.sign_in()
    assert person.sent_back == sent_back
    asked = person._asked("GET", "/")
    session = await person.made.sessions.current(asked.request, person.now)
    assert session.host == host.partition(":")[0]
    for other in ("wiki.test", "crm.test", "b.team.test", ""):
        elsewhere = person.made.sessions.current(asked.request._replace(site=other), person.now)
        if other == session.host:
            assert (await elsewhere).id == session.id
        else:
            with pytest.raises(Refused, match="session of another host"):
                await elsewhere
    person.now = NOW + LATER
    leads_to = dict((await person.login.sign_out(person._asked("POST", "/_sidecar/logout"))).headers)[b"location"]
    ends_at = dict(parse_qsl(urlsplit(leads_to.decode()).query))["logout_uri"]
    assert ends_at == sent_back.removesuffix("_sidecar/callback")
    await person.made.aclose()


async def test_a_sign_in_by_a_pool_that_the_host_does_not_trust_opens_no_session(cognito: Cognito) -> None:
    everywhere = {ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}
    tokens = Tokens(everywhere, PrincipalRules(), find, by_host={"crm.test": {}})
    person = Person(cognito, tokens, host="crm.test", reading=BY_HOST, hosts=None)
    with pytest.raises(Refused) as caught:
        await person.sign_in()
    assert caught.value.code is Code.SIGN_IN_INVALID
    await person.made.aclose()


async def test_without_hosts_of_routes_a_sign_in_goes_on_at_the_first_callback(cognito: Cognito) -> None:
    person = Person(cognito, host="other.test", callback_urls=LISTED)
    answer = await person.login.begin(person._asked("GET", "/_sidecar/login"))
    assert dict(answer.headers)[b"location"].startswith(b"https://app.test/_sidecar/login?")
    await person.made.aclose()
