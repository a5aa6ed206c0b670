"""A lookup that asks the protected app itself: its target, in whose name it is asked, and the warrant for it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, final

from sidecar.gate.app_question import AppQuestion
from sidecar.gate.hook import filled
from sidecar.gate.lookup import Call, ResourceField
from sidecar.gate.own import ASSERTION, FORWARDED_HOST, FORWARDED_PROTO, LOOKUP, REQUEST_ID
from sidecar.gate.references import Material, Reference
from sidecar.gate.request import Request
from sidecar.gate.verdict import Destination
from sidecar.wire.grammar import Header

_OF_REQUEST = frozenset((b"host", FORWARDED_HOST, FORWARDED_PROTO, REQUEST_ID))
"""Headers of the request that is decided: the app is asked under the same host, and knows for which request."""
_IN_NO_ANSWER = frozenset((REQUEST_ID, ASSERTION))
"""Headers that differ from request to request and tell of nobody else: an assertion has what stands beside it."""


@final
class _Question(AppQuestion):
    """The warrant as it is made: here, and nowhere else."""

    __slots__ = ()

    def _sealed(self) -> None: ...


class AppInquiry(NamedTuple):
    """An `Inquiry`: GET `target` of the protected app, as the sidecar with the token `bearer`, or as the principal."""

    target: tuple[str | Reference | ResourceField, ...]
    as_principal: bool = False
    bearer: str = ""

    @property
    def source(self) -> str:
        """The app."""
        return "upstream"

    @property
    def values(self) -> tuple[Reference | ResourceField, ...]:
        """The values that fill the target."""
        return tuple(part for part in self.target if isinstance(part, Reference | ResourceField))

    def fill(self, kind: str, resource_id: str, material: Material) -> str:
        """The target of one request. Raises Refused."""
        return filled(self.target, kind, resource_id, material)

    def shown(self, question: str) -> str:
        """A question as a person reads it."""
        return f"app: GET {question}"

    def warrant(
        self, call: Call, request: Request, identity: Sequence[Header], upstream: Destination | None
    ) -> AppQuestion:
        """The warrant of a call to the app `upstream` for one request. `identity` is what the app would be told of who
        asks; it is told nothing of it unless it is asked as the principal. No cookie goes along: what a session of the
        app's own would remember of it, its user has not done."""
        told = [pair for pair in request.headers if pair[0] in _OF_REQUEST]
        if self.as_principal:
            told += identity
        elif self.bearer:
            told.append((b"authorization", b"Bearer " + self.bearer.encode("ascii")))
        said = [pair for pair in told if pair[0] not in _IN_NO_ANSWER]
        if self.as_principal:
            # which an assertion names
            said.append((b"issuer", call.asker[0].encode("utf-8", "surrogatepass")))
        if upstream is not None:
            said.append((b"upstream", f"{upstream.name} {upstream.url}".encode("utf-8", "surrogatepass")))
        headers = (*told, (LOOKUP, call.lookup.name.encode("ascii")), *_AS_JSON, *call.trace)
        return _Question(call.question.encode("ascii"), headers, _digest(said), upstream)


_AS_JSON = ((b"accept", b"application/json"), (b"accept-encoding", b"identity"))


def _digest(headers: Sequence[Header]) -> bytes:
    """One digest of some headers in their order; each is one line, since none has a line break in it."""
    text = b"\n".join([name + b":" + value for name, value in headers])
    return hashlib.sha256(text).digest()
