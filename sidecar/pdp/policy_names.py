"""Which policy a file holds: its kind, name, version and scope, and the name that Cerbos' reports have for it."""

from __future__ import annotations

import re
from typing import NamedTuple

from sidecar.config.yaml_nodes import Place, YamlDocument, fields

KINDS = {"resourcePolicy": "resource", "principalPolicy": "principal", "rolePolicy": "role"}
"""Kind of policy -> its field with what it is about."""
_PLAIN_KIND = re.compile(r"[A-Za-z][\w@./-]*(?::[A-Za-z][\w@./-]*)*", re.ASCII)


class PolicyName(NamedTuple):
    """Name of a policy: a kind of `KINDS`, what it is about, its version and scope. Both places are where the file
    begins if it does not say so."""

    kind: str
    about: str
    version: str
    scope: str
    place: Place
    scope_place: Place

    @property
    def key(self) -> str:
        """The name in reports, such as `resource.contact.vdefault/acme` (Cerbos' source, internal/namer)."""
        policy = f"{KINDS[self.kind]}.{kind_name(self.about)}.v{kind_name(self.version)}"
        return f"{policy}/{self.scope}" if self.scope else policy


def policy_name(document: YamlDocument) -> PolicyName | None:
    """Return which policy a file holds, None where it is of no kind that has rules."""
    root = fields(document.root)
    kind = next((kind for kind in KINDS if kind in root), None)
    if kind is None:
        return None
    body = fields(root[kind])
    about, version, scope = (
        scalar.value if (scalar := document.scalar(body.get(field))) is not None and scalar.json_type else ""
        for field in (KINDS[kind], "version", "scope")
    )
    place, scope_place = (document.place(body.get(field, document.root)) for field in (KINDS[kind], "scope"))
    return PolicyName(kind, about, version or "default", scope, place, scope_place)


def disabled_at(document: YamlDocument) -> Place | None:
    """Return where a file says that Cerbos shall not load its policy, None where it does not."""
    disabled = document.scalar(fields(document.root).get("disabled"))
    return disabled.start if disabled is not None and disabled.value == "true" else None


def kind_name(kind: str) -> str:
    """A kind as Cerbos files its policy: `a:b`, `a/b`, `a-b` and `a_b` are one."""
    return re.sub(r"[^\w.]+", "_", kind) if _PLAIN_KIND.fullmatch(kind) else kind
