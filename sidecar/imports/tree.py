"""Paths of logs -> templates by shape, as the paths come and within bounds: no path is kept.

A segment that is no word is a value at once. Which words are fixed, and which are names that clients chose, is known
when all have been seen: a fixed word is one that paths commonly have, one that comes again under different ids, or one
that has ids under it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sidecar.gate.routing import Pattern, Rest, Segment, Variable
from sidecar.imports.evidence import MethodEvidence, TemplateBounds, method_of
from sidecar.imports.shapes import SegmentShape, is_static, parts_of, pattern_of, shape_of, widest
from sidecar.imports.sighting import Sighting
from sidecar.imports.words import FILES, STRUCTURE, is_known, is_plural, is_prefix, singular, stands_beside_ids

MAX_WORDS = 64
"""Words at one place of a path; where there are more, they are names."""
MAX_DEPTH = 16
FEW = 48
"""Fixed words that stand at one place at most, where nothing else tells."""

Methods = dict[str, MethodEvidence]


@dataclass(slots=True)
class _Node:
    words: dict[str, _Node] = field(default_factory=dict)
    values: dict[str, _Node] = field(default_factory=dict)
    """By the ending of the value, such as `.json`."""
    methods: Methods = field(default_factory=dict)
    rest: Methods = field(default_factory=dict)
    """Of files of pages below it, and of paths that are too deep."""
    patterns: set[Pattern] = field(default_factory=set)
    """Of a value: those that its texts have."""
    shapes: set[SegmentShape] = field(default_factory=set)
    parents: set[int] = field(default_factory=set)
    """Two of the values that the word stood under, as hashes."""
    is_crowded: bool = False
    """There were more words than may be."""


class PathTree:
    """Templates of the paths of logs."""

    def __init__(self, budget: TemplateBounds) -> None:
        self._root = _Node()
        self._budget = budget

    def add(self, sighting: Sighting) -> None:
        """Add a sighting whose path the app has."""
        node, last, segments = self._root, "", sighting.segments
        is_file = len(segments) > 1 and is_static(str(segments[-1])) and segments[-1] not in FILES
        rest = is_file or len(segments) > MAX_DEPTH
        for segment in segments[: min(MAX_DEPTH, len(segments) - is_file)]:
            below = self._step(node, segment, last)
            if below is None:
                rest = True
                break
            node, last = below
        if rest and node is self._root:
            return  # there is no room, and a route for everything says nothing
        evidence = _evidence(node.rest if rest else node.methods, sighting)
        if last:
            evidence.ids.add(last, self._budget)

    def _step(self, node: _Node, segment: Segment, last: str) -> tuple[_Node, str] | None:
        """-> (the node of a segment below this one, the last value on the way to it); None where there is no room."""
        if not isinstance(segment, str):
            child = self._child(node.values, "")
            return None if child is None else (child, last)
        known = node.words.get(segment)
        if known is not None:
            if last and len(known.parents) < 2:
                known.parents.add(hash(last))
            return known, last
        stem, ending = parts_of(segment)
        shape = SegmentShape.WORD if stem == "" or segment in FILES or segment in STRUCTURE else shape_of(stem)
        if shape is SegmentShape.WORD:
            if len(node.words) < MAX_WORDS or is_known(stem):
                child = self._child(node.words, segment)
                if child is None:
                    return None
                if last:
                    child.parents.add(hash(last))
                return child, last
            node.is_crowded = True
        child = self._child(node.values, ending)
        if child is None:
            return None
        child.patterns.add(pattern_of(stem))
        child.shapes.add(shape)
        return child, stem

    def _child(self, children: dict[str, _Node], key: str) -> _Node | None:
        child = children.get(key)
        if child is None and self._budget.nodes > 0:
            self._budget.nodes -= 1
            child = children[key] = _Node()
        return child

    def count(self, sighting: Sighting) -> bool:
        """Count a request that proves nothing, where its path is one that was added. Return whether it was."""
        node = self._root
        for segment in sighting.segments:
            found = node.words.get(str(segment)) or (node.values.get(parts_of(str(segment))[1]) if segment else None)
            if found is None:
                return False
            node = found
        evidence = node.methods.get(method_of(sighting))
        if evidence is not None:
            evidence.add(sighting)
        return evidence is not None

    def templates(self) -> Iterator[tuple[tuple[Segment, ...], Methods]]:
        """The templates, when all has been added; the tree is of no use after that."""
        _settle(self._root, "", is_structure=True, is_below_value=False)
        yield from _templates(self._root, ())


def _evidence(methods: Methods, sighting: Sighting) -> MethodEvidence:
    method = method_of(sighting)
    evidence = methods.get(method)
    if evidence is None:
        evidence = methods[method] = MethodEvidence(sighting.place)
    evidence.add(sighting)
    return evidence


def _settle(node: _Node, above: str, *, is_structure: bool, is_below_value: bool) -> None:
    """Make the words that are names values, here and below. `above` is the last fixed word."""
    fixed = {
        word for word, child in node.words.items() if _is_fixed(node, word, child, above, is_structure, is_below_value)
    }
    for word in [word for word in node.words if word not in fixed]:
        stem, ending = parts_of(word)
        child = node.words.pop(word)
        for evidence in child.methods.values():
            evidence.ids.add(stem, TemplateBounds(1, 0))
        for below in child.words.values():
            below.parents.add(hash(word))
        child.patterns.add(pattern_of(stem))
        child.shapes.add(SegmentShape.WORD)
        if ending in node.values:
            _join(node.values[ending], child)
        else:
            node.values[ending] = child
    for word, child in node.words.items():
        _settle(child, word, is_structure=is_structure and (word in STRUCTURE or is_prefix(word)), is_below_value=False)
    for child in node.values.values():
        _settle(child, above, is_structure=False, is_below_value=True)


def _is_fixed(node: _Node, word: str, child: _Node, above: str, is_structure: bool, is_below_value: bool) -> bool:
    stem, ending = parts_of(word)
    if stem == "" or word in FILES or is_known(stem):
        return True
    if node.is_crowded:
        return False
    if ending and stem in node.words:
        return _is_fixed(node, stem, node.words[stem], above, is_structure, is_below_value)
    if is_below_value:
        return len(child.parents) > 1
    has_ids = any(value.shapes & {SegmentShape.INT, SegmentShape.UUID} for value in child.values.values())
    if is_structure:
        is_often = sum(evidence.hits for evidence in child.methods.values()) > 1
        return len(node.words) <= FEW and bool(is_often or child.words or child.values or child.rest or is_plural(stem))
    return has_ids and stands_beside_ids(stem, above) and len(node.words) <= FEW


def _join(node: _Node, other: _Node) -> None:
    """Add to a node what stands below another that turned out to be the same."""
    for mine, others in ((node.words, other.words), (node.values, other.values)):
        for key, child in others.items():
            if key in mine:
                _join(mine[key], child)
            else:
                mine[key] = child
    for here, there in ((node.methods, other.methods), (node.rest, other.rest)):
        join_methods(here, there)
    node.patterns |= other.patterns
    node.shapes |= other.shapes
    node.parents |= other.parents
    node.is_crowded = node.is_crowded or other.is_crowded


def join_methods(methods: Methods, others: Methods) -> None:
    """Add the evidence of the same methods of another template."""
    for method, evidence in others.items():
        if method in methods:
            methods[method].join(evidence)
        else:
            methods[method] = evidence


def _templates(node: _Node, before: tuple[Segment, ...]) -> Iterator[tuple[tuple[Segment, ...], Methods]]:
    if node.methods:
        yield _with_short_name(before), node.methods
    if node.rest:
        yield (*_with_short_name(before), Rest()), node.rest
    for word, child in node.words.items():
        yield from _templates(child, (*before, word))
    for ending, child in node.values.items():
        variable = Variable(_name(before), widest(child.patterns) if child.patterns else Pattern.DEFAULT, "", ending)
        yield from _templates(child, (*before, variable))


def _with_short_name(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """A path of one variable, which is `id` then."""
    if sum(isinstance(segment, Variable) for segment in segments) != 1:
        return segments
    return tuple(one._replace(name="id") if isinstance(one, Variable) else one for one in segments)


def _name(before: Sequence[Segment]) -> str:
    """The name of a variable after these segments, which no other among them has."""
    nouns = [segment for segment in before if isinstance(segment, str) and segment]
    noun = singular(parts_of(nouns[-1])[0]) if nouns and isinstance(before[-1], str) else ""
    name = f"{noun}_id" if noun and not noun[0].isdigit() else "value"
    taken = {segment.name for segment in before if isinstance(segment, Variable)}
    return next(made for made in (name, *(f"{name}_{n}" for n in range(2, 99))) if made not in taken)
