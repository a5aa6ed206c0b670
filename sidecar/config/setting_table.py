"""The settings: one row each, grouped by subject, and the frozen `Settings` that they come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sidecar.config import parsers, units
from sidecar.config.parsers import Address, Network
from sidecar.gate.mode import MODES, Mode
from sidecar.gate.own import CALLBACK_PATH


class Settings(NamedTuple):
    """All settings, parsed. Durations are seconds."""

    upstream: str
    upstream_ca: str
    upstream_certificate: str
    upstream_key: str
    upstream_server_name: str
    upstream_connect_timeout: float
    upstream_head_timeout: float
    upstream_idle_timeout: float
    listen: Address
    tls_certificate: str
    tls_key: str
    admin_listen: Address
    socket_mode: int
    socket_owner: tuple[str, str]
    ext_authz_listen: Address | None
    ext_proc_listen: Address | None
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
    candidate_policies: str
    pdp: str
    pdp_token: str
    pdp_ca: str
    pdp_roles: str
    mode: Mode
    workers: int
    hosts: frozenset[str] | None
    trusted_proxies: tuple[Network, ...]
    health_paths: tuple[str, ...]
    forward_auth: str
    max_connections: int
    held_memory: int
    held_disk: int
    sql_connections: int
    keep_alive: float
    ws_max_message: int
    decision_log: str
    decision_log_full: str
    assertion: str
    drain_delay: float
    shutdown_timeout: float
    question_log: str
    question_log_size: int
    question_log_attributes: tuple[str, ...]
    log_level: str
    traces: str
    region: str
    pool_id: str
    client_ids: tuple[str, ...]
    client_secrets: tuple[str, ...]
    login: str
    password_flow: str
    domain: str
    scopes: tuple[str, ...]
    callback_urls: tuple[str, ...]
    logout_urls: tuple[str, ...]
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
    https_proxy: str
    no_proxy: tuple[str, ...]
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
        if self.callback_urls:
            return self.callback_urls[0]
        if not self.hosts or len(self.hosts) != 1:
            return ""
        (host,) = self.hosts
        return "" if host.startswith("*") else f"https://{host}{CALLBACK_PATH}"


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


GROUPS: Mapping[str, tuple[Setting, ...]] = {
    "The app and the ports": (
        Setting("SIDECAR_UPSTREAM", "upstream", parsers.optional_url, "", "the protected app: `http(s)://host:port`, or `unix:/path`; needed unless each route of the route file has an `upstream`"),
        Setting("SIDECAR_UPSTREAM_CA", "upstream_ca", str, "", "PEM file of the CAs that an `https` upstream may be signed by; the system's without it"),
        Setting("SIDECAR_UPSTREAM_CERTIFICATE", "upstream_certificate", str, "", "PEM file of our own certificate, where an `https` upstream asks for one; read at the start"),
        Setting("SIDECAR_UPSTREAM_KEY", "upstream_key", str, "", "PEM file of its key, without a pass phrase"),
        Setting("SIDECAR_UPSTREAM_SERVER_NAME", "upstream_server_name", parsers.server_name, "", "name that an `https` upstream is asked for (SNI), and that its certificate must have; the host of `SIDECAR_UPSTREAM` without it"),
        Setting("SIDECAR_UPSTREAM_CONNECT_TIMEOUT", "upstream_connect_timeout", units.duration, "2s", "for a connection to the upstream"),
        Setting("SIDECAR_UPSTREAM_HEAD_TIMEOUT", "upstream_head_timeout", units.duration, "30s", "for the head of its answer"),
        Setting("SIDECAR_UPSTREAM_IDLE_TIMEOUT", "upstream_idle_timeout", units.duration, "60s", "between two pieces of its answer"),
        Setting("SIDECAR_LISTEN", "listen", parsers.address, "0.0.0.0:8080", "`host:port` or `unix:/path` for traffic"),
        Setting("SIDECAR_TLS_CERTIFICATE", "tls_certificate", str, "", "PEM file of the traffic port's certificate, and of those that signed it: the port then speaks TLS 1.2 and newer alone; read again when it changes"),
        Setting("SIDECAR_TLS_KEY", "tls_key", str, "", "PEM file of its key, without a pass phrase"),
        Setting("SIDECAR_SOCKET_MODE", "socket_mode", parsers.mode, "", "mode of each unix socket that we listen on, in octal such as `0660`; what the umask leaves without it"),
        Setting("SIDECAR_SOCKET_OWNER", "socket_owner", parsers.owner, "", "`user:group`, `user` or `:group` that each of these sockets belongs to; ours without it"),
        Setting("SIDECAR_ADMIN_LISTEN", "admin_listen", parsers.address, "127.0.0.1:9901", "health, metrics, config view; never the traffic port"),
    ),
    "Routes and mode": (
        Setting("SIDECAR_ROUTES", "routes", str, "routes.yaml", "the route file"),
        Setting("SIDECAR_MODE", "mode", parsers.one_of(*MODES), "enforce", "`enforce`; `shadow` (forward everything, record what would have been refused); or `shadow-policy` (the same for rules and policies alone: who asks has to be signed in). A route may have [its own](../guides/shadow-then-enforce.md#route-by-route)"),
    ),
    "Who decides: Cerbos, or another PDP": (
        Setting("SIDECAR_CERBOS", "cerbos", parsers.cerbos, "embedded", "`embedded` (run and watch the Cerbos binary on a private unix socket), `host:port` or `unix:/path` (gRPC)"),
        Setting("SIDECAR_CERBOS_BINARY", "cerbos_binary", str, "", "the binary for `embedded`; else `cerbos` on PATH, else that of the npm package"),
        Setting("SIDECAR_CERBOS_STRICT", "cerbos_strict", parsers.one_of("on", "off"), "on", "`on`: the `embedded` Cerbos denies an action where a condition of one of its rules cannot be evaluated (0.55 and newer); `off`: such a rule is skipped, a DENY too"),
        Setting("SIDECAR_CERBOS_TIMEOUT", "cerbos_timeout", units.duration, "500ms", "for one decision, of `SIDECAR_PDP` too"),
        Setting("SIDECAR_CERBOS_ADMIN", "cerbos_admin", parsers.user_and_password, "", "`user:password` of the Admin API of a Cerbos that we do not run: it is told to read its policies again whenever `SIDECAR_POLICIES` changes, and must prove that it has; turn its `watchForChanges` off", True),
        Setting("SIDECAR_CERBOS_TLS", "cerbos_tls", parsers.one_of("auto", "on", "plaintext"), "auto", "how a Cerbos at `host:port` is asked, its Admin API too: `on`: over TLS; `plaintext`: without, which says that nobody else is in the network between; `auto`: over TLS with `SIDECAR_CERBOS_CA`, without on a loopback host, and not at all elsewhere"),
        Setting("SIDECAR_CERBOS_CA", "cerbos_ca", str, "", "PEM file of the CAs that it may be signed by; the system's without it"),
        Setting("SIDECAR_CERBOS_CERTIFICATE", "cerbos_certificate", str, "", "PEM file of our own certificate, where a Cerbos, or the proxy before it, asks for one"),
        Setting("SIDECAR_CERBOS_KEY", "cerbos_key", str, "", "PEM file of its key, without a pass phrase"),
        Setting("SIDECAR_POLICIES", "policies", str, "policies", "policy folder for `embedded`, or the one that `SIDECAR_CERBOS_ADMIN` is about"),
        Setting("SIDECAR_CANDIDATE_POLICIES", "candidate_policies", str, "", "a folder of other policies, for a second Cerbos of our own that is asked about each decision after its answer has gone: the log and the metrics tell where it would have decided otherwise"),
        Setting("SIDECAR_PDP", "pdp", parsers.pdp, "", "a PDP that speaks OpenID AuthZEN 1.0, asked in place of Cerbos: `authzen+https://host/path`, `authzen+http://` on a loopback host, or `authzen+unix:/path`"),
        Setting("SIDECAR_PDP_TOKEN", "pdp_token", parsers.bearer, "", "its bearer token", True),
        Setting("SIDECAR_PDP_CA", "pdp_ca", str, "", "PEM file of the CAs that it may be signed by; the system's without it"),
        Setting("SIDECAR_PDP_ROLES", "pdp_roles", parsers.property_name, "", "one more property of the AuthZEN subject that holds its roles, for a PDP that does not read `cerbos.roles`"),
    ),
    "Whose tokens are taken": (
        Setting("AWS_REGION", "region", str, "", "the user pool's region; `AWS_DEFAULT_REGION` stands in for it"),
        Setting("AWS_COGNITO_POOL_ID", "pool_id", str, "", "the user pool"),
        Setting("AWS_COGNITO_CLIENT_ID", "client_ids", parsers.items, "", "its app clients (comma list)"),
        Setting("AWS_COGNITO_CLIENT_SECRET", "client_secrets", parsers.client_secrets, "", "the app client's secret; while you change it, both (comma list): the next is tried where one is refused", True),
        Setting("AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER", "cognito_endpoint", parsers.key_url, "", "AWS's own variable for another endpoint (a local Cognito): API calls and keys go there, the issuer stays"),
        Setting("SIDECAR_ISSUER", "issuers", parsers.items, "", "exact issuers (comma list) in place of the pool's two"),
        Setting("SIDECAR_JWKS_URL", "jwks_url", parsers.key_url, "", "where the issuers' keys are"),
        Setting("SIDECAR_ALB_SIGNER", "alb_signers", parsers.load_balancers, "", "ARNs (comma list) of load balancers whose `x-amzn-oidc-*` headers are taken for a session"),
        Setting("HTTPS_PROXY", "https_proxy", parsers.proxy, "", "`http(s)://host:port` of a forward proxy through which keys are fetched and Cognito is asked over https; `https_proxy` stands in for it. The app, lookups, the PDP and Redis are never asked through it", True),
        Setting("NO_PROXY", "no_proxy", parsers.items, "", "hosts (comma list) that are asked without it: names, which stand for those below them too, addresses, networks, or `*`; `no_proxy` stands in for it"),
        Setting("SIDECAR_ASSERTION", "assertion", str, "off", "`off`, `ephemeral` (a key of this process), or a PEM file with a P-256 key: sign `X-Auth-Assertion`"),
    ),
    "Sign-in and sessions": (
        Setting("SIDECAR_LOGIN", "login", parsers.one_of("auto", "off", "hosted", "password", "both"), "auto", "how a person signs in at `/_sidecar/login`: at Cognito's `hosted` UI, with our own `password` form, or `both`; `auto` is `hosted` with `AWS_COGNITO_DOMAIN`, else `off`"),
        Setting("SIDECAR_PASSWORD_FLOW", "password_flow", parsers.one_of("srp", "password"), "srp", "what the form does with a password: `srp` (USER_SRP_AUTH: it never leaves the sidecar; needs the extra `srp`) or `password` (USER_PASSWORD_AUTH)"),
        Setting("AWS_COGNITO_DOMAIN", "domain", parsers.domain, "", "the domain of managed login: its prefix, or its whole URL"),
        Setting("AWS_COGNITO_SCOPES", "scopes", parsers.scopes, "openid", "the scopes (comma list) that the hosted UI is asked for, each allowed on the app client; `openid` must be one, and signing out everywhere needs `aws.cognito.signin.user.admin`"),
        Setting("AWS_COGNITO_HOSTED_UI_CALLBACK_URL", "callback_urls", parsers.page_urls, "", "as registered on the app client, one for each host that has its own (comma list); else `https://<host>/_sidecar/callback` of the one host in `SIDECAR_HOSTS`, or of each host where routes have `hosts`"),
        Setting("AWS_COGNITO_HOSTED_UI_LOGOUT_URL", "logout_urls", parsers.page_urls, "", "as registered on the app client, one for each host that has its own (comma list): where a sign-out ends; else `/` of the callback's origin"),
        Setting("SIDECAR_LOGOUT", "logout", parsers.one_of("local", "cognito"), "local", "what a sign-out ends: the `local` session and its refresh token, or `cognito`'s session too"),
        Setting("SIDECAR_LOGOUT_PATHS", "logout_paths", parsers.paths, "", "the app's own sign-out paths (comma list, such as `/logout`) that are answered as `/_sidecar/logout` is: POST signs out, GET shows the button"),
        Setting("SIDECAR_SESSION_SECRET", "session_secrets", parsers.secrets, "", "seals the cookies and tags the sessions of MCP servers: 32 random characters or more, `openssl rand -base64 32`; of a comma list the first seals, and all open: to change it in several replicas, give all of them `old,new` and then `new,old`; the placeholders of documents are refused", True),
        Setting("SIDECAR_SESSION_IDLE", "session_idle", units.duration, "8h", "after so long without a request a session ends"),
        Setting("SIDECAR_SESSION_LIFETIME", "session_lifetime", units.duration, "24h", "so long after the sign-in a session ends"),
        Setting("SIDECAR_REDIS_URL", "redis_url", parsers.redis, "", "`redis://`, `rediss://` or `unix://`: sessions live there, for several replicas; in the cookie itself without it", True),
    ),
    "Pages": (
        Setting("SIDECAR_CONSOLE", "console", parsers.one_of("on", "off"), "on", "the page `/_sidecar/console`, for signed-in people"),
        Setting("SIDECAR_CONSOLE_ADMIN", "console_admin", str, "", "a role whose holders may ask the console as another principal, and see why a request is refused"),
        Setting("SIDECAR_TEMPLATES", "templates", str, "", "a folder with templates in place of our pages'"),
    ),
    "Proxies around the sidecar": (
        Setting("SIDECAR_HOSTS", "hosts", parsers.hosts, "", "hosts that a request may name (comma list, any case); another is 421; any without it. `*.example.com` stands for every name of one label before `.example.com`"),
        Setting("SIDECAR_TRUSTED_PROXIES", "trusted_proxies", parsers.networks, "", "CIDRs whose `X-Forwarded-*` or `Forwarded` is believed, and their host where `SIDECAR_HOSTS` lists it; from anyone else they are removed or overwritten"),
        Setting("SIDECAR_HEALTH_PATHS", "health_paths", parsers.paths, "", "paths (comma list, such as `/livez`) that the traffic port answers to a balancer's health check, whatever host it names and in HTTP/1.0 too: 200 while the process serves, 503 from SIGTERM on; the app never sees them"),
        Setting("SIDECAR_FORWARD_AUTH", "forward_auth", parsers.one_of("off", "nginx", "traefik", "caddy", "haproxy", "envoy"), "off", "the proxy that asks at `/_sidecar/authorize` and forwards by itself, from an address in `SIDECAR_TRUSTED_PROXIES`; `off`: nobody may ask"),
        Setting("SIDECAR_EXT_AUTHZ_LISTEN", "ext_authz_listen", parsers.optional_address, "", "`host:port` or `unix:/path`: answer Envoy's ext_authz (gRPC v3) there; whoever reaches it is believed; needs the extra `envoy`"),
        Setting("SIDECAR_EXT_PROC_LISTEN", "ext_proc_listen", parsers.optional_address, "", "`host:port` or `unix:/path`: the same by Envoy's ext_proc (gRPC v3), which sees the app's answers too, and so does `items` and `fields`; needs the extra `envoy`"),
    ),
    "Limits and processes": (
        Setting("SIDECAR_MAX_CONNECTIONS", "max_connections", parsers.count(1, 1_000_000), "4096", "client connections at once, for each worker; beyond it 503. One client (by address, an IPv6 one by its /64) gets as many as are free, half of them at most; a proxy in `SIDECAR_TRUSTED_PROXIES` and a unix socket have no such share"),
        Setting("SIDECAR_HELD_MEMORY", "held_memory", parsers.large_size, "128MiB", "bytes in memory, for each worker, of all request bodies and answers that are held until they are decided, as far as is estimated what reading them takes. One principal (before one is known, one address) gets as many as are free, half of them at most; beyond it a request is 503 `body_no_room`, and an answer 503 `upstream_busy`. `1MiB` or more, and less than the container's memory limit"),
        Setting("SIDECAR_HELD_DISK", "held_disk", units.size, "2GiB", "bytes in temporary files (`TMPDIR`), for each worker, of all held bodies beyond 1 MiB of each (and up to 256 KiB more), in shares alike; beyond it 503 `body_no_room`"),
        Setting("SIDECAR_KEEP_ALIVE", "keep_alive", units.duration, "75s", "how long a client's connection may be idle after an answer: longer than a load balancer in front keeps one, so that it never sends a request on a connection that is being closed. Where places run out, the one that has been idle for longest is closed first"),
        Setting("SIDECAR_WS_MAX_MESSAGE", "ws_max_message", units.size, "1MiB", "a WebSocket message of either side; a larger one closes with 1009"),
        Setting("SIDECAR_WORKERS", "workers", parsers.count(1, 64), "1", "processes sharing the port"),
        Setting("SIDECAR_SQL_CONNECTIONS", "sql_connections", parsers.count(1, 256), "8", "connections to each database of `sql` lookups, for each `timeout` that they have and for each worker; one principal gets half of them at most, and a question that finds none free until its timeout is 503 `lookup_busy`"),
        Setting("SIDECAR_DRAIN_DELAY", "drain_delay", units.duration, "0s", "after SIGTERM, between `/readyz` being 503 and no new connections: time for load balancers to notice"),
        Setting("SIDECAR_SHUTDOWN_TIMEOUT", "shutdown_timeout", units.duration, "30s", "for running requests after SIGTERM"),
    ),
    "Records": (
        Setting("SIDECAR_DECISION_LOG", "decision_log", str, "stdout", "`stdout`, or a file that lines are appended to"),
        Setting("SIDECAR_DECISION_LOG_FULL", "decision_log_full", parsers.one_of("refuse", "drop"), "refuse", "when 4 MiB of its lines wait for a reader or for room on the disk: `refuse` requests (503 `log_unavailable`), or `drop` their lines, which `sidecar_decision_log_lost_total` counts; the mode `shadow` always drops"),
        Setting("SIDECAR_QUESTION_LOG", "question_log", str, "", "a file for the question log: what was asked about requests, and what the app answered, for `report`, `draft`, `coverage` and `replay`; off without it"),
        Setting("SIDECAR_QUESTION_LOG_SIZE", "question_log_size", parsers.large_size, "256MiB", "bytes of it in all: at a quarter each the file is renamed `FILE.1`, up to `FILE.3`"),
        Setting("SIDECAR_QUESTION_LOG_ATTRIBUTES", "question_log_attributes", parsers.attributes, "", "attributes that may stand in it (comma list): `owner` or `resource.owner` of the resource, `principal.level` of the principal; all others are left out, by name alone"),
        Setting("SIDECAR_LOG_LEVEL", "log_level", parsers.one_of("debug", "info", "warning", "error"), "info", "of the log on stderr"),
        Setting("SIDECAR_TRACES", "traces", parsers.one_of("off", "otlp"), "off", "`otlp`: OpenTelemetry traces by OTLP/HTTP, set up by its own variables such as `OTEL_EXPORTER_OTLP_ENDPOINT`; needs the extra `otel`"),
    ),
}  # fmt: skip
"""All settings, grouped by subject, in the order of the reference."""

SETTINGS = tuple(setting for group in GROUPS.values() for setting in group)
