"""The path from an open app to an enforced one, walked on the demo's app: `sidecar demo --adopt`.

Each step runs a command as its user would, and prints it. Decisions of a person on the path stand here as text.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import httpx
import yaml

from sidecar.demo.app import start_app
from sidecar.demo.cognito import LocalCognito
from sidecar.demo.processes import LOOPBACK, DemoError, Process, status_of
from sidecar.demo.workday import PEOPLE, DemoRequest, workday

FOLDER = "adopt"
"""The folder in the checkout that has the files of the walk, those of the last one only."""
_MOST_LINES = 24
"""Lines of a command's output that are shown."""

WHO_AND_WHOSE = """\
principal: {id: username, roles: "cognito:groups"}
lookups:
  contact:
    url: "http://127.0.0.1:%d/contacts/{id}"
    attributes: {owner: "owner_id:string"}
    missing: deny
"""
"""Decisions of a person, at the head of the draft: who asks, and where to find whose a contact is."""


class WalkPorts(NamedTuple):
    """Ports of the loopback interface that the walk takes."""

    traffic: int
    admin: int
    app: int
    cognito: int


class NamedRefusal(NamedTuple):
    """A refusal as the report names it, and as a line of the log has it."""

    method: str
    route: str
    code: str
    roles: tuple[str, ...]


class Walk:
    """One walk. Everything that it starts is on `stack`; its files are in `folder`, which it empties first."""

    def __init__(
        self, project: Path, ports: WalkPorts, environ: Mapping[str, str], cerbos: Path, out: TextIO,
        stack: contextlib.ExitStack,
    ) -> None:  # fmt: skip
        self.folder = project / FOLDER
        self._project = project
        self._ports = ports
        self._environ = environ
        self._cerbos = cerbos
        self._out = out
        self._stack = stack
        self._run_number = 0

    def walk(self) -> None:
        """Walk all of it. Raises DemoError where a step ends otherwise than it should."""
        began = time.monotonic()
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "processes").mkdir(parents=True)
        (self.folder / "policies").mkdir()
        self._pool = self._stack.enter_context(
            LocalCognito(self._ports.cognito, self.folder / "processes", self._environ, PEOPLE, fixed_ids=True)
        )
        self._tokens = {user.name: self._pool.token(user.name) for user in PEOPLE}
        self._draft_routes()
        self._draft_policies()
        named = self._watch()
        self._keep_cases()
        self._enforce(named)
        self._change_a_policy()
        self._say(f"\nThat took {time.monotonic() - began:.0f} s. The files are in {self.folder}.")
        self._say(f"The report: file://{self.folder / 'report.html'}")

    # --- the steps ---

    def _draft_routes(self) -> None:
        self._title("1. Draft the routes from the access log that nginx wrote in front of the app")
        log = importlib.resources.files("sidecar.demo").joinpath("workday_access.txt")
        (self.folder / "access.txt").write_text(log.read_text())
        self._command("import", "access.txt", "--out", "routes.yaml")
        self._say(
            "\nYou look through the draft: `/db` shows the whole database, and stays out. You say who asks and whose"
        )
        self._say("a contact is, and take `draft: true` away from what you want to use.")
        path = self.folder / "routes.yaml"
        path.write_text(decided(path.read_text(), self._ports.app))
        self._command("check")

    def _draft_policies(self) -> None:
        self._title("2. Watch a day in shadow, without any policy, and draft the policies from it")
        self._workday("first.log", "shadow")
        self._command("report", "first.log", "--routes", "routes.yaml")
        self._command("draft", "first.log", "--out", "policies", "--force")

    def _watch(self) -> frozenset[NamedRefusal]:
        self._title("3. Watch another day with these policies: what would break now?")
        self._workday("second.log", "shadow")
        self._command("report", "second.log", "--routes", "routes.yaml", "--html", "report.html", most=50)
        report = json.loads(self._quietly("report", "second.log", "--routes", "routes.yaml", "--json"))
        self._command("coverage", "--log", "second.log")
        return frozenset(
            NamedRefusal(one["method"], one["route"], one["code"], tuple(one["roles"]))
            for one in report["differences"]
            if one["relation"] == "would_break"
        )

    def _keep_cases(self) -> None:
        self._title("4. Keep what works as cases, which CI runs from now on")
        self._command("test", "--from", "second.log", "--out", "cases.yaml")
        self._command("test", "cases.yaml")

    def _enforce(self, named: frozenset[NamedRefusal]) -> None:
        self._title("5. Enforce the list first, and then all of it")
        path = self.folder / "routes.yaml"
        whole = path.read_text()
        one = "  - path: /contacts/{id:int}\n"
        path.write_text(whole.replace(one, f"{one}    mode: shadow-policy\n"))
        self._tell(self._workday("slice.log", "enforce"), named)
        path.write_text(whole)
        self._tell(self._workday("enforced.log", "enforce"), named)

    def _tell(self, log: Path, named: frozenset[NamedRefusal]) -> None:
        """Tell which requests were refused. Raises DemoError for one that the report had not named."""
        refused = [line for line in map(json.loads, log.read_text().splitlines()) if line["outcome"] == "refuse"]
        for line in refused:
            one = NamedRefusal(line["method"], line["route"], line["code"], tuple(line["roles"]))
            if one not in named:
                raise DemoError(f"{one} was refused, and the report had not named it")
            who = line["principal"] or "somebody"
            self._say(f"  refused, as the report said: {who} {line['method']} {line['path']} ({line['code']})")

    def _change_a_policy(self) -> None:
        self._title("6. Try a change before it is deployed: users may change and delete any contact")
        new = self.folder / "new"
        shutil.copytree(self.folder / "policies", new)
        widen(new)
        self._command("replay", "second.log", "--policies", "new", codes=(3,))

    # --- what happens on the way ---

    def _workday(self, log: str, mode: str) -> Path:
        """Let people do their work in this mode, with a fresh app, and return the question log."""
        self._run_number += 1
        folder = self.folder / "processes" / str(self._run_number)
        folder.mkdir()
        with (
            start_app(self._ports.app, self._project / "node_modules", folder, self._environ),
            self._sidecar(folder, log, mode),
        ):
            count = sum(1 for _ in self._visits())
        self._say(f"\nThe sidecar ran in the mode {mode}: {count} requests of {len(PEOPLE)} people are in {log}.")
        return self.folder / log

    def _sidecar(self, folder: Path, log: str, mode: str) -> Process:
        settings = self._settings() | {"SIDECAR_MODE": mode, "SIDECAR_QUESTION_LOG": str(self.folder / log)}
        settings |= {"SIDECAR_QUESTION_LOG_ATTRIBUTES": "owner"}
        return Process.start(
            "sidecar", [sys.executable, "-m", "sidecar.cli", "run"], self.folder, {**self._environ, **settings},
            lambda: status_of(self._ports.admin, "/readyz") == 200,
        )  # fmt: skip

    def _settings(self) -> dict[str, str]:
        return {
            "SIDECAR_UPSTREAM": f"http://{LOOPBACK}:{self._ports.app}",
            "SIDECAR_LISTEN": f"{LOOPBACK}:{self._ports.traffic}",
            "SIDECAR_ADMIN_LISTEN": f"{LOOPBACK}:{self._ports.admin}",
            "SIDECAR_MODE": "shadow",
            "SIDECAR_ROUTES": "routes.yaml",
            "SIDECAR_POLICIES": "policies",
            "SIDECAR_CERBOS_BINARY": str(self._cerbos),
            "SIDECAR_DECISION_LOG": "decisions.log",
            "SIDECAR_SHUTDOWN_TIMEOUT": "2s",
            "AWS_REGION": self._pool.region,
            "AWS_COGNITO_POOL_ID": self._pool.pool_id,
            "AWS_COGNITO_CLIENT_ID": self._pool.client_id,
            "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": self._pool.endpoint,
        }

    def _visits(self) -> Iterator[int]:
        """Send the requests of a workday: their statuses."""
        with httpx.Client(base_url=f"http://{LOOPBACK}:{self._ports.traffic}", trust_env=False) as client:
            for visit in workday():
                yield client.request(
                    visit.method, visit.path, json=visit.body, headers=self._headers(visit)
                ).status_code  # fmt: skip

    def _headers(self, visit: DemoRequest) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._tokens[visit.user]}"}

    # --- commands ---

    def _command(self, *arguments: str, codes: Sequence[int] = (0,), most: int = _MOST_LINES) -> None:
        """Run `sidecar ...` as one types it, and show what it says. Raises DemoError for another exit code."""
        self._say(f"\n$ sidecar {' '.join(arguments)}")
        done = self._run(arguments)
        lines = (done.stdout + done.stderr).splitlines()
        for line in lines[:most]:
            self._say(f"  {line}".rstrip())
        if len(lines) > most:
            self._say(f"  ... and {len(lines) - most} more lines")
        self._require(done, codes)

    def _quietly(self, *arguments: str) -> str:
        done = self._run(arguments)
        self._require(done, (0,))
        return done.stdout

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own command line, given as a list
            [sys.executable, "-m", "sidecar.cli", *arguments], cwd=self.folder, capture_output=True, text=True,
            check=False, env={**self._environ, **self._settings()}, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def _require(self, done: subprocess.CompletedProcess[str], codes: Sequence[int]) -> None:
        if done.returncode not in codes:
            raise DemoError(f"{' '.join(done.args[2:])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def _title(self, text: str) -> None:
        self._say(f"\n== {text}")

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)


def decided(draft: str, app_port: int) -> str:
    """The draft as a person leaves it: the routes of contacts are in use, and whose a contact is comes from the app."""
    head, *routes = re.split(r"(?m)^(?=  - path:)", draft.replace("draft: true\n", WHO_AND_WHOSE % app_port, 1))
    return head + "".join(_decided(route) if route.startswith("  - path: /contacts") else route for route in routes)


def _decided(route: str) -> str:
    one = '    id: "{path.id}"\n'
    return route.replace("    draft: true\n", "", 1).replace(one, f"{one}    lookup: contact\n    query: []\n", 1)


def widen(policies: Path) -> None:
    """Change the policy of contacts: whoever has the role `user` may delete any of them."""
    for path in policies.glob("*.yaml"):
        document: dict[str, Any] = yaml.safe_load(path.read_text())
        policy = document.get("resourcePolicy", {})
        if policy.get("resource") == "contact":
            policy["rules"].append({"actions": ["delete", "update"], "effect": "EFFECT_ALLOW", "roles": ["user"]})
            path.write_text(yaml.safe_dump(document, sort_keys=False))
