"""Sessions of an AWS load balancer: where an ALB signs people in, its headers stand in for a bearer token.

It sends Cognito's access token as it is, and what it knows of the user as a JWT of its own (AWS, "Authenticate users
using an Application Load Balancer"). The first is verified as any token is. The second proves that the request came
through one of our own load balancers, and is of the same user.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sidecar.bounded import ENTRY, Expiring
from sidecar.gate.codes import Code
from sidecar.gate.headers import ALB_ACCESS_TOKEN, ALB_DATA
from sidecar.gate.identity import Tokens
from sidecar.gate.request import Request
from sidecar.gate.session import Presented
from sidecar.gate.verdict import Refused
from sidecar.net.breaker import Report
from sidecar.net.faults import reason_of
from sidecar.trust.download import NO_PROXY, Downloads, Proxy, Unusable
from sidecar.wire import base64url, strict_json

log = logging.getLogger("sidecar.alb")

MAX_DATA = 16 * 1024
MAX_PEM = 4 * 1024
FETCH_WITHIN = 3.0
KEY_LIFE = 24 * 3600.0
"""Seconds for which a key is taken without being asked for again."""
MAX_KEYS = 32
_KEY = 2048
"""Bytes of a key and its URL, about."""
WINDOW, PER_WINDOW = 60.0, 10
"""Keys are asked for PER_WINDOW times in WINDOW seconds at most, whatever comes of it."""
AGAIN_AFTER = 10.0
"""Seconds in which a key that was not had is not asked for again."""

Clock = Callable[[], float]


def key_base(signer: str) -> str:
    """Where the keys of a load balancer are, by its ARN: at its region's endpoint, in GovCloud in a bucket."""
    _, partition, _, region, *_ = signer.split(":")
    if partition == "aws-us-gov":
        return f"https://s3-{region}.amazonaws.com/aws-elb-public-keys-prod-{region}"
    return f"https://public-keys.auth.elb.{region}.amazonaws.com"


# --- the source ---


class AlbSessions:
    """A `TokenSource`: the headers of the load balancers whose ARNs are `signers`."""

    def __init__(self, signers: tuple[str, ...], keys: AlbKeys) -> None:
        self._signers = frozenset(signers)
        self._keys = keys

    # the browser has a cookie of the load balancer's, which we never see
    vary = b"Cookie, X-Amzn-Oidc-Accesstoken, X-Amzn-Oidc-Data"

    def holds(self, request: Request) -> bool:
        """Return whether the request has one of the two headers."""
        return ALB_ACCESS_TOKEN in request.seen or ALB_DATA in request.seen

    async def present(self, request: Request, now: float, tokens: Tokens) -> Presented:
        """The access token. Raises Refused: TOKEN_INVALID, TOKEN_EXPIRED, KEYS_UNAVAILABLE."""
        access, data = request.seen.get(ALB_ACCESS_TOKEN), request.seen.get(ALB_DATA)
        if access is None or data is None:
            raise Refused(Code.TOKEN_INVALID, f"expected both {ALB_ACCESS_TOKEN.decode()} and {ALB_DATA.decode()}")
        # before the load balancer's own: so that only a user of the pool can make us ask for a key
        principal = await tokens.principal_of_token(access, now)
        parts = _read(data)
        signer, kid = self._judge(parts.header, tokens, principal.claims, now)
        _verify(await self._keys.find(signer, kid), parts)
        if parts.payload.get("sub") != principal.claims["sub"]:
            raise Refused(Code.TOKEN_INVALID, "the load balancer's data is of another user than the access token")
        return Presented(access)

    def _judge(self, header: dict[str, Any], tokens: Tokens, claims: Any, now: float) -> tuple[str, str]:
        """(signer, kid) of the data's header, in which AWS has its claims: `signer`, `iss`, `client` and `exp`."""
        if not header.keys() <= _PARAMETERS:
            raise Refused(Code.TOKEN_INVALID, "a header parameter that a load balancer does not set")
        if header.get("alg") != "ES256" or header.get("typ", "JWT") != "JWT":
            raise Refused(Code.TOKEN_INVALID, "alg: expected ES256")
        signer, kid, issuer = header.get("signer"), header.get("kid"), header.get("iss")
        if not isinstance(signer, str) or signer not in self._signers:
            raise Refused(Code.TOKEN_INVALID, "signer: not one of SIDECAR_ALB_SIGNER")
        if not isinstance(kid, str) or not _UUID.fullmatch(kid):
            raise Refused(Code.TOKEN_INVALID, "kid: expected a UUID")
        if not isinstance(issuer, str) or issuer not in tokens.issuers:
            raise Refused(Code.TOKEN_INVALID, "iss: not one of the trusted issuers")
        if not isinstance(header.get("client"), str) or header["client"] != claims.get("client_id"):
            raise Refused(Code.TOKEN_INVALID, "client: another app client than the access token's")
        expires = header.get("exp")
        if type(expires) is not int:
            raise Refused(Code.TOKEN_INVALID, "exp: expected Unix seconds as an integer")
        if expires <= now:
            raise Refused(Code.TOKEN_EXPIRED, "the load balancer's data")
        return signer, kid


_PARAMETERS = frozenset(("alg", "typ", "kid", "signer", "iss", "client", "exp"))
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# an ALB leaves the padding on, which RFC 7515 section 2 takes away
_JWS = re.compile(rb"([A-Za-z0-9_-]+={0,2})\.([A-Za-z0-9_-]+={0,2})\.([A-Za-z0-9_-]+={0,2})")
_COORDINATE = 32


class _Parts(NamedTuple):
    header: dict[str, Any]
    payload: dict[str, Any]
    signed: bytes
    signature: bytes


def _read(data: bytes) -> _Parts:
    match = _JWS.fullmatch(data) if len(data) <= MAX_DATA else None
    if match is None:
        raise Refused(Code.TOKEN_INVALID, f"{ALB_DATA.decode()}: expected one JWT")
    try:
        header, payload = (strict_json.loads(_decoded(segment)) for segment in match.groups()[:2])
        signature = _decoded(match[3])
    except ValueError as error:
        raise Refused(Code.TOKEN_INVALID, f"{ALB_DATA.decode()}: {error}") from None
    if not isinstance(header, dict) or not isinstance(payload, dict):
        raise Refused(Code.TOKEN_INVALID, f"{ALB_DATA.decode()}: a segment that is not a JSON object")
    return _Parts(header, payload, data.rpartition(b".")[0], signature)


def _decoded(segment: bytes) -> bytes:
    """Decode base64url, padded or not. Raises ValueError."""
    bare = segment.rstrip(b"=")
    if segment not in (bare, bare + b"=" * (-len(bare) % 4)):
        raise ValueError("a segment that is not base64url, with or without its padding")
    return base64url.decode(bare)


def _verify(key: EllipticCurvePublicKey, parts: _Parts) -> None:
    """ES256 (RFC 7518 section 3.4): the signature is R and S, 32 bytes each."""
    if len(parts.signature) != 2 * _COORDINATE:
        raise Refused(Code.TOKEN_INVALID, "the load balancer's signature")
    r, s = parts.signature[:_COORDINATE], parts.signature[_COORDINATE:]
    encoded = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    try:
        key.verify(encoded, parts.signed, ECDSA(SHA256()))
    except InvalidSignature:
        raise Refused(Code.TOKEN_INVALID, "the load balancer's signature") from None


# --- the keys ---


class AlbKeys:
    """The public keys of load balancers, each fetched when it is first needed.

    `now` gives seconds from any beginning; `base` is `key_base`, or another place for the keys of an ARN.
    """

    def __init__(
        self, *, now: Clock, report: Report, base: Callable[[str], str] = key_base, proxy: Proxy = NO_PROXY
    ) -> None:
        self._now = now
        self._report = report
        self._base = base
        self._keys: Expiring[str, EllipticCurvePublicKey] = Expiring(MAX_KEYS * (ENTRY + _KEY), KEY_LIFE)
        self._failed: dict[str, tuple[Code, str, float]] = {}
        self._asked: deque[float] = deque(maxlen=PER_WINDOW)
        self._flights: dict[str, asyncio.Task[None]] = {}
        self._downloads = Downloads(timeout=2.0, limit=MAX_PEM, proxy=proxy)

    async def find(self, signer: str, kid: str) -> EllipticCurvePublicKey:
        """The key of a load balancer; `kid` is a UUID. Raises Refused: TOKEN_INVALID where there is none,
        KEYS_UNAVAILABLE."""
        url = f"{self._base(signer)}/{kid}"
        key = self._known(url)
        if key is None and self._may_ask(url):
            await self._ask(url)
            key = self._known(url)
        if key is None:
            code, why = self._failed[url][:2] if url in self._failed else (Code.KEYS_UNAVAILABLE, "asked too often")
            raise Refused(code, f"the load balancer's key: {why}")
        return key

    def _known(self, url: str) -> EllipticCurvePublicKey | None:
        return self._keys.get(url, self._now())

    def _may_ask(self, url: str) -> bool:
        now = self._now()
        self._failed = {other: failed for other, failed in self._failed.items() if now - failed[2] < AGAIN_AFTER}
        if url in self._flights:
            return True
        recent = sum(now - at < WINDOW for at in self._asked)
        return url not in self._failed and recent < PER_WINDOW

    async def _ask(self, url: str) -> None:
        """One fetch that everybody who waits shares; whoever stops waiting does not stop it."""
        flight = self._flights.get(url)
        if flight is None:
            self._asked.append(self._now())
            flight = self._flights[url] = asyncio.get_running_loop().create_task(self._load(url))
            flight.add_done_callback(lambda _: self._flights.pop(url, None))
        await asyncio.wait([flight])

    async def _load(self, url: str) -> None:
        try:
            async with asyncio.timeout(FETCH_WITHIN):
                key = _public_key(await self._download(url))
        except Refused as refused:
            self._fail(url, refused.code, refused.detail)
        except (TimeoutError, httpx.TimeoutException):
            self._fail(url, Code.KEYS_UNAVAILABLE, "timeout")
        except Exception as error:  # noqa: BLE001 - whatever it was, there is no key, and the next fetch must still come
            self._fail(url, Code.KEYS_UNAVAILABLE, f"{reason_of(error)}: {error}")
        else:
            self._keys.put(url, key, self._now(), weight=_KEY)

    def _fail(self, url: str, code: Code, fault: str) -> None:
        log.warning("no key of a load balancer from %s: %s", url, fault)
        self._report("alb_keys", "unknown" if code == Code.TOKEN_INVALID else "unavailable")
        self._failed[url] = (code, fault, self._now())

    async def _download(self, url: str) -> bytes:
        try:
            return (await self._downloads.ask(httpx.Request("GET", url), _judge)).body
        except Unusable as error:
            raise Refused(Code.KEYS_UNAVAILABLE, str(error)) from None

    async def aclose(self) -> None:
        """Stop fetching, and close."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._downloads.aclose()


def _judge(response: httpx.Response) -> None:
    if response.status_code in (httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND):
        raise Refused(Code.TOKEN_INVALID, "no such key")
    if response.status_code != httpx.codes.OK:
        raise Refused(Code.KEYS_UNAVAILABLE, f"status {response.status_code}")


_PEM = re.compile(rb"\s*-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\s]+-----END PUBLIC KEY-----\s*")


def _public_key(pem: bytes) -> EllipticCurvePublicKey:
    """The one P-256 key of a PEM text. Raises Refused(KEYS_UNAVAILABLE)."""
    try:
        key = load_pem_public_key(pem) if _PEM.fullmatch(pem) else None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise Refused(Code.KEYS_UNAVAILABLE, "expected a P-256 key as PEM")
    return key
