"""API for front ends: the signed-in principal, and which requests would be allowed, decided by the same gate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sidecar.doors.answer import PRIVATE, Answer
from sidecar.doors.door import Door
from sidecar.gate.asking import PDP, Lookups
from sidecar.gate.codes import Code
from sidecar.gate.gate import Identified
from sidecar.gate.own import PERMISSIONS_PATH, WHOAMI_PATH
from sidecar.gate.request import Raw
from sidecar.gate.verdict import Forward, Refuse, Refused, Verdict
from sidecar.pages.router import PageRequest, Paths
from sidecar.study.batch import decide_all
from sidecar.wire import strict_json
from sidecar.wire.grammar import Header, is_method

MAX_ENTRIES = 500
"""Requests in one question."""
# what is of the question itself, and not of the requests that are asked about
_NOT_THEIRS = frozenset(
    b"content-length content-type transfer-encoding expect origin sec-fetch-site sec-fetch-mode sec-fetch-dest upgrade "
    b"access-control-request-method access-control-request-headers connection authorization cookie".split()
)


class Permissions:
    """Answers `/_sidecar/whoami` and `/_sidecar/permissions`."""

    def __init__(self, door: Door, hooks: Lookups, pdp: PDP) -> None:
        self._door = door
        self._hooks = hooks
        self._pdp = pdp

    def paths(self) -> Paths:
        """The own paths that this answers."""
        return {WHOAMI_PATH: {"GET": self.whoami}, PERMISSIONS_PATH: {"POST": self.permissions}}

    async def whoami(self, asked: PageRequest) -> Answer:
        """GET whoami: the principal as sent to Cerbos, the claims, and how long the session lasts."""
        identified = await self._door.gate.identify(asked.request, asked.rules)
        return json_answer(who(identified), identified.cookies)

    async def permissions(self, asked: PageRequest) -> Answer:
        """POST permissions: `[{"method", "path"}, ...]` -> the same with `allowed` and `code`, in the same order."""
        identified = await self._door.gate.identify(asked.request, asked.rules)
        wanted = _wanted(asked)
        raws = [hypothetical_raw(method, path, asked) for method, path in wanted]
        verdicts = await decide_all(
            raws, identified.principal, asked.rules, self._hooks, self._pdp, now=self._door.now,
            timer=self._door.timer, request_id=asked.request.request_id,
        )  # fmt: skip
        results = [
            {"method": method, "path": path, "allowed": isinstance(verdict, Forward), "code": client_code_of(verdict)}
            for (method, path), verdict in zip(wanted, verdicts, strict=True)
        ]
        return json_answer(results, identified.cookies)


def hypothetical_raw(method: str, path: str, asked: PageRequest, *, websocket: bool = False) -> Raw:
    """A request that its sender might send to the proxy, with those headers of `asked` that it would have too."""
    headers: list[Header] = [header for header in asked.raw.headers if header[0] not in _NOT_THEIRS]
    return asked.raw._replace(
        method=method, target=path.encode("utf-8"), headers=headers, websocket=websocket, holds_answer=not websocket
    )  # fmt: skip


def client_code_of(verdict: Verdict) -> str:
    """Return the code that the request's own answer would have: why it is refused, or on what ground it is let
    through."""
    match verdict:
        case Forward(ground=ground):
            return ground
        case Refuse(client_code=code):
            return code
        case _:
            return "preflight"


def _wanted(asked: PageRequest) -> list[tuple[str, str]]:
    """The requests of the question. Raises Refused: BODY_TYPE_UNSUPPORTED, BODY_INVALID."""
    kind = asked.request.seen.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise Refused(Code.BODY_TYPE_UNSUPPORTED, f"found {kind[:64]!r}, expected application/json")
    try:
        document = strict_json.loads(asked.body)
    except ValueError as error:
        raise Refused(Code.BODY_INVALID, str(error)) from None
    if not isinstance(document, list) or not 1 <= len(document) <= MAX_ENTRIES:
        raise Refused(Code.BODY_INVALID, f"expected a list of 1 to {MAX_ENTRIES} requests")
    return [_one(number, entry) for number, entry in enumerate(document)]


def _one(number: int, entry: Any) -> tuple[str, str]:
    if not isinstance(entry, dict) or entry.keys() != {"method", "path"}:
        raise Refused(Code.BODY_INVALID, f"[{number}]: expected method and path, and nothing else")
    method, path = entry["method"], entry["path"]
    if not isinstance(method, str) or not is_method(method):
        raise Refused(Code.BODY_INVALID, f"[{number}].method: expected a method in capitals")
    if not isinstance(path, str) or not path.startswith("/"):
        raise Refused(Code.BODY_INVALID, f"[{number}].path: expected a path")
    return method, path


def who(identified: Identified) -> dict[str, Any]:
    """Return what users may see of their own session; it contains no token."""
    principal, session = identified.principal, identified.session
    told: dict[str, Any] = {
        "principal": {
            "id": principal.id, "roles": list(principal.roles), "attributes": dict(principal.attributes),
        },
        "issuer": principal.issuer,
        "claims": dict(principal.claims),
        "token_expires": int(principal.expires),
    }  # fmt: skip
    if session is not None:
        told["session"] = {"created": session.created, "used": session.used, "renews": bool(session.refresh_token)}
    return told


def json_answer(document: Any, cookies: tuple[bytes, ...] = ()) -> Answer:
    """Return a private JSON answer, which no shared cache keeps."""
    body = json.dumps(document, default=_plain).encode("ascii")
    headers = [
        (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode("ascii")), *PRIVATE,
        *((b"set-cookie", cookie) for cookie in cookies),
    ]  # fmt: skip
    return Answer(200, headers, body)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)
