"""The jwks cases: a key server that is asked too often, changes its keys, is away, or sends elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.hostile.attempts import Case
from tests.hostile.minting import ISSUER, Mint, SigningKey
from tests.hostile.world import KeyServer, World, json_reply
from tests.stack import Recorder, Sidecar, raw_reply

ROUTES = "{version: 1, routes: [{path: /me, access: authenticated}]}"
"""Only the keys decide here: neither the hook nor Cerbos is asked."""


def view(sidecar: Sidecar, token: str, path: str = "/docs/1") -> int:
    """The status of GET with this token."""
    return sidecar.get(path, token, host="app.test").status


@contextmanager
def behind(world: World, name: str, keys: KeyServer, *, ready: bool = True) -> Iterator[Sidecar]:
    """A sidecar of its own, with this key server and an upstream that nobody else looks at."""
    upstream = Recorder()
    try:
        with world.another(name, keys=keys, routes=ROUTES, upstream=upstream.port, ready=ready) as sidecar:
            yield sidecar
    finally:
        upstream.close()
        keys.close()


ROUNDS, AT_ONCE = 60, 40
"""Made-up key ids, in twelve seconds: fewer than the case has, against the same bound on fetches."""


def many_unknown_keys(world: World, case: Case) -> None:
    """k01: unknown key ids cost the key server two fetches at most, and one that fails counts like any other."""
    keys = KeyServer(world.mint.key)
    with behind(world, "k01", keys) as sidecar:
        before = keys.fetches
        for number in range(ROUNDS):
            if number == 5:
                keys.answer = json_reply({}, status=500)
            statuses = _ask_with_unknown_keys(world, sidecar, AT_ONCE)
            # once a fetch has failed, an unknown key could be a new one that we could not get
            assert statuses <= {case["expect"]["status"], *([503] if keys.fetches > before else [])}, statuses
            time.sleep(0.15)
        assert keys.fetches - before <= case["expect"]["fetches_max"]
        assert view(sidecar, world.token("alice"), "/me") == 200


def _ask_with_unknown_keys(world: World, sidecar: Sidecar, count: int) -> set[int]:
    """The statuses of so many requests, each with a key id of its own."""
    stem = str(time.perf_counter_ns())
    headers = [world.mint.header(kid=f"{stem}-{number}") for number in range(count)]
    tokens = [world.mint.compact(header, {"iss": ISSUER}, lambda _: b"x") for header in headers]
    with ThreadPoolExecutor(4) as pool:
        return set(pool.map(lambda token: view(sidecar, token, "/me"), tokens))


def rotation(world: World, case: Case) -> None:
    """k02: a token signed by a new key is taken soon after the key has appeared."""
    keys, new = KeyServer(world.mint.key), SigningKey("pool-key-2")
    with behind(world, "k02", keys) as sidecar:
        keys.serve(world.mint.key, new)
        token, status = Mint(new).token(), case["expect"]["status"]
        _wait_gently(lambda: view(sidecar, token, "/me") == status, case["expect"]["within_s"])
        assert view(sidecar, world.token("alice"), "/me") == 200


def stale(world: World, case: Case) -> None:
    """k03, its first seconds: the endpoint is down, a fetch has failed, and a known key is taken; until when is a
    matter of the clock."""
    keys = KeyServer(world.mint.key)
    with behind(world, "k03", keys) as sidecar:
        keys.answer = json_reply({}, status=500)
        unknown = world.mint.with_header(kid="unknown")
        _wait_gently(lambda: view(sidecar, unknown, "/me") == 503, 30)
        # `jwks_stale` of the case: the metric of that dependency and fault
        assert sidecar.metric("sidecar_dep_errors_total", dep="jwks", fault="stale") >= 1
        assert view(sidecar, world.mint.token(), "/me") == case["expect"]["status"]


def _wait_gently(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for what takes seconds, without taking the machine from those who run beside."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.25)


def never_any_key(world: World, case: Case) -> None:
    """k04: without any key ever the answer is 503, and the sidecar is not ready."""
    keys = KeyServer()
    keys.answer = json_reply({}, status=500)
    with behind(world, "k04", keys, ready=False) as sidecar:
        assert view(sidecar, world.mint.token(), "/me") == case["expect"]["status"]
        assert (sidecar.admin("/readyz").status == 200) is case["expect"]["ready"]


def redirected(world: World, case: Case) -> None:
    """k06: a key server that sends elsewhere is not followed, wherever it sends."""
    elsewhere = KeyServer(world.mint.key)
    for number, place in enumerate((elsewhere.url, "http://169.254.169.254/")):
        keys = KeyServer()
        keys.answer = raw_reply(f"HTTP/1.1 302 X\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())
        with behind(world, f"k06-{number}", keys, ready=False) as sidecar:
            assert view(sidecar, world.mint.token(), "/me") == 503
            assert sidecar.metric("sidecar_dep_errors_total", dep="jwks", fault="redirect") >= 1
        assert (elsewhere.received != b"") is case["expect"]["followed"]
    elsewhere.close()


TWO_POOLS = """\
version: 1
identity:
  - {{region: eu-west-1, user_pool_id: eu-west-1_TEST, client_ids: [c1], jwks_url: "{first}"}}
  - {{region: eu-west-1, user_pool_id: eu-west-1_OTHER, client_ids: [c1], jwks_url: "{second}"}}
routes:
  - {{path: /me, access: authenticated}}
  - {{path: "/admin/{{x}}", resource: admin, id: "{{path.x}}", actions: {{GET: view}}}}
"""


def two_pools(world: World, case: Case) -> None:
    """k08 and c08: a key vouches for its own issuer alone, and the same sub in two pools is two principals."""
    other_key = SigningKey("key-of-the-other-pool")
    other = Mint(other_key, ISSUER.replace("_TEST", "_OTHER"))
    first, second = KeyServer(world.mint.key), KeyServer(other_key)
    routes = TWO_POOLS.format(first=first.url, second=second.url)
    with world.another(case["id"], routes=routes) as sidecar:
        mine, theirs = world.mint, other
        crossed = [
            Mint(mine.key, other.issuer).token("root"),
            Mint(other.key, mine.issuer).token("root"),
            mine.compact(mine.header(kid=other.key.kid), mine.claims("root")),
        ]
        assert [view(sidecar, token, "/me") for token in (mine.token(), theirs.token())] == [200, 200]
        assert [view(sidecar, token, "/admin/x") for token in crossed] == [401, 401, 401]
        _same_subject(sidecar, mine, theirs)
    first.close()
    second.close()


def _same_subject(sidecar: Sidecar, mine: Mint, theirs: Mint) -> None:
    """The user a-1 of one pool is an admin, that of the other is not: neither's decision holds for the other."""
    user, admin = mine.token(), theirs.compact(theirs.header(), {**theirs.claims(), "cognito:groups": ["admin"]})
    for _ in range(2):
        assert view(sidecar, admin, "/admin/x") == 200
        assert view(sidecar, user, "/admin/x") == 403


RUNS = {
    "k01": many_unknown_keys,
    "k02": rotation,
    "k03": stale,
    "k04": never_any_key,
    "k06": redirected,
    "k08": two_pools,
    "c08": two_pools,
}
SLOW = ("k01", "k02", "k03")
"""They wait out the ten seconds between two fetches: started early, in a thread of their own."""
