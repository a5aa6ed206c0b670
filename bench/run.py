"""`make bench`: the sidecar beside its peers, in interleaved rounds, so that noise of the machine hits all alike.

python -m bench.run [--quick] [--soak SECONDS] [--rounds N]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench import load, report
from bench.goals import Round, judge
from bench.stack import ROUTES, Stack

RESULTS = Path(__file__).parent / "results"
CONNECTIONS = 32


class Shot(NamedTuple):
    """One load: its name, who takes it, the path, whether with a token, how many connections, what it must give.

    A peer that `breaks` closes a connection now and then under this load: such a run is thrown away, and done again.
    """

    name: str
    peer: str
    path: str
    token: bool = True
    connections: int = CONNECTIONS
    refused: bool = False
    breaks: bool = False


SHOTS = (
    Shot("allow", "sidecar", "/contacts/1"),
    Shot("envoy ext_authz", "envoy ext_authz", "/contacts/1"),
    Shot("allow-1", "sidecar", "/contacts/1", connections=1),
    Shot("envoy ext_authz-1", "envoy ext_authz", "/contacts/1", connections=1),
    Shot("fresh lookup", "sidecar", "/fresh/1"),
    Shot("nginx auth_request", "nginx auth_request", "/contacts/1"),
    Shot("envoy, asking", "envoy, asking", "/contacts/1"),
    Shot("envoy, asking, cached", "envoy, asking, cached", "/contacts/1"),
    Shot("envoy, yes by grpc.aio", "envoy, yes by grpc.aio", "/contacts/1"),
    Shot("envoy, yes by own", "envoy, yes by own", "/contacts/1"),
    Shot("nginx, asking", "nginx, asking", "/contacts/1"),
    Shot("nginx, asking, cached", "nginx, asking, cached", "/contacts/1"),
    Shot("nginx, yes by http", "nginx, yes by http", "/contacts/1"),
    Shot("cached decision", "caching", "/contacts/1"),
    Shot("envoy jwt_authn", "envoy jwt_authn", "/contacts/1"),
    Shot("public", "sidecar", "/public", token=False),
    Shot("envoy", "envoy", "/public", token=False),
    Shot("forbidden", "sidecar", "/denied/1", refused=True),
    Shot("unauthorized", "sidecar", "/me", token=False, refused=True),
    Shot("authenticated", "sidecar", "/me"),
    Shot("many routes", "many", "/me"),
    Shot("two workers", "two", "/me"),
    Shot("article", "article", "/contacts/1", connections=4, breaks=True),
)


class Progress:
    """A bar on stderr."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0

    def step(self, what: str) -> None:
        """Say what comes next."""
        width = 30 * self._done // self._steps
        print(f"\r[{'#' * width}{'.' * (30 - width)}] {what:<40}", end="", file=sys.stderr, flush=True)
        self._done += 1

    def end(self) -> None:
        """The bar is full."""
        print(f"\r[{'#' * 30}] {'done':<40}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, judge, write; 0 whatever the goals say, since a bench is no test."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds and small bodies: under two minutes")
    parser.add_argument(
        "--soak", type=float, default=0.0, help="seconds of the last load, for memory (default 30, 600)"
    )
    parser.add_argument("--rounds", type=int, default=0)
    options = parser.parse_args()
    missing = [tool for tool in ("wrk", "nginx") if shutil.which(tool) is None]
    if missing:
        print(f"not installed: {', '.join(missing)} (apt-get install {' '.join(missing)})", file=sys.stderr)
        return 1
    rounds = options.rounds or (2 if options.quick else 5)
    seconds, size = (1.0, 64 << 20) if options.quick else (4.0, 1 << 30)
    soak = options.soak or (8.0 if options.quick else 30.0)
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as folder, contextlib.ExitStack() as stack:
        began = time.monotonic()
        found = measure(Stack(Path(folder), stack), rounds, seconds, size, soak)
        took = time.monotonic() - began
    results = judge(found)
    facts = {
        "date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "cores": os.cpu_count(),
        "rounds of": f"{seconds:g} s", "body": f"{size >> 20} MiB", "soak": f"{soak:g} s", "took": f"{took:.0f} s",
        "load average at the end": f"{os.getloadavg()[0]:.1f}",
    }  # fmt: skip
    report.write(RESULTS, found, results, facts)
    print(f"{report.table(results)}\n\n{report.measurements(found)}\n\nwritten to {RESULTS.name}/")
    return 0


def measure(stack: Stack, rounds: int, seconds: float, size: int, soak: float) -> list[Round]:
    """All rounds; what is measured once stands in each of them."""
    progress = Progress(5 + rounds * (len(SHOTS) + 1) + 5)
    progress.step("starting the peers")
    stack.start_peers()
    progress.step("starting the sidecars")
    sidecar = stack.start_sidecar("sidecar")
    stack.start_sidecar("caching", "cache: {decisions: 1s}\n")
    many = "".join(
        f'  - {{path: "/r{n}/{{id}}", resource: contact, id: "{{path.id}}", actions: {{GET: read}}}}\n'
        for n in range(10_000 - ROUTES.count("path: "))
    )
    stack.start_sidecar("many", routes=many)
    stack.start_sidecar("two", SIDECAR_WORKERS="2")
    for proxy, start in (("envoy", stack.start_asked_by_envoy), ("nginx", stack.start_asked_by_nginx)):
        start(f"{proxy}, asking")
        start(f"{proxy}, asking, cached", "cache: {decisions: 1s}\n")
    for kind in ("grpc.aio", "own", "http"):
        stack.start_yes(kind)
    for shot in SHOTS:
        _fire(stack, shot, 1.0)
    found: list[dict[str, float]] = []
    for number in range(rounds):
        one: dict[str, float] = {}
        for shot in SHOTS:
            progress.step(f"round {number + 1}: {shot.name}")
            one |= _fire(stack, shot, seconds)
        progress.step(f"round {number + 1}: bare cerbos")
        one["bare cerbos.rate"] = stack.bare_rate(seconds)
        found.append(one)
    progress.step("bodies")
    once = _bodies(stack, size)
    progress.step("memory under load")
    once |= _soak(stack, sidecar.pid, soak)
    once["ready"] = stack.ready["sidecar"]
    progress.end()
    return [{**one, **once} for one in found]


def _fire(stack: Stack, shot: Shot, seconds: float) -> dict[str, float]:
    peer = stack.peers[shot.peer]
    pids = [one for pid in peer.pids for one in load.family(pid)]
    headers = {"Authorization": f"Bearer {stack.token}"} if shot.token else {}
    before = load.cpu(pids)
    try:
        got = load.wrk(f"http://127.0.0.1:{peer.port}{shot.path}", headers, seconds, shot.connections)
    except ValueError as error:
        if shot.breaks:
            print(f"\n{shot.name}: thrown away and done again: {error}", file=sys.stderr)
            return _fire(stack, shot._replace(breaks=False), seconds)
        raise ValueError(f"{shot.name}: {error}") from None
    used = load.cpu(pids) - before
    requests = max(1.0, got.rate * max(1, round(seconds)))
    if (got.refused > 0.5 * requests) is not shot.refused:
        raise ValueError(f"{shot.name}: {got.refused} of {requests:.0f} answers were refusals")
    name = shot.name
    return {f"{name}.rate": got.rate, f"{name}.p50": got.p50, f"{name}.p99": got.p99, f"{name}.cpu": used / requests}


def _bodies(stack: Stack, size: int) -> dict[str, float]:
    """Seconds of a large body in each direction, through the sidecar and through nginx in turn."""
    process = stack.start_sidecar("bodies")
    uploading = stack.start_sidecar("uploads", SIDECAR_UPSTREAM=f"http://127.0.0.1:{stack.ports['SINK']}")
    with open(stack.folder / "files" / "file", "wb") as file:
        file.truncate(size)
    token = f"Authorization: Bearer {stack.token}\r\n"
    ports = {"": stack.peers["bodies"].port, " nginx": stack.peers["nginx auth_request"].port}
    found: dict[str, float] = {}
    before = load.memory(process.pid) + load.memory(uploading.pid)
    for name, port in ports.items():
        get = f"GET /file HTTP/1.1\r\nHost: a\r\n{token}\r\n".encode()
        found[f"download{name}"] = min(load.transfer(port, get) for _ in range(2))
        port = port if name else stack.peers["uploads"].port
        put = f"PUT /upload HTTP/1.1\r\nHost: a\r\n{token}Content-Length: {size}\r\n\r\n".encode()
        found[f"upload{name}"] = min(load.transfer(port, put, size) for _ in range(2))
    after = load.memory(process.pid, "VmHWM") + load.memory(uploading.pid, "VmHWM")
    return {**found, "growth": float(after - before)}


def _soak(stack: Stack, pid: int, seconds: float) -> dict[str, float]:
    """Memory after half of a long load, and after all of it."""
    shot = SHOTS[0]
    _fire(stack, shot, seconds / 2)
    half = load.memory(pid)
    _fire(stack, shot, seconds / 2)
    return {"resident": float(load.memory(pid)), "soak": float(load.memory(pid) - half)}


if __name__ == "__main__":
    sys.exit(main())
