"""A local Cognito: moto's server in a process of its own, with a user pool made through Cognito's public API."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from sidecar.demo.processes import LOOPBACK, Process, StartError, status_of

REGION = "eu-west-1"
GROUPS = ("admin", "user")


class User(NamedTuple):
    """A user of the pool; `groups` are the roles that a token will name."""

    name: str
    password: str
    groups: tuple[str, ...]


USERS = (
    User("admin", "Admin-1234", ("admin",)),
    User("alice", "Alice-1234", ("user",)),
    User("bob", "Bobby-1234", ("user",)),
)


class LocalCognito:
    """A user pool on this port, from the constructor on, with `users`; leaving the context stops it.

    `endpoint` is where its API and its keys are; `issuer` is AWS's, as in a real token. Raises StartError.
    """

    def __init__(
        self, port: int, folder: Path, environ: Mapping[str, str], users: tuple[User, ...] = USERS, region: str = REGION
    ) -> None:
        require("boto3", "moto")
        self.endpoint = f"http://{LOOPBACK}:{port}"
        self.region = region
        self._passwords = {user.name: user.password for user in users}
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)]
        self.process = Process.start(
            "cognito", command, folder, _own(environ), lambda: status_of(port, "/moto-api/data.json") == 200
        )
        try:
            self._api = _client(self.endpoint, region)
            self.pool_id, self.client_id = _make_pool(self._api, users)
        except BaseException:
            self.process.stop()
            raise
        self.issuer = f"https://cognito-idp.{region}.amazonaws.com/{self.pool_id}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server; the pool is gone with it."""
        self._api.close()
        self.process.stop()

    def add_user(self, name: str, password: str, groups: tuple[str, ...], *, temporary: bool = False) -> None:
        """Make a user; one with a `temporary` password has to choose another at the first sign-in."""
        _add_user(self._api, self.pool_id, User(name, password, groups), temporary)
        self._passwords[name] = password

    def token(self, user: str, use: str = "access") -> str:
        """A fresh `access` or `id` token of a user, by InitiateAuth with the user's password."""
        answer = self._api.initiate_auth(
            ClientId=self.client_id,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": user, "PASSWORD": self._passwords[user]},
        )
        return str(answer["AuthenticationResult"][{"access": "AccessToken", "id": "IdToken"}[use]])


def require(*modules: str) -> None:
    """Raises StartError when one of these modules, which come with the extra `demo`, is not installed."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise StartError(f"not installed: {', '.join(missing)}; run: pip install 'authorization-sidecar[demo]'")


def _own(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without a developer's own AWS profile and settings: the server is an AWS client too."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    return {**kept, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def _client(endpoint: str, region: str) -> Any:
    # here and not above: `require` can say what is missing before
    import boto3
    import botocore.session
    from botocore.config import Config

    # the same for our own client, which reads the environment of this process; and no proxy is asked
    unset = (None, None, None, None)
    nowhere = (None, None, os.devnull, None)
    session = botocore.session.Session(
        session_vars={"profile": unset, "config_file": nowhere, "credentials_file": nowhere}
    )
    return boto3.Session(botocore_session=session).client(
        "cognito-idp",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - the stand-in asks for a signature and does not check it
        config=Config(proxies={}, retries={"total_max_attempts": 1}),
    )


def _make_pool(api: Any, users: tuple[User, ...]) -> tuple[str, str]:
    """The steps of AWS's guide: pool, app client, groups, users, passwords, members. Returns pool id and client id."""
    pool_id = str(api.create_user_pool(PoolName="contacts")["UserPool"]["Id"])
    client = api.create_user_pool_client(
        UserPoolId=pool_id,
        ClientName="contacts",
        GenerateSecret=False,
        ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
    )
    for group in sorted({*GROUPS, *(group for user in users for group in user.groups)}):
        api.create_group(UserPoolId=pool_id, GroupName=group)
    for user in users:
        _add_user(api, pool_id, user, temporary=False)
    return pool_id, str(client["UserPoolClient"]["ClientId"])


def _add_user(api: Any, pool_id: str, user: User, temporary: bool) -> None:
    api.admin_create_user(
        UserPoolId=pool_id, Username=user.name, MessageAction="SUPPRESS", TemporaryPassword=user.password,
        UserAttributes=[{"Name": "email", "Value": f"{user.name}@example.com"}],
    )  # fmt: skip
    if not temporary:
        api.admin_set_user_password(UserPoolId=pool_id, Username=user.name, Password=user.password, Permanent=True)
    for group in user.groups:
        api.admin_add_user_to_group(UserPoolId=pool_id, Username=user.name, GroupName=group)
