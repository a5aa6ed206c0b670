"""The guides for lists as they stand: their routes and policies, with Datasette and a Django app behind the sidecar."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo.processes import Process, status_of
from tests import guide_commands
from tests.apps.conftest import HEAD
from tests.apps.contacts import CONTACTS
from tests.stack import ROOT, Sidecar, Web, free_port, running_sidecar
from tests.tokens import CLIENT, ISSUER, claims, key_set, mint

FENCE = re.compile(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


def guide(name: str) -> str:
    return (ROOT / "docs/guides" / name).read_text(encoding="utf-8")


def rows(text: str, head: str) -> list[list[str]]:
    """The cells of a table whose first line begins so."""
    table = text.partition(f"\n| {head}")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def token(who: str) -> str:
    """An access token, for the words of a guide: `alice`, in the group `user`."""
    named = re.findall(r"`(\w+)`", who)
    return mint(claims(time.time(), username=named[0], **{"cognito:groups": [named[1]]})).decode()


@contextmanager
def protected(folder: Path, name: str, port: int, theirs: str) -> Iterator[Sidecar]:
    """The sidecar with the routes and policies of a guide, before an app whose address it has as `theirs`."""
    examples = dict(FENCE.findall(guide(name)))
    keys = Web()
    keys.json("/jwks", key_set("k1"))
    (folder / "policies").mkdir()
    for file, text in examples.items():
        if file.startswith("policies/"):
            (folder / file).write_text(text)
    identity = HEAD.format(issuer=ISSUER, keys=keys.port, client=CLIENT).splitlines()[1]
    routes = examples["routes.yaml"].replace("version: 1\n", f"version: 1\n{identity}\n")
    app = f"127.0.0.1:{port}"
    with running_sidecar(folder, routes.replace(theirs, app), folder / "policies", f"http://{app}", {}) as sidecar:
        yield sidecar
    keys.close()


@pytest.fixture(scope="module")
def contacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Datasette with a table of contacts, and one of notes."""
    folder, port = tmp_path_factory.mktemp("datasette"), free_port()
    with closing(sqlite3.connect(folder / "data.db")) as database:
        for table in ("contacts", "notes"):
            database.execute(f"create table {table} (id integer primary key, name text, phone text, owner text)")
            values = [tuple(said[name] for name in ("id", "name", "phone", "owner")) for said in CONTACTS]
            database.executemany(f"insert into {table} values (?, ?, ?, ?)", values)
        database.commit()
    command = [sys.executable, "-m", "datasette", "serve", "data.db", "--port", str(port), "--host", "127.0.0.1"]
    with Process.start("datasette", command, folder, os.environ, lambda: status_of(port, "/-/versions.json") == 200):
        yield port


@pytest.fixture(scope="module")
def django_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file in which Django writes what it is asked."""
    return tmp_path_factory.mktemp("django") / "django.log"


@pytest.fixture(scope="module")
def django(django_log: Path) -> Iterator[int]:
    folder, port = django_log.parent, free_port()
    command = [sys.executable, "-m", "tests.apps.django_app", str(port)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Process.start("django", command, folder, environ, lambda: status_of(port, "/api/contacts/") == 200):
        yield port


@pytest.fixture(scope="module")
def own(contacts: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with protected(tmp_path_factory.mktemp("own"), "only-their-own.md", contacts, "127.0.0.1:8001") as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def hiding(django: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with protected(tmp_path_factory.mktemp("hiding"), "hide-a-field.md", django, "127.0.0.1:8000") as sidecar:
        yield sidecar


def shown(sidecar: Sidecar, target: str, who: str) -> Any:
    got = sidecar.get(target, token(who))
    return json.loads(got.body) if got.status == 200 else str(got.status)


# --- show people only their own ---


def test_everybody_gets_the_contacts_of_the_guides_table(own: Sidecar) -> None:
    table = rows(guide("only-their-own.md"), "who asks for")
    assert len(table) == 4
    for who, ids in table:
        got = shown(own, "/data/contacts.json", who)
        assert ids == (got if isinstance(got, str) else ", ".join(str(row["id"]) for row in got)), who


def test_a_list_and_its_single_reads_agree(own: Sidecar) -> None:
    for who in ("`alice` `user`", "`bob` `user`", "`root` `admin`"):
        listed = {row["id"] for row in shown(own, "/data/contacts.json", who)}
        alone = {n for n in range(1, 5) if own.get(f"/data/contacts/{n}.json", token(who)).status == 200}
        assert listed == alone


def test_items_come_byte_for_byte_and_totals_are_true(own: Sidecar, contacts: int) -> None:
    got = shown(own, "/data/notes.json", "`alice` `user`")
    assert [row["id"] for row in got["rows"]] == [1, 3]
    assert got["filtered_table_rows_count"] == 2
    # of a page nobody knows how many others there are
    page = shown(own, "/data/notes.json?_size=3", "`alice` `user`")
    assert [row["id"] for row in page["rows"]] == [1, 3]
    assert "filtered_table_rows_count" not in page
    assert page["next"] == "3"


@pytest.mark.parametrize("more", ["_where=1=1", "_facet=owner", "_search=x", "owner__not=alice", "_sort_desc=phone"])
def test_a_client_asks_for_no_other_list(own: Sidecar, more: str) -> None:
    assert own.get(f"/data/contacts.json?{more}", token("`alice` `user`")).code == "query_not_allowed"
    # its own shape is taken out
    assert [row["id"] for row in shown(own, "/data/contacts.json?_shape=objects", "`alice` `user`")] == [1, 3]


@pytest.mark.parametrize("path", ["/data/contacts", "/data/contacts.csv", "/data.json", "/data/contacts.jsono"])
def test_another_suffix_is_another_path(own: Sidecar, path: str) -> None:
    assert own.get(path, token("`root` `admin`")).code == "route_unmapped"


def test_explain_prints_what_the_guide_shows(own: Sidecar, contacts: int, tmp_path: Path) -> None:
    text = guide("only-their-own.md")
    app = f"127.0.0.1:{contacts}"
    (script,) = re.findall(r"^curl .* > .*$", text, re.MULTILINE)
    subprocess.run(script.replace("127.0.0.1:8001", app), shell=True, cwd=tmp_path, check=True)
    (tmp_path / "routes.yaml").write_text((own.folder / "routes.yaml").read_text())
    environ = {"SIDECAR_POLICIES": str(own.folder / "policies"), "SIDECAR_UPSTREAM": f"http://{app}"}
    (line,) = re.findall(r"^sidecar explain .*$", text, re.MULTILINE)
    explained = guide_commands.sidecar(tmp_path, *shlex.split(line)[1:], environ=environ)
    assert explained.returncode == 0, explained.stderr
    assert explained.stdout.endswith(dict(FENCE.findall(text))["explain.txt"])


# --- hide a field ---


def test_fields_are_hidden_in_the_list_and_alone(hiding: Sidecar) -> None:
    table = rows(guide("hide-a-field.md"), "who | `phone`")
    assert len(table) == 3
    said = {"there": True, "left out": False}
    for who, of_alice, of_bob, card in table:
        listed = {item["id"]: item for item in shown(hiding, "/api/contacts/", who)["results"]}
        alone = {number: shown(hiding, f"/api/contacts/{number}/", who) for number in listed}
        assert listed == alone
        assert [("phone" in listed[number]) for number in (1, 2)] == [said[of_alice], said[of_bob]], who
        number = "hidden" if card == "`hidden`" else CONTACTS[1]["card"]
        assert listed[2]["card"] == {"number": number}


def test_a_hidden_field_cannot_be_searched(hiding: Sidecar) -> None:
    table = rows(guide("hide-a-field.md"), "query |")
    assert len(table) == 5
    for query, *statuses in table:
        target = f"/api/contacts/{query.strip('`')}"
        got = [hiding.get(target, token(who)) for who in ("`alice` `user`", "`root` `admin`")]
        assert [str(answer.status) for answer in got] == statuses, query
        assert {answer.code for answer in got if answer.status == 400} <= {"query_not_allowed"}


# --- push the filter to the app ---


@pytest.fixture(scope="module")
def pushing(django: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with protected(tmp_path_factory.mktemp("pushing"), "push-the-filter.md", django, "127.0.0.1:8000") as sidecar:
        yield sidecar


def test_the_app_is_asked_for_less(pushing: Sidecar, django_log: Path) -> None:
    table = rows(guide("push-the-filter.md"), "who asks for")
    assert len(table) == 4
    for who, target, pushed, ids in table:
        before = len(django_log.read_text())
        listed = shown(pushing, "/api/contacts/", who)
        assert re.findall(r'"GET (\S+) ', django_log.read_text()[before:]) == [target.strip("`")]
        assert f"`{pushing.decisions()[-1]['items']['pushed']}`" == pushed
        assert (", ".join(str(item["id"]) for item in listed["results"]) or "none") == ids


def test_explain_tells_what_the_app_would_be_asked(pushing: Sidecar, django: int, tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text((pushing.folder / "routes.yaml").read_text())
    text = guide("push-the-filter.md")
    environ = {"SIDECAR_POLICIES": str(pushing.folder / "policies"), "SIDECAR_UPSTREAM": f"http://127.0.0.1:{django}"}
    (line,) = re.findall(r"^sidecar explain .*$", text, re.MULTILINE)
    explained = guide_commands.sidecar(tmp_path, *shlex.split(line)[1:], environ=environ)
    assert explained.returncode == 0, explained.stderr
    assert dict(FENCE.findall(text))["explain.txt"] in explained.stdout


def test_a_client_may_not_say_the_filter_itself(pushing: Sidecar) -> None:
    alice = "`alice` `user`"
    assert pushing.get("/api/contacts/?owner=bob", token(alice)).code == "query_not_allowed"
    listed = shown(pushing, "/api/contacts/?ordering=-name", alice)
    assert [item["id"] for item in listed["results"]] == [3, 1]
