"""Signs browsers in and out: the sidecar's own form, or Cognito's hosted UI (OAuth 2.0 code grant, PKCE RFC 7636)."""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from sidecar.doors import answer
from sidecar.doors.answer import Answer
from sidecar.doors.refusal import RETURN_TO
from sidecar.gate.codes import Code
from sidecar.gate.forwarded import client_of
from sidecar.gate.identity import Tokens
from sidecar.gate.origin import is_of_own, require_own_origin
from sidecar.gate.own import CALLBACK_PATH, LOGIN_PATH, LOGOUT_PATH
from sidecar.gate.peers import Network, client_key
from sidecar.gate.request import Request
from sidecar.gate.session import Session
from sidecar.gate.verdict import Refused
from sidecar.pages.router import PageRequest, Paths, form_of, page, query_of, redirect
from sidecar.pages.templates import Pages
from sidecar.record import line
from sidecar.record.journal import Journal
from sidecar.sign_in.attempts import Attempts, known_key
from sidecar.sign_in.challenges import one_line
from sidecar.sign_in.devices import Devices
from sidecar.sign_in.hosted import s256
from sidecar.sign_in.ledger import Ledger, Reservation
from sidecar.sign_in.pending import Pending, PendingSignIns, Sealing, begin
from sidecar.sign_in.provider import Challenge, SignInError, SignInFailed, TokenSet

T = TypeVar("T")

log = logging.getLogger("sidecar.login")

_MAX_FIELD = 2048
_PASSED_ON = ("identity_provider", "idp_identifier", "lang", "prompt")
"""Parameters of our login that the hosted UI gets (authorization endpoint)."""
_MOVED = "moved"
"""The query name that says that a login was begun at another host."""
_NOT_TRIED = (Code.IDP_UNAVAILABLE, Code.SIGN_IN_LIMITED)
"""Refusals after which nobody knows more of a password or of a code than before."""

SAYS = {
    SignInError.WRONG_PASSWORD: "Incorrect user name or password.",
    SignInError.WRONG_CODE: "Incorrect code.",
    SignInError.THROTTLED: "Too many attempts. Wait a few minutes, then try again.",
    SignInError.UNCONFIRMED: "Your account isn't confirmed yet. Follow the message that was sent to you.",
    SignInError.RESET_REQUIRED: "Your password must be reset first. Ask the person who runs this application.",
    SignInError.EXPIRED: "Your sign-in took too long. Start again.",
    SignInError.PASSWORD_POLICY: "The new password doesn't meet this application's requirements.",
    SignInError.DISABLED: "This account is disabled.",
    SignInError.REFUSED: "This sign-in was refused.",
    SignInError.UNSUPPORTED_CHALLENGE: "Your account requires a sign-in step that isn't supported here.",
    SignInError.FLOW_NOT_ALLOWED: "This application doesn't allow signing in with a password.",
}
"""Texts for a failed sign-in; none tells a wrong password from an unknown user."""


class HostedUI(Protocol):
    """Port: the endpoints of the user pool's domain."""

    def authorize_url(
        self, state: str, nonce: str, challenge: str, redirect_uri: str, *, identity_provider: str = "",
        idp_identifier: str = "", lang: str = "", prompt: str = "",
    ) -> str: ...  # fmt: skip

    async def exchange(self, code: str, verifier: str, redirect_uri: str) -> TokenSet:
        """Raises Refused: SIGN_IN_INVALID, IDP_*."""
        ...

    def logout_url(self, logout_uri: str) -> str: ...


class UserPool(Protocol):
    """Port: the user pool's API. Raises SignInFailed, and Refused with IDP_*."""

    async def sign_in(self, username: str, password: str) -> TokenSet | Challenge: ...

    async def respond(self, challenge: Challenge, answers: Mapping[str, str]) -> TokenSet | Challenge: ...


class Sessions(Protocol):
    """Port: where sessions live."""

    async def open(self, session: Session) -> tuple[bytes, ...]: ...

    async def close(self, request: Request, now: float) -> tuple[Session | None, tuple[bytes, ...]]: ...


class VerifiedSignIn(NamedTuple):
    """A verified sign-in: the principal's id, what Cognito calls the user, the JWT for the gate with its end, and what
    the session keeps of the id token."""

    principal: str
    username: str
    token: str
    expires: int
    identity: str = ""


Verify = Callable[[TokenSet, str | None, float, Tokens], Awaitable[VerifiedSignIn]]
"""Port: (grant, nonce of a hosted sign-in, now, what verifies tokens) -> what it proves (R19). Raises Refused."""
Revoke = Callable[[Session], Awaitable[None]]
"""Port: ends the refresh token of a session, or all of its user's. Raises Refused: IDP_*, SESSION_EXPIRED."""
NameOf = Callable[[Session, Tokens], str]
"""Port: the id of a session's principal, for the log."""


class Ways(NamedTuple):
    """How a person may sign in and out. `callbacks` and `logout_uris` are URLs as registered on the app client; each
    host may have its own."""

    hosted: HostedUI | None
    pool: UserPool | None
    callbacks: tuple[str, ...]
    logout_uris: tuple[str, ...]
    ends_cognito: bool

    def callback(self, request: Request) -> str:
        """Where the hosted UI sends a browser back to: the URL of the request's host, or the first where it has none.
        Where a session is of one host, each has one: a host that is not listed gets no answer (R18)."""
        own = next((url for url in self.callbacks if is_of_own(_origin_of(url), request)), "")
        if own or not request.site:
            return own or self.callbacks[0]
        return f"https://{request.host}{CALLBACK_PATH}"

    def logout_uri(self, request: Request) -> str:
        """Where a sign-out ends, by the same rule."""
        own = next((url for url in self.logout_uris if is_of_own(_origin_of(url), request)), "")
        if own or (self.logout_uris and not request.site):
            return own or self.logout_uris[0]
        return f"{_origin_of(self.callback(request))}/"


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class Login:
    """Answers `/_sidecar/login`, `/_sidecar/callback` and `/_sidecar/logout`."""

    def __init__(
        self, ways: Ways, sessions: Sessions, sealing: Sealing, ledger: Ledger, pages: Pages, journal: Journal, *,
        verify: Verify, revoke: Revoke, revoke_all: Revoke, name_of: NameOf, trusted: tuple[Network, ...] = (),
        logout_paths: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self._ways = ways
        self._sessions = sessions
        self._pending = PendingSignIns(sealing, ledger)
        self._devices = Devices(sealing)
        self._attempts = Attempts(ledger)
        self._pages = pages
        self._journal = journal
        self._verify = verify
        self._revoke = revoke
        self._revoke_all = revoke_all
        self._name_of = name_of
        self._trusted = trusted
        self._logout_paths = logout_paths

    def paths(self) -> Paths:
        """The own paths that this answers."""
        login = {"GET": self.begin, **({"POST": self.submit} if self._ways.pool is not None else {})}
        paths = {
            LOGIN_PATH: login,
            **{path: {"GET": self.ask, "POST": self.sign_out} for path in (LOGOUT_PATH, *self._logout_paths)},
        }
        return {**paths, **({CALLBACK_PATH: {"GET": self.callback}} if self._ways.hosted is not None else {})}

    # --- beginning ---

    async def begin(self, asked: PageRequest) -> Answer:
        """GET login: the form, or straight to the hosted UI."""
        query = query_of(asked)
        pending = begin(query.get(RETURN_TO, "/"), asked.now)
        if self._ways.pool is None or (self._ways.hosted is not None and query.get("with") == "hosted"):
            elsewhere = self._elsewhere(query, asked.request)
            return redirect(elsewhere) if elsewhere else self._to_hosted(pending, query, asked.request)
        return self._form(pending, asked.request)

    def _elsewhere(self, query: dict[str, str], request: Request) -> str:
        """The same login at the callback's host, where this is another: the browser shows its cookie to that one alone.

        Once only, since a proxy between may have changed what the host looks like from here.
        """
        origin = _origin_of(self._ways.callback(request))
        if _MOVED in query or is_of_own(origin, request):
            return ""
        log.info("a sign-in at %r goes on at the callback's host %r", request.host[:256], origin)
        fields = {name: query[name] for name in (RETURN_TO, "with", *_PASSED_ON) if name in query}
        return f"{origin}{LOGIN_PATH}?{urlencode({**fields, _MOVED: 'yes'}, quote_via=quote, safe='/')}"

    def _to_hosted(self, pending: Pending, query: dict[str, str], request: Request) -> Answer:
        assert self._ways.hosted is not None  # noqa: S101 - for the type checker
        if self._pending.fitted(pending).to != pending.to:
            log.info("the way back is too long to be kept: request %s starts at its path, or at /", request.request_id)
        more = {name: query[name] for name in _PASSED_ON if 0 < len(query.get(name, "")) <= _MAX_FIELD}
        url = self._ways.hosted.authorize_url(
            pending.state, pending.nonce, s256(pending.verifier), self._ways.callback(request), **more
        )
        return redirect(url, self._pending.cookies(pending, request))

    def _form(
        self, pending: Pending, request: Request, *, says: str = "", username: str = "", status: int = 200
    ) -> Answer:
        """The page of the step that the sign-in is at."""
        fitted = self._pending.fitted(pending)
        if fitted.to != pending.to and not says:
            says = f"The address that you came with is too long to be kept. After the sign-in you start at {fitted.to}"
        pending = fitted
        body = self._pages.render(
            "sign_in.html", state=pending.state, to=pending.to, says=says, username=username,
            challenge=pending.challenge,
            hosted=f"{LOGIN_PATH}?with=hosted" if self._ways.hosted is not None else "", return_to=RETURN_TO,
        )  # fmt: skip
        made = page(body, status=status)
        made.headers.extend((b"set-cookie", cookie) for cookie in self._pending.cookies(pending, request))
        return made

    # --- our own form ---

    async def submit(self, asked: PageRequest) -> Answer:
        """POST login: a password, or the answer to what Cognito asked for after it."""
        require_own_origin(asked.request)
        fields = form_of(asked)
        if any(len(value) > _MAX_FIELD for value in fields.values()):
            raise Refused(Code.BODY_INVALID, f"a field of more than {_MAX_FIELD} characters")
        pending = await self._pending.find(fields.get("state", ""), asked.request, asked.now)
        username = pending.challenge.username if pending.challenge is not None else fields.get("username", "").strip()
        try:
            grant = await self._try(pending, username, fields, asked)
        except SignInFailed as failed:
            self._journal.write(line.SignInFailedLine(*self._begin(asked), failed.reason))
            return self._again(pending, asked, failed, username)
        users = (known_key(username), pending.user)
        if isinstance(grant, Challenge):
            return self._form(pending._replace(challenge=grant, user=pending.user or users[0]), asked.request)
        gone = await self._pending.end(pending, asked.now)
        return await self._opened(pending, grant, None, asked, gone, users)

    async def _try(
        self, pending: Pending, username: str, fields: dict[str, str], asked: PageRequest
    ) -> TokenSet | Challenge:  # fmt: skip
        """Ask the pool, with a place for the case that it says no. Raises SignInFailed, Refused."""
        device = self._devices.known(asked.request, known_key(username), asked.now)
        place = await self._limited(asked, self._attempts.take(self._client(asked), username, device, asked.now))
        return await self._at(place, asked, lambda: self._ask(pending, username, fields))

    async def _ask(self, pending: Pending, username: str, fields: dict[str, str]) -> TokenSet | Challenge:
        assert self._ways.pool is not None  # noqa: S101 - for the type checker
        if pending.challenge is not None:
            answers = {name: value for name, value in fields.items() if name not in ("state", "username")}
            if "repeated" in answers and not hmac.compare_digest(
                answers.pop("repeated").encode(), answers.get("password", "").encode()
            ):
                raise SignInFailed(SignInError.PASSWORD_POLICY, "The two passwords don't match.")
            return await self._ways.pool.respond(pending.challenge, answers)
        password = fields.get("password", "")
        if not username or not password:
            raise SignInFailed(SignInError.WRONG_PASSWORD)
        return await self._ways.pool.sign_in(username, password)

    def _again(self, pending: Pending, asked: PageRequest, failed: SignInFailed, username: str) -> Answer:
        """The same step once more, or the first one where Cognito takes no other answer to this challenge."""
        if failed.reason not in (SignInError.WRONG_CODE, SignInError.PASSWORD_POLICY):
            pending = pending._replace(challenge=None)
        status = 429 if failed.reason is SignInError.THROTTLED else 401
        return self._form(pending, asked.request, says=_message_of(failed), username=username, status=status)

    # --- the hosted UI comes back ---

    async def callback(self, asked: PageRequest) -> Answer:
        """GET callback: the code for tokens, the tokens for a session."""
        assert self._ways.hosted is not None  # noqa: S101 - for the type checker
        query = query_of(asked)
        pending = await self._pending.find(query.get("state", ""), asked.request, asked.now)
        # before anything is asked: of many callbacks at once one goes on
        gone = await self._pending.end(pending, asked.now)
        if "error" in query or not query.get("code"):
            return self._turned_away(query, asked, gone)
        hosted, code, callback = self._ways.hosted, query["code"], self._ways.callback(asked.request)
        place = await self._limited(asked, self._attempts.take_for_code(self._client(asked), asked.now))
        grant = await self._at(place, asked, lambda: hosted.exchange(code, pending.verifier, callback))
        return await self._opened(pending, grant, pending.nonce, asked, gone)

    def _turned_away(self, query: dict[str, str], asked: PageRequest, gone: tuple[bytes, ...]) -> Answer:
        """The page with what the hosted UI says of its refusal (RFC 6749 section 4.1.2.1), which the log gets too."""
        error, says = one_line(query.get("error", "no code"), 64), one_line(query.get("error_description", ""))
        detail = line.detail_text(f"{error}: {says}" if says else error)
        self._journal.write(line.SignInFailedLine(*self._begin(asked), Code.SIGN_IN_REFUSED, detail))
        log.warning("the hosted UI refused a sign-in: %s, request %s", detail, asked.request.request_id)
        made = answer.of(Code.SIGN_IN_REFUSED, asked.request.request_id, page=partial(self._pages.error, says=says))
        made.headers.extend((b"set-cookie", cookie) for cookie in gone)
        return made

    # --- how often ---

    async def _limited(self, asked: PageRequest, taking: Awaitable[Reservation]) -> Reservation:
        try:
            return await taking
        except Refused as refused:
            if refused.code is Code.SIGN_IN_LIMITED:
                self._journal.write(line.SignInFailedLine(*self._begin(asked), refused.code))
            raise

    async def _at(self, place: Reservation, asked: PageRequest, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the provider. The place counts as a failure unless the provider said yes, or nothing at all."""
        try:
            async with self._attempts.turn(self._client(asked)):
                got = await ask()
        except Refused as refused:
            if refused.code in _NOT_TRIED:
                await self._attempts.give_back(place)
            raise
        await self._attempts.give_back(place)
        return got

    def _client(self, asked: PageRequest) -> str:
        return client_key(self._address(asked))

    def _address(self, asked: PageRequest) -> str:
        return client_of(asked.raw.headers, asked.raw.peer, self._trusted)

    async def _opened(
        self, pending: Pending, grant: TokenSet, nonce: str | None, asked: PageRequest, gone: tuple[bytes, ...],
        users: tuple[str, ...] = (),
    ) -> Answer:  # fmt: skip
        """A new session, whatever session the browser came with (R19), and back to where the person was going."""
        try:
            signed_in = await self._verify(grant, nonce, asked.now, asked.rules.tokens.at(asked.request.host))
        except Refused as refused:
            self._journal.write(
                line.SignInFailedLine(*self._begin(asked), refused.code, line.detail_text(refused.detail) or None)
            )
            raise
        now = int(asked.now)
        session = Session(
            secrets.token_hex(16), signed_in.token, signed_in.identity, grant.refresh_token, signed_in.username,
            signed_in.expires, now, now, nonce is not None, asked.request.site,
        )  # fmt: skip
        cookies = await self._sessions.open(session)
        known = await self._known((*users, known_key(signed_in.username)), asked)
        self._journal.write(line.SignedIn(*self._begin(asked), signed_in.principal))
        return redirect(pending.to, (*cookies, *gone, *known))

    async def _known(self, users: tuple[str, ...], asked: PageRequest) -> tuple[bytes, ...]:
        """Remember where a user signed in, under each name that the form may get."""
        if self._ways.pool is None:
            return ()
        named = [user for user in dict.fromkeys(users) if user]
        await self._attempts.remember(self._client(asked), named, asked.now)
        return (self._devices.cookie(asked.request, named, asked.now),)

    # --- signing out ---

    async def ask(self, asked: PageRequest) -> Answer:
        """GET logout: the button. A link ends nothing, since another site can send anybody along it."""
        return page(self._pages.render("sign_out.html"), forms=self._ends_at(asked.request))

    def _ends_at(self, request: Request) -> str:
        """The origin that a sign-out leads to, "" where it stays here."""
        if self._ways.hosted is None or not self._ways.ends_cognito:
            return ""
        return _origin_of(self._ways.hosted.logout_url(self._ways.logout_uri(request)))

    async def sign_out(self, asked: PageRequest) -> Answer:
        """POST logout: ends the session here and its refresh token at Cognito; by choice all sessions of the user."""
        require_own_origin(asked.request)
        # a form of the app's own says what it likes
        ours = bool(asked.body) and asked.request.path == LOGOUT_PATH
        everywhere = ours and form_of(asked).get("everywhere") == "yes"
        session, cookies = await self._sessions.close(asked.request, asked.now)
        ended_all = session is not None and await self._end(session, asked, everywhere=everywhere)
        hosted, leads_to = self._ways.hosted, ""
        if hosted is not None and self._ways.ends_cognito and (session is None or session.hosted):
            leads_to = hosted.logout_url(self._ways.logout_uri(asked.request))
        if leads_to and (ended_all or not everywhere):
            return redirect(leads_to, cookies)
        body = self._pages.render("signed_out.html", everywhere=everywhere, ended_all=ended_all, leads_to=leads_to)
        made = page(body)
        made.headers.extend((b"set-cookie", cookie) for cookie in cookies)
        return made

    async def _end(self, session: Session, asked: PageRequest, *, everywhere: bool) -> bool:
        """End a session at Cognito, which is gone here, and with `everywhere` all of its user's. Return whether these
        have ended."""
        fault = await self._fault(self._revoke_all, session) if everywhere else None
        ended_all = everywhere and fault is None
        if not ended_all and session.refresh_token:
            await self._fault(self._revoke, session)
        name = self._name_of(session, asked.rules.tokens)
        told = ("ended" if fault is None else fault.code) if everywhere else None
        detail = line.detail_text(fault.detail) if fault is not None and fault.detail else None
        self._journal.write(line.SignedOut(*self._begin(asked), name, told, detail))
        return ended_all

    async def _fault(self, revoke: Revoke, session: Session) -> Refused | None:
        """Return why Cognito did not take it. The session here is gone whatever it says."""
        try:
            await revoke(session)
        except Refused as refused:
            log.warning("tokens could not be revoked: %s %s", refused.code, refused.detail)
            return refused
        return None

    def _begin(self, asked: PageRequest) -> tuple[str, str, str]:
        """The fields with which each line of a sign-in begins: its time, the request's id and the client's address."""
        return self._journal.time(), asked.request.request_id, self._address(asked)


def _message_of(failed: SignInFailed) -> str:
    """Return the message for a failure; what the pool says of its own rules goes before our words; a challenge's name
    tells a person nothing."""
    told = failed.reason in (SignInError.PASSWORD_POLICY, SignInError.REFUSED)
    return failed.message if told and failed.message else SAYS[failed.reason]
