"""Methods of a route -> what each asks, with the checks of its references."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sidecar.config.routes.chains import chain_faults
from sidecar.config.routes.each import each_faults, each_of
from sidecar.config.shapes import Entry, Mark, Reader
from sidecar.config.suggest import did_you_mean
from sidecar.gate.ask import Ask, form_rule
from sidecar.gate.chain import MAX_CHAIN
from sidecar.gate.lookup import Lookup
from sidecar.gate.mode import RouteMode
from sidecar.gate.narrowing import Push
from sidecar.gate.obligation import AnswerLookup, AnswerRule
from sidecar.gate.query import QueryRule, are_one, names_of, rule_of, taken_for
from sidecar.gate.references import Reference, ReferenceSource, Template
from sidecar.gate.routing import WEBSOCKET, Segment, Variable
from sidecar.gate.values import COMPOUND, Type
from sidecar.wire.grammar import BODILESS_METHODS

BODILESS = BODILESS_METHODS | {WEBSOCKET}
"""Methods whose body no reference reads."""
_OF_BODY = frozenset((ReferenceSource.BODY, ReferenceSource.FORM))
_OF_SERVER = frozenset((ReferenceSource.PATH, ReferenceSource.CLAIMS, ReferenceSource.PRINCIPAL))


class Method(NamedTuple):
    """One method of a route: `entry` is the route, `own` what its action says by itself, if that is a mapping.

    It may also be an operation that a body asks for, by its name; then `is_operation`.
    """

    name: str
    entry: Entry
    own: Entry | None
    segments: tuple[Segment, ...]
    lookups: Mapping[str, Lookup]
    is_operation: bool = False

    def value(self, name: str) -> Any:
        """The action's own value, else the route's."""
        return self.says(name)[name]

    def at(self, name: str) -> Mark:
        """Where that value stands."""
        return self.says(name).at(name)

    def says(self, name: str) -> Entry:
        """The entry that says it: the action where it has the name, else the route."""
        return self.own if self.own is not None and self.own.has(name) else self.entry

    @property
    def each(self) -> Entry | None:
        """Rule for requests about many resources; it takes the place of `id` and `lookup`."""
        each: Entry | None = self.value("each")
        return each

    @property
    def asked(self) -> tuple[Lookup, ...]:
        """The lookups that are asked, in order, without those that are unknown."""
        names = self.asked_names
        return tuple(self.lookups[name] for name in names if name in self.lookups)

    @property
    def asked_names(self) -> tuple[str, ...]:
        """Their names, as they are written."""
        said = (self.each or self.says("lookup"))["lookup"]
        return () if isinstance(said, Entry) else tuple(said)

    @property
    def items(self) -> Entry | None:
        """Rule for a list in the app's answer. A route has one for GET alone."""
        items: Entry | None = self.value("items") if self.name == "GET" else None
        return items

    @property
    def asked_of_items(self) -> tuple[Lookup, ...]:
        """The lookups that are asked about each item of it, in order, without those that are unknown."""
        names = self.items["lookup"] if self.items is not None else ()
        return tuple(self.lookups[name] for name in names if name in self.lookups)

    @property
    def answer_lookup(self) -> Entry | None:
        """The lookup that reads the app's answer, None where it is another or none."""
        said = self.value("lookup") if self.each is None else None
        return said if isinstance(said, Entry) else None

    @property
    def id(self) -> Template | None:
        """The template of the id of the one resource, None where there is none."""
        template: Template | None = self.value("id") if self.each is None else None
        return template

    def references(self) -> Iterator[tuple[str, Reference]]:
        """Each reference that the rule depends on, with the field that has it."""
        if self.id is not None:
            yield from (("id", reference) for reference in self.id.references)
        if self.each is not None and self.each["at"] is not None:
            yield "each", self.each["at"]
        for template in self.value("attributes").values():
            yield from (("attributes", reference) for reference in template.references)
        if self.value("scope") is not None:
            yield from (("scope", reference) for reference in self.value("scope").references)
        for lookup in self.asked:
            yield from (("lookup", reference) for reference in lookup.references)
        for lookup in self.asked_of_items:
            yield from (("items", reference) for reference in lookup.references)

    @property
    def open_query(self) -> tuple[str, ...]:
        """Parameters that the rule reads or sets, where nothing is said of the others."""
        if self.value("query") is not None:
            return ()
        return tuple(dict.fromkeys([*self.read_parameters, *self.value("set_query")]))

    @property
    def read_parameters(self) -> tuple[str, ...]:
        """Parameters of a client that the rule reads."""
        read = [reference.name for _, reference in self.references() if reference.source is ReferenceSource.QUERY]
        return tuple(dict.fromkeys(read))

    def set_references(self) -> Iterator[Reference]:
        """The references of `set_query`."""
        for template in self.value("set_query").values():
            yield from template.references


def ask_of_method(
    method: Method, action: str, max_body: int, answer: AnswerRule | None = None, push: Push | None = None,
    answer_lookup: AnswerLookup | None = None, mode: RouteMode | None = None,
) -> Ask:  # fmt: skip
    """Return the question of one method. `max_body`: bytes, where neither the action nor the route says it. `answer` is
    its rule for the app's answer, `push` narrows what the app is asked for, by `answer_lookup` the decision is made
    from its answer, and `mode` is the action's or the route's."""
    references = [reference for _, reference in method.references()]
    needs_body = any(reference.source is ReferenceSource.BODY for reference in references)
    each = None if method.each is None or method.each["at"] is None else each_of(method.each)
    lookup = () if each is not None else method.asked_names
    return Ask(
        action, method.value("resource"), method.id, method.value("attributes"), lookup,
        method.value("scope"), _rule(method), method.value("set_query"), method.value("max_body") or max_body,
        needs_body, method.open_query, answer, push, each, answer_lookup, mode,
        form=form_rule(references, method.value("set_query")),
    )  # fmt: skip


def _rule(method: Method) -> QueryRule | None:
    said, removed = method.value("query"), method.value("set_query")
    if said is None and not removed:
        return None
    return rule_of(None if said in (None, "any") else said, removed, given=said is not None)


class MethodFault(NamedTuple):
    """Fault of a method's rule. `of_methods`: it is about some methods of the route, which are named."""

    mark: Mark
    message: str
    of_methods: bool = False


def check_methods(
    methods: Iterable[Method], public: bool, reader: Reader, more: Callable[[Method], Iterable[MethodFault]]
) -> None:
    """Note what the methods of one route cannot mean, each fault once; `more` finds those of another part."""
    found: dict[MethodFault, list[str]] = {}
    for method in methods:
        for fault in (
            *_lookup_faults(method),
            *_each_faults(method),
            *_reference_faults(method),
            *_form_faults(method),
            *_query_faults(method, public),
            *more(method),
        ):
            found.setdefault(fault, []).append(method.name)
    for fault, names in found.items():
        reader.fault(fault.mark, f"{', '.join(names)}: {fault.message}" if fault.of_methods else fault.message)


def _lookup_faults(method: Method) -> Iterator[MethodFault]:
    mark = (method.each or method.says("lookup")).at("lookup")
    yield from _faults_of_names(method, mark, method.asked_names)
    if method.items is not None:
        yield from _faults_of_names(method, method.items.at("lookup"), method.items["lookup"])


def _faults_of_names(method: Method, mark: Mark, names: Sequence[str]) -> Iterator[MethodFault]:
    unknown = [name for name in names if name not in method.lookups]
    known = ", ".join(method.lookups) or "none"
    for name in unknown:
        meant = did_you_mean(name, method.lookups)
        yield MethodFault(mark, f"found {name!r}, expected one of `lookups`: {known}{meant}")
    if unknown:
        return
    if len(names) > MAX_CHAIN or len(set(names)) != len(names):
        yield MethodFault(
            mark, f"found {', '.join(names[: MAX_CHAIN + 1])}, expected at most {MAX_CHAIN} lookups, each once"
        )
        return
    yield from (MethodFault(mark, message) for message in chain_faults([method.lookups[name] for name in names]))


def _each_faults(method: Method) -> Iterator[MethodFault]:
    if method.each is None:
        return
    for name in ("id", "lookup"):
        says = method.says(name)
        # what the route says is for its other actions, where an action has its own `each`
        if says.has(name) and not (says is method.entry and method.says("each") is not method.entry):
            yield MethodFault(says.at(name), "found it beside `each`, expected it in `each`: each element has its own")
    for name in ("items", "fields"):
        if method.value(name) and (name == "fields" or method.name == "GET"):
            yield MethodFault(
                method.at(name), "found it beside `each`, expected it on routes about one resource or a list"
            )
    for mark, message in each_faults(method.each):
        yield MethodFault(mark, message)


def _reference_faults(method: Method) -> Iterator[MethodFault]:
    for field, reference in method.references():
        told, mark = f"found {{{reference}}}", method.at(field)
        if field == "scope" and reference.source not in (ReferenceSource.CLAIMS, ReferenceSource.PRINCIPAL):
            # who sends a request must not choose the policy that decides on it
            yield MethodFault(mark, f"{told}, expected {{claims.…}} or {{principal.…}}")
        elif reference.source in _OF_BODY and method.name in BODILESS:
            own = f"POST: {{action: create, attributes: {{owner: '{{{reference.source}.owner}}'}}}}"
            yield MethodFault(
                mark, f"{told} on a method without a body, expected it in an action that has one: {own}", True
            )
        elif reference.source in _OF_BODY and method.is_operation:
            yield MethodFault(mark, f"{told}, expected {{args.…}}: each operation has its own arguments")
        if reference.source is ReferenceSource.ARGS and not method.is_operation:
            yield MethodFault(mark, f"{told}, expected it in operations that a body asks for, such as `graphql`")
        if reference.optional and field != "attributes":
            yield MethodFault(mark, f"found {{{reference}?}}, expected no '?': only an attribute may be left out")
        if reference.type in COMPOUND and field in ("id", "scope"):
            written = f"{{{reference}:{reference.type}}}"
            yield MethodFault(
                mark, f"found {written}, expected a string, number, int or bool: only an attribute is more"
            )
        yield from _path_faults(method, mark, reference)


def _form_faults(method: Method) -> Iterator[MethodFault]:
    read: dict[str, tuple[str, Reference]] = {}
    for field, reference in method.references():
        if reference.source in (ReferenceSource.FORM, ReferenceSource.QUERY):
            read.setdefault(str(reference), (field, reference))
    fields = [(field, one) for field, one in read.values() if one.source is ReferenceSource.FORM]
    json = [(field, one) for field, one in method.references() if one.source is ReferenceSource.BODY]
    if fields and json:
        told = f"found {{{fields[0][1]}}} beside {{{json[0][1]}}}, expected one of both: a body is a form or JSON"
        yield MethodFault(method.at(fields[0][0]), told)
    for field, reference in fields:
        names = names_of(reference.name)
        for _, other in read.values():
            if other is not reference and are_one(names, names_of(other.name)):
                told = f"found {{{reference}}} beside {{{other}}}, expected one of both: some servers take them for one"
                yield MethodFault(method.at(field), told)
        if any(are_one(names, names_of(name)) for name in method.value("set_query")):
            told = f"found {{{reference}}}, expected another name: `set_query` puts it into the query"
            yield MethodFault(method.at(field), told)


def _path_faults(method: Method, mark: Mark, reference: Reference) -> Iterator[MethodFault]:
    names = {segment.name for segment in method.segments if isinstance(segment, Variable)}
    if reference.source is ReferenceSource.PATH and reference.name not in names:
        known = ", ".join(sorted(names)) or "none"
        meant = did_you_mean(reference.name, names)
        yield MethodFault(mark, f"found {{{reference}}}, expected a variable of the path: {known}{meant}")


def _query_faults(method: Method, public: bool) -> Iterator[MethodFault]:
    said, ours, mark = method.value("query"), method.value("set_query"), method.at("set_query")
    taken = [name for key in ours for name in taken_for(key)]
    if ours and public:
        yield MethodFault(mark, "found it on a public route, expected it where somebody is known")
    if len(set(taken)) != len(taken):
        yield MethodFault(mark, "found two names that are one for some servers, expected one of them")
    for reference in method.set_references():
        yield from _path_faults(method, mark, reference)
        if reference.source not in _OF_SERVER or reference.type not in (Type.STRING, Type.INT) or reference.optional:
            expected = "expected a string or int of {principal.…}, {claims.…} or {path.…}, without '?'"
            yield MethodFault(mark, f"found {{{reference}}}, {expected}")
    for field, reference in method.references():
        if reference.source is not ReferenceSource.QUERY:
            continue
        if not taken_for(reference.name).isdisjoint(taken):
            told = f"found {{{reference}}}, expected another: a client's is taken out, as `set_query` has the name"
            yield MethodFault(method.at(field), told)
        elif isinstance(said, list) and reference.name not in said:
            yield MethodFault(method.at("query"), f"found no {reference.name!r}, expected it: {{{reference}}} reads it")
