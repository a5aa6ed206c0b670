"""Narrows what a list is asked for: a plan of the PDP, translated, in the words of the app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from sidecar.gate.identity import Principal
from sidecar.gate.narrowing import ListQuestion, Narrowed, Push
from sidecar.gate.trace import Header
from sidecar.plans.dialect import asked_names
from sidecar.plans.dialects import DIALECTS
from sidecar.plans.filter import NOTHING, Exactness, RowField
from sidecar.plans.plan import Always, Plan
from sidecar.plans.translate import FieldNames, filter_of, plain_path

AskPlan = Callable[[ListQuestion], Awaitable[Plan]]
"""Port: asks the PDP for a plan. Raises Refused with a PDP_* code."""


class PlanTrust(NamedTuple):
    """Properties of a plan that the policies warrant: that its condition has every row which a check allows; that
    a check denies all, where it denies everything; that a check allows all, where it allows everything."""

    conditions: bool = False
    denied: bool = False
    allowed: bool = False


SignFilter = Callable[[Principal, bytes, str], bytes]
"""Port: (principal, filter, URL of the app that gets it, "" for that of the settings) -> the filter, signed."""
Trusted = Callable[[ListQuestion], Awaitable[PlanTrust]]
"""Port: tells how far the plan of a question may be trusted."""


class Narrower:
    """The gate's port `Plans`."""

    def __init__(self, ask: AskPlan, trusted: Trusted, sign: SignFilter | None = None) -> None:
        self._ask = ask
        self._trusted = trusted
        self._sign = sign

    async def narrow(self, question: ListQuestion, push: Push, query: bytes) -> Narrowed:
        """Ask for a plan where it can be said to the app. Raises Refused(PDP_*)."""
        asked = asked_names(query)
        trust = await self._trusted(question)
        if asked is None or not trust.conditions:
            return Narrowed()
        whole = filter_of(await self._ask(question), names_of(push))
        if whole == NOTHING:
            return Narrowed(pushed=Exactness.EXACT, nothing=True) if trust.denied else Narrowed()
        said = DIALECTS[push.dialect].narrow(whole, asked)
        return Narrowed(said.parameters, self._signed(question, said.headers), said.exactness)

    def _signed(self, question: ListQuestion, headers: tuple[Header, ...]) -> tuple[Header, ...]:
        if self._sign is None:
            return headers
        return tuple((name, self._sign(question.principal, value, question.app)) for name, value in headers)

    async def all_allowed(self, question: ListQuestion) -> bool:
        """Tell whether a check allows the action on every resource of the kind. Raises Refused(PDP_*)."""
        trust = await self._trusted(question)
        return trust.allowed and await self._ask(question) is Always.ALLOWED


def names_of(push: Push) -> FieldNames:
    """The fields that a filter can be about: those of the attributes that are plain paths."""
    fields = {}
    for name, attribute in push.attributes.items():
        path = plain_path(attribute.expression)
        if path is not None:
            fields[name] = RowField(path, attribute.type, attribute.required)
    path = plain_path(push.id)
    return FieldNames(fields, RowField(path, identifies=True) if path is not None else None)
