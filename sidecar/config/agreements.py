"""Rules across settings, beyond the rule of each setting."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from sidecar.config import units
from sidecar.config.placeholders import PUBLISHED
from sidecar.config.setting_table import SETTINGS, Settings
from sidecar.gate.own import CALLBACK_PATH


class Agreement(NamedTuple):
    """Rule across settings, each valid by itself. `reads` are its settings: where one of them could
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
    if settings.region and pool_region and settings.region != pool_region:
        problems.append(f"AWS_REGION: found {settings.region!r}, expected {pool_region!r}, that of AWS_COGNITO_POOL_ID")
    if settings.region and not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", settings.region):
        problems.append(f"AWS_REGION: found {settings.region!r}, expected a region such as eu-west-1")
    if (settings.pool_id or settings.issuers) and not settings.client_ids:
        problems.append("AWS_COGNITO_CLIENT_ID: not set, expected the app clients whose tokens are taken")
    if settings.issuers and not settings.jwks_url:
        problems.append("SIDECAR_JWKS_URL: not set, expected the key URL of SIDECAR_ISSUER")
    return problems


def _envoy_problems(settings: Settings) -> list[str]:
    used, problems = [settings.listen, settings.admin_listen], []
    for variable, address in (
        ("SIDECAR_EXT_AUTHZ_LISTEN", settings.ext_authz_listen),
        ("SIDECAR_EXT_PROC_LISTEN", settings.ext_proc_listen),
    ):
        if address is not None and address in used:
            problems.append(f"{variable}: found {address}, expected a port that nothing else has")
        elif address is not None:
            used.append(address)
    return problems


def _forward_auth_problems(settings: Settings) -> list[str]:
    if settings.forward_auth == "off" or settings.trusted_proxies:
        return []
    return ["SIDECAR_TRUSTED_PROXIES: not set, expected the addresses of the proxy of SIDECAR_FORWARD_AUTH"]


def _port_problems(settings: Settings) -> list[str]:
    if settings.listen != settings.admin_listen:
        return []
    return [f"SIDECAR_ADMIN_LISTEN: found {settings.admin_listen}, expected another port than the traffic's"]


def _upstream_problems(settings: Settings) -> list[str]:
    """List contradictions about TLS to the app."""
    own = ["SIDECAR_UPSTREAM_CERTIFICATE", "SIDECAR_UPSTREAM_KEY"]
    if bool(settings.upstream_certificate) != bool(settings.upstream_key):
        return [f"{', '.join(own)}: found one of them, expected both or none"]
    given = own if settings.upstream_key else []
    if settings.upstream_server_name:
        given = [*given, "SIDECAR_UPSTREAM_SERVER_NAME"]
    if not given or settings.upstream.startswith("https:"):
        return []
    return [f"{', '.join(given)}: found it for {settings.upstream or 'none'}, expected it for an https upstream alone"]


def _tls_problems(settings: Settings) -> list[str]:
    if bool(settings.tls_certificate) == bool(settings.tls_key):
        return []
    return ["SIDECAR_TLS_CERTIFICATE, SIDECAR_TLS_KEY: found one of them, expected both or none"]


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
        problems += [
            f"AWS_COGNITO_HOSTED_UI_CALLBACK_URL: found {url!r}, expected one that ends in {CALLBACK_PATH}"
            for url in settings.callback_urls
            if not url.endswith(CALLBACK_PATH)
        ]
    return problems


def _log_problems(settings: Settings) -> list[str]:
    if not settings.question_log:
        return ["SIDECAR_QUESTION_LOG: not set, expected its file"] if settings.question_log_attributes else []
    if settings.question_log != settings.decision_log:
        return []
    return [f"SIDECAR_QUESTION_LOG: found {settings.question_log}, expected another file than SIDECAR_DECISION_LOG"]


def _reads(*beginnings: str) -> frozenset[str]:
    return frozenset(name for name in (setting.variable for setting in SETTINGS) if name.startswith(beginnings))


RULES = (
    Agreement(_reads("SIDECAR_UPSTREAM"), _upstream_problems),
    Agreement(_reads("AWS_", "SIDECAR_ISSUER", "SIDECAR_JWKS_URL"), _pool_problems),
    Agreement(_reads("SIDECAR_PDP", "SIDECAR_CERBOS"), _pdp_problems),
    Agreement(_reads("SIDECAR_LOG", "SIDECAR_SESSION_SECRET", "SIDECAR_HOSTS", "AWS_"), _login_problems),
    Agreement(
        _reads("SIDECAR_EXT_AUTHZ_LISTEN", "SIDECAR_EXT_PROC_LISTEN", "SIDECAR_LISTEN", "SIDECAR_ADMIN_LISTEN"),
        _envoy_problems,
    ),
    Agreement(_reads("SIDECAR_FORWARD_AUTH", "SIDECAR_TRUSTED_PROXIES"), _forward_auth_problems),
    Agreement(_reads("SIDECAR_TLS"), _tls_problems),
    Agreement(_reads("SIDECAR_QUESTION_LOG", "SIDECAR_DECISION_LOG"), _log_problems),
    Agreement(_reads("SIDECAR_LISTEN", "SIDECAR_ADMIN_LISTEN"), _port_problems),
)
