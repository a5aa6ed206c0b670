"""Question that a route's method asks, built when the routes are read and looked up once per request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sidecar.gate.each import Each
from sidecar.gate.form import FormRule
from sidecar.gate.mode import RouteMode
from sidecar.gate.narrowing import Push
from sidecar.gate.obligation import AnswerLookup, AnswerRule
from sidecar.gate.query import QueryRule
from sidecar.gate.references import Reference, ReferenceSource, Template
from sidecar.gate.request import Request
from sidecar.gate.verdict import RefusalFormat

MAX_BODY = 1024 * 1024
"""Bytes of a body that a reference reads, where the file says no other number."""


class Operation(NamedTuple):
    """One thing that a body asks for: what it asks, with the values that `{args.x}` reads. `name` tells it from others
    of the same body, in the log. `reply` is how the body's protocol tells of a refusal, None where a problem does."""

    ask: Ask
    args: Any
    name: str
    reply: RefusalFormat | None = None


class Operations(Protocol):
    """Rule of a route whose requests say in their body what they ask for."""

    @property
    def asks(self) -> Mapping[str, Ask]:
        """Questions that may be asked, by the name of the operation: for those who study the rules."""

    def read(self, request: Request, body: bytes) -> Sequence[Operation]:
        """Read all that one request asks for; nothing, where any signed-in principal may do it. `body` is as it came,
        b"" of a method without one. Of several operations none has a rule of its own for the answer, and each is
        decided before the app is asked. Raises Refused."""


@dataclass(slots=True)
class Ask:
    """One method of one route. Nothing of it is changed after it was made.

    `action` is "" where no policy is asked. `query` is None where nothing is said of the query, `set_query` are the
    parameters that the sidecar puts in. `needs_body`: a reference reads the body, of at most `max_body` bytes.
    `answer` is the rule for the body of the app's answer, None where it goes out as it comes; `push` says how the app
    can be asked for less of it.
    """

    action: str = ""
    kind: str = ""
    id: Template | None = None
    attributes: Mapping[str, Template] = field(default_factory=dict)
    lookup: tuple[str, ...] = ()
    """The lookups that are asked, in order."""
    scope: Template | None = None
    query: QueryRule | None = None
    set_query: Mapping[str, Template] = field(default_factory=dict)
    max_body: int = MAX_BODY
    needs_body: bool = False
    open_query: tuple[str, ...] = ()
    """Parameters that the rule reads or sets, where nothing is said of the others."""
    answer: AnswerRule | None = None
    push: Push | None = None
    each: Each | None = None
    """Rule for requests about many resources, each with its own id; None where there is one resource."""
    answer_lookup: AnswerLookup | None = None
    """Rule by which the decision is made from the app's answer, None where it is made before."""
    mode: RouteMode | None = None
    """Mode of the action or of its route, None for that of the settings."""
    operations: Operations | None = None
    """Rule by which the body says what is asked, in place of all that is said here of a resource."""
    form: FormRule | None = None
    """Rule of the form that references read, in place of JSON; None where none does."""
    needs_answer: bool = field(init=False)
    """True if the door has to hold the app's answer."""
    has_optional: bool = field(init=False)
    """True if an attribute may be left out."""

    @property
    def lookups(self) -> tuple[str, ...]:
        """Names of the lookups that may be asked about what the request names."""
        return self.lookup if self.each is None else (*self.lookup, *self.each.lookup)

    @property
    def all_lookups(self) -> tuple[str, ...]:
        """Names of all lookups that may be asked, those about what the app's answer tells of among them."""
        return (*self.lookups, *(self.answer.lookups if self.answer is not None else ()))

    def __post_init__(self) -> None:
        self.needs_answer = self.answer is not None or self.answer_lookup is not None
        templates = [*self.attributes.values(), *([self.id] if self.id is not None else [])]
        references = [reference for template in templates for reference in template.references]
        references += [self.each.at] if self.each is not None else []
        self.needs_body = self.needs_body or any(reference.source is ReferenceSource.BODY for reference in references)
        self.form = self.form or form_rule(references, self.set_query)
        self.has_optional = any(reference.optional for reference in references)


def form_rule(references: Iterable[Reference], set_query: Iterable[str]) -> FormRule | None:
    """The rule of a form by all references of a method, and the parameters that it puts into the query; None where no
    reference reads a form."""
    read = list(references)
    names = frozenset(reference.name for reference in read if reference.source is ReferenceSource.FORM)
    parameters = frozenset(reference.name for reference in read if reference.source is ReferenceSource.QUERY)
    return FormRule(names, parameters.union(set_query)) if names else None


def asks(actions: Mapping[str, str | Ask], **more: object) -> dict[str, Ask]:
    """Method -> Ask: HEAD as GET, an action by its name alone with `more` as its other fields."""
    made = {method: ask if isinstance(ask, Ask) else Ask(ask, **more) for method, ask in actions.items()}  # type: ignore[arg-type]
    if "GET" in made:
        made["HEAD"] = made["GET"]
    return made
