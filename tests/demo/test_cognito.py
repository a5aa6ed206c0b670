"""The local Cognito gives out tokens as the real one does, by the same API."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from sidecar.demo.cognito import USERS, LocalCognito, User, require
from sidecar.demo.processes import DemoError, can_listen


@pytest.fixture(scope="module")
def cognito(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[LocalCognito]:
    with LocalCognito(free_port(), tmp_path_factory.mktemp("cognito"), os.environ) as running:
        yield running


def verified(cognito: LocalCognito, token: str, audience: str | None = None) -> dict[str, Any]:
    """The claims of a token, after its signature was checked with the keys that the pool publishes."""
    keys = httpx.get(f"{cognito.endpoint}/{cognito.pool_id}/.well-known/jwks.json", trust_env=False).json()
    key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["RS256"], issuer=cognito.issuer, audience=audience)
    return claims


def asked(cognito: LocalCognito, operation: str, body: dict[str, Any]) -> httpx.Response:
    """The answer of the public API, as a browser would get it: nothing signed."""
    headers = {
        "X-Amz-Target": f"AWSCognitoIdentityProviderService.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
    }
    return httpx.post(cognito.endpoint, json=body, headers=headers, trust_env=False)


def password_auth(cognito: LocalCognito, name: str, password: str) -> httpx.Response:
    """InitiateAuth with a password."""
    parameters = {"USERNAME": name, "PASSWORD": password}
    body = {"AuthFlow": "USER_PASSWORD_AUTH", "ClientId": cognito.client_id, "AuthParameters": parameters}
    return asked(cognito, "InitiateAuth", body)


@pytest.mark.parametrize("user", [user for user in USERS if not user.temporary], ids=lambda user: user.name)
def test_an_access_token_says_who_and_which_groups(cognito: LocalCognito, user: User) -> None:
    """Claims as in AWS's guide: the client in `client_id` and not in `aud`, the user's name in `username`."""
    claims = verified(cognito, cognito.token(user.name))
    assert claims["token_use"] == "access"
    assert claims["client_id"] == cognito.client_id
    assert claims["username"] == user.name
    assert claims["cognito:groups"] == list(user.groups)
    assert "aud" not in claims
    assert "email" not in claims


def test_an_id_token_names_the_client_as_its_audience(cognito: LocalCognito) -> None:
    claims = verified(cognito, cognito.token("alice", use="id"), audience=cognito.client_id)
    assert (claims["token_use"], claims["cognito:username"]) == ("id", "alice")


def test_an_id_token_has_the_users_address(cognito: LocalCognito) -> None:
    claims = verified(cognito, cognito.token("bob", use="id"), audience=cognito.client_id)
    assert claims["email"] == "bob@example.com"


def test_a_wrong_password_gives_no_token(cognito: LocalCognito) -> None:
    answer = password_auth(cognito, "alice", "Bobby-1234")
    assert (answer.status_code, answer.json()["__type"]) == (400, "NotAuthorizedException")


def test_a_temporary_password_gives_a_challenge_and_no_token(cognito: LocalCognito) -> None:
    answer = password_auth(cognito, "carol", "Carol-1234").json()
    assert answer["ChallengeName"] == "NEW_PASSWORD_REQUIRED"
    assert "AuthenticationResult" not in answer


def test_the_second_client_has_a_secret(cognito: LocalCognito) -> None:
    assert cognito.confidential_client_id != cognito.client_id
    assert len(cognito.confidential_client_secret) >= 32


def test_a_sign_out_everywhere_ends_an_access_token_at_the_api(cognito: LocalCognito) -> None:
    token = {"AccessToken": cognito.token("bob")}
    assert asked(cognito, "GetUser", token).status_code == 200
    cognito.sign_out_everywhere("bob")
    assert asked(cognito, "GetUser", token).json()["__type"] == "NotAuthorizedException"


def test_it_is_gone_when_it_was_stopped(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Stopped by the end of its context: no process, and its port is free."""
    port = free_port()
    with LocalCognito(port, tmp_path, os.environ, users=(User("eve", "Evening-1", ("night", "day")),)) as cognito:
        assert not can_listen(port)
        assert sorted(verified(cognito, cognito.token("eve"))["cognito:groups"]) == ["day", "night"]
    with pytest.raises(DemoError, match="ended"):
        cognito.process.check()
    assert can_listen(port)


def test_a_pool_that_cannot_be_made_leaves_no_server(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    with pytest.raises(Exception, match="UsernameExistsException"):
        LocalCognito(port, tmp_path, os.environ, users=(USERS[0], USERS[0]))
    assert can_listen(port)


def test_a_developers_own_aws_profile_is_not_read(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """A profile that does not exist would stop any other AWS client."""
    script = (
        "import os, sys; from pathlib import Path; from sidecar.demo.cognito import LocalCognito\n"
        "with LocalCognito(int(sys.argv[1]), Path(sys.argv[2]), os.environ) as cognito: print(cognito.pool_id)"
    )
    environ = {**os.environ, "AWS_PROFILE": "nobody-has-this", "http_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", script, str(free_port()), str(tmp_path)]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert ended.stdout.startswith("eu-west-1_")


def test_a_missing_extra_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(DemoError) as caught:
        require("json", "boto4", "moto4")
    assert str(caught.value) == "not installed: boto4, moto4; run: pip install '.[demo]'"


def test_fixed_ids_are_those_that_the_compose_file_and_the_guide_name(
    checkout: Path, tmp_path: Path, free_port: Any
) -> None:
    with LocalCognito(free_port(), tmp_path, os.environ, fixed_ids=True) as running:
        for file in ("deploy/compose/dev.env", "docs/guides/local-user-pool.md"):
            named = dict(line.split("=", 1) for line in (checkout / file).read_text().splitlines() if "=" in line)
            assert named["AWS_COGNITO_POOL_ID"] == running.pool_id
            assert named["AWS_COGNITO_CLIENT_ID"] == running.client_id
            assert named["AWS_REGION"] == running.region
