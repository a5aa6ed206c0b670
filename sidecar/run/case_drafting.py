"""Drafts cases from a log: each is run against the routes and policies, and kept if it comes out as recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sidecar.adoption.case_draft import CaseDraft, Cells, LineGroup, Users, drafts_of, file_of, with_names
from sidecar.adoption.drafted_request import Undraftable
from sidecar.record.line import Decision, Line, QuestionLine
from sidecar.run.casing import Bench, bench
from sidecar.study.cases import CasesError, read_cases


class LeftOut(NamedTuple):
    """Lines of one kind of which no case could be made: the first one, how many there are, and why."""

    place: str
    request: str
    lines: int
    reason: str


class Drafted(NamedTuple):
    """A file of cases, and what is not in it."""

    text: str
    cases: int
    left_out: tuple[LeftOut, ...]


async def draft_cases(
    cells: Cells, environ: Mapping[str, str], flags: Mapping[str, str], progress: Callable[[int], None]
) -> Drafted:
    """Draft a case for each kind of request. Raises StartError where nothing can be run."""
    drafts, left_out = [], []
    async with bench(environ, flags) as made:
        for number, lines in enumerate(cells.kinds()):
            found = await _first_that_holds(lines, made)
            if isinstance(found, CaseDraft):
                drafts.append(found)
            else:
                left_out.append(found)
            progress(number + 1)
    users = Users()
    written = with_names(drafts, users)
    return Drafted(file_of(written, users), len(written), tuple(left_out))


async def _first_that_holds(lines: LineGroup, made: Bench) -> CaseDraft | LeftOut:
    """Return the first draft that comes out as its line says."""
    reason = ""
    for logged in lines.first:
        try:
            for draft in drafts_of(logged, made.routes):
                differs = await _differs(draft, made)
                if not differs:
                    return draft
                reason = reason or differs
        except Undraftable as error:
            reason = reason or str(error)
    first = lines.first[0]
    return LeftOut(first.place, _request_of(first.line), lines.count, reason)


async def _differs(draft: CaseDraft, made: Bench) -> str:
    """Run a draft: how it comes out otherwise than its line says, "" where it does not. A status that the log does not
    have is that which comes out."""
    users = Users()
    text = file_of(with_names([draft], users), users)
    try:
        (case,) = read_cases(text, draft.logged.place)
    except CasesError as error:
        return f"it cannot be written: {error.problems[0].message}"
    result = await made.run(case)
    if not result.passed and draft.made_up:
        names = ", ".join(f"resource.{name}" for name in draft.made_up)
        return f"the log leaves out what it depends on: list {names} in SIDECAR_QUESTION_LOG_ATTRIBUTES"
    if not result.passed:
        differences = [f"{each.name} {each.found}, and not {each.expected}" for each in result.differences]
        return f"it comes out with {'; '.join([*differences, *result.observed.faults])}"
    draft.case["expect"] = {"status": result.observed.found["status"], **draft.case["expect"]}
    return ""


def _request_of(line: Line) -> str:
    if isinstance(line, Decision | QuestionLine):
        return f"{line.method} {line.path} ({line.code})"
    return ""
