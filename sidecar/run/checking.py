"""All that is wrong with settings, routes and policies, and all that may be: nothing is started, nothing asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sidecar.config.placeholders import is_regular
from sidecar.config.routes.file import RoutesError, RoutesFile, read_routes
from sidecar.config.settings import SETTINGS, Settings, SettingsError, read_settings
from sidecar.pdp import cerbos_version, policy_files
from sidecar.pdp.embedded import find_binary, problems_of
from sidecar.run.app import StartError, load_trust
from sidecar.study import claims as claims_check
from sidecar.study import lint
from sidecar.study.policies import read_policies

EXTERNAL = """\
SIDECAR_CERBOS: we do not run this Cerbos, so its configuration and policies were not read. It should have:
  engine: {strictEvaluation: true, celErrorLogLevel: none}    # 0.55 and newer; older ones end at an unknown key
  schema: {enforcement: reject}
  server: {tls: {cert: ..., key: ...}, adminAPI: {enabled: true}}    # TLS off this machine; for SIDECAR_CERBOS_ADMIN
  storage: {disk: {watchForChanges: false}}    # with SIDECAR_CERBOS_ADMIN, whose reload takes a change whole"""
"""Read by a test with the real Cerbos (docs.cerbos.dev, "Configuration")."""


class Findings(NamedTuple):
    """Lines of `sidecar check`.

    `checked` are the files and folders that were read. A problem stops `sidecar run`, or may; a warning does not: what
    it names works as it is written, and lets more through than its author is likely to mean. A note says what this
    command cannot see.
    """

    checked: list[str]
    problems: list[str]
    warnings: list[str]
    notes: list[str]


def findings(environ: Mapping[str, str], flags: Mapping[str, str]) -> Findings:
    """Check what `environ` says, with `flags` (variable -> text) before it."""
    told = {**environ, **flags}
    if not told.get("SIDECAR_UPSTREAM"):
        # where the app is does not matter to what is checked
        told["SIDECAR_UPSTREAM"] = "http://127.0.0.1:1"
    found = Findings([], [], [], [])
    settings = _settings(told, found)
    routes = _routes(told, settings, found)
    if not _said(told, "SIDECAR_PDP") and _said(told, "SIDECAR_CERBOS") == "embedded":
        _policies(told, found)
    elif not _said(told, "SIDECAR_PDP"):
        found.notes.append(EXTERNAL)
        if _said(told, "SIDECAR_CERBOS_ADMIN"):
            _folder(told, found)
    if settings is not None and routes is not None and not found.problems:
        claims = claims_check.lacking(routes, settings, Path(settings.routes).read_text(encoding="utf-8"))
        found.warnings.extend([*claims.warnings, *_warnings(settings, routes)])
        found.notes.extend(claims.notes)
        _lint(settings, routes, found)
    return found


def _warnings(settings: Settings, routes: RoutesFile) -> list[str]:
    """List doubts about settings and routes that can be used."""
    regular = any(map(is_regular, settings.session_secrets))
    secrets = (
        ["SIDECAR_SESSION_SECRET: found a text with a pattern that can be guessed, expected openssl rand -base64 32"]
        if regular
        else []
    )
    return [*secrets, *map(str, routes.warnings)]


def _lint(settings: Settings, routes: RoutesFile, found: Findings) -> None:
    """Hold the policies against the routes; also those of a Cerbos elsewhere, whose folder the settings name."""
    folder = Path(settings.policies)
    if settings.pdp or not (settings.cerbos == "embedded" or settings.cerbos_admin) or not folder.is_dir():
        return
    read = read_policies(folder)
    found.warnings.extend(lint.warnings(routes, read))
    found.notes.extend(lint.notes(routes, read))


def _said(told: Mapping[str, str], variable: str) -> str:
    """Read one setting, though others may be wrong."""
    default = next(setting.default for setting in SETTINGS if setting.variable == variable)
    return told.get(variable) or default or ""


def _settings(told: Mapping[str, str], found: Findings) -> Settings | None:
    try:
        return read_settings(told, {})
    except SettingsError as error:
        found.problems.extend(error.problems)
        return None


def _routes(told: Mapping[str, str], settings: Settings | None, found: Findings) -> RoutesFile | None:
    path = _said(told, "SIDECAR_ROUTES")
    found.checked.append(path)
    try:
        routes = read_routes(Path(path).read_text(encoding="utf-8"), path, told)
        if settings is not None:
            load_trust(settings, routes)
    except RoutesError as error:
        found.problems.extend(str(problem) for problem in error.problems)
    except StartError as error:
        found.problems.append(str(error))
    except (OSError, UnicodeDecodeError) as error:
        found.problems.append(f"SIDECAR_ROUTES: cannot read {path}: {error}")
    else:
        return routes
    return None


def _folder(told: Mapping[str, str], found: Findings) -> None:
    """The policies that a Cerbos elsewhere is told to read: as the reload looks at them."""
    folder = Path(_said(told, "SIDECAR_POLICIES"))
    if folder.is_dir():
        found.checked.append(str(folder))
        try:
            policy_files.read_policies(folder, follow=False)
        except policy_files.PolicyFault as fault:
            found.problems.extend(fault.problems)
        except policy_files.Changing:
            found.problems.append(f"{folder}: it changes while it is read, expected it to stay as it is")


def _policies(told: Mapping[str, str], found: Findings) -> None:
    folder, binary = _said(told, "SIDECAR_POLICIES"), _said(told, "SIDECAR_CERBOS_BINARY")
    found.checked.append(folder)
    if not Path(folder).is_dir():
        found.problems.append(f"SIDECAR_POLICIES: found no folder {folder!r}, expected the Cerbos policies")
        return
    try:
        program = find_binary(binary or None)
        found.problems.extend(problems_of(program, Path(folder)))
    except (OSError, ValueError) as error:
        found.problems.append(f"SIDECAR_CERBOS_BINARY: {error}")
        return
    if lax := cerbos_version.lax(cerbos_version.version_of(program), _said(told, "SIDECAR_CERBOS_STRICT") == "on"):
        found.warnings.append(lax)
