"""Proposals -> the text of a routes.yaml in which nothing is in force, with the evidence of each route as a comment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from sidecar.imports.evidence import MethodEvidence, requests
from sidecar.imports.proposal import Proposal

_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9/_.-]*")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9/_.{}:-]*")
_WORDS_OF_YAML = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"))
WIDTH = 118
HEAD = (
    "Nothing of it is in force. Look through each route and take out its `draft: true`, and at last the one below: "
    "`sidecar run` does not start before. `sidecar check` reads drafts. Then write policies for kinds and actions."
)


def draft(proposals: Sequence[Proposal], files: Iterable[str]) -> str:
    """Return the draft. No value that a client sent is in it."""
    lines = [
        *_comment("", f"Draft by `sidecar import` from {', '.join(files)}."),
        *_comment("", HEAD),
        "version: 1",
        "draft: true",
        "routes:" if proposals else "routes: []",
    ]
    for proposal in proposals:
        lines += _route(proposal)
    return "\n".join(lines) + "\n"


def _route(proposal: Proposal) -> Iterator[str]:
    named = proposal.named
    for text in (evidence_text(proposal.template.methods), _kind_text(proposal)):
        yield from _comment("  ", text)
    for text in proposal.decide:
        yield from _comment("  ", f"DECIDE: {text}.")
    path = proposal.path
    yield f"  - path: {path if _PLAIN_PATH.fullmatch(path) and not path.endswith(':') else quoted(path)}"
    yield "    draft: true"
    yield f"    resource: {quoted(named.kind.value)}"
    if named.id is not None:
        yield f"    id: {quoted(named.id.value)}"
    if named.parents:
        yield f"    attributes: {{{', '.join(f'{name}: {quoted(value)}' for name, value in named.parents.items())}}}"
    if proposal.attributes:
        listed = ", ".join(name for name in map(shown, proposal.attributes) if name)
        yield from _comment("    ", f"A lookup could give attributes of the answer: {listed}.")
    if proposal.query is not None:
        yield f"    query: [{', '.join(map(quoted, proposal.query))}]"
    yield "    actions:"
    for method, guess in named.actions.items():
        yield f"      {method}: {quoted(guess.value)}  # {guess.confidence:.2f}: {shown(guess.reason)}"


def _kind_text(proposal: Proposal) -> str:
    kind = proposal.named.kind
    return f"Kind {kind.value}, confidence {kind.confidence:.2f}: {kind.reason}."


def evidence_text(methods: dict[str, MethodEvidence]) -> str:
    """Return what was seen of the methods of a route."""
    return "; ".join(f"{method} {_seen(evidence)}" for method, evidence in sorted(methods.items())) + "."


def _seen(evidence: MethodEvidence) -> str:
    parts = []
    if evidence.operation is not None:
        parts.append(f"operation {shown(evidence.operation.id) or 'without an id'}")
    if evidence.in_collection:
        parts.append("in a collection")
    if evidence.hits:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(evidence.statuses.items()))
        ids = f", {evidence.ids} id{'' if str(evidence.ids) == '1' else 's'}" if len(evidence.ids) else ""
        parts.append(f"{requests(evidence.hits)} ({statuses}{ids})")
    return ", ".join(parts) or "not seen"


def quoted(text: str) -> str:
    """Return a text as YAML has it, in quotes where it needs them."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML:
        return text
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\x7F")


def shown(text: str) -> str:
    """Return a text as a comment or a terminal can have it: in one line, and without controls."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _comment(indent: str, text: str) -> Iterator[str]:
    """A comment, in lines that are not too long."""
    line = f"{indent}#"
    for word in shown(text).split(" "):
        if len(line) + len(word) >= WIDTH and not line.endswith("#"):
            yield line
            line = f"{indent}#"
        line += f" {word}"
    yield line
