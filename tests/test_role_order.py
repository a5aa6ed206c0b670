"""The order of a token's groups decides nothing, even where Cerbos evaluates strictly and an order of roles would."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from sidecar.gate.decision import Question, Resource, judge
from sidecar.gate.identity import Principal
from sidecar.pdp.cerbos import Cerbos
from tests.shared_cerbos import shared_cerbos
from tests.stack import Recorder, Web, binary, running_sidecar
from tests.tokens import CLIENT, POOL, claims, key_set, mint

ROUTES = """\
version: 1
defaults: {roles: [zeta, alpha]}
routes: [{path: /doc, resource: doc, actions: {GET: read}}]
"""
# the rule of one role cannot be evaluated, that of the other allows
POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: doc
  version: default
  rules:
    - {actions: [read], effect: EFFECT_ALLOW, roles: [alpha], condition: {match: {expr: request.resource.attr.level > 3}}}
    - {actions: [read], effect: EFFECT_ALLOW, roles: [zeta]}
"""
ORDERS: list[Sequence[str]] = list(itertools.permutations(["alpha", "mu", "zeta"]))


def write(folder: Path) -> Path:
    policies = folder / "policies"
    policies.mkdir()
    (policies / "doc.yaml").write_text(POLICY)
    return policies


async def test_to_cerbos_an_order_is_a_difference(tmp_path: Path) -> None:
    client = Cerbos(shared_cerbos(write(tmp_path), binary()), timeout=5, now=time.monotonic)
    answers = []
    for order in ORDERS:
        asked = Question("r", Principal("a", tuple(order), {}, "iss", 0.0, {}), (Resource("doc", "1", "read", {}),))
        answers += judge(asked, await client.check(asked))
    await client.aclose()
    assert set(answers) == {True, False}


def test_a_token_is_decided_alike_in_every_order(tmp_path: Path) -> None:
    keys, upstream = Web(), Recorder()
    keys.json("/jwks", key_set())
    environ = {
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks",
    }  # fmt: skip
    where = f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(tmp_path, ROUTES, write(tmp_path), where, environ, shared=True) as sidecar:
        tokens = [mint(claims(time.time(), **{"cognito:groups": list(order)})).decode() for order in ORDERS]
        assert len({sidecar.get("/doc", token).status for token in tokens}) == 1
        # default roles too: they stand in the file in another order
        without = mint(claims(time.time(), **{"cognito:groups": None})).decode()
        assert sidecar.get("/doc", without).status == sidecar.get("/doc", tokens[0]).status
        told = sidecar.get("/_sidecar/whoami", tokens[-1]).body.decode()
        assert '"roles": ["alpha", "mu", "zeta"]' in told
    keys.close()
    upstream.close()
