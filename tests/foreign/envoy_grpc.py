"""The real Envoy before a sidecar that it asks by gRPC, with the files of deploy/envoy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sidecar.demo.processes import Process, status_of
from tests.foreign.world import World
from tests.stack import ROOT, Sidecar, free_port

CONFIG = ROOT / "deploy/envoy/ext-authz-grpc.yaml"


class Protocol(NamedTuple):
    """How Envoy asks: its configuration, the setting by which the sidecar answers, and the port that the file names."""

    config: Path
    listen: str
    port: int


EXT_AUTHZ = Protocol(CONFIG, "SIDECAR_EXT_AUTHZ_LISTEN", 9002)
EXT_PROC = Protocol(ROOT / "deploy/envoy/ext-proc.yaml", "SIDECAR_EXT_PROC_LISTEN", 9003)


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


def filled(config: Path, ports: Mapping[int, int], changes: Mapping[str, str]) -> str:
    """The configuration with other ports, and other words, in place of its own, each of which it has."""
    text = config.read_text()
    for own, other in [
        *((f"port_value: {own}}}", f"port_value: @{other}}}") for own, other in ports.items()),
        *changes.items(),
    ]:
        assert own in text, f"{own} is nowhere in it"
        text = text.replace(own, other)
    return text.replace("port_value: @", "port_value: ").replace("address: 0.0.0.0", "address: 127.0.0.1")


@contextmanager
def asked_by_grpc(
    world: World, name: str = "envoy-grpc", app_grpc: int = 1, changes: Mapping[str, str] | None = None,
    by: Protocol = EXT_AUTHZ, **environ: str,
) -> Iterator[Envoy]:  # fmt: skip
    """A sidecar of this name and an Envoy before it; `changes` are of words of the configuration."""
    asks = free_port()
    with (
        world.sidecar(name, **{by.listen: f"127.0.0.1:{asks}"}, **environ) as sidecar,
        before(world, sidecar, asks, name, app_grpc, changes, by) as envoy,
    ):
        yield envoy


@contextmanager
def before(
    world: World, sidecar: Sidecar, asks: int, name: str, app_grpc: int = 1, changes: Mapping[str, str] | None = None,
    by: Protocol = EXT_AUTHZ, ready: int = 421,
) -> Iterator[Envoy]:  # fmt: skip
    """An Envoy of this name before a sidecar. `ready` is the status of a request without a host of the app: 421 is the
    sidecar's word, by way of Envoy."""
    port = free_port()
    ports = {8000: port, 8080: sidecar.port, 3000: world.app.port, by.port: asks, 50051: app_grpc}
    folder = world.folder / f"proxy-{name}"
    with running_envoy(folder, filled(by.config, ports, changes or {}), lambda: status_of(port, "/") == ready):
        yield Envoy(port, asks, sidecar, folder)


@contextmanager
def running_envoy(folder: Path, text: str, ready: Callable[[], bool]) -> Iterator[None]:
    """An Envoy with this configuration, in a folder of its own."""
    folder.mkdir()
    config = folder / "envoy.yaml"
    config.write_text(text)
    command = [str(Path(sys.executable).parent / "envoy"), "-c", str(config), "--concurrency", "1", "-l", "error"]
    # its access log is not for tests to wait for
    command += ["--use-dynamic-base-id", "--file-flush-interval-msec", "50"]
    with Process.start("envoy", command, folder, os.environ, ready):
        yield
