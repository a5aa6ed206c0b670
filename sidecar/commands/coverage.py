"""`sidecar coverage`: what no route, policy, lookup or test covers, in both directions."""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sidecar.commands.progress import Progress
from sidecar.commands.settings import add_settings, settings_given

if TYPE_CHECKING:
    from sidecar.adoption.coverage import Area
    from sidecar.adoption.coverage_questions import Samples
    from sidecar.adoption.coverage_seen import ObservedTraffic
    from sidecar.adoption.coverage_tests import Matched
    from sidecar.config.setting_table import Settings
    from sidecar.study.policies import Policies

FINE, UNDER, UNUSABLE = 0, 1, 2


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    add_settings(parser)
    said = "decision or question logs of the sidecar: files, patterns, compressed by gzip, - for stdin"
    parser.add_argument("--log", action="extend", nargs="+", default=[], metavar="FILE", help=said)
    said = "OpenAPI specs, access logs, HAR recordings or Postman collections of the app"
    parser.add_argument("--seen", action="extend", nargs="+", default=[], metavar="FILE", help=said)
    said = "folder of the policies' tests, where it is not that of the policies"
    parser.add_argument("--tests", default="", metavar="FOLDER", help=said)
    said = (
        "exit with 1 if less than N percent of an area is covered: N for every area that is measured, AREA=N for one; "
        "may be given again"
    )
    parser.add_argument("--fail-under", action="append", default=[], metavar="[AREA=]N", help=said)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def command(options: argparse.Namespace) -> int:
    """Exit code 0 where all is covered as demanded, 1 where it is not, 2 for what cannot be read."""
    from sidecar.adoption.coverage_tests import PolicyTestsError
    from sidecar.imports.sighting import UnusableFile
    from sidecar.run.errors import StartError

    # millions of lines are read, and nothing of them is in a circle
    gc.disable()
    try:
        return _coverage(options)
    except (StartError, UnusableFile) as error:
        problems = list(error.problems)
    except PolicyTestsError as error:
        problems = [str(error)]
    finally:
        gc.enable()
    print("\n".join(problems), file=sys.stderr)
    return UNUSABLE


def _coverage(options: argparse.Namespace) -> int:
    """Raises StartError, UnusableFile and PolicyTestsError."""
    from sidecar.adoption import coverage, coverage_text
    from sidecar.adoption.coverage_places import RoutePlaces
    from sidecar.adoption.coverage_questions import Samples
    from sidecar.adoption.coverage_seen import ObservedTraffic
    from sidecar.config.settings import understand
    from sidecar.run.route_file import load_routes
    from sidecar.study.claims import references_of

    floors = _floors(options.fail_under)
    told = {"SIDECAR_UPSTREAM": "http://127.0.0.1:1", **os.environ, **settings_given(options)}
    settings = understand(told, {}).settings
    routes = load_routes(settings, told)
    notes: list[str] = []
    seen = ObservedTraffic(routes)
    policies, tested = _policies(settings, options.tests, notes)
    _read_sightings(options.seen, seen, notes)
    samples = Samples(policies) if policies is not None else None
    _read_logs(options.log, seen, samples, notes)
    asked = _asked_again(settings, samples, notes)
    matched = tuple(each for each in (tested, asked) if each is not None)
    text = Path(settings.routes).read_text(encoding="utf-8")
    sides = coverage.Sides(
        routes, RoutePlaces(settings.routes), tuple(references_of(text)), policies, matched, seen
    )  # fmt: skip
    areas = coverage.areas(sides)
    under = _under(areas, floors)
    notes += _notes_of(seen, tested)
    if options.json:
        print(json.dumps(coverage_text.json_of(areas, notes, under), indent=2))
    else:
        colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print(coverage_text.text_of(areas, notes, under, colours), end="")
    return UNDER if under else FINE


def _floors(given: list[str]) -> dict[str, float]:
    """Area -> the percent that is demanded of it, "" for all. Raises StartError."""
    from sidecar.adoption.coverage import AREAS
    from sidecar.config.suggest import did_you_mean
    from sidecar.run.errors import StartError

    floors: dict[str, float] = {}
    for text in given:
        area, named, number = text.rpartition("=")
        if named and area not in AREAS:
            known = ", ".join(AREAS)
            raise StartError(f"--fail-under: found {area!r}, expected one of {known}{did_you_mean(area, AREAS)}")
        try:
            floors[area] = float(number)
        except ValueError:
            floors[area] = -1.0
        if not 0 <= floors[area] <= 100:
            raise StartError(f"--fail-under: found {number!r}, expected a number of percent, 0 to 100, or AREA=N")
    return floors


def _under(areas: list[Area], floors: Mapping[str, float]) -> list[str]:
    """The areas that are under what is demanded. Raises StartError for one that is demanded and not measured."""
    from sidecar.run.errors import StartError

    lacking = [area for area in areas if area.missing and area.name in floors]
    if lacking:
        raise StartError(*(f"--fail-under: {area.name} is not measured, give {area.missing}" for area in lacking))
    everywhere = floors.get("", 0.0)
    return [area.name for area in areas if not area.missing and area.percent < floors.get(area.name, everywhere)]


def _policies(settings: Settings, tests: str, notes: list[str]) -> tuple[Policies | None, Matched | None]:
    """Read the policies and run their tests, where they are here. Raises StartError and PolicyTestsError."""
    from sidecar.adoption.coverage_tests import has_tests, run_tests
    from sidecar.run.errors import StartError
    from sidecar.run.pdp import cerbos_binary, policy_folder
    from sidecar.study.policies import parse_policies

    folder = Path(settings.policies)
    if settings.pdp or (settings.cerbos != "embedded" and not folder.is_dir()):
        return None, None
    policies = parse_policies(policy_folder(settings))
    notes += map(str, policies.unread)
    if tests and not Path(tests).is_dir():
        raise StartError(f"--tests: found no folder {tests!r}, expected that of the policies' tests")
    if not has_tests(Path(tests or folder)):
        return policies, None
    return policies, run_tests(cerbos_binary(settings), folder, Path(tests) if tests else None)


def _read_sightings(names: list[str], seen: ObservedTraffic, notes: list[str]) -> None:
    """Raises UnusableFile."""
    if not names:
        return
    from sidecar.imports.reading import sightings
    from sidecar.imports.sighting import Notes

    noted = Notes()
    progress = Progress("reading what was seen", 0, "bytes")
    for sighting in sightings(names, cast(io.BufferedIOBase, sys.stdin.buffer), noted, progress=progress):
        seen.sighting(sighting)
    progress.end()
    notes += noted.broken_places
    notes += [f"{count:,} requests are no evidence: {reason}" for reason, count in noted.skipped.items()]


def _read_logs(names: list[str], seen: ObservedTraffic, samples: Samples | None, notes: list[str]) -> None:
    """Raises UnusableFile."""
    if not names:
        return
    from sidecar.adoption.logs import Logs

    logs = Logs(names)
    progress = Progress("reading the logs", logs.size, "bytes")
    for logged in logs.read(progress):
        seen.line(logged)
        if samples is not None:
            samples.add(logged.line)
    progress.end()
    notes += logs.notes()
    if not seen.logs:
        notes.append("no line of the logs is about a request: found no `decision` and no `question`")


def _asked_again(settings: Settings, samples: Samples | None, notes: list[str]) -> Matched | None:
    """Ask the policies the questions of the log again. Raises StartError."""
    if samples is None:
        return None
    from sidecar.adoption.coverage_questions import ask_again
    from sidecar.adoption.coverage_tests import PolicyTestsError
    from sidecar.run.pdp import cerbos_binary

    notes += [
        f"{count:,} recorded questions lack {names}, which a rule reads: add it to SIDECAR_QUESTION_LOG_ATTRIBUTES"
        for names, count in samples.redacted.most_common()
    ]
    if not samples.moments:
        return None
    try:
        return ask_again(cerbos_binary(settings), Path(settings.policies), samples)
    except PolicyTestsError as error:
        notes.append(f"recorded questions could not be asked again, and count for no rule: {error}")
        return None


def _notes_of(seen: ObservedTraffic, matched: Matched | None) -> list[str]:
    notes = []
    if seen.not_there is not None:
        notes.append(
            "left out as paths that the app does not have either (its answer was such as 404): "
            f"{seen.not_there.requests:,} without a route, first {seen.not_there.place}"
        )
    if seen.more:
        notes.append(f"{seen.more:,} requests had one more path, role or name than are kept, and are left out")
    if matched is not None and matched.failed:
        notes.append(f"{matched.failed:,} tests of the policies fail; what they matched counts")
    return notes
