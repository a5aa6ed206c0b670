"""Reads environment and flags into one frozen `Settings`, and reports every fault at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    `unread` have a stand-in."""

    settings: Settings
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    doubtful: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()

    def sure(self, *variables: str) -> bool:
        """Return whether no problem is about one of the variables."""
        return self.doubtful.isdisjoint(variables)


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
    doubtful = {closest(name, _VARIABLES, "SIDECAR_") for name in unknown} - {""}
    values: dict[str, Any] = {}
    warnings = []
    unread = set()
    texts = {**environ, **flags}
    for name, stand_in in _STAND_IN_NAMES.items():
        texts.setdefault(name, texts.get(stand_in, ""))
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
    faults = [fault for rule in RULES if unread.isdisjoint(rule.reads) for fault in rule.faults(settings)]
    doubtful.update(unread, *(fault.variables for fault in faults))
    return Understood(settings, (*problems, *map(str, faults)), tuple(warnings), frozenset(doubtful), frozenset(unread))


def read_settings(environ: Mapping[str, str], flags: Mapping[str, str]) -> Settings:
    """Parse the environment, with `flags` (variable -> text) before it. Raises SettingsError with every problem."""
    read = understand(environ, flags)
    if read.problems:
        raise SettingsError(list(read.problems))
    return read.settings


_VARIABLES = frozenset(setting.variable for setting in SETTINGS)
