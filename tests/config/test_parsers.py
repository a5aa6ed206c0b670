"""`config/parsers.py`: what each kind of text is read as, and what it is refused for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config import parsers
from sidecar.config.parsers import Address


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parsers.url, "http://app:3000", "http://app:3000"),
        (parsers.url, "unix:/run/app.sock", "unix:/run/app.sock"),
        (parsers.address, "[::1]:80", Address("::1", 80)),
        (parsers.address, "unix:/run/s.sock", Address("", 0, "/run/s.sock")),
        (parsers.optional_address, "", None),
        (parsers.cerbos, "embedded", "embedded"),
        (parsers.pdp, "authzen+http://127.0.0.1:3592/tenant", "authzen+http://127.0.0.1:3592/tenant"),
        (parsers.items, " a, b ,,", ("a", "b")),
        (parsers.paths, "/logout, /a/b", ("/logout", "/a/b")),
        (parsers.hosts, "App.Example", frozenset({"app.example"})),
        (parsers.hosts, "", None),
        (parsers.hosts, "*.Example, b.test:1", frozenset({"*.example", "b.test:1"})),
        (parsers.mode, "0660", 0o660),
        (parsers.mode, "", -1),
        (parsers.owner, "www-data:1000", ("www-data", "1000")),
        (parsers.owner, ":nginx", ("", "nginx")),
        (parsers.owner, "", ("", "")),
        (parsers.redis, "rediss://h/1?ssl_cert_reqs=none&db=2", "rediss://h/1?ssl_cert_reqs=none&db=2"),
        (parsers.key_url, "http://localhost/keys", "http://localhost/keys"),
        (parsers.page_url, "https://app.example/x", "https://app.example/x"),
        (parsers.page_urls, "http://a.localhost:1/x, https://b/x", ("http://a.localhost:1/x", "https://b/x")),
        (parsers.domain, "contacts-7f3a", "contacts-7f3a"),
        (parsers.domain, "https://login.example/", "https://login.example"),
        (parsers.property_name, "acme.roles", "acme.roles"),
        (parsers.redis, "unix:///run/redis.sock", "unix:///run/redis.sock"),
        (parsers.count(1, 64), "64", 64),
        (parsers.one_of("on", "off"), "off", "off"),
    ],
)
def test_a_text_is_read(parse: Callable[[str], Any], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (parsers.url, "http://app:3000/path", "http(s)://host:port"),
        (parsers.address, "999.1.1.1:80", "the address of an interface"),
        (parsers.cerbos, "cerbos", "host:port"),
        (parsers.pdp, "authzen+http://pdp.example", "authzen+https"),
        (parsers.bearer, "two words", "a bearer token"),
        (parsers.property_name, "1roles", "the name of a property"),
        (parsers.key_url, "https://[:::1]/keys", "an IPv6 address in [:::1]"),
        (parsers.page_url, "https://[::::]/x", "an IPv6 address in [::::]"),
        (parsers.domain, "https://[::::]", "an IPv6 address in [::::]"),
        (parsers.paths, "logout", "paths such as /logout"),
        (parsers.paths, "/livez,/_sidecar/authorize", "none of the sidecar's own"),
        (parsers.networks, "::/0", "/0 would believe everybody"),
        (parsers.page_url, "http://app.example/", "an https URL"),
        (parsers.page_urls, "http://app.example/", "an https URL"),
        (parsers.page_urls, "http://localhost.example/", "an https URL"),
        (parsers.domain, "http://a.localhost", "an https URL"),
        (parsers.domain, "http://login.example", "an https URL"),
        (parsers.secrets, "short", "32 characters or more"),
        (parsers.user_and_password, "nobody", "user:password"),
        (parsers.load_balancers, "arn:aws:s3:::x", "ARNs such as"),
        (parsers.redis, "http://redis", "redis://host:port"),
        (parsers.redis, "redis://h?encoding=x", "with no option but client_name, db,"),
        (parsers.hosts, "https://app.example", "*.example.com"),
        (parsers.hosts, "app.example, a.*.example", "*.example.com"),
        (parsers.mode, "rw", "octal"),
        (parsers.mode, "9999", "octal"),
        (parsers.owner, "a b:c", "user:group"),
        (parsers.count(1, 64), "65", "a whole number from 1 to 64"),
        (parsers.one_of("on", "off"), "yes", "on or off"),
    ],
)
def test_a_text_is_refused(parse: Callable[[str], Any], text: str, says: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse(text)
    assert says in str(caught.value)
