"""`config/suggest.py`, and each place that names what it does not know."""

from __future__ import annotations

import re

import pytest

from sidecar.config.routes.file import RoutesError, read_routes
from sidecar.config.settings import SettingsError, read_settings
from sidecar.config.suggest import did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "told"),
    [
        ("pathh", ("path", "access"), ", did you mean 'path'?"),
        ("lookups", ("lookup", "look"), ", did you mean 'lookup'?"),
        ("Resource", ("resource", "id"), ", did you mean 'resource'?"),
        ("banana", ("path", "access"), ""),
        ("x", (), ""),
    ],
)
def test_a_name_gets_the_closest_known_one(name: str, known: tuple[str, ...], told: str) -> None:
    assert did_you_mean(name, known) == told


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{path: /x, acess: public}", "routes[0]: found the name 'acess'"),
        ("{path: /x, acess: public}", "did you mean 'access'?"),
        ("{path: /x, resource: r, lookup: contcat, query: [], actions: {GET: read}}", "did you mean 'contact'?"),
        ("{path: '/x/{id}', resource: r, id: '{path.idd}', query: [], actions: {GET: read}}", "did you mean 'id'?"),
    ],
)
def test_the_route_file_suggests(entry: str, told: str) -> None:
    text = (
        "version: 1\nlookups:\n  contact: {url: 'http://hook/{id}', attributes: {owner: owner}}\nroutes:\n  - "
        + entry
        + "\n"
    )
    with pytest.raises(RoutesError) as caught:
        read_routes(text, "routes.yaml", {})
    assert told in str(caught.value)


def test_the_settings_suggest() -> None:
    with pytest.raises(SettingsError, match=r"SIDECAR_UPSTRAEM: unknown setting, did you mean 'SIDECAR_UPSTREAM'\?"):
        read_settings({"SIDECAR_UPSTREAM": "http://127.0.0.1:5000", "SIDECAR_UPSTRAEM": "x"}, {})


@pytest.mark.parametrize(
    ("region", "pool_id", "said"),
    [
        ("eu-west-1", "eu-west-1_AbCdEf", ""),
        ("eu-west-1", "us-east-1_AbCdEf", "found 'eu-west-1', expected 'us-east-1'"),
    ],
)
def test_the_region_is_that_of_the_pool(region: str, pool_id: str, said: str) -> None:
    environ = {
        "SIDECAR_UPSTREAM": "http://127.0.0.1:5000", "AWS_REGION": region, "AWS_COGNITO_POOL_ID": pool_id,
        "AWS_COGNITO_CLIENT_ID": "c",
    }  # fmt: skip
    entry = f"{{region: {region}, user_pool_id: {pool_id}, client_ids: [c]}}"
    routes = f"version: 1\nidentity: [{entry}]\nroutes: [{{path: /x, access: public}}]\n"
    if not said:
        read_settings(environ, {})
        read_routes(routes, "routes.yaml", {})
        return
    with pytest.raises(SettingsError, match=f"AWS_REGION: {said}"):
        read_settings(environ, {})
    with pytest.raises(RoutesError, match=rf"routes\.yaml:2:21: .*: {said}"):
        read_routes(routes, "routes.yaml", {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version: 1\nrotues: []\n", ["2:1: found the name 'rotues', expected one of … did you mean 'routes'? It is required: the routes"]),
        ("version: 1\nroutes: [{pth: /x, access: public}]\n", ["2:11: routes[0]: found the name 'pth', expected one of … did you mean 'path'? It is required: the paths"]),
        (
            "vers1on: 1\nversiom: 1\nroutes: []\n",
            ["1:1: found the name 'vers1on', expected one of … did you mean 'version'? It is required: the version",
             "2:1: found the name 'versiom', expected one of … did you mean 'version'?"],
        ),
        ("routes: []\n", ["1:1: found no 'version', expected it: the version of this grammar"]),
    ],
)  # fmt: skip
def test_a_required_name_that_is_misspelt_is_told_once(text: str, told: list[str]) -> None:
    with pytest.raises(RoutesError) as caught:
        read_routes(text, "r.yaml", {})
    said = [
        re.sub(r"expected one of .*, did", "expected one of … did", str(problem)) for problem in caught.value.problems
    ]
    assert len(said) == len(told), said
    assert all(one.startswith(f"r.yaml:{other}") for one, other in zip(said, told, strict=True)), said
