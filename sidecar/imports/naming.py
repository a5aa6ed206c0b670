"""Template -> what a route would ask: kind, id, and an action for each method, each with a confidence and a reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sidecar.gate.routing import Rest, Segment, Variable
from sidecar.imports.collect import PathTemplate
from sidecar.imports.evidence import WS, MethodEvidence
from sidecar.imports.shapes import parts_of
from sidecar.imports.words import SELF, VERBS, acts, is_plural, is_prefix, singular, snake

HIGH, MEDIUM = 0.8, 0.5
"""From these confidences on a guess is called so."""


class Guess(NamedTuple):
    """A value, how sure it is from 0 to 1, and why."""

    value: str
    confidence: float
    reason: str

    @property
    def word(self) -> str:
        """The confidence as a word."""
        return "high" if self.confidence >= HIGH else "medium" if self.confidence >= MEDIUM else "low"


class RouteNames(NamedTuple):
    """Names for the route of a template. `parents` are attributes: kind of what the resource belongs to -> the
    reference to its id."""

    kind: Guess
    id: Guess | None
    actions: dict[str, Guess]
    parents: dict[str, str]
    notes: tuple[str, ...] = ()


class _Role(NamedTuple):
    """Role of the last part of a path: its `kind`, the variable of the id, and the verb of the path if there is one."""

    kind: Guess
    id: Variable | None
    verb: str = ""
    is_item: bool = False
    part: str = ""
    """A part of one resource, such as its photo."""


def name_template(template: PathTemplate, items: frozenset[tuple[Segment, ...]]) -> RouteNames:
    """Name what a route of a template would ask. `items` are the paths of which another template is an item, such as
    `/contacts` where there is `/contacts/{id}`."""
    parts = _parts(template.segments)
    role = _role(parts, template, template.segments in items)
    kind = _with_tags(role.kind, template)
    actions = {method: _action(method, role, evidence) for method, evidence in sorted(template.methods.items())}
    identity = None
    if role.id is not None:
        why = "the variable at the end of the path" if role.is_item else "the last variable before the end of the path"
        identity = Guess(f"{{path.{role.id.name}}}", kind.confidence, why)
    return RouteNames(kind, identity, actions, _parents(parts, role, kind.value), _notes(parts))


def _parts(segments: Sequence[Segment]) -> list[Segment]:
    """The segments that say something: without `/api/v1` and a slash at the end."""
    parts = list(segments)
    while parts and isinstance(parts[0], str) and is_prefix(parts[0]) and len(parts) > 1:
        del parts[0]
    while parts and parts[-1] == "":
        del parts[-1]
    return parts


def _noun(part: Segment) -> str:
    """A fixed text without the ending of a format; "" for a variable."""
    return parts_of(part)[0] if isinstance(part, str) else ""


def _role(parts: list[Segment], template: PathTemplate, has_items: bool) -> _Role:
    if not parts:
        return _Role(Guess("page", 0.3, "the path has no word"), None, is_item=True)
    last, before = parts[-1], parts[:-1]
    if isinstance(last, Rest):
        named = next((part for part in reversed(before) if isinstance(part, str)), "file")
        return _Role(Guess(_kind(named), 0.4, "files, named after their folder"), None, is_item=True)
    if isinstance(last, Variable):
        return _item(last, before)
    return _fixed(_noun(last), before, template, has_items)


def _item(last: Variable, before: list[Segment]) -> _Role:
    noun = next((text for text in map(_noun, reversed(before)) if text), "")
    if noun and before and isinstance(before[-1], str):
        sure = 0.9 if is_plural(noun) else 0.6
        why = "the plural before the id" if is_plural(noun) else "the word before the id"
        return _Role(Guess(_kind(noun), sure, f"{noun!r} is {why}"), last, is_item=True)
    meaning = re.sub(r"_?(?:id|pk|name|slug|uuid|key|value|number)(?:_\d+)?\Z", "", snake(last.name))
    if meaning:
        return _Role(Guess(singular(meaning), 0.6, f"the variable is called {last.name!r}"), last, is_item=True)
    return _Role(Guess(_kind(noun or "item"), 0.3, "several ids follow one word"), last, is_item=True)


def _fixed(noun: str, before: list[Segment], template: PathTemplate, has_items: bool) -> _Role:
    gives_list = any(one.operation is not None and one.operation.gives_list for one in template.methods.values())
    above = before[-1] if before else None
    if isinstance(above, Variable):
        return _below_id(noun, before, template, has_items or gives_list)
    owner = _noun(above) if above is not None else ""
    is_below = bool(owner) and (is_plural(owner) or acts(noun)) and not is_prefix(owner)
    if is_below and noun.lower() in SELF:
        return _Role(
            Guess(_kind(owner), 0.6, f"{noun!r} stands in the place of an id of {owner!r}"),
            None,
            part=noun,
            is_item=True,
        )
    if is_below and acts(noun) and not has_items and not (is_plural(noun) and gives_list):
        return _Role(Guess(_kind(owner), 0.7, f"{noun!r} acts on {owner!r}"), None, verb=snake(noun))
    if has_items or gives_list or is_plural(noun):
        why = "has ids below it" if has_items else "gives a list" if gives_list else "is a plural"
        return _Role(Guess(_kind(noun), 0.9 if has_items or gives_list else 0.7, f"{noun!r} {why}"), None)
    if bool(owner) and is_plural(owner) and not is_prefix(owner):
        return _Role(Guess(_kind(owner), 0.55, f"{noun!r} stands under {owner!r} and is no id"), None, verb=snake(noun))
    verb = snake(noun) if acts(noun) and set(template.methods) <= {"POST"} else ""
    return _Role(Guess(_kind(noun), 0.4, f"{noun!r} stands alone"), None, verb=verb, part="", is_item=True)


def _below_id(noun: str, before: list[Segment], template: PathTemplate, has_list: bool) -> _Role:
    """A word after an id: a collection of what belongs to it, an action on it, or a part of it."""
    parent = _item(before[-1], before[:-1])  # type: ignore[arg-type] # a variable
    methods = set(template.methods)
    is_collection = has_list or (is_plural(noun) and not (acts(noun) and "GET" not in methods))
    if is_collection:
        why = "has ids below it, or gives a list" if has_list else "is a plural after an id"
        return _Role(Guess(_kind(noun), 0.9 if has_list else 0.7, f"{noun!r} {why}"), None)
    if noun.lower() in VERBS or acts(noun) or "GET" not in methods:
        return _Role(
            parent.kind._replace(reason=f"{noun!r} acts on one {parent.kind.value}"), parent.id, verb=snake(noun)
        )
    sure = min(0.6, parent.kind.confidence)
    return _Role(
        Guess(parent.kind.value, sure, f"{noun!r} is taken for a part of one {parent.kind.value}"), parent.id, part=noun
    )


def _kind(noun: str) -> str:
    kind = singular(parts_of(noun)[0]) or "page"
    return kind if kind[0].isalpha() else f"kind_{kind}"  # Cerbos takes no digit there


_OF_COLLECTION = {
    "GET": "list",
    "POST": "create",
    "PUT": "replace",
    "PATCH": "update",
    "DELETE": "delete",
    WS: "connect",
    "QUERY": "list",
    "SEARCH": "list",
}
_OF_ITEM = {"GET": "read", "POST": "update", "PUT": "update", "PATCH": "update", "DELETE": "delete", WS: "connect"}
_SAID = {
    "list": "list index all search find browse",
    "read": "read get retrieve show fetch view load detail details",
    "create": "create add new post store insert make register",
    "update": "update edit modify patch put replace set change partial save",
    "delete": "delete remove destroy del drop",
}
_MEANT = {word: action for action, words in _SAID.items() for word in words.split()}


def _action(method: str, role: _Role, evidence: MethodEvidence) -> Guess:
    guess = _by_method(method, role)
    said = evidence.operation.id if evidence.operation is not None else ""
    return _with_operation(guess, said, role, method) if said else _with_hits(guess, evidence)


def _by_method(method: str, role: _Role) -> Guess:
    if role.verb:
        if method == "DELETE":
            return Guess(f"delete_{role.verb}", 0.5, f"DELETE of {role.verb!r}")
        return Guess(role.verb, 0.85 if method == "POST" else 0.7, f"the path ends with the action {role.verb!r}")
    if role.is_item or role.id is not None:
        action = _OF_ITEM.get(method, snake(method))
        if role.part and role.part.lower() not in SELF:
            return Guess(f"{action}_{snake(role.part)}", 0.6, f"{method} of a part of one {role.kind.value}")
        return Guess(action, 0.9 if method != "POST" else 0.4, f"{method} of one {role.kind.value}")
    action = _OF_COLLECTION.get(method, snake(method))
    return Guess(action, 0.9 if method in ("GET", "POST") else 0.5, f"{method} of all {role.kind.value}s")


def _with_operation(guess: Guess, said: str, role: _Role, method: str) -> Guess:
    """A guess that an `operationId` confirms or doubts."""
    words = snake(said).split("_")
    # FastAPI adds the path and the method: the function's name stands first; drf-spectacular has the verb last
    meant = next((_MEANT[word] for word in (words[0], words[-1], *words[-2:-1]) if word in _MEANT), "")
    shown = _shown(said)
    if guess.value in words or meant == guess.value or guess.value.partition("_")[0] in words:
        return guess._replace(
            confidence=min(1.0, guess.confidence + 0.08), reason=f"{guess.reason}, and operationId {shown}"
        )
    if method == "POST" and not role.verb and words[0] in VERBS and words[0] not in _MEANT:
        return Guess(words[0], 0.7, f"operationId {shown}")
    if meant == "list" and guess.value == "create":
        return Guess(words[0], 0.7, f"operationId {shown}")
    doubt = 0.15 if meant else 0.05
    return guess._replace(confidence=guess.confidence - doubt, reason=f"{guess.reason}; operationId is {shown}")


def _shown(text: str) -> str:
    """A text of a spec as a comment and a terminal may have it."""
    return re.sub(r"[^A-Za-z0-9_.:/-]", "?", text)[:60]


def _with_hits(guess: Guess, evidence: MethodEvidence) -> Guess:
    if evidence.operations or evidence.in_collection or (evidence.hits >= 10 and (len(evidence.ids) != 1)):
        return guess
    return guess._replace(confidence=guess.confidence - 0.15, reason=f"{guess.reason}, seen in few requests")


def _with_tags(kind: Guess, template: PathTemplate) -> Guess:
    tags = {
        singular(tag) for one in template.methods.values() if one.operation is not None for tag in one.operation.tags
    }
    if kind.value in tags:
        return kind._replace(confidence=min(1.0, kind.confidence + 0.08), reason=f"{kind.reason}, and so is the tag")
    if template.place is None:
        return kind._replace(confidence=kind.confidence - (0.0 if template.hits >= 10 else 0.15))
    return kind


def _parents(parts: list[Segment], role: _Role, kind: str) -> dict[str, str]:
    """Attributes of what the resource belongs to: the variables before its own id, each by its collection's kind."""
    found: dict[str, str] = {}
    for at, part in enumerate(parts):
        if isinstance(part, Variable) and part != role.id:
            above = _item(part, parts[:at]).kind.value
            name = above if above != kind and above not in found else part.name
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name) and name not in found:
                found[name] = f"{{path.{part.name}}}"
    return found


def _notes(parts: list[Segment]) -> tuple[str, ...]:
    last = parts[-1] if parts else ""
    if isinstance(last, str) and last.lower() in SELF:
        return (f'{last!r} may stand for whoever asks: consider id: "{{principal.id}}"',)
    if isinstance(last, str) and last.lower() in ("graphql", "rpc", "jsonrpc", "mcp"):
        return ("one path for many operations: what is asked for stands in the body",)
    return ()


def is_item_of(template: PathTemplate) -> tuple[Segment, ...] | None:
    """Return the path of the collection whose item a template is, None if it is no item."""
    segments = template.segments[:-1] if template.segments[-1:] == ("",) else template.segments
    if not segments or not isinstance(segments[-1], Variable):
        return None
    return (*segments[:-1], "") if segments is not template.segments else segments[:-1]
