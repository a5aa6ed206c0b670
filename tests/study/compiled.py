"""What Cerbos itself makes of conditions: each alone, as a DENY beside an ALLOW, decided by `cerbos compile`."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HEAD = "apiVersion: api.cerbos.dev/v1\n"


def policy(rules: Sequence[Mapping[str, Any]], kind: str = "doc", **body: Any) -> str:
    """A resource policy as text; JSON is YAML."""
    said = {"resource": kind, "version": "default", **body, "rules": list(rules)}
    return HEAD + f"resourcePolicy: {json.dumps(said)}\n"


def rule(effect: str = "ALLOW", actions: Sequence[str] = ("read",), match: Any = None, **more: Any) -> dict[str, Any]:
    """A rule of everybody's, unless `more` has roles."""
    whose = {} if more.keys() & {"roles", "derivedRoles"} else {"roles": ["*"]}
    condition = {} if match is None else {"condition": {"match": _match(match)}}
    return {"actions": list(actions), "effect": f"EFFECT_{effect}", **whose, **condition, **more}


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files below a folder, by their names."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def _match(said: Any) -> Any:
    """A text is an `expr`, in `all`, `any` and `none`, too."""
    if isinstance(said, str):
        return {"expr": said}
    return {
        kind: {"of": [_match(term) for term in body["of"]]} if kind != "expr" else body for kind, body in said.items()
    }


def denied(
    program: Path,
    folder: Path,
    matches: Sequence[Any],
    attributes: Mapping[str, Any],
    *flags: str,
    effect: str = "DENY",
    **body: Any,
) -> list[bool]:
    """For each condition: whether a rule with it denies, where all else allows. An ALLOW does so only by an error."""
    folder.mkdir(parents=True, exist_ok=True)
    actions = [f"a{number}" for number in range(len(matches))]
    rules = [rule(effect, [action], match) for action, match in zip(actions, matches, strict=True)]
    rules += [rule(actions=actions)]
    (folder / "doc.yaml").write_text(policy(rules, **body))
    found = _tested(program, folder, [_Resource("doc", "doc", attributes)], actions, *flags)
    return [("doc", action) not in found for action in actions]


def results(
    program: Path,
    folder: Path,
    kinds: Sequence[str],
    actions: Sequence[str],
    *flags: str,
    roles: Sequence[str] = ("user",),
    versions: Sequence[str] = ("default",),
) -> set[tuple[str, str]]:
    """The kinds, with a space and the version where that has another name, and actions that the policies of `folder` allow
    to who has these roles."""
    resources = [
        _Resource(kind if version == "default" else f"{kind} {version}", kind, {}, version)
        for kind in kinds
        for version in versions
    ]
    return _tested(program, folder, resources, actions, *flags, roles=roles)


class _Resource(NamedTuple):
    """What a test asks about, by its name in the suite."""

    name: str
    kind: str
    attributes: Mapping[str, Any]
    version: str = "default"


def _tested(
    program: Path,
    folder: Path,
    resources: Sequence[_Resource],
    actions: Sequence[str],
    *flags: str,
    roles: Sequence[str] = ("user",),
) -> set[tuple[str, str]]:
    """What is allowed, by a test for each resource and action that expects it."""
    suite = {
        "name": "s",
        "principals": {"p": {"id": "alice", "roles": list(roles)}},
        "resources": {
            one.name: {"kind": one.kind, "id": "1", "attr": dict(one.attributes), "policyVersion": one.version}
            for one in resources
        },
        "tests": [
            {
                "name": f"{one.name} {action}",
                "input": {"principals": ["p"], "resources": [one.name], "actions": [action]},
                "expected": [{"principal": "p", "resource": one.name, "actions": {action: "EFFECT_ALLOW"}}],
            }
            for one in resources
            for action in actions
        ],
    }
    (folder / "s_test.yaml").write_text(json.dumps(suite))
    done = subprocess.run(
        [str(program), "compile", "--output=json", "--verbose", *flags, str(folder)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode in (0, 4), done.stdout + done.stderr
    found: list[tuple[str, str, str]] = []
    _collect(json.loads(done.stdout), "", "", found)
    assert len(found) == len(resources) * len(actions), done.stdout
    return {(kind, action) for kind, action, result in found if result == "RESULT_PASSED"}


def _collect(report: Any, kind: str, name: str, found: list[tuple[str, str, str]]) -> None:
    """Walk down test cases, principals, resources and actions: the last two names that were seen."""
    if isinstance(report, list):
        for value in report:
            _collect(value, kind, name, found)
    elif isinstance(report, dict):
        if "details" in report:
            found.append((name, report["name"], report["details"].get("result", "")))
            return
        for value in report.values():
            _collect(value, name, report.get("name", name), found)


_VERSION = re.compile(r'(\bversion"?:\s*"?)([\w.-]+)')
_DERIVED = re.compile(r'(\bderivedRoles"?:\s*\{?\s*"?name"?:\s*"?)([\w-]+)')
_IMPORTED = re.compile(r'(\bimportDerivedRoles"?:)(\s*\[[^]]*\]|(?:\s*- \S+)+)')


class Together:
    """The policies of many folders, which one process compiles: those of each have versions and names of their own."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._count = 0

    def add(self, folder: Path, name: str = "") -> None:
        """Add a folder without tests, as it is now."""
        self._count += 1
        name = name or str(self._count)
        for path in sorted(folder.rglob("*.*")):
            if path.suffix == ".json":
                self._files[f"_schemas/{name}/{path.name}"] = path.read_text()
            else:
                self._files[f"{name}/{path.name}"] = self._own(path.read_text(), name)

    def _own(self, text: str, name: str) -> str:
        own = rf"\g<0>_{self._count}"
        text = _DERIVED.sub(own, _VERSION.sub(own, text))
        text = _IMPORTED.sub(lambda found: found[1] + re.sub(r"[A-Za-z][\w-]*", own, found[2]), text)
        return text.replace("cerbos:///", f"cerbos:///{name}/")

    def write(self, folder: Path) -> Path:
        """Write all of them into an empty folder."""
        return write(folder, self._files)
