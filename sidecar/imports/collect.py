"""Sightings -> templates with their evidence: by the spec where it has the path, else by shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sidecar.gate.ask import asks
from sidecar.gate.routing import Access, Pattern, Route, RouteTable, Segment, Variable
from sidecar.imports.evidence import Budget, Evidence, method_of, proves
from sidecar.imports.shapes import pattern_of
from sidecar.imports.sighting import Place, Sighting, path_of
from sidecar.imports.tree import Methods, PathTree, join_methods

MAX_IDS = 100_000
"""Distinct ids of all templates together."""
MAX_NODES = 20_000
"""Places in the paths of logs."""
MAX_TEMPLATES = 20_000
"""Paths of specs."""


@dataclass
class Template:
    """Paths of an app that look alike, and what was seen of each method. `place` and `prefix` are those of the spec
    that has it; `order` is its place among the paths of specs."""

    segments: tuple[Segment, ...]
    methods: Methods = field(default_factory=dict)
    place: Place | None = None
    order: int = 0
    prefix: tuple[str, ...] = ()
    prefixed_hits: int = 0
    bare_hits: int = 0
    """Requests that had the prefix, and those that had not."""
    refused_values: int = 0
    """Requests that the app answered well, with a number or UUID in a spelling that the sidecar refuses."""

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

    templates: list[Template]
    doubled: list[tuple[Template, str, Place]]
    unproven: Counter[int]
    preflights: int = 0
    is_full: bool = False
    """There was more than may be kept."""


class Collector:
    """Collects sightings, those of specs before all others."""

    def __init__(self, given: Iterable[tuple[Segment, ...]] = ()) -> None:
        self._budget = Budget(MAX_IDS, MAX_NODES)
        self._tree = PathTree(self._budget)
        self._known: dict[Key, Template] = {}
        self._doubled: list[tuple[Template, str, Place]] = []
        self._unproven: Counter[int] = Counter()
        self._preflights = 0
        self._table: RouteTable | None = None
        self._by_name: dict[str, tuple[Template, bool]] = {}
        self._is_full = False
        for segments in given:
            self._known.setdefault(key_of(segments), Template(segments, place=Place("--template", path_of(segments))))

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
            template = Template(segments, {}, sighting.place, len(self._known), prefix)
            self._known[key] = template
        elif path_of(segments) != template.path:
            self._doubled.append((template, path_of(segments), sighting.place))
        self._evidence(template, sighting).add(sighting)
        self._table = None

    @staticmethod
    def _evidence(template: Template, sighting: Sighting) -> Evidence:
        return template.methods.setdefault(method_of(sighting), Evidence(sighting.place))

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
        if method_of(sighting) not in template.methods and not proves(sighting):
            return True
        evidence = self._evidence(template, sighting)
        evidence.add(sighting)
        template.prefixed_hits += has_prefix
        template.bare_hits += not has_prefix
        segments = template.segments if has_prefix else template.segments[len(template.prefix) :]
        values = [(one, text) for one, text in zip(segments, texts, strict=False) if isinstance(one, Variable)]
        if values:
            evidence.ids.add(values[-1][1], self._budget)
        if proves(sighting) and any(_is_refused(one, text) for one, text in values):
            template.refused_values += 1
        return True

    def collected(self) -> Collected:
        """Return what was collected; nothing can be added after that."""
        templates = list(self._known.values())
        full = self._is_full or self._budget.nodes <= 0
        for template in _without_prefix(templates):
            template.segments = template.segments[len(template.prefix) :]
        by_key = {key_of(template.segments): template for template in templates}
        for segments, methods in self._tree.templates():
            known = by_key.get(key_of(segments))
            if known is not None:
                join_methods(known.methods, methods)
            else:
                template = by_key[key_of(segments)] = Template(segments, methods)
                templates.append(template)
        return Collected(
            [one for one in templates if one.methods], self._doubled, self._unproven, self._preflights, full
        )


def _is_refused(variable: Variable, text: str) -> bool:
    return variable.pattern in (Pattern.INT, Pattern.UUID) and pattern_of(variable.value(text)) is not variable.pattern


def _wide(segment: Segment) -> Segment:
    return segment._replace(pattern=Pattern.ANY) if isinstance(segment, Variable) else segment


def _without_prefix(templates: Iterable[Template]) -> list[Template]:
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
