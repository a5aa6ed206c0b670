"""CPU of a call of MCP against that of a route whose JSON body says the same: `python -m bench.mcp [ROUNDS]`.

A real sidecar with a real Cerbos; the two routes are asked in turn, and the sidecar's own CPU is read from /proc.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.stack import Recorder, Web, reply, running_sidecar
from tests.tokens import CLIENT, ISSUER, claims, key_set, mint

REQUESTS = 500
"""Requests of one kind in a row."""
GOAL = 1.2
POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: mcp_tool
  version: default
  rules:
    - {actions: [call], effect: EFFECT_ALLOW, roles: [user]}
"""
ROUTES = """\
version: 1
defaults: {roles: [user]}
routes:
  - path: /json
    resource: mcp_tool
    id: "crm/{body.params.name}"
    attributes: {arguments: "{body.params.arguments:json}"}
    actions: {POST: call}
  - {path: /mcp, mcp: {server: crm}}
"""
CALL = {
    "jsonrpc": "2.0", "id": 7, "method": "tools/call",
    "params": {
        "name": "get_contact", "arguments": {"id": "7", "fields": ["name", "phone"], "limit": 20},
        "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"},
    },
}  # fmt: skip
RESULT = {"content": [{"type": "text", "text": "x" * 600}], "isError": False, "resultType": "complete"}


def request(path: str, token: str) -> bytes:
    """Write one request: the same but for its path."""
    body = json.dumps(CALL)
    head = [
        f"POST {path} HTTP/1.1", "Host: app.test", f"Authorization: Bearer {token}", "Content-Type: application/json",
        "Accept: application/json, text/event-stream", "MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call",
        "Mcp-Name: get_contact", f"Content-Length: {len(body)}",
    ]  # fmt: skip
    return "\r\n".join([*head, "", body]).encode()


def microseconds(pid: int, port: int, asked: bytes) -> float:
    """Return the CPU that the process takes for one such request."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        before = _cpu(pid)
        for _ in range(REQUESTS):
            connection.sendall(asked)
            got = connection.recv(65536)
            while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < len(_ANSWER):
                got += connection.recv(65536)
            if not got.startswith(b"HTTP/1.1 200"):
                raise SystemExit(got.decode("latin-1"))
        return (_cpu(pid) - before) / REQUESTS * 1e6


_ANSWER = json.dumps({"jsonrpc": "2.0", "id": 7, "result": RESULT}).encode()


def _cpu(pid: int) -> float:
    # /proc/PID/stat counts in hundredths of a second, which is a tenth of one measurement
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def main(rounds: int) -> None:
    """Measure, and print the medians and their ratio."""
    keys, app = Web(), Recorder()
    keys.json("/jwks", key_set())
    app.reset(reply(200, _ANSWER, "Content-Type: application/json"))
    jwks = f"http://127.0.0.1:{keys.port}/jwks"
    environ = {"SIDECAR_ISSUER": ISSUER, "SIDECAR_JWKS_URL": jwks, "AWS_COGNITO_CLIENT_ID": CLIENT}
    token = mint(claims(time.time())).decode()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "policies").mkdir()
        (folder / "policies" / "mcp_tool.yaml").write_text(POLICY)
        with running_sidecar(folder, ROUTES, folder / "policies", f"http://127.0.0.1:{app.port}", environ) as sidecar:
            found: dict[str, list[float]] = {"/json": [], "/mcp": []}
            for _ in range(rounds + 1):
                for path, costs in found.items():
                    costs.append(microseconds(sidecar.pid, sidecar.port, request(path, token)))
    plain, mcp = (costs[1:] for costs in found.values())
    ratio = statistics.median(one / other for one, other in zip(mcp, plain, strict=True))
    print(
        f"least and median: JSON body {min(plain):.0f} / {statistics.median(plain):.0f} us, MCP {min(mcp):.0f} / "
        f"{statistics.median(mcp):.0f} us; of the rounds' ratios the median {ratio:.2f} (goal: at most {GOAL}), "
        f"of the least {min(mcp) / min(plain):.2f}"
    )
    for part in (keys, app):
        part.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
