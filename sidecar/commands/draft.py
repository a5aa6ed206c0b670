"""`sidecar draft`: policies and their tests, from what the app let through while its traffic was recorded."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.commands.progress import Progress

if TYPE_CHECKING:
    from sidecar.adoption.draft import PolicyDraft


class _Fault(Exception):
    """A fault that ends the command; says where it is, and what is expected."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    said = "question logs, also patterns, rotated or compressed, and those of several replicas; - for stdin"
    parser.add_argument("log", nargs="+", help=said)
    said = "the folder to write to, which must not be there, or be empty (default: policies-draft)"
    parser.add_argument("--out", default="policies-draft", metavar="FOLDER", help=said)
    said = "write to a folder that has files: those of an earlier draft go, unless somebody changed one; others stay"
    parser.add_argument("--force", action="store_true", help=said)
    for flag, default, what in (("--min-hits", 5, "requests"), ("--min-principals", 2, "different principals")):
        said = f"{what} from which on a rule is drafted (default: {default})"
        parser.add_argument(flag, type=_positive, default=default, metavar="NUMBER", help=said)
    parser.add_argument("--since", default="", metavar="TIME", help="take requests from this time on, with its zone")
    parser.add_argument("--until", default="", metavar="TIME", help="take requests before this time")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 1 to 1000")
    return int(text)


def command(options: argparse.Namespace) -> int:
    """Draft, write the files, say what they have and what a person must decide, and return the exit code."""
    from sidecar.adoption import draft as drafts
    from sidecar.adoption.period import PeriodError
    from sidecar.imports.sighting import UnusableFile

    try:
        folder = Path(options.out)
        _require_room(folder, force=options.force)
        made = _draft(options)
        _write(made, folder)
    except (_Fault, UnusableFile, PeriodError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(drafts.as_json(made), indent=2) if options.json else drafts.as_text(made).rstrip("\n"))
    print(f"{len(made.files)} files in {folder}: try them with `cerbos compile {folder}`", file=sys.stderr)
    return 0


def _require_room(folder: Path, *, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise _Fault(f"--out: {folder} is a file, expected a folder")
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise _Fault(
            f"--out: {folder} has files, expected an empty folder: name another one, or write there with --force"
        )


def _draft(options: argparse.Namespace) -> PolicyDraft:
    from sidecar.adoption.draft import draft_of
    from sidecar.adoption.evidence import Evidence
    from sidecar.adoption.grants import Enough
    from sidecar.adoption.logs import Logs
    from sidecar.adoption.period import period_of

    period = period_of(options.since, options.until)
    logs, evidence = Logs(options.log), Evidence()
    bar = Progress("reading", logs.size, "bytes")
    evidence.add_all(logged.line for logged in logs.read(bar) if period.has(logged.line.time))
    bar.end()
    for told in logs.notes():
        print(told, file=sys.stderr)
    if not evidence.cases:
        why = "".join(f"\n{count:,} requests left out: {why}" for why, count in sorted(evidence.skipped.items()))
        raise _Fault(
            f"{', '.join(options.log)}: found no request about which a policy was asked and that the app answered, "
            f"expected lines of SIDECAR_QUESTION_LOG{why}"
        )
    return draft_of(evidence, Enough(options.min_hits, options.min_principals))


def _write(draft: PolicyDraft, folder: Path) -> None:
    """Write the files, and remove those of an earlier draft. Raises _Fault, with nothing done, if a person's work would
    go with them."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in _earlier(folder, draft.files):
        old.unlink()
    for name, text in draft.files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _earlier(folder: Path, wanted: Collection[str]) -> list[Path]:
    """Return the files of an earlier draft. Raises _Fault with each file that would be lost and is a person's."""
    from sidecar.adoption.seal import is_as_drafted, is_drafted

    found, problems = [], []
    for path in sorted(path for path in folder.glob("*.yaml") if path.is_file()):
        data = path.read_bytes()
        if is_as_drafted(data):
            found.append(path)
        elif is_drafted(data):
            problems.append(f"{path}: found changes since it was drafted, expected none")
        elif path.name in wanted:
            problems.append(f"{path}: found a file of your own, expected none of this name")
    if problems:
        problems.append(f"--force replaces no work of yours: move these files out of {folder}, or name another --out")
        raise _Fault("\n".join(problems))
    return found
