"""The real Envoy before a sidecar that it asks by gRPC, with deploy/envoy/ext-authz-grpc.yaml."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sidecar.demo.processes import Process, status_of
from tests.foreign.world import World
from tests.stack import ROOT, Sidecar, free_port

CONFIG = ROOT / "deploy/envoy/ext-authz-grpc.yaml"


@dataclass
class Envoy:
    """A running pair. `asks` is where the sidecar answers Envoy, `port` where clients connect."""

    port: int
    asks: int
    sidecar: Sidecar
    folder: Path

    def log(self) -> str:
        """Envoy's own log."""
        return (self.folder / "envoy.log").read_text(errors="replace")


def filled(ports: Mapping[int, int], changes: Mapping[str, str]) -> str:
    """The configuration with other ports, and other words, in place of its own, each of which it has."""
    text = CONFIG.read_text()
    for own, other in [
        *((f"port_value: {own}}}", f"port_value: @{other}}}") for own, other in ports.items()),
        *changes.items(),
    ]:
        assert own in text, f"{own} is nowhere in it"
        text = text.replace(own, other)
    return text.replace("port_value: @", "port_value: ").replace("address: 0.0.0.0", "address: 127.0.0.1")


@contextmanager
def asked_by_grpc(
    world: World, name: str = "envoy-grpc", app_grpc: int = 1, changes: Mapping[str, str] | None = None, **environ: str
) -> Iterator[Envoy]:
    """A sidecar of this name and an Envoy before it; `changes` are of words of the configuration."""
    folder = world.folder / f"proxy-{name}"
    folder.mkdir()
    asks = free_port()
    with world.sidecar(name, SIDECAR_EXT_AUTHZ_LISTEN=f"127.0.0.1:{asks}", **environ) as sidecar:
        port = free_port()
        ports = {8000: port, 8080: sidecar.port, 3000: world.app.port, 9002: asks, 50051: app_grpc}
        config = folder / "envoy.yaml"
        config.write_text(filled(ports, changes or {}))
        command = [str(Path(sys.executable).parent / "envoy"), "-c", str(config), "--concurrency", "1", "-l", "error"]
        command.append("--use-dynamic-base-id")
        # 421 is the sidecar's word about the host 127.0.0.1, by way of Envoy
        with Process.start("envoy", command, folder, os.environ, lambda: status_of(port, "/") == 421):
            yield Envoy(port, asks, sidecar, folder)
