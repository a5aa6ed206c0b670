"""`sidecar explain` makes what decides, and nothing that it would leave; the command is tested in tests/test_cli.py."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from sidecar.config.settings import understand
from sidecar.gate.mcp_session import McpSessions
from sidecar.run.errors import StartError
from sidecar.run.explaining import ExplainRequest, explain_one
from tests.conftest import policies
from tests.stack import Web, binary

pytestmark = pytest.mark.usefixtures("embedded_shared")

LIST = """\
version: 1
routes:
  - path: /contacts
    resource: contact
    query: [_sort]
    actions: {GET: list}
    items: {at: "@", id: id, attributes: {owner: "owner_id:string"}, fields: {phone: view_phone}, push: {dialect: json-server}}
"""

OWN = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: contact
  version: default
  rules:
    - {actions: [list, read, view_phone], effect: EFFECT_ALLOW, roles: [admin]}
    - {actions: [list], effect: EFFECT_ALLOW, roles: [user]}
    - actions: [read, view_phone]
      effect: EFFECT_ALLOW
      roles: [user]
      condition: {match: {expr: R.attr.owner == P.id}}
"""

ASKED = ExplainRequest("GET", "/x", [], "", "", {"cognito:groups": ["user"]})


def environ_of(folder: Path, **more: str) -> dict[str, str]:
    (folder / "routes.yaml").write_text(
        "version: 1\nroutes: [{path: /x, resource: contact, id: '1', actions: {GET: list}}]\n"
    )
    return {
        "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_ROUTES": str(folder / "routes.yaml"),
        "SIDECAR_POLICIES": str(policies()), "SIDECAR_CERBOS_BINARY": str(binary()), "AWS_REGION": "eu-west-1",
        "AWS_COGNITO_POOL_ID": "eu-west-1_A", "AWS_COGNITO_CLIENT_ID": "web", **more,
    }  # fmt: skip


@pytest.mark.own_cerbos
async def test_it_leaves_no_file_and_needs_none_of_what_only_serving_needs(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    environ = environ_of(tmp_path, SIDECAR_DECISION_LOG=str(log), SIDECAR_TEMPLATES=str(tmp_path / "none"))
    forwarded, lines = await explain_one(understand(environ, {}), environ, ASKED)
    assert lines[0] == "request    GET /x"
    assert lines[-1].startswith("verdict")
    assert forwarded == ("FORWARD" in lines[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["routes.yaml"]


async def test_a_draft_of_a_file_decides_nothing(tmp_path: Path) -> None:
    environ = environ_of(tmp_path)
    text = (tmp_path / "routes.yaml").read_text()
    (tmp_path / "routes.yaml").write_text(text.replace("routes:", "draft: true\nroutes:"))
    with pytest.raises(StartError, match="found `draft: true` of the whole file"):
        await explain_one(understand(environ, {}), environ, ASKED)
    (tmp_path / "routes.yaml").write_text(text.replace("path: /x", "path: /x, draft: true"))
    forwarded, lines = await explain_one(understand(environ, {}), environ, ASKED)
    assert not forwarded
    assert "route_unmapped" in "\n".join(lines)


async def test_what_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    environ = environ_of(tmp_path, SIDECAR_MODE="open", SIDECAR_POLICIES="none", SIDECAR_CERBOS_BINARY="none")
    with pytest.raises(StartError) as caught:
        await explain_one(understand(environ, {}), environ, ASKED)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "SIDECAR_MODE", "SIDECAR_POLICIES", "SIDECAR_CERBOS_BINARY",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("group", "target", "expected"),
    [
        ("user", "/contacts", ["push       json-server: exact", "sent       /contacts?owner_id=alice"]),
        ("admin", "/contacts", ["push       json-server: exact", "sent       /contacts"]),
        ("admin", "/contacts?_sort=phone", ["sent       /contacts?_sort=phone", "verdict    FORWARD allowed"]),
        ("user", "/contacts?_sort=phone", ["verdict    REFUSE query_not_allowed"]),
    ],
)
async def test_plans_are_asked_for_as_in_operation(
    tmp_path: Path, group: str, target: str, expected: list[str]
) -> None:
    environ = environ_of(tmp_path)
    (tmp_path / "routes.yaml").write_text(LIST)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "contact.yaml").write_text(OWN)
    environ["SIDECAR_POLICIES"] = str(tmp_path / "policies")
    asked = ASKED._replace(target=target, claims={"sub": "alice", "cognito:groups": [group]})
    _, lines = await explain_one(understand(environ, {}), environ, asked)
    assert all(any(line.startswith(want) for line in lines) for want in expected), lines


SOURCES = """\
version: 1
lookups:
  app: {upstream: "/api/{id}", attributes: {owner: owner_id}}
  mine: {upstream: "/api/{id}", as: principal, attributes: {owner: owner_id}}
  code: {function: "acme_explained:owner", as: principal, attributes: {owner: owner_id}}
routes:
  - {path: "/app/{id:int}", resource: contact, id: "{path.id}", lookup: app, actions: {GET: read}}
  - {path: "/mine/{id:int}", resource: contact, id: "{path.id}", lookup: mine, actions: {GET: read}}
  - {path: "/code/{id:int}", resource: contact, id: "{path.id}", lookup: code, actions: {GET: read}}
"""


async def test_the_app_and_functions_are_asked_as_in_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`explain` signs no assertion and sends no request on; what a lookup asks the app, it asks."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/contact.yaml").write_text(
        OWN.replace("R.attr", "request.resource.attr").replace("P.id", "request.principal.id")
    )
    (tmp_path / "acme_explained.py").write_text("def owner(asked): return {'owner_id': asked.principal.id}")
    monkeypatch.syspath_prepend(tmp_path)
    with closing(Web()) as app:
        app.json("/api/7", {"owner_id": "a-1"})
        more = {"SIDECAR_UPSTREAM": f"http://127.0.0.1:{app.port}", "SIDECAR_POLICIES": str(tmp_path / "policies")}
        environ = environ_of(tmp_path, **more)
        (tmp_path / "routes.yaml").write_text(SOURCES)
        for route in ("app", "mine", "code"):
            claims = {"sub": "a-1", "cognito:groups": ["user"]}
            asked = ExplainRequest("GET", f"/{route}/7", [], "", "", claims)
            forwarded, lines = await explain_one(understand(environ, {}), environ, asked)
            assert forwarded, lines
        assert [path for path, _ in app.asked] == ["/api/7", "/api/7"]
        assert [headers.get("x-auth-subject") for _, headers in app.asked] == [None, "a-1"]


async def test_a_host_and_the_app_behind_it_are_told(tmp_path: Path) -> None:
    environ = environ_of(tmp_path)
    apps = "upstreams: {crm: 'http://crm:3000', wiki: 'http://wiki'}\nroutes:\n"
    at = "  - {path: /x, access: public, hosts: %s.test, upstream: %s}\n"
    (tmp_path / "routes.yaml").write_text(f"version: 1\n{apps}{at % ('crm', 'crm')}{at % ('wiki', 'wiki')}")
    for headers, name, app in (
        ([], "crm.test/x", "crm, http://crm:3000"),
        (["Host: WIKI.test:8443"], "wiki.test/x", "wiki, http://wiki"),
    ):
        forwarded, lines = await explain_one(understand(environ, {}), environ, ASKED._replace(headers=headers))
        assert forwarded
        assert lines[1:3] == [f"route      {name}", f"upstream   {app}"]
    forwarded, lines = await explain_one(
        understand(environ, {}), environ, ASKED._replace(headers=["Host: evil.test"])
    )  # fmt: skip
    assert not forwarded
    assert "host_not_allowed" in lines[-1]


SECRET = "".join(map(chr, range(64, 104)))
POOL = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_A"
WHO = {"sub": "alice", "cognito:groups": ["user"], "client_id": "web", "iss": POOL}
CONNECT = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy: {resource: mcp_server, version: default, rules: [{actions: [connect], effect: EFFECT_ALLOW, roles: [user]}]}
"""
PING = '{"jsonrpc": "2.0", "id": 1, "method": "ping"}'


@pytest.mark.parametrize(
    ("change", "secret", "forwarded", "said"),
    [
        ({}, SECRET, True, ""),
        ({"sub": "bob"}, SECRET, False, "mcp_session_foreign"),
        ({"client_id": "other"}, SECRET, False, "mcp_session_foreign"),
        ({}, SECRET[::-1], False, "mcp_session_foreign"),
        ({}, "", True, "session    Mcp-Session-Id is not judged: SIDECAR_SESSION_SECRET is not set here, expected"),
        ({"iss": None}, SECRET, True, "session    Mcp-Session-Id is not judged: the claims have no `iss`, expected"),
    ],
)
async def test_a_session_at_an_mcp_server_is_judged_as_in_operation(
    tmp_path: Path, change: dict[str, str | None], secret: str, forwarded: bool, said: str
) -> None:
    environ = environ_of(
        tmp_path, AWS_COGNITO_CLIENT_ID="web,other", **({"SIDECAR_SESSION_SECRET": secret} if secret else {})
    )
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/mcp_server.yaml").write_text(CONNECT)
    environ["SIDECAR_POLICIES"] = str(tmp_path / "policies")
    (tmp_path / "routes.yaml").write_text("version: 1\nroutes: [{path: /mcp, mcp: {server: crm, audience: any}}]\n")
    bound = McpSessions([SECRET]).of("/mcp", "", POOL, "alice", "web").bind(b"s-1").decode()
    claims = {name: value for name, value in {**WHO, **change}.items() if value is not None}
    header = f"Mcp-Session-Id: {bound}"
    got, lines = await explain_one(
        understand(environ, {}), environ, ExplainRequest("POST", "/mcp", [header], PING, "", claims)
    )
    assert (got, any(said in line for line in lines)) == (forwarded, True), lines
    assert any(line.startswith("session ") for line in lines) is said.startswith("session ")
    got, lines = await explain_one(
        understand(environ, {}), environ, ExplainRequest("POST", "/mcp", [], PING, "", claims)
    )
    assert got
    assert not [line for line in lines if line.startswith("session ")]


async def test_claims_of_another_app_client_are_refused_as_their_token_is(tmp_path: Path) -> None:
    environ = environ_of(tmp_path)
    for client, refused in (("web", False), ("other", True)):
        asked = ASKED._replace(claims={"cognito:groups": ["user"], "client_id": client})
        _, lines = await explain_one(understand(environ, {}), environ, asked)
        assert any("client_id: found 'other', expected an app client" in line for line in lines) is refused
        assert ("token_invalid" in lines[-1]) is refused
