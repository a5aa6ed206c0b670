"""`sidecar test`: runs a table of whole-path cases against routes, policies and an embedded Cerbos; takes no port."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.commands.progress import Progress
from sidecar.commands.settings import add_settings, settings_given
from sidecar.printable import printable
from sidecar.run.errors import StartError, unable

if TYPE_CHECKING:
    from sidecar.adoption.case_draft import Cells
    from sidecar.run.case_drafting import Drafted
    from sidecar.study.case_results import CaseResult
    from sidecar.study.cases import Case

PASSED, FAILED, UNUSABLE = range(3)
"""Exit codes: all cases passed, some failed, nothing could be run."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_settings(parser)
    parser.add_argument("cases", nargs="*", metavar="CASES", help="files of cases, - for stdin")
    said = "run only the cases whose name has this text in it, in any case"
    said = "draft cases from a decision or question log, in place of running some; may be given again, - for stdin"
    parser.add_argument("--from", action="append", default=[], dest="logs", metavar="LOG", help=said)
    said = "with --from: where the cases are written (default: stdout)"
    parser.add_argument("--out", default="", metavar="FILE", help=said)
    parser.add_argument("--force", action="store_true", help="replace the file of --out where it exists")
    said = "run only the cases whose name has this text in it, in any case"
    parser.add_argument("--filter", default="", metavar="TEXT", help=said)
    parser.add_argument("--junit", default="", metavar="FILE", help="also write the results as JUnit's XML")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def command(options: argparse.Namespace) -> int:
    """Run the cases: 0 where all passed, 1 where some failed, 2 where they cannot be run."""
    try:
        _require_one_task(options)
        return _draft(options) if options.logs else _run(options)
    except StartError as error:
        print(error, file=sys.stderr)
        return UNUSABLE


def _run(options: argparse.Namespace) -> int:
    # only where cases are run
    from sidecar.run.casing import run_cases
    from sidecar.run.deciding import wall_clock

    cases = _read(options.cases, options.filter)
    began, moment = time.perf_counter(), wall_clock()
    progress = Progress("cases", len(cases))
    results = asyncio.run(run_cases(cases, dict(os.environ), settings_given(options), progress))
    progress.end()
    seconds = time.perf_counter() - began
    if options.junit:
        _write_junit(options.junit, results, seconds, moment)
    _print(results, seconds, as_json=options.json)
    return PASSED if all(result.passed for result in results) else FAILED


def _require_one_task(options: argparse.Namespace) -> None:
    """Raise StartError for arguments of both tasks, or of none."""
    if options.out and not options.logs:
        raise StartError(f"--out: found {options.out} without --from, expected both: drafted cases go there")
    if Path(options.out).is_file() and not options.force:
        raise StartError(f"--out: {options.out} exists, expected a new file; --force replaces it")
    given = [*options.cases[:1], *(["--junit"] if options.junit else []), *(["--filter"] if options.filter else [])]
    if options.logs and given:
        raise StartError(f"found both --from and {given[0]}, expected one of them")


def _draft(options: argparse.Namespace) -> int:
    """Write cases that the log has, and tell on stderr of which requests none could be made."""
    from sidecar.adoption.case_draft import Cells
    from sidecar.adoption.logs import Logs
    from sidecar.imports.sighting import UnusableFile
    from sidecar.run.case_drafting import draft_cases

    cells = Cells()
    try:
        logs = Logs(options.logs)
        progress = Progress("reading", logs.size, "bytes")
        for logged in logs.read(progress):
            cells.add(logged)
    except UnusableFile as error:
        raise StartError(*error.problems) from None
    progress.end()
    if not cells.lines:
        raise StartError(*logs.notes(), "--from: found no request, expected lines of a decision or question log")
    progress = Progress("drafting", len(cells.kinds()), "kinds of requests")
    drafted = asyncio.run(draft_cases(cells, dict(os.environ), settings_given(options), progress))
    progress.end()
    _write_draft(options, drafted, cells, logs.notes())
    return PASSED if drafted.cases else FAILED


def _write_draft(options: argparse.Namespace, drafted: Drafted, cells: Cells, told: Sequence[str]) -> None:
    if options.out:
        with unable("--out", f"write {options.out}"):
            Path(options.out).write_text(drafted.text, encoding="utf-8")
    if options.json:
        left_out = [one._asdict() for one in drafted.left_out]
        text = {} if options.out else {"text": drafted.text}
        made = {"lines": cells.lines, "cases": drafted.cases, "left_out": left_out, "beyond": cells.beyond}
        print(json.dumps({**made, "unread": list(told), **text}, indent=2))
        return
    if not options.out:
        print(drafted.text, end="")
    said = [f"{_number(drafted.cases, 'case')} of {_number(cells.lines, 'line')}", *told]
    if cells.beyond:
        said.append(f"{_number(cells.beyond, 'line')} of further kinds of requests were not looked at")
    if drafted.left_out:
        said.append(f"no case could be made of {_number(len(drafted.left_out), 'kind')} of requests:")
    said += [f"  {one.place}: {one.request}, {_number(one.lines, 'line')}: {one.reason}" for one in drafted.left_out]
    print("\n".join(map(printable, said)), file=sys.stderr)


def _read(files: Sequence[str], wanted: str) -> list[Case]:
    """Read the files of cases. Raises StartError with every problem of all of them."""
    from sidecar.study.cases import CasesError, read_cases

    if not files:
        raise StartError("found no file of cases, expected one: sidecar test cases.yaml")
    cases: list[Case] = []
    problems: list[str] = []
    for file in files:
        try:
            cases += read_cases(*_text(file))
        except CasesError as error:
            problems += map(str, error.problems)
        except StartError as error:
            problems += error.problems
    if problems:
        raise StartError(*problems)
    chosen = [case for case in cases if wanted.casefold() in case.name.casefold()]
    if not chosen:
        raise StartError(f"--filter: found {wanted!r} in none of {len(cases)} names, expected it in one at least")
    return chosen


def _text(file: str) -> tuple[str, str]:
    """Return a file's text and its name for people. Raises StartError."""
    try:
        if file == "-":
            return sys.stdin.read(), "stdin"
        return Path(file).read_text(encoding="utf-8-sig"), file
    except OSError as error:
        raise StartError(f"{file}: cannot read it: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise StartError(f"{file}: found a byte that is not UTF-8 at {error.start}, expected a text") from None


def _write_junit(file: str, results: Sequence[CaseResult], seconds: float, moment: float) -> None:
    from sidecar.study.case_results import junit

    with unable("--junit", f"write {file}"):
        Path(file).write_bytes(junit(results, seconds, moment))


def _print(results: Sequence[CaseResult], seconds: float, *, as_json: bool) -> None:
    from sidecar.study import case_results

    failed = [result for result in results if not result.passed]
    passed = len(results) - len(failed)
    if as_json:
        told = [case_results.as_json(result) for result in results]
        document = {"passed": passed, "failed": len(failed), "seconds": round(seconds, 3), "cases": told}
        print(json.dumps(document, indent=2))
        return
    for result in failed:
        print(case_results.block(result) + "\n")
    print(f"{_number(len(results), 'case')}: {passed} passed, {len(failed)} failed, {seconds:.1f} s")


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
