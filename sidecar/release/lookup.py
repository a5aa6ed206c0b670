"""`lookup: {from: answer}`: what the resource is like, read out of the app's answer, which is then released or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidecar.gate.codes import Code
from sidecar.gate.lookup import Attribute, Missing, attributes_in, id_text, search_in
from sidecar.gate.obligation import HeldAnswer, Reduced
from sidecar.gate.verdict import Refused
from sidecar.release.content import readable
from sidecar.release.single import FieldsRule
from sidecar.wire import strict_json

MAX_SIZE = 1024 * 1024
"""Bytes of an answer from which a decision is made."""


@dataclass(frozen=True, slots=True)
class AnswerLookupRule:
    """Lookup whose hook is the app's answer to the request itself. `fields` are hidden in it where the decision says
    so, None where the whole goes out."""

    attributes: Mapping[str, Attribute]
    optional: frozenset[str] = frozenset()
    missing: Missing = Missing.DENY
    echo: Any = None
    fields: FieldsRule | None = None
    max_size: int = MAX_SIZE

    @property
    def names(self) -> frozenset[str]:
        """The attributes that may be found."""
        return frozenset(self.attributes)

    @property
    def asks(self) -> tuple[str, ...]:
        """The actions that are asked beside the route's."""
        return self.fields.asks if self.fields is not None else ()

    def searched(self, query: bytes) -> Sequence[tuple[str, str]]:
        """List the hidden fields that a query names."""
        return self.fields.searched(query) if self.fields is not None else ()

    def read(self, held: HeldAnswer, resource_id: str) -> dict[str, Any]:
        """Read the attributes, as a lookup reads those of a hook. Raises Refused: RESOURCE_*, LOOKUP_*."""
        if held.body is None:
            raise Refused(Code.LOOKUP_BAD_ANSWER, f"lookup: found an answer of more than {self.max_size} bytes")
        if held.status == 404:
            return self._missing()
        if held.status != 200:
            raise Refused(Code.LOOKUP_STATUS, f"lookup: the app answered {held.status}, expected 200 or 404")
        try:
            document = strict_json.loads(readable(held) or b"")
        except Refused as refused:
            raise Refused(Code.LOOKUP_STATUS, f"lookup: {refused.detail}") from None
        except ValueError as error:
            raise Refused(Code.LOOKUP_BAD_ANSWER, f"lookup: {error}") from None
        if self.echo is not None and id_text(search_in(self.echo, document)) != resource_id:
            raise Refused(Code.LOOKUP_MISMATCH, "lookup: the answer is about another id", about_another=True)
        return attributes_in(document, self.attributes, self.optional, "lookup.attributes")

    def _missing(self) -> dict[str, Any]:
        if self.missing is Missing.EMPTY:
            return {}
        code = Code.RESOURCE_HIDDEN if self.missing is Missing.HIDE else Code.RESOURCE_MISSING
        raise Refused(code, "lookup: the app has no such thing")

    def reduce(self, held: HeldAnswer, granted: frozenset[str]) -> Reduced:
        """Hide the fields whose action is not among the `granted`. Raises Refused(ITEMS_UNREADABLE)."""
        return Reduced(held, {}) if self.fields is None else self.fields.hidden(held, granted)
