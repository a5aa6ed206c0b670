"""Sightings -> templates with their evidence: by the spec where it has the path, else by shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeGuard

from sidecar.gate.ask import asks
from sidecar.gate.routing import Access, Pattern, Route, RouteTable, Segment, Variable
from sidecar.imports.beside import is_other_spelling, path_beside
from sidecar.imports.evidence import MethodEvidence, TemplateBounds, method_of, proves
from sidecar.imports.shapes import parts_of
from sidecar.imports.sighting import Location, Sighting, path_of
from sidecar.imports.tree import FEW, Methods, PathTree, join_methods
from sidecar.imports.words import is_known

MAX_IDS = 100_000
"""Distinct ids of all templates together."""
MAX_NODES = 20_000
"""Places in the paths of logs."""
MAX_TEMPLATES = 20_000
"""Paths of specs."""


@dataclass
class PathTemplate:
    """Paths of an app that look alike, and what was seen of each method. `place` and `prefix` are those of the spec
    that has it; `order` is its place among the paths of specs."""

    segments: tuple[Segment, ...]
    methods: Methods = field(default_factory=dict)
    place: Location | None = None
    order: int = 0
    prefix: tuple[str, ...] = ()
    prefixed_hits: int = 0
    bare_hits: int = 0
    """Requests that had the prefix, and those that had not."""
    refused_values: int = 0
    """Requests that the app answered well, with a number or UUID in a spelling that the sidecar refuses."""
    unfit_values: int = 0
    """Requests that the app answered well, with what is neither of the type that the spec declares nor a word."""
    first_unfit: Location | None = None
    beside: dict[tuple[Segment, ...], Methods] = field(default_factory=dict)
    """Paths that have a word in the place of a value, and what was seen of them."""
    within: frozenset[str] = frozenset()
    """Fixed words that a spec has."""

    def note_unfit(self, place: Location, requests: int = 1) -> None:
        """Count requests with a value that is not of the type declared, the first of them at a place."""
        self.unfit_values += requests
        self.first_unfit = self.first_unfit or place

    @property
    def path(self) -> str:
        """The path as a route has it."""
        return path_of(self.segments)

    @property
    def hits(self) -> int:
        """Requests of all methods."""
        return sum(evidence.hits for evidence in self.methods.values())


Key = tuple[object, ...]


def key_of(segments: Iterable[Segment]) -> Key:
    """Key that two paths share which match the same requests, whatever their variables are called and take."""
    return tuple(one._replace(name="", pattern=Pattern.ANY) if isinstance(one, Variable) else one for one in segments)


@dataclass
class Collected:
    """All templates, and what was left out. `doubled` are paths of specs that name what another one names;
    `unproven` are requests that are no evidence of a route, by their status."""

    templates: list[PathTemplate]
    doubled: list[tuple[PathTemplate, str, Location]]
    unproven: Counter[int]
    preflights: int = 0
    is_full: bool = False
    """There was more than may be kept."""


class Collector:
    """Collects sightings, those of specs before all others."""

    def __init__(self, given: Iterable[tuple[Segment, ...]] = ()) -> None:
        self._budget = TemplateBounds(MAX_IDS, MAX_NODES)
        self._tree = PathTree(self._budget)
        self._known: dict[Key, PathTemplate] = {}
        self._doubled: list[tuple[PathTemplate, str, Location]] = []
        self._unproven: Counter[int] = Counter()
        self._preflights = 0
        self._table: RouteTable | None = None
        self._by_name: dict[str, tuple[PathTemplate, bool]] = {}
        self._is_full = False
        for segments in given:
            self._known.setdefault(
                key_of(segments), PathTemplate(segments, place=Location("--template", path_of(segments)))
            )

    def add(self, sighting: Sighting) -> None:
        """Add one sighting."""
        if sighting.operation is not None:
            self._add_operation(sighting)
            return
        if self._table is None:
            self._make_table()
        if sighting.method == "OPTIONS":
            self._preflights += 1
        elif not self._counted(sighting):
            if proves(sighting):
                self._tree.add(sighting)
            elif not self._tree.count(sighting) and sighting.status is not None:
                self._unproven[sighting.status] += 1

    def _add_operation(self, sighting: Sighting) -> None:
        operation = sighting.operation
        segments = (*(operation.prefix if operation is not None else ()), *sighting.segments)
        key = key_of(segments)
        template = self._known.get(key)
        if template is None:
            if len(self._known) >= MAX_TEMPLATES:
                self._is_full = True
                return
            prefix = operation.prefix if operation is not None else ()
            template = PathTemplate(segments, {}, sighting.place, len(self._known), prefix)
            self._known[key] = template
        elif path_of(segments) != template.path:
            self._doubled.append((template, path_of(segments), sighting.place))
        self._evidence(template, sighting).add(sighting)
        self._table = None

    @staticmethod
    def _evidence(template: PathTemplate, sighting: Sighting) -> MethodEvidence:
        return template.methods.setdefault(method_of(sighting), MethodEvidence(sighting.place))

    def _make_table(self) -> None:
        """The paths of specs as a table of the gate, each also without its prefix; their variables take any text."""
        routes: dict[Key, Route] = {}
        self._by_name = {}
        both = [(one, one.segments, True) for one in self._known.values()]
        both += [(one, one.segments[len(one.prefix) :], False) for one in self._known.values() if one.prefix]
        for template, segments, has_prefix in both:
            key = key_of(segments)
            if key not in routes:
                name = str(len(routes))
                routes[key] = Route(name, tuple(map(_wide, segments)), Access.POLICY, asks({}))
                self._by_name[name] = (template, has_prefix)
        self._table = RouteTable(routes.values())

    def _counted(self, sighting: Sighting) -> bool:
        """Count a request whose path a spec has. Return whether one has it."""
        if self._table is None or not self._known:
            return False
        texts = tuple(one if isinstance(one, str) else "-" for one in sighting.segments)
        route = self._table.find(texts)
        if route is None:
            return False
        template, has_prefix = self._by_name[route.name]
        cut = 0 if has_prefix else len(template.prefix)
        segments, methods = self._place_of(template, cut, sighting)
        if method_of(sighting) not in methods and not proves(sighting):
            return True
        evidence = methods.setdefault(method_of(sighting), MethodEvidence(sighting.place))
        evidence.add(sighting)
        template.prefixed_hits += has_prefix
        template.bare_hits += not has_prefix
        values = [(one, text) for one, text in zip(segments[cut:], texts, strict=False) if isinstance(one, Variable)]
        if values:
            evidence.ids.add(values[-1][1], self._budget)
        if proves(sighting) and any(is_other_spelling(one, text) for one, text in values):
            template.refused_values += 1
        return True

    def _place_of(self, template: PathTemplate, cut: int, sighting: Sighting) -> tuple[tuple[Segment, ...], Methods]:
        """-> the path under which a request of a spec's path counts, and its methods: one beside it where the app
        answered well to a word in the place of a number or UUID."""
        found = path_beside(template.segments[cut:], sighting.segments)
        path = None if found is None else (*template.segments[:cut], *found)
        if path is None or path == template.segments:
            if path is None and proves(sighting):
                template.note_unfit(sighting.place)
        elif path in template.beside:
            return path, template.beside[path]
        elif proves(sighting):
            if self._budget.nodes > 0:
                self._budget.nodes -= 1
                return path, template.beside.setdefault(path, {})
            template.note_unfit(sighting.place)
        return template.segments, template.methods

    def collected(self) -> Collected:
        """Return what was collected; nothing can be added after that."""
        templates = list(self._known.values())
        for template in templates:
            _drop_names(template)
        full = self._is_full or self._budget.nodes <= 0
        for template in _without_prefix(templates):
            cut = len(template.prefix)
            template.segments = template.segments[cut:]
            template.beside = {segments[cut:]: methods for segments, methods in template.beside.items()}
        by_key = {key_of(template.segments): template for template in templates}
        found = [
            PathTemplate(segments, methods, within=frozenset(filter(_is_text, one.segments)))
            for one in templates for segments, methods in one.beside.items()
        ]  # fmt: skip
        found += [PathTemplate(segments, methods) for segments, methods in self._tree.templates()]
        for template in found:
            known = by_key.setdefault(key_of(template.segments), template)
            if known is template:
                templates.append(template)
            else:
                join_methods(known.methods, template.methods)
        return Collected(
            [one for one in templates if one.methods], self._doubled, self._unproven, self._preflights, full
        )


def _is_text(segment: Segment) -> TypeGuard[str]:
    return isinstance(segment, str)


def _drop_names(template: PathTemplate) -> None:
    """Count those words for the template that are not known, where there are so many that clients choose them."""
    unknown = [path for path in template.beside if not all(is_known(one) for one in _words_beside(template, path))]
    for path in unknown if len(unknown) > FEW else ():
        methods = template.beside.pop(path)
        for evidence in methods.values():
            template.note_unfit(evidence.first, evidence.hits)
            evidence.ids.add("/".join(_words_beside(template, path)), TemplateBounds(1, 0))
        join_methods(template.methods, methods)


def _words_beside(template: PathTemplate, path: tuple[Segment, ...]) -> list[str]:
    """The words that a path beside a template has in the place of values."""
    pairs = zip(path, template.segments, strict=True)
    return [parts_of(one)[0] for one, declared in pairs if isinstance(one, str) and one != declared]


def _wide(segment: Segment) -> Segment:
    return segment._replace(pattern=Pattern.ANY) if isinstance(segment, Variable) else segment


def _without_prefix(templates: Iterable[PathTemplate]) -> list[PathTemplate]:
    """The paths of those specs whose prefix most of their requests had not."""
    hits: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for one in templates:
        counts = hits.setdefault((one.place.file if one.place else "", one.prefix), [0, 0])
        counts[0] += one.prefixed_hits
        counts[1] += one.bare_hits
    return [
        one for one in templates
        if one.prefix and (counts := hits[one.place.file if one.place else "", one.prefix])[1] > counts[0]
    ]  # fmt: skip
