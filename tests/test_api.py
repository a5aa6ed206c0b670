"""Public types for functions of users: what they have, and by which names."""

from __future__ import annotations

import dataclasses

from sidecar.api import LookupRequest, Principal


def test_a_function_can_be_tested_without_a_sidecar() -> None:
    asked = LookupRequest("order", "7", Principal("alice", ("user",)))
    assert (asked.kind, asked.id, asked.timeout) == ("order", "7", 1.0)
    assert asked.principal is not None
    assert (asked.principal.roles, asked.principal.attributes, asked.principal.issuer) == (("user",), {}, "")


def test_its_names_stay_as_they_are() -> None:
    """A new name goes to the end, with a default: what users wrote goes on working."""
    assert [one.name for one in dataclasses.fields(LookupRequest)] == ["kind", "id", "principal", "timeout"]
    assert [one.name for one in dataclasses.fields(Principal)] == ["id", "roles", "attributes", "issuer"]
