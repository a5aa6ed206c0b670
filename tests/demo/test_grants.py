"""Codes, refresh tokens and sessions live as long as they should, and serve whom they were given to."""

from __future__ import annotations

import pytest

from sidecar.demo.grants import AuthorizationGrant, AuthorizationRequest, Grants, OAuthError

# RFC 7636, appendix B
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
ASKED = AuthorizationRequest("app", "http://a/callback", ("openid",), CHALLENGE, "s", "n")


class Clock:
    """Unix seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def code_of(grants: Grants) -> str:
    return grants.authorize(ASKED, grants.sign_in("pool")[1])


def granted(grants: Grants) -> AuthorizationGrant:
    return grants.redeem("app", code_of(grants), "http://a/callback", VERIFIER)


def test_a_code_becomes_a_grant_of_what_was_asked(clock: Clock) -> None:
    grant = granted(Grants(clock))
    assert (grant.client_id, grant.scopes, grant.nonce, grant.session) == ("app", ("openid",), "n", ("pool", 1000))


def test_two_grants_have_ids_of_their_own(clock: Clock) -> None:
    grants = Grants(clock)
    first, second = granted(grants), granted(grants)
    assert first.id != second.id
    assert grants.find(first.id) is first


@pytest.mark.parametrize(
    ("client", "uri", "verifier", "after", "why"),
    [
        ("other", "http://a/callback", VERIFIER, 0, "code: issued to another client"),
        ("app", "http://a/callback/", VERIFIER, 0, "redirect_uri: not that of the authorization request"),
        ("app", "http://a/callback", VERIFIER[:-1] + "l", 0, "code_verifier: does not fit the code_challenge"),
        ("app", "http://a/callback", VERIFIER + "\n", 0, "code_verifier: does not fit the code_challenge"),
        ("app", "http://a/callback", CHALLENGE, 0, "code_verifier: does not fit the code_challenge"),
        ("app", "http://a/callback", "", 0, "code_verifier: does not fit the code_challenge"),
        ("app", "http://a/callback", VERIFIER, 300, "code: expired"),
    ],
)
def test_a_code_is_refused_and_spent(
    clock: Clock, client: str, uri: str, verifier: str, after: float, why: str
) -> None:
    grants = Grants(clock)
    code = code_of(grants)
    clock.now += after
    for said in (why, "code: unknown, or used before"):
        with pytest.raises(OAuthError) as caught:
            grants.redeem(client, code, uri, verifier)
        assert caught.value.args == ("invalid_grant", said)


@pytest.mark.parametrize("verifier", ["a" * 42, "a" * 129, "ä" * 43])
def test_a_verifier_has_43_to_128_characters_of_a_url(clock: Clock, verifier: str) -> None:
    grants = Grants(clock)
    with pytest.raises(OAuthError, match="code_verifier"):
        grants.redeem("app", code_of(grants), "http://a/callback", verifier)


def test_a_code_serves_until_its_last_moment(clock: Clock) -> None:
    grants = Grants(clock)
    code = code_of(grants)
    clock.now += 299.9
    assert grants.redeem("app", code, "http://a/callback", VERIFIER).client_id == "app"


def test_without_rotation_a_refresh_token_serves_for_thirty_days(clock: Clock) -> None:
    grants = Grants(clock)
    grant = granted(grants)
    token = grants.refresh_token(grant)
    for _ in range(2):
        assert grants.refresh("app", token) == (grant, None)
    clock.now += 30 * 24 * 3600
    with pytest.raises(OAuthError, match="expired"):
        grants.refresh("app", token)


def test_a_refresh_token_serves_its_client_alone(clock: Clock) -> None:
    grants = Grants(clock)
    token = grants.refresh_token(granted(grants))
    with pytest.raises(OAuthError, match="another client"):
        grants.refresh("other", token)
    with pytest.raises(OAuthError, match="another client"):
        grants.revoke("other", token)
    assert grants.refresh("app", token)


def test_rotation_without_grace_takes_each_refresh_token_once(clock: Clock) -> None:
    grants = Grants(clock, rotation_grace=0)
    first = grants.refresh_token(granted(grants))
    grant, second = grants.refresh("app", first)
    assert second is not None
    assert second != first
    with pytest.raises(OAuthError, match="used before"):
        grants.refresh("app", first)
    # what was used twice does not end the grant
    assert grants.refresh("app", second)[0] is grant


def test_rotation_with_grace_forgives_a_race(clock: Clock) -> None:
    """The grace is counted from the first use, not from the last."""
    grants = Grants(clock, rotation_grace=10)
    first = grants.refresh_token(granted(grants))
    given = set()
    for _ in range(3):
        given.add(grants.refresh("app", first)[1])
        clock.now += 4
    assert len(given) == 3
    with pytest.raises(OAuthError, match="used before"):
        grants.refresh("app", first)


def test_a_revoked_refresh_token_takes_its_grant_with_it(clock: Clock) -> None:
    """With rotation: also the tokens before and after it. Another grant of the same session stays."""
    grants = Grants(clock, rotation_grace=60)
    session = grants.sign_in("pool")[1]
    one, other = (
        grants.redeem("app", grants.authorize(ASKED, session), "http://a/callback", VERIFIER) for _ in range(2)
    )
    first, kept = grants.refresh_token(one), grants.refresh_token(other)
    second = grants.refresh("app", first)[1]
    assert grants.revoke("app", first)
    assert grants.find(one.id) is None
    for token in (first, second):
        with pytest.raises(OAuthError, match="revoked"):
            grants.refresh("app", str(token))
    assert grants.refresh("app", kept)[0] is other
    assert grants.find(other.id) is other


def test_what_is_no_refresh_token_is_told_apart(clock: Clock) -> None:
    grants = Grants(clock)
    assert grants.revoke("app", "x") is False
    with pytest.raises(OAuthError, match="unknown"):
        grants.refresh("app", "x")


def test_a_session_lasts_an_hour(clock: Clock) -> None:
    grants = Grants(clock)
    cookie, session = grants.sign_in("pool")
    clock.now += 3599.9
    assert grants.session(cookie) is session
    clock.now += 0.2
    assert grants.session(cookie) is None
    assert grants.session("") is None


def test_a_sign_out_ends_the_session_and_no_grant(clock: Clock) -> None:
    grants = Grants(clock)
    cookie, session = grants.sign_in("pool")
    grant = grants.redeem("app", grants.authorize(ASKED, session), "http://a/callback", VERIFIER)
    grants.sign_out(cookie)
    assert grants.session(cookie) is None
    assert grants.find(grant.id) is grant
