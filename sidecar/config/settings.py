"""Where the sidecar runs: environment and flags -> one frozen `Settings`, every fault at once."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sidecar.config import units
from sidecar.config.placeholders import PUBLISHED, require_drawn, require_own, require_own_password
from sidecar.config.suggest import did_you_mean
from sidecar.gate.own import CALLBACK_PATH
from sidecar.wire.grammar import AUTHORITY, HOST, PORT, host_and_port

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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


class SettingsError(Exception):
    """The settings cannot be used; `problems` are all of their faults, a line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, parsed. Durations are seconds."""

    upstream: str
    upstream_ca: str
    upstream_connect_timeout: float
    upstream_head_timeout: float
    upstream_idle_timeout: float
    listen: Address
    admin_listen: Address
    ext_authz_listen: Address | None
    routes: str
    cerbos: str
    cerbos_binary: str
    cerbos_strict: str
    cerbos_timeout: float
    cerbos_admin: str
    cerbos_tls: str
    cerbos_ca: str
    cerbos_certificate: str
    cerbos_key: str
    policies: str
    pdp: str
    pdp_token: str
    pdp_ca: str
    pdp_roles: str
    mode: str
    workers: int
    hosts: frozenset[str] | None
    trusted_proxies: tuple[Network, ...]
    forward_auth: str
    max_connections: int
    ws_max_message: int
    decision_log: str
    assertion: str
    drain_delay: float
    shutdown_timeout: float
    log_level: str
    traces: str
    region: str
    pool_id: str
    client_ids: tuple[str, ...]
    client_secret: str
    login: str
    password_flow: str
    domain: str
    callback_url: str
    logout_url: str
    logout: str
    logout_paths: tuple[str, ...]
    session_secrets: tuple[str, ...]
    session_idle: float
    session_lifetime: float
    redis_url: str
    console: str
    console_admin: str
    templates: str
    alb_signers: tuple[str, ...]
    cognito_endpoint: str
    issuers: tuple[str, ...]
    jwks_url: str

    @property
    def cerbos_by_tls(self) -> bool:
        """Return whether Cerbos is asked over TLS."""
        return self.cerbos_tls == "on" or (self.cerbos_tls == "auto" and bool(self.cerbos_ca))

    @property
    def login_modes(self) -> frozenset[str]:
        """How a person may sign in: of `hosted` and `password`."""
        chosen = self.login if self.login != "auto" else "hosted" if self.domain else "off"
        return frozenset({"off": (), "both": ("hosted", "password")}.get(chosen, (chosen,)))

    @property
    def callback(self) -> str:
        """Where the hosted UI sends a browser back to; "" where no setting tells it. Never of a request (R18)."""
        if self.callback_url:
            return self.callback_url
        return f"https://{next(iter(self.hosts))}{CALLBACK_PATH}" if self.hosts and len(self.hosts) == 1 else ""


class Setting(NamedTuple):
    """One setting: its variable, the field of `Settings`, how its text is read, its default as text, what it is."""

    variable: str
    field: str
    parse: Callable[[str], Any]
    default: str | None
    doc: str
    secret: bool = False

    @property
    def flag(self) -> str:
        """The option of `sidecar run` for it: `--upstream` for SIDECAR_UPSTREAM, `--aws-region` for AWS_REGION."""
        return "--" + self.variable.removeprefix("SIDECAR_").lower().replace("_", "-")

    def problem(self, text: str | None) -> str:
        """Say what is wrong with a text, "" where nothing is. Of a secret, without what it is."""
        if text is None:
            return f"{self.variable}: not set, expected {self.doc}"
        try:
            self.parse(text)
        except ValueError as error:
            message = str(error)
            found = "" if self.secret or message.startswith("found") else f"found {text!r}, "
            return f"{self.variable}: {found}{message}"
        return ""


def _url(text: str) -> str:
    if not re.fullmatch(rf"https?://{AUTHORITY}|unix:/.+", text):
        raise ValueError("expected http(s)://host:port or unix:/path")
    return text


def _address(text: str) -> Address:
    if text.startswith("unix:/"):
        return Address("", 0, text.removeprefix("unix:"))
    address = host_and_port(text)
    if address is None:
        raise ValueError("expected host:port or unix:/path")
    _require_address(address[0])
    return Address(*address)


def _require_address(host: str) -> None:
    """Look whether a host that can only be an address is one, as the system reads it. Raises ValueError."""
    try:
        if ":" in host:
            socket.inet_pton(socket.AF_INET6, host)
        elif re.fullmatch(r"[0-9.]+", host):
            socket.inet_aton(host)
    except OSError:
        raise ValueError("expected the address of an interface of this machine, and a port") from None


def _optional_address(text: str) -> Address | None:
    return _address(text) if text else None


def _cerbos(text: str) -> str:
    if text != "embedded" and not re.fullmatch(rf"unix:/.+|{HOST}:{PORT}", text):
        raise ValueError("expected embedded, host:port or unix:/path")
    return text


_PDP = re.compile(rf"authzen\+(?:unix:/.+|(https?)://({HOST})(?::{PORT})?(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?)")


def _pdp(text: str) -> str:
    """A PDP is asked over TLS, unless it is on this machine: who can answer in its place lets everybody in."""
    match = _PDP.fullmatch(text) if text else None
    if text and match is None:
        raise ValueError("expected authzen+https://host/path or authzen+unix:/path")
    if match is not None and match[1] == "http" and not units.is_loopback(match[2]):
        raise ValueError("expected authzen+https: only a loopback host may be asked over plain http")
    return text


def _bearer(text: str) -> str:
    """A `b64token` (RFC 6750 section 2.1)."""
    if text and not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", text):
        raise ValueError("expected a bearer token: letters, digits and ._~+/-")
    return require_own(text, "the PDP gives it")


def _property(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.:-]*", text):
        raise ValueError("expected the name of a property")
    return text


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"expected {' or '.join(words)}")
        return text

    return parse


def _count(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or not least <= int(text) <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return int(text)

    return parse


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _paths(text: str) -> tuple[str, ...]:
    paths = _list(text)
    if not all(re.fullmatch(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", path) for path in paths):
        raise ValueError("expected paths such as /logout")
    return paths


def _hosts(text: str) -> frozenset[str] | None:
    return frozenset(host.lower() for host in _list(text)) or None


def _networks(text: str) -> tuple[Network, ...]:
    try:
        networks = tuple(ipaddress.ip_network(item) for item in _list(text))
    except ValueError as error:
        raise ValueError(f"expected CIDRs such as 10.0.0.0/8: {error}") from None
    if any(network.prefixlen == 0 for network in networks):
        raise ValueError("expected the proxies' own networks: /0 would believe everybody")
    return networks


def _key_url(text: str) -> str:
    """A key server is asked over TLS, unless it is on this machine (R14)."""
    match = re.fullmatch(rf"(https?)://({HOST})(:{PORT})?(/\S*)?", text) if text else None
    if text and match is None:
        raise ValueError("expected an http(s) URL")
    if match is not None and match[1] == "http" and not units.is_loopback(match[2]):
        raise ValueError("expected https: only a loopback host may be asked over plain http")
    return text


def _page_url(text: str) -> str:
    """A URL that Cognito sends browsers to: https, or http on this machine (AWS, "Configuring an app client")."""
    match = re.fullmatch(rf"(https?)://({HOST})(:{PORT})?(/[!-\"$-~]*)?", text)
    if text and (match is None or (match[1] == "http" and not units.is_loopback(match[2]))):
        raise ValueError("expected an https URL, or http on a loopback host")
    return text


def _domain(text: str) -> str:
    return text if re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", text) else _page_url(text).rstrip("/")


def _secrets(text: str) -> tuple[str, ...]:
    secrets = _list(text)
    if any(len(secret) < MIN_SECRET for secret in secrets):
        raise ValueError(f"expected {MIN_SECRET} characters or more in each secret: {_DRAW}")
    return tuple(require_drawn(secret, _DRAW) for secret in secrets)


_DRAW = "openssl rand -base64 32"


def _client_secret(text: str) -> str:
    return require_own(
        text, "aws cognito-idp describe-user-pool-client shows it, and an app client without one needs none"
    )


def _user_and_password(text: str) -> str:
    if text and not re.fullmatch(r"[!-9;-~]+:[!-~]+", text):
        raise ValueError("expected user:password, in printable ASCII without spaces")
    return require_own(text, "the one whose hash Cerbos has in server.adminAPI.adminCredentials")


_LOAD_BALANCER = re.compile(
    r"arn:(?:aws|aws-us-gov):elasticloadbalancing:[a-z]{2}(?:-[a-z]+)+-\d:\d{12}:loadbalancer/app/[A-Za-z0-9-]+/[0-9a-f]+"
)


def _load_balancers(text: str) -> tuple[str, ...]:
    """Where the keys are is told by the ARN, so that its form decides to whom we connect."""
    arns = _list(text)
    if not all(_LOAD_BALANCER.fullmatch(arn) for arn in arns):
        raise ValueError(
            "expected ARNs such as arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188"
        )
    return arns


def _redis(text: str) -> str:
    if text and not re.fullmatch(r"(?:rediss?|unix)://\S+", text):
        raise ValueError("expected redis://host:port, rediss://host:port or unix:///path")
    return require_own_password(text, "openssl rand -hex 24, which Redis has as requirepass")


SETTINGS = (
    Setting("SIDECAR_UPSTREAM", "upstream", _url, None, "the protected app: `http(s)://host:port`, or `unix:/path`"),
    Setting("SIDECAR_UPSTREAM_CA", "upstream_ca", str, "", "PEM file of the CAs that an `https` upstream may be signed by; the system's without it"),
    Setting("SIDECAR_UPSTREAM_CONNECT_TIMEOUT", "upstream_connect_timeout", units.duration, "2s", "for a connection to the upstream"),
    Setting("SIDECAR_UPSTREAM_HEAD_TIMEOUT", "upstream_head_timeout", units.duration, "30s", "for the head of its answer"),
    Setting("SIDECAR_UPSTREAM_IDLE_TIMEOUT", "upstream_idle_timeout", units.duration, "60s", "between two pieces of its answer"),
    Setting("SIDECAR_LISTEN", "listen", _address, "0.0.0.0:8080", "`host:port` or `unix:/path` for traffic"),
    Setting("SIDECAR_ADMIN_LISTEN", "admin_listen", _address, "127.0.0.1:9901", "health, metrics, config view; never the traffic port"),
    Setting("SIDECAR_EXT_AUTHZ_LISTEN", "ext_authz_listen", _optional_address, "", "`host:port` or `unix:/path`: answer Envoy's ext_authz (gRPC v3) there; whoever reaches it is believed; needs the extra `envoy`"),
    Setting("SIDECAR_ROUTES", "routes", str, "routes.yaml", "the route file"),
    Setting("SIDECAR_CERBOS", "cerbos", _cerbos, "embedded", "`embedded` (run and watch the Cerbos binary on a private unix socket), `host:port` or `unix:/path` (gRPC)"),
    Setting("SIDECAR_CERBOS_BINARY", "cerbos_binary", str, "", "the binary for `embedded`; else `cerbos` on PATH, else that of the npm package"),
    Setting("SIDECAR_CERBOS_STRICT", "cerbos_strict", _one_of("on", "off"), "on", "`on`: the `embedded` Cerbos denies an action where a condition of one of its rules cannot be evaluated (0.55 and newer); `off`: such a rule is skipped, a DENY too"),
    Setting("SIDECAR_CERBOS_TIMEOUT", "cerbos_timeout", units.duration, "500ms", "for one decision, of `SIDECAR_PDP` too"),
    Setting("SIDECAR_CERBOS_ADMIN", "cerbos_admin", _user_and_password, "", "`user:password` of the Admin API of a Cerbos that we do not run: it is told to read its policies again whenever `SIDECAR_POLICIES` changes, and must prove that it has; turn its `watchForChanges` off", True),
    Setting("SIDECAR_CERBOS_TLS", "cerbos_tls", _one_of("auto", "on", "plaintext"), "auto", "how a Cerbos at `host:port` is asked, its Admin API too: `on`: over TLS; `plaintext`: without, which says that nobody else is in the network between; `auto`: over TLS with `SIDECAR_CERBOS_CA`, without on a loopback host, and not at all elsewhere"),
    Setting("SIDECAR_CERBOS_CA", "cerbos_ca", str, "", "PEM file of the CAs that it may be signed by; the system's without it"),
    Setting("SIDECAR_CERBOS_CERTIFICATE", "cerbos_certificate", str, "", "PEM file of our own certificate, where a Cerbos, or the proxy before it, asks for one"),
    Setting("SIDECAR_CERBOS_KEY", "cerbos_key", str, "", "PEM file of its key, without a pass phrase"),
    Setting("SIDECAR_POLICIES", "policies", str, "policies", "policy folder for `embedded`, or the one that `SIDECAR_CERBOS_ADMIN` is about"),
    Setting("SIDECAR_PDP", "pdp", _pdp, "", "a PDP that speaks OpenID AuthZEN 1.0, asked in place of Cerbos: `authzen+https://host/path`, `authzen+http://` on a loopback host, or `authzen+unix:/path`"),
    Setting("SIDECAR_PDP_TOKEN", "pdp_token", _bearer, "", "its bearer token", True),
    Setting("SIDECAR_PDP_CA", "pdp_ca", str, "", "PEM file of the CAs that it may be signed by; the system's without it"),
    Setting("SIDECAR_PDP_ROLES", "pdp_roles", _property, "", "one more property of the AuthZEN subject that holds its roles, for a PDP that does not read `cerbos.roles`"),
    Setting("SIDECAR_MODE", "mode", _one_of("enforce", "shadow"), "enforce", "`enforce`, or `shadow` (forward everything, record what would have been refused)"),
    Setting("SIDECAR_WORKERS", "workers", _count(1, 64), "1", "processes sharing the port"),
    Setting("SIDECAR_HOSTS", "hosts", _hosts, "", "hosts that a request may name (comma list, any case); another is 421; any without it"),
    Setting("SIDECAR_TRUSTED_PROXIES", "trusted_proxies", _networks, "", "CIDRs whose `X-Forwarded-*` is believed; from anyone else it is overwritten"),
    Setting("SIDECAR_FORWARD_AUTH", "forward_auth", _one_of("off", "nginx", "traefik", "caddy", "haproxy", "envoy"), "off", "the proxy that asks at `/_sidecar/authorize` and forwards by itself, from an address in `SIDECAR_TRUSTED_PROXIES`; `off`: nobody may ask"),
    Setting("SIDECAR_MAX_CONNECTIONS", "max_connections", _count(1, 1_000_000), "4096", "client connections at once, for each worker; beyond it 503. One client (by address, an IPv6 one by its /64) gets as many as are free, half of them at most; a proxy in `SIDECAR_TRUSTED_PROXIES` and a unix socket have no such share"),
    Setting("SIDECAR_WS_MAX_MESSAGE", "ws_max_message", units.size, "1MiB", "a WebSocket message of either side; a larger one closes with 1009"),
    Setting("SIDECAR_DECISION_LOG", "decision_log", str, "stdout", "`stdout`, or a file that lines are appended to"),
    Setting("SIDECAR_ASSERTION", "assertion", str, "off", "`off`, `ephemeral` (a key of this process), or a PEM file with a P-256 key: sign `X-Auth-Assertion`"),
    Setting("SIDECAR_DRAIN_DELAY", "drain_delay", units.duration, "0s", "after SIGTERM, between `/readyz` being 503 and no new connections: time for load balancers to notice"),
    Setting("SIDECAR_SHUTDOWN_TIMEOUT", "shutdown_timeout", units.duration, "30s", "for running requests after SIGTERM"),
    Setting("SIDECAR_LOG_LEVEL", "log_level", _one_of("debug", "info", "warning", "error"), "info", "of the log on stderr"),
    Setting("SIDECAR_TRACES", "traces", _one_of("off", "otlp"), "off", "`otlp`: OpenTelemetry traces by OTLP/HTTP, set up by its own variables such as `OTEL_EXPORTER_OTLP_ENDPOINT`; needs the extra `otel`"),
    Setting("AWS_REGION", "region", str, "", "the user pool's region; `AWS_DEFAULT_REGION` stands in for it"),
    Setting("AWS_COGNITO_POOL_ID", "pool_id", str, "", "the user pool"),
    Setting("AWS_COGNITO_CLIENT_ID", "client_ids", _list, "", "its app clients (comma list)"),
    Setting("AWS_COGNITO_CLIENT_SECRET", "client_secret", _client_secret, "", "the app client's secret", True),
    Setting("SIDECAR_LOGIN", "login", _one_of("auto", "off", "hosted", "password", "both"), "auto", "how a person signs in at `/_sidecar/login`: at Cognito's `hosted` UI, with our own `password` form, or `both`; `auto` is `hosted` with `AWS_COGNITO_DOMAIN`, else `off`"),
    Setting("SIDECAR_PASSWORD_FLOW", "password_flow", _one_of("srp", "password"), "srp", "what the form does with a password: `srp` (USER_SRP_AUTH: it never leaves the sidecar; needs the extra `srp`) or `password` (USER_PASSWORD_AUTH)"),
    Setting("AWS_COGNITO_DOMAIN", "domain", _domain, "", "the domain of managed login: its prefix, or its whole URL"),
    Setting("AWS_COGNITO_HOSTED_UI_CALLBACK_URL", "callback_url", _page_url, "", "as registered on the app client; else `https://<host>/_sidecar/callback` of the one host in `SIDECAR_HOSTS`"),
    Setting("AWS_COGNITO_HOSTED_UI_LOGOUT_URL", "logout_url", _page_url, "", "as registered on the app client: where a sign-out ends; else `/` of the callback's origin"),
    Setting("SIDECAR_LOGOUT", "logout", _one_of("local", "cognito"), "local", "what a sign-out ends: the `local` session and its refresh token, or `cognito`'s session too"),
    Setting("SIDECAR_LOGOUT_PATHS", "logout_paths", _paths, "", "the app's own sign-out paths (comma list, such as `/logout`) that are answered as `/_sidecar/logout` is: POST signs out, GET shows the button"),
    Setting("SIDECAR_SESSION_SECRET", "session_secrets", _secrets, "", "seals the cookies: 32 random characters or more, `openssl rand -base64 32`; of a comma list the first seals, and all open; the placeholders of documents are refused", True),
    Setting("SIDECAR_REDIS_URL", "redis_url", _redis, "", "`redis://`, `rediss://` or `unix://`: sessions live there, for several replicas; in the cookie itself without it", True),
    Setting("SIDECAR_SESSION_IDLE", "session_idle", units.duration, "8h", "after so long without a request a session ends"),
    Setting("SIDECAR_SESSION_LIFETIME", "session_lifetime", units.duration, "24h", "so long after the sign-in a session ends"),
    Setting("SIDECAR_CONSOLE", "console", _one_of("on", "off"), "on", "the page `/_sidecar/console`, for signed-in people"),
    Setting("SIDECAR_CONSOLE_ADMIN", "console_admin", str, "", "a role whose holders may ask the console as another principal, and see why a request is refused"),
    Setting("SIDECAR_TEMPLATES", "templates", str, "", "a folder with templates in place of our pages'"),
    Setting("SIDECAR_ALB_SIGNER", "alb_signers", _load_balancers, "", "ARNs (comma list) of load balancers whose `x-amzn-oidc-*` headers are taken for a session"),
    Setting("AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER", "cognito_endpoint", _key_url, "", "AWS's own variable for another endpoint (a local Cognito): API calls and keys go there, the issuer stays"),
    Setting("SIDECAR_ISSUER", "issuers", _list, "", "exact issuers (comma list) in place of the pool's two"),
    Setting("SIDECAR_JWKS_URL", "jwks_url", _key_url, "", "where the issuers' keys are"),
)  # fmt: skip

# Kubernetes gives a pod such variables for a Service that is named "sidecar" or "sidecar-...", with their values
# (kubernetes.io/docs/tutorials/services/connect-applications-service, "Environment Variables")
_OF_A_SERVICE = re.compile(
    r"SIDECAR_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST=.*|SERVICE_PORT(?:_[A-Z0-9_]+)?=[0-9]+|PORT=[a-z]+://.*"
    r"|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?=.*)"
)


class Understood(NamedTuple):
    """What settings say. Where one cannot be read, `problems` say so and its default stands in, so that whatever else
    is wrong is found too."""

    settings: Settings
    problems: tuple[str, ...]


_STAND_INS = {"SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_CERBOS": "127.0.0.1:1"}
"""In place of a default where there is none, or where it would have us look for more files."""


def understand(environ: Mapping[str, str], flags: Mapping[str, str]) -> Understood:
    """Parse the environment, with `flags` (variable -> text) before it."""
    problems = [
        f"{name}: unknown setting{did_you_mean(name, _VARIABLES, 'SIDECAR_')}"
        for name in sorted(environ)
        if name.startswith("SIDECAR_")
        and name not in _VARIABLES
        and not _OF_A_SERVICE.fullmatch(f"{name}={environ[name]}")
    ]
    values: dict[str, Any] = {}
    unread = set()
    texts = {**environ, **flags}
    texts.setdefault("AWS_REGION", texts.get("AWS_DEFAULT_REGION", ""))
    for setting in SETTINGS:
        text = texts.get(setting.variable) or setting.default
        problem = setting.problem(text)
        if problem:
            problems.append(problem)
            unread.add(setting.variable)
            text = _STAND_INS.get(setting.variable, setting.default)
        assert text is not None  # noqa: S101 - each setting without a default has a stand-in
        values[setting.field] = setting.parse(text)
    settings = Settings(**values)
    for rule in RULES:
        if unread.isdisjoint(rule.reads):
            problems += rule.problems(settings)
    return Understood(settings, tuple(problems))


def read_settings(environ: Mapping[str, str], flags: Mapping[str, str]) -> Settings:
    """Parse the environment, with `flags` (variable -> text) before it. Raises SettingsError with every problem."""
    settings, problems = understand(environ, flags)
    if problems:
        raise SettingsError(list(problems))
    return settings


_VARIABLES = frozenset(setting.variable for setting in SETTINGS)


class Rule(NamedTuple):
    """What settings that are each good by itself must say together. `reads` are its settings: where one of them could
    not be read, nothing is said of it."""

    reads: frozenset[str]
    problems: Callable[[Settings], list[str]]


def _pool_problems(settings: Settings) -> list[str]:
    problems = []
    if settings.pool_id and not settings.region:
        problems.append("AWS_REGION: not set, expected the region of AWS_COGNITO_POOL_ID")
    if settings.pool_id and not re.fullmatch(r"[\w-]+_[A-Za-z0-9]+", settings.pool_id):
        problems.append(f"AWS_COGNITO_POOL_ID: found {settings.pool_id!r}, expected an id such as eu-west-1_AbCdEf")
    pool_region = settings.pool_id.rpartition("_")[0]
    if settings.region and settings.pool_id and settings.region != pool_region:
        problems.append(f"AWS_REGION: found {settings.region!r}, expected {pool_region!r}, that of AWS_COGNITO_POOL_ID")
    if settings.region and not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", settings.region):
        problems.append(f"AWS_REGION: found {settings.region!r}, expected a region such as eu-west-1")
    if (settings.pool_id or settings.issuers) and not settings.client_ids:
        problems.append("AWS_COGNITO_CLIENT_ID: not set, expected the app clients whose tokens are taken")
    if settings.issuers and not settings.jwks_url:
        problems.append("SIDECAR_JWKS_URL: not set, expected the key URL of SIDECAR_ISSUER")
    return problems


def _envoy_problems(settings: Settings) -> list[str]:
    address = settings.ext_authz_listen
    if address is None or address not in (settings.listen, settings.admin_listen):
        return []
    return [f"SIDECAR_EXT_AUTHZ_LISTEN: found {address}, expected a port that nothing else has"]


def _forward_auth_problems(settings: Settings) -> list[str]:
    if settings.forward_auth == "off" or settings.trusted_proxies:
        return []
    return ["SIDECAR_TRUSTED_PROXIES: not set, expected the addresses of the proxy of SIDECAR_FORWARD_AUTH"]


def _port_problems(settings: Settings) -> list[str]:
    if settings.listen != settings.admin_listen:
        return []
    return [f"SIDECAR_ADMIN_LISTEN: found {settings.admin_listen}, expected another port than the traffic's"]


def _pdp_problems(settings: Settings) -> list[str]:
    """List contradictions about whom to ask for decisions."""
    if settings.pdp:
        if settings.cerbos == "embedded":
            return []
        return [f"SIDECAR_CERBOS: found {settings.cerbos}, expected it unset: SIDECAR_PDP is asked in its place"]
    problems = []
    if settings.cerbos_admin in PUBLISHED and not settings.cerbos.startswith("unix:"):
        # at a socket, who may change policies is who has the socket
        problems.append(
            "SIDECAR_CERBOS_ADMIN: found a password that documents publish, expected one of your own, which that Cerbos"
            " has in server.adminAPI.adminCredentials"
        )
    problems += _cerbos_problems(settings)
    return problems + [
        f"{setting.variable}: found it without SIDECAR_PDP, expected both or none"
        for setting in SETTINGS
        if setting.field.startswith("pdp_") and getattr(settings, setting.field)
    ]


def _cerbos_problems(settings: Settings) -> list[str]:
    """List contradictions about TLS to Cerbos. Who could answer in its place would let everybody in."""
    given = [name for name in ("ca", "certificate", "key") if getattr(settings, f"cerbos_{name}")]
    named = ", ".join(f"SIDECAR_CERBOS_{name.upper()}" for name in given)
    if settings.cerbos == "embedded" or settings.cerbos.startswith("unix:"):
        if given or settings.cerbos_tls == "on":
            return [f"{named or 'SIDECAR_CERBOS_TLS'}: found it for {settings.cerbos}, expected it for host:port alone"]
        return []
    if given and not settings.cerbos_by_tls:
        return [f"{named}: found it without TLS, expected SIDECAR_CERBOS_TLS=on"]
    if bool(settings.cerbos_certificate) != bool(settings.cerbos_key):
        return ["SIDECAR_CERBOS_CERTIFICATE, SIDECAR_CERBOS_KEY: found one of them, expected both or none"]
    if settings.cerbos_tls == "auto" and not given and not units.is_loopback(settings.cerbos.rpartition(":")[0]):
        return [
            f"SIDECAR_CERBOS: found {settings.cerbos}, which is not on this machine, without TLS: expected"
            " SIDECAR_CERBOS_CA or SIDECAR_CERBOS_TLS=on, or SIDECAR_CERBOS_TLS=plaintext to say that nobody else is in"
            " the network between"
        ]
    return []


def _login_problems(settings: Settings) -> list[str]:
    """List the settings that are missing for a browser to sign in."""
    problems: list[str] = []
    if not settings.login_modes:
        return ["SIDECAR_LOGOUT_PATHS: found it without SIDECAR_LOGIN, expected both"] if settings.logout_paths else []
    if not settings.session_secrets:
        problems.append("SIDECAR_SESSION_SECRET: not set, expected 32 random characters: openssl rand -base64 32")
    if not settings.client_ids:
        problems.append("AWS_COGNITO_CLIENT_ID: not set, expected the app client that people sign in to")
    if "password" in settings.login_modes and not settings.pool_id:
        problems.append("AWS_COGNITO_POOL_ID: not set, expected the user pool that people sign in to")
    if "hosted" in settings.login_modes:
        if not settings.domain:
            problems.append("AWS_COGNITO_DOMAIN: not set, expected the domain of the hosted UI")
        elif "://" not in settings.domain and not settings.region:
            problems.append("AWS_REGION: not set, expected the region of AWS_COGNITO_DOMAIN")
        if not settings.callback:
            problems.append(
                "AWS_COGNITO_HOSTED_UI_CALLBACK_URL: not set, expected the callback URL of the app client, "
                "or one host in SIDECAR_HOSTS"
            )
        elif not settings.callback.endswith(CALLBACK_PATH):
            problems.append(
                f"AWS_COGNITO_HOSTED_UI_CALLBACK_URL: found {settings.callback!r}, expected one that ends in "
                f"{CALLBACK_PATH}"
            )
    return problems


def _reads(*beginnings: str) -> frozenset[str]:
    return frozenset(name for name in _VARIABLES if name.startswith(beginnings))


RULES = (
    Rule(_reads("AWS_", "SIDECAR_ISSUER", "SIDECAR_JWKS_URL"), _pool_problems),
    Rule(_reads("SIDECAR_PDP", "SIDECAR_CERBOS"), _pdp_problems),
    Rule(_reads("SIDECAR_LOG", "SIDECAR_SESSION_SECRET", "SIDECAR_HOSTS", "AWS_"), _login_problems),
    Rule(_reads("SIDECAR_EXT_AUTHZ_LISTEN", "SIDECAR_LISTEN", "SIDECAR_ADMIN_LISTEN"), _envoy_problems),
    Rule(_reads("SIDECAR_FORWARD_AUTH", "SIDECAR_TRUSTED_PROXIES"), _forward_auth_problems),
    Rule(_reads("SIDECAR_LISTEN", "SIDECAR_ADMIN_LISTEN"), _port_problems),
)
