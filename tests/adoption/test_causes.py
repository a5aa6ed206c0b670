"""Each code has a cause, and each cause says what to do."""

from sidecar.adoption.causes import Cause, cause_of
from sidecar.gate.codes import Code, Ground, Kind


def test_each_code_of_a_request_has_its_cause() -> None:
    without = {code for code in Code if cause_of(code) is Cause.OTHER}
    # a request to the app never ends with these
    assert without == {code for code in Code if code.kind is Kind.SIGN_IN and code.dependency is None}
    assert {cause_of(ground) for ground in Ground} == {Cause.WIDER_POLICY, Cause.WIDER_ROUTE, Cause.OTHER}


def test_a_segment_that_the_pattern_refuses_is_no_missing_value() -> None:
    cause = cause_of(Code.SEGMENT_INVALID)
    assert cause.text == "a segment of the path does not fit the route's pattern"
    assert "without a route of its own" in cause.remedy
    assert "value" in cause_of(Code.REFERENCE_INVALID).text


def test_a_code_of_a_later_version_is_another_cause() -> None:
    assert cause_of("moon_phase") is Cause.OTHER


def test_each_cause_has_words_and_a_remedy_and_some_code() -> None:
    # the last two come from all lines together
    met = {cause_of(code) for code in [*Code, *Ground]} | {Cause.ROLE, Cause.NO_POLICY}
    assert met == set(Cause)
    assert all(cause.text and cause.remedy for cause in Cause)
