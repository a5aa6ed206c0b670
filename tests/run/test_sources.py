"""Functions that lookups name are imported before a request comes, and again where a reload names others."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.routes.file import read_routes
from sidecar.config.settings import understand
from sidecar.run import checking
from sidecar.run.errors import StartError
from sidecar.run.sources import require_sources
from tests.conftest import Stack, policies
from tests.stack import binary, running_sidecar, wait_for
from tests.tokens import CLIENT, POOL

LOOKUPS = """\
version: 1
lookups:
  gone: {function: "acme_gone:team_of", attributes: {team: team}}
  none: {function: "json:nothing", attributes: {team: team}}
  fine: {function: "json:dumps", attributes: {team: team}}
routes: []
"""
FAULTS = [
    "routes.yaml:3:20: lookups.gone.function: cannot import 'acme_gone': No module named 'acme_gone'; expected it in the working directory, in PYTHONPATH, or installed beside the sidecar",
    "routes.yaml:4:20: lookups.none.function: found no 'nothing' in 'json', expected a function that takes one LookupRequest, plain or `async def`",
]


def test_each_function_that_cannot_be_called_is_told_of_with_its_place() -> None:
    settings = understand({"SIDECAR_UPSTREAM": "http://app"}, {}).settings
    with pytest.raises(StartError) as told:
        require_sources(settings, read_routes(LOOKUPS, "routes.yaml", {}))
    assert list(told.value.problems) == FAULTS


def test_check_tells_of_them(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(LOOKUPS)
    environ = {
        "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"), "SIDECAR_POLICIES": str(policies()),
        "SIDECAR_CERBOS_BINARY": str(binary()), "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL,
        "AWS_COGNITO_CLIENT_ID": CLIENT,
    }  # fmt: skip
    found = checking.findings(environ, {})
    assert [line.removeprefix(f"{tmp_path}/") for line in found.problems] == FAULTS


@pytest.mark.parametrize(
    ("listen", "app", "is_own"),
    [
        ("0.0.0.0:8080", "http://127.0.0.1:8080", True), ("0.0.0.0:8080", "http://localhost:8080", True),
        ("[::]:8080", "http://[::1]:8080", True), ("127.0.0.1:8080", "http://127.0.0.2:8080", True),
        ("10.0.0.1:8080", "http://10.0.0.1:8080", True), ("unix:/run/s.sock", "unix:/run/s.sock", True),
        ("0.0.0.0:443", "https://localhost", True), ("0.0.0.0:8080", "http://127.0.0.1:8081", False),
        ("0.0.0.0:8080", "http://app:8080", False), ("10.0.0.1:8080", "http://127.0.0.1:8080", False),
        ("unix:/run/s.sock", "unix:/run/app.sock", False), ("unix:/run/s.sock", "http://127.0.0.1:8080", False),
    ],
)  # fmt: skip
def test_a_lookup_that_would_ask_the_sidecar_itself_is_a_problem(listen: str, app: str, is_own: bool) -> None:
    settings = understand({"SIDECAR_UPSTREAM": app, "SIDECAR_LISTEN": listen}, {}).settings
    text = "version: 1\nlookups:\n  order: {upstream: '/orders/{id}', attributes: {owner: owner}}\nroutes: []\n"
    if is_own:
        with pytest.raises(StartError) as told:
            require_sources(settings, read_routes(text, "routes.yaml", {}))
        (problem,) = told.value.problems
        assert problem.startswith(
            f"routes.yaml:3:21: lookups.order.upstream: found the app {app}, which is SIDECAR_LISTEN"
        )
    else:
        require_sources(settings, read_routes(text, "routes.yaml", {}))


ROUTES = """\
version: 1
principal: {{id: username, roles: "cognito:groups"}}
lookups:
  contact: {{function: "{function}", as: principal, attributes: {{owner: owner_id}}, echo: id, timeout: 5s}}
routes:
  - {{path: "/contacts/{{id}}", resource: contact, id: "{{path.id}}", lookup: contact, actions: {{GET: delete}}}}
"""
MODULE = """\
OWNERS = {"1": "alice", "2": "bob"}


def owner_of(asked):
    assert asked.principal.id == "alice"
    return {"id": asked.id, "owner_id": OWNERS[asked.id]} if asked.id in OWNERS else None


async def owner_by_now(asked):
    return {"id": asked.id, "owner_id": "alice"}
"""


def test_a_function_in_the_working_directory_decides_and_a_reload_names_another(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "acme_contacts.py").write_text(MODULE)
    routes = ROUTES.format(function="acme_contacts:owner_of")
    app = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path, routes, policies(), app, stack.environ, shared=True) as sidecar:
        token = stack.tokens["alice"]
        assert sidecar.get("/contacts/1", token).status == 200
        assert [sidecar.get(f"/contacts/{number}", token).code for number in (2, 3)] == ["denied_by_policy"] * 2
        shown = sidecar.admin("/metrics").body.decode()
        assert 'sidecar_questions{dep="lookup",name="contact",state="overdue"} 0.0' in shown
        (tmp_path / "routes.yaml").write_text(ROUTES.format(function="acme_contacts:gone"))
        wait_for(lambda: "found no 'gone' in 'acme_contacts'" in sidecar.log(), what="the fault is told")
        assert sidecar.get("/contacts/1", token).status == 200
        (tmp_path / "routes.yaml").write_text(ROUTES.format(function="acme_contacts:owner_by_now"))
        wait_for(lambda: sidecar.get("/contacts/2", token).status == 200, what="the other function")
