"""`sidecar report`: our verdict against the app's own status, and whether it is time to enforce."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.commands.progress import Progress

if TYPE_CHECKING:
    from sidecar.adoption.logs import Logs
    from sidecar.adoption.period import Period
    from sidecar.adoption.readiness import Thresholds
    from sidecar.adoption.report import Report
    from sidecar.adoption.sighting import Where
    from sidecar.adoption.tally import Tally

FAILED = 3
"""Exit code where there is what `--fail-on` names."""
NOT_READY = "not-ready"
FAIL_ON = ("would-break", "app-knows-more", "undecided", NOT_READY)


class _Fault(Exception):
    """A fault that ends the command; says where it is, and what is expected."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    said = "decision or question logs, also patterns, rotated or compressed, and those of several replicas; - for stdin"
    parser.add_argument("log", nargs="+", help=said)
    said = "routes.yaml, to know which routes nobody used"
    parser.add_argument("--routes", default="", metavar="FILE", help=said)
    said = "ids of differences that are meant to be so, one at the beginning of each line"
    parser.add_argument("--intended", default="", metavar="FILE", help=said)
    said = "count requests from this time on, such as 2026-01-31T12:00+01:00"
    parser.add_argument("--since", default="", metavar="TIME", help=said)
    parser.add_argument("--until", default="", metavar="TIME", help="count requests before this time")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--html", default="", metavar="FILE", help="write one page that opens offline")
    said = f"exit with {FAILED} if there is any of these: {', '.join(FAIL_ON)}; several with commas"
    parser.add_argument("--fail-on", type=_fail_on, default=(), metavar="WHAT", help=said)
    for flag, default, what in (
        ("--min-days", 7.0, "days to watch before enforcing"),
        ("--quiet-days", 3.0, "days without a new difference, and without a request that would break"),
        ("--min-routes", 90.0, "percent of the routes that must have been seen"),
        ("--max-undecided", 0.1, "percent of the requests that may have been undecided"),
    ):
        parser.add_argument(
            flag, type=_number, default=default, metavar="NUMBER", help=f"{what} (default: {default:g})"
        )
    said = "requests from which on a route counts as seen (default: 2)"
    parser.add_argument("--min-seen", type=int, default=2, metavar="NUMBER", help=said)


def _fail_on(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in FAIL_ON:
            raise argparse.ArgumentTypeError(f"found {name!r}, expected of {', '.join(FAIL_ON)}")
    return names


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1e6:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number that is not negative")
    return number


def command(options: argparse.Namespace) -> int:
    """Read the logs, show the report, and return the exit code."""
    from sidecar.adoption.period import PeriodError
    from sidecar.adoption.report import IntendedError
    from sidecar.imports.sighting import UnusableFile

    try:
        report = _report(options)
        _show(report, options)
    except (_Fault, UnusableFile, PeriodError, IntendedError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return _exit_code(report, options.fail_on)


def _report(options: argparse.Namespace) -> Report:
    from sidecar.adoption.logs import Logs
    from sidecar.adoption.period import period_of
    from sidecar.adoption.report import read_intended, report_of

    period = period_of(options.since, options.until)
    mapped = _mapped(options.routes) if options.routes else None
    intended = frozenset[str]()
    if options.intended:
        intended = read_intended(Path(options.intended).read_text(encoding="utf-8"), options.intended)
    logs = Logs(options.log)
    tally = _tally(logs, period)
    if not tally.lines:
        told = "".join(f"\n{one}" for one in logs.notes())
        raise _Fault(
            f"{', '.join(options.log)}: found no request that was decided, expected lines of SIDECAR_QUESTION_LOG, or "
            f"of the decision log (stdout of `sidecar run`){told}"
        )
    return report_of(tally, _thresholds(options), mapped, intended, logs.notes())


def _tally(logs: Logs, period: Period) -> Tally:
    from sidecar.adoption.tally import Tally

    tally = Tally()
    bar = Progress("reading", logs.size, "bytes")
    tally.add_all(logged.line for logged in logs.read(bar) if period.has(logged.line.time))
    bar.end()
    return tally


def _thresholds(options: argparse.Namespace) -> Thresholds:
    from sidecar.adoption.readiness import Thresholds

    return Thresholds(
        options.min_days, options.quiet_days, options.min_routes / 100, options.max_undecided / 100, options.min_seen
    )  # fmt: skip


def _mapped(file: str) -> frozenset[Where]:
    """The routes and methods of a route file."""
    from sidecar.adoption.sighting import Where
    from sidecar.config.routes.file import RoutesError, read_routes

    try:
        routes = read_routes(Path(file).read_text(encoding="utf-8"), file, os.environ)
    except RoutesError as error:
        raise _Fault(str(error)) from None
    return frozenset(Where(method, route.name) for route in routes.table.routes for method in route.actions)


def _show(report: Report, options: argparse.Namespace) -> None:
    from sidecar.adoption import report_json, report_text

    if options.html:
        from sidecar.adoption import report_page

        Path(options.html).write_text(report_page.as_html(report), encoding="utf-8")
    if options.json:
        print(json.dumps(report_json.as_json(report), indent=2))
    else:
        print(report_text.as_text(report), end="")


def _exit_code(report: Report, fail_on: tuple[str, ...]) -> int:
    from sidecar.adoption.sighting import Relation

    named: dict[str, Relation] = {relation.replace("_", "-"): relation for relation in Relation}
    failed = any(not report.readiness.ready if name == NOT_READY else report.has(named[name]) for name in fail_on)
    return FAILED if failed else 0
