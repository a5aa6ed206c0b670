"""Load and its cost: what wrk says, and what the kernel says of processes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_TICK = os.sysconf("SC_CLK_TCK")


class Load(NamedTuple):
    """One run: requests per second, p50 and p99 in seconds, answers that were not 2xx or 3xx."""

    rate: float
    p50: float
    p99: float
    refused: int


def parse_wrk(text: str) -> Load:
    """What wrk printed with --latency. Raises ValueError where it is something else."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    times = {
        name: float(value) * _UNITS[unit] for name, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s|m)", text)
    }
    broken = re.search(r"Socket errors: (.*)", text)
    if rate is None or set(times) != {"50", "99"} or broken is not None:
        raise ValueError(f"not a whole run of wrk: {broken[0] if broken else text[:500]!r}")
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Load(float(rate[1]), times["50"], times["99"], int(other[1]) if other else 0)


def wrk(
    url: str, headers: Mapping[str, str], seconds: float, connections: int, script: Sequence[str] = ()
) -> Load:  # fmt: skip
    """Load `url` with so many kept connections; `script` is a Lua file that makes the requests, and its arguments. One
    thread, so that it takes one core at most."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "--timeout", "10s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    command += ["-s", script[0], url, "--", *script[1:]] if script else [url]
    return parse_wrk(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def cpu(pids: Iterable[int]) -> float:
    """CPU seconds that these processes have used (proc(5): utime and stime of /proc/PID/stat)."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


def memory(pid: int, field: str = "VmRSS") -> int:
    """Bytes of resident memory: now (VmRSS), or at most so far (VmHWM)."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        path = Path(f"/proc/{parent}/task/{parent}/children")
        found += [int(child) for child in path.read_text().split()] if path.exists() else []
    return found


def transfer(port: int, head: bytes, send: int = 0) -> float:
    """Seconds of one exchange on a connection of its own: `send` bytes of body after the head, and the whole answer."""
    block = bytes(1 << 20)
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(head)
        while send > 0:
            send -= connection.send(block[: min(send, len(block))])
        answer, buffer = b"", memoryview(bytearray(1 << 20))
        while b"\r\n\r\n" not in answer:
            data = connection.recv(65536)
            if not data:
                raise ValueError("the head broke off")
            answer += data
        top, _, rest = answer.partition(b"\r\n\r\n")
        if b" 200 " not in top.splitlines()[0]:
            raise ValueError(f"found {top.splitlines()[0]!r}, expected 200")
        length = re.search(rb"content-length: *(\d+)", top, re.IGNORECASE)
        left = (int(length[1]) if length else 0) - len(rest)
        while left > 0:
            got = connection.recv_into(buffer)
            if not got:
                raise ValueError("the body broke off")
            left -= got
    return time.perf_counter() - began
