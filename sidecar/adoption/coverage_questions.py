"""Recorded questions, asked again of `cerbos compile`, whose traces tell which rules decided them."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

from sidecar.adoption.coverage_tests import Matched, PolicyTestsError, run_tests
from sidecar.adoption.replay import Recalled, ReplayCase, case_of, recall
from sidecar.pdp.policy_files import Changing, PolicyFault, read_policies, write_files
from sidecar.pdp.policy_tests import SUITE, Moment, suite_of
from sidecar.record.line import Line, QuestionLine
from sidecar.study.policies import Policies
from sidecar.study.readings import AttributeUses

OF_A_CELL = 3
"""Questions that are kept of those alike: of a kind, action, roles, ownership and verdict."""
MAX_QUESTIONS, MAX_BYTES = 2000, 16 * 1024 * 1024
"""Questions that are asked again, and bytes of them."""


class Samples:
    """Questions of a log that these policies can be asked again, some of each kind of question."""

    def __init__(self, policies: Policies) -> None:
        self._readings = AttributeUses(policies)
        self._cells: Counter[tuple[object, ...]] = Counter()
        self._bytes = 0
        self.moments: list[Moment] = []
        self.redacted: Counter[str] = Counter()
        """Attributes that a rule reads and the log leaves out -> questions that could not be asked for that."""

    def add(self, line: Line) -> None:
        """Take a line, of which only a question counts."""
        if not isinstance(line, QuestionLine) or not line.asked or len(self.moments) >= MAX_QUESTIONS:
            return
        cell = (line.kind, line.action, line.roles, line.owner, line.code, line.scope)
        if self._cells[cell] >= OF_A_CELL or self._bytes >= MAX_BYTES:
            return
        recalled = recall(line)
        if not isinstance(recalled, Recalled):
            return
        case = case_of(recalled, self._readings)
        if isinstance(case, ReplayCase):
            self._cells[cell] += 1
            self._keep([Moment(line.time, case.principal, resource) for resource in case.resources])
        else:
            self.redacted[case.detail] += line.weight

    def _keep(self, moments: list[Moment]) -> None:
        self.moments += moments
        self._bytes += len(json.dumps(suite_of(moments)))


def ask_again(binary: Path, policies: Path, samples: Samples) -> Matched:
    """Return which rules decided the questions. Raises PolicyTestsError."""
    ids = {f"p{at}": moment.principal.id for at, moment in enumerate(samples.moments)}
    with tempfile.TemporaryDirectory(prefix="sidecar-coverage-") as copy:
        # beside the policies, whose own tests are not run
        folder, tests = Path(copy) / "policies", Path(copy) / "tests"
        folder.mkdir()
        tests.mkdir()
        try:
            write_files(folder, read_policies(policies).files)
        except (OSError, PolicyFault, Changing) as error:
            raise PolicyTestsError(f"{policies}: {error}") from None
        (tests / SUITE).write_text(json.dumps(suite_of(samples.moments)), encoding="utf-8")
        return run_tests(binary, folder, tests, ids)
