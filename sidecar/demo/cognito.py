"""A local Cognito: moto's server in a process of its own, with a user pool made through Cognito's public API."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from sidecar.demo.processes import LOOPBACK, DemoError, Process, status_of

REGION = "eu-west-1"
GROUPS = ("admin", "user")
_FIXED_IDS = {
    "MOTO_COGNITO_IDP_USER_POOL_ID_STRATEGY": "HASH",
    "MOTO_COGNITO_IDP_USER_POOL_CLIENT_ID_STRATEGY": "HASH",
}


class User(NamedTuple):
    """A user of the pool; `groups` are the roles that a token will name.

    With a `temporary` password the first sign-in asks for a new one (challenge NEW_PASSWORD_REQUIRED).
    """

    name: str
    password: str
    groups: tuple[str, ...]
    email: str = ""
    temporary: bool = False


USERS = (
    User("admin", "Admin-1234", ("admin",), "admin@example.com"),
    User("alice", "Alice-1234", ("user",), "alice@example.com"),
    User("bob", "Bobby-1234", ("user",), "bob@example.com"),
    User("carol", "Carol-1234", ("user",), "carol@example.com", temporary=True),
)


class _Pool(NamedTuple):
    pool_id: str
    client_id: str
    confidential_client_id: str
    confidential_client_secret: str


class LocalCognito:
    """A user pool on this port, from the constructor on, with `users`; leaving the context stops it.

    `endpoint` is where its API and its keys are; `issuer` is AWS's, as in a real token. It has two app clients:
    `client_id` is public, `confidential_client_id` has a secret. With `fixed_ids` a pool of the same configuration has
    the same ids at each start. Raises DemoError.
    """

    def __init__(
        self,
        port: int,
        folder: Path,
        environ: Mapping[str, str],
        users: tuple[User, ...] = USERS,
        region: str = REGION,
        *,
        fixed_ids: bool = False,
    ) -> None:
        require("boto3", "moto")
        self.endpoint = f"http://{LOOPBACK}:{port}"
        self.region = region
        self._passwords = {user.name: user.password for user in users}
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)]
        own = _own(environ) | (_FIXED_IDS if fixed_ids else {})
        self.process = Process.start(
            "cognito", command, folder, own, lambda: status_of(port, "/moto-api/data.json") == 200
        )
        try:
            self._api = _client(self.endpoint, region)
            pool = _make_pool(self._api, users)
        except BaseException:
            self.process.stop()
            raise
        self.pool_id, self.client_id, self.confidential_client_id, self.confidential_client_secret = pool
        self.issuer = f"https://cognito-idp.{region}.amazonaws.com/{self.pool_id}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server; the pool is gone with it."""
        self._api.close()
        self.process.stop()

    def add_user(self, user: User) -> None:
        """Make one more user."""
        _add_user(self._api, self.pool_id, user)
        self._passwords[user.name] = user.password

    def token(self, user: str, use: str = "access") -> str:
        """A fresh `access` or `id` token of a user, by InitiateAuth with the user's password."""
        answer = self._api.initiate_auth(
            ClientId=self.client_id,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": user, "PASSWORD": self._passwords[user]},
        )
        return str(answer["AuthenticationResult"][{"access": "AccessToken", "id": "IdToken"}[use]])

    def sign_out_everywhere(self, user: str) -> None:
        """End all sessions of a user: AdminUserGlobalSignOut."""
        self._api.admin_user_global_sign_out(UserPoolId=self.pool_id, Username=user)


def require(*modules: str) -> None:
    """Raises DemoError when one of these modules, which come with the extra `demo`, is not installed."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise DemoError(f"not installed: {', '.join(missing)}; run: pip install '.[demo]'")


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


def _make_pool(api: Any, users: tuple[User, ...]) -> _Pool:
    """The steps of AWS's guide: pool, app clients, groups, users, passwords, members."""
    pool_id = str(api.create_user_pool(PoolName="contacts")["UserPool"]["Id"])
    public, confidential = (
        api.create_user_pool_client(
            UserPoolId=pool_id,
            ClientName=name,
            GenerateSecret=name == "contacts-confidential",
            ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
            ReadAttributes=["email", "email_verified"],
        )["UserPoolClient"]
        for name in ("contacts", "contacts-confidential")
    )
    for group in sorted({*GROUPS, *(group for user in users for group in user.groups)}):
        api.create_group(UserPoolId=pool_id, GroupName=group)
    for user in users:
        _add_user(api, pool_id, user)
    return _Pool(
        pool_id, str(public["ClientId"]), str(confidential["ClientId"]), str(confidential["ClientSecret"])
    )  # fmt: skip


def _add_user(api: Any, pool_id: str, user: User) -> None:
    email = [{"Name": "email", "Value": user.email}, {"Name": "email_verified", "Value": "true"}] if user.email else []
    api.admin_create_user(
        UserPoolId=pool_id,
        Username=user.name,
        TemporaryPassword=user.password,
        UserAttributes=email,
        MessageAction="SUPPRESS",
    )
    if not user.temporary:
        api.admin_set_user_password(UserPoolId=pool_id, Username=user.name, Password=user.password, Permanent=True)
    for group in user.groups:
        api.admin_add_user_to_group(UserPoolId=pool_id, Username=user.name, GroupName=group)
