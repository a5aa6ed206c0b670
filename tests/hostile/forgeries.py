"""The tokens of the jwt cases: the words of each case -> (name, the header lines that carry the token)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.hostile.attempts import Attempt, Case
from tests.hostile.minting import ABSENT, ISSUER, Mint, SigningKey, encoded, hs256

Forgeries = dict[str, str]
"""Name -> token."""

OTHER_POOL = ISSUER.replace("_TEST", "_OTHER")


def bearer_attempts(case: Case, mint: Mint) -> list[Attempt]:
    """One attempt for each token of a jwt case."""
    if case["id"] == "j20":
        return [_request(name, *parts, case["expect"]) for name, parts in _elsewhere(mint).items()]
    tokens = FORGERIES[case["id"]](mint)
    line = case["send"]["line"]
    return [_request(name, line, [_authorization(token)], "", case["expect"]) for name, token in tokens.items()]


def _authorization(token: str) -> str:
    return f"Authorization: Bearer {token}"


def _request(name: str, line: str, headers: list[str], body: str, expect: dict[str, Any]) -> Attempt:
    length = [f"Content-Length: {len(body)}"] if body else []
    head = "\r\n".join([f"{line} HTTP/1.1", "Host: app.test", *headers, *length, "", ""])
    return Attempt(name, [(head + body).encode("latin-1")], expect)


def _elsewhere(mint: Mint) -> dict[str, tuple[str, list[str], str]]:
    """A good token in every place but the one where it belongs."""
    token = mint.token()
    form = ["Content-Type: application/x-www-form-urlencoded"]
    return {
        "?access_token=": (f"GET /docs/1?access_token={token}", [], ""),
        "form access_token": ("POST /docs", form, f"access_token={token}"),
        "X-Access-Token": ("GET /docs/1", [f"X-Access-Token: {token}"], ""),
        "Cookie": ("GET /docs/1", [f"Cookie: access_token={token}; Authorization=Bearer {token}"], ""),
        "Proxy-Authorization": ("GET /docs/1", [f"Proxy-Authorization: Bearer {token}"], ""),
    }


def _no_algorithm(mint: Mint) -> Forgeries:
    algorithms: list[Any] = ["none", "None", "nOnE", "", None, ABSENT, ["RS256"], "RS512", "PS256"]
    made = {}
    for alg in algorithms:
        header, name = mint.header(alg=alg), "missing" if alg is ABSENT else repr(alg)
        made[f"alg {name}, no signature"] = f"{encoded(header)}.{encoded(mint.claims())}."
        made[f"alg {name}, signed"] = mint.compact(header, mint.claims())
    return made


def _confused(mint: Mint) -> Forgeries:
    header = mint.header(alg="HS256")
    return {
        f"HMAC by {name}": mint.compact(header, mint.claims(), hs256(secret))
        for name, secret in mint.key.forms().items()
    }


def _critical(mint: Mint) -> Forgeries:
    made = {f"crit {crit!r}": mint.with_header(crit=crit) for crit in (["x"], ["exp"], [], "x")}
    made["b64 false"] = mint.with_header(b64=False, crit=["b64"])
    made["b64 false alone"] = mint.with_header(b64=False)
    return made


def _typed(mint: Mint) -> Forgeries:
    others = {"jwk": mint.key.jwk, "jku": "http://127.0.0.1/keys", "x5u": "http://127.0.0.1/", "x5c": ["MII"]}
    made = {f"{name} header": mint.with_header(**{name: value}) for name, value in others.items()}
    return made | {
        "typ dpop+jwt": mint.with_header(typ="dpop+jwt"),
        "typ 1": mint.with_header(typ=1),
        "zip DEF": mint.with_header(zip="DEF"),
        "cty JWT": mint.with_header(cty="JWT"),
    }


def _key_ids(mint: Mint) -> Forgeries:
    kids: dict[str, Any] = {
        "missing": ABSENT, "int": 1, "list": [mint.key.kid], "10 KB": "k" * 10_000, "../../x": "../../x",
        "with NUL": mint.key.kid + "\0", "null": None, "empty": "",
    }  # fmt: skip
    made = {f"kid {name}": mint.with_header(kid=kid) for name, kid in kids.items()}
    stranger = SigningKey("pool-key-of-another")
    made["of another pool"] = Mint(stranger).token()
    # the right key id over the wrong key
    made["of another pool under our id"] = mint.compact(mint.header(), mint.claims(), stranger.sign)
    return made


def _encodings(mint: Mint) -> Forgeries:
    header, claims = json.dumps(mint.header()), json.dumps(mint.claims())
    made = {}
    for codec in ("utf-16", "utf-16-le", "utf-8-sig", "utf-32"):
        made[f"header in {codec}"] = mint.compact(header.encode(codec), mint.claims())
        made[f"payload in {codec}"] = mint.compact(mint.header(), claims.encode(codec))
    made["a key twice"] = mint.compact(mint.header(), claims[:-1].encode() + b',"sub":"r-1"}')
    return made


def _times(mint: Mint) -> Forgeries:
    now = int(time.time())
    return {
        "exp now-1": mint.token(exp=now - 1),
        "nbf now+3600": mint.token(nbf=now + 3600),
        "iat now+3600": mint.token(iat=now + 3600),
        "iat missing": mint.token(iat=ABSENT),
        "exp missing": mint.token(exp=ABSENT),
        "exp text": mint.token(exp=str(now + 3600)),
        "exp true": mint.token(exp=True),
        "exp 1e400": mint.compact(mint.header(), json.dumps(mint.claims(exp=-1)).replace("-1", "1e400").encode()),
    }


def _clients(mint: Mint) -> Forgeries:
    return {
        "of another app client": mint.token(client_id="c2"),
        "client_id list": mint.token(client_id=["c1"]),
        "client_id missing": mint.token(client_id=ABSENT),
        "aud on an access token": mint.token(aud="c1"),
        "id token with aud list": mint.token(token_use="id", client_id=ABSENT, aud=["c1"]),
        "id token": mint.token(token_use="id", client_id=ABSENT, aud="c1"),
        "token_use refresh": mint.token(token_use="refresh"),
        "token_use missing": mint.token(token_use=ABSENT),
        "token_use list": mint.token(token_use=["access"]),
    }


def _issuers(mint: Mint) -> Forgeries:
    issuers: dict[str, Any] = {
        "trailing slash": ISSUER + "/", "case": ISSUER.replace("_TEST", "_test"), "host case": ISSUER.upper(),
        "prefix": ISSUER[:-1], "suffix": ISSUER + "x", "list": [ISSUER], "another pool": OTHER_POOL,
        "missing": ABSENT, "null": None, "query": ISSUER + "?", "user": ISSUER.replace("https://", "https://x@"),
    }  # fmt: skip
    return {f"iss {name}": mint.token(iss=issuer) for name, issuer in issuers.items()}


def _subjects(mint: Mint) -> Forgeries:
    subjects: dict[str, Any] = {
        "empty": "", "NUL": "a\0b", "CRLF": "a\r\nX-Auth-Roles: admin", "lone surrogate": "\ud800", "10 KB": "a" * 10_000,
        "1": 1, "missing": ABSENT, "null": None, "list": ["a-1"], "U+2028": "a\u2028b",
    }  # fmt: skip
    return {f"sub {name}": mint.token(sub=subject) for name, subject in subjects.items()}


def _shapes(mint: Mint) -> Forgeries:
    token = mint.token()
    head, payload, signature = token.split(".")
    last = signature[-1]
    # the last digit of a 256-byte signature has four unused bits
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    malleated = signature[:-1] + alphabet[alphabet.index(last) ^ 1]
    return {
        "4 segments": f"{token}.x",
        "5-segment JWE": f"{head}.{payload}.{signature}.{payload}.{signature}",
        "2 segments": f"{head}.{payload}",
        "..": "..",
        "empty": "",
        "trailing newline": f"{token}\n",
        "leading space": f" {token}",
        "standard base64": _standard_base64(mint),
        "last character malleated": f"{head}.{payload}.{malleated}",
        "padded": f"{token}==",
        "payload {} {}": mint.compact(mint.header(), json.dumps(mint.claims()).encode() + b" {}"),
        "payload list": mint.compact(mint.header(), [mint.claims()]),
        "signature of nothing": f"{head}.{payload}.",
    }


def _standard_base64(mint: Mint) -> str:
    """A good token that has a digit in which the two alphabets differ, written in the other one."""
    while True:
        token = mint.token(jti=str(time.perf_counter_ns()))
        if "-" in token or "_" in token:
            return token.replace("-", "+").replace("_", "/")


def _huge(mint: Mint) -> Forgeries:
    deep = b"[" * 11_000 + b"]" * 0
    nested = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    return {
        "8 MB token": mint.token(padding="a" * 6_000_000),
        "100k nested header": mint.compact(nested, mint.claims()),
        "100k nested payload": mint.compact(mint.header(), nested),
        "17 KB token": mint.token(padding="a" * 13_000),
        "nested header": mint.compact(deep, mint.claims()),
        "nested payload": mint.compact(mint.header(), b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}"),
    }


def _signed_out(mint: Mint) -> Forgeries:
    # by its signature, a token of a user who signed out everywhere is any other token: it ends when its `exp` says
    return {"of a user who signed out": mint.token(auth_time=int(time.time()) - 3000, iat=int(time.time()) - 3000)}


FORGERIES: dict[str, Callable[[Mint], Forgeries]] = {
    "j01": _no_algorithm,
    "j02": _confused,
    "j04": _critical,
    "j06": _typed,
    "j07": _key_ids,
    "j09": _encodings,
    "j11": _times,
    "j13": _clients,
    "j14": _issuers,
    "j15": _subjects,
    "j17": _shapes,
    "j19": _huge,
    "j21": _signed_out,
}
