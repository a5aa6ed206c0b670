"""Problem JSON (RFC 9457), the body of a refusal wherever it is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from json.encoder import encode_basestring_ascii as _quoted
from types import MappingProxyType

from sidecar.gate.codes import Code

CONTENT_TYPE = b"application/problem+json"
NOTHING: Mapping[str, object] = MappingProxyType({})


def problem_json(status: int, code: Code, request_id: str = "", more: Mapping[str, object] = NOTHING) -> bytes:
    """Write the problem of a code. Without a request id it has none; `more` are members of its own."""
    # each refusal has one: `json.dumps` takes ten times as long
    text = f'{{"type": "about:blank", "title": {_TITLES[status]}, "status": {status}, "code": {_quoted(code)}'
    if more:
        text += f", {json.dumps(dict(more))[1:-1]}"
    if request_id:
        text += f', "request_id": {_quoted(request_id)}'
    return f"{text}}}".encode("ascii")


_TITLES = {status.value: _quoted(status.phrase) for status in HTTPStatus}
