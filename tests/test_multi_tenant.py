"""The guide for many tenants, run as it stands: its routes and its policies, the real Cerbos, two issuers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sidecar.gate.decision import Question, Resource, judge
from sidecar.gate.identity import Principal
from sidecar.pdp.authzen import AuthZen
from sidecar.pdp.cerbos import Cerbos
from tests.policy_table import real_cerbos
from tests.stack import ROOT, Recorder, Sidecar, Web, running_sidecar
from tests.tokens import claims, key_set, mint

GUIDE = (ROOT / "docs/guides/multi-tenant.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```yaml\n(.*?)```", GUIDE, re.DOTALL))
ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_"


@dataclass
class World:
    sidecar: Sidecar
    upstream: Recorder


def write_policies(folder: Path) -> Path:
    folder.mkdir()
    for name, text in EXAMPLES.items():
        if name.startswith("policies/"):
            (folder / Path(name).name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("tenants")
    acme, globex, app, upstream = Web(), Web(), Web(), Recorder()
    acme.json("/jwks", key_set("acme"))
    globex.json("/jwks", key_set("globex"))
    app.json("/documents/1", {"id": 1, "tenant": "acme"})
    app.json("/documents/2", {"id": 2, "tenant": "globex"})
    routes = EXAMPLES["routes.yaml"].replace("127.0.0.1:5000", f"127.0.0.1:{app.port}")
    # the guide's pools are Amazon's; here their keys are with us
    for pool, keys in (("Acme", acme), ("Globex", globex)):
        routes = routes.replace(
            f"region: eu-west-1, user_pool_id: eu-west-1_{pool}",
            f'issuer: "{ISSUER}{pool}", jwks_url: "http://127.0.0.1:{keys.port}/jwks"',
        )
    where = f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(folder, routes, write_policies(folder / "policies"), where, {}) as sidecar:
        yield World(sidecar, upstream)
    for part in (acme, globex, app, upstream):
        part.close()


def token(pool: str, group: str, tenant: str | None) -> str:
    said = claims(
        time.time(),
        iss=ISSUER + pool.capitalize(),
        client_id=f"{pool}-web",
        tenant=tenant,
        **{"cognito:groups": [group]},
    )
    return mint(said, pool).decode()


CASES = [
    ("acme", "user", "acme", "GET", 1, "allowed"),
    ("acme", "user", "acme", "PUT", 1, "allowed"),
    ("acme", "user", "acme", "DELETE", 1, "denied_by_policy"),
    ("acme", "admin", "acme", "DELETE", 1, "allowed"),
    ("acme", "user", "acme", "GET", 2, "denied_by_policy"),
    ("acme", "admin", "acme", "DELETE", 2, "denied_by_policy"),
    ("globex", "user", "globex", "GET", 2, "allowed"),
    ("globex", "admin", "globex", "GET", 2, "allowed"),
    ("globex", "admin", "globex", "PUT", 2, "denied_by_policy"),
    ("globex", "admin", "globex", "DELETE", 2, "denied_by_policy"),
    ("globex", "user", "globex", "GET", 1, "denied_by_policy"),
    # a pool that says another tenant's name
    ("globex", "admin", "acme", "GET", 1, "denied_by_policy"),
    ("acme", "admin", "globex", "GET", 2, "denied_by_policy"),
    # a tenant that has no policy, and one that is nobody's
    ("acme", "admin", "initech", "GET", 1, "denied_by_policy"),
    ("acme", "admin", None, "GET", 1, "claim_missing"),
    ("acme", "admin", "acme/../globex", "GET", 1, "reference_invalid"),
]


@pytest.mark.parametrize(("pool", "group", "tenant", "method", "document", "outcome"), CASES)
def test_each_tenant_has_its_own_and_no_more(
    world: World, pool: str, group: str, tenant: str | None, method: str, document: int, outcome: str
) -> None:
    world.upstream.reset()
    got = world.sidecar.request(method, f"/documents/{document}", token(pool, group, tenant))
    assert (got.code if got.status >= 400 else "allowed") == outcome
    assert len(world.upstream.seen) == (outcome == "allowed")
    policy = world.sidecar.decisions()[-1].get("policy", "")
    if outcome == "allowed":
        # the last word of an allow is the wall's, which has no scope
        assert policy == "resource.document.vdefault"
    elif outcome == "denied_by_policy":
        assert policy == ("NO_MATCH" if tenant == "initech" else f"resource.document.vdefault/{tenant}")
    else:
        assert policy == ""


def test_a_token_of_one_pool_is_none_of_the_other(world: World) -> None:
    forged = mint(claims(time.time(), iss=ISSUER + "Acme", client_id="acme-web", tenant="acme"), "globex").decode()
    assert world.sidecar.get("/documents/1", forged).status in (401, 503)
    other = mint(claims(time.time(), iss=ISSUER + "Acme", client_id="globex-web", tenant="acme"), "acme").decode()
    assert world.sidecar.get("/documents/1", other).code == "token_invalid"


async def test_a_scope_is_asked_for_by_grpc_and_by_authzen(tmp_path: Path) -> None:
    with real_cerbos(tmp_path, write_policies(tmp_path / "policies")) as cerbos:
        clients = (
            Cerbos(cerbos.grpc, timeout=2, now=time.monotonic), AuthZen(cerbos.authzen, timeout=2, now=time.monotonic),
        )  # fmt: skip
        principal = Principal("a", ("admin",), {"tenant": "acme", "issuer": ISSUER + "Acme"}, "iss", 0.0, {})
        resources = [Resource("document", "1", "delete", {"tenant": "acme"}, (), scope) for scope in ("acme", "globex")]
        for client in clients:
            asked = Question("r", principal, tuple(resources))
            assert judge(asked, await client.check(asked)) == [True, False]
            await client.aclose()
