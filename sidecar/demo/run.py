"""Starts the whole stack on this machine, shows how to use it, and leaves nothing behind when it is stopped."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn, TextIO, TypeVar

from sidecar.demo.adopt import Walk, WalkPorts
from sidecar.demo.app import start_app
from sidecar.demo.cognito import USERS, LocalCognito, require
from sidecar.demo.guide import show, steps
from sidecar.demo.hosted_ui import HostedUIServer
from sidecar.demo.processes import LOOPBACK, DemoError, Process, can_listen, status_of

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WATCH_SECONDS = 0.25
# variables that would change what the demo shows
_FOREIGN = ("SIDECAR_", "AWS_")

_Started = TypeVar("_Started", LocalCognito, HostedUIServer, Process)


class Ports(NamedTuple):
    """One port of the loopback interface for each server; `--port`, `--admin-port`, `--app-port`, `--cognito-port`,
    `--login-port`."""

    traffic: int = 8080
    admin: int = 9901
    app: int = 3000
    cognito: int = 9229
    login: int = 9230


class _Server(NamedTuple):
    option: str
    what: str


# in the order of the fields of `Ports`
_SERVERS = (
    _Server("--port", "the sidecar"),
    _Server("--admin-port", "the sidecar's health and metrics"),
    _Server("--app-port", "the protected app"),
    _Server("--cognito-port", "the local Cognito"),
    _Server("--login-port", "its hosted UI"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """`sidecar demo`: run in a checkout until Ctrl-C or SIGTERM. Returns the exit status: 0, or 1 after an error."""
    options = parser().parse_args(argv)
    ports = Ports(options.port, options.admin_port, options.app_port, options.cognito_port, options.login_port)
    return run_demo(Path.cwd(), ports, os.environ, sys.stdout, sys.stderr, adopt=options.adopt)


def parser() -> argparse.ArgumentParser:
    """The flags of `sidecar demo`."""
    made = argparse.ArgumentParser(prog="sidecar demo", description=__doc__)
    for (option, what), default in zip(_SERVERS, Ports(), strict=True):
        made.add_argument(option, type=_port, default=default, metavar="N", help=f"port of {what} (default: {default})")
    said = "walk from the open app to the enforced one, step by step, and end; the files are in ./adopt"
    made.add_argument("--adopt", action="store_true", help=said)
    return made


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a port from 1 to 65535")
    return int(text)


def run_demo(
    project: Path, ports: Ports, environ: Mapping[str, str], out: TextIO, err: TextIO, *, adopt: bool = False
) -> int:
    """Run until a stop signal, from the main thread; returns the exit status. With `adopt` walk the way to an enforced
    app, which ends by itself.

    `project` is a checkout: it has routes.yaml, policies/ and node_modules/.
    """
    fault = ""
    with _stop_signals() as stopping, contextlib.ExitStack() as stack:
        try:
            _check(project, ports)
            clean = {name: value for name, value in environ.items() if not name.startswith(_FOREIGN)}
            cerbos = _cerbos_binary(project / "node_modules")
            if adopt:
                stopping.check()
                Walk(project, WalkPorts(*ports[:4]), clean, cerbos, out, stack).walk()
                return 0
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecar-demo-")))
            _Stage(project, ports, folder, clean, cerbos, out, stack, stopping).play()
        except KeyboardInterrupt:
            print("\nStopping ...", file=out, flush=True)
        except DemoError as error:
            fault = str(error)
        finally:
            _ignore_stop_signals()
    if fault:
        print(f"\nsidecar demo: {fault}", file=err, flush=True)
    return 1 if fault else 0


class _Stopping:
    """Handler of the stop signals: the first one is a KeyboardInterrupt, and is remembered should that get lost, as an
    exception in a finalizer does."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self, *_: object) -> NoReturn:
        # before anything else: two in a row come before what catches the first one runs
        _ignore_stop_signals()
        self._asked = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt where a stop signal came."""
        if self._asked:
            raise KeyboardInterrupt


@contextlib.contextmanager
def _stop_signals() -> Iterator[_Stopping]:
    """Inside, the first stop signal is a KeyboardInterrupt, also where a shell without job control had ignored it."""
    stopping = _Stopping()
    before = {number: signal.signal(number, stopping) for number in _STOP_SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_stop_signals() -> None:
    """Stopping is bounded and must reach its end: a second Ctrl-C does not cut it short."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _check(project: Path, ports: Ports) -> None:
    """Raises DemoError, with every reason, when something is missing or a port is not free."""
    require("boto3", "moto")
    problems = [
        f"{name} is not in {project}: run it in a checkout of the project, after make setup"
        for name in ("routes.yaml", "policies", "node_modules")
        if not (project / name).exists()
    ]
    for (option, what), port in zip(_SERVERS, ports, strict=True):
        if ports.count(port) > 1:
            problems.append(f"{option} {port} ({what}): another option names this port too")
        elif not can_listen(port):
            another = f'choose another with {option} N, or make demo ARGS="{option} N"'
            problems.append(f"port {port} is in use, and {what} wants it: {another}")
    if problems:
        raise DemoError("\n  ".join(["cannot start", *problems]) if len(problems) > 1 else problems[0])


@dataclass(frozen=True)
class _Stage:
    """One run of the demo; whatever it starts is on `stack`."""

    project: Path
    ports: Ports
    folder: Path
    environ: Mapping[str, str]
    cerbos: Path
    out: TextIO
    stack: contextlib.ExitStack
    stopping: _Stopping

    def play(self) -> NoReturn:
        """Start everything, show the tour, watch. Ends by KeyboardInterrupt or DemoError only."""
        cognito = self._start(
            "a local Cognito (moto)",
            self.ports.cognito,
            lambda: LocalCognito(self.ports.cognito, self.folder, self.environ, fixed_ids=True),
        )
        login = self._start("its hosted UI", self.ports.login, lambda: self._start_login(cognito))
        node_modules = self.project / "node_modules"
        app = self._start(
            "the app (json-server)",
            self.ports.app,
            lambda: start_app(self.ports.app, node_modules, self.folder, self.environ),
        )
        sidecar = self._start(
            "the sidecar with Cerbos", self.ports.traffic, lambda: self._start_sidecar(cognito, login)
        )
        tour = steps(cognito.endpoint, cognito.client_id, USERS, self._url)
        self._say(f"\n{show(USERS, tour, self._url)}")
        self._say("Each decision is a line below. Press Ctrl-C to stop.")
        while True:
            self.stopping.check()
            for process in (cognito.process, login.process, app, sidecar):
                process.check()
            time.sleep(_WATCH_SECONDS)

    def _start(self, what: str, port: int, start: Callable[[], _Started]) -> _Started:
        """Start one part and say so, in one line."""
        self.stopping.check()
        print(f"{what:<26}", end="", file=self.out, flush=True)
        began = time.monotonic()
        started = self.stack.enter_context(start())
        self._say(f"{time.monotonic() - began:4.1f} s   http://{LOOPBACK}:{port}")
        return started

    @property
    def _url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.traffic}"

    def _start_login(self, cognito: LocalCognito) -> HostedUIServer:
        return HostedUIServer(
            cognito, self.ports.login, self.folder, self.environ,
            redirect_uris=[f"{self._url}/_sidecar/callback"], logout_uris=[f"{self._url}/_sidecar/console"],
        )  # fmt: skip

    def _start_sidecar(self, cognito: LocalCognito, login: HostedUIServer) -> Process:
        settings = {
            "SIDECAR_UPSTREAM": f"http://{LOOPBACK}:{self.ports.app}",
            "SIDECAR_LISTEN": f"{LOOPBACK}:{self.ports.traffic}",
            "SIDECAR_ADMIN_LISTEN": f"{LOOPBACK}:{self.ports.admin}",
            "SIDECAR_ROUTES": str(self._routes()),
            "SIDECAR_POLICIES": str(self.project / "policies"),
            "SIDECAR_CERBOS": "embedded",
            "SIDECAR_CERBOS_BINARY": str(self.cerbos),
            "SIDECAR_SHUTDOWN_TIMEOUT": "2s",
            "AWS_REGION": cognito.region,
            "AWS_COGNITO_POOL_ID": cognito.pool_id,
            "AWS_COGNITO_CLIENT_ID": cognito.client_id,
            "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": cognito.endpoint,
            "AWS_COGNITO_DOMAIN": login.domain,
            "AWS_COGNITO_HOSTED_UI_CALLBACK_URL": f"{self._url}/_sidecar/callback",
            "AWS_COGNITO_HOSTED_UI_LOGOUT_URL": f"{self._url}/_sidecar/console",
            "SIDECAR_LOGIN": "both",
            # the app hears of the address, which is in an id token of that scope
            "AWS_COGNITO_SCOPES": "openid,email",
            # the stand-in takes any proof of the other flow
            "SIDECAR_PASSWORD_FLOW": "password",
            "SIDECAR_LOGOUT": "cognito",
            "SIDECAR_SESSION_SECRET": secrets.token_urlsafe(32),
            "SIDECAR_CONSOLE_ADMIN": "admin",
        }
        command = [sys.executable, "-m", "sidecar.cli", "run"]
        environ = {**self.environ, **settings}
        return Process.start(
            "sidecar", command, self.folder, environ, lambda: status_of(self.ports.admin, "/readyz") == 200, speaks=True
        )

    def _routes(self) -> Path:
        """The project's routes.yaml; with another port for the app, a copy in which the lookup asks there."""
        routes = self.project / "routes.yaml"
        if self.ports.app == Ports().app:
            return routes
        copy = self.folder / "routes.yaml"
        copy.write_text(routes.read_text().replace(f"{LOOPBACK}:{Ports().app}/", f"{LOOPBACK}:{self.ports.app}/"))
        return copy

    def _say(self, text: str) -> None:
        print(text, file=self.out, flush=True)


def _cerbos_binary(node_modules: Path) -> Path:
    """The binary in Cerbos' npm package; npm installs the one that fits this machine. Raises DemoError."""
    found = sorted((node_modules / "@cerbos").glob("cerbos-*/cerbos-*"))
    if not found:
        raise DemoError(f"no Cerbos binary in {node_modules / '@cerbos'}: run make setup (or npm ci)")
    return found[0]
