"""Templates -> proposals of routes: what each would ask, what supports it, and what a person has to decide."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from sidecar.gate.own import PREFIX
from sidecar.gate.routing import Rest, Segment, Variable, parse_path
from sidecar.imports.collect import Collected, PathTemplate
from sidecar.imports.evidence import WS, requests
from sidecar.imports.naming import MEDIUM, RouteNames, is_item_of, name_template
from sidecar.imports.shapes import parts_of
from sidecar.imports.words import FILES, LOOKS_PUBLIC, is_known

MAX_QUERY = 64
_PARAMETER = re.compile(r"[A-Za-z0-9_.~$@:!*()\[\],-]+")
_DECIDING = re.compile(
    r"owner|user|author|creat|assign|tenant|org|company|account|customer|client|team|group|department|project|workspace|"
    r"status|state|visib|private|public|shared|role|region|member|manager|approv|confidential|classif|level|locked|archived",
    re.IGNORECASE,
)
"""Names of fields by which policies often decide."""


class Proposal(NamedTuple):
    """One route of the draft. `attributes` are names in the app's answer that a lookup could give; `decide` are
    sentences about what a person has to decide."""

    path: str
    template: PathTemplate
    named: RouteNames
    query: tuple[str, ...] | None
    attributes: tuple[str, ...]
    decide: tuple[str, ...]


class Proposed(NamedTuple):
    """All proposals, and the paths that cannot be routes with the reason."""

    proposals: list[Proposal]
    impossible: list[str]


def propose(collected: Collected) -> Proposed:
    """Propose a route for each template."""
    items = frozenset(path for path in map(is_item_of, collected.templates) if path is not None)
    found, impossible = [], []
    for template in sorted(collected.templates, key=_order):
        template.methods.pop("OPTIONS", None)
        template.segments = _distinct_names(template.segments)
        fault = _fault(template.path)
        if fault:
            impossible.append(f"{template.place or 'a log'}: {fault}")
        elif template.methods:
            found.append(_proposal(template, items))
    return Proposed(found, impossible)


def _order(template: PathTemplate) -> tuple[int, int, str]:
    """Those of specs as they stand there, then those of logs by their paths."""
    return (0, template.order, "") if template.place is not None else (1, 0, template.path)


def _distinct_names(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """A path without two variables of one name."""
    taken: set[str] = set()
    made: list[Segment] = []
    for one in segments:
        if isinstance(one, Variable):
            name, count = one.name, 2
            while name in taken:
                name, count = f"{one.name}_{count}", count + 1
            taken.add(name)
            made.append(one._replace(name=name))
        else:
            made.append(one)
    return tuple(made)


def _fault(path: str) -> str:
    if path == PREFIX.rstrip("/") or path.startswith(PREFIX):
        return f"{path} is a path of the sidecar itself"
    try:
        parse_path(path)
    except ValueError as error:
        return f"it cannot be a route: {error}"
    return ""


def _proposal(template: PathTemplate, items: frozenset[tuple[Segment, ...]]) -> Proposal:
    named = name_template(template, items)
    evidences = template.methods.values()
    is_whole = all(one.operations for one in evidences)
    names = [name for one in evidences for name in one.query if _PARAMETER.fullmatch(name)]
    query = tuple(sorted(set(names))[:MAX_QUERY]) if names or is_whole else None
    given = [name for one in evidences if one.operation is not None for name in one.operation.attributes]
    attributes = dict.fromkeys(filter(_DECIDING.search, given))
    return Proposal(template.path, template, named, query, tuple(attributes), tuple(_decisions(template, named)))


def _decisions(template: PathTemplate, named: RouteNames) -> Iterable[str]:
    looks = looks_public(template.segments)
    if looks and set(template.methods) <= {"GET", "POST"}:
        yield f"looks like {looks}: should everybody pass? Then `access: public` takes the place of actions"
    if any(one.operation is not None and one.operation.is_open for one in template.methods.values()):
        yield "the spec says that it needs no credentials: should everybody pass?"
    if named.kind.confidence < MEDIUM or any(guess.confidence < MEDIUM for guess in named.actions.values()):
        yield "kind or action are a guess of low confidence"
    for word in _uncommon(template):
        yield f"{word!r} is taken for a fixed word: if clients choose it, name the path with --template"
    if WS in template.methods:
        yield "a WebSocket stays open: consider `recheck`"
    if template.segments and isinstance(template.segments[-1], Rest) and not looks:
        yield "one route for all that is below"
    if template.refused_values:
        yield (
            f"{requests(template.refused_values)} that the app answered well had a number or UUID in another spelling, "
            "such as 007, which the sidecar refuses with 400"
        )
    if template.unfit_values:
        yield (
            f"{requests(template.unfit_values)} that the app answered well had there what is not of the type that the "
            f"spec declares, the first at {template.first_unfit}: is it a path that the spec leaves out? The sidecar "
            "refuses it with 400: add a route for it, or give the variable another pattern"
        )
    yield from named.notes


def _uncommon(template: PathTemplate) -> list[str]:
    """Words of a log's path that paths seldom have: names may be among them."""
    if template.place is not None:
        return []
    words = [parts_of(one)[0] for one in template.segments if isinstance(one, str) and one not in template.within]
    return [word for word in words if word and word not in FILES and not is_known(word)]


def looks_public(segments: tuple[Segment, ...]) -> str:
    """Return what a path looks like that apps show to everybody, "" where it looks like none."""
    words = [one.lower() for one in segments if isinstance(one, str)]
    for what, known in LOOKS_PUBLIC.items():
        place = words if what == "files of pages" else words[-1:]
        if any(word in known for word in place):
            return what
    return ""
