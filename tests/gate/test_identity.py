"""A token is taken only if it is exactly what the pool signs."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from jwt import PyJWK

from sidecar.gate.claims import Claim, Format, Incomplete, RoleClaim
from sidecar.gate.codes import Code
from sidecar.gate.identity import (
    LEEWAY,
    MAX_TOKEN,
    Issuer,
    Principal,
    PrincipalRules,
    Tokens,
    keep_claims,
    kept_claims,
    principal_as,
    principal_from,
)
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.values import Type
from sidecar.gate.verdict import Refused
from tests.tokens import CLIENT, ISSUER, b64, claims, jwk, mint, private_key, public_key, sign

NOW = 1_700_000_000.0
OTHER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_OTHER"
ISSUERS = {
    ISSUER: Issuer(ISSUER, frozenset([CLIENT, "c2"])),
    OTHER: Issuer(OTHER, frozenset(["c9"]), frozenset(["access", "id"]), frozenset(["https://api"])),
}


class Keys:
    """k1 belongs to the first pool, k9 to the other."""

    def __init__(self) -> None:
        self.asked = 0

    async def find(self, issuer: str, kid: str) -> PyJWK:
        self.asked += 1
        if (issuer, kid) not in ((ISSUER, "k1"), (OTHER, "k9")):
            raise Refused(Code.TOKEN_INVALID, "kid")
        return public_key(kid)


def request(authorization: bytes | None) -> Request:
    headers = [(b"host", b"app.test")] + ([(b"authorization", authorization)] if authorization is not None else [])
    return read(Raw("GET", b"/docs/1", headers, "", "http", "r"), Reading())


def tokens(rules: PrincipalRules | None = None) -> tuple[Tokens, Keys]:
    keys = Keys()
    return Tokens(ISSUERS, rules or PrincipalRules(), keys.find), keys


async def principal(token: bytes, rules: PrincipalRules | None = None) -> Principal:
    return await tokens(rules)[0].principal_of(request(b"Bearer " + token), NOW)


async def refusal(authorization: bytes | None) -> Code:
    with pytest.raises(Refused) as caught:
        await tokens()[0].principal_of(request(authorization), NOW)
    return caught.value.code


async def test_a_good_token_is_its_principal() -> None:
    wanted = {"scopes": Claim("scope"), "email": Claim("email")}
    got = await principal(mint(claims(NOW)), PrincipalRules(attributes=wanted, optional=frozenset(["email"])))
    assert (got.id, got.roles, got.issuer, got.expires) == ("a-1", ("user",), ISSUER, NOW + 3600)
    # a claim that the token has not is no attribute
    assert got.attributes == {"scopes": "aws.cognito.signin.user.admin"}
    assert got.incomplete is None


async def test_nothing_in_authorization_is_another_code_than_something_wrong() -> None:
    assert await refusal(None) is Code.TOKEN_MISSING


GOOD = mint(claims(NOW))


@pytest.mark.parametrize(
    "authorization",
    [
        b"", b"Bearer", b"Bearer ", b"Bearer  " + GOOD, b"Basic YTpi", GOOD, b"Bearer " + GOOD + b", Bearer " + GOOD,
        b"Bearer " + GOOD + b" ", b"Bearer " + GOOD + b".x", b"Bearer " + GOOD.rpartition(b".")[0], b"Bearer ..",
        b"Bearer " + GOOD + b"=", b"Bearer a+/b.a.b", b"Bearer " + b"a" * 20_000 + b".b.c", b"Bearer\t" + GOOD,
    ],
)  # fmt: skip
async def test_only_one_bearer_token_in_its_one_form_is_read(authorization: bytes) -> None:
    assert await refusal(authorization) is Code.TOKEN_INVALID


async def test_the_scheme_is_read_in_any_case() -> None:
    assert (await tokens()[0].principal_of(request(b"bEARER " + GOOD), NOW)).id == "a-1"


def hs256(key: bytes) -> bytes:
    signed = b64(b'{"alg":"HS256","kid":"k1"}') + b"." + b64(json.dumps(claims(NOW)).encode())
    return signed + b"." + b64(hmac.new(key, signed, hashlib.sha256).digest())


def malleated(token: bytes) -> bytes:
    """Another last character with the same bits that count."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1:]) ^ 1 :][:1]


@pytest.mark.parametrize(
    "token",
    [
        *(mint(claims(NOW), alg=alg) for alg in ("none", "None", "nOnE", "", "HS256", "RS512", ["RS256"], None)),
        b64(b'{"alg":"none"}') + b"." + b64(json.dumps(claims(NOW)).encode()) + b".AA",
        hs256(jwk()["n"].encode()), hs256(json.dumps(jwk()).encode()), hs256(b"k1"),
        *(mint(claims(NOW), "k1", **{name: value}) for name, value in (
            ("crit", ["x"]), ("crit", []), ("b64", False), ("typ", "dpop+jwt"), ("typ", 1), ("typ", ""), ("zip", "DEF"),
            ("cty", "JWT"), ("jwk", jwk()), ("jku", "https://evil.test"), ("x5u", "https://evil.test"),
        )),
        *(mint(claims(NOW), kid=kid) for kid in (None, 1, ["k1"], "x" * 129, "../../x", "k1\0", "", "k 1", "k9")),
        mint(claims(NOW), key="stranger", kid="k1"),
        malleated(GOOD),
        GOOD[:-8] + b"AAAAAAAA",
        sign(b'{"alg":"RS256","kid":"k1"}', json.dumps(claims(NOW)).encode("utf-16")),
        sign(b'{"alg":"RS256","kid":"k1"}', b"\xef\xbb\xbf" + json.dumps(claims(NOW)).encode()),
        sign('{"alg":"RS256","kid":"k1"}'.encode("utf-16"), json.dumps(claims(NOW)).encode()),
        sign(b'{"alg":"RS256","kid":"k1","alg":"RS256"}', json.dumps(claims(NOW)).encode()),
        sign(b'{"alg":"RS256","kid":"k1"}', json.dumps(claims(NOW)).encode()[:-1] + b',"sub":"r-1"}'),
        sign(b'{"alg":"RS256","kid":"k1"}', b"{} {}"), sign(b'{"alg":"RS256","kid":"k1"}', b"[]"),
        sign(b'{"alg":"RS256","kid":"k1"}', b"[" * 5000), sign(b"[]", b"{}"),
    ],
)  # fmt: skip
async def test_a_token_that_the_pool_would_not_make_is_refused(token: bytes) -> None:
    assert await refusal(b"Bearer " + token) is Code.TOKEN_INVALID


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"exp": int(NOW) - 1}, Code.TOKEN_EXPIRED), ({"exp": int(NOW)}, Code.TOKEN_EXPIRED),
        *(({"exp": exp}, Code.TOKEN_INVALID) for exp in (None, "99999999999", 1e12, True, 10**30, -1, [1])),
        ({"nbf": int(NOW) + LEEWAY + 1}, Code.TOKEN_INVALID), ({"nbf": "0"}, Code.TOKEN_INVALID),
        ({"iat": int(NOW) + LEEWAY + 1}, Code.TOKEN_INVALID), ({"iat": None}, Code.TOKEN_INVALID),
        ({"iat": 1.5}, Code.TOKEN_INVALID),
        *(({"iss": iss}, Code.TOKEN_INVALID) for iss in (
            ISSUER + "/", ISSUER.upper(), ISSUER[:-1], ISSUER + "x", [ISSUER], OTHER, None, 1,
        )),
        *(({"client_id": client}, Code.TOKEN_INVALID) for client in ("c3", ["c1"], None, "C1", 1)),
        *(({"token_use": use}, Code.TOKEN_INVALID) for use in ("id", None, "ACCESS", ["access"])),
        ({"aud": "c1"}, Code.TOKEN_INVALID), ({"aud": "https://api"}, Code.TOKEN_INVALID),
        ({"aud": ["c1"]}, Code.TOKEN_INVALID), ({"aud": ""}, Code.TOKEN_INVALID), ({"exp": 2**53}, Code.TOKEN_INVALID),
        *(({"sub": sub}, Code.TOKEN_INVALID) for sub in (
            "", "a\0b", "a\r\nX-Auth-Roles: admin", "x" * 257, 1, None, "a b", "a\u2028b", "a\x85",
        )),
        *(({"cognito:groups": groups}, Code.TOKEN_INVALID) for groups in ([1], {"a": 1}, [""], ["a\nb"], 5, ["x" * 300], "admin", "", "[admin]")),
    ],
)  # fmt: skip
async def test_each_claim_is_held_to_its_rule(change: dict[str, Any], code: Code) -> None:
    assert await refusal(b"Bearer " + mint(claims(NOW, **change))) is code


async def test_a_lone_surrogate_in_a_claim_is_refused() -> None:
    payload = json.dumps(claims(NOW)).replace('"a-1"', '"\\ud800"').encode()
    assert await refusal(b"Bearer " + sign(b'{"alg":"RS256","kid":"k1"}', payload)) is Code.TOKEN_INVALID


@pytest.mark.parametrize(
    "change",
    [
        {"exp": int(NOW) + 1},
        {"iat": int(NOW) + LEEWAY},
        {"nbf": int(NOW) + LEEWAY},
        {"client_id": "c2"},
        {"iat": 0, "nbf": 0},
        {"exp": 2**53 - 1},
    ],
)
async def test_the_last_good_value_of_a_rule_is_taken(change: dict[str, Any]) -> None:
    assert (await principal(mint(claims(NOW, **change)))).id == "a-1"


@pytest.mark.parametrize("typ", ["JWT", "at+jwt"])
async def test_the_usual_types_are_taken(typ: str) -> None:
    assert (await principal(mint(claims(NOW), typ=typ))).id == "a-1"


def of_other(**more: Any) -> bytes:
    return mint(claims(NOW, iss=OTHER, **{"client_id": "c9", **more}), key="k9")


async def test_each_issuer_has_its_own_keys_clients_and_uses() -> None:
    assert (await principal(of_other())).issuer == OTHER
    assert (await principal(of_other(token_use="id", client_id=None, aud="c9"))).issuer == OTHER
    assert (await principal(of_other(aud="https://api"))).issuer == OTHER
    for token in (
        of_other(client_id="c1"), of_other(token_use="id", client_id=None, aud=["c9"]), of_other(aud="https://evil"),
        of_other(token_use="id", client_id="c9"), mint(claims(NOW, iss=OTHER, client_id="c9"), key="k1"),
    ):  # fmt: skip
        assert await refusal(b"Bearer " + token) is Code.TOKEN_INVALID


async def test_a_verified_token_is_remembered_until_it_ends_or_the_keys_change() -> None:
    store, keys = tokens()
    asked = request(b"Bearer " + GOOD)
    for _ in range(3):
        await store.principal_of(asked, NOW)
    assert keys.asked == 1
    store.forget()
    await store.principal_of(asked, NOW + 3599)
    assert keys.asked == 2
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await store.principal_of(asked, NOW + 3600)
        assert caught.value.code is Code.TOKEN_EXPIRED


async def test_each_look_at_what_is_remembered_is_told() -> None:
    told: list[tuple[str, str]] = []
    store = Tokens(
        ISSUERS, PrincipalRules(), tokens()[1].find, count=lambda cache, outcome: told.append((cache, outcome))
    )
    for _ in range(3):
        await store.principal_of(request(b"Bearer " + GOOD), NOW)
    with pytest.raises(Refused):
        await store.principal_of(request(b"Bearer e30.e30.AAAA"), NOW)
    assert told == [("token", "miss"), ("token", "hit"), ("token", "hit"), ("token", "miss")]


async def test_a_bad_token_is_never_remembered() -> None:
    store, keys = tokens()
    bad = request(b"Bearer " + mint(claims(NOW), key="stranger", kid="k1"))
    for _ in range(2):
        with pytest.raises(Refused):
            await store.principal_of(bad, NOW)
    assert keys.asked == 2


async def test_what_is_remembered_is_bounded() -> None:
    keys = Keys()
    store = Tokens(ISSUERS, PrincipalRules(), keys.find)
    await store.principal_of(request(b"Bearer " + mint(claims(NOW, jti="0"))), NOW)
    store = Tokens(ISSUERS, PrincipalRules(), keys.find, remembered=2 * store._known.weight)
    keys.asked = 0
    first, *more = (request(b"Bearer " + mint(claims(NOW, jti=str(number)))) for number in range(3))
    for one in (first, *more):
        await store.principal_of(one, NOW)
    await store.principal_of(more[1], NOW)
    assert keys.asked == 3
    await store.principal_of(first, NOW)
    assert keys.asked == 4


def padded(length: int) -> bytes:
    """A good token of exactly this length: spaces are no part of what JSON says."""
    header, payload = b'{"alg":"RS256","kid":"k1"}', json.dumps(claims(NOW)).encode()
    more = (length - len(sign(header, payload))) * 3 // 4
    tries = ((header + b" " * a, payload + b" " * (more + b)) for a in range(3) for b in range(-4, 4))
    return next(token for token in (sign(*parts) for parts in tries) if len(token) == length)


async def test_a_token_is_read_up_to_its_full_length_and_no_further() -> None:
    whole = MAX_TOKEN - len(b"Bearer ")
    assert (await principal(padded(whole))).id == "a-1"
    assert await refusal(b"Bearer " + padded(whole + 1)) is Code.TOKEN_INVALID


async def test_nobody_is_asked_for_a_key_of_a_name_that_is_none() -> None:
    asked: list[str] = []

    async def any_key(_: str, kid: str) -> PyJWK:
        asked.append(kid)
        return public_key()

    async def ask(kid: object) -> Principal:
        return await Tokens(ISSUERS, PrincipalRules(), any_key).principal_of(
            request(b"Bearer " + mint(claims(NOW), kid=kid)), NOW
        )

    kids: tuple[object, ...] = (None, 1, ["k1"], {}, "", "x" * 129, "k 1", "k1\0", "k1\n", "k\x7f", "é")
    for kid in kids:
        with pytest.raises(Refused) as caught:
            await ask(kid)
        assert caught.value.code is Code.TOKEN_INVALID
    assert asked == []
    assert (await ask("x" * 128)).id == "a-1"


async def test_a_key_of_another_algorithm_vouches_for_nothing() -> None:
    """Even where the store would hold one."""
    secret = b"s" * 32
    shared = PyJWK({"kty": "oct", "k": b64(secret).decode(), "alg": "HS256", "kid": "k1"})

    async def find(_: str, __: str) -> PyJWK:
        return shared

    signed = b64(b'{"alg":"RS256","kid":"k1"}') + b"." + b64(json.dumps(claims(NOW)).encode())
    token = signed + b"." + b64(hmac.new(secret, signed, hashlib.sha256).digest())
    with pytest.raises(Refused) as caught:
        await Tokens(ISSUERS, PrincipalRules(), find).principal_of(request(b"Bearer " + token), NOW)
    assert caught.value.code is Code.TOKEN_INVALID


async def test_what_a_token_lacks_is_found_once_and_remembered_with_it() -> None:
    store, keys = tokens(PrincipalRules(attributes={"suspended": Claim("custom:suspended", Type.BOOL)}))
    first = await store.principal_of(request(b"Bearer " + GOOD), NOW)
    assert first.incomplete == (
        Code.CLAIM_MISSING,
        "principal.attributes.suspended: the token has no claim custom:suspended",
    )
    assert await store.principal_of(request(b"Bearer " + GOOD), NOW) is first
    assert keys.asked == 1


async def test_a_principal_without_a_role_is_told_so_before_all_else() -> None:
    rules = PrincipalRules(attributes={"level": Claim("level")})
    got = await principal(mint(claims(NOW, **{"cognito:groups": []})), rules)
    assert got.incomplete == (Code.NO_ROLES, "")


async def test_whom_an_administrator_describes_is_held_to_the_same_rules() -> None:
    rules = PrincipalRules(
        attributes={"level": Claim("custom:level", Type.INT), "mail": Claim("email")}, optional=frozenset(["mail"])
    )
    me = await principal(GOOD)

    def described(roles: list[str], **attributes: Any) -> Principal:
        return principal_as("bob", roles, attributes, me, rules)

    bob = described(["user", "admin", "user"], level="5", more=[1])
    assert bob == Principal("bob", ("admin", "user"), {"level": 5, "more": [1]}, me.issuer, me.expires, {"sub": "bob"})
    for wrong, code in (
        (described(["user"]), "claim_missing"),
        (described(["user"], level="x"), "claim_invalid"),
        (described([]), "no_roles"),
    ):
        assert wrong.incomplete is not None
        assert wrong.incomplete.code == code


def test_the_id_may_be_another_claim_and_the_subject_must_be_there_all_the_same() -> None:
    rules = PrincipalRules(id="username")
    assert principal_from({"sub": "s", "exp": 1, "username": "alice"}, "i", rules).id == "alice"
    with pytest.raises(Refused) as caught:
        principal_from({"exp": 1, "username": "alice"}, "i", rules)
    assert caught.value.code is Code.TOKEN_INVALID


@pytest.mark.parametrize("value", [None, "", "two words", ["alice"], 7, "x" * 257, "a\x00b"])
def test_a_good_token_without_its_principal_is_no_bad_token_and_tells_the_claim(value: object) -> None:
    with pytest.raises(Refused) as caught:
        principal_from({"exp": 1, "sub": "s", "email": value}, "i", PrincipalRules(id="email"))
    assert caught.value.code is Code.PRINCIPAL_MISSING
    assert "principal.id: " in caught.value.detail
    assert "email" in caught.value.detail
    assert "two words" not in caught.value.detail


def test_keys_of_the_tests_are_as_strong_as_real_ones() -> None:
    assert private_key().key_size == 2048


# --- what a session keeps of the id token ---

EMAIL = PrincipalRules(
    attributes={"email": Claim("email", from_id=True)}, roles=(RoleClaim("custom:roles", Format.TEXT, from_id=True),)
)


async def test_a_session_has_the_claims_that_it_keeps_and_a_bearer_token_none() -> None:
    store, keys = tokens(EMAIL)
    kept = keep_claims({"email": "a@x", "custom:roles": "writer", "phone": "1"}, store.session_claims)
    assert kept == '{"custom:roles":"writer","email":"a@x"}'
    mine = await store.principal_of_session(GOOD, kept, NOW)
    assert (mine.attributes, mine.roles, mine.incomplete) == ({"email": "a@x"}, ("writer",), None)
    assert await store.principal_of_session(GOOD, kept, NOW) is mine
    other = await store.principal_of_session(GOOD, keep_claims({"email": "b@x"}, store.session_claims), NOW)
    assert (other.attributes, other.roles) == ({"email": "b@x"}, ())
    bearer = await store.principal_of(request(b"Bearer " + GOOD), NOW)
    assert (bearer.attributes, bearer.roles, bearer.incomplete) == ({}, (), Incomplete(Code.NO_ROLES))
    assert await store.principal_of_session(GOOD, "", NOW) is bearer
    assert keys.asked == 1


async def test_a_session_ends_with_its_token_whatever_it_keeps() -> None:
    store, _ = tokens(EMAIL)
    kept = keep_claims({"email": "a@x"}, store.session_claims)
    await store.principal_of_session(GOOD, kept, NOW)
    with pytest.raises(Refused) as caught:
        await store.principal_of_session(GOOD, kept, NOW + 3600)
    assert caught.value.code is Code.TOKEN_EXPIRED


async def test_an_id_token_that_is_the_bearer_token_has_its_own_claims() -> None:
    said = {"token_use": "id", "client_id": None, "aud": "c9", "email": "a@x", "custom:roles": "writer"}
    found = await principal(of_other(**said), EMAIL)
    assert (found.attributes, found.roles) == ({"email": "a@x"}, ("writer",))
    assert (await principal(of_other(email="a@x"), EMAIL)).attributes == {}


def test_a_session_keeps_nothing_where_nothing_is_wanted_or_its_token_has_it() -> None:
    assert tokens()[0].session_claims == frozenset()
    only_id = {ISSUER: Issuer(ISSUER, frozenset([CLIENT]), frozenset(["id"]))}
    assert Tokens(only_id, EMAIL, Keys().find).session_claims == frozenset()
    assert keep_claims({"email": "a@x"}, ()) == ""


@pytest.mark.parametrize("text", ["x", "[]", "eyJhbGciOiJSUzI1NiJ9.e30.AAAA", '{"a":1,"a":2}', "null", ""])
def test_what_is_no_claims_is_none(text: str) -> None:
    assert kept_claims(text) == {}


def test_what_is_kept_is_read_as_it_was() -> None:
    said = {"a": "é\u2028", "b": [1, {"c": None}], "d": True, "e": None}
    assert kept_claims(keep_claims(said, [*said, "f"])) == {**said, "f": None}


async def one_key(issuer: str, kid: str) -> PyJWK:
    return public_key("k1")


async def test_a_token_of_one_pool_is_nobody_on_anothers_host() -> None:
    acme = {"https://acme": Issuer("https://acme", frozenset(["acme"]))}
    store = Tokens(ISSUERS, PrincipalRules(), one_key, by_host={"acme.test": acme, "*.globex.test": {}})
    theirs = mint(claims(NOW, iss="https://acme", client_id="acme"))
    ours = mint(claims(NOW))
    good = {theirs: ["acme.test", "acme.test:8443"], ours: ["app.test", "x.acme.test", "globex.test", "acme.test."]}
    for _ in range(2):
        # what is remembered at one host is not known at another
        for token, hosts in good.items():
            for host in [*good[theirs], *good[ours], "a.globex.test"]:
                if host in hosts:
                    assert (await store.at(host).principal_of_token(token, NOW)).id == "a-1"
                else:
                    with pytest.raises(Refused, match="iss: not one of the trusted issuers"):
                        await store.at(host).principal_of_token(token, NOW)
    store.forget()
    assert store.at("acme.test").remembered == store.remembered == 0


async def test_one_pool_may_take_another_app_client_at_each_host() -> None:
    by_host = {f"{name}.test": {ISSUER: Issuer(ISSUER, frozenset([name]))} for name in ("crm", "wiki")}
    store = Tokens({}, PrincipalRules(), one_key, by_host=by_host)
    token = mint(claims(NOW, client_id="crm"))
    assert (await store.at("crm.test").principal_of_token(token, NOW)).id == "a-1"
    for host in ("wiki.test", "other.test"):
        with pytest.raises(Refused) as caught:
            await store.at(host).principal_of_token(token, NOW)
        assert caught.value.code is Code.TOKEN_INVALID
