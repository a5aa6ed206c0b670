"""Obligations: duties that a permit imposes on the door that returns the app's answer.

XACML's word. A stage of the gate finds them, the permit carries them, and `gate.settle.settle` does them, which tells
how to add another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class KeepPrivate:
    """The answer is for one principal, and no cache may give it to another.

    `vary` are the request's headers that identified the principal, as a value of Vary. With `no_store` a session rides
    on the answer, and no cache may keep it at all. Every door can do it: fields of the head are all that it sets.
    """

    vary: bytes
    no_store: bool = False
    needs_body: ClassVar[bool] = False


Obligation = KeepPrivate
"""All obligations, a closed union: one that `settle` does not know does not type-check."""


def need_body(obligations: Sequence[Obligation]) -> bool:
    """Tell whether one of them is settled over the whole answer, so that not even its head may go out before."""
    for obligation in obligations:  # noqa: SIM110 - a generator costs more than all the rest
        if obligation.needs_body:
            return True
    return False
