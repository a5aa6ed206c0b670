"""The table of the docs: cases as rows, ways in as columns. `python -m tests.foreign.table` writes it."""

from __future__ import annotations

from tests.foreign.cases import CASES, Case
from tests.foreign.ways import SIGNS, WAYS, Way
from tests.stack import ROOT

PAGE = ROOT / "docs/reference/proxies.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of the table -->\n"


def table() -> str:
    """The Markdown: of each cell the status, and the sign where a way differs."""
    lines = ["| request | " + " | ".join(way.name for way in WAYS) + " |", "| --- |" + " --- |" * len(WAYS)]
    lines += [f"| {case.name} | " + " | ".join(_cell(way, case) for way in WAYS) + " |" for case in CASES]
    used = {mark.sign for way in WAYS for mark in way.marks.values()}
    return "\n".join([*lines, "", *(f"{sign} {says}.  " for sign, says in SIGNS.items() if sign in used), ""])


def _cell(way: Way, case: Case) -> str:
    mark = way.marks.get(case.name)
    status, seen, sign = (mark.status, mark.seen, mark.sign) if mark else (case.status, case.seen, "")
    if case.without == "sidecar":
        return "refused"
    return f"**{status}**{sign}" if seen else f"{status}{sign}"


def placed() -> str:
    """The page with the table as it is now."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(placed(), encoding="utf-8")
