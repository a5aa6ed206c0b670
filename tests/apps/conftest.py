"""Real apps behind the sidecar, with the real Cerbos: Datasette and json-server, as they are."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sidecar.demo.processes import Process, status_of
from tests.stack import ROOT, Sidecar, Web, free_port, running_sidecar
from tests.tokens import CLIENT, ISSUER, claims, key_set, mint

HEAD = """\
version: 1
identity: [{{issuer: "{issuer}", jwks_url: "http://127.0.0.1:{keys}/jwks", client_ids: [{client}]}}]
principal: {{id: username}}
"""


def token(user: str) -> str:
    """An access token of a user of the group `user`."""
    return mint(claims(time.time(), username=user, **{"cognito:groups": ["user"]})).decode()


@contextmanager
def protected(folder: Path, routes: str, policies: dict[str, str], app: int) -> Iterator[Sidecar]:
    """The sidecar before an app on a port of this machine."""
    keys = Web()
    keys.json("/jwks", key_set("k1"))
    (folder / "policies").mkdir()
    for name, text in policies.items():
        (folder / "policies" / name).write_text(text)
    head = HEAD.format(issuer=ISSUER, keys=keys.port, client=CLIENT)
    with running_sidecar(folder, head + routes, folder / "policies", f"http://127.0.0.1:{app}", {}) as sidecar:
        yield sidecar
    keys.close()


def policy(kind: str, *rules: str) -> str:
    """A resource policy of Cerbos: each rule is the YAML of one."""
    head = f"apiVersion: api.cerbos.dev/v1\nresourcePolicy:\n  resource: {kind}\n  version: default\n  rules:\n"
    return head + "".join(f"    - {rule}\n" for rule in rules)


@pytest.fixture(scope="module")
def datasette(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Datasette with the notes of alice and bob, in three tables alike."""
    folder, port = tmp_path_factory.mktemp("datasette"), free_port()
    with closing(sqlite3.connect(folder / "data.db")) as database:
        for table in ("notes", "mine", "open"):
            database.execute(f"create table {table} (id integer primary key, owner text, title text)")
            rows = [(7, "alice", "hers"), (8, "bob", "his")]
            database.executemany(f"insert into {table} values (?, ?, ?)", rows)
        database.commit()
    command = [sys.executable, "-m", "datasette", "serve", "data.db", "--port", str(port), "--host", "127.0.0.1"]
    process = Process.start(
        "datasette", command, folder, os.environ, lambda: status_of(port, "/-/versions.json") == 200
    )
    yield port
    process.stop()


@pytest.fixture(scope="module")
def json_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """json-server with articles and their comments, and with files in folders."""
    folder, port = tmp_path_factory.mktemp("json-server"), free_port()
    comments = [{"id": 1, "articleId": 1, "text": "private"}]
    (folder / "db.json").write_text(
        json.dumps(
            {
                "articles": [{"id": 1, "title": "a"}],
                "drafts": [{"id": 1, "title": "a"}],
                "comments": [*comments, {"id": 2, "draftId": 1, "text": "private"}],
                "files": [{"id": 1, "owner": "alice", "folder": "alice"}, {"id": 2, "owner": "bob", "folder": "bob"}],
            }
        )
    )
    script = ROOT / "node_modules/json-server/lib/cli/bin.js"
    command = [str(shutil.which("node")), str(script), "--host", "127.0.0.1", "--port", str(port), "--quiet", "db.json"]
    process = Process.start("json-server", command, folder, os.environ, lambda: status_of(port, "/files") == 200)
    yield port
    process.stop()
