"""Rules across settings, beyond the rule of each setting."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from sidecar.config import units
from sidecar.config.placeholders import PUBLISHED
from sidecar.config.setting_table import SETTINGS, Settings
from sidecar.gate.own import CALLBACK_PATH


class SettingFault(NamedTuple):
    """One fault of settings: the variables that it is about, and what was found and expected of them."""

    variables: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return f"{', '.join(self.variables)}: {self.message}"


class Agreement(NamedTuple):
    """Rule across settings, each valid by itself. `reads` are its settings: where one of them could
    not be read, nothing is said of it."""

    reads: frozenset[str]
    faults: Callable[[Settings], Iterable[SettingFault]]


def _fault(variable: str, message: str) -> SettingFault:
    return SettingFault((variable,), message)


# --- whose tokens are taken ---


def _region_faults(settings: Settings) -> Iterator[SettingFault]:
    if settings.pool_id and not settings.region:
        yield _fault("AWS_REGION", "not set, expected the region of AWS_COGNITO_POOL_ID")
    pool_region = settings.pool_id.rpartition("_")[0]
    if settings.region and pool_region and settings.region != pool_region:
        yield _fault(
            "AWS_REGION", f"found {settings.region!r}, expected {pool_region!r}, that of AWS_COGNITO_POOL_ID"
        )  # fmt: skip
    if settings.region and not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", settings.region):
        yield _fault("AWS_REGION", f"found {settings.region!r}, expected a region such as eu-west-1")


def _pool_faults(settings: Settings) -> Iterator[SettingFault]:
    if settings.pool_id and not re.fullmatch(r"[\w-]+_[A-Za-z0-9]+", settings.pool_id):
        yield _fault("AWS_COGNITO_POOL_ID", f"found {settings.pool_id!r}, expected an id such as eu-west-1_AbCdEf")


def _client_faults(settings: Settings) -> Iterator[SettingFault]:
    if (settings.pool_id or settings.issuers) and not settings.client_ids:
        yield _fault("AWS_COGNITO_CLIENT_ID", "not set, expected the app clients whose tokens are taken")


def _issuer_faults(settings: Settings) -> Iterator[SettingFault]:
    if settings.issuers and not settings.jwks_url:
        yield _fault("SIDECAR_JWKS_URL", "not set, expected the key URL of SIDECAR_ISSUER")


# --- ports and proxies ---


def _envoy_faults(settings: Settings) -> Iterator[SettingFault]:
    used = [settings.listen, settings.admin_listen]
    for variable, address in (
        ("SIDECAR_EXT_AUTHZ_LISTEN", settings.ext_authz_listen),
        ("SIDECAR_EXT_PROC_LISTEN", settings.ext_proc_listen),
    ):
        if address is not None and address in used:
            yield _fault(variable, f"found {address}, expected a port that nothing else has")
        elif address is not None:
            used.append(address)


def _forward_auth_faults(settings: Settings) -> Iterator[SettingFault]:
    if settings.forward_auth != "off" and not settings.trusted_proxies:
        yield _fault("SIDECAR_TRUSTED_PROXIES", "not set, expected the addresses of the proxy of SIDECAR_FORWARD_AUTH")


def _port_faults(settings: Settings) -> Iterator[SettingFault]:
    if settings.listen == settings.admin_listen:
        yield _fault("SIDECAR_ADMIN_LISTEN", f"found {settings.admin_listen}, expected another port than the traffic's")


_OF_UPSTREAM = ("SIDECAR_UPSTREAM_CERTIFICATE", "SIDECAR_UPSTREAM_KEY")


def _upstream_pair_faults(settings: Settings) -> Iterator[SettingFault]:
    if bool(settings.upstream_certificate) != bool(settings.upstream_key):
        yield SettingFault(_OF_UPSTREAM, "found one of them, expected both or none")


def _upstream_faults(settings: Settings) -> Iterator[SettingFault]:
    """Find what is said of TLS to an app that has none."""
    given = _OF_UPSTREAM if settings.upstream_certificate and settings.upstream_key else ()
    if settings.upstream_server_name:
        given = (*given, "SIDECAR_UPSTREAM_SERVER_NAME")
    if given and not settings.upstream.startswith("https:"):
        yield SettingFault(
            given, f"found it for {settings.upstream or 'none'}, expected it for an https upstream alone"
        )


def _tls_faults(settings: Settings) -> Iterator[SettingFault]:
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        yield SettingFault(("SIDECAR_TLS_CERTIFICATE", "SIDECAR_TLS_KEY"), "found one of them, expected both or none")


# --- who decides ---


def _pdp_faults(settings: Settings) -> Iterator[SettingFault]:
    if settings.pdp and settings.cerbos != "embedded":
        yield _fault("SIDECAR_CERBOS", f"found {settings.cerbos}, expected it unset: SIDECAR_PDP is asked in its place")


def _without_pdp_faults(settings: Settings) -> Iterator[SettingFault]:
    for setting in SETTINGS if not settings.pdp else ():
        if setting.field.startswith("pdp_") and getattr(settings, setting.field):
            yield _fault(setting.variable, "found it without SIDECAR_PDP, expected both or none")


def _admin_faults(settings: Settings) -> Iterator[SettingFault]:
    # at a socket, who may change policies is who has the socket
    if not settings.pdp and settings.cerbos_admin in PUBLISHED and not settings.cerbos.startswith("unix:"):
        yield _fault(
            "SIDECAR_CERBOS_ADMIN",
            "found a password that documents publish, expected one of your own, which that Cerbos has in "
            "server.adminAPI.adminCredentials",
        )


def _cerbos_faults(settings: Settings) -> Iterator[SettingFault]:
    """Find contradictions about TLS to Cerbos. Who could answer in its place would let everybody in."""
    if settings.pdp:
        return
    given = tuple(
        f"SIDECAR_CERBOS_{name.upper()}" for name in ("ca", "certificate", "key") if getattr(settings, f"cerbos_{name}")
    )
    if settings.cerbos == "embedded" or settings.cerbos.startswith("unix:"):
        if given or settings.cerbos_tls == "on":
            message = f"found it for {settings.cerbos}, expected it for host:port alone"
            yield SettingFault(given or ("SIDECAR_CERBOS_TLS",), message)
    elif given and not settings.cerbos_by_tls:
        yield SettingFault(given, "found it without TLS, expected SIDECAR_CERBOS_TLS=on")
    elif bool(settings.cerbos_certificate) != bool(settings.cerbos_key):
        own = ("SIDECAR_CERBOS_CERTIFICATE", "SIDECAR_CERBOS_KEY")
        yield SettingFault(own, "found one of them, expected both or none")
    elif settings.cerbos_tls == "auto" and not given and not units.is_loopback(settings.cerbos.rpartition(":")[0]):
        yield _fault(
            "SIDECAR_CERBOS",
            f"found {settings.cerbos}, which is not on this machine, without TLS: expected SIDECAR_CERBOS_CA or "
            "SIDECAR_CERBOS_TLS=on, or SIDECAR_CERBOS_TLS=plaintext to say that nobody else is in the network between",
        )


# --- signing in ---


def _logout_faults(settings: Settings) -> Iterator[SettingFault]:
    if not settings.login_modes and settings.logout_paths:
        yield _fault("SIDECAR_LOGOUT_PATHS", "found it without SIDECAR_LOGIN, expected both")


def _secret_faults(settings: Settings) -> Iterator[SettingFault]:
    if settings.login_modes and not settings.session_secrets:
        yield _fault("SIDECAR_SESSION_SECRET", "not set, expected 32 random characters: openssl rand -base64 32")


def _login_client_faults(settings: Settings) -> Iterator[SettingFault]:
    # where it is missing for the pool's tokens, too, it is told once
    if settings.login_modes and not (settings.client_ids or settings.pool_id or settings.issuers):
        yield _fault("AWS_COGNITO_CLIENT_ID", "not set, expected the app client that people sign in to")


def _login_pool_faults(settings: Settings) -> Iterator[SettingFault]:
    if "password" in settings.login_modes and not settings.pool_id:
        yield _fault("AWS_COGNITO_POOL_ID", "not set, expected the user pool that people sign in to")


def _domain_faults(settings: Settings) -> Iterator[SettingFault]:
    if "hosted" not in settings.login_modes:
        return
    if not settings.domain:
        yield _fault("AWS_COGNITO_DOMAIN", "not set, expected the domain of the hosted UI")
    elif "://" not in settings.domain and not settings.region and not settings.pool_id:
        yield _fault("AWS_REGION", "not set, expected the region of AWS_COGNITO_DOMAIN")


def _callback_faults(settings: Settings) -> Iterator[SettingFault]:
    for url in settings.callback_urls if "hosted" in settings.login_modes else ():
        if not url.endswith(CALLBACK_PATH):
            yield _fault(
                "AWS_COGNITO_HOSTED_UI_CALLBACK_URL", f"found {url!r}, expected one that ends in {CALLBACK_PATH}"
            )  # fmt: skip


# --- records ---


def _attributes_faults(settings: Settings) -> Iterator[SettingFault]:
    if settings.question_log_attributes and not settings.question_log:
        yield _fault("SIDECAR_QUESTION_LOG", "not set, expected its file")


def _log_faults(settings: Settings) -> Iterator[SettingFault]:
    if settings.question_log and settings.question_log == settings.decision_log:
        yield _fault(
            "SIDECAR_QUESTION_LOG", f"found {settings.question_log}, expected another file than SIDECAR_DECISION_LOG"
        )  # fmt: skip


_MODES = ("SIDECAR_LOGIN", "AWS_COGNITO_DOMAIN")
"""Variables that `login_modes` comes of."""


def _rule(faults: Callable[[Settings], Iterable[SettingFault]], *reads: str) -> Agreement:
    return Agreement(frozenset(reads), faults)


RULES = (
    _rule(_upstream_pair_faults, "SIDECAR_UPSTREAM_CERTIFICATE", "SIDECAR_UPSTREAM_KEY"),
    _rule(
        _upstream_faults, "SIDECAR_UPSTREAM", "SIDECAR_UPSTREAM_CERTIFICATE", "SIDECAR_UPSTREAM_KEY",
        "SIDECAR_UPSTREAM_SERVER_NAME",
    ),
    _rule(_region_faults, "AWS_REGION", "AWS_COGNITO_POOL_ID"),
    _rule(_pool_faults, "AWS_COGNITO_POOL_ID"),
    _rule(_client_faults, "AWS_COGNITO_POOL_ID", "AWS_COGNITO_CLIENT_ID", "SIDECAR_ISSUER"),
    _rule(_issuer_faults, "SIDECAR_ISSUER", "SIDECAR_JWKS_URL"),
    _rule(_pdp_faults, "SIDECAR_PDP", "SIDECAR_CERBOS"),
    _rule(_admin_faults, "SIDECAR_PDP", "SIDECAR_CERBOS", "SIDECAR_CERBOS_ADMIN"),
    _rule(
        _cerbos_faults, "SIDECAR_PDP", "SIDECAR_CERBOS", "SIDECAR_CERBOS_TLS", "SIDECAR_CERBOS_CA",
        "SIDECAR_CERBOS_CERTIFICATE", "SIDECAR_CERBOS_KEY",
    ),
    # each of those could be read, or is empty
    _rule(_without_pdp_faults, "SIDECAR_PDP"),
    _rule(_logout_faults, *_MODES, "SIDECAR_LOGOUT_PATHS"),
    _rule(_secret_faults, *_MODES, "SIDECAR_SESSION_SECRET"),
    _rule(_login_client_faults, *_MODES, "AWS_COGNITO_CLIENT_ID", "AWS_COGNITO_POOL_ID", "SIDECAR_ISSUER"),
    _rule(_login_pool_faults, *_MODES, "AWS_COGNITO_POOL_ID"),
    _rule(_domain_faults, *_MODES, "AWS_REGION", "AWS_COGNITO_POOL_ID"),
    _rule(_callback_faults, *_MODES, "AWS_COGNITO_HOSTED_UI_CALLBACK_URL"),
    _rule(
        _envoy_faults, "SIDECAR_EXT_AUTHZ_LISTEN", "SIDECAR_EXT_PROC_LISTEN", "SIDECAR_LISTEN", "SIDECAR_ADMIN_LISTEN"
    ),
    _rule(_forward_auth_faults, "SIDECAR_FORWARD_AUTH", "SIDECAR_TRUSTED_PROXIES"),
    _rule(_tls_faults, "SIDECAR_TLS_CERTIFICATE", "SIDECAR_TLS_KEY"),
    _rule(_attributes_faults, "SIDECAR_QUESTION_LOG", "SIDECAR_QUESTION_LOG_ATTRIBUTES"),
    _rule(_log_faults, "SIDECAR_QUESTION_LOG", "SIDECAR_DECISION_LOG"),
    _rule(_port_faults, "SIDECAR_LISTEN", "SIDECAR_ADMIN_LISTEN"),
)  # fmt: skip
