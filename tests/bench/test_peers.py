"""A peer whose Cerbos is slow answers late, and breaks nothing off: wrk alone says how long is too long."""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from bench.stack import PEERS
from sidecar.demo.processes import Process, status_of
from tests.faults.fakes import FakeCerbos, late
from tests.stack import Web, free_port
from tests.tokens import ISSUER, claims, key_set, mint


@pytest.mark.process
@pytest.mark.slow
def test_the_article_waits_for_a_slow_cerbos(tmp_path: Path) -> None:
    port = free_port()
    with closing(FakeCerbos()) as cerbos, closing(Web()) as web:
        # more than gRPC leaves of a limit of 2 s; the server isn't told of that limit, so only a late answer shows it
        cerbos.check = late(1.5)
        web.json("/keys", key_set())
        web.json("/contacts/1", {"id": 1})
        here = f"http://127.0.0.1:{web.port}"
        command = [
            sys.executable, str(PEERS / "article.py"), str(port), f"127.0.0.1:{cerbos.port}", f"{here}/keys", ISSUER, here,
        ]  # fmt: skip
        with Process.start("article", command, tmp_path, os.environ, lambda: status_of(port, "/none") == 404):
            token = mint(claims(time.time())).decode()
            asked = urllib.request.Request(
                f"http://127.0.0.1:{port}/contacts/1", headers={"Authorization": f"Bearer {token}"}
            )
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert answer.read() == b'{"id": 1}'
        assert cerbos.asked == 1
