"""Rules of policies that their tests match, as the traces of `cerbos compile` tell."""

from __future__ import annotations

import io
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from sidecar.config.yaml_nodes import YamlDocument, entries, fields
from sidecar.imports.json_stream import NotJson, members
from sidecar.pdp.cerbos_binary import environment
from sidecar.pdp.compiling import compile_policies
from sidecar.pdp.policy_names import kind_name
from sidecar.study.policies import Rule

COMPILE_WITHIN = 300.0
"""Seconds that the tests may take."""
_OUTCOMES = frozenset(("KIND_EXPR", "KIND_CONDITION_ALL", "KIND_CONDITION_ANY", "KIND_CONDITION_NONE"))
"""Parts of a condition that are the whole of it, where they stand right below it."""


class PolicyTestsError(Exception):
    """The tests cannot be run; the message says why."""


class _Key(NamedTuple):
    """A rule as a trace names it; `principal` is the id of a test's principal, "" where it cannot be told."""

    kind: str
    scope: str
    rule: str
    principal: str = ""


class Matched:
    """Rules that were matched, that is: of which the condition was met for a principal with one of their roles."""

    def __init__(self) -> None:
        self.suites = 0
        self.failed = 0
        """Tests that failed. What they matched counts all the same."""
        self._keys: set[_Key] = set()
        self._by_principal: set[_Key] = set()

    def add(self, kind: str, scope: str, rule: str, principal: str) -> None:
        """Note a match."""
        self._keys.add(_Key(kind, scope, rule))
        self._by_principal.add(_Key(kind, scope, rule, principal))

    def has(self, rule: Rule) -> bool:
        """Return whether a rule was matched."""
        if rule.policy.kind == "principalPolicy":
            # traces have them under the policy of the resource, whatever its kind
            return any(
                key.rule == rule.name and key.scope == rule.policy.scope and key.principal in (rule.policy.name, "")
                for key in self._by_principal
            )
        return _Key(kind_name(rule.resource), rule.policy.scope, rule.name) in self._keys


def has_tests(folder: Path) -> bool:
    """Return whether a folder has tests of policies."""
    return any(folder.rglob("*_test.*"))


def run_tests(binary: Path, policies: Path, tests: Path | None, ids: Mapping[str, str] | None = None) -> Matched:
    """Run the tests of a policy folder, those in it or in the folder `tests`.

    `ids` are those of the principals, by their name there; without them they are read of the files.
    Raises PolicyTestsError.
    """
    where = tests or policies
    command = [str(binary), "compile", "--verbose", "--output=json", "--color=never"]
    command += [f"--tests={tests}"] if tests is not None else []
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(  # noqa: S603 - the binary is the operator's
                [*command, str(policies)], stdout=output, stderr=subprocess.PIPE, timeout=COMPILE_WITHIN, check=False,
                env=environment(),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise PolicyTestsError(f"{where}: the tests took more than {error.timeout:g} s") from None
        if done.returncode not in (0, _TESTS_FAILED):
            if problems := compile_policies(binary, policies):
                raise PolicyTestsError("\n".join(problems))
            said = " ".join(done.stderr.decode("utf-8", "replace").split())
            raise PolicyTestsError(f"{where}: Cerbos did not run the tests: {said or f'exit code {done.returncode}'}")
        output.seek(0)
        return read_results(cast(io.BufferedIOBase, output), where, ids)


_TESTS_FAILED = 4
"""Exit code of `cerbos compile`."""


def read_results(output: io.BufferedIOBase, folder: Path, ids: Mapping[str, str] | None = None) -> Matched:
    """Read what `cerbos compile --verbose --output=json` says of the tests in a folder. Raises PolicyTestsError."""
    matched = Matched()
    try:
        for suite in members(output, ("suites",)):
            matched.suites += 1
            _read_suite(suite, folder, ids, matched)
    except (NotJson, KeyError, TypeError, AttributeError) as error:
        raise PolicyTestsError(f"{folder}: Cerbos' results could not be read: {error}") from None
    return matched


def _read_suite(suite: Mapping[str, Any], folder: Path, ids: Mapping[str, str] | None, matched: Matched) -> None:
    if "error" in suite:
        raise PolicyTestsError(f"{folder / suite.get('file', '')}: {suite['error']}")
    if ids is None:
        ids = _ids_of_principals(folder / suite["file"])
    for case in suite.get("testCases", ()):
        for principal in case.get("principals", ()):
            name = ids.get(principal["name"], "")
            for resource in principal.get("resources", ()):
                for action in resource.get("actions", ()):
                    details = action.get("details", {})
                    matched.failed += details.get("result") in ("RESULT_FAILED", "RESULT_ERRORED")
                    for components, event in _traces(details):
                        _read_trace(components, event, name, matched)


def _traces(details: Mapping[str, Any]) -> Iterator[tuple[list[Mapping[str, Any]], Mapping[str, Any]]]:
    """Each event of a test with its place in the policies: 0.51 writes that out, 0.55 in numbers of a list."""
    for trace in details.get("engineTrace", ()):
        yield trace.get("components", []), trace.get("event", {})
    batch = details.get("engineTraceBatch", {})
    known = batch.get("definitions", [])
    for entry in batch.get("entries", ()):
        yield [known[index] for index in entry.get("componentIndices", ())], entry.get("event", {})


def _read_trace(
    components: list[Mapping[str, Any]], event: Mapping[str, Any], principal: str, matched: Matched
) -> None:
    kinds = [each["kind"] for each in components]
    if event.get("status") != "STATUS_ACTIVATED" or event.get("result") is not True or "KIND_RULE" not in kinds:
        return
    at = kinds.index("KIND_RULE")
    below = kinds[at + 1 :]
    if below == ["KIND_CONDITION"] or (len(below) == 2 and below[0] == "KIND_CONDITION" and below[1] in _OUTCOMES):
        named = {each["kind"]: each for each in components[: at + 1]}
        policy = str(named["KIND_POLICY"]["policy"])
        kind = policy.removeprefix("cerbos.resource.").partition("/")[0].rpartition(".v")[0]
        scope = named.get("KIND_SCOPE", {}).get("scope", "")
        matched.add(kind, scope, str(named["KIND_RULE"]["rule"]), principal)


def _ids_of_principals(file: Path) -> dict[str, str]:
    """Name in the tests -> id, of the principals of a suite and of the `testdata` beside it."""
    found: dict[str, str] = {}
    beside = [file.parent / "testdata" / f"principals.{suffix}" for suffix in ("yaml", "yml", "json")]
    for each in (*beside, file):
        try:
            document = YamlDocument(each, str(each))
        except (OSError, ValueError):
            continue
        for name, node in entries(fields(document.root).get("principals")).items():
            own = document.scalar(fields(node).get("id"))
            found[name] = own.value if own is not None else ""
    return found
