"""A stand-in for the hosted UI of a Cognito domain, in a process of its own, before the local user pool."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from sidecar.demo.cognito import USERS, LocalCognito, User
from sidecar.demo.grants import CODE_SECONDS
from sidecar.demo.processes import LOOPBACK, Process, status_of

TOKEN_SECONDS = 3600


@dataclass(frozen=True)
class Config:
    """Configuration of the process, as a file of JSON. `clients` are app client ids with their secret, None without
    one."""

    port: int
    endpoint: str
    issuer: str
    pool_client: str
    clients: Mapping[str, str | None]
    redirect_uris: tuple[str, ...]
    logout_uris: tuple[str, ...]
    users: tuple[User, ...]
    token_seconds: int = TOKEN_SECONDS
    code_seconds: float = CODE_SECONDS
    rotation_grace: float | None = None
    scopes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file that `write` wrote."""
        values = json.loads(path.read_text())
        lists = {name: tuple(values[name]) for name in ("redirect_uris", "logout_uris", "scopes")}
        users = tuple(User(name, password, tuple(groups), *rest) for name, password, groups, *rest in values["users"])
        return cls(**{**values, **lists, "users": users})

    def write(self, path: Path) -> None:
        """Into a file that its owner alone can read: it has a client's secret."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))


class HostedUIServer:
    """The hosted UI of `cognito` at `domain`, from the constructor on; leaving the context stops it.

    It serves both of the pool's clients. `redirect_uris` and `logout_uris` are those that a client may name, compared
    character by character; the page offers to sign in as each of `users`. Access and id tokens live `token_seconds`,
    a code `code_seconds`. With `rotation_grace` each refresh gives a new refresh token, and the old one is good for so
    many seconds more. `scopes` are those of resource servers, which clients may ask for beside the
    standard ones. Raises DemoError, and ValueError for a URI that cannot be registered.
    """

    def __init__(
        self,
        cognito: LocalCognito,
        port: int,
        folder: Path,
        environ: Mapping[str, str],
        *,
        redirect_uris: Sequence[str],
        logout_uris: Sequence[str],
        users: Sequence[User] = USERS,
        token_seconds: int = TOKEN_SECONDS,
        code_seconds: float = CODE_SECONDS,
        rotation_grace: float | None = None,
        scopes: Sequence[str] = (),
    ) -> None:
        for uri in (*redirect_uris, *logout_uris):
            _check_uri(uri)
        self.domain = f"http://{LOOPBACK}:{port}"
        config = Config(
            port=port,
            endpoint=cognito.endpoint,
            issuer=cognito.issuer,
            pool_client=cognito.client_id,
            clients={
                cognito.client_id: None,
                cognito.confidential_client_id: cognito.confidential_client_secret,
            },
            redirect_uris=tuple(redirect_uris),
            logout_uris=tuple(logout_uris),
            users=tuple(users),
            token_seconds=token_seconds,
            code_seconds=code_seconds,
            rotation_grace=rotation_grace,
            scopes=tuple(scopes),
        )
        path = folder / "hosted-ui.json"
        config.write(path)
        command = [sys.executable, "-m", "sidecar.demo.authorization_server", str(path)]
        # without parameters it refuses, which only a server that works does
        self.process = Process.start(
            "hosted-ui", command, folder, environ, lambda: status_of(port, "/oauth2/authorize") == 400
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process; sessions and grants are gone with it."""
        self.process.stop()


def _check_uri(uri: str) -> None:
    """AWS's guide, "Authorize endpoint": an absolute URI, without a fragment."""
    parts = urlsplit(uri)
    if not parts.scheme or not parts.netloc or "#" in uri:
        raise ValueError(f"found the URI {uri!r}, expected an absolute one without a fragment")
