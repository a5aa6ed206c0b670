"""The guide look-up-items.md as it stands: its routes and policy, a real hook by HTTP, before the real Cerbos."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests import guide_commands
from tests.stack import ROOT, Got, Recorder, Sidecar, Web, binary, reply, running_sidecar
from tests.tokens import CLIENT, POOL, claims, key_set, mint

pytestmark = pytest.mark.process
PAGE = (ROOT / "docs/guides/look-up-items.md").read_text(encoding="utf-8")
ASKED = "/contacts?id=1&id=2&id=3&id=4"
JSON = "Content-Type: application/json"


def example(name: str) -> str:
    (found,) = re.findall(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@dataclass
class World:
    sidecar: Sidecar
    upstream: Recorder
    hook: Web
    environ: dict[str, str]

    def ask(self, name: str, target: str = "/contacts?q=Ad") -> Got:
        return self.sidecar.get(target, mint(claims(time.time(), sub=name)).decode())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, hook, upstream = Web(), Web(), Recorder()
    keys.json("/jwks", key_set())
    environ = {
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks",
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("look-up-items")
    (folder / "policies").mkdir()
    (folder / "policies/contact.yaml").write_text(example("policies/contact.yaml"))
    # a busy machine is no fault of the hook, and each test asks it anew
    routes = example("routes.yaml").replace("127.0.0.1:9000", f"127.0.0.1:{hook.port}")
    routes = routes.replace("cache: 5s", "timeout: 20s")
    where = f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(folder, routes, folder / "policies", where, environ, shared=True) as sidecar:
        yield World(sidecar, upstream, hook, environ)
    for part in (keys, hook, upstream):
        part.close()


@pytest.fixture
def world(shared: World) -> World:
    shared.hook.pages[ASKED] = (200, "application/json", example("hook.json").encode())
    for row in json.loads(example("hook.json")):
        shared.hook.json(f"/contacts?id={row['id']}", [row])
    shared.hook.json("/contacts?id=4", [])
    shared.hook.asked.clear()
    shared.upstream.reset(reply(200, example("answer.json").encode(), JSON))
    return shared


def test_everybody_gets_the_contacts_of_the_guides_table(world: World) -> None:
    table = PAGE.partition("\n| who asks")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table]
    assert len(rows) == 3
    for name, ids, found in rows:
        got = json.loads(world.ask(name).body)
        assert ", ".join(str(item["id"]) for item in got["results"]) == ids.replace("none", "")
        assert got["found"] == int(found)
        line = world.sidecar.decisions()[-1]
        assert line["items"] == {"seen": 4, "kept": int(found), "masked": 0, "calls": 1}
    assert [path for path, _ in world.hook.asked] == [ASKED] * 3


@pytest.mark.parametrize("name", ["alice", "bob", "eve"])
def test_the_list_and_the_single_read_agree_on_every_row(world: World, name: str) -> None:
    listed = {item["id"] for item in json.loads(world.ask(name).body)["results"]}
    alone = {number for number in range(1, 5) if world.ask(name, f"/contacts/{number}").status == 200}
    assert listed == alone


def test_a_fault_of_the_hook_releases_nothing(world: World) -> None:
    world.hook.pages[ASKED] = (500, "application/json", b"{}")
    got = world.ask("alice")
    assert (got.status, got.code) == (503, "lookup_status")
    assert b"Ada" not in got.body
    assert world.sidecar.decisions()[-1]["code"] == "lookup_status"


def test_explain_prints_what_the_guide_shows(world: World) -> None:
    folder = world.sidecar.folder
    (folder / "answer.json").write_text(example("answer.json").strip())
    (line,) = re.findall(r"^sidecar explain .*$", PAGE, re.MULTILINE)
    environ = {
        **world.environ, "SIDECAR_POLICIES": "policies", "SIDECAR_CERBOS_BINARY": str(binary()),
        "SIDECAR_UPSTREAM": f"http://127.0.0.1:{world.upstream.port}",
    }  # fmt: skip
    explained = guide_commands.sidecar(folder, *shlex.split(line)[1:], environ=environ)
    assert explained.returncode == 0, explained.stderr
    assert explained.stdout.endswith(example("explain.txt")), explained.stdout
