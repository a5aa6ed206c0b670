"""Permits for tests that have no gate."""

from __future__ import annotations

from sidecar.gate.verdict import Forward


class Permit(Forward):
    """A permit that no gate has made."""

    __slots__ = ()

    def _sealed(self) -> None: ...
