"""Names of AWS."""

from __future__ import annotations

import pytest

from sidecar.config.aws import domain_of
from sidecar.sign_in.user_pool import api_endpoint
from sidecar.trust.issuers import cognito_issuers


@pytest.mark.parametrize(
    ("region", "domain"),
    [("eu-west-1", "amazonaws.com"), ("us-gov-west-1", "amazonaws.com"), ("cn-north-1", "amazonaws.com.cn")],
)
def test_each_endpoint_of_a_region_is_in_its_domain(region: str, domain: str) -> None:
    assert domain_of(region) == domain
    assert api_endpoint(region, "").endswith(f".{region}.{domain}/")
    assert all(f".{region}.{domain}/" in issuer for issuer in cognito_issuers(region, f"{region}_a"))
