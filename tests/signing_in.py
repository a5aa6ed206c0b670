"""What a browser and an app do to sign somebody in at the hosted UI, step by step, so that a test can do one of them wrong."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import time
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx

from sidecar.demo.cognito import LocalCognito
from sidecar.gate.identity import Issuer, Principal, PrincipalRules, Tokens
from sidecar.gate.request import Raw, Reading, read
from sidecar.trust.jwks import KeyStore

VERIFIER = "correct-horse-battery-staple-correct-horse-battery"


def challenge_of(verifier: str) -> str:
    """RFC 7636 section 4.2: BASE64URL-ENCODE(SHA256(ASCII(code_verifier)))"""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def authorize_url(domain: str, client_id: str, redirect_uri: str, **parameters: str | None) -> str:
    """An authorization request as an app makes it; `parameters` are added, and None takes one away."""
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "scope": "openid email",
        "state": "state-1",
        "nonce": "nonce-1",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
        **parameters,
    }
    return f"{domain}/oauth2/authorize?{urlencode({key: value for key, value in asked.items() if value is not None})}"


def _client() -> httpx.Client:
    # a connection for each request: nobody has to close the client
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(trust_env=False, follow_redirects=False, timeout=20, limits=limits)


class Form(NamedTuple):
    """A form of a page: where it goes, and what it has hidden."""

    action: str
    fields: dict[str, str]


def forms(page: httpx.Response) -> list[Form]:
    """The forms of a page, in order."""
    found = []
    for action, inside in re.findall(r'<form method="post" action="([^"]*)">(.*?)</form>', page.text, re.DOTALL):
        hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', inside)
        fields = {html.unescape(name): html.unescape(value) for name, value in hidden}
        found.append(Form(urljoin(str(page.url), html.unescape(action)), fields))
    return found


class Browser:
    """Keeps cookies and follows no redirect."""

    def __init__(self) -> None:
        self.http = _client()

    def open(self, url: str) -> httpx.Response:
        """GET."""
        return self.http.get(url)

    def submit(self, form: Form, **fields: str) -> httpx.Response:
        """Send a form with these fields filled in."""
        return self.http.post(form.action, data={**form.fields, **fields})

    def sign_in(self, url: str, username: str, password: str) -> httpx.Response:
        """Open the sign-in page and use its first form."""
        return self.submit(forms(self.open(url))[0], username=username, password=password)


def parameters_of(response: httpx.Response) -> dict[str, str]:
    """The query of the place that a response redirects to."""
    return dict(parse_qsl(urlsplit(response.headers["location"]).query, keep_blank_values=True))


async def principal_of(cognito: LocalCognito, token: str, use: str, client_id: str | None = None) -> Principal:
    """The principal of a token, verified as the sidecar does it, with the key set that the pool serves."""
    issuer = Issuer(cognito.issuer, frozenset([client_id or cognito.client_id]), frozenset([use]))
    url = f"{cognito.endpoint}/{cognito.pool_id}/.well-known/jwks.json"
    store = KeyStore({cognito.issuer: url}, [[cognito.issuer]], now=time.monotonic, report=lambda *_: None)
    try:
        rules = PrincipalRules(id="username" if use == "access" else "cognito:username")
        tokens = Tokens({cognito.issuer: issuer}, rules, store.find)
        headers = [(b"host", b"app.test"), (b"authorization", b"Bearer " + token.encode())]
        return await tokens.principal_of(read(Raw("GET", b"/", headers, "", "http", "r"), Reading()), time.time())
    finally:
        await store.aclose()


class App:
    """A client's back channel: the token endpoints, as `client_id` with its secret if it has one."""

    def __init__(self, domain: str, client_id: str, secret: str | None = None) -> None:
        self.domain = domain
        self.client_id = client_id
        self.secret = secret
        self.http = _client()

    def post(self, path: str, **form: str) -> httpx.Response:
        """A form, with the client's credentials."""
        if self.secret is None:
            return self.http.post(self.domain + path, data={"client_id": self.client_id, **form})
        return self.http.post(self.domain + path, data=form, auth=(self.client_id, self.secret))

    def redeem(self, code: str, redirect_uri: str, verifier: str = VERIFIER) -> httpx.Response:
        """A code for tokens."""
        form = {"code": code, "redirect_uri": redirect_uri, "code_verifier": verifier}
        return self.post("/oauth2/token", grant_type="authorization_code", **form)

    def refresh(self, token: str) -> httpx.Response:
        """A refresh token for tokens."""
        return self.post("/oauth2/token", grant_type="refresh_token", refresh_token=token)

    def revoke(self, token: str) -> httpx.Response:
        """The end of a refresh token."""
        return self.post("/oauth2/revoke", token=token)

    def userinfo(self, token: str) -> httpx.Response:
        """The user of an access token."""
        return self.http.get(f"{self.domain}/oauth2/userInfo", headers={"Authorization": f"Bearer {token}"})


def problem(response: httpx.Response) -> tuple[int, Any]:
    """Status and `error` of a refusal."""
    assert response.headers["content-type"] == "application/json;charset=UTF-8"
    assert response.headers["cache-control"] == "no-store"
    return response.status_code, response.json()["error"]
