"""What wrk prints, read whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from bench.load import Load, cpu, family, memory, parse_wrk, wrk
from bench.stack import PEERS
from tests.stack import Web

WRK = """Running 4s test @ http://127.0.0.1:1/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.62ms  640.00us  11.50ms   88.10%
    Req/Sec    12.05k   812.10    13.90k    70.00%
  Latency Distribution
     50%    2.50ms
     75%    2.90ms
     90%    3.40ms
     99%  850.00us
  47942 requests in 4.00s, 10.52MB read
{more}Requests/sec:  11985.50
Transfer/sec:      2.63MB
"""


def test_a_run_is_read() -> None:
    assert parse_wrk(WRK.format(more="")) == Load(11985.5, 0.0025, 0.00085, 0)
    assert parse_wrk(WRK.format(more="  Non-2xx or 3xx responses: 47942\n")).refused == 47942


@pytest.mark.parametrize(
    "text", ["", "unable to connect", WRK.format(more="  Socket errors: connect 0, read 3, write 0, timeout 0\n")]
)
def test_a_run_that_broke_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a whole run"):
        parse_wrk(text)


def test_the_kernel_tells_what_a_process_costs() -> None:
    before, began = cpu([os.getpid()]), time.process_time()
    while time.process_time() < began + 0.1:
        sum(range(1000))
    assert cpu([os.getpid()]) > before
    now = memory(os.getpid())
    # proc(5): the kernel's counters of pages may be behind by some
    assert memory(os.getpid(), "VmHWM") > 0.9 * now > 1_000_000
    assert family(os.getpid())[0] == os.getpid()


@pytest.mark.process
@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_a_load_by_many_has_their_tokens_and_ids_that_differ(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("one\ntwo")
    web = Web()
    for number in range(1, 4):
        web.json(f"/x/{number}", {})
    wrk(f"http://127.0.0.1:{web.port}", {}, 1.0, 2, [str(PEERS / "ids.lua"), str(tokens), "/x/", "3"])
    web.close()
    assert {(path, headers["authorization"]) for path, headers in web.asked} == {
        (f"/x/{number}", f"Bearer {token}") for number in range(1, 4) for token in ("one", "two")
    }
