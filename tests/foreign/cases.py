"""The table of requests that must come to the same end by every way in: through the sidecar, or through a proxy that asks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BROWSER = "Accept: text/html"
FORGED = ("X-Auth-Subject: r-1", "X-Auth-Roles: admin", "X-Auth-Assertion: eyJ.eyJ.x", "X-AUTH-ROLES: admin")
OTHER_PATHS = (
    "X-Original-URL: /admin/x", "X-Rewrite-URL: /admin/x", "X-Original-URI: /admin/x", "X-Original-Method: DELETE",
    "X-Forwarded-Uri: /public/a", "X-Forwarded-Path: /admin/x", "X-Forwarded-Method: DELETE", "X-Forwarded-Prefix: /admin",
    "X-Envoy-Original-Path: /admin/x",
)  # fmt: skip
OTHERS_WORDS = (
    "X-Forwarded-Client-Cert: By=a;URI=b", "X-Forwarded-Roles: admin", "X-Forwarded-Tenant: other", "X-Forwarded-User: r-1",
    "X-Original-Forwarded-For: 6.6.6.6", "CF-Connecting-IP: 6.6.6.6",
)  # fmt: skip


@dataclass(frozen=True)
class Ask:
    """One request. `user` is whose token it has, or `session` whose session; `{{token}}` in a header stands for alice's."""

    target: str
    method: str = "GET"
    user: str | None = None
    headers: tuple[str, ...] = ()
    body: bytes = b""
    host: str = "app.test"
    session: str | None = None


@dataclass(frozen=True)
class Case:
    """Requests that come to the same end: the client gets `status`, and the app sees `seen` requests for each of them.

    `sent` is the target that the app sees, `app` headers that it must see with exactly these values, in any order
    ([]: none of that name). `client` are headers of the client's answer, each with the beginning of its value.
    `without` is what does not run meanwhile: "hook", "cerbos" or "sidecar".
    """

    name: str
    asks: tuple[Ask, ...]
    status: int
    seen: int
    sent: str = ""
    app: Mapping[str, list[str]] = field(default_factory=dict)
    client: Mapping[str, str] = field(default_factory=dict)
    without: str = ""


def _gets(*targets: str, user: str | None = "root") -> tuple[Ask, ...]:
    return tuple(Ask(target, user=user) for target in targets)


NOBODY: dict[str, list[str]] = {"x-auth-subject": [], "x-auth-roles": [], "x-auth-assertion": []}
ALICE = {"x-auth-subject": ["a-1"], "x-auth-roles": ["user"], "x-auth-assertion": []}
NO_OTHER_PATHS: dict[str, list[str]] = {line.partition(":")[0].lower(): [] for line in OTHER_PATHS}
NO_OTHERS_WORDS: dict[str, list[str]] = {line.partition(":")[0].lower(): [] for line in OTHERS_WORDS}

CASES = (
    Case("allowed by policy", (Ask("/docs/1", user="alice"),), 200, 1, sent="/docs/1", app=ALICE),
    Case("allowed, HEAD", (Ask("/docs/1", "HEAD", "alice"),), 200, 1, app=ALICE),
    Case("allowed, with a body", (Ask("/docs/1", "PUT", "alice", ("Content-Type: text/plain",), b"text"),), 200, 1, app=ALICE),
    Case("public, without a token", (Ask("/public/a"),), 200, 1, app=NOBODY),
    Case("denied by policy", (Ask("/docs/1", "DELETE", "alice"), Ask("/admin/x", user="alice")), 403, 0),
    Case("another's resource", (Ask("/docs/1", user="bob"), Ask("/docs/2", user="alice")), 403, 0),
    Case("no token", (Ask("/docs/1"), Ask("/admin/x?a=/public/a"), Ask("/admin/x", headers=("User-Agent: GoogleHC/1.0",))), 401, 0, client={"www-authenticate": "Bearer"}),
    Case("bad token", (
        Ask("/docs/1", headers=("Authorization: Bearer {{token}}x",)), Ask("/docs/1", headers=("Authorization: Basic YTpi",)),
        Ask("/docs/1", headers=("Authorization: Bearer {{token}}, Bearer {{token}}",)), Ask("/docs/1", user="expired"),
    ), 401, 0, client={"www-authenticate": "Bearer"}),
    Case("two tokens", (Ask("/docs/1", headers=("Authorization: Bearer {{token}}", "Authorization: Bearer {{token}}")),), 400, 0),
    Case("unmapped path", _gets("/DOCS/1", "/Admin/x", "/docs/1/", "/nowhere", "/docs.json"), 403, 0),
    Case("method not mapped", (Ask("/docs/1", "POST", "alice"), Ask("/docs/1", "OPTIONS", "alice")), 405, 0),
    Case("method override in a header", (Ask("/docs/1", "POST", "alice", ("X-HTTP-Method-Override: GET",)),), 405, 0),
    Case("no such resource", (Ask("/docs/9", user="alice"),), 403, 0),
    Case("another's resource, and none, hidden", (Ask("/hidden/2", user="alice"), Ask("/hidden/9", user="alice")), 404, 0),
    Case("unknown host", (Ask("/docs/1", user="alice", host="evil.test"),), 421, 0),
    Case("query as it came", (Ask("/docs/1?x=%2e%2e/&y=a%20b&z=[1]&q=%", user="alice"),), 200, 1, sent="/docs/1?x=%2e%2e/&y=a%20b&z=[1]&q=%"),
    Case("empty query", (Ask("/docs/1?", user="alice"),), 200, 1, sent="/docs/1?"),
    Case("mapped query name twice", _gets("/search?doc=1&doc=2", "/search?doc=1&%64oc=2"), 400, 0),
    Case("a parameter that no list has", (Ask("/mine?_where=1", user="alice"), Ask("/mine?page=1;x=2", user="alice"), Ask("/mine?Page=1", user="alice")), 400, 0),
    Case("a parameter that the sidecar sets", (
        Ask("/mine?page=1&owner=b-1", user="alice"), Ask("/mine?OWNER[]=b-1&page=1&%5Bowner%5D=b-1", user="alice"), Ask("/mine?page=1", user="alice"),
    ), 200, 1, sent="/mine?page=1&owner=a-1", app=ALICE),
    Case("escaped plain characters", (Ask("/%64ocs/%31", user="alice"),), 200, 1, sent="/docs/1", app=ALICE),
    Case("dot segments", _gets("/public/../admin/x", "/public/./../admin/x", "/docs/1/../2", "/..", "/docs/."), 400, 0),
    Case("escaped dot segments", _gets("/public/%2e%2e/admin/x", "/public/.%2e/admin/x", "/public/%252e%252e/admin/x", "/docs/1%2e%2e/2"), 400, 0),
    Case("backslash", _gets("/public\\..\\admin\\x", "/public%5c..%5cadmin"), 400, 0),
    Case("empty segments", _gets("//admin/x", "/docs//1", "///admin/x", "/public//../admin/x"), 400, 0),
    Case("escaped slash", _gets("/docs%2f1", "/docs/1%2F2", "/docs/..%2f..%2fadmin%2fx"), 400, 0),
    Case("parameters in a segment", _gets("/admin;x/x", "/docs/1;a=b", "/docs/1%3b"), 400, 0),
    Case("control characters", _gets("/docs/1%00", "/docs/1%0d%0aX-Evil:%201", "/docs/1%0a", "/docs/1%7f"), 400, 0),
    Case("broken escapes", _gets("/docs/%zz", "/docs/1%", "/docs/1%4", "/docs/%u0031", "/docs/%ff"), 400, 0),
    Case("fragment", _gets("/admin/x#/public/a", "/admin/x%23", "/docs/1%3fa"), 400, 0),
    Case("absolute form", _gets("http://app.test/docs/1"), 400, 0),
    Case("absolute form, another host", _gets("http://evil.test/docs/1", "https://u:p@evil.test:8443/docs/1"), 400, 0),
    Case("target over 8 KiB", _gets("/docs/" + "A" * 8192), 414, 0),
    Case("identity headers forged", (Ask("/docs/1", user="alice", headers=FORGED),), 200, 1, app=ALICE),
    Case("the same on a public route", (Ask("/public/a", headers=FORGED),), 200, 1, app=NOBODY),
    Case("the same with `_` and `.`", (
        Ask("/docs/1", user="alice", headers=("X_Auth_Subject: r-1", "x_auth_roles: admin")), Ask("/docs/1", user="alice", headers=("X.Auth.Subject: r-1",)),
        Ask("/public/a", headers=("X-Auth_Roles: admin",)),
    ), 400, 0, app={"x_auth_subject": [], "x_auth_roles": [], "x.auth.subject": [], "x-auth_roles": []}),
    Case("a header of `to_app`", (Ask("/docs/1", user="alice"), Ask("/docs/1", session="alice")), 200, 1, app={"remote-user": ["a-1"]}),
    Case("the same forged", (Ask("/docs/1", user="alice", headers=("Remote-User: r-1", "REMOTE-USER: r-2")),), 200, 1, app={"remote-user": ["a-1"]}),
    Case("the same forged, public", (Ask("/public/a", headers=("Remote-User: r-1",)),), 200, 1, app={"remote-user": []}),
    Case("a token that `to_app` drops", (Ask("/plain/1", user="alice"),), 200, 1, app={**ALICE, "authorization": []}),
    Case("the app's own Authorization beside a session", (Ask("/basic/1", session="alice", headers=("Authorization: Basic YTpi",)),), 200, 1, app={**ALICE, "authorization": ["Basic YTpi"]}),
    Case("the same without a session", (Ask("/basic/1", headers=("Authorization: Basic YTpi",)),), 401, 0),
    Case("Connection names an identity header", (Ask("/docs/1", user="alice", headers=("Connection: close, x-auth-subject",)),), 400, 0, app=ALICE),
    Case("another path in headers, public", (Ask("/public/a", headers=OTHER_PATHS),), 200, 1, sent="/public/a", app=NO_OTHER_PATHS),
    Case("another path in headers, protected", (Ask("/admin/x", headers=OTHER_PATHS), Ask("/admin/x", headers=("X-Forwarded-Uri: /public/a", "X-Forwarded-Host: app.test"))), 401, 0),
    Case("another proxy's word for who has come", (Ask("/docs/1", user="alice", headers=OTHERS_WORDS), Ask("/public/a", headers=OTHERS_WORDS)), 200, 1, app=NO_OTHERS_WORDS),
    Case("the same in a word that no list has", (Ask("/docs/1", user="alice", headers=("X-Forwarded-Anything: 1",)), Ask("/public/a", headers=("X-Original-Anything: 1",))), 200, 1, app={"x-forwarded-anything": [], "x-original-anything": []}),
    Case("another client in headers", (
        Ask("/docs/1", user="alice", headers=("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Real-IP: 6.6.6.6", "Forwarded: for=6.6.6.6;host=evil.test")),
    ), 200, 1, app={"x-forwarded-for": ["127.0.0.2"], "x-forwarded-proto": ["http"], "x-real-ip": [], "forwarded": []}),
    Case("headers of the connection", (
        Ask("/docs/1", user="alice", headers=("Proxy-Authorization: Basic x", "Keep-Alive: timeout=5", "TE: trailers", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")),
    ), 200, 1, app={"proxy-authorization": [], "te": [], "upgrade": [], "http2-settings": []}),
    Case("bytes beyond ASCII in a header", (Ask("/docs/1", user="alice", headers=("X-A: caf\xe9 \xff",)),), 200, 1, app={"x-a": ["caf\xe9 \xff"]}),
    Case("preflight from nowhere", (Ask("/docs/1", "OPTIONS", headers=("Origin: https://evil.test", "Access-Control-Request-Method: DELETE")),), 403, 0),
    Case("a preflight that the app answers", (
        Ask("/calendars/1.ics", "OPTIONS", headers=("Origin: https://front.test", "Access-Control-Request-Method: MKCALENDAR", "X-Auth-Subject: root")),
    ), 200, 1, app={**NOBODY, "origin": ["https://front.test"], "access-control-request-method": ["MKCALENDAR"]}),
    Case("a variable inside a segment", (Ask("/calendars/1.ics", user="alice"),), 200, 1, sent="/calendars/1.ics", app=ALICE),
    Case("a method that the route names", (Ask("/calendars/1.ics", "MKCALENDAR", "alice", ("Content-Type: text/xml",), b"<a/>"),), 200, 1, app=ALICE),
    Case("a method that no route names", (Ask("/docs/1", "MKCALENDAR", "alice"), Ask("/public/a", "CHECKOUT", "alice")), 405, 0),
    Case("a browser without a session", (Ask("/docs/1", headers=(BROWSER,)),), 302, 0, client={"location": "/_sidecar/login?return_to=/docs/1"}),
    Case("a session", (Ask("/docs/1", session="alice", headers=("Cookie: mine=1",)),), 200, 1, app={**ALICE, "cookie": ["mine=1"]}),
    Case("a session that is renewed", (Ask("/docs/1", session="idle"),), 200, 1, app={**ALICE, "cookie": []}, client={"set-cookie": "__Host-session="}),
    Case("a session, from another site", (Ask("/docs/1", "PUT", session="alice", headers=("Origin: https://evil.test",)),), 403, 0),
    Case("a session of nobody", (Ask("/docs/1", headers=("Cookie: __Host-session=1.forged",)),), 401, 0, client={"set-cookie": "__Host-session=;"}),
    Case("a session's cookie twice", (Ask("/docs/1", session="alice", headers=("Cookie: __Host-session=1.forged",)),), 400, 0),
    Case("a body that the route reads", (Ask("/docs", "POST", "alice", ("Content-Type: application/json",), b'{"owner":"a-1"}'),), 200, 1),
    Case("the hook is down", (Ask("/docs/1", user="alice"),), 503, 0, without="hook"),
    Case("Cerbos is down", (Ask("/docs/1", user="alice"),), 503, 0, without="cerbos"),
    Case("the sidecar is down", (Ask("/public/a"),), 503, 0, without="sidecar"),
)  # fmt: skip

NOT_A_CLIENTS = tuple(
    Ask(target, method, "alice", ("X-Original-URI: /docs/1", "X-Original-Method: GET", "X-Forwarded-Uri: /docs/1", "X-Forwarded-Method: GET"))
    for method in ("GET", "POST")
    for target in (
        "/_sidecar/authorize", "/_sidecar/authorize/", "/_sidecar/authorize/docs/1", "/_sidecar/authorize?/docs/1", "/_sidecar/%61uthorize",
        "/_sidecar/x/../authorize", "/_sidecar//authorize", "//_sidecar/authorize", "/_SIDECAR/authorize",
    )
)  # fmt: skip
"""The question of a proxy, asked by a client: whoever gets its answer has an assertion in hand that is the app's alone."""

HANDSHAKES = tuple(
    Ask(target, user="alice", headers=("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", *key))
    for target in ("/docs/1", "/ws/1")
    for key in (("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",), ())
)
"""WebSockets: what is decided as a GET must not become a tunnel."""

SIGN_IN = (Ask("/_sidecar/login?return_to=/docs/1", headers=(BROWSER,)),)
