"""No secret that a document shows is taken, and none with a pattern."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.placeholders import PUBLISHED, is_regular, require_drawn, require_own, require_own_password
from sidecar.config.setting_table import SETTINGS
from sidecar.config.settings import SettingsError, read_settings
from sidecar.run.checking import findings
from tests.stack import ROOT

SECRET_SETTINGS = {setting.variable for setting in SETTINGS if setting.secret}
FILES = [
    ROOT / "README.md", ROOT / "docker-compose.yaml", ROOT / "sidecar" / "inject" / "template.yaml",
    *(path for folder in ("docs", "deploy") for path in sorted((ROOT / folder).rglob("*")) if path.is_file()),
]  # fmt: skip
_ASSIGNED = re.compile(
    rf"""\b({"|".join(sorted(SECRET_SETTINGS))})(?:=|:\s+|,\s*value:\s*|\s+value:\s*)["']?([^\s"',}}|`]+(?:,[^\s"'}}`]+)?)"""
)
# a command or a variable that the shell, compose or Kubernetes fills in before we see it
_FILLED_IN = re.compile(r"\$\(openssl|\$[a-z]|\$\{[A-Z_]+:[?-]|\S*\$\([A-Z_]+\)")


def shown() -> Iterator[tuple[str, str, str]]:
    """File, variable and value of every secret that a document or a manifest assigns."""
    for path in FILES:
        for variable, value in _ASSIGNED.findall(path.read_text("utf-8", "replace")):
            if not _FILLED_IN.match(value):
                yield str(path.relative_to(ROOT)), variable, value


def is_refused(variable: str, value: str) -> bool:
    try:
        read_settings(
            {
                "SIDECAR_UPSTREAM": "http://a:1",
                "SIDECAR_CERBOS": "cerbos:3593",
                "SIDECAR_CERBOS_TLS": "plaintext",
                variable: value,
            },
            {},
        )
    except SettingsError as error:
        return any(problem.startswith(f"{variable}: ") and value not in problem for problem in error.problems)
    return False


def test_documents_show_secrets_and_each_is_refused() -> None:
    found = list(shown())
    assert {"SIDECAR_SESSION_SECRET", "AWS_COGNITO_CLIENT_SECRET", "SIDECAR_PDP_TOKEN", "SIDECAR_CERBOS_ADMIN"} <= {
        variable for _, variable, _ in found
    }
    without_password = re.compile(r"(?:rediss?|unix)://[^@]*")
    taken = [
        each for each in found
        if not is_refused(each[1], each[2]) and not without_password.fullmatch(each[2])
    ]  # fmt: skip
    assert taken == []


def test_the_published_password_of_a_socket_is_no_ones_who_has_not_the_socket() -> None:
    for published in PUBLISHED:
        environ = {"SIDECAR_UPSTREAM": "http://a:1", "SIDECAR_CERBOS_ADMIN": published}
        assert read_settings({**environ, "SIDECAR_CERBOS": "unix:/run/cerbos.sock"}, {}).cerbos_admin == published
        with pytest.raises(SettingsError, match="a password that documents publish"):
            read_settings({**environ, "SIDECAR_CERBOS": "cerbos:3593", "SIDECAR_CERBOS_TLS": "plaintext"}, {})


@pytest.mark.parametrize(
    "secret",
    [
        "put-the-output-of-openssl-rand-base64-32-here",
        "32-random-characters-of-your-own-",
        "CHANGE_ME-CHANGE_ME-CHANGE_ME-CHANGE",
        "changemechangemechangemechangeme1",
        "$(openssl rand -base64 32)-and-more-of-it",
        "${SIDECAR_SESSION_SECRET}-not-filled-in",
        "<thirty-two characters of your own>",
        "my-super-secret-session-key-12345678",
        "your-256-bit-secret-your-256-bit-secret",
        "insert-your-secret-here-please-now",
    ],
)
def test_a_secret_that_anybody_may_guess_is_refused_and_not_told(secret: str) -> None:
    with pytest.raises(ValueError, match="openssl rand -base64 32") as caught:
        require_drawn(secret, "openssl rand -base64 32")
    assert secret not in str(caught.value)
    assert is_refused("SIDECAR_SESSION_SECRET", secret)
    assert is_refused("SIDECAR_SESSION_SECRET", f"{secrets.token_urlsafe(32)},{secret}")


@pytest.mark.parametrize(
    "secret",
    [
        "s" * 32,
        "ab" * 20,
        "0123456789abcdef0123456789abcdef",
        "abcdefghijklmnopqrstuvwxyz012345",
        "thisphraseagain-thisphraseagain-",
    ],
)
def test_check_warns_of_a_pattern_and_tells_nothing_of_it(secret: str, tmp_path: Path) -> None:
    routes = tmp_path / "routes.yaml"
    routes.write_text("version: 1\nroutes: [{path: /x, access: public}]\n")
    environ = {"SIDECAR_ROUTES": str(routes), "SIDECAR_CERBOS": "127.0.0.1:3593"}
    drawn = secrets.token_urlsafe(32)
    found = findings({**environ, "SIDECAR_SESSION_SECRET": f"{drawn},{secret}"}, {})
    assert found.problems == []
    (warning,) = [each for each in found.warnings if each.startswith("SIDECAR_SESSION_SECRET: ")]
    assert "pattern" in warning
    assert secret not in warning
    assert not any("pattern" in each for each in findings({**environ, "SIDECAR_SESSION_SECRET": drawn}, {}).warnings)


@given(st.binary(min_size=16, max_size=64))
def test_hardly_any_random_secret_is_refused(seed: bytes) -> None:
    # a digest is as random as what openssl draws, and the same for the same seed
    digest = hashlib.sha256(seed).digest()
    for secret in (digest[:16].hex(), base64.b64encode(digest).decode()):
        assert not is_regular(secret)
        assert require_drawn(secret, "") == secret


@pytest.mark.parametrize("secret", ["replace-this", "PLACEHOLDER", "${TOKEN}", "None", "changeme", "<token>"])
def test_a_placeholder_of_somebody_elses_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="found a placeholder"):
        require_own(secret, "ask")


@pytest.mark.parametrize("secret", ["1secretsecretx", "eyJhbGciOi.exampleA.b", "its-secret", "S3CRET", ""])
def test_a_token_that_has_such_letters_by_chance_is_taken(secret: str) -> None:
    assert require_own(secret, "ask") == secret


def test_the_password_of_a_url_is_looked_at() -> None:
    assert require_own_password("redis://redis:6379/0", "") == "redis://redis:6379/0"
    assert require_own_password("redis://:7d1c0ffee@redis:6379/0", "") == "redis://:7d1c0ffee@redis:6379/0"
    assert is_refused("SIDECAR_REDIS_URL", "redis://:change-me@redis:6379/0")
    assert is_refused("SIDECAR_REDIS_URL", "redis://user:$(REDIS_PASSWORD)@redis:6379/0")
