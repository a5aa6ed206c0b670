"""`config/agreements.py`: what contradicts is told, and nothing is told of what could not be read."""

from __future__ import annotations

import pytest

from sidecar.config.agreements import RULES
from sidecar.config.setting_table import SETTINGS
from sidecar.config.settings import understand

LEAST = {"SIDECAR_UPSTREAM": "http://127.0.0.1:5000"}


def test_every_rule_reads_settings_that_exist() -> None:
    known = {setting.variable for setting in SETTINGS}
    for rule in RULES:
        assert rule.reads
        assert rule.reads <= known


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
