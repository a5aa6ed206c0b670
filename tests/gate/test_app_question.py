"""The warrant of a lookup's question to the app (tests/net/test_upstream_types.py: nobody makes one by its name)."""

from __future__ import annotations

import dataclasses

import pytest

from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.lookup import Call, Lookup
from sidecar.gate.request import Raw, Reading, read


def test_a_warrant_is_not_changed_after_it_was_made() -> None:
    asked = AppInquiry(("/orders/7",))
    call = Call(Lookup("order", asked, {}), "/orders/7", "7")
    made = asked.warrant(call, read(Raw("POST", b"/", [(b"host", b"x")], "", "http", "r"), Reading()), (), None)
    for name in ("target", "headers", "asked_as"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, name, b"/other")
    assert {one.name for one in dataclasses.fields(made)} == {"target", "headers", "asked_as", "upstream"}
