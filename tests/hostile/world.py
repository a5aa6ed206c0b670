"""The fixture of hostile.yaml: key server, lookup hook, recording upstream, and the sidecar as a process between them."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hostile.minting import Mint, SigningKey
from tests.stack import Answer, Recorder, Seen, Sidecar, raw_reply, running_sidecar, wait_for

FOLDER = Path(__file__).parent
ROUTES = (FOLDER / "routes.yaml").read_text()
OWNERS = {"1": "a-1", "2": "b-1"}


def json_reply(value: Any, *headers: str, status: int = 200, kind: str = "application/json") -> Answer:
    """Answer with JSON, or with bytes as they are."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", *headers, f"Content-Length: {len(body)}", "", ""]
    return raw_reply("\r\n".join(lines).encode("latin-1") + body)


class Hook(Recorder):
    """Knows who owns which document: `/owners/{id}`. `instead` takes the place of that."""

    def __init__(self) -> None:
        super().__init__()
        self.restore()

    def restore(self) -> None:
        """Answer as at the beginning, and forget what was asked."""
        self.owners = dict(OWNERS)
        self.reset(self._owner)

    def _owner(self, recorder: Recorder, connection: socket.socket, seen: Seen) -> None:
        name = seen.target.removeprefix("/owners/")
        known = name in self.owners
        value = {"id": name, "owner": self.owners[name]} if known else {}
        json_reply(value, status=200 if known else 404)(recorder, connection, seen)


class KeyServer(Recorder):
    """Serves the key set of one pool. `fetches` counts."""

    def __init__(self, *keys: SigningKey) -> None:
        super().__init__()
        self.serve(*keys)

    def serve(self, *keys: SigningKey) -> None:
        """From now on these are the pool's keys."""
        self.answer = json_reply({"keys": [key.jwk for key in keys]})

    @property
    def url(self) -> str:
        """Where the keys are."""
        return f"http://127.0.0.1:{self.port}/jwks.json"

    @property
    def fetches(self) -> int:
        """How often somebody asked."""
        return len(self.seen)


@dataclass
class World:
    """What the cases share. `trap` stands in the proxy variables of the environment: nobody may speak to it.

    `aside` is a second sidecar for what takes long, so that its records do not come among those of the others.
    `more` stands at the end of the route file of every further sidecar. `log_lines` are the lines of the decision log that
    were read already, up to `log_end`.
    """

    folder: Path
    mint: Mint
    keys: KeyServer
    hook: Hook
    upstream: Recorder
    trap: Recorder
    sidecar: Sidecar
    aside: Sidecar
    tokens: dict[str, str] = field(default_factory=dict)
    more: str = ""
    log_lines: list[str] = field(default_factory=list)
    log_end: int = 0

    def token(self, user: str) -> str:
        """A valid access token of a user, the same one every time."""
        return self.tokens.setdefault(user, self.mint.token(user))

    def fresh(self) -> None:
        """As if just started: nothing recorded, every part answering well."""
        self.upstream.reset()
        self.hook.restore()

    def environ(self, keys: KeyServer | None = None) -> dict[str, str]:
        """The settings of the fixture."""
        return settings(keys or self.keys)

    @contextmanager
    def another(
        self, name: str, *, keys: KeyServer | None = None, routes: str = ROUTES, upstream: int = 0,
        environ: Mapping[str, str] | None = None, policies: Path = FOLDER / "policies", ready: bool = True,
        shared: bool = True,
    ) -> Iterator[Sidecar]:  # fmt: skip
        """A sidecar of its own, before the same hook; it asks the `shared` Cerbos, or one of its own."""
        url = f"http://127.0.0.1:{upstream or self.upstream.port}"
        own = {**self.environ(keys), **(environ or {})}
        text = routes.replace("<hook>", f"127.0.0.1:{self.hook.port}") + self.more
        with running_sidecar(self.folder / name, text, policies, url, own, ready=ready, shared=shared) as sidecar:
            # the admin port listens first
            wait_for(lambda: _listens(sidecar.port), what="the traffic port")
            yield sidecar


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def settings(keys: KeyServer) -> dict[str, str]:
    """The settings of the fixture."""
    return {
        "AWS_REGION": "eu-west-1",
        "AWS_COGNITO_POOL_ID": "eu-west-1_TEST",
        "AWS_COGNITO_CLIENT_ID": "c1",
        "SIDECAR_JWKS_URL": keys.url,
        "SIDECAR_HOSTS": "app.test",
        # a busy machine is no reason for another answer
        "SIDECAR_CERBOS_TIMEOUT": "3s",
    }


@contextmanager
def running_world(folder: Path) -> Iterator[World]:
    """The parts, running."""
    key = SigningKey("pool-key-1")
    keys, hook, upstream, trap = KeyServer(key), Hook(), Recorder(), Recorder()
    proxy = f"http://127.0.0.1:{trap.port}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GRPC_PROXY")
    proxies = {spelled: proxy for name in names for spelled in (name, name.lower())}
    text = ROUTES.replace("<hook>", f"127.0.0.1:{hook.port}")
    environ = {**settings(keys), **proxies, "NO_PROXY": "", "no_proxy": ""}
    upstream_url = f"http://127.0.0.1:{upstream.port}"
    policies = FOLDER / "policies"
    with (
        running_sidecar(folder / "main", text, policies, upstream_url, environ) as sidecar,
        running_sidecar(folder / "aside", text, policies, upstream_url, environ, shared=True) as aside,
    ):
        yield World(folder, Mint(key), keys, hook, upstream, trap, sidecar, aside)
    for part in (keys, hook, upstream, trap):
        part.close()
