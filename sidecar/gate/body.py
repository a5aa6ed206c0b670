"""A body that references read, as JSON or as a form: of its type alone, whole, strict, and forwarded as it came."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from sidecar.gate.codes import Code
from sidecar.gate.form import Form, FormReader, FormRule, judged, reader_of
from sidecar.gate.request import Request
from sidecar.gate.verdict import Refused
from sidecar.wire import strict_json
from sidecar.wire.grammar import CONTENT_LENGTH

# RFC 8259 section 11 defines no parameter; charset=utf-8 is what many clients send all the same
_JSON = re.compile(rb"application/json(?:[ \t]*;[ \t]*charset=\"?utf-8\"?)?", re.IGNORECASE)


Show = Callable[[bytes], object]
"""Gets a body piece by piece. Raises Refused."""


class Viewer(NamedTuple):
    """Reader of a body: issuer and id of the principal, each "" where none is known, and whether all of it is kept."""

    asker: tuple[str, str]
    keeps: bool


ReadBody = Callable[[int, Show, Viewer], Awaitable[None]]
"""Port of a door: shows the whole body, of at most so many bytes, and keeps it to be forwarded. Raises
Refused(BODY_TOO_LARGE), and what is raised by whom it shows it to."""


async def no_body(limit: int, show: Show, viewer: Viewer) -> None:
    """Body of a request that has none."""


async def read_json(request: Request, read: ReadBody | None, limit: int, asker: tuple[str, str]) -> Any:
    """The parsed body; `read` is None where the door does not get it. Raises Refused: BODY_TYPE_UNSUPPORTED (415),
    BODY_TOO_LARGE (413), BODY_INVALID (400), PROXY_UNABLE (501)."""
    require_json(request)
    return json_of(await read_whole(request, read, limit, asker))


def require_json(request: Request) -> None:
    """See that a body is said to be JSON, in one of the ways that all servers take for it. Raises
    Refused(BODY_TYPE_UNSUPPORTED)."""
    if not _JSON.fullmatch(request.seen.get(b"content-type", b"")):
        raise Refused(Code.BODY_TYPE_UNSUPPORTED, "Content-Type: expected application/json")


def json_of(data: bytes) -> Any:
    """Parse a body that is strict JSON. Raises Refused(BODY_INVALID)."""
    try:
        return strict_json.loads(data, distinct=True)
    except ValueError as error:
        raise Refused(Code.BODY_INVALID, str(error)) from None


async def read_whole(request: Request, read: ReadBody | None, limit: int, asker: tuple[str, str]) -> bytes:
    """The body as it came, of any type. Raises Refused: BODY_TYPE_UNSUPPORTED (415), for one that is encoded,
    BODY_TOO_LARGE (413), BODY_INVALID (400), where it breaks off, PROXY_UNABLE (501)."""
    pieces: list[bytes] = []
    await _read(request, read, limit, pieces.append, Viewer(asker, keeps=True))
    return b"".join(pieces)


async def read_form(
    request: Request, read: ReadBody | None, limit: int, rule: FormRule, asker: tuple[str, str]
) -> Form:  # fmt: skip
    """The form in the body, of which no file is kept. Raises Refused: as `read_json`, and REFERENCE_INVALID (400) for a
    query that says of a field something else."""
    reader = reader_of(request.seen.get(b"content-type", b""))
    if reader is None:
        raise Refused(
            Code.BODY_TYPE_UNSUPPORTED,
            "Content-Type: expected application/x-www-form-urlencoded, or multipart/form-data with a plain boundary",
        )
    most = limit if reader.most is None else min(limit, reader.most)
    await _read(request, read, most, partial(_feed, reader), Viewer(asker, keeps=False))
    try:
        fields = reader.end()
    except ValueError as error:
        raise Refused(Code.BODY_INVALID, f"the form: {error}") from None
    return judged(fields, request.query, rule)


def _feed(reader: FormReader, data: bytes) -> None:
    try:
        reader.feed(data)
    except ValueError as error:
        raise Refused(Code.BODY_INVALID, f"the form: {error}") from None


async def _read(request: Request, read: ReadBody | None, limit: int, show: Show, viewer: Viewer) -> None:
    if request.seen.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refused(Code.BODY_TYPE_UNSUPPORTED, "Content-Encoding: expected none")
    length = request.seen.get(b"content-length", b"0")
    if not CONTENT_LENGTH.fullmatch(length) or int(length) > limit:
        raise Refused(Code.BODY_TOO_LARGE, f"Content-Length: at most {limit}")
    if read is None:
        raise Refused(Code.PROXY_UNABLE, "a body, which the proxy does not send")
    await read(limit, show, viewer)
