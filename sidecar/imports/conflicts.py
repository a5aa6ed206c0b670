"""Contradictions between specs, logs and the sidecar's own order of routes: each as a sentence with its places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from sidecar.gate.ask import asks
from sidecar.gate.routing import Access, Pattern, Rest, Route, RouteTable, Segment, Variable
from sidecar.imports.collect import Collected, PathTemplate, key_of
from sidecar.imports.evidence import requests
from sidecar.imports.sighting import path_of

MAX_COMPARED = 2000
"""Paths of one length that are held against each other."""


def conflicts(collected: Collected) -> Iterator[str]:
    """Every contradiction."""
    for template, path, place in collected.doubled:
        yield f"{place}: {path} names the same paths as {template.path} ({template.place}), the draft has one route"
    yield from _prefixes(collected.templates)
    yield from _disagreeing(collected.templates)
    yield from _declared_first(collected.templates)
    yield from _longer(collected.templates)
    yield from _respelled(collected.templates)
    if collected.is_full:
        yield "there are more paths than can be kept: the draft has a part of them, give fewer files at once"


def _prefixes(templates: Iterable[PathTemplate]) -> Iterator[str]:
    hits: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(lambda: [0, 0])
    for one in templates:
        if one.prefix and one.place is not None:
            counts = hits[one.place.file, one.prefix]
            counts[0] += one.prefixed_hits
            counts[1] += one.bare_hits
    for (file, prefix), (with_it, without) in hits.items():
        kept = "without it" if without > with_it else "with it"
        yield (
            f"{file}: its server has the path /{'/'.join(prefix)}, which {requests(with_it)} had and {without} had "
            f"not: the draft is {kept}. FastAPI's root_path stands there too, though a proxy before it takes it away"
        )


def _disagreeing(templates: Iterable[PathTemplate]) -> Iterator[str]:
    for template in templates:
        for method, evidence in template.methods.items():
            names = sorted({one.id for one in evidence.operations if one.id})
            if len(names) > 1:
                yield f"{method} {template.path}: specs call it {' and '.join(map(repr, names))}"
            if len({one.is_open for one in evidence.operations}) > 1:
                yield f"{method} {template.path}: specs disagree whether it needs credentials"


def _declared_first(templates: Iterable[PathTemplate]) -> Iterator[str]:
    """Paths that an app decides otherwise which serves the first declared one, as FastAPI, Flask and Django do."""
    groups: dict[int, list[PathTemplate]] = defaultdict(list)
    for one in templates:
        if one.place is not None:
            groups[len(one.segments)].append(one)
    for group in groups.values():
        ordered = sorted(group, key=lambda one: one.order)[:MAX_COMPARED]
        for at, first in enumerate(ordered):
            if any(isinstance(one, Variable) for one in first.segments):
                for later in ordered[at + 1 :]:
                    shared = sorted(set(first.methods) & set(later.methods))
                    if shared and _wins(later, first):
                        yield (
                            f"{', '.join(shared)} {first.path} stands before {later.path} in {first.place}: an app "
                            f"that serves the first declared answers by {first.path} what the sidecar decides as "
                            f"{later.path}"
                        )


def _wins(later: PathTemplate, first: PathTemplate) -> bool:
    """Return whether the sidecar takes a path that both match for the later one."""
    sample = []
    for one, other in zip(later.segments, first.segments, strict=True):
        if isinstance(one, str) and isinstance(other, str) and one != other:
            return False
        texts = [part for part in (one, other) if isinstance(part, str)]
        affixes = [part for part in (one, other) if isinstance(part, Variable)]
        text = texts[0] if texts else max((f"{part.before}1{part.after}" for part in affixes), key=len, default="1")
        if not all(part.holds(text) for part in affixes):
            return False
        sample.append(text)
    if key_of(later.segments) == key_of(first.segments):
        return False
    routes = [
        Route(name, tuple(map(_wide, one.segments)), Access.POLICY, asks({}))
        for name, one in (("l", later), ("f", first))
    ]
    found = RouteTable(routes).find(tuple(sample))
    return found is not None and found.name == "l"


def _wide(segment: Segment) -> Segment:
    return segment._replace(pattern=Pattern.ANY) if isinstance(segment, Variable) else segment


def _longer(templates: Iterable[PathTemplate]) -> Iterator[str]:
    """Requests with more segments than the variable at the end of a spec's path: it may take them all."""
    ends = {
        key_of(one.segments): one for one in templates
        if one.place is not None and one.segments and isinstance(one.segments[-1], Variable)
    }  # fmt: skip
    hits: dict[str, int] = defaultdict(int)
    for one in templates:
        key = key_of(one.segments)
        if one.place is None and not isinstance(one.segments[-1], Rest):
            for length in range(1, len(key)):
                spec = ends.get((*key[: length - 1], Variable("", Pattern.ANY)))
                if spec is not None:
                    hits[spec.path] += one.hits
    for path, count in hits.items():
        yield (
            f"{path} of the spec: {requests(count)} with further segments behind it. FastAPI prints {{x:path}}, which "
            f"takes them all, as {{x}}: if it is one, the route is {path[: path.rindex('/')]}/**"
        )


def _respelled(templates: Iterable[PathTemplate]) -> Iterator[str]:
    """Paths that differ in case or by a slash at the end alone: an app that takes both has two names for one thing."""
    groups: dict[str, list[str]] = defaultdict(list)
    for one in templates:
        folded = "/".join(map(_folded, one.segments))
        groups[folded.rstrip("/") or "/"].append(one.path)
    for paths in groups.values():
        if len(paths) > 1:
            yield f"{' and '.join(paths)} differ in case or by a slash at the end: the sidecar decides each by itself"


def _folded(segment: Segment) -> str:
    if isinstance(segment, Variable):
        segment = segment._replace(name="", pattern=Pattern.DEFAULT)
    return path_of([segment]).lower()
