"""The Cerbos of each deployment: its arguments are taken by the real one, and make it evaluate strictly."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml

from sidecar.demo.processes import Process
from sidecar.gate.decision import DENY, Question, Resource
from sidecar.gate.identity import Principal
from sidecar.pdp.cerbos import Cerbos
from tests.stack import ROOT, binary, free_port
from tests.study.compiled import policy, rule

FILES = (
    "docker-compose.yaml", "deploy/k8s/overlays/sidecar/sidecar.yaml", "deploy/k8s/overlays/front-door/deployment.yaml",
    "sidecar/inject/template.yaml",
)  # fmt: skip


def arguments(node: yaml.Node) -> list[list[str]]:
    """Every list below a node that begins with `server`."""
    if isinstance(node, yaml.SequenceNode) and node.value and node.value[0].value == "server":
        return [[item.value for item in node.value]]
    children = node.value if not isinstance(node, yaml.ScalarNode) else []
    flat = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
    return [found for child in flat for found in arguments(child)]


@pytest.mark.parametrize("file", FILES)
async def test_a_denial_that_cannot_be_evaluated_denies(tmp_path: Path, file: str) -> None:
    ((first, *settings),) = [
        found for document in yaml.compose_all((ROOT / file).read_text(), Loader=yaml.SafeLoader) for found in arguments(document)
    ]  # fmt: skip
    policies, target = tmp_path / "policies", f"unix:{tmp_path}/grpc.sock"
    policies.mkdir()
    (policies / "doc.yaml").write_text(policy([rule(), rule("DENY", match="R.attr.level > 3")]))
    ours = [
        f"--set=storage.disk.directory={policies}", f"--set=server.grpcListenAddr={target}",
        f"--set=server.httpListenAddr=127.0.0.1:{free_port()}",
    ]  # fmt: skip
    command = [str(binary()), first, *settings, *ours]
    process = Process.start("cerbos", command, tmp_path, os.environ, (tmp_path / "grpc.sock").exists)
    cerbos = Cerbos(target, timeout=5.0, now=time.monotonic)
    try:
        who = Principal("alice", ("user",), {}, "iss", 0.0, {})
        answer = await cerbos.check(Question("r", who, (Resource("doc", "1", "read", {}),)))
    finally:
        await cerbos.aclose()
        process.stop()
    assert answer.results[0].effects == {"read": DENY}
    assert "no such key" not in (tmp_path / "cerbos.log").read_text()
