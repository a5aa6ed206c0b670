"""Narrowing: what a list is asked for in addition, so that the app sends fewer items that would be dropped.

It only saves work: each item that comes back is checked, whatever it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from sidecar.gate.identity import Principal
from sidecar.gate.trace import Header
from sidecar.gate.values import Type


class PushedAttribute(NamedTuple):
    """An attribute of items as a route declares it: the expression that reads it, its type, and whether no item is
    without it."""

    expression: str
    type: Type | None = None
    required: bool = False


class Push(NamedTuple):
    """The `push` of a route's items: how the app is told a filter, where it has the id and the attributes, and what is
    asked about each item."""

    dialect: str
    id: str
    attributes: Mapping[str, PushedAttribute]
    kind: str = ""
    action: str = ""


class ListQuestion(NamedTuple):
    """A question about all resources of a kind: which of them may the principal do this to? `app` is the URL of the app
    that is told, "" for that of the settings."""

    request_id: str
    principal: Principal
    kind: str
    action: str
    scope: str = ""
    trace: tuple[Header, ...] = ()
    app: str = ""


class Narrowed(NamedTuple):
    """Addition to what the app is asked for. With `nothing` no item can be allowed, and the app need not be asked.

    `pushed` says how much of the plan that is: `exact`, `weakened` or `none`.
    """

    parameters: tuple[tuple[str, str], ...] = ()
    headers: tuple[Header, ...] = ()
    pushed: str = "none"
    nothing: bool = False


class Plans(Protocol):
    """Port: asks the PDP for a plan, and makes what the app is asked for of it.

    `query` is the one that the app would get. Raises Refused with a PDP_* code where there is no answer.
    """

    async def narrow(self, question: ListQuestion, push: Push, query: bytes) -> Narrowed: ...

    async def all_allowed(self, question: ListQuestion) -> bool:
        """Tell whether the action is allowed on every resource of the kind. Raises Refused(PDP_*)."""
