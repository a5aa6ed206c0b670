"""Reads environment and flags into one frozen `Settings`, and reports every fault at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from sidecar.config.agreements import RULES
from sidecar.config.setting_table import SETTINGS, Settings
from sidecar.config.suggest import closest, did_you_mean


class SettingsError(Exception):
    """The settings cannot be used; `problems` are all of their faults, a line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


# Kubernetes gives a pod such variables for a Service that is named "sidecar" or "sidecar-...", with their values
# (kubernetes.io/docs/tutorials/services/connect-applications-service, "Environment Variables")
_OF_A_SERVICE = re.compile(
    r"SIDECAR_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST=.*|SERVICE_PORT(?:_[A-Z0-9_]+)?=[0-9]+|PORT=[a-z]+://.*"
    r"|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?=.*)"
)


class Understood(NamedTuple):
    """Values of the settings. Where one is invalid, `problems` say so and its default stands in, so that whatever else
    is wrong is found too. `warnings` are of what can be used. `doubtful` are the variables that the problems are about,
    and those whose names come closest to an unknown one: nothing else is said of what depends on their values. Those in
    `unread` have a stand-in. `misspelt` are those that are not set, while an unknown name comes closest to them: each
    with the problem that says so."""

    settings: Settings
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    doubtful: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    misspelt: Mapping[str, str] = MappingProxyType({})

    def sure(self, *variables: str) -> bool:
        """Return whether no problem is about one of the variables."""
        return self.doubtful.isdisjoint(variables)

    def once(self, problems: Iterable[str]) -> list[str]:
        """Return problems without a second one about a setting that is misspelt: the problem that tells of the
        spelling tells what comes of it, too."""
        told = list(problems)
        for variable, unknown in self.misspelt.items():
            at = next((at for at, problem in enumerate(told) if problem.startswith(unknown)), None)
            effects = [problem for problem in told if _is_effect(problem, variable)]
            if at is not None and effects:
                for effect in effects:
                    told[at] = _with_effect(told[at], unknown, effect.removeprefix(f"{variable}: "))
                told = [problem for problem in told if problem not in effects]
        return told


def _is_effect(problem: str, variable: str) -> bool:
    """Return whether a problem of settings comes of the absence of this one: it is about this one alone, says
    that it is missing among several, or names it as one that they lack."""
    names, _, text = problem.partition(": ")
    about = names.split(", ")
    if variable in about:
        return len(about) == 1 or text.startswith(("not set", "found one of them"))
    return _VARIABLES.issuperset(about) and bool(re.search(rf"\b{variable}\b", text))


def _with_effect(problem: str, unknown: str, effect: str) -> str:
    """Return the problem that begins with `unknown`, and tells what comes of it, each effect once."""
    if effect in problem.removeprefix(unknown):
        return problem
    if problem != unknown:
        return f"{problem}; {effect}"
    return f"{problem} It is required: {effect}" if effect.startswith("not set") else f"{problem} Without it: {effect}"


_STAND_IN_NAMES = {"AWS_REGION": "AWS_DEFAULT_REGION", "HTTPS_PROXY": "https_proxy", "NO_PROXY": "no_proxy"}
_STAND_INS = {
    "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_CERBOS": "127.0.0.1:1", "SIDECAR_PDP": "authzen+http://127.0.0.1:1",
    "SIDECAR_LISTEN": "127.0.0.1:2",
}  # fmt: skip
"""In place of a default where there is none, or where it would have us look for more files, or find an app at
its own port."""


def understand(environ: Mapping[str, str], flags: Mapping[str, str]) -> Understood:
    """Parse the environment, with `flags` (variable -> text) before it."""
    unknown = [
        name
        for name in sorted(environ)
        if name.startswith("SIDECAR_")
        and name not in _VARIABLES
        and not _OF_A_SERVICE.fullmatch(f"{name}={environ[name]}")
    ]
    problems = [f"{name}: unknown setting{did_you_mean(name, _VARIABLES, 'SIDECAR_')}" for name in unknown]
    meant = {name: closest(name, _VARIABLES, "SIDECAR_") for name in unknown}
    doubtful = {*meant.values()} - {""}
    values: dict[str, Any] = {}
    warnings = []
    unread = set()
    texts = {**environ, **flags}
    for name, stand_in in _STAND_IN_NAMES.items():
        texts.setdefault(name, texts.get(stand_in, ""))
    misspelt: dict[str, str] = {}
    for name, problem in zip(unknown, problems, strict=True):
        if meant[name] and not texts.get(meant[name]):
            misspelt.setdefault(meant[name], problem)
    for setting in SETTINGS:
        text = texts.get(setting.variable) or setting.default
        if setting.secret and text and text != text.strip():
            # a file or a copy ends in a line end that nobody sees
            text = text.strip()
            warnings.append(f"{setting.variable}: found blanks or line ends around the secret, which are left out")
        problem = setting.problem(text)
        if problem:
            problems.append(problem)
            unread.add(setting.variable)
            text = _STAND_INS.get(setting.variable, setting.default)
        assert text is not None  # noqa: S101 - each setting without a default has a stand-in
        values[setting.field] = setting.parse(text)
    settings = Settings(**values)
    # an app whose setting is misspelt is not known, and none is another thing
    unknown_app = {"SIDECAR_UPSTREAM"}.intersection(misspelt)
    faults = [
        fault for rule in RULES if (unread | unknown_app).isdisjoint(rule.reads) for fault in rule.faults(settings)
    ]
    doubtful.update(unread, *(fault.variables for fault in faults))
    read = Understood(settings, (), tuple(warnings), frozenset(doubtful), frozenset(unread), misspelt)
    return read._replace(problems=tuple(read.once((*problems, *map(str, faults)))))


def read_settings(environ: Mapping[str, str], flags: Mapping[str, str]) -> Settings:
    """Parse the environment, with `flags` (variable -> text) before it. Raises SettingsError with every problem."""
    read = understand(environ, flags)
    if read.problems:
        raise SettingsError(list(read.problems))
    return read.settings


_VARIABLES = frozenset(setting.variable for setting in SETTINGS)
