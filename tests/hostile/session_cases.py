"""The session cases that hold without sessions: cookies that were tossed or forged, and a sign-out by an image."""

from __future__ import annotations

from tests.hostile.attempts import Case
from tests.hostile.wire import Client
from tests.hostile.world import World

FORGED = ("x", "k1.AAAA", "k2." + "A" * 200, "", "A" * 5000, '"quoted"', "a=b")


def tossed(world: World, case: Case) -> None:
    """o06: two session cookies in one header or in two."""
    for lines in (
        ["Cookie: __Host-session=a; __Host-session=b"],
        ["Cookie: __Host-session=a", "Cookie: x=1; __Host-session=b"],
        ["Cookie: __Host-session=a;__Host-session=a"],
        ["Cookie: __Host-session.1=a; __Host-session.1=b"],
    ):
        client = Client(world.sidecar.port)
        with client.socket:
            head = [
                "GET /docs/1 HTTP/1.1",
                "Host: app.test",
                f"Authorization: Bearer {world.token('alice')}",
                *lines,
                "",
                "",
            ]
            client.send("\r\n".join(head).encode("latin-1"))
            assert client.reply().status == case["expect"]["status"], lines
    assert world.upstream.received == b""


def forged(world: World, case: Case) -> None:
    """o07: a cookie that is no session is 401, is cleared, and with it nothing else is set."""
    for value in FORGED:
        got = world.sidecar.get("/docs/1", host="app.test", cookie=f"__Host-session={value}")
        assert got.status == case["expect"]["status"]
        cookies = [value for name, value in got.headers if name == "set-cookie"]
        assert cookies == ["__Host-session=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"]
    assert world.sidecar.get("/docs/1", host="app.test", cookie="other=1").header("set-cookie") is None
    assert world.upstream.received == b""


def attributes(world: World, case: Case) -> None:
    """o09: whatever cookie the sidecar sets has the prefix and the attributes, by plain http too."""
    wanted = case["expect"]["must"]
    got = world.sidecar.get("/docs/1", host="app.test", cookie="__Host-session=x", x_forwarded_proto="http")
    cookie = got.header("set-cookie") or ""
    for word in ("__Host-", "Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert word in wanted
        assert word in cookie
    assert "Domain" not in cookie
    assert len(cookie) <= 4096


def by_image(world: World, case: Case) -> None:
    """o13: a GET signs nobody out."""
    for path in ("/_sidecar/logout", "/logout"):
        got = world.sidecar.get(
            path, host="app.test", accept="image/*", referer="https://evil.test/", cookie="__Host-session=x"
        )
        assert got.status in case["expect"]["status"]
    assert world.upstream.received == b""


RUNS = {"o06": tossed, "o07": forged, "o09": attributes, "o13": by_image}
