"""A report for a person, with colours only where they are wanted, and the same for a program."""

from __future__ import annotations

from sidecar.adoption.coverage import Area, Gap
from sidecar.adoption.coverage_text import SHOWN, json_of, text_of

AREAS = [
    Area("operations", 3, (Gap("GET /x", "a.log:7", 2), Gap("GET /y", "a.log:9", 1, "a draft"))),
    Area("routes", 2, ()),
    Area("questions", 0, (), "policies"),
    Area("rules", 0, ()),
]
TEXT = """\
operations        33.3 %  1 of 3 operations and paths that were seen, and a route takes
  a.log:7: GET /x, 2 requests
  a.log:9: GET /y, 1 request: a draft
routes           100.0 %  2 of 2 methods of routes that were asked for
questions      not measured: give policies
rules            nothing  0 of 0 actions of policy rules that a route asks for
note: something
"""


def test_the_text_has_each_area_with_its_gaps() -> None:
    assert text_of(AREAS, ["something"], ["operations"], colours=False) == TEXT


def test_colours_change_nothing_but_colours() -> None:
    text = text_of(AREAS, [], ["operations"], colours=True)
    assert text.startswith("\x1b[31moperations ")
    assert "\x1b[32mroutes " in text


def test_a_terminal_only_shows_what_a_log_says() -> None:
    evil = "\x1b]0;x\x07\u202e\n"
    text = text_of([Area("routes", 2, (Gap(evil, evil, 1, evil),))], [evil], [], colours=False)
    assert len(text.splitlines()) == 3
    assert text.replace("\n", "").isprintable()


def test_many_gaps_are_cut_short() -> None:
    area = Area("routes", 100, tuple(Gap(f"GET /{number}", "r:1") for number in range(SHOWN + 3)))
    assert text_of([area], [], [], colours=False).splitlines()[-1] == "  … and 3 more, which --json lists"
    assert len(json_of([area], [], [])["areas"][0]["gaps"]) == SHOWN + 3


def test_the_json_has_the_same() -> None:
    assert json_of(AREAS, ["something"], ["operations"]) == {
        "areas": [
            {
                "name": "operations", "measured": True, "covered": 1, "total": 3, "percent": 33.33,
                "gaps": [
                    {"what": "GET /x", "place": "a.log:7", "requests": 2},
                    {"what": "GET /y", "place": "a.log:9", "requests": 1, "why": "a draft"},
                ],
            },
            {"name": "routes", "measured": True, "covered": 2, "total": 2, "percent": 100.0, "gaps": []},
            {"name": "questions", "measured": False, "missing": "policies"},
            {"name": "rules", "measured": True, "covered": 0, "total": 0, "percent": 100.0, "gaps": []},
        ],
        "under": ["operations"],
        "notes": ["something"],
    }  # fmt: skip
