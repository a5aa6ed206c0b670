"""The endpoints of a Cognito domain: sign-in pages, OAuth 2.0 token endpoints, sign-out. For development only.

As AWS's guide has them, with two differences: PKCE is required, and a global sign-out ends the session of the browser
too. `python -m sidecar.demo.authorization_server CONFIG` serves them.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import importlib.resources
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit, urlunsplit

import httpx
import jinja2
import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sidecar.demo.grants import SESSION_SECONDS, AuthorizationRequest, BrowserSession, Clock, Grants, OAuthError
from sidecar.demo.hosted_ui import Config
from sidecar.demo.pool import SCOPES, NewPasswordRequired, PoolError, Signer, UserPoolClient, pool_key, userinfo
from sidecar.demo.processes import LOOPBACK

SESSION_COOKIE = "cognito"
CSRF_COOKIE = "XSRF-TOKEN"
MAX_FORM = 64 * 1024
_FORM = "application/x-www-form-urlencoded"
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_SHOWN = ("identity_provider", "idp_identifier", "lang", "login_hint", "prompt")
"""Parameters that do nothing more here than to be shown, but for the last two."""


class Untrusted(Exception):
    """A request that does not show where its answer may go: the user gets a page. RFC 6749 section 4.1.2.1."""


class Redirected(Exception):
    """A refusal that the client gets at its redirect URI."""

    def __init__(self, asked: tuple[str, str | None], error: OAuthError) -> None:
        super().__init__(asked, error)
        self.redirect_uri, self.state = asked
        self.error = error


# --- reading ---


def single(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Parameters by name, without the empty ones. Raises OAuthError(invalid_request) for one that comes twice.

    RFC 6749 section 3.1: "Parameters sent without a value MUST be treated as if they were omitted from the request.
    [...] Request and response parameters MUST NOT be included more than once."
    """
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise OAuthError("invalid_request", f"{name}: more than once")
        found[name] = value
    return {name: value for name, value in found.items() if value}


async def read_form(request: Request) -> dict[str, str]:
    """The parameters of a form in the body. Raises OAuthError(invalid_request)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise OAuthError("invalid_request", f"Content-Type: expected {_FORM}")
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MAX_FORM:
            raise OAuthError("invalid_request", f"body: over {MAX_FORM} bytes")
    try:
        return single(parse_qsl(data.decode(), keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError:
        raise OAuthError("invalid_request", "body: not UTF-8") from None


def read_authorization_request(request: Request, config: Config) -> AuthorizationRequest:
    """Read the request from the query. Raises Untrusted, and Redirected once the redirect URI is known to be the
    client's."""
    asked = {name: request.query_params.getlist(name) for name in ("client_id", "redirect_uri", "state")}
    if len(asked["client_id"]) != 1 or asked["client_id"][0] not in config.clients:
        raise Untrusted("client_id: expected that of an app client of the pool, once")
    if len(asked["redirect_uri"]) != 1 or asked["redirect_uri"][0] not in config.redirect_uris:
        raise Untrusted("redirect_uri: expected one that is registered for the app client, character by character")
    try:
        return _authorization_request(single(request.query_params.multi_items()), (*SCOPES, *config.scopes))
    except OAuthError as error:
        raise Redirected((asked["redirect_uri"][0], next(iter(asked["state"]), None)), error) from None


def _authorization_request(parameters: dict[str, str], allowed: Sequence[str]) -> AuthorizationRequest:
    response_type = parameters.get("response_type")
    if response_type == "token":
        raise OAuthError("unauthorized_client", "response_type: the implicit grant is not enabled")
    if response_type != "code":
        raise OAuthError("invalid_request", "response_type: expected code")
    if parameters.get("code_challenge_method") != "S256":
        raise OAuthError("invalid_request", "code_challenge_method: expected S256")
    challenge = parameters.get("code_challenge", "")
    # RFC 7636 section 4.2: the base64url of a SHA-256 has 43 characters
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}", challenge):
        raise OAuthError("invalid_request", "code_challenge: expected the base64url of a SHA-256")
    scopes = tuple(dict.fromkeys(parameters.get("scope", " ".join(SCOPES)).split(" ")))
    if not set(scopes) <= set(allowed) or ("openid" not in scopes and {"email", "phone", "profile"} & set(scopes)):
        raise OAuthError("invalid_scope", f"scope: expected some of {' '.join(allowed)}, openid among them")
    resource = parameters.get("resource")
    if resource is not None and not re.fullmatch(r"https?://[^#\s]+", resource):
        # RFC 8707 section 2
        raise OAuthError("invalid_target", "resource: expected a URL without a fragment")
    return AuthorizationRequest(
        parameters["client_id"],
        parameters["redirect_uri"],
        scopes,
        challenge,
        parameters.get("state"),
        parameters.get("nonce"),
        resource,
    )


def read_client(request: Request, form: dict[str, str], config: Config) -> str:
    """The id of the client that asks, by Basic or by the form. Raises OAuthError: invalid_client, invalid_request."""
    client_id, secret = form.get("client_id"), form.get("client_secret", "")
    header = request.headers.get("authorization")
    if header is not None:
        if secret:
            # RFC 6749 section 2.3: not "more than one authentication method in each request"
            raise OAuthError("invalid_request", "client_secret: in the header and in the body")
        basic_id, secret = _basic(header)
        if client_id not in (None, basic_id):
            raise OAuthError("invalid_client", "client_id: another one in the header than in the body")
        client_id = basic_id
    if client_id is None:
        raise OAuthError("invalid_request", "client_id: missing")
    expected = config.clients.get(client_id, secrets.token_urlsafe())
    if not hmac.compare_digest((expected or "").encode(), secret.encode()):
        raise OAuthError("invalid_client", "client authentication failed")
    return client_id


def _basic(header: str) -> tuple[str, str]:
    """Client id and secret, each form-urlencoded before they were joined (RFC 6749 section 2.3.1)."""
    scheme, _, credentials = header.partition(" ")
    try:
        client_id, colon, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = client_id = secret = ""
    if scheme.lower() != "basic" or not colon:
        raise OAuthError("invalid_client", "Authorization: expected Basic and the base64 of id:secret")
    return unquote_plus(client_id), unquote_plus(secret)


# --- answering ---


def back_to(uri: str, parameters: dict[str, str | None], status: int = 302) -> RedirectResponse:
    """A redirect to a client, with these parameters beside those that its URI has."""
    parts = urlsplit(uri)
    added = urlencode({name: value for name, value in parameters.items() if value is not None})
    query = "&".join(text for text in (parts.query, added) if text)
    return RedirectResponse(urlunsplit(parts._replace(query=query)), status, headers=_NO_STORE)


def refused_json(_: Request, error: Exception) -> Response:
    """The body of RFC 6749 section 5.2, with the status that AWS's guide gives to every error of the token endpoint."""
    assert isinstance(error, OAuthError)  # noqa: S101 - narrows what Starlette hands over
    return _json({"error": error.error, "error_description": error.description}, 400)


def _json(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(body, status, {**_NO_STORE, **(headers or {})}, media_type="application/json;charset=UTF-8")


def refused_redirect(_: Request, error: Exception) -> Response:
    """The refusal at the client's redirect URI."""
    assert isinstance(error, Redirected)  # noqa: S101 - narrows what Starlette hands over
    described = {"error": error.error.error, "error_description": error.error.description}
    return back_to(error.redirect_uri, {**described, "state": error.state})


class HostedPages:
    """The HTML of the hosted UI. It needs no script, and gets none."""

    def __init__(self) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("sidecar.demo", "pages"), autoescape=True, undefined=jinja2.StrictUndefined
        )
        self.style = importlib.resources.files("sidecar.demo").joinpath("pages/style.css").read_text()

    def show(self, name: str, status: int = 200, *, leads_to: str = "", **values: Any) -> Response:
        """The page of this name. `leads_to` is where a form of it ends after its redirects."""
        parts = urlsplit(leads_to)
        target = f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") else f"{parts.scheme}:"
        # a browser holds form-action against the redirects after a form too
        action = f"'self' {target}" if leads_to else "'none'"
        policy = (
            "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'; "
            f"form-action {action}"
        )
        headers = {
            **_NO_STORE,
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        return HTMLResponse(self._templates.get_template(name).render(values), status, headers)

    def refused(self, _: Request, error: Exception) -> Response:
        """The page for an Untrusted request."""
        return self.show("error.html", 400, title="This sign-in link does not work", message=str(error))

    def pool_away(self, _: Request, __: Exception) -> Response:
        """The page while the user pool does not answer."""
        return self.show("error.html", 502, title="No sign-in now", message="The user pool does not answer.")


# --- the endpoints ---


class TokenEndpoints:
    """Endpoints that the client itself asks: /oauth2/token, /oauth2/userInfo, /oauth2/revoke."""

    def __init__(self, config: Config, pool: UserPoolClient, signer: Signer, grants: Grants, now: Clock) -> None:
        self._config = config
        self._pool = pool
        self._signer = signer
        self._grants = grants
        self._now = now

    async def token(self, request: Request) -> Response:
        """POST /oauth2/token. Raises OAuthError."""
        form = await read_form(request)
        client_id = read_client(request, form, self._config)
        kind = _required(form, "grant_type")
        nonce = refresh_token = None
        if kind == "authorization_code":
            needed = [_required(form, name) for name in ("code", "redirect_uri", "code_verifier")]
            grant = self._grants.redeem(client_id, *needed)
            nonce, refresh_token = grant.nonce, self._grants.refresh_token(grant)
        elif kind == "refresh_token":
            grant, refresh_token = self._grants.refresh(client_id, _required(form, "refresh_token"))
        else:
            raise OAuthError("unsupported_grant_type", "grant_type: expected authorization_code or refresh_token")
        try:
            tokens = await self._pool.refresh(grant.session.pool_token)
        except PoolError as error:
            raise OAuthError("invalid_grant", f"the user pool: {error.kind}") from None
        grant.pool_access = tokens.access_token
        answer = self._signer.tokens(grant, tokens, self._now(), nonce)
        return _json(answer if refresh_token is None else {**answer, "refresh_token": refresh_token})

    async def userinfo(self, request: Request) -> Response:
        """GET /oauth2/userInfo."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return _userinfo_error(400, "invalid_request", "Bad OAuth2 request at UserInfo Endpoint")
        try:
            claims = self._signer.read(token)
            grant = self._grants.find(str(claims.get("origin_jti")))
            if grant is not None and claims.get("token_use") == "access" and "openid" in grant.scopes:
                attributes = await self._pool.attributes(grant.pool_access)
                return _json(userinfo(attributes, grant.scopes))
        except (jwt.PyJWTError, PoolError):
            pass
        why = "Access token is expired, disabled, or deleted, or the user has globally signed out."
        return _userinfo_error(401, "invalid_token", why)

    async def revoke(self, request: Request) -> Response:
        """POST /oauth2/revoke. Raises OAuthError."""
        form = await read_form(request)
        try:
            client_id = read_client(request, form, self._config)
        except OAuthError as error:
            # AWS's guide, "Revoke endpoint": here, and not at the token endpoint, with the status 401
            status = 401 if error.error == "invalid_client" else 400
            return _json({"error": error.error, "error_description": error.description}, status)
        token = _required(form, "token")
        if not self._grants.revoke(client_id, token):
            with contextlib.suppress(jwt.PyJWTError):
                self._signer.read(token, ended=True)
                raise OAuthError("unsupported_token_type", "token: expected a refresh token")
        return Response(headers=_NO_STORE)


def _required(form: dict[str, str], name: str) -> str:
    if name not in form:
        raise OAuthError("invalid_request", f"{name}: missing")
    return form[name]


def _userinfo_error(status: int, error: str, description: str) -> Response:
    challenge = f'Bearer error="{error}", error_description="{description}"'
    return _json({"error": error, "error_description": description}, status, {"WWW-Authenticate": challenge})


class SignIn:
    """Endpoints that the browser asks: /oauth2/authorize, /login, /changePassword, /logout. Each raises Untrusted,
    Redirected."""

    def __init__(self, config: Config, pool: UserPoolClient, grants: Grants, pages: HostedPages) -> None:
        self._config = config
        self._pool = pool
        self._grants = grants
        self._pages = pages
        self._challenges: dict[str, NewPasswordRequired] = {}

    async def authorize(self, request: Request) -> Response:
        """GET /oauth2/authorize: straight back with a code for who has signed in, else the sign-in page."""
        asked = read_authorization_request(request, self._config)
        prompt = request.query_params.get("prompt")
        session = None if prompt == "login" else await self._session(request)
        if session is not None:
            return self._with_code(asked, session, 302)
        if prompt == "none":
            error = OAuthError("login_required", "prompt: none, and nobody has signed in")
            raise Redirected((asked.redirect_uri, asked.state), error)
        return self._sign_in_page(request, asked)

    async def _session(self, request: Request) -> BrowserSession | None:
        cookie = request.cookies.get(SESSION_COOKIE, "")
        session = self._grants.session(cookie)
        if session is not None:
            try:
                await self._pool.refresh(session.pool_token)
            except PoolError:
                # a code for a user whom the pool has signed out would come back as invalid_grant, and around again
                self._grants.sign_out(cookie)
                return None
        return session

    async def page(self, request: Request) -> Response:
        """GET /login: the sign-in page, also for who has signed in."""
        return self._sign_in_page(request, read_authorization_request(request, self._config))

    async def login(self, request: Request) -> Response:
        """POST /login: a name and a password."""
        asked = read_authorization_request(request, self._config)
        form = await self._form(request)
        if form is None:
            return self._sign_in_page(request, asked, 403, fault="This page was open for too long. Please try again.")
        username = form.get("username", "")
        try:
            found = await self._pool.sign_in(username, form.get("password", ""))
        except PoolError:
            return self._sign_in_page(request, asked, 400, fault="Incorrect username or password.", username=username)
        if isinstance(found, NewPasswordRequired):
            self._challenges[found.session] = found
            return self._new_password_page(request, asked, found)
        return self._signed_in(asked, found)

    async def change_password(self, request: Request) -> Response:
        """POST /changePassword: the new password of a user who had a temporary one."""
        asked = read_authorization_request(request, self._config)
        form = await self._form(request)
        challenge = self._challenges.get((form or {}).get("session", ""))
        if form is None or challenge is None:
            return self._sign_in_page(request, asked, 403, fault="This page was open for too long. Please try again.")
        password = form.get("new_password", "")
        if password != form.get("confirm_password", ""):
            return self._new_password_page(request, asked, challenge, 400, fault="The two passwords are not the same.")
        try:
            pool_token = await self._pool.change_password(challenge, password)
        except PoolError as error:
            fault = error.message if error.kind == "InvalidPasswordException" else "This password is not possible."
            return self._new_password_page(request, asked, challenge, 400, fault=fault)
        del self._challenges[challenge.session]
        return self._signed_in(asked, pool_token)

    async def logout(self, request: Request) -> Response:
        """GET /logout: end the session, then to `logout_uri`, or to the sign-in page of an authorization request."""
        query = request.query_params
        if "logout_uri" in query:
            registered = query["client_id"] in self._config.clients if "client_id" in query else False
            if not registered or query["logout_uri"] not in self._config.logout_uris:
                raise Untrusted("client_id, logout_uri: expected an app client, and a sign-out URI registered for it")
            response = RedirectResponse(query["logout_uri"], 302, headers=_NO_STORE)
        else:
            read_authorization_request(request, self._config)
            response = RedirectResponse(f"/login?{request.url.query}", 302, headers=_NO_STORE)
        self._grants.sign_out(request.cookies.get(SESSION_COOKIE, ""))
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")
        return response

    async def _form(self, request: Request) -> dict[str, str] | None:
        """The form, None unless it is one of our own pages'. Raises Untrusted."""
        try:
            form = await read_form(request)
        except OAuthError as error:
            raise Untrusted(error.description) from None
        token = request.cookies.get(CSRF_COOKIE, "")
        own = token and hmac.compare_digest(token.encode(), form.get("_csrf", "").encode())
        return form if own else None

    def _signed_in(self, asked: AuthorizationRequest, pool_token: str) -> Response:
        cookie, session = self._grants.sign_in(pool_token)
        response = self._with_code(asked, session, 303)
        response.set_cookie(SESSION_COOKIE, cookie, max_age=SESSION_SECONDS, httponly=True, samesite="lax")
        return response

    def _with_code(self, asked: AuthorizationRequest, session: BrowserSession, status: int) -> Response:
        code = self._grants.authorize(asked, session)
        return back_to(asked.redirect_uri, {"code": code, "state": asked.state}, status)

    def _sign_in_page(
        self, request: Request, asked: AuthorizationRequest, status: int = 200, *, fault: str = "", username: str = ""
    ) -> Response:
        query = request.query_params
        facts = {
            "App client": asked.client_id,
            "Returns to": asked.redirect_uri,
            "Scopes": " ".join(asked.scopes),
            **{name: query[name] for name in _SHOWN if query.get(name)},
        }
        values = {
            "users": self._config.users,
            "facts": facts,
            "username": username or query.get("login_hint", ""),
            "action": f"/login?{query}",
        }
        return self._form_page("sign_in.html", request, asked, status, fault=fault, **values)

    def _new_password_page(
        self,
        request: Request,
        asked: AuthorizationRequest,
        challenge: NewPasswordRequired,
        status: int = 200,
        *,
        fault: str = "",
    ) -> Response:
        action = f"/changePassword?{request.query_params}"
        return self._form_page(
            "new_password.html", request, asked, status, fault=fault, challenge=challenge, action=action
        )

    def _form_page(
        self, name: str, request: Request, asked: AuthorizationRequest, status: int, **values: Any
    ) -> Response:
        # the token that the browser has stays, so that forms in its other tabs do not end
        token = request.cookies.get(CSRF_COOKIE) or secrets.token_urlsafe(32)
        response = self._pages.show(name, status, leads_to=asked.redirect_uri, csrf=token, **values)
        response.set_cookie(CSRF_COOKIE, token, httponly=True, samesite="lax")
        return response


def hosted_ui(config: Config, pool: UserPoolClient, signer: Signer, now: Clock, http: httpx.AsyncClient) -> Starlette:
    """The ASGI app of all endpoints; it closes `http` at its end."""
    grants = Grants(now, code_seconds=config.code_seconds, rotation_grace=config.rotation_grace)
    pages = HostedPages()
    browser = SignIn(config, pool, grants, pages)
    api = TokenEndpoints(config, pool, signer, grants, now)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with http:
            yield

    async def style(_: Request) -> Response:
        return Response(pages.style, media_type="text/css")

    return Starlette(
        routes=[
            Route("/oauth2/authorize", browser.authorize, methods=["GET"]),
            Route("/login", browser.page, methods=["GET"]),
            Route("/login", browser.login, methods=["POST"]),
            Route("/changePassword", browser.change_password, methods=["POST"]),
            Route("/logout", browser.logout, methods=["GET"]),
            Route("/oauth2/token", api.token, methods=["POST"]),
            Route("/oauth2/userInfo", api.userinfo, methods=["GET"]),
            Route("/oauth2/revoke", api.revoke, methods=["POST"]),
            Route("/style.css", style, methods=["GET"]),
        ],
        exception_handlers={
            OAuthError: refused_json,
            Redirected: refused_redirect,
            Untrusted: pages.refused,
            httpx.HTTPError: pages.pool_away,
        },
        lifespan=lifespan,
    )


def main(argv: Sequence[str]) -> None:
    """Serve until SIGTERM; `argv` is the path of a file that Config.write wrote."""
    config = Config.read(Path(argv[0]))
    http = httpx.AsyncClient(trust_env=False, timeout=10.0)
    pool = UserPoolClient(http, config.endpoint, config.pool_client)
    now = time.time  # noqa: TID251 - here the clock enters
    app = hosted_ui(config, pool, Signer(pool_key(), config.issuer, config.token_seconds), now, http)
    uvicorn.run(
        app,
        host=LOOPBACK,
        port=config.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
