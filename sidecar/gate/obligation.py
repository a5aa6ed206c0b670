"""Obligations: duties that a permit imposes on the door that returns the app's answer.

XACML's word. A stage of the gate finds them, the permit carries them, and `gate.settle` does them, which tells
how to add another one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from sidecar.wire.grammar import Header


@dataclass(frozen=True, slots=True)
class KeepPrivate:
    """The answer is for one principal, and no cache may give it to another.

    `vary` are the request's headers that identified the principal, as a value of Vary. With `no_store` no cache may
    keep the answer at all: a session rides on it, or it was made for this principal alone. Every door can do it: fields
    of the head are all that it sets.
    """

    vary: bytes
    no_store: bool = False
    needs_body: ClassVar[bool] = False


class HeldAnswer(NamedTuple):
    """The app's answer as a door holds it: nothing of it has gone out.

    `headers` have names in lower case. `body` is None where nothing needs it, or where it is too large to be held.
    """

    status: int
    headers: list[Header]
    body: bytes | None = None


class AnswerItems(NamedTuple):
    """Resources of one kind that the app's answer tells of, about each of which these actions are asked: their ids, and
    what each is like, in the same order. `lookups` are the names of those that are asked for more of it."""

    kind: str
    actions: tuple[str, ...]
    ids: Sequence[str]
    attributes: Sequence[Mapping[str, Any]]
    lookups: tuple[str, ...] = ()


NOT_THERE = frozenset(("",))
"""In place of the actions of an item that a lookup does not have: nobody is asked about it, and it has none."""
Judge = Callable[[AnswerItems], Awaitable[list[frozenset[str]]]]
"""Asks the PDP for the principal of a permit: items -> for each, in order, its allowed actions; NOT_THERE of one that
a lookup does not have. Raises Refused."""


class Reduced(NamedTuple):
    """Answer after an `AnswerRule`, and the numbers of what was done, for the decision log."""

    answer: HeldAnswer
    counts: Mapping[str, int]


class AnswerRule(Protocol):
    """Rule of a route for the body of the app's answer.

    `asks` are the actions that the gate asks about the route's own resource beside its action, and `lookups` the names
    of those that are asked about what the answer tells of. `nothing` is an answer without items, for a question to
    which there are none; None where only the app knows how that looks.
    """

    @property
    def asks(self) -> tuple[str, ...]: ...

    @property
    def lookups(self) -> tuple[str, ...]: ...

    @property
    def nothing(self) -> HeldAnswer | None: ...

    def searched(self, query: bytes) -> Sequence[tuple[str, str]]:
        """List the fields that a query names, each by the kind, "" for the route's own resource, and the action that
        show it."""

    def demand(self, judge: Judge, granted: frozenset[str], pushed: str) -> Demand:
        """Return what a permit demands by this rule; of `asks` these are `granted`."""


class BodyRule(Protocol):
    """Rule that is carried out over the whole body, of `max_size` bytes at most."""

    @property
    def max_size(self) -> int: ...

    async def reduce(self, held: HeldAnswer, judge: Judge, granted: frozenset[str]) -> Reduced:
        """Leave in an answer only what its principal may see. Raises Refused: then nothing of it is released."""


@dataclass(frozen=True, slots=True)
class Reduce:
    """Only what the principal may see of the answer's body goes out, as `rule` says and `judge` decides."""

    rule: BodyRule
    judge: Judge
    granted: frozenset[str]
    pushed: str = ""
    """How much of the policy the app was asked with: `exact`, `weakened` or `none`; "" where it cannot be."""
    needs_body: ClassVar[bool] = True


class Units(Protocol):
    """Pieces of an answer -> its parts that are judged, which wait in `lines`."""

    lines: deque[bytes]

    @property
    def size(self) -> int:
        """Bytes of all that was added and not taken."""

    def add(self, piece: bytes) -> None:
        """Take what came. Raises Refused for a part that is too long."""

    def end(self) -> None:
        """Take what stands after the last part's end."""

    def take(self, most: int) -> list[bytes]:
        """Return the first parts that wait."""


class LineRule(Protocol):
    """Rule that is carried out over some parts of an answer at a time, as lines are. Each waits `wait` seconds for
    others to be judged with it."""

    @property
    def wait(self) -> float: ...

    def units(self) -> Units:
        """Return what finds the parts of one answer."""

    def begin(self, held: HeldAnswer) -> tuple[HeldAnswer, bool]:
        """Return the head that goes out, and whether the answer has lines, which an error need not have. Raises Refused
        where it has some that cannot be judged."""

    async def window(self, lines: Sequence[bytes], judge: Judge) -> bytes:
        """Return what goes out of these lines, each with its end. Raises Refused: then the answer breaks off."""


@dataclass(frozen=True, slots=True)
class ReduceLines:
    """Only those lines of the answer go out that the principal may see, as they come."""

    rule: LineRule
    judge: Judge
    needs_body: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class ReduceEither:
    """One of two demands, which the head of the answer tells: `pieces` where it `is_stream`, else `whole`."""

    whole: Reduce
    pieces: ReduceLines
    is_stream: Callable[[HeldAnswer], bool]
    needs_body: ClassVar[bool] = True

    def of(self, held: HeldAnswer) -> Reduce | ReduceLines:
        """Return the demand for an answer with such a head."""
        return self.pieces if self.is_stream(held) else self.whole


Demand = Reduce | ReduceLines | ReduceEither
"""Demands that an AnswerRule makes."""


class AnswerLookup(Protocol):
    """Rule that reads what the resource is like out of the app's answer, of `max_size` bytes at most.

    `names` are the attributes that it may find, and `asks` the actions that are asked beside the route's. `missing` is
    the treatment of a resource that the app does not have, as of a lookup.
    """

    @property
    def names(self) -> frozenset[str]: ...

    @property
    def asks(self) -> tuple[str, ...]: ...

    @property
    def missing(self) -> str: ...

    @property
    def max_size(self) -> int: ...

    def searched(self, query: bytes) -> Sequence[tuple[str, str]]:
        """List the fields that a query names, as an AnswerRule does."""

    def read(self, held: HeldAnswer, resource_id: str) -> Mapping[str, Any]:
        """Read the attributes. Raises Refused: then there is no decision."""

    def reduce(self, held: HeldAnswer, granted: frozenset[str]) -> Reduced:
        """Leave in an answer only what its principal may see. Raises Refused: then nothing of it is released."""


Conclude = Callable[[Mapping[str, Any]], Awaitable[frozenset[str]]]
"""Makes the decision: attributes -> the actions that are allowed, the route's among them. Raises Refused."""


@dataclass(frozen=True, slots=True)
class Decide:
    """The decision is made from the app's answer, and nothing of it goes out before. In shadow mode it goes out
    whatever the decision is."""

    rule: AnswerLookup
    resource_id: str
    conclude: Conclude
    shadow: bool = False
    needs_body: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Watch:
    """In shadow: the answer goes out as it comes, and a door that has seen it tells what `demand` would have left."""

    demand: Demand
    needs_body: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class BindSession:
    """The session that the app's answer names is its principal's alone: the client gets its id as `bind` makes it of
    the app's, which raises ValueError for what is no id."""

    bind: Callable[[bytes], bytes]
    needs_body: ClassVar[bool] = False


Obligation = KeepPrivate | Reduce | ReduceLines | ReduceEither | Decide | Watch | BindSession
"""All obligations, a closed union: one that `settle` does not know does not type-check."""


def need_body(obligations: Sequence[Obligation]) -> bool:
    """Tell whether one of them is settled over the whole answer, so that not even its head may go out before."""
    for obligation in obligations:  # noqa: SIM110 - a generator costs more than all the rest
        if obligation.needs_body:
            return True
    return False


def chosen(obligations: Sequence[Obligation], held: HeldAnswer) -> tuple[Obligation, ...]:
    """Return the obligations as they are for an answer with such a head."""
    return tuple([one.of(held) if isinstance(one, ReduceEither) else one for one in obligations])


def most_held(obligations: Sequence[Obligation]) -> int:
    """Return the bytes of an answer that may be held for these obligations, of which one needs its body."""
    return min(obligation.rule.max_size for obligation in obligations if isinstance(obligation, Reduce | Decide))


def undecided(obligations: Sequence[Obligation]) -> Decide | None:
    """Return the obligation by which the decision is made from the app's answer, None where it is made already."""
    return next((obligation for obligation in obligations if isinstance(obligation, Decide)), None)
