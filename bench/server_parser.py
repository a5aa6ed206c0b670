"""Requests per second of the strict protocol against uvicorn's own, with an empty app: the price of strictness alone.

    python bench/server_parser.py [rounds] [seconds] [browser]

Each server is a process of its own, and wrk asks them in turn, so that noise of the machine hits both. Needs wrk.
With `browser`, each request carries the headers of a browser and a bearer token instead of Host alone.
"""

from __future__ import annotations

import multiprocessing
import re
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

import uvicorn

from sidecar.net.http_server import config
from tests.stack import free_port

BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "application/json",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Authorization": "Bearer " + "a" * 900,
    "X-Request-Id": "abcdef0123456789",
    "Origin": "https://app.test",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "same-origin",
    "Referer": "https://app.test/",
    "Connection": "keep-alive",
}


async def empty(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def serve(kind: str, port: int) -> None:
    if kind == "strict":
        settings = config(empty, host="127.0.0.1", port=port)
    else:
        settings = uvicorn.Config(
            empty, host="127.0.0.1", port=port, http="httptools", loop="uvloop", ws="none", lifespan="off",
            access_log=False, server_header=False, proxy_headers=False, log_config=None, interface="asgi3",
        )  # fmt: skip
    uvicorn.Server(settings).run()


def wait_for(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("a server did not start")


def ask(port: int, seconds: float, headers: dict[str, str]) -> float:
    command = ["wrk", "-t1", "-c32", f"-d{seconds:g}s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run([*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True)
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if found is None or "Non-2xx" in done.stdout:
        raise SystemExit(done.stdout)
    return float(found[1])


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3
    headers = BROWSER if "browser" in sys.argv else {}
    ports = {kind: free_port() for kind in ("stock", "strict")}
    servers = [multiprocessing.Process(target=serve, args=item) for item in ports.items()]
    for server in servers:
        server.start()
    try:
        for port in ports.values():
            wait_for(port)
        found: dict[str, list[float]] = {kind: [] for kind in ports}
        for number in range(rounds):
            order = list(ports) if number % 2 else list(reversed(ports))
            for kind in order:
                found[kind].append(ask(ports[kind], seconds, headers))
    finally:
        for server in servers:
            server.terminate()
            server.join()
    for kind, rates in found.items():
        print(f"{kind:8} median {statistics.median(rates):8.0f}/s   {' '.join(f'{rate:.0f}' for rate in rates)}")
    ratios = [strict / stock for strict, stock in zip(found["strict"], found["stock"], strict=True)]
    print(
        f"strict / stock: median {statistics.median(ratios):.2f}, lowest {min(ratios):.2f}, highest {max(ratios):.2f}"
    )


if __name__ == "__main__":
    main()
