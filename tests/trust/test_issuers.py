"""Which issuers are trusted, and where their keys are."""

import pytest

from sidecar.config.routes.file import Identity
from sidecar.config.settings import read_settings
from sidecar.trust.issuers import cognito_issuers, trust_from

POOL = {
    "SIDECAR_UPSTREAM": "http://127.0.0.1:1",
    "AWS_REGION": "eu-west-1",
    "AWS_COGNITO_POOL_ID": "eu-west-1_AbC",
    "AWS_COGNITO_CLIENT_ID": "web,m2m",
}
ORIGINAL = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbC"
UPDATED = "https://issuer-cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbC"


def test_a_pool_has_two_issuers_each_with_keys_of_its_own() -> None:
    trust = trust_from(read_settings(POOL, {}), ())
    assert trust.key_urls == {issuer: f"{issuer}/.well-known/jwks.json" for issuer in (ORIGINAL, UPDATED)}
    assert trust.groups == ((ORIGINAL, UPDATED),)
    assert trust.issuers[ORIGINAL].client_ids == {"web", "m2m"}
    assert trust.issuers[ORIGINAL].token_use == {"access"}


def test_another_endpoint_gives_the_keys_and_the_issuer_stays() -> None:
    environ = {**POOL, "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": "http://127.0.0.1:9229/"}
    trust = trust_from(read_settings(environ, {}), ())
    assert trust.key_urls[ORIGINAL] == "http://127.0.0.1:9229/eu-west-1_AbC/.well-known/jwks.json"
    assert set(trust.issuers) == {ORIGINAL, UPDATED}


def test_a_key_url_of_its_own_goes_before_all() -> None:
    trust = trust_from(read_settings({**POOL, "SIDECAR_JWKS_URL": "https://keys.example/jwks"}, {}), ())
    assert set(trust.key_urls.values()) == {"https://keys.example/jwks"}


def test_issuers_of_the_environment_stand_in_place_of_the_pool() -> None:
    environ = {**POOL, "SIDECAR_ISSUER": "https://a.example,https://b.example", "SIDECAR_JWKS_URL": "https://k.example"}
    trust = trust_from(read_settings(environ, {}), ())
    assert set(trust.issuers) == {"https://a.example", "https://b.example"}


def test_identity_of_the_route_file_stands_in_place_of_the_environment() -> None:
    identities = (
        Identity("", "", "us-east-1", "us-east-1_X", ("c",), ("id",), ()),
        Identity("https://o.example", "https://o.example/k", "", "", ("d",), ("access",), ("api",)),
    )
    trust = trust_from(read_settings(POOL, {}), identities)
    assert ORIGINAL not in trust.issuers
    assert trust.issuers["https://o.example"].audiences == {"api"}
    assert trust.key_urls["https://o.example"] == "https://o.example/k"
    assert len(trust.groups) == 2


def test_nobody_is_trusted_without_any() -> None:
    assert trust_from(read_settings({"SIDECAR_UPSTREAM": "http://127.0.0.1:1"}, {}), ()).issuers == {}


@pytest.mark.parametrize(
    ("region", "host"),
    [("us-gov-west-1", "us-gov-west-1.amazonaws.com"), ("cn-north-1", "cn-north-1.amazonaws.com.cn")],
)
def test_other_partitions(region: str, host: str) -> None:
    assert cognito_issuers(region, "p")[0] == f"https://cognito-idp.{host}/p"


def test_tokens_may_be_made_for_the_resources_of_routes() -> None:
    trust = trust_from(read_settings(POOL, {}), (), frozenset(["https://a/mcp"]))
    assert {(issuer.audiences, issuer.resources) for issuer in trust.issuers.values()} == {
        (frozenset(), frozenset(["https://a/mcp"]))
    }
