"""Composes the PDP: settings -> its client, and the reload of policies."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.config.setting_table import Settings
from sidecar.gate.asking import Clock
from sidecar.net.tls import tls_context
from sidecar.pdp import cerbos_version
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.cerbos_binary import NoCerbos, find_binary
from sidecar.pdp.cerbos_version import UNKNOWN, Version
from sidecar.pdp.compiling import problems_of
from sidecar.pdp.embedded import ADMIN, EmbeddedCerbos, try_to_serve
from sidecar.pdp.policy_reload import Compile, FollowedPolicies, PolicyReload, PolicyState
from sidecar.record.reasons import ReportFault, report_nothing
from sidecar.run.errors import Errors, StartError, blaming, require_readable

if TYPE_CHECKING:
    from sidecar.pdp.authzen import AuthZen

POLICIES = "_AUTHORIZATION_SIDECAR_POLICIES"
"""Set by the parent for its workers: the file that tells which policies are in force. No setting of a user."""


def embedded_cerbos(settings: Settings, environ: Mapping[str, str]) -> EmbeddedCerbos | None:
    """Make the Cerbos that we run ourselves, not yet started; None where there is none. Raises StartError."""
    if settings.pdp or settings.cerbos != "embedded":
        return None
    errors = Errors()
    folder, binary = errors.tried(policy_folder, settings), errors.tried(cerbos_binary, settings)
    if folder is None or binary is None:
        raise StartError(*errors.problems)
    with blaming("SIDECAR_CERBOS"):
        return EmbeddedCerbos(
            folder, binary=str(binary), environ=_trace_variables(settings, environ),
            strict=settings.cerbos_strict == "on",
            empty=may_be_empty(settings),
        )  # fmt: skip


@contextmanager
def starting_cerbos() -> Iterator[None]:
    """Turn why the Cerbos of our own does not start into a StartError that names the setting."""
    with blaming("SIDECAR_CERBOS"):
        try:
            yield
        except NoCerbos as error:
            raise StartError(f"SIDECAR_CERBOS_BINARY: {error}") from None


def require_cerbos(settings: Settings, environ: Mapping[str, str], binary: Path) -> Version:
    """Return the version of a binary; start one that tells none, as `run` does. Raises StartError."""
    version = cerbos_version.version_of(binary)
    if version == UNKNOWN:
        with starting_cerbos():
            asyncio.run(try_to_serve(binary, _trace_variables(settings, environ)))
    return version


def may_be_empty(settings: Settings) -> bool:
    """Return whether there may be no policy yet: in shadow people watch first, and write them from that."""
    return settings.mode != "enforce"


def policy_folder(settings: Settings) -> Path:
    """Return the folder of policies. Raises StartError where there is none."""
    folder = Path(settings.policies)
    if not folder.is_dir():
        raise StartError(
            f"SIDECAR_POLICIES: found no folder {settings.policies!r}, expected one with the Cerbos policies: "
            "make it, or name another"
        )
    return folder


def cerbos_binary(settings: Settings) -> Path:
    """Return the Cerbos binary. Raises StartError where there is none."""
    with blaming("SIDECAR_CERBOS_BINARY"):
        return find_binary(settings.cerbos_binary or None)


def decision_point(
    settings: Settings, embedded: EmbeddedCerbos | None, report: ReportFault = report_nothing
) -> Cerbos | AuthZen:
    """Make what asks for decisions; `report` is told of each fault in reaching the PDP. Raises StartError."""
    if not settings.pdp:
        target = settings.cerbos if embedded is None else embedded.target
        return Cerbos(
            target, timeout=settings.cerbos_timeout, now=time.monotonic, tls=_cerbos_tls(settings), report=report
        )
    # only where Cerbos is not the PDP
    from sidecar.pdp.authzen import AuthZen

    tls = None
    if settings.pdp.startswith("authzen+https:"):
        with blaming("SIDECAR_PDP_CA", "a PEM file of CAs"):
            tls = tls_context(settings.pdp_ca)
    with blaming("SIDECAR_PDP"):
        return AuthZen(
            settings.pdp, timeout=settings.cerbos_timeout, now=time.monotonic, token=settings.pdp_token,
            roles=settings.pdp_roles, tls=tls, report=report,
        )  # fmt: skip


def policy_reload(
    settings: Settings, embedded: EmbeddedCerbos | None, environ: Mapping[str, str], now: Clock
) -> PolicyReload | FollowedPolicies | None:
    """Make what puts changed policies into force, None where that is not ours to do. Raises StartError."""
    if embedded is not None:
        return embedded_reload(embedded, now)
    if POLICIES in environ:
        return FollowedPolicies(Path(environ[POLICIES]))
    if not settings.cerbos_admin or settings.pdp:
        return None
    return PolicyReload(
        settings.cerbos, settings.cerbos_admin, Path(settings.policies), now=now, compile_all=_compiler(settings),
        tls=_cerbos_tls(settings),
    )  # fmt: skip


def embedded_reload(
    embedded: EmbeddedCerbos, now: Clock, publish: Callable[[PolicyState], None] = lambda state: None
) -> PolicyReload:
    """Make what puts changed policies into force in the Cerbos that we run ourselves."""
    return PolicyReload(
        embedded.target, ADMIN, embedded.snapshot.source, now=now, snapshot=embedded.snapshot,
        compile_all=embedded.compile, publish=publish,
    )  # fmt: skip


def _cerbos_tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.cerbos_by_tls:
        return None
    certificate, key = settings.cerbos_certificate, settings.cerbos_key
    names = "SIDECAR_CERBOS_CA, SIDECAR_CERBOS_CERTIFICATE, SIDECAR_CERBOS_KEY"
    with blaming(names, "PEM files of the CAs, and a certificate with its key"):
        if bool(certificate) == bool(key):
            return tls_context(settings.cerbos_ca, certificate, key, alpn=("h2",))
        context = tls_context(settings.cerbos_ca, alpn=("h2",))
    # that one is without the other is told of the settings
    require_readable("SIDECAR_CERBOS_CERTIFICATE", certificate)
    require_readable("SIDECAR_CERBOS_KEY", key)
    return context


def _compiler(settings: Settings) -> Compile | None:
    """Make what compiles policies for a Cerbos that we do not run, where a binary is here, too. Raises StartError."""
    folder = Path(settings.policies)
    try:
        binary = cerbos_binary(settings)
    except StartError:
        if settings.cerbos_binary:
            raise
        return None
    return lambda policies: problems_of(binary, folder, policies)


def _trace_variables(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the embedded Cerbos by which its spans come to where ours do."""
    if settings.traces == "off":
        return {}
    told = {name: value for name, value in environ.items() if name.startswith("OTEL_")}
    return told | {"OTEL_SERVICE_NAME": "cerbos", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
