"""The report as a page: whole, inert whatever the log says, and readable."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from sidecar.adoption.readiness import Thresholds
from sidecar.adoption.report import report_of
from sidecar.adoption.report_page import FOLDER, SHOWN, as_html
from sidecar.adoption.sighting import Where
from sidecar.adoption.tally import Tally
from sidecar.record.line import Line
from tests.adoption.recorded import differing, question, refused

HOSTILE = "</title><script>alert(1)</script>'\"><img src=//evil.test/x onerror=alert(1)>{{7*7}}\x1b[2J\u202e"
"""A path of an attacker's choice, and any other value."""


def page_of(*lines: Line) -> str:
    tally = Tally()
    tally.add_all(lines)
    return as_html(report_of(tally, Thresholds(), {Where("PUT", "/contacts/{id}")}, notes=[HOSTILE]))


def hostile_page() -> str:
    fields: dict[str, Any] = dict.fromkeys(("path", "kind", "action", "code", "request_id", "principal"), HOSTILE)
    return page_of(
        refused(roles=(HOSTILE,), route="", **fields), refused(method=HOSTILE, route=HOSTILE, items={"seen": 3, "kept": 1}),
        question(0, 403, route=HOSTILE, roles=(HOSTILE,)), refused(code="lookup_timeout", kind=HOSTILE),
        refused(0, 500, action=HOSTILE), differing(route=HOSTILE, kind=HOSTILE, roles=(HOSTILE,), request_id=HOSTILE), question(outcome="refuse", code=HOSTILE),
    )  # fmt: skip


class Elements(HTMLParser):
    """Names and attributes of a page's elements, as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes.update((name, value or "") for name, value in attrs)


def elements_of(text: str) -> Elements:
    elements = Elements()
    elements.feed(text)
    return elements


def test_hostile_values_add_no_element_and_no_attribute() -> None:
    plain, hostile = (
        elements_of(page_of(refused(items={"seen": 3, "kept": 1}), question(0, 403), differing())),
        elements_of(hostile_page()),
    )
    assert hostile.names <= plain.names
    assert {name for name, _ in hostile.attributes} <= {name for name, _ in plain.attributes}
    text = hostile_page()
    assert "<script" not in text
    assert not {"\x1b", "\u202e"} & set(text)
    assert "{{7*7}}" in text


def test_the_page_loads_nothing_runs_nothing_and_says_so() -> None:
    found = elements_of(page_of(*(question(day) for day in range(9)), refused(3)))
    assert not found.names & {"script", "link", "img", "iframe", "object", "form", "base", "use", "foreignobject"}
    assert not [one for one in found.attributes if one[0].startswith("on") or one[0] in ("src", "href", "style")]
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert ("content", policy) in found.attributes
    assert "url(" not in (FOLDER / "report.html").read_text()


def test_what_the_text_has_the_page_has() -> None:
    text = page_of(
        *(question(day) for day in range(9)), refused(7.5, roles=("intern",), request_id="r-9"), question(8, 403)
    )
    for part in (
        "Do not enforce yet",
        "1 kind of the requests of the last 3 days would break",
        "r-9",
        "intern",
        "denied_by_policy",
        "PUT /contacts/{id}",
        "not seen",
    ):
        assert part in text


def test_what_candidate_policies_would_decide_is_on_the_page() -> None:
    text = page_of(question(), differing())
    assert text.count("<h2>Candidate policies</h2>") == 1
    assert "see `failed` and `dropped` of the metric sidecar_candidate_total." in text
    assert "Candidate policies" not in page_of(question())


def test_very_many_differences_are_cut_and_counted() -> None:
    text = page_of(*(refused(route=f"/r/{number}") for number in range(SHOWN + 3)))
    assert "3 more differences are in the JSON" in text


def test_a_report_without_a_difference_is_a_page_too() -> None:
    assert "No request would break." in page_of(question())


# --- WCAG 2.2, success criterion 1.4.3 ---


def luminance(color: str) -> float:
    full = color if len(color) == 7 else "#" + "".join(char * 2 for char in color[1:])
    parts = [int(full[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


PAIRS = [
    ("front", "back"), ("front", "card"), ("dim", "back"), ("dim", "card"), ("dim", "soft"), ("front", "soft"),
    *((name, f"{name}-back") for name in ("break", "more", "open", "unclear", "refused", "good")), ("break", "card"), ("open", "card"), ("good", "card"),
]  # fmt: skip


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(scheme: int) -> None:
    roots = re.findall(r":root \{(.*?)\}", (FOLDER / "report.html").read_text(), re.DOTALL)
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", roots[scheme]))
    for text, behind in PAIRS:
        assert contrast(colors[text], colors[behind]) >= 4.5, (text, behind)
