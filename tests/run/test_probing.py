"""`sidecar check --probe` against real servers: each that is named is asked once, and told of with its place."""

from __future__ import annotations

import re
import socket
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from sidecar.run import checking
from sidecar.run.checking import Findings
from tests.certificates import certificates
from tests.conftest import policies
from tests.databases import QUOTED, USER, Server, postgresql
from tests.guide_commands import sidecar
from tests.policy_table import RealCerbos, real_cerbos
from tests.redis_server import NEEDS_REDIS, RedisServer
from tests.stack import Recorder, Web, free_port
from tests.tokens import SESSION_SECRET, key_set

TOKEN = "hook-token-0123456789"
ROUTES = """\
version: 1
identity: [{{issuer: "https://idp.example", jwks_url: "http://127.0.0.1:{keys}/keys?key=k3y", client_ids: [web]}}]
lookups:
  doc:
    url: "{hook}"
    attributes: {{owner: owner_id}}
    timeout: 10s
    bearer_env: DOC_TOKEN
routes: [{{path: "/docs/{{id:int}}", resource: doc, id: "{{path.id}}", lookup: doc, actions: {{GET: read}}}}]
"""


class World(NamedTuple):
    """All that settings and routes name, running."""

    hook: Web
    keys: Web
    app: Recorder
    environ: dict[str, str]
    folder: Path

    def route_file(self, *, url: str = "", more: str = "", timeout: str = "10s") -> None:
        url = url or f"http://127.0.0.1:{self.hook.port}/{{kind}}/{{id}}?key=k3y"
        text = ROUTES.format(keys=self.keys.port, hook=url)
        (self.folder / "routes.yaml").write_text(text.replace("    timeout: 10s", f"{more}    timeout: {timeout}"))

    def findings(self, **more: str) -> Findings:
        return checking.findings({**self.environ, **more}, {}, probe=True)


@pytest.fixture(scope="module")
def cerbos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCerbos]:
    with real_cerbos(tmp_path_factory.mktemp("cerbos"), policies()) as running:
        yield running


@pytest.fixture
def world(cerbos: RealCerbos, tmp_path: Path) -> Iterator[World]:
    with closing(Web()) as hook, closing(Web()) as keys, closing(Recorder()) as app:
        keys.json("/keys?key=k3y", key_set("k1"))
        environ = {
            "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"), "SIDECAR_CERBOS": cerbos.grpc, "DOC_TOKEN": TOKEN, "SIDECAR_CERBOS_TIMEOUT": "10s",
            "SIDECAR_UPSTREAM": f"http://127.0.0.1:{app.port}",
        }  # fmt: skip
        made = World(hook, keys, app, environ, tmp_path)
        made.route_file()
        yield made


PATH = "/doc/sidecar-check?key=k3y"
PLACE = "routes.yaml:5:10: lookups.doc.url: GET http://127.0.0.1:{hook}/doc/sidecar-check: "
GOOD = b'{"owner_id": "alice", "id": "sidecar-check"}'


def test_all_is_well(world: World) -> None:
    found = world.findings()
    assert (found.problems, found.warnings) == ([], [])
    told = found.notes[-4:]
    assert told[1].endswith(PLACE.format(hook=world.hook.port) + "it answered 404")
    assert told[0].endswith(
        f"routes.yaml:2:54: identity[0].jwks_url: http://127.0.0.1:{world.keys.port}/keys has usable keys"
    )
    assert told[2] == f"SIDECAR_CERBOS: {world.environ['SIDECAR_CERBOS']} serves"
    assert told[3] == f"SIDECAR_UPSTREAM: http://127.0.0.1:{world.app.port} takes connections"
    ((path, headers),) = world.hook.asked
    assert (path, headers["authorization"]) == (PATH, f"Bearer {TOKEN}")
    assert len(world.keys.asked) == 1
    assert (world.app.received, world.app.seen) == (b"", [])


@pytest.mark.parametrize("at", ["data", "lines"])
def test_a_lookup_of_items_is_asked_about_their_kind(world: World, at: str) -> None:
    lines = (world.folder / "routes.yaml").read_text().splitlines(keepends=True)
    items = f"{{at: {at}, id: id, resource: page, lookup: doc}}"
    route = f"routes: [{{path: /docs, resource: doc, query: [], actions: {{GET: list}}, items: {items}}}]\n"
    text = "".join([*lines[:-1], route]).replace('{id}?key=k3y"', 'of?id={ids}"\n    batch: true')
    (world.folder / "routes.yaml").write_text(text)
    world.hook.json("/page/of?id=sidecar-check", {})
    found = world.findings()
    assert found.problems == []
    assert [path for path, _ in world.hook.asked] == ["/page/of?id=sidecar-check"]
    assert any("/page/of: it has nothing of such an id" in note for note in found.notes)


def test_nothing_is_asked_without_a_probe(world: World) -> None:
    assert checking.findings(world.environ, {}).problems == []
    assert world.hook.asked == world.keys.asked == []


class Row(NamedTuple):
    """An answer of the hook, and where what is said of it stands: its beginning behind the place."""

    status: int
    body: bytes
    level: str
    says: str
    more: str = ""
    kind: str = "application/json"


ROWS = [
    Row(404, b"", "notes", "it answered 404"),
    Row(422, b"{}", "notes", "it answered 422"),
    Row(401, b"{}", "problems", "found status 401, expected it to take the sidecar's token: give the variable"),
    Row(403, b"{}", "problems", "found status 403"),
    Row(302, b"", "problems", "found a redirect (302), expected an answer: name the URL"),
    Row(500, b"{}", "problems", "found status 500, expected 404 or JSON"),
    Row(204, b"", "problems", "found status 204"),
    Row(200, b"<p>", "problems", "found an answer that cannot be read (found 'text/html', expected JSON)", "", "text/html"),
    Row(200, b"{", "problems", "found an answer that cannot be read"),
    Row(200, GOOD, "warnings", "found status 200 with every attribute for the id 'sidecar-check'"),
    Row(200, GOOD, "warnings", "found status 200 with every attribute", "    echo: id\n"),
    Row(200, GOOD, "warnings", "found status 200 with every attribute", "    missing: empty\n"),
    Row(200, b'{"id": "1"}', "notes", "it answered with JSON", "    echo: id\n"),
    Row(200, b"{}", "notes", "it answered with JSON", "    missing: empty\n    optional: [owner]\n"),
    Row(200, b"null", "warnings", "found status 200 for an id that nobody has, without an attribute that is read "
        "(attributes.owner: found nothing), expected 404"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.status}-{row.body.decode()}-{row.more.strip()}")
def test_what_a_hook_answers(world: World, row: Row) -> None:
    world.route_file(more=row.more)
    world.hook.pages[PATH] = (row.status, row.kind, row.body)
    found = world.findings()
    lines = getattr(found, row.level)
    (line,) = [line for line in lines if "lookups.doc.url: " in line]
    place = PLACE.format(hook=world.hook.port)
    assert f"{place}{row.says}" in line
    assert (bool(found.problems), bool(found.warnings)) == (row.level == "problems", row.level == "warnings")


def test_a_hook_that_is_late_or_not_there(world: World) -> None:
    world.route_file(timeout="300ms")
    world.hook.delay = 0.6
    (late,) = world.findings().problems
    assert "lookups.doc.url: GET " in late
    assert (
        "found no answer (http_response_timeout: no whole answer within 0.3 s), expected 404 or JSON: start the hook"
        in late
    )
    world.route_file(url=f"http://127.0.0.1:{free_port()}/x/{{id}}")
    (gone,) = world.findings().problems
    assert "/x/sidecar-check: found no answer (connection_refused: 127.0.0.1: " in gone


def test_each_value_of_a_url_is_filled_with_a_text_of_its_type(world: World) -> None:
    url = f"http://127.0.0.1:{world.hook.port}/{{claims.n:int}}/{{claims.b:bool}}/{{claims.t}}"
    world.route_file(url=url)
    path = "/0/false/sidecar-check"
    world.hook.pages[path] = (200, "application/json", GOOD)
    found = world.findings()
    assert found.problems == []
    assert [path for path, _ in world.hook.asked] == [path]
    # there is no id in it, so that an answer says nothing about ids
    assert any(f"{path}: it answered with JSON" in note for note in found.notes)


def test_what_the_app_answers_to_a_lookup(world: World) -> None:
    """It is asked once, as the sidecar; of one that asks as the principal, nobody can tell."""
    lines = (world.folder / "routes.yaml").read_text().splitlines(keepends=True)
    entries = [
        '  doc: {upstream: "/api/{kind}/{id}?key=k3y", bearer_env: DOC_TOKEN, attributes: {owner: owner_id}, timeout: 10s}\n',
        '  mine: {upstream: "/api/{id}", as: principal, attributes: {owner: owner_id}}\n',
    ]
    (world.folder / "routes.yaml").write_text("".join([*lines[:3], *entries, lines[-1]]))
    with closing(Web()) as app:
        found = world.findings(SIDECAR_UPSTREAM=f"http://127.0.0.1:{app.port}")
        place = "routes.yaml:4:19: lookups.doc.upstream: app: GET /api/doc/sidecar-check: "
        told = [note for note in found.notes if "lookups." in note]
        assert [line.partition("routes.yaml")[1] + line.partition("routes.yaml")[2] for line in told] == [
            f"{place}it answered 404", "routes.yaml:5:20: lookups.mine.upstream: not asked, since it is asked as a principal",
        ]  # fmt: skip
        ((path, headers),) = app.asked
        assert path == "/api/doc/sidecar-check?key=k3y"
        assert (headers["authorization"], headers["x-auth-lookup"]) == (f"Bearer {TOKEN}", "doc")
        app.json(path, {}, 403)
        (problem,) = world.findings(SIDECAR_UPSTREAM=f"http://127.0.0.1:{app.port}").problems
        assert "found status 403, expected it to take the sidecar's token: give the variable of `bearer_env`" in problem
    (gone,) = (
        line
        for line in world.findings(SIDECAR_UPSTREAM=f"http://127.0.0.1:{free_port()}").problems
        if "lookups." in line
    )
    assert gone.endswith("expected 404 or JSON: start the app, or mend the path or `timeout`")
    unset = world.findings(SIDECAR_UPSTREAM="")
    assert [note for note in unset.notes if "SIDECAR_UPSTREAM is not set" in note]


FUNCTIONS = [
    ("return None", "", "notes", "acme_probed:team(doc sidecar-check): it answered 404"),
    ("return {'owner_id': 'alice'}", "", "warnings", "found status 200 with every attribute"),
    ("raise OSError", "", "problems", "found no answer (function_raised: OSError in acme_probed.py:1), expected a dict, or None: mend the function"),
    ("return []", "", "problems", "found no answer (function_result: found list, expected a dict or None)"),
    ("return {}", "batch: true, ", "notes", "it has nothing of such an id"),
    ("return None", "as: principal, ", "notes", "lookups.doc.function: not asked, since it is asked as a principal"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "more", "level", "says"), FUNCTIONS)
def test_what_a_function_answers(
    world: World, monkeypatch: pytest.MonkeyPatch, body: str, more: str, level: str, says: str
) -> None:
    (world.folder / "acme_probed.py").write_text(f"def team(asked): {body}\n")
    monkeypatch.syspath_prepend(world.folder)
    monkeypatch.delitem(sys.modules, "acme_probed", raising=False)
    lines = (world.folder / "routes.yaml").read_text().splitlines(keepends=True)
    entry = f'  doc: {{function: "acme_probed:team", {more}attributes: {{owner: owner_id}}, timeout: 10s}}\n'
    (world.folder / "routes.yaml").write_text("".join([*lines[:3], entry, lines[-1]]))
    found = world.findings()
    assert [says in line for line in getattr(found, level) if "lookups.doc.function: " in line] == [True]


STATEMENTS = [
    ("select owner_id from docs where id = :id", "", "notes", "it runs, and has no such row"),
    ("select owner_id from docs where id = :id and n = :n", 'parameters: {n: "{claims.n:int}"}, ', "notes", "it runs, and has no such row"),
    ("select id, owner_id from docs where id in :ids", "batch: true, ", "notes", "it has nothing of such an id"),
    ("select n, owner_id from docs where n in :ids", 'batch: true, echo: n, parameters: {ids: "{ids:int}"}, ', "notes", "it has nothing of such an id"),
    ("select owner_id from gone where id in :ids", "batch: true, ", "problems", "found no answer (statement_invalid: "),
    ("select owner_id from docs where :id <> ''", "", "warnings", "found status 200 with every attribute"),
    ("select owner_id from gone where id = :id", "", "problems", "found no answer (statement_invalid: SQLITE_ERROR: no such table: gone), "
        "expected one row, or none: mend the statement or its `parameters`"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "more", "level", "says"), STATEMENTS)
def test_what_a_database_answers(world: World, sql: str, more: str, level: str, says: str) -> None:
    with closing(sqlite3.connect(world.folder / "s3cret.db")) as made, made:
        made.execute("create table if not exists docs (id text, n integer, owner_id text)")
        made.execute("insert into docs values ('1', 7, 'alice')")
    lines = (world.folder / "routes.yaml").read_text().splitlines(keepends=True)
    entry = f'  doc: {{sql: "{sql}", database: DOCS_URL, {more}attributes: {{owner: owner_id}}, timeout: 10s}}\n'
    (world.folder / "routes.yaml").write_text("".join([*lines[:3], entry, lines[-1]]))
    found = world.findings(DOCS_URL=f"sqlite:///{world.folder}/s3cret.db")
    (line,) = [line for line in getattr(found, level) if "lookups.doc.sql: " in line]
    declared = {name: f":{name} int" for name in ("n", "ids") if f'{name}: "{{' in more}
    shown = ", ".join(declared.get(name, f":{name}") for name in re.findall(r":(\w+)", sql))
    assert f"lookups.doc.sql: DOCS_URL: {sql} ({shown}): {says}" in line
    assert "s3cret" not in str(found)


class Wrong(NamedTuple):
    """A fault of a database: how it is asked, and the end of what is said of it."""

    sql: str = "select owner_id from invoices where id = :id"
    user: str = USER
    password: str = QUOTED
    host: str = "127.0.0.1"
    database: str = "postgres"
    query: str = ""
    found: str = ""
    advice: str = ""


WRONG = {
    "password": Wrong(password="wr0ng", found="database_auth: 28P01", advice="mend user and password of the URL"),
    "user": Wrong(user="nobody", found="database_auth: 28P01", advice="mend user and password of the URL"),
    "database": Wrong(database="gone", found="database_not_found: 3D000", advice="mend the name at the end of the URL"),
    "port": Wrong(host="", found="connection_refused", advice="start the server, or mend host and port of the URL"),
    "host": Wrong(host="no..such", found="name_not_found", advice="mend the host of the URL"),
    "authority": Wrong(query="?ssl=verify-full&sslrootcert={others}", found="certificate_unknown_ca",
        advice="name a PEM file with the CA of the server's certificate in the URL: `sslrootcert`"),
    "name": Wrong(host="localhost", query="?ssl=verify-full&sslrootcert={ca}", found="certificate_name",
        advice="name the server in the URL as its certificate does"),
    "table": Wrong("select owner_id from gone where id = :id", found='statement_invalid: 42P01: relation "gone" does not exist',
        advice="mend the statement or its `parameters`, or create what it names"),
    "right": Wrong("select owner_id from secrets where id = :id", found="database_privilege: 42501",
        advice="grant that user SELECT on what the statement reads"),
}  # fmt: skip


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    with postgresql() as server:
        yield server


@pytest.mark.parametrize("fault", WRONG)
def test_the_advice_fits_what_is_wrong_with_a_database(world: World, database: Server, fault: str) -> None:
    wrong = WRONG[fault]
    lines = (world.folder / "routes.yaml").read_text().splitlines(keepends=True)
    entry = f'  doc: {{sql: "{wrong.sql}", database: DOCS_URL, attributes: {{owner: owner_id}}, timeout: 10s}}\n'
    (world.folder / "routes.yaml").write_text("".join([*lines[:3], entry, lines[-1]]))
    place = f"{wrong.host or '127.0.0.1'}:{database.port if wrong.host else free_port()}"
    query = wrong.query.format(ca=database.ca, others=certificates(world.folder).ca)
    url = f"postgresql://{wrong.user}:{wrong.password}@{place}/{wrong.database}{query}"
    (problem,) = world.findings(DOCS_URL=url).problems
    assert f"lookups.doc.sql: DOCS_URL: {wrong.sql} (:id): found no answer ({wrong.found}" in problem
    assert wrong.advice in problem.partition("expected one row, or none: ")[2]
    assert wrong.password not in problem


@pytest.mark.parametrize(("status", "document"), [(500, {}), (302, {}), (200, {"keys": []}), (200, [])])
def test_a_key_server_without_usable_keys(world: World, status: int, document: object) -> None:
    world.keys.json("/keys?key=k3y", document, status)
    (problem,) = world.findings().problems
    assert "routes.yaml:2:54: identity[0].jwks_url: found no usable keys at http://127.0.0.1:" in problem
    assert problem.endswith("expected a JWKS with RS256 keys: mend the address, or the network to it")


def test_of_a_pool_the_keys_of_one_issuer_do(world: World) -> None:
    pool = "identity: [{user_pool_id: eu-west-1_AbC, region: eu-west-1, client_ids: [web]}]\n"
    lines = (world.folder / "routes.yaml").read_text().splitlines(keepends=True)
    (world.folder / "routes.yaml").write_text("".join([lines[0], pool, *lines[2:]]))
    endpoint = {"AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": f"http://127.0.0.1:{world.keys.port}"}
    (problem,) = world.findings(**endpoint).problems
    assert "routes.yaml:2:27: identity[0].user_pool_id: found no usable keys" in problem
    world.keys.json("/eu-west-1_AbC/.well-known/jwks.json", key_set("k1"))
    assert world.findings(**endpoint).problems == []


def test_keys_that_the_environment_names(world: World) -> None:
    lines = (world.folder / "routes.yaml").read_text().splitlines(keepends=True)
    (world.folder / "routes.yaml").write_text("".join([lines[0], *lines[2:]]))
    closed = f"http://127.0.0.1:{free_port()}"
    environ = {
        "SIDECAR_ISSUER": "https://idp.example", "SIDECAR_JWKS_URL": f"{closed}/keys", "AWS_COGNITO_CLIENT_ID": "web"
    }  # fmt: skip
    (problem,) = world.findings(**environ).problems
    assert problem.startswith(
        f"SIDECAR_JWKS_URL: found no usable keys at {closed}/keys (unavailable connection_refused: "
    )


def test_a_pdp_that_does_not_serve(world: World) -> None:
    closed = f"127.0.0.1:{free_port()}"
    (problem,) = world.findings(SIDECAR_CERBOS=closed).problems
    assert problem.startswith(f"SIDECAR_CERBOS: found that {closed} does not serve (UNAVAILABLE: ")


def test_a_pdp_of_authzen(world: World, cerbos: RealCerbos) -> None:
    del world.environ["SIDECAR_CERBOS"]
    found = world.findings(SIDECAR_PDP=cerbos.authzen)
    assert found.problems == []
    assert f"SIDECAR_PDP: {cerbos.authzen} serves" in found.notes
    pdp = f"authzen+http://127.0.0.1:{world.hook.port}"
    for answer, says in PDP.items():
        world.hook.pages["/.well-known/authzen-configuration"] = answer
        (problem,) = world.findings(SIDECAR_PDP=pdp, SIDECAR_PDP_TOKEN="pdp-token-0123").problems
        assert problem.startswith(f"SIDECAR_PDP: found that {pdp} does not serve ({says}")
        assert "pdp-token" not in problem


PDP: Mapping[tuple[int, str, bytes], str] = {
    (401, "application/json", b"{}"): "status 401 of /.well-known/authzen-configuration",
    (200, "application/json", b"{}"): "no access_evaluation_endpoint in /.well-known/",
    (200, "application/json", b'{"access_evaluation_endpoint": "https://pdp/x"}'): "an access_evaluation_endpoint in ",
}


@NEEDS_REDIS
def test_redis_is_asked_where_sessions_live_there(world: World, redis_server: RedisServer) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as hosted:
        domain = f"http://127.0.0.1:{hosted.getsockname()[1]}"
        login = {
            "SIDECAR_LOGIN": "hosted", "AWS_COGNITO_DOMAIN": domain, "AWS_COGNITO_CLIENT_ID": "web",
            "SIDECAR_HOSTS": "app.test", "SIDECAR_SESSION_SECRET": SESSION_SECRET,
        }  # fmt: skip
        found = world.findings(**login, SIDECAR_REDIS_URL=redis_server.url)
        assert found.problems == []
        assert found.notes[-5:-3] == [
            "SIDECAR_REDIS_URL: Redis answers", f"AWS_COGNITO_DOMAIN: {domain} takes connections"
        ]  # fmt: skip
        wrong = redis_server.url.replace("//", "//:pa55-word@")
        (problem,) = world.findings(**login, SIDECAR_REDIS_URL=wrong).problems
        assert problem.startswith("SIDECAR_REDIS_URL: found no answer to PING (")
        assert "pa55" not in problem
    (closed,) = world.findings(**login).problems
    assert closed.startswith(f"AWS_COGNITO_DOMAIN: found no connection to {domain} (connection_refused: 127.0.0.1: ")


def test_an_app_that_is_not_there_and_one_that_no_setting_names(world: World) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    (problem,) = world.findings(SIDECAR_UPSTREAM=closed).problems
    assert problem.startswith(f"SIDECAR_UPSTREAM: found no connection to {closed} (connection_refused: 127.0.0.1: ")
    (problem,) = world.findings(SIDECAR_UPSTREAM=f"https://127.0.0.1:{world.hook.port}").problems
    assert problem.startswith(
        f"SIDECAR_UPSTREAM: found no connection to https://127.0.0.1:{world.hook.port} (not_tls: 127.0.0.1: "
    )
    del world.environ["SIDECAR_UPSTREAM"]
    found = world.findings()
    assert found.problems == []
    assert found.notes[-1] == "SIDECAR_UPSTREAM: not set, so no app was connected to"


def test_the_command_tells_all_of_it_at_once_and_nothing_secret(world: World) -> None:
    world.hook.pages[PATH] = (500, "application/json", b"{}")
    world.keys.pages.clear()
    closed = f"http://127.0.0.1:{free_port()}"
    environ = {**world.environ, "SIDECAR_UPSTREAM": closed, "SIDECAR_CERBOS": f"127.0.0.1:{free_port()}"}
    ended = sidecar(world.folder, "check", "--probe", environ=environ)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert len(ended.stderr.splitlines()) == 4
    assert TOKEN not in ended.stderr
    assert "k3y" not in ended.stderr
    ended = sidecar(world.folder, "check", environ=environ)
    assert (ended.returncode, ended.stderr) == (0, "")
