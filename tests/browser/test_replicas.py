"""A session that lives in Redis moves between replicas, and ends on all of them."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from sidecar.demo.cognito import LocalCognito
from tests.browser.conftest import environ_of, sign_in, site
from tests.browser.test_password import heading
from tests.redis_server import NEEDS_REDIS, RedisServer
from tests.stack import Recorder


@NEEDS_REDIS
def test_a_session_moves_between_replicas_and_ends_on_both(
    page: Page, tmp_path: Path, cognito: LocalCognito, upstream: Recorder
) -> None:
    with RedisServer(tmp_path) as redis:
        environ = environ_of(cognito, SIDECAR_REDIS_URL=redis.url)
        with site(tmp_path / "a", upstream, environ) as one, site(tmp_path / "b", upstream, environ) as two:
            sign_in(page, f"http://127.0.0.1:{one.port}/me", "alice", "Alice-1234")
            (cookie,) = [each for each in page.context.cookies() if each["name"] == "__Host-session"]
            assert len(cookie["value"]) < 150
            page.goto(f"http://127.0.0.1:{two.port}/me")
            assert heading(page) == "GET /me alice user"
            for sidecar in (one, two):
                redis.pause()
                try:
                    got = sidecar.get("/me", accept="text/html", cookie=f"__Host-session={cookie['value']}")
                finally:
                    redis.resume()
                # neither signed in nor signed out: it could not be examined
                assert (got.status, got.header("set-cookie")) == (503, None)
                assert got.header("retry-after") is not None
            page.evaluate("fetch('/_sidecar/logout', {method: 'POST'})")
            page.wait_for_function("fetch('/me').then(answer => answer.status === 401)")
            page.goto(f"http://127.0.0.1:{one.port}/me")
            assert heading(page) == "Sign in"
            copy = f"__Host-session={cookie['value']}"
            assert one.get("/me", cookie=copy).status == two.get("/me", cookie=copy).status == 401
