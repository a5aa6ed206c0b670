"""The whole stack, each part started once: a local Cognito, a recording upstream, a lookup hook, and the sidecar."""

from __future__ import annotations

import functools
import gc
import logging
import os
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import certifi
import pytest
import yaml
from hypothesis import HealthCheck, settings

from sidecar.demo import cognito as local_cognito
from sidecar.demo import hosted_ui
from sidecar.demo.cognito import LocalCognito
from sidecar.pdp import cerbos_version, compiling
from tests import forked, forks, shared_cerbos
from tests.cerbos_answers import remembering
from tests.redis_server import BINARY as REDIS
from tests.redis_server import RedisServer
from tests.stack import ROOT, Recorder, Sidecar, Web, binary, free_port, running_sidecar

# properties are held by what they say, never by how long the machine takes to try them
settings.register_profile("all", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("half", settings.get_profile("all"), max_examples=50)
settings.register_profile("few", settings.get_profile("all"), max_examples=20)
settings.load_profile("all" if "CI" in os.environ else "half")

ROUTES = """\
version: 1
principal: {{id: username, roles: "cognito:groups"}}
lookups:
  contact:
    url: "http://127.0.0.1:{hook}/contacts/{{id}}"
    attributes: {{owner: owner_id}}
    echo: id
    timeout: 2s
  hidden: {{url: "http://127.0.0.1:{hook}/hidden/{{id}}", attributes: {{owner: owner_id}}, missing: hide}}
routes:
  - {{path: /public, access: public}}
  - {{path: "/static/**", access: public}}
  - {{path: /upload, access: authenticated, methods: [POST, PUT]}}
  - {{path: /me, access: authenticated}}
  - {{path: "/files/{{name:any}}", access: authenticated, allow: [encoded_slash]}}
  - {{path: /cors, access: authenticated, cors: {{origins: ["https://front.example"], headers: [authorization]}}}}
  - path: /contacts
    resource: contact
    attributes: {{owner: "{{query.owner}}"}}
    query: any
    actions: {{GET: list}}
  - path: /list
    resource: contact
    query: []
    actions: {{GET: list}}
    items: {{at: "@", id: id, attributes: {{owner: owner_id}}, fields: {{phone: view_phone}}}}
  - path: /new
    resource: contact
    attributes: {{owner: "{{body.owner}}"}}
    max_body: 1KiB
    actions: {{POST: create}}
  - path: /contacts/{{id}}
    resource: contact
    id: "{{path.id}}"
    lookup: contact
    actions: {{GET: read, PUT: update, PATCH: update, DELETE: delete, WS: read}}
  - {{path: "/hidden/{{id:int}}", resource: contact, id: "{{path.id}}", lookup: hidden, actions: {{GET: read, PUT: update}}}}
  - {{path: "/strangers/{{id}}", resource: stranger, id: "{{path.id}}", actions: {{GET: read}}}}
  - path: /sliced
    resource: contact
    query: []
    actions: {{GET: list}}
    mode: {{enforce: 0%, otherwise: shadow, budget: {{refusals: 1000}}}}
"""


@dataclass
class Stack:
    """What the tests share. `hook` knows the contacts 1, of alice, and 2, of bob."""

    cognito: LocalCognito
    upstream: Recorder
    hook: Web
    environ: dict[str, str]
    routes: str
    sidecar: Sidecar
    tokens: dict[str, str]


_SHARES = set[int]()
"""The process that has what all its tests share."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the first test of each process ask for what they all share: each other would look for it at each of its fixtures."""
    if os.getpid() not in _SHARES and isinstance(item, pytest.Function):
        item.fixturenames = ["shared_by_all", *item.fixturenames]


@pytest.fixture(scope="session")
def shared_by_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What all tests of a process share, whichever comes first."""
    with one_root(tmp_path_factory), one_answer_of_cerbos(tmp_path_factory), forked_demo(), one_parse():
        _SHARES.add(os.getpid())
        yield
        _SHARES.clear()
        # end what our processes fork from, and what they shared
        forked.close_stems()
        shared_cerbos.close()


@contextmanager
def one_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let httpx read one root certificate for each client instead of 140, which takes 25 ms: no test asks the internet."""
    end = "-----END CERTIFICATE-----\n"
    roots = tmp_path_factory.mktemp("roots") / "one.pem"
    roots.write_text(Path(certifi.where()).read_text().partition(end)[0] + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: str(roots))
        yield


@contextmanager
def forked_demo() -> Iterator[None]:
    """A Cognito and a hosted UI fork from what has imported moto, or uvicorn; tests/browser starts those of the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_cognito, "Process", forked.Forked)
        patch.setattr(hosted_ui, "Process", forked.Forked)
        yield


@contextmanager
def one_parse() -> Iterator[None]:
    """Parse the same YAML once, as a hundred tests read the same routes and policies. Whoever reads its nodes changes none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "compose", functools.lru_cache(256)(yaml.compose))
        yield


@contextmanager
def one_answer_of_cerbos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ask Cerbos once for its version, and once whether the same policies compile: a process of it each time."""
    try:
        program = binary()
    except OSError:
        # a copy of the checkout without what npm has installed: tests that need a Cerbos say so
        yield
        return
    folder = forks.shared_folder(tmp_path_factory) / "cerbos-answers"
    folder.mkdir(exist_ok=True)
    compile_once, ask_once = remembering(folder, program)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forked, "REMEMBERED", [str(folder), str(program)])
        patch.setattr(compiling, "compile_policies", compile_once)
        patch.setattr(cerbos_version, "version_of", ask_once)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """A test that runs a command, or explains a request, sets logging up for its process; the next has the old one. No
    fixture, as that takes longer than what it does."""
    ours = logging.getLogger("sidecar")
    before = ours.level, sys.unraisablehook, threading.excepthook
    try:
        return (yield)
    finally:
        level, sys.unraisablehook, threading.excepthook = before
        if ours.level != level:
            ours.setLevel(level)
        logging.captureWarnings(False)


@pytest.fixture
def embedded_shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands that a test runs in this process ask a Cerbos that tests share, unless it is marked `own_cerbos`."""
    if request.node.get_closest_marker("own_cerbos") is None:
        shared_cerbos.share(monkeypatch)


@pytest.fixture(scope="session")
def cognito(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCognito]:
    """A user pool with the users admin, alice and bob."""
    with LocalCognito(free_port(), tmp_path_factory.mktemp("cognito"), os.environ) as pool:
        yield pool


@pytest.fixture(scope="session")
def session_stack(cognito: LocalCognito, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The parts, running."""
    upstream, hook = Recorder(), Web()
    environ = {
        "AWS_REGION": cognito.region,
        "AWS_COGNITO_POOL_ID": cognito.pool_id,
        "AWS_COGNITO_CLIENT_ID": cognito.client_id,
        "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": cognito.endpoint,
    }
    routes = ROUTES.format(hook=hook.port)
    folder = tmp_path_factory.mktemp("sidecar")
    tokens = {user: cognito.token(user) for user in ("admin", "alice", "bob")}
    own = {"SIDECAR_ASSERTION": "ephemeral", "SIDECAR_UPSTREAM_HEAD_TIMEOUT": "1s"}
    with running_sidecar(
        folder, routes, policies(), f"http://127.0.0.1:{upstream.port}", {**environ, **own}
    ) as sidecar:
        yield Stack(cognito, upstream, hook, environ, routes, sidecar, tokens)
    upstream.close()
    hook.close()


def policies() -> Path:
    """The policies of the demo."""
    return ROOT / "policies"


@pytest.fixture
def stack(session_stack: Stack) -> Stack:
    """The parts, as if just started: nothing recorded, the two contacts known."""
    session_stack.upstream.reset()
    session_stack.hook.pages.clear()
    session_stack.hook.asked.clear()
    session_stack.hook.delay = 0.0
    session_stack.hook.json("/contacts/1", {"id": 1, "owner_id": "alice"})
    session_stack.hook.json("/contacts/2", {"id": 2, "owner_id": "bob"})
    return session_stack


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Give a test with a gzip file a name without it: the time is in it."""
    return argname if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let all processes of tests have what our processes fork from."""
    option = session.config.option
    pure = session.config.pluginmanager.has_plugin("tests.pure")
    if getattr(option, "forks", 0) and not option.collectonly and not pure:
        forked.plant()


def pytest_unconfigure() -> None:
    """End that. We wait for it, so that its time is counted as ours."""
    forked.close_stems()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Nothing that is collected is garbage: to look for it, then and at each later time, takes seconds. Tests leave little, so
    that Python is to look less often than it does by itself."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 20, 50)
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let properties run without a count of lines, which takes as long as they do: what they hold, other tests cover."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The one Redis process of a run."""
    if REDIS is None:
        pytest.skip("redis-server is not on PATH (apt-get install redis-server)")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(redis_process: RedisServer) -> Iterator[RedisServer]:
    """A real Redis, empty and running, whatever the test before did to it."""
    redis_process.clean()
    yield redis_process
    redis_process.clean()
