"""`to_app` of a route file: what a route says in place of the file, and what it cannot say."""

from __future__ import annotations

import pytest

from sidecar.config.routes.to_app import MAX_HEADERS
from sidecar.gate.to_app import AuthorizationRule
from tests.config.routes.reading import faults, one_route, read

FILE = "to_app: {headers: {Remote-User: '{principal.id}', X-Forwarded-Email: '{claims.email?}'}, authorization: drop}\n"


def names(route: str, more: str = FILE) -> tuple[list[bytes], AuthorizationRule | None]:
    (made,) = read(one_route(route, more)).table.routes
    assert made.to_app is not None
    return [name for name, _ in made.to_app.headers], made.to_app.authorization


@pytest.mark.parametrize(
    ("own", "headers", "rule"),
    [
        ("", [b"remote-user", b"x-forwarded-email"], "drop"),
        (", to_app: {authorization: keep}", [b"remote-user", b"x-forwarded-email"], "keep"),
        (", to_app: {headers: {Remote-Groups: '{principal.roles:list}'}}", [b"remote-groups"], "drop"),
        (", to_app: {headers: {}}", [], "drop"),
    ],
)
def test_each_name_of_a_route_takes_the_place_of_the_files(own: str, headers: list[bytes], rule: str) -> None:
    assert names(f"{{path: /x, access: authenticated{own}}}") == (headers, AuthorizationRule(rule))


def test_a_file_and_a_route_without_it_say_nothing() -> None:
    made = read(one_route("{path: /x, access: authenticated}"))
    assert (made.table.routes[0].to_app, made.table.to_app, made.table.reserved) == (None, None, frozenset())


def test_a_header_is_reserved_whoever_names_it() -> None:
    route = "{path: /x, access: authenticated, to_app: {headers: {X-Team: '{claims.team}'}}}"
    assert read(one_route(route, FILE)).table.reserved == {b"remote-user", b"x-forwarded-email", b"x-team"}
    assert read(one_route("{path: /x, access: public}", FILE)).table.reserved == {b"remote-user", b"x-forwarded-email"}


@pytest.mark.parametrize(
    "name",
    ["Remote-User", "Remote-Groups", "X-WEBAUTH-USER", "X-Auth-Request-Email", "X-Forwarded-User", "X-Forwarded-Preferred-Username",
     "X-Forwarded-Groups", "X-Remote-User", "X-User-Id", "Tenant"],
)  # fmt: skip
def test_a_name_of_the_apps_own_is_taken(name: str) -> None:
    assert names("{path: /x, access: authenticated}", f"to_app: {{headers: {{{name}: '{{principal.id}}'}}}}\n")[0]


@pytest.mark.parametrize(
    "name",
    ["Host", "Authorization", "Cookie", "Content-Length", "Content-Type", "Connection", "Transfer-Encoding", "X-Auth-Subject", "X-Auth-Roles",
     "X-Request-Id", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Uri", "X-Original-Url", "X-Real-IP", "Origin",
     "X-HTTP-Method-Override", "Accept", "Accept-Language", "If-Match", "Range", "Sec-Fetch-Site", "Upgrade", "Traceparent", "Referer",
     "X-Amzn-Oidc-Data", "Set-Cookie", "Access-Control-Request-Method", "Expect", "Forwarded", "User-Agent", "TE",
     "X-Auth-Target", "X-Auth-Remove", "X-Auth-Problem", "X-Auth-Vary", "X-Auth-Cache-Control", "X-Auth-Set-Cookie-1"],
)  # fmt: skip
def test_a_name_that_says_something_else_is_none(name: str) -> None:
    (fault,) = faults(
        one_route("{path: /x, access: authenticated}", f"to_app: {{headers: {{{name}: '{{principal.id}}'}}}}\n")
    )
    assert f"to_app.headers: found {name}, expected a header that tells of who asks" in fault


@pytest.mark.parametrize(
    ("to_app", "says"),
    [
        ("headers: {Remote_User: '{principal.id}'}", "to_app.headers: found the name 'Remote_User', expected a header's name"),
        ("headers: {A: '{principal.id}', a: '{claims.sub}'}", "to_app.headers: found one header twice, expected each once, whatever its case"),
        ("headers: {A: '{query.user}'}", "to_app.headers.A: found {query.user}, expected {principal.…} or {claims.…}: it tells of who asks"),
        ("headers: {A: '{header.x-user}'}", "to_app.headers.A: found {header.x-user}, expected {principal.…} or {claims.…}"),
        ("headers: {A: '{path.id}'}", "to_app.headers.A: found {path.id}, expected {principal.…} or {claims.…}"),
        ("headers: {A: '{principal.roles}'}", "to_app.headers.A: found {principal.roles}, expected {principal.roles:list}, which are joined with ','"),
        ("headers: {A: '{principal.attributes.meta:json}'}", "to_app.headers.A: found {principal.attributes.meta:json}, expected another type"),
        ("headers: {A: root}", "to_app.headers.A: found 'root' without a reference, expected {principal.…} or {claims.…} in it"),
        ("headers: {A: 'ü{principal.id}'}", "to_app.headers.A: found 'ü', expected visible ASCII between the references"),
        ('headers: {A: "{principal.id}\\r\\nX: 1"}', "expected visible ASCII between the references"),
        ("headers: {A: '{claims.a?} {claims.b}'}", "to_app.headers.A: found {claims.a?} inside a text"),
        ("authorization: pass", "to_app.authorization: found text 'pass', expected drop or keep or forward"),
        ("headers: {" + ", ".join(f"A{n}: '{{claims.a}}'" for n in range(MAX_HEADERS + 1)) + "}", "to_app.headers: found 17 headers, expected at most 16"),
    ],
)  # fmt: skip
def test_what_it_cannot_say_is_named_with_its_place(to_app: str, says: str) -> None:
    assert any(
        says in fault for fault in faults(one_route("{path: /x, access: authenticated}", f"to_app: {{{to_app}}}\n"))
    )


def test_a_public_route_knows_nobody_to_tell_of() -> None:
    route = "{path: /x, access: public, to_app: {headers: {Remote-User: '{principal.id}'}}}"
    assert (
        "routes[0].to_app.headers: found them on a public route, expected them where somebody is known"
        in faults(one_route(route))[0]
    )
    assert names("{path: /x, access: public, to_app: {authorization: drop}}", "") == ([], AuthorizationRule.DROP)


@pytest.mark.parametrize(
    "more",
    ["attributes: {team: '{header.x-team}'}", "id: '{header.X-Team}'", "actions: {POST: {action: a, attributes: {t: '{header.x-team?}'}}}", "lookup: l"],
)  # fmt: skip
def test_a_rule_cannot_read_a_clients_header_that_no_client_can_send(more: str) -> None:
    lookups = "lookups: {l: {url: 'http://h/{header.x-team}', attributes: {a: b}}}\n" if more == "lookup: l" else ""
    actions = "" if "actions" in more else ", actions: {GET: a}"
    route = f"{{path: /x, resource: r, {more}{actions}}}"
    assert read(one_route(route, lookups)).table.routes
    (fault,) = faults(one_route(route, "to_app: {headers: {X-Team: '{claims.team}'}}\n" + lookups))
    assert fault.startswith(
        "routes.yaml:2:9: to_app: found x-team, expected another: a client's is removed, and {header.x-team}"
    )
