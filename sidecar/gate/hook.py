"""A lookup hook of HTTP: where it is, and its URL, in which each value becomes one segment or query value (R17)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote

from sidecar.gate.codes import Code
from sidecar.gate.lookup import ResourceField
from sidecar.gate.references import Material, Reference, ReferenceSource, resolve
from sidecar.gate.verdict import Refused

MAX_TARGET = 6000
"""Characters of a target about many: servers take lines of 8 KiB."""


class Hook(NamedTuple):
    """An `Inquiry`: GET `target` of `origin`. The target holds literal text and what fills one path segment or query
    value each. `bearer` is the sidecar's own token there. Asked about many, it has `{ids}`: of one parameter a value
    for each id, or one value with `separator` between them."""

    origin: str
    target: tuple[str | Reference | ResourceField, ...]
    bearer: str = ""
    separator: str = ""

    @property
    def source(self) -> str:
        """The origin: a reload may have moved it."""
        return self.origin

    @property
    def values(self) -> tuple[Reference | ResourceField, ...]:
        """The values that fill the target."""
        return tuple(part for part in self.target if isinstance(part, Reference | ResourceField))

    def fill(self, kind: str, resource_id: str, material: Material) -> str:
        """The target of one request; where it is asked about many, all but the id. Raises Refused."""
        if self.separator:
            _require_apart(resource_id, self.separator)
        return filled(self.target, kind, resource_id, material)

    @property
    def longest(self) -> int:
        """See `BatchInquiry`."""
        return MAX_TARGET

    def join(self, question: str, ids: Sequence[str]) -> str:
        """The target for these ids."""
        before, _, after = question.partition(_IDS)
        quoted = [quote(one, safe="") for one in ids]
        if self.separator:
            return before + self.separator.join(quoted) + after
        before, mark, name = _last_parameter(before)
        return before + mark + "&".join([name + one for one in quoted]) + after

    def shown(self, question: str) -> str:
        """A question as a person reads it."""
        return f"GET {self.origin}{question}"


def filled(
    target: Iterable[str | Reference | ResourceField], kind: str, resource_id: str, material: Material
) -> str:  # fmt: skip
    """A target with the values of one request, each of them one segment or query value. Raises Refused."""
    return "".join([part if type(part) is str else _filled(part, kind, resource_id, material) for part in target])


_IDS = "{ids}"
# what stands for itself in a segment, as most ids do, and is no dot segment
_PLAIN = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
# a look at a member of an enum costs as much as three calls
_OF_KIND, _OF_IDS = ResourceField.KIND, ResourceField.IDS
# what no server cuts, or reads in two ways, within a list in one value
_APART = re.compile(r"[A-Za-z0-9._~+-]{1,128}")


def _require_apart(resource_id: str, separator: str) -> None:
    if separator in resource_id or _APART.fullmatch(resource_id) is None:
        expected = f"1 to 128 of A-Z a-z 0-9 . _ ~ + - without {separator!r}"
        raise Refused(
            Code.REFERENCE_INVALID, f"an id that cannot stand beside others in one value: expected {expected}"
        )


def _last_parameter(before: str) -> tuple[str, str, str]:
    """Cut what ends in a query's last parameter: what is before it, the mark before its name, and `name=`."""
    at = max(before.rfind("?"), before.rfind("&"))
    return before[:at], before[at], before[at + 1 :]


def _filled(part: str | Reference | ResourceField, kind: str, resource_id: str, material: Material) -> str:
    own = kind if part is _OF_KIND else resource_id
    value = resolve(part, material) if isinstance(part, Reference) else own
    text = value if isinstance(value, str) else str(value)
    if part is not _OF_IDS and _PLAIN.fullmatch(text):
        return text
    # no encoding keeps a dot segment from being one
    if text in ("", ".", ".."):
        told = isinstance(part, Reference) and part.source is ReferenceSource.LOOKUP
        code = Code.LOOKUP_MISMATCH if told else Code.REFERENCE_INVALID
        raise Refused(code, f"{part}: found {text!r}, expected what can be one path segment")
    return _IDS if part is _OF_IDS else quote(text, safe="")
