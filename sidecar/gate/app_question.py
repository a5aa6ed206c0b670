"""`AppQuestion`: what a lookup may ask of the protected app, besides what permits let through."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from sidecar.gate.verdict import Destination
from sidecar.wire.grammar import Header


@dataclass(frozen=True, slots=True)
class AppQuestion:
    """The warrant of a GET of the protected app, whose answer becomes attributes and goes to no client. Only
    `gate/app_lookup.py` makes one, from a target of `lookups`: abstract, so that to make one elsewhere does not
    type-check.

    It has no method and no body: it is a GET. `headers` are complete. `asked_as` is a digest of all in them on which
    the answer may depend: whom it is asked as, and under which host. `upstream` is the app that is asked, None for that
    of the settings.
    """

    target: bytes
    headers: tuple[Header, ...]
    asked_as: bytes
    upstream: Destination | None

    @abstractmethod
    def _sealed(self) -> None: ...
