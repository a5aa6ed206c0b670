"""Checks settings, routes and policies: runs only the Cerbos binary, and connects to servers only for a probe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from sidecar.config.placeholders import is_regular
from sidecar.config.routes.file import RoutesFile
from sidecar.config.setting_table import Settings
from sidecar.config.settings import Understood, understand
from sidecar.pdp import cerbos_version, policy_files
from sidecar.pdp.embedded import problems_of
from sidecar.run.errors import Errors, StartError, blaming
from sidecar.run.parts import Prepared, prepare
from sidecar.run.pdp import cerbos_binary, may_be_empty, policy_folder, require_cerbos
from sidecar.run.route_file import RouteFile, read_route_file, without_upstream
from sidecar.study import claims as claims_check
from sidecar.study import held, lint, modes, proxies
from sidecar.study.policies import parse_policies
from sidecar.study.yaml_nodes import Place
from sidecar.trust.issuers import trust_from

EXTERNAL = """\
SIDECAR_CERBOS: we do not run this Cerbos, so its configuration and policies were not read. It should have:
  engine: {strictEvaluation: true, celErrorLogLevel: none}    # 0.55 and newer; older ones end at an unknown key
  schema: {enforcement: reject}
  server: {tls: {cert: ..., key: ...}, adminAPI: {enabled: true}}    # TLS off this machine; for SIDECAR_CERBOS_ADMIN
  storage: {disk: {watchForChanges: false}}    # with SIDECAR_CERBOS_ADMIN, whose reload takes a change whole"""
"""Read by a test with the real Cerbos (docs.cerbos.dev, "Configuration")."""
_NO_UPSTREAM = "SIDECAR_UPSTREAM: not set, expected it, or --upstream, where `sidecar run` starts"


class Findings(NamedTuple):
    """Lines of `sidecar check`.

    `checked` are the files and folders that were read. A problem stops `sidecar run`, or may; a warning does not: what
    it names works as it is written, and lets more through than its author is likely to mean. A note says what this
    command cannot see, and what is not enforced.
    """

    checked: list[str]
    problems: list[str]
    warnings: list[str]
    notes: list[str]


def findings(environ: Mapping[str, str], flags: Mapping[str, str], *, probe: bool = False) -> Findings:
    """Check what `environ` says, with `flags` (variable -> text) before it: as `run` would, and what `run` does not.
    With `probe`, ask the servers that are named, too."""
    told = {**environ, **flags}
    app = told.get("SIDECAR_UPSTREAM", "")
    # where the app is does not matter to what is checked
    told["SIDECAR_UPSTREAM"] = app or "http://127.0.0.1:1"
    read = understand(told, {})
    settings = read.settings
    file = read_route_file(settings, told)
    found = Findings([settings.routes], [], [*read.warnings], [])
    try:
        prepared = prepare(read, told, file=file)
    except StartError as error:
        found.problems.extend(error.problems)
        prepared = None
    _policies(settings, told, found)
    if file.routes is not None:
        _routes(read, file, file.routes, found)
        if not app and without_upstream(settings._replace(upstream=""), file.routes):
            found.notes.append(_NO_UPSTREAM)
        _lint(settings, file.routes, found)
        _candidate(settings, file.routes, found)
    if prepared is not None and probe:
        _probe(prepared, bool(app), found)
    return found


class _Look(NamedTuple):
    """Part of what is looked at: where a problem is about one of the settings that it `reads`, it would be judged by
    another value than is meant."""

    about: str
    reads: tuple[str, ...]
    find: Callable[[Settings, RoutesFile], Iterable[str]]


_WARNINGS = (
    _Look("modes", ("SIDECAR_MODE",), lambda settings, routes: modes.warnings(routes, settings.routes, settings.mode)),
    _Look(
        "room for bodies", ("SIDECAR_HELD_MEMORY", "SIDECAR_HELD_DISK"),
        lambda settings, routes: held.warnings(routes, settings.routes, settings.held_memory, settings.held_disk),
    ),
    _Look(
        "room for answers", ("SIDECAR_HELD_MEMORY", "SIDECAR_EXT_PROC_LISTEN"),
        lambda settings, routes: held.answer_warnings(
            routes, settings.routes, settings.held_memory, ext_proc=settings.ext_proc_listen is not None
        ),
    ),
    _Look(
        "routes that a proxy cannot ask about", ("SIDECAR_FORWARD_AUTH", "SIDECAR_EXT_PROC_LISTEN"),
        lambda settings, routes: proxies.warnings(
            routes, settings.routes, proxies.Asking(settings.forward_auth, False, settings.ext_proc_listen is not None)
        ),
    ),
    _Look(
        "routes that a proxy cannot ask about", ("SIDECAR_EXT_AUTHZ_LISTEN", "SIDECAR_EXT_PROC_LISTEN"),
        lambda settings, routes: proxies.warnings(
            routes, settings.routes,
            proxies.Asking("off", settings.ext_authz_listen is not None, settings.ext_proc_listen is not None),
        ),
    ),
)  # fmt: skip
_OF_CLAIMS = ("AWS_COGNITO_POOL_ID", "AWS_COGNITO_DOMAIN", "SIDECAR_ISSUER", "SIDECAR_LOGIN")
_OF_CLIENTS = ("AWS_COGNITO_POOL_ID", "AWS_COGNITO_CLIENT_ID", "SIDECAR_ISSUER")


def _routes(read: Understood, file: RouteFile, routes: RoutesFile, found: Findings) -> None:
    """Look at routes beside the settings, as far as these could be read."""
    settings, skipped = read.settings, dict[str, None]()
    if read.sure(*_OF_CLIENTS):
        found.problems.extend(_unknown_clients(settings, routes))
    if any(map(is_regular, settings.session_secrets)):
        found.warnings.append(_REGULAR)
    found.warnings.extend(map(str, routes.warnings))
    for look in _WARNINGS:
        if read.sure(*look.reads):
            found.warnings.extend(look.find(settings, routes))
        else:
            skipped[look.about] = None
    if file.whole:
        found.notes.extend(_drafts(settings, routes))
    if read.sure(*_OF_CLAIMS):
        claims = claims_check.lacking(routes, settings, file.text)
        found.warnings.extend(claims.warnings)
        found.notes.extend(claims.notes)
    else:
        skipped["claims of tokens"] = None
    if file.whole and read.sure("SIDECAR_MODE"):
        found.notes.extend(modes.notes(routes.table, settings.mode))
    if skipped:
        found.notes.append(f"not looked at before the settings can be read that say so: {', '.join(skipped)}")


_REGULAR = "SIDECAR_SESSION_SECRET: found a text with a pattern that can be guessed, expected openssl rand -base64 32"


def _probe(prepared: Prepared, app: bool, found: Findings) -> None:
    # what only a probe needs
    from sidecar.run import probing

    lists = {
        probing.Level.PROBLEM: found.problems,
        probing.Level.WARNING: found.warnings,
        probing.Level.NOTE: found.notes,
    }
    for level, text in asyncio.run(probing.probe(prepared, app=app)):
        lists[level].append(text)


def _unknown_clients(settings: Settings, routes: RoutesFile) -> list[str]:
    """Find app clients that registration gives, and of which no token would be taken."""
    trust = trust_from(settings, routes.identities)
    known = frozenset().union(*(issuer.client_ids for issuer in trust.issuers.values()))
    return [
        f"{settings.routes}:{mark.line}:{mark.column}: {mark.path}: found {client.client_id!r}, expected one of "
        "`client_ids` of `identity`, or of AWS_COGNITO_CLIENT_ID: no other token is taken"
        for client, mark in zip(routes.clients, routes.client_marks, strict=True)
        if client.client_id not in known
    ]


def _drafts(settings: Settings, routes: RoutesFile) -> list[str]:
    """Tell how many routes are not in force."""
    count, every = len(routes.drafts), len(routes.drafts) + len(routes.table.routes)
    if routes.draft_mark is not None:
        return [
            f"{settings.routes}:{routes.draft_mark.line}:{routes.draft_mark.column}: `draft: true` of the whole file, "
            f"{count} routes: `sidecar run` does not start with it"
        ]
    return [f"{settings.routes}: {count} of {every} routes are drafts and not in force"] if count else []


def _lint(settings: Settings, routes: RoutesFile, found: Findings) -> None:
    """Hold the policies against the routes; also those of a Cerbos elsewhere, whose folder the settings name."""
    folder = Path(settings.policies)
    if any(problem.startswith((f"{folder}/", f"{folder}:")) for problem in found.problems):
        # only what compiles is read
        return
    if settings.pdp or not (settings.cerbos == "embedded" or settings.cerbos_admin) or not folder.is_dir():
        return
    read = parse_policies(folder)
    found.warnings.extend(
        [*lint.warnings(routes, read, settings.routes), *_unrecorded(settings, lint.attributes_read(routes, read))]
    )
    found.notes.extend(lint.notes(routes, read))


def _candidate(settings: Settings, routes: RoutesFile, found: Findings) -> None:
    """Look at the candidate policies as at those in force."""
    if not settings.candidate_policies:
        return
    found.checked.append(settings.candidate_policies)
    folder = Path(settings.candidate_policies)
    if not folder.is_dir():
        return
    errors = Errors()
    faults = errors.tried(lambda: _compile(folder, cerbos_binary(settings)))
    found.problems.extend(each for each in [*errors.problems, *(faults or [])] if each not in found.problems)
    if faults != []:
        return
    read = parse_policies(folder)
    found.warnings.extend(lint.warnings(routes, read, settings.routes))
    found.notes.extend(lint.notes(routes, read))


def _unrecorded(settings: Settings, read: Mapping[str, Place]) -> list[str]:
    """Warn of attributes that the policies read and the question log leaves out."""
    if not settings.question_log:
        return []
    shown = settings.question_log_attributes
    left_out = [f"{name} ({place})" for name, place in read.items() if name not in shown]
    if not left_out:
        return []
    needed = ",".join(dict.fromkeys([*shown, *read]))
    return [
        f"SIDECAR_QUESTION_LOG_ATTRIBUTES: not in it, and read by the policies: {', '.join(left_out)}: `replay` cannot"
        f" judge what is recorded without them, expected {needed}"
    ]


def _policies(settings: Settings, environ: Mapping[str, str], found: Findings) -> None:
    """Look at the policies, as far as the settings say which they are."""
    if settings.pdp:
        return
    if settings.cerbos == "embedded":
        _embedded(settings, environ, found)
        return
    found.notes.append(EXTERNAL)
    if settings.cerbos_admin:
        _folder(Path(settings.policies), found)


def _folder(folder: Path, found: Findings) -> None:
    """The policies that a Cerbos elsewhere is told to read: as the reload looks at them."""
    if folder.is_dir():
        found.checked.append(str(folder))
        found.problems.extend(_unreadable(folder, follow=False))


def _embedded(settings: Settings, environ: Mapping[str, str], found: Findings) -> None:
    found.checked.append(settings.policies)
    errors = Errors()
    folder, program = errors.tried(policy_folder, settings), errors.tried(cerbos_binary, settings)
    version = errors.tried(require_cerbos, settings, environ, program) if program is not None else None
    if version is not None and (lax := cerbos_version.lax(version, settings.cerbos_strict == "on")):
        found.warnings.append(lax)
    if folder is not None:
        compiler = program if version is not None else None
        faults = errors.tried(_compile, folder, compiler, empty=may_be_empty(settings))
        errors.problems += faults or []
        if faults == [] and not any(policy_files.policy_files(folder)):
            found.warnings.append(f"{folder}: found no policy yet: in the mode `enforce` the sidecar does not start so")
    found.problems.extend(problem for problem in errors.problems if problem not in found.problems)


def _compile(folder: Path, program: Path | None, *, empty: bool = False) -> list[str]:
    """Return what is wrong with a folder of policies, without `program` as far as its files tell. Raises StartError."""
    if program is None:
        return _unreadable(folder, follow=True, empty=empty)
    with blaming("SIDECAR_CERBOS_BINARY"):
        return problems_of(program, folder, empty=empty)


def _unreadable(folder: Path, *, follow: bool, empty: bool = False) -> list[str]:
    try:
        policy_files.read_policies(folder, follow=follow, empty=empty)
    except policy_files.PolicyFault as fault:
        return fault.problems
    except policy_files.Changing:
        return [f"{folder}: it changes while it is read, expected it to stay as it is"]
    return []
