"""What a client can do by the host that it names: reach another app than the one that was decided on, or tell it another."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from tests.conftest import policies
from tests.faults.fakes import FakeCerbos
from tests.faults.test_faults import environment
from tests.stack import Recorder, Sidecar, Web, running_sidecar
from tests.tokens import claims, key_set, mint

STRANGER, PROXY = "127.0.0.2", "127.0.0.3"
"""Addresses that requests come from; the sidecar trusts the second."""
ROUTES = """\
version: 1
upstreams:
  blog: "http://127.0.0.1:{blog}"
  payroll: "http://127.0.0.1:{payroll}"
routes:
  - {{path: "/app/**", hosts: [blog.test, "*.blogs.test"], upstream: blog, access: public}}
  - {{path: "/app/**", hosts: [payroll.test], upstream: payroll, access: authenticated, methods: [GET]}}
"""
BLOG = b"Host: blog.test\r\n"


@dataclass
class World:
    """One sidecar before an app that everybody may read, and one for those who have signed in."""

    sidecar: Sidecar
    blog: Recorder
    payroll: Recorder

    def statuses(self, data: bytes, peer: str = STRANGER) -> list[int]:
        """The statuses of all answers to these bytes, the last of which ends the connection."""
        with closing(socket.create_connection(("127.0.0.1", self.sidecar.port), 20, (peer, 0))) as client:
            client.sendall(data)
            answer = b""
            while part := client.recv(65536):
                answer += part
        return [int(piece[:3]) for piece in answer.split(b"HTTP/1.1 ")[1:]]

    def told(self) -> list[tuple[str, list[str], list[str]]]:
        """Of each request that an app got since: the app, and the hosts that it was told."""
        apps = {"blog": self.blog, "payroll": self.payroll}
        got = [
            (name, seen.values("host"), seen.values("x-forwarded-host"))
            for name, app in apps.items()
            for seen in app.seen
        ]
        for app in apps.values():
            app.reset()
        return got


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, cerbos, blog, payroll = Web(), FakeCerbos(), Recorder(), Recorder()
    keys.json("/jwks", key_set())
    environ = {
        **environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}", "SIDECAR_TRUSTED_PROXIES": f"{PROXY}/32",
        "SIDECAR_HOSTS": "blog.test,*.blogs.test,payroll.test",
    }  # fmt: skip
    routes = ROUTES.format(blog=blog.port, payroll=payroll.port)
    with running_sidecar(tmp_path_factory.mktemp("hosts-hostile"), routes, policies(), "", environ) as sidecar:
        yield World(sidecar, blog, payroll)
    for part in (keys, cerbos, blog, payroll):
        part.close()


@pytest.fixture(autouse=True)
def fresh(world: World) -> None:
    world.told()


def get(*lines: bytes, target: bytes = b"/app/a", connection: bytes = b"close") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + b"".join(lines) + b"Connection: " + connection + b"\r\n\r\n"


SPELLINGS = (
    b"payroll.test.", b"payroll.test.:80", b"payroll.test:", b"payroll.test:65536",
    b"payroll.test:80:80", b"payroll.test:http", b"payroll%2etest", b"payroll\xe3\x80\x82test", "payroll\uff0etest".encode(),
    "\u24dfayroll.test".encode(), b"p\xc3\xa1yroll.test", b"payroll..test", b".payroll.test", b"*.payroll.test", b"*",
    b"payroll.test#", b"payroll.test?", b"payroll.test/", b"payroll.test\\", b"payroll.test;a", b"[payroll.test]",
    b"http://payroll.test", b"//payroll.test", b"a@payroll.test", b"blog.test@payroll.test", b"payroll.test,blog.test",
    b"payroll.test blog.test", b"payroll.test\tblog.test", b"payroll.test\x00", b"payroll.test\x0bblog.test", b'"payroll.test"',
    b"payroll.test\r\n blog.test", b"blog.test.", b"blogs.test", b"a.b.blogs.test", b".blogs.test", b"*.blogs.test",
    b"%61.blogs.test", b"a/../x.blogs.test", b"payroll.test/.blogs.test", b"payroll.test#.blogs.test", b"payroll.test:80.blogs.test",
    b"payroll.test@.blogs.test", b"payroll.test\\.blogs.test", b"payroll.test\x00.blogs.test", b"payroll.test_.blogs.test",
    b"", b" ", b"127.0.0.1", b"[::1]", b"localhost",
)  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS)
def test_a_host_has_one_spelling_and_no_other_reaches_an_app(world: World, host: bytes) -> None:
    token = mint(claims(time.time()))
    for more in (b"", b"Authorization: Bearer " + token + b"\r\n"):
        (status,) = world.statuses(get(b"Host: " + host + b"\r\n", more))
        assert status in (400, 421)
    assert world.told() == []


@pytest.mark.parametrize(
    "host", ["blog.test", "BLOG.Test", "blog.test:8443", "blog.test:080", "a.blogs.test", "A.BLOGS.TEST"]
)
def test_what_is_decided_is_what_the_app_is_told(world: World, host: str) -> None:
    assert world.statuses(get(b"Host:  " + host.encode() + b" \r\n")) == [200]
    assert world.told() == [("blog", [host], [host])]


TWO = {
    "two": get(BLOG, b"Host: payroll.test\r\n"),
    "two, the other first": get(b"Host: payroll.test\r\n", BLOG),
    "the same twice": get(BLOG, BLOG),
    "in other letters": get(BLOG, b"hOST: payroll.test\r\n"),
    "one empty": get(b"Host:\r\n", BLOG),
    "a blank before the colon": get(BLOG, b"Host : payroll.test\r\n"),
    "folded": get(BLOG, b"X-A: 1\r\n Host: payroll.test\r\n"),
    "a bare line feed": get(b"X-A: 1\nHost: payroll.test\r\n", BLOG),
    "a bare carriage return": get(b"X-A: 1\rHost: payroll.test\r\n", BLOG),
    "none": get(),
    "HTTP/1.0 without one": b"GET /app/a HTTP/1.0\r\n\r\n",
    "absolute": get(BLOG, target=b"http://payroll.test/app/a"),
    "absolute, the other way": get(b"Host: payroll.test\r\n", target=b"http://blog.test/app/a"),
    "absolute, the same": get(BLOG, target=b"http://blog.test/app/a"),
    "absolute, https": get(BLOG, target=b"https://payroll.test/app/a"),
    "absolute, in other letters": get(BLOG, target=b"HTTP://payroll.test/app/a"),
    "absolute, a person": get(BLOG, target=b"http://blog.test@payroll.test/app/a"),
    "absolute, no host": get(target=b"http:///app/a"),
    "authority": b"CONNECT payroll.test:80 HTTP/1.1\r\n" + BLOG + b"\r\n",
    "two slashes": get(BLOG, target=b"//payroll.test/app/a"),
    "a slash and a backslash": get(BLOG, target=b"/\\payroll.test/app/a"),
    "dots out of it": get(BLOG, target=b"/app/../../payroll.test/app/a"),
    "HTTP/2's name": get(BLOG, b":authority: payroll.test\r\n"),
}


@pytest.mark.parametrize("how", TWO)
def test_what_names_two_hosts_or_none_reaches_neither(world: World, how: str) -> None:
    (status,) = world.statuses(TWO[how])
    assert status in (400, 401, 405, 501)
    assert world.told() == []


ASIDE = (
    b"X-Forwarded-Host: payroll.test", b"X-Forwarded-Host: payroll.test, blog.test", b"X-Forwarded-Host: blog.test, payroll.test",
    b"X-Forwarded-Host: blog.test\r\nX-Forwarded-Host: payroll.test", b"X_Forwarded_Host: payroll.test",
    b"x-forwarded-HOST: payroll.test", b"Forwarded: host=payroll.test", b'Forwarded: for=1.1.1.1;host="payroll.test"',
    b"X-Forwarded-Server: payroll.test", b"X-Host: payroll.test", b"X-Original-Host: payroll.test", b"X-HTTP-Host-Override: payroll.test",
    b"X-Original-URL: http://payroll.test/app/a", b"X-Rewrite-URL: http://payroll.test/app/a", b"Referer: http://payroll.test/app/a",
    b"Origin: http://payroll.test", b"X-Forwarded-Port: 80.payroll.test", b"X-Forwarded-Prefix: //payroll.test",
    b"X-Forwarded-For: 127.0.0.3\r\nX-Forwarded-Host: payroll.test",
)  # fmt: skip


@pytest.mark.parametrize("header", ASIDE)
def test_a_stranger_chooses_no_app_by_another_header(world: World, header: bytes) -> None:
    (status,) = world.statuses(get(BLOG, header + b"\r\n"))
    told = world.told()
    # refused, or led by the host alone, and told nothing else
    assert (status, told) in ((200, [("blog", ["blog.test"], ["blog.test"])]), (400, []))


def test_the_host_is_each_requests_and_not_the_connections(world: World) -> None:
    token = b"Authorization: Bearer " + mint(claims(time.time())) + b"\r\n"
    payroll = b"Host: payroll.test\r\n"
    first = [(BLOG,), (payroll,), (payroll, token), (BLOG, token)]
    data = b"".join(get(*lines, connection=b"keep-alive") for lines in first) + get(b"Host: evil.test\r\n", token)
    assert world.statuses(data) == [200, 401, 200, 200, 421]
    assert [(app, hosts) for app, hosts, _ in world.told()] == [("blog", ["blog.test"])] * 2 + [
        ("payroll", ["payroll.test"])
    ]


AT_PROXY = {
    # both are ours: the app would go by the one, and its route by the other
    "one": (b"X-Forwarded-Host: payroll.test", 400),
    "one with a port": (b"X-Forwarded-Host: payroll.test:80", 400),
    "the same": (b"X-Forwarded-Host: blog.test", 200),
    "one that nobody named": (b"X-Forwarded-Host: evil.test", 400),
    "a dot at the end": (b"X-Forwarded-Host: payroll.test.", 400),
    "a person": (b"X-Forwarded-Host: blog.test@payroll.test", 400),
    "a path": (b"X-Forwarded-Host: payroll.test/blog.test", 400),
    # the proxy wrote the last one, its client those before
    "twice": (b"X-Forwarded-Host: blog.test\r\nX-Forwarded-Host: payroll.test", 400),
    "twice, the other way": (b"X-Forwarded-Host: payroll.test\r\nX-Forwarded-Host: blog.test", 200),
    "a list": (b"X-Forwarded-Host: payroll.test, blog.test", 200),
    # X-Forwarded-* count where there are any
    "and Forwarded": (b"X-Forwarded-Host: blog.test\r\nForwarded: for=192.0.2.1;host=payroll.test", 200),
    "none": (b"X-Forwarded-Host:", 200),
}


@pytest.mark.parametrize("how", AT_PROXY)
def test_a_trusted_proxys_word_leads_by_one_host_which_the_app_is_told(world: World, how: str) -> None:
    header, expected = AT_PROXY[how]
    assert world.statuses(get(BLOG, header + b"\r\n"), PROXY) == [expected]
    told = world.told()
    assert [(app, forwarded) for app, _, forwarded in told] == ([("blog", ["blog.test"])] if expected == 200 else [])
    assert "payroll" not in str(told)
