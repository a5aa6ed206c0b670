"""Results of cases: what came out, against what was expected, for a person, a program and CI."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

from sidecar.printable import printable
from sidecar.study.case_grammar import NOTHING
from sidecar.study.cases import Case, Items, Sent, VisibleFields


class Observed(NamedTuple):
    """Outcome of a case. `found` has it by the names of `expect`. `faults` say why the case itself cannot be
    judged, `why` how the verdict came about."""

    found: Mapping[str, Any]
    headers: Sequence[tuple[bytes, bytes]] = ()
    sent: tuple[Sent, ...] = ()
    faults: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    seconds: float = 0.0


class Difference(NamedTuple):
    """Part that came out otherwise than expected, by its name in the file."""

    name: str
    expected: str
    found: str


class CaseResult(NamedTuple):
    """A case with what came out of it."""

    case: Case
    observed: Observed
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """Return whether all came out as expected."""
        return not self.differences and not self.observed.faults


def result_of(case: Case, observed: Observed) -> CaseResult:
    """Compare what came out of a case with what it expects."""
    differences = [each for name, expected in case.expected.items() for each in _differences(name, expected, observed)]
    return CaseResult(case, observed, tuple(differences))


def _differences(name: str, expected: Any, observed: Observed) -> Iterator[Difference]:
    if name == "headers":
        yield from _of_headers("headers", expected, _by_name(observed.headers))
        return
    if name == "sent":
        yield from _of_sent(expected, observed.sent)
        return
    found = observed.found.get(name)
    if isinstance(expected, Items | VisibleFields):
        if found is None:
            yield Difference(name, _shown(expected._asdict()), "none in the answer")
            return
        for part, wanted in expected._asdict().items():
            if wanted is not None and wanted != (got := getattr(found, part)):
                yield Difference(f"{name}.{part}", _shown(wanted), _shown(got))
    elif expected != found:
        yield Difference(name, _shown(expected), _shown(found))


def _of_headers(
    place: str, expected: Mapping[str, Sequence[str]], found: Mapping[str, Sequence[str]]
) -> Iterator[Difference]:
    for name, values in expected.items():
        got = found.get(name, [])
        if list(got) != list(values):
            yield Difference(f"{place}.{name}", _shown(values), _shown(got))


def _of_sent(expected: Any, sent: Sequence[Sent]) -> Iterator[Difference]:
    if expected == NOTHING:
        if sent:
            yield Difference("sent", NOTHING, _line(sent[0]))
        return
    if not sent:
        yield Difference("sent", _line(expected), NOTHING)
        return
    first = sent[0]
    for part in ("method", "target"):
        wanted, got = getattr(expected, part), getattr(first, part)
        if wanted is not None and wanted != got:
            yield Difference(f"sent.{part}", _shown(wanted), _shown(got))
    yield from _of_headers("sent.headers", expected.headers, first.headers)


def _line(sent: Sent) -> str:
    return f"{sent.method or 'any method'} {sent.target or 'any target'}"


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("utf-8", "replace"))
    return found


def _shown(value: Any) -> str:
    """Write a value as a person reads it."""
    if isinstance(value, Mapping):
        told = {name: part for name, part in value.items() if part is not None}
        return ", ".join(f"{name}: {_shown(part)}" for name, part in told.items()) or "none"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(str, value))}]"
    return "none" if value in (None, "") else str(value)


# --- for a person ---


def block(result: CaseResult) -> str:
    """Write why a case failed: its place, each thing that came out otherwise, and how that came about."""
    case, observed = result.case, result.observed
    rows = [("case", fault) for fault in observed.faults]
    rows += [(each.name, f"expected {each.expected}, found {each.found}") for each in result.differences]
    rows += [("why", line) for line in observed.why[:1]] + [("", line) for line in observed.why[1:]]
    width = max(len(name) for name, _ in rows)
    place = f"  {case.place}: {case.method} {case.target}"
    lines = [f"FAILED {case.name}", place, *(f"  {name:{width}}  {text}".rstrip() for name, text in rows)]
    return "\n".join(map(printable, lines))


# --- for a program ---


def as_json(result: CaseResult) -> dict[str, Any]:
    """Return a result as JSON has it."""
    case, observed = result.case, result.observed
    found = observed.found.items()
    return {
        "name": case.name, "file": case.file, "line": case.line, "column": case.column, "passed": result.passed,
        "differences": [difference._asdict() for difference in result.differences], "faults": list(observed.faults),
        "found": {
            name: value._asdict() if isinstance(value, Items | VisibleFields) else value for name, value in found
        },
        "why": list(observed.why), "seconds": round(observed.seconds, 4),
    }  # fmt: skip


# --- for CI ---


def junit(results: Sequence[CaseResult], seconds: float, moment: float) -> bytes:
    """Write results as JUnit's XML, a suite for each file. They began at `moment`, in Unix seconds."""
    began = datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    root = ElementTree.Element("testsuites", _counts("sidecar test", results, seconds))
    for file in dict.fromkeys(result.case.file for result in results):
        of_file = [result for result in results if result.case.file == file]
        attributes = _counts(file, of_file, sum(result.observed.seconds for result in of_file))
        suite = ElementTree.SubElement(root, "testsuite", {**attributes, "timestamp": began})
        for result in of_file:
            _add_case(suite, result)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _counts(name: str, results: Sequence[CaseResult], seconds: float) -> dict[str, str]:
    failed = sum(not result.passed for result in results)
    counts = {"tests": len(results), "failures": failed, "errors": 0, "skipped": 0}
    return {"name": _xml(name), **{key: str(count) for key, count in counts.items()}, "time": f"{seconds:.3f}"}


def _add_case(suite: ElementTree.Element, result: CaseResult) -> None:
    case = result.case
    attributes = {
        "name": _xml(case.name), "classname": _xml(case.file), "file": _xml(case.file), "line": str(case.line),
        "time": f"{result.observed.seconds:.3f}",
    }  # fmt: skip
    made = ElementTree.SubElement(suite, "testcase", attributes)
    if not result.passed:
        differences = [f"{each.name}: expected {each.expected}, found {each.found}" for each in result.differences]
        told = [*result.observed.faults, *differences]
        failure = ElementTree.SubElement(made, "failure", {"message": _xml("; ".join(told)), "type": "difference"})
        failure.text = _xml(block(result))


# XML 1.0 section 2.2: the characters that a document may have
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _xml(text: str) -> str:
    return _NO_XML.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
