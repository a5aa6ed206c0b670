"""What `sidecar check` says of claims that the accepted tokens lack: with place, effect and what to do, and without a false alarm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidecar import cli
from sidecar.config.routes.file import read_routes
from sidecar.config.settings import read_settings
from sidecar.run import checking
from sidecar.study.claims import ClaimFindings, lacking
from tests.conftest import policies
from tests.stack import binary
from tests.tokens import SESSION_SECRET

POOL = {"AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_AbC", "AWS_COGNITO_CLIENT_ID": "web"}
OTHER = {
    "SIDECAR_ISSUER": "https://idp.test",
    "SIDECAR_JWKS_URL": "https://idp.test/jwks",
    "AWS_COGNITO_CLIENT_ID": "web",
}


def said(
    principal: str, uses: str = "", environ: dict[str, str] | None = None, routes: str = "routes: []"
) -> ClaimFindings:
    identity = (
        f"identity: [{{region: eu-west-1, user_pool_id: eu-west-1_AbC, client_ids: [web], token_use: {uses}}}]\n"
        if uses
        else ""
    )
    text = f"version: 1\nprincipal: {principal}\n{identity}{routes}\n"
    settings = read_settings({"SIDECAR_UPSTREAM": "http://127.0.0.1:1", **(POOL if environ is None else environ)}, {})
    return lacking(read_routes(text, settings.routes, {}), settings, text)


@pytest.mark.parametrize(
    ("principal", "uses", "begins", "holds"),
    [
        ('{attributes: {level: "custom:level"}}', "", "routes.yaml:2:33: principal.attributes.level: ", "403 claim_missing"),
        ("{attributes: {mail: {claim: email, type: string}}}", "", "routes.yaml:2:40: principal.attributes.mail.claim: ", "'email' into access"),
        ("{attributes: {mail: email}}", "[access]", "routes.yaml:2:32: principal.attributes.mail: ", "no other ones are accepted"),
        ("{attributes: {scopes: scope}}", "[id]", "routes.yaml:2:34: principal.attributes.scopes: ", "'scope' into id tokens"),
        ("{id: email}", "", "routes.yaml:2:17: principal.id: ", "every token is 403 principal_missing"),
        ('{id: "cognito:username"}', "", "routes.yaml:2:17: principal.id: ", "it is 'username' there"),
        ("{id: username}", "[id]", "routes.yaml:2:17: principal.id: ", "it is 'cognito:username' there"),
        ('{roles: "custom:groups"}', "", "routes.yaml:2:20: principal.roles: ", "no role comes of it"),
        ('{roles: ["cognito:groups", {claim: "custom:groups", format: saml}]}', "", "routes.yaml:2:47: principal.roles[1].claim: ", "no role"),
    ],
)  # fmt: skip
def test_a_claim_that_no_accepted_token_has_is_warned_of(principal: str, uses: str, begins: str, holds: str) -> None:
    (warning,) = said(principal, uses).warnings
    assert warning.startswith(begins + "Cognito puts no claim")
    assert holds in warning


@pytest.mark.parametrize(
    ("principal", "uses"),
    [
        ("{}", ""), ("{id: sub}", "[id]"), ('{attributes: {level: "custom:level"}, optional: level}', ""),
        ('{attributes: {level: "custom:level"}}', "[id]"), ('{attributes: {level: "custom:level", scopes: scope}}', "[access, id]"),
        # what no token has by itself, a trigger adds: whoever names it knows
        ("{attributes: {tenant: tenant, issuer: iss, client: client_id}}", ""), ("{roles: scope}", "[access]"),
        ('{roles: "cognito:groups"}', "[id]"), ("{attributes: {level: email}}", "[]"),
    ],
)  # fmt: skip
def test_nothing_is_said_where_a_token_may_have_it(principal: str, uses: str) -> None:
    assert said(principal, uses) == ClaimFindings([], [])


LEVELS = "{attributes: {level: {claim: level, type: number}, name: iss, count: {claim: count, type: int}, any: {claim: any, type: json}}}"


def of_route(more: str, principal: str = LEVELS, environ: dict[str, str] | None = None) -> list[str]:
    route = f"routes: [{{path: /x, resource: r, actions: {{GET: a}}, {more}}}]"
    found = said(principal, environ=environ, routes=route)
    assert found.notes == []
    return found.warnings


@pytest.mark.parametrize(
    ("more", "warning"),
    [
        ('scope: "{claims.custom:tenant}"', "routes.yaml:3:60: routes[0].scope: Cognito puts no claim 'custom:tenant' into access"),
        ('attributes: {mail: "{claims.email}"}', "routes.yaml:3:72: routes[0].attributes.mail: Cognito puts no claim 'email'"),
        ('attributes: {a: "{principal.attributes.who?}"}', "{principal.attributes.who}, which principal.attributes does not declare: the attribute is always"),
        ('id: "{principal.attributes.who}"', "routes[0].id: found {principal.attributes.who}, which principal.attributes does not declare"),
        (
            'id: "{principal.attributes.level}"',
            "found {principal.attributes.level}, expected {principal.attributes.level:number}: the attribute is of the type number",
        ),
        ('attributes: {a: "{principal.attributes.count:bool}"}', "found {principal.attributes.count:bool}, expected {principal.attributes.count:int}"),
    ],
)  # fmt: skip
def test_a_reference_that_never_has_a_value_is_warned_of(more: str, warning: str) -> None:
    (told,) = of_route(more)
    assert warning in told


@pytest.mark.parametrize(
    "more",
    [
        'attributes: {mail: "{claims.email?}"}', 'id: "{claims.sub}"', 'scope: "{claims.tenant}"', 'id: "{principal.id}"', 'attributes: {r: "{principal.roles:list}"}',
        'id: "{principal.attributes.name}"', 'id: "{principal.attributes.level:number}"', 'id: "{principal.attributes.level:int}"',
        'id: "{principal.attributes.count:number}"', 'id: "{principal.attributes.any}"', 'id: "{query.email}"',
    ],
)  # fmt: skip
def test_a_reference_that_may_have_a_value_is_not(more: str) -> None:
    assert of_route(more) == []


def test_a_reference_of_a_lookup_is_looked_at_too() -> None:
    lookup = "lookups: {l: {url: 'http://h/{claims.email}/{id}', attributes: {a: b}}}\nroutes: []"
    (told,) = said("{}", routes=lookup).warnings
    assert "lookups.l.url: Cognito puts no claim 'email'" in told


def test_nothing_is_said_of_another_issuers_tokens() -> None:
    assert said('{id: email, attributes: {level: "custom:level"}}', environ=OTHER) == ClaimFindings([], [])


def test_one_pool_of_several_is_enough_for_a_warning() -> None:
    text = (
        "version: 1\nprincipal: {attributes: {mail: email}}\nidentity:\n"
        "  - {region: eu-west-1, user_pool_id: eu-west-1_A, client_ids: [a], token_use: [id]}\n"
        "  - {region: eu-west-1, user_pool_id: eu-west-1_B, client_ids: [b]}\nroutes: []\n"
    )
    settings = read_settings({"SIDECAR_UPSTREAM": "http://127.0.0.1:1"}, {})
    assert len(lacking(read_routes(text, settings.routes, {}), settings, text).warnings) == 1


@pytest.mark.parametrize(
    ("principal", "note"),
    [
        ("{id: username}", "routes.yaml:2:17: principal.id: the access token of a program (client credentials) has no claim 'username': it is 403"),
        ("{attributes: {name: username}}", "routes.yaml:2:32: principal.attributes.name: the access token of a program (client credentials) has"),
    ],
)  # fmt: skip
def test_what_a_program_lacks_is_noted(principal: str, note: str) -> None:
    told = said(principal)
    assert told.warnings == []
    assert [line.startswith(note) for line in told.notes] == [True]


def test_a_name_that_may_be_absent_is_no_news() -> None:
    assert said("{attributes: {name: username}, optional: [name]}") == ClaimFindings([], [])


SIGNS_IN = {
    **POOL,
    "AWS_COGNITO_DOMAIN": "https://auth.test",
    "SIDECAR_SESSION_SECRET": SESSION_SECRET,
    "SIDECAR_HOSTS": "app.test",
}


@pytest.mark.parametrize(
    ("principal", "environ", "warning"),
    [
        ("{attributes: {m: {claim: email, from: id}}}", POOL, "nobody signs in here, and only a session has an id token"),
        ("{roles: {claim: 'custom:roles', from: id}}", POOL, "beside its access token: no role comes of it"),
        ("{attributes: {m: {claim: scope, from: id}}}", SIGNS_IN, "Cognito puts no claim 'scope' into id tokens: every decided request is 403"),
    ],
)  # fmt: skip
def test_a_claim_that_no_session_keeps_is_warned_of(principal: str, environ: dict[str, str], warning: str) -> None:
    (told,) = said(principal, environ=environ).warnings
    assert warning in told


def test_what_a_bearer_token_lacks_beside_a_session_is_noted() -> None:
    told = said("{attributes: {mail: {claim: email, from: id}}}", environ=SIGNS_IN)
    assert told.warnings == []
    (note,) = told.notes
    assert note.startswith(
        "routes.yaml:2:40: principal.attributes.mail.claim: an access token that is sent as a bearer token comes without"
    )
    assert said("{attributes: {mail: {claim: email, from: id}}, optional: mail}", environ=SIGNS_IN) == ClaimFindings(
        [], []
    )
    assert said("{roles: {claim: 'custom:roles', from: id}}", environ=SIGNS_IN) == ClaimFindings([], [])


def test_the_command_tells_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    routes = tmp_path / "routes.yaml"
    principal = json.dumps({"id": "username", "attributes": {"mail": "email"}})
    routes.write_text(f"version: 1\nprincipal: {principal}\nroutes: []\n")
    own = {"SIDECAR_ROUTES": str(routes), "SIDECAR_POLICIES": str(policies()), "SIDECAR_CERBOS_BINARY": str(binary())}
    for name, value in {**POOL, **own}.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["check"]) == 0
    out, err = capsys.readouterr()
    assert f"warning: {routes}:2:" in err
    assert "'email'" in err
    assert "a program (client credentials)" in out
    assert len(checking.findings({**POOL, **own}, {}).warnings) >= 1
