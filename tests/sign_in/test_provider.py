"""`sign_in/provider.py` against a server with a switch for each fault, and against tokens with each spoilt claim."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt import PyJWK

from sidecar.gate.codes import Code
from sidecar.gate.identity import Issuer
from sidecar.gate.verdict import Refused
from sidecar.sign_in.provider import (
    ASK_WITHIN,
    MAX_ANSWER,
    Provider,
    ProviderResponse,
    ServerError,
    TokenSet,
    VerifiedTokens,
    token_in,
    verify_id_token,
)
from tests.fakes import (
    Behave,
    Reports,
    Web,
    answer,
    cut,
    drip,
    environment,
    json_answer,
    raw,
    refusal,
    silence,
)
from tests.net.hostile_upstream import upstream
from tests.stack import free_port
from tests.tokens import CLIENT, ISSUER, claims, mint, public_key

SECRET = "canary-4711"


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with Web(json_answer({"ok": True})) as web:
        yield web


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
async def provider(reports: Reports) -> AsyncIterator[Provider]:
    provider = Provider(reports)
    yield provider
    await provider.aclose()


def post(provider: Provider, web: Web) -> Any:
    return provider.post(f"{web.origin}/x", {"authorization": SECRET}, SECRET.encode())


async def test_a_question_and_its_answer(provider: Provider, web: Web, reports: Reports) -> None:
    reply = await post(provider, web)
    assert reply == ProviderResponse(200, "application/json", b'{"ok": true}')
    assert provider.read(reply) == {"ok": True}
    line, headers = web.asked[0]
    assert line == "POST /x HTTP/1.1"
    assert (headers["authorization"], headers["accept-encoding"]) == (SECRET, "identity")
    assert web.bodies == [SECRET.encode()]
    assert reports.all == []


@pytest.mark.parametrize(
    ("behave", "code", "fault"),
    [
        (answer(500), Code.IDP_UNAVAILABLE, "status"),
        (answer(503, b"<html>", kind="text/html"), Code.IDP_UNAVAILABLE, "status"),
        (answer(599), Code.IDP_UNAVAILABLE, "status"),
        (answer(429, b"{}"), Code.IDP_UNAVAILABLE, "status"),
        (answer(302, b"", "Location: /other"), Code.IDP_BAD_ANSWER, "bad_answer"),
        (answer(307, b"", "Location: /other"), Code.IDP_BAD_ANSWER, "bad_answer"),
        (answer(204), Code.IDP_BAD_ANSWER, "bad_answer"),
        (answer(201, b"{}"), Code.IDP_BAD_ANSWER, "bad_answer"),
        (answer(200, b"{}", "Content-Encoding: gzip"), Code.IDP_BAD_ANSWER, "bad_answer"),
        (answer(200, b"[" * (MAX_ANSWER + 1)), Code.IDP_BAD_ANSWER, "bad_answer"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b" " * MAX_ANSWER * 2), Code.IDP_BAD_ANSWER, "bad_answer"),
        (raw(b"nonsense\r\n\r\n"), Code.IDP_BAD_ANSWER, "bad_answer"),
        (cut(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), Code.IDP_BAD_ANSWER, "bad_answer"),
        (cut(), Code.IDP_BAD_ANSWER, "bad_answer"),
    ],
)  # fmt: skip
async def test_a_fault_is_no_answer(
    provider: Provider, web: Web, reports: Reports, behave: Behave, code: Code, fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    web.behave = behave
    with caplog.at_level(logging.DEBUG, "sidecar"), pytest.raises(Refused) as refused:
        await post(provider, web)
    assert refused.value.code == code
    assert reports.all == [("idp", fault)]
    assert len(web.asked) == 1
    assert len(caplog.records) == 1
    assert SECRET not in f"{caplog.text}{refused.value!r}{refused.value.detail}"


async def test_a_provider_that_is_away_is_unavailable(provider: Provider, reports: Reports) -> None:
    assert await refusal(provider.post(f"http://127.0.0.1:{free_port()}/", {}, b"")) == Code.IDP_UNAVAILABLE
    assert reports.all == [("idp", "unavailable")]


async def test_a_provider_with_a_certificate_of_its_own_is_not_told_anything(
    provider: Provider, reports: Reports, tmp_path: Path
) -> None:
    async with upstream(tls=self_signed(tmp_path / "server.pem")) as server:
        url = f"https://127.0.0.1:{server.origin.port}/"
        assert await refusal(provider.post(url, {}, SECRET.encode())) == Code.IDP_UNAVAILABLE
        assert server.requests == []
    assert reports.all == [("idp", "unavailable")]


def self_signed(file: Path) -> ssl.SSLContext:
    """A server's TLS that nobody vouches for."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(address, critical=False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + made.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_silence_and_a_drip_end_in_time(provider: Provider, reports: Reports) -> None:
    slow = drip(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 0.2)
    started = time.monotonic()
    async with Web(silence) as silent, Web(slow) as dripping:
        codes = await asyncio.gather(*(refusal(post(provider, web)) for web in (silent, dripping)))
    assert codes == [Code.IDP_UNAVAILABLE] * 2
    assert reports.all == [("idp", "timeout")] * 2
    assert time.monotonic() - started < ASK_WITHIN + 10


async def test_an_answer_of_the_whole_size_is_taken(provider: Provider, web: Web) -> None:
    body = b'{"a": "' + b"x" * (MAX_ANSWER - 9) + b'"}'
    assert len(body) == MAX_ANSWER
    web.behave = answer(200, body)
    assert len(provider.read(await post(provider, web))["a"]) == MAX_ANSWER - 9


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_an_error_of_the_protocol_is_an_answer(provider: Provider, web: Web, status: int) -> None:
    web.behave = json_answer({"error": "x"}, status)
    reply = await post(provider, web)
    assert (reply.status, provider.read(reply)) == (status, {"error": "x"})


@pytest.mark.parametrize(
    "reply",
    [
        ProviderResponse(200, "text/html", b"{}"),
        ProviderResponse(200, "text/json", b"{}"),
        ProviderResponse(200, "", b"{}"),
        ProviderResponse(200, "application/json", b""),
        ProviderResponse(200, "application/json", b"[]"),
        ProviderResponse(200, "application/json", b"null"),
        ProviderResponse(200, "application/json", b'{"a": 1, "a": 2}'),
        ProviderResponse(200, "application/json", b'\xef\xbb\xbf{"a": 1}'),
        ProviderResponse(200, "application/json", b'{"a": NaN}'),
        ProviderResponse(200, "application/json", b'{"a": 1} '[:-2]),
        ProviderResponse(200, "application/json", b"[" * 60000),
    ],
)
def test_an_answer_that_is_not_one_json_object_is_refused(
    provider: Provider, reports: Reports, reply: ProviderResponse
) -> None:
    with pytest.raises(Refused) as refused:
        provider.read(reply)
    assert refused.value.code == Code.IDP_BAD_ANSWER
    assert reports.all == [("idp", "bad_answer")]


@pytest.mark.parametrize("kind", ["application/json;charset=UTF-8", "application/x-amz-json-1.1", "Application/JSON"])
async def test_both_types_of_json_are_read(provider: Provider, web: Web, kind: str) -> None:
    web.behave = answer(200, b'{"a": 1}', kind=kind)
    assert provider.read(await post(provider, web)) == {"a": 1}


async def test_a_server_error_tells_whether_it_is_one_of_the_api(provider: Provider, web: Web) -> None:
    for kind, known in (("application/x-amz-json-1.1", True), ("text/html", False)):
        web.behave = answer(501, b"{}", kind=kind)
        with pytest.raises(ServerError) as error:
            await post(provider, web)
        assert (error.value.status, error.value.known) == (501, known)


async def test_each_question_has_its_own_connection_and_no_cookie(provider: Provider, web: Web) -> None:
    web.behave = answer(200, b"{}", "Set-Cookie: who=alice; Path=/")
    for _ in range(3):
        await post(provider, web)
    assert web.connections == 3
    assert all("cookie" not in headers for _, headers in web.asked)


async def test_no_proxy_of_the_environment_is_asked(provider: Provider, web: Web) -> None:
    async with Web(answer(200, b"{}")) as proxy:
        with environment(HTTP_PROXY=proxy.origin, ALL_PROXY=proxy.origin, NO_PROXY=""):
            await post(provider, web)
        assert (len(proxy.asked), len(web.asked)) == (0, 1)


@pytest.mark.parametrize(
    ("value", "token"),
    [("a.b", "a.b"), ("", ""), ("a b", None), ("a\n", None), (5, None), (None, None), (["a"], None), ("x" * 16384, "x" * 16384), ("x" * 16385, None)],
)  # fmt: skip
def test_what_a_token_looks_like(value: Any, token: str | None) -> None:
    assert token_in({"t": value}, "t") == token
    assert token_in({}, "t") == ""


# --- the tokens of a sign-in ---

NOW = 1_700_000_000.0
ISSUERS = {ISSUER: Issuer(ISSUER, frozenset([CLIENT, "c2"]))}
NONCE = "n-1"


async def find_key(_: str, kid: str) -> PyJWK:
    if kid == "away":
        raise Refused(Code.KEYS_UNAVAILABLE, "")
    if kid == "gone":
        raise Refused(Code.TOKEN_INVALID, "kid")
    return public_key(kid)


def identity_claims(**changed: Any) -> dict[str, Any]:
    said = {"client_id": None, "aud": CLIENT, "token_use": "id", "nonce": NONCE, "cognito:username": "alice", **changed}
    return claims(NOW, **said)


def grant(access: dict[str, Any] | None = None, identity: dict[str, Any] | None = None, **header: Any) -> TokenSet:
    return TokenSet(
        mint(access or claims(NOW)).decode(), mint(identity or identity_claims(), **header).decode(), "r"
    )  # fmt: skip


async def verify(made: TokenSet, nonce: str | None = NONCE) -> VerifiedTokens:
    return await verify_id_token(made, ISSUERS, CLIENT, find_key, NOW, nonce)


async def test_the_two_tokens_of_a_sign_in_belong_together() -> None:
    signed_in = await verify(grant())
    assert signed_in.access["token_use"] == "access"
    assert signed_in.identity["cognito:username"] == "alice"


async def test_a_sign_in_with_a_password_has_no_nonce() -> None:
    assert (await verify(grant(identity=identity_claims(nonce=None)), None)).identity["sub"] == "a-1"


@pytest.mark.parametrize(
    ("access", "identity"),
    [
        ({}, {"nonce": "n-2"}),
        ({}, {"nonce": None}),
        ({}, {"nonce": ""}),
        ({}, {"nonce": 5}),
        ({}, {"nonce": [NONCE]}),
        ({}, {"nonce": "ñ"}),
        ({}, {"sub": "b-2"}),
        ({"sub": "b-2"}, {}),
        ({"sub": None}, {"sub": None}),
        ({"sub": 5}, {"sub": 5}),
        ({"sub": ""}, {"sub": ""}),
        ({}, {"aud": "c2"}),
        ({}, {"aud": [CLIENT]}),
        ({"client_id": "c2"}, {}),
        ({}, {"token_use": "access"}),
        ({"token_use": "id", "aud": CLIENT}, {}),
        ({}, {"iss": "https://issuer.example"}),
        ({}, {"exp": int(NOW)}),
        ({"exp": int(NOW)}, {}),
        ({}, {"iat": int(NOW) + 61}),
    ],
)
async def test_tokens_that_are_not_of_this_sign_in_are_refused(
    access: dict[str, Any], identity: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    made = grant(claims(NOW, **access), identity_claims(**identity))
    assert await refusal(verify(made)) == Code.SIGN_IN_INVALID
    assert len(caplog.records) == 1
    assert made.access_token not in caplog.text
    assert made.id_token not in caplog.text


async def test_both_tokens_are_of_one_issuer() -> None:
    other = "https://issuer-cognito-idp.eu-west-1.amazonaws.com/eu-west-1_TEST"
    issuers = {**ISSUERS, other: Issuer(other, frozenset([CLIENT]))}
    made = grant(identity=identity_claims(iss=other))
    work = verify_id_token(made, issuers, CLIENT, find_key, NOW, NONCE)
    assert await refusal(work) == Code.SIGN_IN_INVALID


async def test_an_empty_nonce_is_never_met() -> None:
    assert await refusal(verify(grant(identity=identity_claims(nonce="")), "")) == Code.SIGN_IN_INVALID


async def test_a_forged_id_token_is_refused() -> None:
    good = grant()
    forged = mint(identity_claims(sub="a-1", email="x")).rpartition(b".")[0].decode()
    signature = good.id_token.rpartition(".")[2]
    assert await refusal(verify(good._replace(id_token=f"{forged}.{signature}"))) == Code.SIGN_IN_INVALID
    assert await refusal(verify(good._replace(id_token=""))) == Code.SIGN_IN_INVALID
    assert await refusal(verify(good._replace(access_token="x.y"))) == Code.SIGN_IN_INVALID


async def test_without_keys_nothing_is_said_of_the_tokens() -> None:
    assert await refusal(verify(grant(kid="away"))) == Code.KEYS_UNAVAILABLE
    assert await refusal(verify(grant(kid="gone"))) == Code.SIGN_IN_INVALID
