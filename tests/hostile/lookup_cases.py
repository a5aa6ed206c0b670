"""The lookup cases: configurations that may not start, and hooks that answer garbage, or for another."""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.forked import Forked
from tests.hostile.attempts import Case
from tests.hostile.key_cases import view
from tests.hostile.world import ROUTES, World, json_reply
from tests.stack import Answer

URLS = {
    "http://{host}/owner": "http://{id}/owner",
    "http://hook/{id}/../admin": "http://hook/{id}/../admin",
    "file:///x": "file:///x",
    "ftp://": "ftp://hook/{id}",
    "http://169.254.169.254/": "http://169.254.169.254/{id}",
    "user:pass@hook": "http://user:pass@hook/{id}",
}
"""The words of l02 -> the url of a lookup."""


def refused_at_start(world: World, case: Case) -> None:
    """l02: with such a url the sidecar does not start, and says where it stands."""
    words = [word.strip() for word in case["send"]["config"].split(",")]
    assert words == list(URLS)
    assert case["expect"]["start"] == "refused"
    with ThreadPoolExecutor(len(URLS)) as pool:
        ends = pool.map(lambda url: _start(world, url), URLS.values())
        for url, (status, said) in zip(URLS.values(), ends, strict=True):
            assert status > 0, url
            assert "routes.yaml:5:" in said, said


def _start(world: World, url: str) -> tuple[int, str]:
    """-> (status, what was said) of a sidecar with this url of a lookup."""
    folder = Path(tempfile.mkdtemp(dir=world.folder))
    (folder / "routes.yaml").write_text(ROUTES.replace("http://<hook>/owners/{id}", url))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SIDECAR_", "AWS_"))}
    own = {
        "SIDECAR_UPSTREAM": "http://127.0.0.1:1",
        "SIDECAR_LISTEN": f"unix:{folder}/traffic",
        "SIDECAR_ADMIN_LISTEN": "127.0.0.1:0",
    }
    command = [sys.executable, "-m", "sidecar.cli", "run"]
    environ = {**inherited, **world.environ(), **own}
    with Forked("sidecar", command, folder, environ) as process:
        status = process._child.wait(20)
    return status, (folder / "sidecar.log").read_text()


def no_proxy(world: World, case: Case) -> None:
    """l04: the proxies of the environment are for others: keys, hook and app are asked without one."""
    assert view(world.sidecar, world.mint.token()) == 200
    assert world.hook.seen
    assert world.upstream.seen
    assert world.keys.fetches >= 1
    assert (world.trap.received != b"") is case["expect"]["proxy_used"]


def _garbage() -> dict[str, Answer]:
    good = {"id": "1", "owner": "a-1"}
    bomb = gzip.compress(b'{"id":"1","owner":"a-1","x":"' + b"a" * 50_000_000 + b'"}', 6)
    return {
        "200 text/html": json_reply(good, kind="text/html"),
        "200 with {}": json_reply({}),
        "owner missing": json_reply({"id": "1"}),
        "owner list": json_reply({**good, "owner": ["a-1"]}),
        "duplicate keys": json_reply(b'{"id":"1","owner":"b-1","owner":"a-1"}'),
        "NaN": json_reply(b'{"id":"1","owner":NaN}'),
        "2 MB": json_reply({**good, "x": "a" * 2_000_000}),
        "gzip bomb 48 KB->50 MB": json_reply(bomb, "Content-Encoding: gzip"),
        "owner null": json_reply({**good, "owner": None}),
        "not JSON": json_reply(b"a-1"),
        "UTF-16": json_reply(json.dumps(good).encode("utf-16")),
        "gzip of a good answer": json_reply(gzip.compress(json.dumps(good).encode()), "Content-Encoding: gzip"),
    }


def garbage(world: World, case: Case) -> None:
    """l05: what is not an answer of the hook's contract is a fault, and never "no owner"."""
    answers = _garbage()
    words = [word.strip() for word in case["send"]["hook"].split(";")]
    assert set(words) <= set(answers)
    for name, answer in answers.items():
        for user in ("alice", "root"):
            # after a good answer: some faults in a row would stop the asking, and every status would be the same
            world.fresh()
            assert view(world.sidecar, world.token(user)) == 200
            world.upstream.reset()
            world.hook.answer = answer
            got = world.sidecar.get("/docs/1", world.token(user), host="app.test")
            assert got.status == case["expect"]["status"], (name, user)
            assert got.code in ("lookup_status", "lookup_bad_answer", "lookup_mismatch"), (name, got.code)
            assert world.upstream.received == b"", name


def unknown(world: World, case: Case) -> None:
    """l06: what the hook does not know nobody may use, an admin included."""
    world.hook.answer = json_reply({"owner": "a-1", "id": "1"}, status=404)
    for user in ("alice", "root"):
        assert view(world.sidecar, world.token(user)) in case["expect"]["status"]
    assert world.upstream.received == b""


def other_id(world: World, case: Case) -> None:
    """l08: an answer about another id is no answer."""
    world.hook.answer = json_reply({"id": "3", "owner": "a-1"})
    assert view(world.sidecar, world.token("alice")) == case["expect"]["status"]
    assert world.upstream.received == b""


def no_cookie(world: World, case: Case) -> None:
    """l09: what a hook sets as a cookie is not sent with the next lookup."""
    world.hook.answer = json_reply({"id": "1", "owner": "a-1"}, "Set-Cookie: x=1")
    for user in ("alice", "bob", "alice"):
        view(world.sidecar, world.token(user))
    assert len(world.hook.seen) == 3
    assert any(seen.values("cookie") for seen in world.hook.seen) is case["expect"]["cookie_sent"]


def own_credential(world: World, case: Case) -> None:
    """l10: the hook gets nothing of the user's: neither its token nor anything that it sent."""
    headers = {"host": "app.test", "cookie": "a=SECRET", "x_mine": "1"}
    assert world.sidecar.get("/docs/1", world.token("alice"), **headers).status == 200
    (seen,) = world.hook.seen
    assert bool(seen.values("authorization")) is case["expect"]["forwarded"]
    assert {name.lower() for name, _ in seen.headers} == {"host", "accept"}
    assert world.token("alice").encode() not in world.hook.received


RUNS = {
    "l02": refused_at_start,
    "l04": no_proxy,
    "l05": garbage,
    "l06": unknown,
    "l08": other_id,
    "l09": no_cookie,
    "l10": own_credential,
}
