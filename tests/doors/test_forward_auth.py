"""A proxy's question and its answer: who may ask, what an allow holds, how a refusal is told, one record for each."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from typing import Any

import pytest

from sidecar.doors.dialects import AUTHORIZE, DIALECTS
from sidecar.doors.door import Door
from sidecar.doors.forward_auth import ForwardAuth
from sidecar.doors.refusal import Refusals
from sidecar.gate.codes import Code
from sidecar.gate.identity import Tokens
from sidecar.gate.mode import Mode
from sidecar.gate.references import parse_template
from sidecar.gate.request import Reading
from sidecar.gate.routing import RouteTable
from sidecar.gate.session import Presented
from sidecar.gate.to_app import AuthorizationRule, ToApp
from sidecar.record.journal import Journal
from sidecar.record.metrics import Metrics
from sidecar.wire.grammar import Header
from sidecar.wire.http1_request import Head
from tests.gate.test_gate import TABLE, TOKEN, World
from tests.log import Kept
from tests.stack import Got

PROXY = "127.0.0.1"
TRUSTED = (ipaddress.ip_network("127.0.0.1/32"),)
TOKEN_HEADER = (b"authorization", b"Bearer " + TOKEN)


class Asking:
    """A door of one dialect; `lines` are those of the decision log."""

    def __init__(self, dialect: str = "nginx", *, login: bool = False, **gate: Any) -> None:
        self.world = World()
        self.dialect = dialect
        self._log = Kept()
        made = self.world.gate(**gate)
        made.rules = replace(made.rules, reading=Reading(frozenset(["app.test"]), TRUSTED))
        journal = Journal(self._log, Metrics(), lambda: 0.0)
        door = Door(made, journal, Refusals(login=login), lambda: 0.0, self.world.timer, lambda: "r1")
        self.door = ForwardAuth(door, DIALECTS[dialect])

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.getvalue().splitlines()]

    async def ask(
        self, target: str, *headers: Header, method: str = "GET", token: bool = True, peer: str | None = PROXY
    ) -> Got:
        """The question about a request of 192.0.2.7, and its answer."""
        dialect = DIALECTS[self.dialect]
        said = [
            (dialect.host, b"app.test"), (b"x-forwarded-for", b"192.0.2.7"), (b"x-forwarded-proto", b"https"),
            (dialect.method, method.encode()), (dialect.target, target.encode()),
        ]  # fmt: skip
        if dialect.host != b"host":
            said.append((b"host", b"127.0.0.1:8080"))
        own = [TOKEN_HEADER] if token else []
        lines = [*(pair for pair in said if pair[0]), *own, *headers]
        asked = AUTHORIZE if dialect.target else AUTHORIZE + target.encode()
        head = Head("GET" if dialect.method else method, asked, "1.1", lines, 0, True, False, False)
        sent: list[Any] = []

        async def receive() -> Any:
            raise AssertionError("the body of a question is nothing that is read")

        async def send(message: Any) -> None:
            sent.append(message)

        assert self.door.has(asked)
        await self.door(head, peer or "", "http", receive, send)
        (whole,) = sent
        pairs = [(name.decode(), value.decode("latin-1")) for name, value in whole["headers"]]
        return Got(whole["status"], pairs, whole["body"])


@pytest.mark.parametrize(
    ("dialect", "target", "is_one"),
    [
        ("nginx", b"/_sidecar/authorize", True), ("nginx", b"/_sidecar/authorize?x", True), ("nginx", b"/_sidecar/authorize/x", False),
        ("nginx", b"/_sidecar/authoriz%65", False), ("nginx", b"/docs", False), ("envoy", b"/_sidecar/authorize", False),
        ("envoy", b"/_sidecar/authorize/", True), ("envoy", b"/_sidecar/authorize//x", True), ("envoy", b"/_sidecar/authorizex", False),
    ],
)  # fmt: skip
def test_what_is_a_question(dialect: str, target: bytes, is_one: bool) -> None:
    assert Asking(dialect).door.has(target) is is_one


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_allow_names_what_the_app_must_get(dialect: str) -> None:
    asking = Asking(dialect)
    got = await asking.ask("/docs/7?x=%2e", (b"x-auth-roles", b"admin"), (b"x-original-url", b"/admin"))
    assert (got.status, got.body) == (200, b"")
    said = {
        name: got.header(name)
        for name in ("x-auth-target", "x-auth-subject", "x-auth-roles", "x-request-id", "x-forwarded-for")
    }
    assert said == {
        "x-auth-target": "/docs/7?x=%2e", "x-auth-subject": "a-1", "x-auth-roles": "user", "x-request-id": "r1",
        "x-forwarded-for": "192.0.2.7",
    }  # fmt: skip
    removed = got.header("x-envoy-auth-headers-to-remove" if dialect == "envoy" else "x-auth-remove")
    assert removed is not None
    assert {"x-original-url", "x-auth-assertion"} <= set(removed.split(","))
    if dialect == "envoy":
        # which adds them to the app's answer, and keeps none of ours
        assert (got.header("cache-control"), got.header("vary")) == ("private", "Authorization")
    else:
        assert got.header("cache-control") == "no-store"
        # a proxy that keeps answers all the same keeps them apart by who asked
        assert got.header("vary") == "Cookie, Authorization"
        assert (got.header("x-auth-cache-control"), got.header("x-auth-vary")) == ("private", "Authorization")
    (line,) = asking.lines
    assert (line["outcome"], line["code"], line["status"], line["path"]) == ("allow", "allowed", 200, "/docs/7")
    assert (line["peer"], line["principal"], line["method"]) == ("192.0.2.7", "a-1", "GET")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("target", ["/docs/7", "/public"])
async def test_a_word_of_another_proxy_does_not_stay_in_the_request(dialect: str, target: str) -> None:
    """Taken away by name, or refused where the proxy would not know it."""
    asking = Asking(dialect)
    got = await asking.ask(target, (b"x-forwarded-anything", b"admin"))
    if dialect in ("nginx", "traefik"):
        assert (got.status, got.code) == (400, Code.HEADER_AMBIGUOUS)
        (line,) = asking.lines
        assert "x-forwarded-anything" in line["detail"]
    else:
        removed = got.header("x-envoy-auth-headers-to-remove" if dialect == "envoy" else "x-auth-remove")
        assert (got.status, "x-forwarded-anything" in (removed or "").split(",")) == (200, True)
    assert (await Asking(dialect).ask(target, (b"x-forwarded-client-cert", b"By=a"))).status == 200


@pytest.mark.parametrize("peer", ["127.0.0.2", "10.0.0.1", "::1", None])
async def test_only_a_trusted_proxy_may_ask(peer: str | None) -> None:
    asking = Asking()
    got = await asking.ask("/public", peer=peer)
    assert (got.status, got.code) == (403, Code.PROXY_NOT_TRUSTED)
    assert got.header("x-auth-subject") is None
    assert asking.world.asked == []
    (line,) = asking.lines
    assert (line["code"], line["status"], line["peer"]) == ("proxy_not_trusted", 403, peer or "")


async def test_a_question_in_another_dialect_asks_nobody() -> None:
    asking = Asking()
    got = await asking.ask("/docs/7", (b"x-forwarded-uri", b"/public"))
    assert (got.status, got.code) == (400, Code.PROXY_AMBIGUOUS)
    assert asking.world.asked == []
    assert [line["code"] for line in asking.lines] == ["proxy_ambiguous"]


@pytest.mark.parametrize(
    ("target", "method", "headers", "status", "code"),
    [
        ("/none", "GET", [], 403, Code.ROUTE_UNMAPPED),
        ("/docs/7", "DELETE", [], 405, Code.METHOD_UNMAPPED),
        ("/docs/%2e%2e/7", "GET", [], 400, Code.TARGET_AMBIGUOUS),
        ("/docs/7#x", "GET", [], 400, Code.TARGET_AMBIGUOUS),
        ("http://evil.test/docs/7", "GET", [], 400, Code.TARGET_AMBIGUOUS),
        ("/new", "POST", [(b"content-type", b"application/json")], 501, Code.PROXY_UNABLE),
        ("/cors", "OPTIONS", [(b"origin", b"https://f"), (b"access-control-request-method", b"GET")], 501, Code.PROXY_UNABLE),
        ("/docs/7", "GET", [(b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA==")], 501, Code.PROXY_UNABLE),
    ],
)  # fmt: skip
async def test_a_refusal_is_told_as_to_a_client(
    target: str, method: str, headers: list[Header], status: int, code: Code
) -> None:
    asking = Asking()
    got = await asking.ask(target, *headers, method=method)
    assert (got.status, got.code) == (status, code)
    assert not [name for name, _ in got.headers if name in ("x-auth-subject", "x-auth-target", "x-auth-roles")]
    assert [(line["code"], line["status"]) for line in asking.lines] == [(code, status)]
    assert "cerbos" not in asking.world.asked


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_no_2xx_but_an_allow(dialect: str) -> None:
    """A preflight that the route answers would be 204: every proxy takes that for leave to forward, but Envoy."""
    got = await Asking(dialect).ask(
        "/cors", (b"origin", b"https://f"), (b"access-control-request-method", b"GET"), method="OPTIONS", token=False
    )
    assert got.status == 501


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_proxy_that_sends_on_what_came_gets_leave_for_the_canonical_form_alone(dialect: str) -> None:
    asking = Asking(dialect)
    got = await asking.ask("/%64ocs/7")
    if DIALECTS[dialect].exact:
        assert (got.status, got.code) == (400, Code.TARGET_AMBIGUOUS)
        assert [line["outcome"] for line in asking.lines] == ["refuse"]
    else:
        assert (got.status, got.header("x-auth-target")) == (200, "/docs/7")


async def test_a_proxy_that_reads_one_line_gets_the_problem_and_each_cookie_in_one() -> None:
    cookie = (b"cookie", b"__Host-session=1.a; __Host-session.1=b; mine=1")
    for dialect in ("nginx", "haproxy"):
        got = await Asking(dialect).ask("/docs/7", cookie, token=False)
        assert got.status == 401
        cleared = [value for name, value in got.headers if name == "set-cookie"]
        assert [value.partition("=")[0] for value in cleared] == ["__Host-session", "__Host-session.1"]
        numbered = [got.header(f"x-auth-set-cookie-{number}") for number in (1, 2)]
        problem = got.header("x-auth-problem")
        if dialect == "nginx":
            assert numbered == cleared
            assert json.loads(problem or "") == json.loads(got.body)
        else:
            assert (numbered, problem) == ([None, None], None)


async def test_a_proxy_that_must_be_told_of_each_header_is_told() -> None:
    """On a public route nobody is who asks: Caddy puts a placeholder's name where a header is missing."""
    for dialect, told in (("caddy", ""), ("nginx", None), ("envoy", None), ("traefik", None)):
        got = await Asking(dialect).ask("/public", token=False)
        names = ("x-auth-subject", "x-auth-roles", "x-auth-assertion", "cookie")
        assert [got.header(name) for name in names] == [told] * 4


async def test_a_person_without_a_session_is_sent_to_the_sign_in() -> None:
    html = (b"accept", b"text/html")
    got = await Asking(login=True).ask("/docs/7?a=b", html, token=False)
    assert (got.status, got.header("location")) == (302, "/_sidecar/login?return_to=/docs/7%3Fa%3Db")
    got = await Asking(login=True).ask("/none", html)
    assert (got.status, (got.header("content-type") or "")[:9]) == (403, "text/html")
    assert json.loads(got.header("x-auth-problem") or "")["code"] == "route_unmapped"


class _Renewed:
    """A session whose cookie is written anew."""

    vary = b"Cookie"

    def holds(self, request: Any) -> bool:
        return True

    async def present(self, request: Any, now: float, tokens: Tokens) -> Presented:
        return Presented(TOKEN, None, (b"__Host-session=new; Secure", b"__Host-session.1=er; Secure"))


async def test_a_renewed_session_reaches_the_browser() -> None:
    got = await Asking("caddy", sources=(_Renewed(),)).ask("/docs/7", token=False)
    assert got.status == 200
    assert [value for name, value in got.headers if name == "set-cookie"] == [
        "__Host-session=new; Secure",
        "__Host-session.1=er; Secure",
    ]
    got = await Asking("nginx", sources=(_Renewed(),)).ask("/docs/7", token=False)
    assert got.header("x-auth-set-cookie-2") == "__Host-session.1=er; Secure"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_caches_may_do_with_the_apps_answer_is_told(dialect: str) -> None:
    """The app's own business on a public route; for nobody else, and in no cache, with a session on it."""
    names = ("cache-control", "vary") if dialect == "envoy" else ("x-auth-cache-control", "x-auth-vary")
    public = await Asking(dialect).ask("/public")
    assert [public.header(name) or None for name in names] == [None, None]
    renewed = await Asking(dialect, sources=(_Renewed(),)).ask("/docs/7", token=False)
    assert [renewed.header(name) for name in names] == ["private, no-store", "Cookie, Authorization"]


async def test_shadow_mode_forwards_what_it_would_refuse_and_says_so() -> None:
    asking = Asking(mode="shadow")
    got = await asking.ask("/none", (b"x-auth-subject", b"root"), token=False)
    assert (got.status, got.header("x-auth-target"), got.header("x-auth-subject")) == (200, "/none", None)
    (line,) = asking.lines
    assert (line["outcome"], line["code"]) == ("shadow_refuse", "route_unmapped")
    # a question that cannot be read says nothing of a request that could be forwarded
    assert (await asking.ask("/none", (b"x-forwarded-uri", b"/"))).status == 400


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("query", ["?owner=mallory&page=1", "", "?page=1"])
async def test_a_query_that_the_sidecar_sets_is_sent_or_refused(dialect: str, query: str) -> None:
    asking = Asking(dialect)
    got = await asking.ask("/mine" + query)
    if DIALECTS[dialect].exact:
        assert (got.status, asking.lines[-1]["code"]) == (501, Code.PROXY_UNABLE)
    else:
        assert got.status == 200
        assert got.header("x-auth-target") == ("/mine?page=1&owner=a-1" if "page" in query else "/mine?owner=a-1")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_query_that_is_not_listed_is_refused_by_every_dialect(dialect: str) -> None:
    asking = Asking(dialect)
    assert ((await asking.ask("/paged?_where=1")).status, asking.lines[-1]["code"]) == (400, Code.QUERY_NOT_ALLOWED)


TOLD = ToApp(
    ((b"remote-user", parse_template("{principal.id}")), (b"x-forwarded-email", parse_template("{claims.email?}")))
)


def asking_of(dialect: str, to_app: ToApp, *, mode: Mode = "enforce") -> Asking:
    """A door whose every route tells the app this."""
    asking = Asking(dialect, mode=mode)
    table = RouteTable([route._replace(to_app=to_app) for route in TABLE.routes])
    rules = asking.door._door.gate.rules
    reading = rules.reading._replace(reserved=table.reserved)
    asking.door._door.gate.rules = replace(rules, table=table, reading=reading)
    return asking


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_header_of_to_app_is_in_the_answer(dialect: str) -> None:
    got = await asking_of(dialect, TOLD).ask("/docs/7")
    assert (got.status, got.header("remote-user")) == (200, "a-1")
    # Caddy puts a placeholder where it is told nothing
    assert got.header("x-forwarded-email") == ("" if dialect == "caddy" else None)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("target", ["/docs/7", "/public"])
async def test_a_clients_header_of_that_name_is_refused_where_the_proxy_may_send_it_on(
    dialect: str, target: str
) -> None:
    """A proxy whose file does not name it would send the client's: nobody else can know what the file says."""
    got = await asking_of(dialect, TOLD).ask(target, (b"remote-user", b"root"))
    if target == "/docs/7" or dialect in ("nginx", "traefik", "caddy"):
        assert (got.status, got.code) == (400, Code.HEADER_AMBIGUOUS)
    else:
        removed = got.header(DIALECTS[dialect].removal.decode())
        assert (got.status, "remote-user" in (removed or "").split(",")) == (200, True)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", [b"remote_user", b"remote.user", b"x_auth_subject", b"x_auth.roles"])
async def test_another_spelling_of_such_a_header_stays_in_no_request_in_shadow_either(
    dialect: str, name: bytes
) -> None:
    """WSGI, CGI and PHP read it as the same; Caddy takes away what its file names, in that spelling alone."""
    got = await asking_of(dialect, TOLD, mode="shadow").ask("/docs/7", (name, b"root"))
    if dialect in ("nginx", "traefik", "caddy"):
        assert (got.status, got.code) == (400, Code.HEADER_AMBIGUOUS)
    else:
        removed = got.header(DIALECTS[dialect].removal.decode())
        assert (got.status, name.decode() in (removed or "").split(",")) == (200, True)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_token_that_to_app_drops_is_taken_away_or_the_proxy_is_unable(dialect: str) -> None:
    got = await asking_of(dialect, ToApp((), AuthorizationRule.DROP)).ask("/docs/7")
    if dialect in ("nginx", "traefik", "caddy"):
        assert (got.status, got.code) == (501, Code.PROXY_UNABLE)
    else:
        removed = got.header(DIALECTS[dialect].removal.decode())
        assert (got.status, "authorization" in (removed or "").split(",")) == (200, True)
