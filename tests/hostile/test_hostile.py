"""Every case of hostile.yaml, each with all its variants, against the running sidecar."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hostile import cache_cases, key_cases, load_cases, lookup_cases, reuse, session_cases, socket_cases
from tests.hostile.attempts import Case, attempts_of
from tests.hostile.forgeries import FORGERIES
from tests.hostile.runner import CHECKS, DIFFERS, run_case
from tests.hostile.world import FOLDER, World, running_world
from tests.stack import ROOT

DOCUMENT: dict[str, Any] = yaml.safe_load((FOLDER / "hostile.yaml").read_text(encoding="utf-8"))
CASES: dict[str, Case] = {case["id"]: case for case in DOCUMENT["cases"]}

DIGEST = "57cebb7f46add710cfd8bcab461a11ac8c8f27410be642ab369d752b7ac74d06"
"""Of the file: a case is added or changed with its reason, and none is edited away to make a test pass."""

_BYTES = {"path", "method", "headers", "smuggling", "query", "body", "jwt"}
"""Categories whose cases are requests of bytes, or of tokens that are made from the words of the case."""
REUSED = ("s23", "s24", "s26", "s27", "s29")
"""Cases of a poisoned upstream connection: what the next client gets is what matters."""
OF_BYTES = ("l01", *(name for name, case in CASES.items() if case["cat"] in _BYTES and name not in REUSED))

RUNS: dict[str, Callable[[World, Case], None]] = {
    **dict.fromkeys(REUSED, reuse.run),
    **key_cases.RUNS,
    **lookup_cases.RUNS,
    **cache_cases.RUNS,
    **load_cases.RUNS,
    **socket_cases.RUNS,
    **session_cases.RUNS,
}
"""Cases in words, each with what it means."""
SLOW = (*key_cases.SLOW, *load_cases.SLOW)

NAMED = {
    "k01": "tests/trust/test_jwks.py::test_a_flood_of_made_up_keys_costs_two_fetches_a_minute",
    "k03": "tests/trust/test_jwks.py::test_a_known_key_outlives_its_server_for_a_day",
}
"""Cases that take longer than a test may: run here for their first seconds, and to their end by a test with a clock."""

ELSEWHERE = {
    "o01": "tests/browser/test_hosted.py::test_a_callback_is_taken_once_from_the_browser_that_began",
    "o02": "tests/browser/test_hosted.py::test_a_code_of_another_sign_in_is_none",
    "o03": "tests/browser/test_hosted.py::test_an_id_token_with_another_nonce_is_none",
    "o04": "tests/run/test_sign_in.py::test_tokens_that_do_not_belong_to_this_sign_in_are_none",
    "o08": "tests/pages/test_login.py::test_a_session_that_somebody_planted_is_replaced_at_the_sign_in",
    "o11": "tests/browser/test_hosted.py::test_a_renewal_that_fails_extends_nothing_and_a_program_is_not_redirected",
    "o14": "tests/browser/test_hosted.py::test_what_an_error_says_is_shown_as_text_alone",
    "o15": "tests/pages/test_login.py::test_the_app_gets_who_it_is_and_neither_session_nor_token",
    "o16": "tests/pages/test_login.py::test_answers_around_a_sign_in_are_never_stored",
    "w01": "tests/pages/test_login.py::test_another_site_opens_no_websocket_with_a_session",
}
"""Cases that need a sign-in, each run by a test that makes one."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The fixture of the file, running."""
    with running_world(Path(tmp_path_factory.mktemp("hostile"))) as running:
        yield running


@pytest.fixture(scope="module")
def slow(world: World, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    """The cases that wait for a clock, under way since the beginning: those that were selected."""
    chosen = {item.name for item in request.session.items}
    names = [name for name in SLOW if f"test_slow_words[{name}]" in chosen]
    with ThreadPoolExecutor(len(SLOW)) as pool:
        yield {name: pool.submit(RUNS[name], world, CASES[name]) for name in names}


@pytest.mark.parametrize("name", OF_BYTES)
def test_bytes(world: World, slow: dict[str, Future[None]], name: str) -> None:
    """What is sent gets the answer that the case says, and the upstream sees only what it may."""
    assert run_case(world, CASES[name]) >= 1


@pytest.mark.parametrize("name", [name for name in RUNS if name not in SLOW])
def test_words(world: World, slow: dict[str, Future[None]], name: str) -> None:
    """What the words of the case say happens."""
    world.fresh()
    RUNS[name](world, CASES[name])


@pytest.mark.parametrize("name", SLOW)
def test_slow_words(slow: dict[str, Future[None]], name: str) -> None:
    """What the words of the case say happens, in its time."""
    slow[name].result(60)


def test_own_cookies_never_reach_the_upstream(world: World) -> None:
    """What of o15 holds without sessions: a cookie of a name of ours is taken out, and others stay."""
    world.fresh()
    cookie = "a=1; __Host-session=SECRET; __Host-login-x=SECRET; b=2"
    assert world.sidecar.get("/public/a", host="app.test", cookie=cookie).status == 200
    assert world.upstream.seen[0].values("cookie") == ["a=1; b=2"]
    assert b"SECRET" not in world.upstream.received


@pytest.mark.parametrize(
    ("path", "user", "status"), [("/docs/1", None, 401), ("/docs/1", "bob", 403), ("/nowhere", None, 403)]
)
def test_a_refusal_is_nobody_elses(world: World, path: str, user: str | None, status: int) -> None:
    """What of o16 holds without sessions: no cache may keep a refusal, or take it for another client's answer."""
    for accept in ("*/*", "text/html"):
        got = world.sidecar.get(path, world.token(user) if user else None, host="app.test", accept=accept)
        assert got.status == status
        assert got.header("cache-control") == "no-store"
        assert got.header("vary") == "Cookie, Authorization"


def test_every_case_is_run_here_or_elsewhere() -> None:
    """No case is left out, and none is in two places."""
    places = [*OF_BYTES, *RUNS, *ELSEWHERE]
    assert set(NAMED) <= set(RUNS)
    assert sorted(places) == sorted(CASES)
    assert len(CASES) == len(DOCUMENT["cases"]) == 119
    assert hashlib.sha256((FOLDER / "hostile.yaml").read_bytes()).hexdigest() == DIGEST
    sessions = {name for name, case in CASES.items() if case["cat"] == "session"}
    assert set(ELSEWHERE) == (sessions | {"w01"}) - set(session_cases.RUNS)
    assert set(FORGERIES) | {"j20"} == {name for name, case in CASES.items() if case["cat"] == "jwt"}


def test_every_named_test_exists() -> None:
    """A case which another test covers is covered by a test that is there."""
    for place in (*NAMED.values(), *ELSEWHERE.values()):
        file, _, name = place.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(), place


def test_every_word_of_a_case_of_bytes_is_understood() -> None:
    """A word of `expect` that nobody reads would be a case that cannot fail."""
    for name in OF_BYTES:
        assert set(CASES[name]["expect"]) <= set(CHECKS), name


def test_every_difference_is_one() -> None:
    """Where a stricter rule refuses earlier than a case says, its attempt exists, and its status is another refusal."""
    known = {
        (name, attempt.name)
        for name in ("m01", "b03")
        for attempt in attempts_of(CASES[name], lambda user: user)
    }  # fmt: skip
    for (name, attempt), (status, _) in DIFFERS.items():
        assert (name, attempt) in known or CASES[name]["cat"] == "jwt"
        expected = CASES[name]["expect"]["status"]
        assert status not in (expected if isinstance(expected, list) else [expected])
        assert status in (400, 431)
        assert CASES[name]["expect"]["upstream"] == "never"
