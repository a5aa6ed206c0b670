"""`sidecar replay`: who would gain and who would lose by other policies, from what was recorded."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.commands.progress import Progress
from sidecar.run.errors import StartError

if TYPE_CHECKING:
    from sidecar.adoption.logs import Logs
    from sidecar.adoption.replay import Replay
    from sidecar.record.line import QuestionLine
    from sidecar.run.replaying import ReplayCandidate

SAME, FAULT, CHANGED, WIDENED = 0, 1, 2, 3
"""Exit codes."""
_CELL = re.compile(r"[^:\s]+:\S+")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("log", nargs="+", help="question logs, also rotated, compressed and of several replicas")
    parser.add_argument("--policies", required=True, metavar="NEW", help="the folder of the new policies")
    said = "a new route file, which the recorded requests go through"
    parser.add_argument("--routes", default="", metavar="NEW", help=said)
    said = "a kind and action that may gain access, such as contact:read; may be given again"
    parser.add_argument("--allow-widening", action="append", default=[], metavar="KIND:ACTION", help=said)
    said = (
        "exit with 1 if less can be replayed of the requests that a policy had decided, in percent "
        "(default: 0, but never none of them)"
    )
    parser.add_argument("--min-replayed", type=float, default=0.0, metavar="PERCENT", help=said)
    said = "the Cerbos binary (default: that of SIDECAR_CERBOS_BINARY, of PATH, or of the npm package)"
    parser.add_argument("--cerbos-binary", default="", metavar="FILE", help=said)
    said = "on or off, as SIDECAR_CERBOS_STRICT (default: that of the environment, else on)"
    parser.add_argument("--strict", choices=("on", "off"), default="", help=said)
    parser.add_argument("--json", action="store_true", help="print JSON")


def command(options: argparse.Namespace) -> int:
    """Replay, print what would change, and return the exit code."""
    import asyncio

    from sidecar.adoption.logs import Logs
    from sidecar.imports.sighting import UnusableFile
    from sidecar.record import logs as messages
    from sidecar.run.replaying import replay

    messages.configure("error")
    try:
        _require_cells(options.allow_widening)
        candidate = _candidate(options)
        logs = Logs(options.log)
        bar = Progress("replaying", logs.size, "bytes")
        found, revision = asyncio.run(replay(_questions(logs, bar), candidate))
        bar.end()
    except (StartError, UnusableFile, OSError) as error:
        print(error, file=sys.stderr)
        return FAULT
    print("\n".join(logs.notes()), file=sys.stderr, end="\n" if logs.notes() else "")
    _show(found, revision, as_json=options.json)
    return _exit_code(found, options)


def _require_cells(cells: list[str]) -> None:
    for cell in cells:
        if not _CELL.fullmatch(cell):
            raise StartError(f"--allow-widening: found {cell!r}, expected KIND:ACTION, such as contact:read")


def _candidate(options: argparse.Namespace) -> ReplayCandidate:
    from sidecar.adoption.rerouting import Rerouting
    from sidecar.config.routes.file import RoutesError, read_routes
    from sidecar.pdp.cerbos_binary import find_binary
    from sidecar.run.errors import blaming
    from sidecar.run.replaying import ReplayCandidate

    folder = Path(options.policies)
    if not folder.is_dir():
        raise StartError(f"--policies: found no folder {options.policies!r}, expected Cerbos policies")
    named = options.cerbos_binary or os.environ.get("SIDECAR_CERBOS_BINARY")
    with blaming("--cerbos-binary"):
        binary = find_binary(named or None)
    rerouting = None
    if options.routes:
        try:
            text = Path(options.routes).read_text(encoding="utf-8")
            rerouting = Rerouting(read_routes(text, options.routes, os.environ))
        except RoutesError as error:
            raise StartError(*map(str, error.problems)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"--routes: cannot read {options.routes}: {error}") from None
    strict = options.strict or os.environ.get("SIDECAR_CERBOS_STRICT", "on")
    return ReplayCandidate(folder, binary, strict != "off", rerouting)


def _questions(logs: Logs, progress: Progress) -> Iterator[QuestionLine]:
    from sidecar.record.line import QuestionLine

    for logged in logs.read(progress):
        if isinstance(logged.line, QuestionLine):
            yield logged.line


def _show(found: Replay, revision: str, *, as_json: bool) -> None:
    from sidecar.adoption import replay_report

    if as_json:
        print(json.dumps(replay_report.as_json(found, revision), indent=2))
    else:
        print("\n".join(replay_report.as_text(found, revision)))


def _exit_code(found: Replay, options: argparse.Namespace) -> int:
    if not found.replayed:
        print("no request could be replayed, so this says nothing of the new policies", file=sys.stderr)
        return FAULT
    share = found.replayed * 100 / found.decided
    # not a number is no less than any
    if not share >= options.min_replayed:
        said = (
            f"{share:.1f} % of the requests that a policy had decided were replayed, "
            f"expected {options.min_replayed:g} % (--min-replayed)"
        )
        print(said, file=sys.stderr)
        return FAULT
    if found.widened_beyond(options.allow_widening):
        return WIDENED
    return CHANGED if found.changes else SAME
