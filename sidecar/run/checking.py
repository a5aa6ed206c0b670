"""Checks settings, routes and policies: runs only the Cerbos binary, and connects to servers only for a probe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from sidecar.config.placeholders import is_regular
from sidecar.config.routes.file import RoutesFile
from sidecar.config.setting_table import Settings
from sidecar.config.settings import Understood, understand
from sidecar.config.yaml_nodes import Place
from sidecar.gate.function import Function
from sidecar.pdp import cerbos_version, policy_files
from sidecar.pdp.compiling import Compiled, all_problems_of
from sidecar.pdp.policy_files import PolicyProblem
from sidecar.run.deciding import may_run_code
from sidecar.run.errors import Errors, StartError, blaming
from sidecar.run.parts import Prepared, prepare
from sidecar.run.pdp import cerbos_binary, may_be_empty, policy_folder, require_cerbos
from sidecar.run.route_file import RouteFile, read_route_file, without_upstream
from sidecar.study import claims as claims_check
from sidecar.study import held, lint, modes, proxies
from sidecar.study.policies import Policies, parse_policies
from sidecar.trust.issuers import trust_from

EXTERNAL = """\
SIDECAR_CERBOS: we do not run this Cerbos, so its configuration was not read. It should have:
  engine: {strictEvaluation: true, celErrorLogLevel: none}    # 0.55 and newer; older ones end at an unknown key
  schema: {enforcement: reject}
  server: {tls: {cert: ..., key: ...}, adminAPI: {enabled: true}}    # TLS off this machine; for SIDECAR_CERBOS_ADMIN
  storage: {disk: {watchForChanges: false}}    # with SIDECAR_CERBOS_ADMIN, whose reload takes a change whole"""
"""Read by a test with the real Cerbos (docs.cerbos.dev, "Configuration")."""
UNNAMED = (
    "SIDECAR_POLICIES: not set, so the policies of that Cerbos were not read: where a copy of them is here, name its "
    "folder, and they are compiled and compared with the routes"
)
_NO_UPSTREAM = "SIDECAR_UPSTREAM: not set, expected it, or --upstream, where `sidecar run` starts"


class Findings(NamedTuple):
    """Lines of `sidecar check`.

    `checked` are the files and folders that were read. A problem stops `sidecar run`, or may; a warning does not: what
    it names works as it is written, and lets more through than its author is likely to mean. A note says what this
    command cannot see, and what is not enforced. `unsettled` are notes that matter beside a problem, too: what was not
    looked at because of one, and what `sidecar run` may miss.
    """

    checked: list[str]
    problems: list[str]
    warnings: list[str]
    notes: list[str]
    unsettled: list[str]


def findings(environ: Mapping[str, str], flags: Mapping[str, str], *, probe: bool = False) -> Findings:
    """Check what `environ` says, with `flags` (variable -> text) before it: as `run` would, and what `run` does not.
    With `probe`, ask the servers that are named, too."""
    told = {**environ, **flags}
    app = told.get("SIDECAR_UPSTREAM", "")
    read = understand(told, {})
    if not app:
        # where the app is does not matter to what is checked
        read = read._replace(settings=read.settings._replace(upstream="http://127.0.0.1:1"))
    settings = read.settings
    file = read_route_file(settings, told)
    missing = "" if app else without_upstream(settings._replace(upstream=""), file.routes)
    if missing and "SIDECAR_UPSTREAM" in read.misspelt:
        file = file._replace(problems=(*file.problems, missing))
    found = Findings([settings.routes], [], [*read.warnings], [], [])
    try:
        prepared = prepare(read, told, file=file)
    except StartError as error:
        found.problems.extend(error.problems)
        prepared = None
    folders = [_policies(read, told, found), _candidate(settings, found)]
    if missing and "SIDECAR_UPSTREAM" not in read.misspelt:
        found.unsettled.append(_NO_UPSTREAM)
    if file.routes is None:
        found.unsettled.extend(_not_checked([settings.routes], ["the routes beside settings and policies"]))
    else:
        _routes(read, file, file.routes, found)
    for policies in (each for each in folders if each is not None):
        found.warnings.extend(_denying_all(policies))
        found.unsettled.extend(_unknown(read, file, policies))
        if policies.stopped:
            unplaced = f"{policies.folder} whose file could not be told"
            found.unsettled.extend(_not_checked([unplaced], ["expressions of its policies"]))
        if file.routes is not None:
            _lint(read, file, file.routes, policies, found)
    if prepared is not None and probe:
        _probe(prepared, bool(app), found)
    # what stops `run` is told as that, and not again as a warning
    harmless = [warning for warning in found.warnings if warning not in found.problems]
    once = read.once((*found.problems, *harmless))
    warnings = [warning for warning in harmless if warning in once]
    return found._replace(problems=[problem for problem in once if problem not in warnings], warnings=warnings)


class _Look(NamedTuple):
    """Part of what is looked at: where a problem is about one of the settings that it `reads`, or about one of these
    names `of_file`, it would be judged by another value than is meant."""

    about: str
    reads: tuple[str, ...]
    find: Callable[[Settings, RoutesFile], Iterable[str]]
    of_file: tuple[str, ...] = ()


_WARNINGS = (
    _Look("modes", ("SIDECAR_MODE",), lambda settings, routes: modes.warnings(routes, settings.routes, settings.mode)),
    _Look(
        "room for bodies", ("SIDECAR_HELD_MEMORY", "SIDECAR_HELD_DISK"),
        lambda settings, routes: held.warnings(routes, settings.routes, settings.held_memory, settings.held_disk),
        ("defaults",),
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
_OF_FILE = {
    "issuers": ("identity",),
    "app clients": ("identity", "mcp_clients"),
    **{look.about: look.of_file for look in _WARNINGS if look.of_file},
    "claims of tokens": ("identity", "principal"),
    "policies": ("principal",),
}
"""Part of what is looked at -> the names of the route file's top level by which it is judged, besides the routes."""


def _routes(read: Understood, file: RouteFile, routes: RoutesFile, found: Findings) -> None:
    """Look at routes beside the settings, as far as both could be read."""
    settings = read.settings
    if read.sure(*_OF_CLIENTS) and file.sure(*_OF_FILE["app clients"]):
        found.problems.extend(_unknown_clients(settings, routes))
    if any(map(is_regular, settings.session_secrets)):
        found.warnings.append(_REGULAR)
    found.warnings.extend(map(str, routes.warnings))
    for look in _WARNINGS:
        if read.sure(*look.reads) and file.sure(*look.of_file):
            found.warnings.extend(look.find(settings, routes))
    if file.whole:
        found.notes.extend(_drafts(settings, routes))
    if read.sure(*_OF_CLAIMS) and file.sure(*_OF_FILE["claims of tokens"]):
        claims = claims_check.lacking(routes, settings, file.text)
        found.warnings.extend(claims.warnings)
        found.notes.extend(claims.notes)
    if file.whole and read.sure("SIDECAR_MODE"):
        found.notes.extend(modes.notes(routes.table, settings.mode))
    found.unsettled.extend((*_not_imported(read, file, routes), *_unread(read), *_doubtful(settings, file)))


def _unread(read: Understood) -> list[str]:
    """Tell of the parts that were not looked at, since the settings may mean something else."""
    looks = [*((look.about, look.reads) for look in _WARNINGS), ("claims of tokens", _OF_CLAIMS)]
    skipped = [(about, reads) for about, reads in looks if not read.sure(*reads)]
    faulty = sorted(read.doubtful.intersection(chain.from_iterable(reads for _, reads in skipped)))
    return _not_checked(faulty, [about for about, _ in skipped])


def _doubtful(settings: Settings, file: RouteFile) -> list[str]:
    """Tell of the parts that were not looked at, since the route file may mean something else."""
    skipped = {part: names for part, names in _OF_FILE.items() if not file.sure(*names)}
    faulty = sorted(file.doubtful.intersection(chain.from_iterable(skipped.values())))
    return _not_checked([f"`{name}` of {settings.routes}" for name in faulty], skipped)


def _not_checked(faulty: Iterable[str], parts: Iterable[str]) -> list[str]:
    said = ", ".join(dict.fromkeys(parts))
    return [f"not checked because of errors in {', '.join(faulty)}: {said}"] if said else []


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


def _not_imported(read: Understood, file: RouteFile, routes: RoutesFile) -> list[str]:
    """Tell of the functions that were not looked at, since a file that is not in force runs no code."""
    if may_run_code(read, file):
        return []
    named = [name for name, lookup in routes.lookups.items() if isinstance(lookup.inquiry, Function)]
    said = f"functions not imported before {read.settings.routes} can be put in force: {', '.join(named)}"
    return [said] if named else []


class _Policies(NamedTuple):
    """Folder of policies that was looked at, what is wrong with it, and what could be read of it. `stopped` is true
    where Cerbos did not compile the expressions of the rest."""

    folder: Path
    problems: list[PolicyProblem]
    parsed: Policies
    stopped: bool = False

    @property
    def unknown(self) -> list[str]:
        """Files of which it is not known what they say."""
        return sorted({problem.file for problem in (*self.problems, *self.parsed.unread) if problem.opaque})


def _unknown(read: Understood, file: RouteFile, policies: _Policies) -> list[str]:
    """Tell of the parts that were not looked at, since it is not known what a file of policies says."""
    parsed, skipped = policies.parsed, list[str]()
    if all(rule.deny for rule in parsed.rules):
        skipped.append("policies that allow nothing")
    if file.routes is not None and file.sure(*_OF_FILE["policies"]):
        skipped.append("what the routes ask for and no policy names")
        if _is_recorded(read, file, policies):
            skipped.append("attributes that the question log leaves out")
    return _not_checked(policies.unknown, skipped) if policies.unknown else []


def _denying_all(policies: _Policies) -> Iterator[str]:
    """Warn of policies with which `run` starts and by which Cerbos denies everything."""
    if policies.unknown or not all(rule.deny for rule in policies.parsed.rules):
        return
    if policy_files.policy_files(policies.folder)[0]:
        said = "found no rule that allows anything, expected one: Cerbos denies whatever the routes ask for"
        yield f"{policies.folder}: {said}"
    elif not policies.problems:
        yield f"{policies.folder}: found no policy yet: in the mode `enforce` the sidecar does not start so"


def _lint(read: Understood, file: RouteFile, routes: RoutesFile, policies: _Policies, found: Findings) -> None:
    """Hold policies against the routes, but for those that could not be understood."""
    if not file.sure(*_OF_FILE["policies"]):
        return
    parsed = policies.parsed
    found.warnings.extend(lint.warnings(routes, parsed, read.settings.routes, policies.problems))
    if file.whole:
        found.notes.extend(lint.notes(routes, parsed))
    if _is_recorded(read, file, policies) and not policies.unknown:
        found.warnings.extend(_unrecorded(read.settings, lint.attributes_read(routes, parsed)))


def _is_recorded(read: Understood, file: RouteFile, policies: _Policies) -> bool:
    """Return whether the question log should have what these policies read, as far as it can be told."""
    in_force = policies.folder == Path(read.settings.policies)
    sure = file.whole and read.sure("SIDECAR_QUESTION_LOG_ATTRIBUTES")
    return bool(read.settings.question_log) and in_force and sure


def _candidate(settings: Settings, found: Findings) -> _Policies | None:
    """Look at the candidate policies as at those in force."""
    if not settings.candidate_policies:
        return None
    found.checked.append(settings.candidate_policies)
    folder = Path(settings.candidate_policies)
    if not folder.is_dir():
        return None
    errors = Errors()
    program = errors.tried(cerbos_binary, settings)
    looked = _compiled(folder, program, errors)
    _add(found, errors)
    return looked


def _unrecorded(settings: Settings, read: Mapping[str, Place]) -> list[str]:
    """Warn of attributes that the policies read and the question log leaves out."""
    shown = settings.question_log_attributes
    left_out = [f"{name} ({place})" for name, place in read.items() if name not in shown]
    if not left_out:
        return []
    needed = ",".join(dict.fromkeys([*shown, *read]))
    return [
        f"SIDECAR_QUESTION_LOG_ATTRIBUTES: not in it, and read by the policies: {', '.join(left_out)}: `replay` cannot"
        f" judge what is recorded without them, expected {needed}"
    ]


def _policies(read: Understood, environ: Mapping[str, str], found: Findings) -> _Policies | None:
    """Look at the policies, as far as the settings say which they are."""
    settings = read.settings
    if settings.pdp:
        return None
    if settings.cerbos == "embedded":
        return _embedded(settings, environ, found)
    if "SIDECAR_CERBOS" not in read.unread:
        found.notes.append(EXTERNAL)
    return _elsewhere(settings, environ, found)


def _elsewhere(settings: Settings, environ: Mapping[str, str], found: Findings) -> _Policies | None:
    """Look at the policies of a Cerbos that we do not run, where the settings name their folder."""
    folder = Path(settings.policies)
    if not (settings.cerbos_admin or environ.get("SIDECAR_POLICIES")):
        found.notes.append(UNNAMED)
        return None
    if not folder.is_dir():
        found.warnings.append(
            f"SIDECAR_POLICIES: found no folder {settings.policies!r}, expected the one that the Cerbos of "
            "SIDECAR_CERBOS reads"
        )
        return None
    found.checked.append(settings.policies)
    errors = Errors()
    try:
        program = cerbos_binary(settings)
    except StartError as error:
        program = None
        if not settings.cerbos_binary:
            found.notes.append(f"{folder}: not compiled, only read: {error}")
        elif not settings.cerbos_admin:
            found.warnings.append(str(error))
    looked = _compiled(folder, program, errors, follow=False)
    _add(found, errors)
    return looked


def _embedded(settings: Settings, environ: Mapping[str, str], found: Findings) -> _Policies | None:
    found.checked.append(settings.policies)
    errors = Errors()
    folder, program = errors.tried(policy_folder, settings), errors.tried(cerbos_binary, settings)
    version = errors.tried(require_cerbos, settings, environ, program) if program is not None else None
    if version is not None and (lax := cerbos_version.lax(version, settings.cerbos_strict == "on")):
        found.warnings.append(lax)
    looked = None
    if folder is not None:
        compiler = program if version is not None else None
        looked = _compiled(folder, compiler, errors, empty=may_be_empty(settings))
    _add(found, errors)
    return looked


def _add(found: Findings, errors: Errors) -> None:
    """Add what has not been told, such as a binary that is missing for two reasons."""
    found.problems.extend(problem for problem in errors.problems if problem not in found.problems)


def _compiled(
    folder: Path, program: Path | None, errors: Errors, *, follow: bool = True, empty: bool = False
) -> _Policies:  # fmt: skip
    """Read a folder of policies, and add what is wrong with it: without `program`, as far as its files tell."""
    problems: list[PolicyProblem] = []
    policies: policy_files.PolicySnapshot | None = None
    compiled = Compiled([])
    try:
        policies = policy_files.read_policies(folder, follow=follow, empty=empty)
    except policy_files.PolicyFault as fault:
        problems, policies = list(fault.found), fault.rest
    except policy_files.Changing:
        said = "it changes while it is read, expected it to stay as it is"
        problems = [PolicyProblem(str(folder), said, opaque=True)]
    if program is not None and policies is not None and policies.names:
        out = {problem.file for problem in problems}
        compiled = errors.tried(_all_problems_of, program, folder, policies, out) or compiled
        problems += compiled.problems
    errors.problems += map(str, problems)
    opaque = {problem.file for problem in problems if problem.opaque}
    return _Policies(folder, problems, parse_policies(folder, opaque), compiled.stopped)


def _all_problems_of(
    program: Path, folder: Path, policies: policy_files.PolicySnapshot, without: set[str]
) -> Compiled:  # fmt: skip
    with blaming("SIDECAR_CERBOS_BINARY"):
        return all_problems_of(program, folder, policies, without)
