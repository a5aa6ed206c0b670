"""`make bench`: the sidecar beside its peers, in interleaved rounds, so that noise of the machine hits all alike.

python -m bench.run [--quick] [--soak SECONDS] [--rounds N] [--only LOAD;LOAD]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench import load, report
from bench.builds import Build, other_build, own_build
from bench.goals import Round, judge, measured
from bench.stack import PEERS, PRINCIPALS, ROUTES, Stack, page

RESULTS = Path(__file__).parent / "results"
CONNECTIONS = 32
IDS = 200
"""Resources of the loads that ask about many: so few that the lookups of all are remembered after the first second."""


class Shot(NamedTuple):
    """One load: its name, who takes it, the path, whether with a token, how many connections, what it must give.

    With `principals`, their tokens come in turn, and so many `ids` at the path's end: so that no two questions at once
    are the same.
    """

    name: str
    peer: str
    path: str
    token: bool = True
    connections: int = CONNECTIONS
    refused: bool = False
    principals: int = 0
    ids: int = 1
    least: float = 0.0
    """Seconds that it takes at least, for a peer that answers few requests a second."""


def _both(name: str, peer: str, path: str, ids: int = IDS) -> tuple[Shot, Shot]:
    """The same load by one principal, and by as many as there are connections."""
    one = Shot(name, peer, path, principals=1, ids=ids)
    return one, one._replace(name=f"{name}, {PRINCIPALS} principals", principals=PRINCIPALS)


SHOTS = (
    *_both("allow", "sidecar", "/contacts/"),
    *_both("envoy ext_authz", "envoy ext_authz", "/contacts/"),
    Shot("allow-1", "sidecar", "/contacts/", connections=1, principals=1, ids=IDS),
    Shot("envoy ext_authz-1", "envoy ext_authz", "/contacts/", connections=1, principals=1, ids=IDS),
    *_both("fresh lookup", "sidecar", "/fresh/"),
    *_both("nginx auth_request", "nginx auth_request", "/contacts/"),
    *_both("envoy, asking", "envoy, asking", "/contacts/"),
    *_both("nginx, asking", "nginx, asking", "/contacts/"),
    # one id: what is remembered is to be found again
    *_both("cached decision", "caching", "/contacts/", ids=1),
    *_both("envoy jwt_authn", "envoy jwt_authn", "/contacts/", ids=1),
    Shot("envoy, asking, cached", "envoy, asking, cached", "/contacts/1"),
    Shot("envoy, yes by grpc.aio", "envoy, yes by grpc.aio", "/contacts/1"),
    Shot("envoy, yes by own", "envoy, yes by own", "/contacts/1"),
    Shot("nginx, asking, cached", "nginx, asking, cached", "/contacts/1"),
    Shot("nginx, yes by http", "nginx, yes by http", "/contacts/1"),
    Shot("list of 50", "sidecar", "/list/", connections=8, principals=1, ids=IDS),
    Shot("list of 50-1", "sidecar", "/list/", connections=1, principals=1, ids=IDS),
    Shot("list of 50, all passed", "sidecar", "/plain/", connections=8, principals=1, ids=IDS),
    Shot("nginx, list of 50", "nginx auth_request", "/plain/", connections=8, principals=1, ids=IDS),
    Shot("public", "sidecar", "/public", token=False),
    Shot("envoy", "envoy", "/public", token=False),
    Shot("forbidden", "sidecar", "/denied/1", refused=True),
    Shot("unauthorized", "sidecar", "/me", token=False, refused=True),
    Shot("authenticated", "sidecar", "/me"),
    Shot("many routes", "many", "/me"),
    Shot("two workers", "two", "/me"),
    Shot("article", "article", "/contacts/1", connections=4, least=4.0),
)

OTHER = "other build"
"""The sidecar of another build of Python, where there is one."""
OTHER_SHOTS = _both(f"allow, {OTHER}", OTHER, "/contacts/")


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
    parser.add_argument(
        "--only", default="", help="loads by their names' beginnings, with semicolons: nothing is written"
    )
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
        started, other = Stack(Path(folder), stack), other_build()
        shots = (*SHOTS, *OTHER_SHOTS) if other is not None else SHOTS
        if options.only:
            some = tuple(shot for shot in shots if shot.name.startswith(tuple(options.only.split(";"))))
            fired = rounds_of(started, other, some, rounds, seconds, Progress(3 + rounds * (len(some) + 1)))
            print(f"{report.table(judge(fired, measured(fired)))}\n\n{report.measurements(fired)}")
            starts = ", ".join(
                f"{name} {started.ready[name]:.2f}" for name in ("sidecar", OTHER) if name in started.ready
            )
            print(f"\nstart to ready, seconds of CPU: {starts}")
            return 0
        found = measure(started, other, shots, rounds, seconds, size, soak)
        took = time.monotonic() - began
    results = judge(found)
    facts = {
        "date": time.strftime("%Y-%m-%d"), "python": str(own_build()), "cores": os.cpu_count(),
        "rounds of": f"{seconds:g} s", "body": f"{size >> 20} MiB", "soak": f"{soak:g} s", "took": f"{took:.0f} s",
        "load average at the end": f"{os.getloadavg()[0]:.1f}",
    }  # fmt: skip
    if other is not None:
        facts[f"{OTHER} of python"] = f"{other}, started in {started.ready[OTHER]:.2f} s of CPU"
    report.write(RESULTS, found, results, facts)
    print(f"{report.table(results)}\n\n{report.measurements(found)}\n\nwritten to {RESULTS.name}/")
    return 0


def measure(
    stack: Stack, other: Build | None, shots: Sequence[Shot], rounds: int, seconds: float, size: int, soak: float
) -> list[Round]:  # fmt: skip
    """All rounds; what is measured once stands in each of them."""
    progress = Progress(6 + rounds * (len(shots) + 1) + 5)
    found = rounds_of(stack, other, shots, rounds, seconds, progress)
    progress.step("bodies")
    once = _bodies(stack, size)
    progress.step("a list of 10 MiB")
    once |= _list(stack)
    progress.step("memory under load")
    once |= _soak(stack, stack.peers["sidecar"].pids[0], soak)
    once["ready"] = stack.ready["sidecar"]
    progress.end()
    return [{**one, **once} for one in found]


def rounds_of(
    stack: Stack, other: Build | None, shots: Sequence[Shot], rounds: int, seconds: float, progress: Progress
) -> list[dict[str, float]]:  # fmt: skip
    """Start everybody, and fire these shots in so many rounds."""
    progress.step("starting the peers")
    stack.start_peers()
    progress.step("starting the sidecars")
    stack.start_sidecar("sidecar")
    if other is not None:
        stack.start_sidecar(OTHER, python=other.python)
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
    for shot in shots:
        fire(stack, shot, 1.0)
    found: list[dict[str, float]] = []
    for number in range(rounds):
        one: dict[str, float] = {}
        for shot in shots:
            progress.step(f"round {number + 1}: {shot.name}")
            one |= fire(stack, shot, seconds)
        progress.step(f"round {number + 1}: bare cerbos")
        one["bare cerbos.rate"] = stack.bare_rate(seconds)
        found.append(one)
    return found


def fire(stack: Stack, shot: Shot, seconds: float) -> dict[str, float]:
    """Fire one load, and return its measurements."""
    peer, seconds = stack.peers[shot.peer], max(seconds, shot.least)
    pids = [one for pid in peer.pids for one in load.family(pid)]
    headers = {"Authorization": f"Bearer {stack.tokens[0]}"} if shot.token and not shot.principals else {}
    script = [str(PEERS / "ids.lua"), str(stack.token_file(shot.principals)), shot.path, str(shot.ids)]
    before = load.cpu(pids)
    try:
        got = load.wrk(
            f"http://127.0.0.1:{peer.port}{shot.path}", headers, seconds, shot.connections,
            script if shot.principals else (),
        )  # fmt: skip
    except ValueError as error:
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
    token = f"Authorization: Bearer {stack.tokens[0]}\r\n"
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


def _list(stack: Stack) -> dict[str, float]:
    """Memory that a list of 10 MiB takes, and CPU of one with 1,000 items of usual size."""
    process = stack.start_sidecar("lists")
    file, port = stack.folder / "files" / "list.json", stack.peers["lists"].port
    usual = file.read_text()
    get = f"GET /list/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {stack.tokens[0]}\r\n\r\n".encode()
    file.write_text(json.dumps(page(1000)))
    load.transfer(port, get)
    before = load.cpu([process.pid])
    for _ in range(20):
        load.transfer(port, get)
    used = (load.cpu([process.pid]) - before) / 20
    resident = load.memory(process.pid)
    file.write_text(json.dumps(page(1000, 10_000)))
    load.transfer(port, get)
    most, after = load.memory(process.pid, "VmHWM"), load.memory(process.pid)
    file.write_text(usual)
    return {"list.cpu": used, "list.growth": float(most - resident), "list.kept": float(after - resident)}


def _soak(stack: Stack, pid: int, seconds: float) -> dict[str, float]:
    """Memory after half of a long load, and after all of it."""
    shot = SHOTS[0]
    fire(stack, shot, seconds / 2)
    half = load.memory(pid)
    fire(stack, shot, seconds / 2)
    return {"resident": float(load.memory(pid)), "soak": float(load.memory(pid) - half)}


if __name__ == "__main__":
    sys.exit(main())
