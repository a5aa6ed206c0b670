"""Texts of settings -> values, one function for each kind. Each raises ValueError that says what was expected."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from typing import NamedTuple

from sidecar.config import units
from sidecar.config.placeholders import require_drawn, require_own, require_own_password
from sidecar.gate.own import PREFIX
from sidecar.wire.grammar import AUTHORITY, HOST, PORT, host_and_port, is_host

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MIN_LARGE = 1024**2
"""Bytes of a log that is rotated."""
MIN_SECRET = 32
"""Characters of a session secret: 128 bits even in hexadecimal."""


class Address(NamedTuple):
    """Where to listen: `host` and `port`, or a unix socket's `path`."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"{host}:{self.port}"


def url(text: str) -> str:
    if not re.fullmatch(rf"https?://{AUTHORITY}|unix:/.+", text):
        raise ValueError("expected http(s)://host:port or unix:/path")
    return text


def optional_url(text: str) -> str:
    return url(text) if text else ""


def address(text: str) -> Address:
    if text.startswith("unix:/"):
        return Address("", 0, text.removeprefix("unix:"))
    address = host_and_port(text)
    if address is None:
        raise ValueError("expected host:port or unix:/path")
    _require_address(address[0])
    return Address(*address)


def mode(text: str) -> int:
    """The mode of a file, -1 for none."""
    if text and not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError("expected three octal digits, such as 0660")
    return int(text, 8) if text else -1


def owner(text: str) -> tuple[str, str]:
    """-> (user, group), each "" where it stays as it is."""
    user, _, group = text.partition(":")
    if not re.fullmatch(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?", text):
        raise ValueError("expected user:group, user or :group, by name or number")
    return user, group


def _require_address(host: str) -> None:
    """Look whether a host that can only be an address is one, as the system reads it. Raises ValueError."""
    try:
        if ":" in host:
            socket.inet_pton(socket.AF_INET6, host)
        elif re.fullmatch(r"[0-9.]+", host):
            socket.inet_aton(host)
    except OSError:
        raise ValueError("expected the address of an interface of this machine, and a port") from None


def optional_address(text: str) -> Address | None:
    return address(text) if text else None


def cerbos(text: str) -> str:
    if text != "embedded" and not re.fullmatch(rf"unix:/.+|{HOST}:{PORT}", text):
        raise ValueError("expected embedded, host:port or unix:/path")
    return text


_PDP = re.compile(rf"authzen\+(?:unix:/.+|(https?)://({HOST})(?::{PORT})?(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?)")


def pdp(text: str) -> str:
    """A PDP is asked over TLS, unless it is on this machine: who can answer in its place lets everybody in."""
    match = _PDP.fullmatch(text) if text else None
    if text and match is None:
        raise ValueError("expected authzen+https://host/path or authzen+unix:/path")
    if match is not None and match[1] == "http" and not units.is_loopback(match[2]):
        raise ValueError("expected authzen+https: only a loopback host may be asked over plain http")
    return text


def bearer(text: str) -> str:
    """A `b64token` (RFC 6750 section 2.1)."""
    if text and not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", text):
        raise ValueError("expected a bearer token: letters, digits and ._~+/-")
    return require_own(text, "the PDP gives it")


def property_name(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.:-]*", text):
        raise ValueError("expected the name of a property")
    return text


def one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected {' or '.join(words)}")
        return text

    return parse


def count(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or not least <= int(text) <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return int(text)

    return parse


def items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def large_size(text: str) -> int:
    """Bytes of a log, of which each of its files gets a part, or of what many share."""
    size = units.size(text)
    if size < MIN_LARGE:
        raise ValueError("expected 1MiB or more")
    return size


def attributes(text: str) -> tuple[str, ...]:
    """Names of attributes with whose they are: `owner` is `resource.owner`."""
    names = items(text)
    if not all(re.fullmatch(r"(?:(?:resource|principal)\.)?[A-Za-z_][A-Za-z0-9_-]*", name) for name in names):
        raise ValueError("expected names such as owner, resource.owner or principal.level, and no wildcard")
    return tuple(name if "." in name else f"resource.{name}" for name in names)


def paths(text: str) -> tuple[str, ...]:
    paths = items(text)
    if not all(re.fullmatch(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", path) for path in paths):
        raise ValueError("expected paths such as /logout")
    if any(path.startswith(PREFIX) for path in paths):
        # a health check's 200 at the path where a proxy asks would allow everything
        raise ValueError(f"expected paths of the app's, and none of the sidecar's own ({PREFIX})")
    return paths


def server_name(text: str) -> str:
    """A name or an address that a certificate can have, without a port."""
    if text and not re.fullmatch(HOST, text):
        raise ValueError("expected a host's name, without scheme and port")
    return text.strip("[]")


def hosts(text: str) -> frozenset[str] | None:
    hosts = frozenset(host.lower() for host in items(text))
    for host in hosts:
        if not is_host(host.removeprefix("*.").encode("utf-8")):
            raise ValueError("expected hosts such as app.example.com, app.example.com:8443 or *.example.com")
    return hosts or None


def networks(text: str) -> tuple[Network, ...]:
    try:
        networks = tuple(ipaddress.ip_network(item) for item in items(text))
    except ValueError as error:
        raise ValueError(f"expected CIDRs such as 10.0.0.0/8: {error}") from None
    if any(network.prefixlen == 0 for network in networks):
        raise ValueError("expected the proxies' own networks: /0 would believe everybody")
    return networks


def proxy(text: str) -> str:
    if text and not re.fullmatch(rf"https?://(?:[!-.0-?A-~]+@)?{HOST}:{PORT}/?", text):
        raise ValueError("expected http(s)://host:port")
    return text


def key_url(text: str) -> str:
    """A key server is asked over TLS, unless it is on this machine (R14)."""
    match = re.fullmatch(rf"(https?)://({HOST})(:{PORT})?(/\S*)?", text) if text else None
    if text and match is None:
        raise ValueError("expected an https URL")
    if match is not None and match[1] == "http" and not units.is_loopback(match[2]):
        raise ValueError("expected https: only a loopback host may be asked over plain http")
    _require_literal(match)
    return text


def page_url(text: str) -> str:
    """A URL that Cognito sends browsers to: https, or http on this machine (AWS, "Configuring an app client")."""
    return _page_url(text, units.is_loopback)


def page_urls(text: str) -> tuple[str, ...]:
    """Some of them, which nobody but a browser asks: to it every name below `localhost` is this machine (RFC 6761
    section 6.3)."""
    return tuple(
        _page_url(url, lambda host: units.is_loopback(host) or host.endswith(".localhost")) for url in items(text)
    )


def _page_url(text: str, is_here: Callable[[str], bool]) -> str:
    match = re.fullmatch(rf"(https?)://({HOST})(:{PORT})?(/[!-\"$-~]*)?", text)
    if text and (match is None or (match[1] == "http" and not is_here(match[2]))):
        raise ValueError("expected an https URL, or http on a loopback host")
    _require_literal(match)
    return text


def _require_literal(match: re.Match[str] | None) -> None:
    """Raise ValueError unless a host in brackets, the second group of `match`, is an IPv6 address (RFC 3986)."""
    if match is not None and match[2].startswith("["):
        try:
            socket.inet_pton(socket.AF_INET6, match[2].strip("[]"))
        except OSError:
            raise ValueError(f"expected an IPv6 address in {match[2]}") from None


def domain(text: str) -> str:
    return text if re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", text) else page_url(text).rstrip("/")


def secrets(text: str) -> tuple[str, ...]:
    secrets = items(text)
    if any(len(secret) < MIN_SECRET for secret in secrets):
        raise ValueError(f"expected {MIN_SECRET} characters or more in each secret: {_DRAW}")
    return tuple(require_drawn(secret, _DRAW) for secret in secrets)


_DRAW = "openssl rand -base64 32"


def client_secrets(text: str) -> tuple[str, ...]:
    make = "aws cognito-idp describe-user-pool-client shows it, and an app client without one needs none"
    return tuple(require_own(secret, make) for secret in items(text))


def scopes(text: str) -> tuple[str, ...]:
    """Scope tokens (RFC 6749 section 3.3), with the one of OpenID Connect: without it there is no id token."""
    scopes = items(text)
    if not all(re.fullmatch(r"[!#-\[\]-~]+", scope) for scope in scopes):
        raise ValueError("expected scopes with a comma between two, such as openid,email")
    if "openid" not in scopes:
        raise ValueError("expected openid among the scopes: a sign-in needs the id token")
    return scopes


def user_and_password(text: str) -> str:
    if text and not re.fullmatch(r"[!-9;-~]+:[!-~]+", text):
        raise ValueError("expected user:password, in printable ASCII without spaces")
    return require_own(text, "the one whose hash Cerbos has in server.adminAPI.adminCredentials")


_LOAD_BALANCER = re.compile(
    r"arn:(?:aws|aws-us-gov):elasticloadbalancing:[a-z]{2}(?:-[a-z]+)+-\d:\d{12}:loadbalancer/app/[A-Za-z0-9-]+/[0-9a-f]+"
)


def load_balancers(text: str) -> tuple[str, ...]:
    """Where the keys are is told by the ARN, so that its form decides to whom we connect."""
    arns = items(text)
    if not all(_LOAD_BALANCER.fullmatch(arn) for arn in arns):
        raise ValueError(
            "expected ARNs such as "
            "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188"
        )
    return arns


_REDIS_OPTIONS = frozenset((
    "db", "username", "password", "client_name", "health_check_interval", "ssl_cert_reqs", "ssl_ca_certs",
    "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_min_version",
))  # fmt: skip
"""Options of a Redis URL that change nothing of how we read its answers."""


def redis(text: str) -> str:
    if text and not re.fullmatch(r"(?:rediss?|unix)://\S+", text):
        raise ValueError("expected redis://host:port, rediss://host:port or unix:///path")
    names = {pair.partition("=")[0] for pair in text.partition("?")[2].split("&")} - {""}
    if not names <= _REDIS_OPTIONS:
        raise ValueError(f"expected redis://host:port/database, with no option but {', '.join(sorted(_REDIS_OPTIONS))}")
    return require_own_password(text, "openssl rand -hex 24, which Redis has as requirepass")
