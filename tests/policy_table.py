"""The demo's policy test table (`policies/tests`) as data, and a real Cerbos that speaks gRPC and AuthZEN."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from socket import create_connection as connect
from typing import Any, NamedTuple

import yaml

from sidecar.demo.processes import Process, status_of
from sidecar.gate.decision import Resource
from sidecar.gate.identity import Principal
from tests.stack import ROOT, binary, free_port


class Case(NamedTuple):
    """One line of the table: who asks for what, and whether it is allowed."""

    principal: Principal
    resource: Resource
    allowed: bool


def cases() -> list[Case]:
    """Every principal, resource and action of the table, with the effect that it expects."""
    suite = yaml.safe_load((ROOT / "policies/tests/contact_test.yaml").read_text(encoding="utf-8"))
    principals = {
        name: Principal(said["id"], tuple(said["roles"]), said.get("attr", {}), "iss", 2.0**40, {})
        for name, said in suite["principals"].items()
    }
    return [
        Case(
            principals[principal],
            Resource(said["kind"], said["id"], action, said.get("attr", {})),
            effect == "EFFECT_ALLOW",
        )
        for test in suite["tests"]
        for expected in test["expected"]
        for principal in _named(expected, "principal", suite["principalGroups"])
        for said in (suite["resources"][name] for name in _named(expected, "resource", suite["resourceGroups"]))
        for action, effect in expected["actions"].items()
    ]


def _named(expected: dict[str, Any], kind: str, groups: dict[str, Any]) -> list[str]:
    names = [expected[kind]] if kind in expected else list(expected.get(kind + "s", ()))
    return names + [name for group in expected.get(kind + "Groups", ()) for name in groups[group][kind + "s"]]


class RealCerbos(NamedTuple):
    """A running Cerbos: where it is asked by gRPC, and by AuthZEN on a port and on a socket."""

    grpc: str
    port: int
    socket: Path

    @property
    def authzen(self) -> str:
        """For SIDECAR_PDP."""
        return f"authzen+http://127.0.0.1:{self.port}"


def _takes(port: int) -> bool:
    try:
        connect(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@contextmanager
def real_cerbos(folder: Path, policies: Path, *, strict: bool = False, **server: Any) -> Iterator[RealCerbos]:
    """Cerbos with these policies, and more settings of its section `server`."""
    port, socket = free_port(), folder / "grpc.sock"
    config = {
        "server": {"httpListenAddr": f"127.0.0.1:{port}", "grpcListenAddr": f"unix:{socket}", **server},
        "storage": {"driver": "disk", "disk": {"directory": str(policies)}},
        "schema": {"enforcement": "reject"},
        "telemetry": {"disabled": True},
        **({"engine": {"strictEvaluation": True}} if strict else {}),
    }
    (folder / "cerbos.yaml").write_text(json.dumps(config))
    command = [str(binary()), "server", f"--config={folder / 'cerbos.yaml'}", "--log-level=error"]
    environ = {"PATH": os.environ["PATH"], "CERBOS_NO_TELEMETRY": "1", "GOGC": os.environ["GOGC"]}
    ready: Callable[[], bool]
    if "grpcListenAddr" in server:
        ready = partial(_takes, int(server["grpcListenAddr"].rpartition(":")[2]))
    else:
        ready = socket.exists if "tls" in server else lambda: status_of(port, "/_cerbos/health") == 200
    process = Process.start("cerbos", command, folder, environ, ready)
    try:
        yield RealCerbos(f"unix:{socket}", port, socket)
    finally:
        process.stop()
