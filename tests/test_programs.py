"""The guide for programs, run as it stands: its routes and its policies, the real Cerbos, tokens of people and of programs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sidecar.config.routes.file import read_routes
from sidecar.config.settings import read_settings
from sidecar.demo.cognito import LocalCognito
from sidecar.study.claims import lacking
from tests import guide_commands
from tests.deploy.aws import Account
from tests.stack import ROOT, Recorder, Sidecar, Web, running_sidecar
from tests.tokens import claims, key_set, mint

GUIDE = (ROOT / "docs/guides/programs.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```yaml\n(.*?)```", GUIDE, re.DOTALL))
ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEf"


@dataclass
class World:
    sidecar: Sidecar
    upstream: Recorder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("programs")
    keys, app, upstream = Web(), Web(), Recorder()
    keys.json("/jwks", key_set())
    app.json("/reports/7", {"id": 7, "author": "alice"})
    (folder / "policies").mkdir()
    for name, text in EXAMPLES.items():
        if name.startswith("policies/"):
            (folder / name).write_text(text)
    # the guide's pool is Amazon's; here its keys are with us
    routes = EXAMPLES["routes.yaml"].replace("127.0.0.1:5000", f"127.0.0.1:{app.port}").replace(
        "region: eu-west-1, user_pool_id: eu-west-1_AbCdEf", f'issuer: "{ISSUER}", jwks_url: "http://127.0.0.1:{keys.port}/jwks"'
    )  # fmt: skip
    with running_sidecar(
        folder, routes, folder / "policies", f"http://127.0.0.1:{upstream.port}", {}, shared=True
    ) as sidecar:
        yield World(sidecar, upstream)
    for part in (keys, app, upstream):
        part.close()


def person(name: str, scope: str = "aws.cognito.signin.user.admin openid") -> str:
    said = claims(time.time(), iss=ISSUER, client_id="web", sub=f"{name}-1", username=name, scope=scope)
    return mint(said).decode()


def program(client: str = "nightly-report", scope: str | None = "reports/read", **more: object) -> str:
    """What a token of the client credentials grant says: no user name, no groups, no session."""
    without = {"username": None, "cognito:groups": None, "origin_jti": None}
    return mint(
        claims(time.time(), iss=ISSUER, client_id=client, sub=client, scope=scope, **{**without, **more})
    ).decode()


CASES = [
    ("the program reads", program(), "GET", "allowed"),
    ("the program changes", program(), "PUT", "denied_by_policy"),
    ("the author reads", person("alice"), "GET", "allowed"),
    ("the author changes", person("alice"), "PUT", "allowed"),
    ("another person", person("bob"), "GET", "denied_by_policy"),
    ("another person with the scope", person("bob", "openid reports/read"), "GET", "denied_by_policy"),
    ("a program without the scope", program(scope=None), "GET", "no_roles"),
    ("a program of another app client", program("stranger"), "GET", "token_invalid"),
    ("a program of the app client of people", program("web"), "GET", "denied_by_policy"),
    ("a person at the program's app client", program(username="bob"), "GET", "denied_by_policy"),
]


@pytest.mark.parametrize(("who", "token", "method", "outcome"), CASES, ids=[case[0] for case in CASES])
def test_programs_and_people_get_what_the_guide_says(
    world: World, who: str, token: str, method: str, outcome: str
) -> None:
    world.upstream.reset()
    got = world.sidecar.request(method, "/reports/7", token)
    assert (got.code if got.status >= 400 else "allowed") == outcome, who
    assert len(world.upstream.seen) == (outcome == "allowed")
    if who == "the program reads":
        assert world.upstream.seen[0].values("x-auth-subject") == ["nightly-report"]
        assert world.sidecar.decisions()[-1]["principal"] == "nightly-report"


def test_the_table_says_what_was_tried() -> None:
    told = set(re.findall(r"\| 40[13] `(\w+)`", GUIDE.partition("## What comes out")[2]))
    assert told == {outcome for *_, outcome in CASES} - {"allowed"}


def test_the_commands_make_an_app_client_for_a_program(cognito: LocalCognito, tmp_path: Path) -> None:
    """Those of docs/guides/programs.md."""
    (text,) = re.findall(r"<!-- run by: tests/test_programs.py -->\n```sh\n(.*?)```", GUIDE, re.DOTALL)
    account = Account(cognito.endpoint, cognito.region)
    with account.command(tmp_path):
        environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "AWS_COGNITO_POOL_ID": cognito.pool_id}
        done = subprocess.run(
            ["sh", "-eu", "-c", text], env=environ, capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 0, done.stdout + done.stderr
    api = account.client("cognito-idp")
    (made,) = [
        one["ClientId"]
        for one in api.list_user_pool_clients(UserPoolId=cognito.pool_id, MaxResults=60)["UserPoolClients"]
        if one["ClientName"] == "nightly-report"
    ]
    client = api.describe_user_pool_client(UserPoolId=cognito.pool_id, ClientId=made)["UserPoolClient"]
    assert (client["AllowedOAuthFlows"], client["AllowedOAuthScopes"]) == (["client_credentials"], ["reports/read"])
    assert client["ClientSecret"]
    api.close()


def test_the_explanation_is_an_allow(world: World, tmp_path: Path) -> None:
    (line,) = re.findall(r"^sidecar explain .+$", GUIDE, re.MULTILINE)
    environ = {
        "SIDECAR_ROUTES": str(world.sidecar.folder / "routes.yaml"), "SIDECAR_POLICIES": str(world.sidecar.folder / "policies"),
    }  # fmt: skip
    done = guide_commands.sidecar(tmp_path, *shlex.split(line)[1:], environ=environ)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "verdict    FORWARD allowed"), (
        done.stdout + done.stderr
    )


def test_a_program_has_no_user_name(world: World, tmp_path: Path) -> None:
    """What the guide warns of, and what `sidecar check` notes."""
    by_name = (world.sidecar.folder / "routes.yaml").read_text().replace("id: sub", "id: username")
    where = f"http://127.0.0.1:{world.upstream.port}"
    with running_sidecar(tmp_path, by_name, world.sidecar.folder / "policies", where, {}, shared=True) as sidecar:
        got = sidecar.get("/reports/7", program())
        assert (got.status, got.code) == (403, "principal_missing")
        assert sidecar.get("/reports/7", person("alice")).status == 200
    settings = read_settings({"SIDECAR_UPSTREAM": "http://127.0.0.1:1"}, {})
    shown = EXAMPLES["routes.yaml"]
    assert lacking(read_routes(shown, settings.routes, {}), settings, shown) == ([], [])
    renamed = shown.replace("id: sub", "id: username")
    told = lacking(read_routes(renamed, settings.routes, {}), settings, renamed)
    assert ["principal.id" in note for note in told.notes] == [True]


def test_a_required_user_name_refuses_programs(world: World, tmp_path: Path) -> None:
    required = (world.sidecar.folder / "routes.yaml").read_text().replace("  optional: [username]\n", "")
    where = f"http://127.0.0.1:{world.upstream.port}"
    with running_sidecar(tmp_path, required, world.sidecar.folder / "policies", where, {}, shared=True) as sidecar:
        got = sidecar.get("/reports/7", program())
        assert (got.status, json.loads(got.body)["code"]) == (403, "claim_missing")
