"""`sidecar import`: specs, access logs and recordings -> a draft of routes.yaml in which nothing is in force."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import cast

from sidecar.commands.progress import Progress
from sidecar.config.routes.file import RoutesError, read_routes
from sidecar.gate.routing import Segment, parse_path
from sidecar.imports.collect import Collector
from sidecar.imports.conflicts import conflicts
from sidecar.imports.draft import draft
from sidecar.imports.proposal import propose
from sidecar.imports.reading import FORMATS, sightings
from sidecar.imports.report import ImportReport, as_json, as_text
from sidecar.imports.sighting import Notes, UnusableFile

EXIT_CODES = {
    0: "a draft was made",
    1: "a file cannot be used, or nothing in the files is evidence of a route; stderr says which and why",
    2: "wrong usage, or the file of `--out` exists",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    said = "a spec, an access log, a HAR recording or a Postman collection, plain or gzip; - for stdin"
    parser.add_argument("files", nargs="+", metavar="FILE", help=said)
    said = "the format of all files, which else is told by their content"
    parser.add_argument("--format", choices=FORMATS, default="", metavar="FORMAT", help=said)
    said = "read requests to this host alone, where a log names hosts; a recording is else read for its first host"
    parser.add_argument("--host", default="", metavar="NAME", help=said)
    said = "a path that the app has, as routes.yaml writes it, such as /{owner}/{repo}; may be given again"
    parser.add_argument("--template", action="append", default=[], type=_template, metavar="PATH", help=said)
    said = "write the draft to this file, instead of stdout; the report then goes to stdout, else to stderr"
    parser.add_argument("--out", default="", metavar="FILE", help=said)
    parser.add_argument("--force", action="store_true", help="replace the file of --out where it exists")
    said = "print the report as JSON on stdout, with the draft in it unless --out takes it"
    parser.add_argument("--json", action="store_true", help=said)


def _template(text: str) -> tuple[Segment, ...]:
    try:
        return parse_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def command(options: argparse.Namespace) -> int:
    """Import the files. Returns the exit code, as in EXIT_CODES."""
    output = Path(options.out) if options.out else None
    if output is not None and output.exists() and not options.force:
        return _complain(f"--out: {output} exists, expected a new file; --force replaces it", 2)
    try:
        report = _report(options)
    except UnusableFile as fault:
        return _complain("\n".join(fault.problems), 1)
    if not report.proposed.proposals:
        sys.stderr.write(as_text(report))
        return _complain("found no evidence of a route in these files, expected requests that the app answered well", 1)
    text = draft(report.proposed.proposals, sorted({file for file, _ in report.notes.read}))
    try:
        read_routes(text, "the draft", {})
    except RoutesError as fault:
        return _complain(f"the draft has a fault that is ours, please report it:\n{fault}", 1)
    return _write(report, text, output, as_json_text=options.json)


def _report(options: argparse.Namespace) -> ImportReport:
    """Raises UnusableFile."""
    notes, collector = Notes(), Collector(options.template)
    size = sum(Path(name).stat().st_size for name in options.files if Path(name).is_file())
    progress = Progress("reading", size, "bytes")
    done = [0]

    def show(count: int) -> None:
        done[0] = max(done[0], count)
        progress(done[0])

    stdin = cast(io.BufferedIOBase, sys.stdin.buffer)
    seen = sightings(
        options.files, stdin, notes, given_format=options.format, host=options.host, progress=show
    )  # fmt: skip
    try:
        for sighting in seen:
            collector.add(sighting)
    finally:
        progress.end()
    collected = collector.collected()
    return ImportReport(propose(collected), list(conflicts(collected)), notes, collected)


def _write(report: ImportReport, text: str, output: Path | None, *, as_json_text: bool) -> int:
    if output is not None:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            return _complain(f"--out: cannot write {output}: {error.strerror}", 2)
    if as_json_text:
        json.dump(as_json(report) | ({"draft": text} if output is None else {}), sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif output is None:
        sys.stderr.write(as_text(report))
        sys.stdout.write(text)
    else:
        sys.stdout.write(as_text(report))
    return 0


def _complain(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code
