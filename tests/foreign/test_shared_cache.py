"""A shared cache before the sidecar: it keeps what is for all, and gives nobody the answer or the session of another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from sidecar.demo.processes import Process
from tests.foreign.cases import Ask
from tests.foreign.ways import listens, nginx_file, search_path
from tests.foreign.world import Outcome, World, running_world
from tests.stack import free_port, reply

NGINX = shutil.which("nginx", path=search_path())
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

# it keeps what has cookies, too, as RFC 9111 section 7.3 lets it, and guesses where nobody says how long
CACHE = """\
    proxy_cache_path {folder}/cache keys_zone=all:1m;
    proxy_buffer_size 32k;
    proxy_buffers 4 32k;
    large_client_header_buffers 4 32k;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{sidecar};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_cache all;
            proxy_cache_key $uri$is_args$args;
            proxy_cache_valid 200 404 10m;
            proxy_ignore_headers Set-Cookie;
            add_header X-Cache $upstream_cache_status always;
        }}
    }}
"""


class Cached(NamedTuple):
    """The cache's port, and the world behind it."""

    port: int
    world: World

    def ask(self, target: str, user: str | None = None, session: str | None = None) -> Outcome:
        """Send a request through the cache."""
        return self.world.send(self.port, Ask(target, user=user, session=session))


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    folder = tmp_path_factory.mktemp("cached")
    port = free_port()
    with running_world(folder) as world, world.sidecar("cached") as sidecar:
        file = nginx_file(folder, CACHE.format(folder=folder, port=port, sidecar=sidecar.port))
        command = [str(NGINX), "-c", str(file)]
        with Process.start("nginx", command, Path(folder), dict(os.environ), lambda: listens(port)):
            yield Cached(port, world)


def values(outcome: Outcome, name: str) -> list[str]:
    assert outcome.reply is not None
    return outcome.reply.values(name)


SAID = {
    "public": ("Cache-Control: public, max-age=600",),
    "s-maxage": ("Cache-Control: s-maxage=600",),
    "must-revalidate": ("Cache-Control: max-age=600, must-revalidate",),
    "nothing": (),
    "expires": ("Expires: Thu, 01 Jan 2099 00:00:00 GMT",),
    "last-modified": ("Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT", 'ETag: "1"'),
    "accel": ("X-Accel-Expires: 600", "Cache-Control: private"),
    "private-of-a-header": ('Cache-Control: private="x-mine", max-age=600',),
}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("by", ["user", "session", "renewed"])
def test_nobody_gets_the_answer_or_the_session_of_another(cached: Cached, said: str, by: str) -> None:
    cached.world.answer = reply(200, b"of alice", *SAID[said])
    target = f"/docs/1?{said}-{by}"
    if by == "user":
        own = cached.ask(target, user="alice")
    else:
        own = cached.ask(target, session="idle" if by == "renewed" else "alice")
    assert (own.status, own.reply.body if own.reply else b"", len(own.seen)) == (200, b"of alice", 1)
    assert bool(values(own, "set-cookie")) is (by == "renewed")
    nobody = cached.ask(target)
    assert (nobody.status, values(nobody, "x-cache"), nobody.seen) == (401, ["MISS"], [])
    assert "__Host-session" not in str(values(nobody, "set-cookie"))
    other = cached.ask(target, user="bob")
    assert (other.status, values(other, "x-cache"), other.seen) == (403, ["MISS"], [])


def test_an_answer_to_all_is_kept_as_the_app_says(cached: Cached) -> None:
    """So that the cache is one, and public routes are worth having it."""
    cached.world.answer = reply(200, b"for all", *SAID["public"])
    assert [values(cached.ask("/public/a", user), "x-cache") for user in (None, "alice", None)] == [
        ["MISS"],
        ["HIT"],
        ["HIT"],
    ]


def test_a_refusal_is_kept_for_nobody(cached: Cached) -> None:
    cached.world.answer = reply(200, b"mine", *SAID["public"])
    assert cached.ask("/docs/1?refused").status == 401
    assert cached.ask("/docs/1?refused", user="bob").status == 403
    assert cached.ask("/docs/1?refused", user="alice").status == 200
