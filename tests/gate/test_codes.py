"""Codes, and what stands beside each."""

from __future__ import annotations

import re

import pytest

from sidecar.config.setting_table import SETTINGS
from sidecar.gate.codes import Code, Dependency, Ground, Kind


def test_codes_are_stable_words_each_once_and_no_ground_is_one() -> None:
    words = [*Code, *Ground]
    assert len(set(words)) == len(words)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", word) for word in words)
    assert all(code.name.lower() == code.value for code in Code)


def test_a_code_is_a_text_that_leads_back_to_it() -> None:
    # mypy takes a look-up by value for the constructor
    assert Code("pdp_timeout") is Code.PDP_TIMEOUT  # type: ignore[call-arg]
    assert f"{Code.PDP_TIMEOUT}" == "pdp_timeout" == Code.PDP_TIMEOUT
    assert Ground("public") is Ground.PUBLIC  # type: ignore[call-arg]


def test_every_code_says_when_it_is_given_and_what_to_do() -> None:
    for code in Code:
        assert isinstance(code.kind, Kind), code
        assert code.meaning, code
        assert code.remedy, code
        assert (code.dependency is None) == (code.fault == ""), code
    assert {code.kind for code in Code} == set(Kind)
    assert all(ground.meaning for ground in Ground)


def test_a_code_without_its_meaning_cannot_be() -> None:
    with pytest.raises(TypeError):
        Code.__new_member__(Code, "new")  # type: ignore[attr-defined]


def test_each_dependency_has_its_faults_each_once() -> None:
    faults = [(code.dependency, code.fault) for code in Code if code.dependency is not None]
    assert len(set(faults)) == len(faults)
    assert {dependency for dependency, _ in faults} == set(Dependency)
    assert (Code.PDP_TIMEOUT.dependency, Code.PDP_TIMEOUT.fault) == (Dependency.PDP, "timeout")
    assert (Code.KEYS_UNAVAILABLE.dependency, Code.KEYS_UNAVAILABLE.fault) == (Dependency.JWKS, "unavailable")
    assert (Code.SESSION_STORE_ERROR.dependency, Code.SESSION_STORE_ERROR.fault) == (Dependency.SESSIONS, "store_error")


def test_a_fault_of_the_client_is_none_of_a_dependency() -> None:
    for code in (Code.SESSION_INVALID, Code.SESSION_EXPIRED, Code.DENIED_BY_POLICY, Code.TOKEN_INVALID):
        assert code.dependency is None, code


def test_what_a_code_tells_you_to_set_is_a_setting() -> None:
    known = {setting.variable for setting in SETTINGS}
    for code in Code:
        named = set(re.findall(r"SIDECAR_[A-Z_]+", f"{code.meaning} {code.remedy}"))
        assert named <= known, code
