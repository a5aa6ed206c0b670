"""`config/agreements.py`: what contradicts is told, and nothing is told of what could not be read."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from sidecar.config.agreements import RULES, SettingFault
from sidecar.config.setting_table import SETTINGS, Settings
from sidecar.config.settings import understand

LEAST = {"SIDECAR_UPSTREAM": "http://127.0.0.1:5000"}


def test_every_rule_reads_settings_that_exist() -> None:
    known = {setting.variable for setting in SETTINGS}
    for rule in RULES:
        assert rule.reads
        assert rule.reads <= known


CONTRADICTIONS: list[dict[str, str]] = [
    {"SIDECAR_UPSTREAM_CERTIFICATE": "c.pem", "SIDECAR_UPSTREAM_KEY": "k.pem"},
    {"SIDECAR_UPSTREAM_KEY": "k.pem", "SIDECAR_TLS_KEY": "k.pem"},
    {"AWS_COGNITO_POOL_ID": "eu-west-1_A", "AWS_REGION": "Ireland"},
    {"SIDECAR_ISSUER": "https://idp"},
    {"SIDECAR_PDP": "authzen+https://pdp", "SIDECAR_PDP_ROLES": "roles"},
    {"SIDECAR_PDP_ROLES": "roles"},
    {"SIDECAR_CERBOS": "cerbos:3593", "SIDECAR_CERBOS_ADMIN": "cerbos:cerbosAdmin"},
    {"SIDECAR_CERBOS_TLS": "on", "SIDECAR_CERBOS_KEY": "k.pem"},
    {"SIDECAR_LOGIN": "hosted"},
    {"SIDECAR_LOGIN": "password"},
    {"AWS_COGNITO_DOMAIN": "prefix", "AWS_COGNITO_HOSTED_UI_CALLBACK_URL": "https://a/b"},
    {"SIDECAR_LOGOUT_PATHS": "/logout"},
    {"SIDECAR_EXT_AUTHZ_LISTEN": "127.0.0.1:1", "SIDECAR_EXT_PROC_LISTEN": "127.0.0.1:1"},
    {"SIDECAR_FORWARD_AUTH": "nginx"},
    {"SIDECAR_QUESTION_LOG_ATTRIBUTES": "owner"},
    {"SIDECAR_QUESTION_LOG": "a", "SIDECAR_DECISION_LOG": "a"},
]


class Watched:
    """Settings that keep which of their fields are read."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.read = settings, set[str]()

    def __getattr__(self, name: str) -> Any:
        made = getattr(Settings, name)
        if isinstance(made, property):
            assert made.fget is not None
            return made.fget(self)
        self.read.add(name)
        return getattr(self.settings, name)


def test_every_rule_names_all_that_it_reads() -> None:
    """Else it would be judged by a default that stands in for what could not be read."""
    variables = {setting.field: setting.variable for setting in SETTINGS}
    told: set[SettingFault] = set()
    for one, other in combinations(CONTRADICTIONS, 2):
        for rule in RULES:
            watched: Any = Watched(understand({**LEAST, **one, **other}, {}).settings)
            told.update(rule.faults(watched))
            # of those only what was read is not empty
            read = {variables[field] for field in watched.read if not field.startswith("pdp_")}
            assert read <= rule.reads, rule
    assert len({fault.variables for fault in told}) > len(RULES) // 2


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"SIDECAR_LISTEN": "127.0.0.1:9901"}, "SIDECAR_ADMIN_LISTEN"),
        ({"SIDECAR_FORWARD_AUTH": "nginx"}, "SIDECAR_TRUSTED_PROXIES"),
        ({"SIDECAR_PDP_TOKEN": "abc"}, "SIDECAR_PDP_TOKEN"),
        ({"SIDECAR_CERBOS": "cerbos:3593"}, "SIDECAR_CERBOS"),
        ({"SIDECAR_LOGIN": "password"}, "SIDECAR_SESSION_SECRET"),
        ({"SIDECAR_EXT_AUTHZ_LISTEN": "0.0.0.0:8080"}, "SIDECAR_EXT_AUTHZ_LISTEN"),
        ({"SIDECAR_EXT_PROC_LISTEN": "0.0.0.0:8080"}, "SIDECAR_EXT_PROC_LISTEN"),
        ({"AWS_COGNITO_POOL_ID": "eu-west-1_AbC", "AWS_COGNITO_CLIENT_ID": "c"}, "AWS_REGION"),
    ],
)
def test_what_contradicts_is_told(environ: dict[str, str], told: str) -> None:
    assert told in {problem.partition(":")[0] for problem in understand({**LEAST, **environ}, {}).problems}


def test_nothing_is_told_of_what_could_not_be_read() -> None:
    problems = understand({**LEAST, "SIDECAR_LISTEN": "nonsense", "SIDECAR_FORWARD_AUTH": "nginx"}, {}).problems
    assert [problem.partition(":")[0] for problem in problems] == ["SIDECAR_LISTEN", "SIDECAR_TRUSTED_PROXIES"]


UPSTREAM_TLS = {
    "SIDECAR_UPSTREAM_SERVER_NAME": "app", "SIDECAR_UPSTREAM_CERTIFICATE": "c.pem", "SIDECAR_UPSTREAM_KEY": "k.pem",
}  # fmt: skip


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ({"SIDECAR_UPSTREM": "https://app:1"}, ["SIDECAR_UPSTREM"]),
        ({"SIDECAR_UPSTREAM": "app:1"}, ["SIDECAR_UPSTREAM"]),
        ({}, [", ".join(sorted(UPSTREAM_TLS))]),
        ({"SIDECAR_UPSTREAM": "https://app:1"}, []),
        ({"SIDECAR_UPSTREAM": "http://app:1"}, [", ".join(sorted(UPSTREAM_TLS))]),
    ],
)
def test_tls_to_an_app_is_judged_unless_its_setting_is_in_doubt(app: dict[str, str], told: list[str]) -> None:
    problems = understand(app | UPSTREAM_TLS, {}).problems
    assert [", ".join(sorted(problem.partition(":")[0].split(", "))) for problem in problems] == told
    lone = app | {"SIDECAR_UPSTREAM_KEY": "k.pem"}
    pair = "SIDECAR_UPSTREAM_CERTIFICATE, SIDECAR_UPSTREAM_KEY: found one of them, expected both or none"
    assert pair in understand(lone, {}).problems


@pytest.mark.parametrize(
    ("bad", "environ", "told"),
    [
        ({"SIDECAR_LOG_LEVEL": "loud"}, {"SIDECAR_LOGIN": "password"}, "SIDECAR_SESSION_SECRET"),
        ({"SIDECAR_SESSION_SECRET": "short"}, {"SIDECAR_LOGIN": "password"}, "AWS_COGNITO_POOL_ID"),
        ({"SIDECAR_CERBOS_TIMEOUT": "soon"}, {"SIDECAR_CERBOS": "cerbos:3593"}, "SIDECAR_CERBOS"),
        ({"SIDECAR_PDP_TOKEN": "a b"}, {"SIDECAR_CERBOS": "cerbos:3593"}, "SIDECAR_CERBOS"),
        ({"AWS_COGNITO_CLIENT_SECRET": "changeme"}, {"AWS_COGNITO_POOL_ID": "eu-west-1_A"}, "AWS_REGION"),
        ({"SIDECAR_UPSTREAM_HEAD_TIMEOUT": "soon"}, {"SIDECAR_UPSTREAM_KEY": "k.pem"}, "SIDECAR_UPSTREAM_CERTIFICATE, SIDECAR_UPSTREAM_KEY"),
    ],
)  # fmt: skip
def test_what_could_not_be_read_hides_nothing_that_does_not_depend_on_it(
    bad: dict[str, str], environ: dict[str, str], told: str
) -> None:
    problems = understand({**LEAST, **bad, **environ}, {}).problems
    assert {*bad, told} <= {problem.partition(":")[0] for problem in problems}


def test_what_is_missing_for_two_reasons_is_told_once() -> None:
    environ = {**LEAST, "AWS_COGNITO_POOL_ID": "eu-west-1_A", "SIDECAR_LOGIN": "both", "AWS_COGNITO_DOMAIN": "prefix"}
    told = [problem.partition(":")[0] for problem in understand(environ, {}).problems]
    assert sorted(told) == ["AWS_COGNITO_CLIENT_ID", "AWS_REGION", "SIDECAR_SESSION_SECRET"]
