"""Permits for tests that have no gate."""

from __future__ import annotations

from typing import Any

from sidecar.gate.verdict import Forward


class Permit(Forward):
    """A permit that no gate has made."""

    __slots__ = ()

    def _sealed(self) -> None: ...


def changed(permit: Forward, **fields: Any) -> Permit:
    """The permit that a gate would have made with these fields."""
    values: list[Any] = [fields.get(name, value) for name, value in zip(permit._fields, permit, strict=True)]
    return Permit(*values)
