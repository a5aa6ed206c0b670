"""Where a browser is sent to sign in."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from sidecar.clients.hosted import HostedUI, domain_url
from sidecar.clients.provider import AppClient, Asker


def test_the_authorization_request_has_state_nonce_and_challenge() -> None:
    hosted = HostedUI(domain_url("contacts", "eu-west-1"), AppClient("web", ""), Asker())
    url = urlsplit(hosted.authorize_url("s", "n", "c", "https://app.test/_sidecar/callback", lang="de"))
    assert url.netloc == "contacts.auth.eu-west-1.amazoncognito.com"
    query = parse_qs(url.query)
    assert (query["state"], query["nonce"], query["code_challenge"], query["lang"]) == (["s"], ["n"], ["c"], ["de"])
    assert query["code_challenge_method"] == ["S256"]
    assert "identity_provider" not in query
