"""Narrows what a list is asked for: a plan of the PDP, translated, in the words of the app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sidecar.gate.narrowing import ListQuestion, Narrowed, Push
from sidecar.plans.dialect import asked_names
from sidecar.plans.dialects import DIALECTS
from sidecar.plans.filter import NOTHING, Exactness, Field
from sidecar.plans.plan import Always, Plan
from sidecar.plans.translate import Names, filter_of, plain_path

AskPlan = Callable[[ListQuestion], Awaitable[Plan]]
"""Port: asks the PDP for a plan. Raises Refused with a PDP_* code."""
Trusted = Callable[[ListQuestion], bool]
"""Port: tells whether the plan of a question has every row that a check allows, as the policies are."""


class Narrowing:
    """The gate's port `Plans`."""

    def __init__(self, ask: AskPlan, trusted: Trusted) -> None:
        self._ask = ask
        self._trusted = trusted

    async def narrow(self, question: ListQuestion, push: Push, query: bytes) -> Narrowed:
        """Ask for a plan where it can be said to the app. Raises Refused(PDP_*)."""
        asked = asked_names(query)
        if asked is None or not self._trusted(question):
            return Narrowed()
        whole = filter_of(await self._ask(question), names_of(push))
        if whole == NOTHING:
            return Narrowed(pushed=Exactness.EXACT, nothing=True)
        said = DIALECTS[push.dialect].narrow(whole, asked)
        return Narrowed(said.parameters, said.headers, said.exactness)

    async def all_allowed(self, question: ListQuestion) -> bool:
        """Ask for a plan, which has no condition where everything is allowed. Raises Refused(PDP_*)."""
        return await self._ask(question) is Always.ALLOWED


def names_of(push: Push) -> Names:
    """The fields that a filter can be about: those of the attributes that are plain paths."""
    fields = {}
    for name, attribute in push.attributes.items():
        path = plain_path(attribute.expression)
        if path is not None:
            fields[name] = Field(path, attribute.type, attribute.required)
    path = plain_path(push.id)
    return Names(fields, Field(path, identifies=True) if path is not None else None)
