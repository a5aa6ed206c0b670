"""The report on a terminal."""

from sidecar.adoption.readiness import Thresholds
from sidecar.adoption.report import report_of
from sidecar.adoption.report_text import SHOWN, as_text, plain
from sidecar.adoption.sighting import Where
from sidecar.adoption.tally import Tally
from sidecar.record.line import Line
from tests.adoption.recorded import differing, question, refused


def text_of(*lines: Line) -> str:
    tally = Tally()
    tally.add_all(lines)
    return as_text(report_of(tally, Thresholds(), {Where("GET", "/contacts/{id}"), Where("PUT", "/contacts/{id}")}))


def test_the_whole_report_reads_so() -> None:
    lines = [
        *(question(day) for day in range(9)), refused(7.5, roles=("intern",), principal="eve", request_id="r-9", weight=2),
        question(8, route="/contacts", path="/contacts", action="list", items={"seen": 10, "kept": 9}),
    ]  # fmt: skip
    # the days go on to the 9th
    assert text_of(*lines).partition("  2025-12-02")[0] == EXPECTED


EXPECTED = """\
12 requests of 2 or more principals, 2025-12-01 00:00 UTC to 2025-12-09 00:00 UTC
  note: some lines stand for several requests: principals behind those are not counted

Is it time to enforce?
  yes watched for 8 days (expected: at least 7 days)
  no  the last new difference came 0.5 days before the last request (expected: none new for 3 days)
  no  1 kind of the requests of the last 3 days would break (expected: no request of the last 3 days would break)
  yes 0 % could not be decided (expected: at most 0.1 %)
  no  50 % of the routes seen (expected: at least 90 % of the routes seen)
      2 of 2 principals were seen more than once
  Do not enforce yet: the last new difference came 0.5 days before the last request; 1 kind of the requests of
  the last 3 days would break; 50 % of the routes seen.
  not ready:
    GET /contacts: seen once; its lists lose 10.0% of their items
    GET /contacts/{id}: the last new difference came 0.5 days before the last request; 1 kind of the requests of the last 3 days would break
  not seen:
    PUT /contacts/{id}

Our verdict, and the app's own status
                    2xx, 3xx  401, 403  404  other 4xx  5xx  no answer
  allow                  10          -    -          -    -          -
  would refuse            2!         -    -          -    -          -
  refused                  -         -    -          -    -          -
  could not decide         -         -    -          -    -          -
  ! would break, + the app knows more than the policy, ? could not decide, ~ the app's status does not tell

Would break: 2 requests
  8ee5a5cf  GET /contacts/{id}  contact read  roles: intern
    nobody with any of these roles was ever allowed it (denied_by_policy): add a rule for one of the roles, if they should
    2 requests of 1 or more principals, app 200 (2), 2025-12-08 12:00 UTC
    such as r-9

Lists that would get shorter, or are shorter already
  route          answers  items  vanish
  GET /contacts        1     10       1  10.0%

Per day
  day         requests  would break  the app knows more than the policy  could not decide
  2025-12-01         1            0                                   0                 0
"""


def test_the_section_about_candidate_policies_says_that_not_every_request_is_compared() -> None:
    text = text_of(question(), differing())
    assert "  Not every request is compared: none before the candidate policies are in force," in text
    assert "sidecar_candidate_total.\n  allow -> deny  /contacts/{id}" in text
    assert "Not every request" not in text_of(question())


def test_long_parts_are_cut_and_the_rest_is_counted() -> None:
    text = text_of(*(refused(route=f"/r/{number}") for number in range(SHOWN + 5)))
    assert "  5 more with --json or --html\n" in text
    assert text.count("such as") == SHOWN


def test_a_value_out_of_a_log_does_nothing_on_a_terminal() -> None:
    assert plain("/a\x1b[2J\n\u202eb\x9b") == "/a\\x1b[2J\\n\\u202eb\\x9b"
    assert plain("x" * 200) == "x" * 99 + "…"
    text = text_of(
        refused(route="", path="/\x1b[2J", kind="\x07", roles=("\r",), code="\x1b]0;x", request_id="\x1b[1m")
    )
    assert not [char for char in text if not char.isprintable() and char != "\n"]
