"""What every way in shares: key server, lookup hook, recording app and Cerbos; and sidecars, one for each way."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.gate.own import SESSION_COOKIES
from sidecar.gate.session import Session
from sidecar.pdp.embedded import EmbeddedCerbos
from sidecar.sessions.cookie import PURPOSE
from sidecar.sessions.seal import Seal
from sidecar.sessions.store import encode, to_cookies
from tests.foreign.cases import Ask
from tests.hostile.minting import Mint, SigningKey
from tests.hostile.wire import Client, Reply
from tests.hostile.world import Hook, KeyServer, settings
from tests.stack import Answer, Recorder, Seen, Sidecar, binary, echo, running_sidecar
from tests.tokens import SESSION_SECRET

HOSTILE = Path(__file__).parent.parent / "hostile"
GUEST = "127.0.0.2"
"""The address that clients come from: no proxy's, so that nobody believes what they say of others."""
SECRET = SESSION_SECRET
HIDDEN = """\
  hidden: {url: "http://<hook>/owners/{id}", attributes: {owner: owner}, missing: hide}
to_app: {headers: {Remote-User: "{principal.id}"}}
routes:
  - {path: "/plain/{id}", access: authenticated, to_app: {authorization: drop}}
  - {path: "/basic/{id}", access: authenticated, to_app: {authorization: keep}}
  - path: "/calendars/{id:int}.ics"
    resource: document
    id: "{path.id}"
    lookup: document
    cors: app
    actions: {GET: view, MKCALENDAR: edit}
  - {path: "/hidden/{id}", resource: document, id: "{path.id}", lookup: hidden, actions: {GET: view}}
  - path: /mine
    resource: document
    attributes: {owner: "{principal.id}"}
    query: [page]
    set_query: {owner: "{principal.id}"}
    actions: {GET: view}
"""


@dataclass
class Outcome:
    """What came of one request: the client's answer, None where nobody listened, and what the app saw of it."""

    reply: Reply | None
    seen: list[Seen]

    @property
    def status(self) -> int:
        """The status of the answer, 0 without one."""
        return self.reply.status if self.reply is not None else 0


@dataclass
class World:
    """The parts that all ways in share."""

    folder: Path
    mint: Mint
    keys: KeyServer
    hook: Hook
    app: Recorder
    cerbos: EmbeddedCerbos
    loop: asyncio.AbstractEventLoop
    tokens: dict[str, str] = field(default_factory=dict)
    answer: Answer = echo
    """How the app answers."""

    def token(self, user: str) -> str:
        """An access token of a user, the same one every time; of `expired`, one that has ended."""
        past = int(time.time()) - 7200
        if user not in self.tokens:
            more = {"iat": past, "auth_time": past, "exp": past + 3600} if user == "expired" else {}
            self.tokens[user] = self.mint.token("alice" if user == "expired" else user, **more)
        return self.tokens[user]

    def session(self, user: str) -> str:
        """The cookies of alice's session, as a browser sends them; that of `idle` is long enough for two cookies, and
        was last used so long ago that it is written anew."""
        idle = user == "idle"
        token = self.mint.token("alice", **({"padding": secrets.token_hex(4096)} if idle else {}))
        now = int(time.time())
        session = Session(
            secrets.token_hex(16), token, token, "", "alice", now + 3600, now, now - 600 * idle, True
        )  # fmt: skip
        sealed = to_cookies(Seal((SECRET,)).seal(PURPOSE, encode(session)), SESSION_COOKIES)
        return "; ".join(cookie.decode().partition(";")[0] for cookie in sealed if b"Max-Age=0" not in cookie)

    def take_away(self, part: str) -> None:
        """From now on the hook ends every connection without a word ("hook"), or Cerbos is gone for good ("cerbos")."""
        if part == "hook":
            self.hook.reset(lambda _, connection, __: connection.shutdown(socket.SHUT_RDWR))
        else:
            self.loop.run_until_complete(self.cerbos.stop())

    @contextmanager
    def sidecar(self, name: str, **environ: str) -> Iterator[Sidecar]:
        """A sidecar of its own that asks the shared Cerbos, in a folder of this name."""
        text = (HOSTILE / "routes.yaml").read_text().replace("routes:\n", HIDDEN, 1)
        text = text.replace("<hook>", f"127.0.0.1:{self.hook.port}")
        own = {
            **settings(self.keys), "SIDECAR_CERBOS": self.cerbos.target, "SIDECAR_TRUSTED_PROXIES": "127.0.0.1/32",
            "SIDECAR_SESSION_SECRET": SECRET, "AWS_COGNITO_DOMAIN": "https://auth.example",
            "AWS_COGNITO_HOSTED_UI_CALLBACK_URL": "https://app.test/_sidecar/callback", **environ,
        }  # fmt: skip
        upstream = f"http://127.0.0.1:{self.app.port}"
        with running_sidecar(self.folder / name, text, HOSTILE / "policies", upstream, own) as sidecar:
            yield sidecar

    def send(self, port: int, ask: Ask) -> Outcome:
        """Send one request on a connection of its own, and see what the app gets of it."""
        self.app.reset(self.answer)
        try:
            client = Guest(port)
        except ConnectionRefusedError:
            return Outcome(None, [])
        with closing(client.socket):
            client.send(self.bytes_of(ask))
            reply = client.reply(ask.method)
        return Outcome(reply, list(self.app.seen))

    def bytes_of(self, ask: Ask) -> bytes:
        """The request as it stands on the wire."""
        lines = [f"{ask.method} {ask.target} HTTP/1.1", f"Host: {ask.host}"]
        lines += [line.replace("{{token}}", self.token("alice")) for line in ask.headers]
        if ask.user:
            lines.append(f"Authorization: Bearer {self.token(ask.user)}")
        if ask.session:
            # RFC 6265 section 5.4: one header Cookie
            others = [line.removeprefix("Cookie: ") for line in lines if line.startswith("Cookie: ")]
            lines = [line for line in lines if not line.startswith("Cookie: ")]
            lines.append("Cookie: " + "; ".join([self.session(ask.session), *others]))
            lines.append(
                "Sec-Fetch-Site: same-origin" if "evil" not in str(ask.headers) else "Sec-Fetch-Site: cross-site"
            )
        if ask.body:
            lines.append(f"Content-Length: {len(ask.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + ask.body


class Guest(Client):
    """A client at GUEST."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10, source_address=(GUEST, 0))
        self.data = b""


@contextmanager
def running_world(folder: Path) -> Iterator[World]:
    """The shared parts, running. The loop of Cerbos' watcher runs while it starts and stops."""
    key = SigningKey("pool-key-1")
    keys, hook, app = KeyServer(key), Hook(), Recorder()
    cerbos = EmbeddedCerbos(HOSTILE / "policies", binary=str(binary()))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(cerbos.start())
    try:
        yield World(folder, Mint(key), keys, hook, app, cerbos, loop)
    finally:
        loop.run_until_complete(cerbos.stop())
        loop.close()
        for part in (keys, hook, app):
            part.close()
