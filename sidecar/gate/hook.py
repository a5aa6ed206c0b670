"""A lookup hook of HTTP: where it is, and its URL, in which each value becomes one segment or query value (R17)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from sidecar.gate.codes import Code
from sidecar.gate.lookup import ResourceField
from sidecar.gate.references import Material, Reference, ReferenceSource, resolve
from sidecar.gate.verdict import Refused


class Hook(NamedTuple):
    """An `Inquiry`: GET `target` of `origin`. The target holds literal text and what fills one path segment or query
    value each. `bearer` is the sidecar's own token there."""

    origin: str
    target: tuple[str | Reference | ResourceField, ...]
    bearer: str = ""

    @property
    def source(self) -> str:
        """The origin: a reload may have moved it."""
        return self.origin

    @property
    def values(self) -> tuple[Reference | ResourceField, ...]:
        """The values that fill the target."""
        return tuple(part for part in self.target if isinstance(part, Reference | ResourceField))

    def fill(self, kind: str, resource_id: str, material: Material) -> str:
        """The target of one request. Raises Refused."""
        return filled(self.target, kind, resource_id, material)

    def shown(self, question: str) -> str:
        """A question as a person reads it."""
        return f"GET {self.origin}{question}"


def filled(
    target: Iterable[str | Reference | ResourceField], kind: str, resource_id: str, material: Material
) -> str:  # fmt: skip
    """A target with the values of one request, each of them one segment or query value. Raises Refused."""
    return "".join(part if type(part) is str else _filled(part, kind, resource_id, material) for part in target)


def _filled(part: str | Reference | ResourceField, kind: str, resource_id: str, material: Material) -> str:
    if isinstance(part, Reference):
        value = resolve(part, material)
    else:
        value = resource_id if part is ResourceField.ID else kind
    text = value if isinstance(value, str) else str(value)
    # no encoding keeps a dot segment from being one
    if text in ("", ".", ".."):
        told = isinstance(part, Reference) and part.source is ReferenceSource.LOOKUP
        code = Code.LOOKUP_MISMATCH if told else Code.REFERENCE_INVALID
        raise Refused(code, f"{part}: found {text!r}, expected what can be one path segment")
    return quote(text, safe="")
