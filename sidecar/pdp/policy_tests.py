"""Decisions at a time of the past: `cerbos compile` runs tests with `options.now`, which no call to a server has.

Measured with 0.51 and 0.55: a failed test tells the effect that it found, and a test costs about half a millisecond.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.gate.decision import ALLOW, DENY, Resource
from sidecar.gate.identity import Principal
from sidecar.pdp.cerbos_binary import environment

WITHIN = 300.0
"""Seconds that one run of tests has."""
SUITE = "replay_test.json"
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})")


class Moment(NamedTuple):
    """A question about one resource at a time, as RFC 3339 writes it."""

    time: str
    principal: Principal
    resource: Resource


def suite_of(moments: Sequence[Moment]) -> dict[str, Any]:
    """Return the test suite that asks all of these. Raises ValueError for a time of another form."""
    for moment in moments:
        if not _TIME.fullmatch(moment.time):
            raise ValueError(f"found {moment.time[:64]!r}, expected a time such as 2026-01-31T12:00:00.000+00:00")
    return {
        "name": "replay",
        "principals": {f"p{at}": _principal(moment.principal) for at, moment in enumerate(moments)},
        "resources": {f"r{at}": _resource(moment.resource) for at, moment in enumerate(moments)},
        "tests": [
            {
                "name": f"t{at}", "options": {"now": moment.time},
                "input": {"principals": [f"p{at}"], "resources": [f"r{at}"], "actions": [moment.resource.action]},
                "expected": [{"principal": f"p{at}", "resource": f"r{at}", "actions": {moment.resource.action: ALLOW}}],
            }
            for at, moment in enumerate(moments)
        ],
    }  # fmt: skip


def _principal(principal: Principal) -> dict[str, Any]:
    return {"id": principal.id, "roles": list(principal.roles), "attr": dict(principal.attributes)}


def _resource(resource: Resource) -> dict[str, Any]:
    made = {"kind": resource.kind, "id": resource.id, "attr": dict(resource.attributes)}
    return made | ({"scope": resource.scope} if resource.scope else {})


def decide_at(binary: Path, folder: Path, moments: Sequence[Moment], *, strict: bool) -> list[bool]:
    """Return whether each is allowed by the policies of `folder`, whose own tests are not run. Raises OSError where
    Cerbos answers otherwise than is known."""
    with tempfile.TemporaryDirectory(prefix="sidecar-tests-") as tests:
        Path(tests, SUITE).write_text(json.dumps(suite_of(moments)), encoding="utf-8")
        flags = ["--output=json", f"--tests={tests}", *(["--strict-evaluation"] if strict else [])]
        command = [str(binary), "compile", *flags, str(folder)]
        try:
            done = subprocess.run(  # noqa: S603 - the binary is the operator's
                command, capture_output=True, timeout=WITHIN, check=False, env=environment()
            )
        except subprocess.TimeoutExpired:
            raise OSError(f"Cerbos did not test the policies of {folder} within {WITHIN:g} s") from None
    try:
        found = dict(_effects(json.loads(done.stdout)))
        return [found[f"t{at}"] for at in range(len(moments))]
    except (ValueError, KeyError, TypeError) as error:
        said = done.stderr.decode("utf-8", "replace").strip() or str(error)
        raise OSError(f"`cerbos compile` told no result of its tests: {said[-400:]}") from None


def _effects(report: Any) -> Iterator[tuple[str, bool]]:
    """Name of a test -> whether it was allowed."""
    for suite in report["suites"]:
        for case in suite["testCases"]:
            (principal,) = case["principals"]
            (resource,) = principal["resources"]
            (action,) = resource["actions"]
            yield case["name"], _is_allowed(action["details"])


def _is_allowed(details: Any) -> bool:
    if details["result"] == "RESULT_PASSED":
        return True
    if details["result"] == "RESULT_FAILED" and details["failure"].get("actual") == DENY:
        return False
    raise ValueError(f"a test ended with {details['result']}")
