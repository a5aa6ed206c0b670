"""A lookup that a Python function answers: its name, and what it is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sidecar.gate.identity import Principal
from sidecar.gate.lookup import ResourceField
from sidecar.gate.references import Material, Reference


class Function(NamedTuple):
    """An `Inquiry`: calls `name`, a `module:callable`. With `as_principal` it is told who asks; with `batch` it is
    asked about many."""

    name: str
    as_principal: bool = False
    batch: bool = False

    @property
    def source(self) -> str:
        """The name: a reload may have put another function in its place."""
        return self.name

    @property
    def values(self) -> tuple[Reference | ResourceField, ...]:
        """The resource, and nothing else of the request."""
        return (ResourceField.KIND, ResourceField.IDS if self.batch else ResourceField.ID)

    def fill(self, kind: str, resource_id: str, material: Material) -> str:
        """All that the function gets, as JSON, but the id where it is asked about many: what it is not told cannot
        change its answer."""
        return self.question(kind, resource_id, material.principal if self.as_principal else None)

    def question(self, kind: str, resource_id: str, principal: Principal | None) -> str:
        """The question about a resource of a principal, or of nobody."""
        asked: dict[str, Any] = {"kind": kind, **({"ids": []} if self.batch else {"id": resource_id})}
        if principal is not None:
            asked["principal"] = {
                "id": principal.id, "roles": principal.roles, "attributes": principal.attributes,
                "issuer": principal.issuer,
            }  # fmt: skip
        return json.dumps(asked, sort_keys=True)

    @property
    def longest(self) -> None:
        """See `BatchInquiry`: no line of a server cuts it."""

    def join(self, question: str, ids: Sequence[str]) -> str:
        """The question about these ids."""
        return json.dumps({**json.loads(question), "ids": ids}, sort_keys=True)

    def shown(self, question: str) -> str:
        """A call as a person reads it."""
        asked = json.loads(question)
        told = f", {asked['principal']['id']}" if "principal" in asked else ""
        about = asked["id"] if "id" in asked else f"[{', '.join(asked['ids'])}]"
        return f"{self.name}({asked['kind']} {about}{told})"
