"""A request as a door hands it to the gate, and its refusal."""

from __future__ import annotations

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import Header

HOST: Header = (b"host", b"app.test")
READING = Reading()


def raw(target: bytes = b"/docs/1", *headers: Header, method: str = "GET", peer: str = "10.0.0.9") -> Raw:
    return Raw(method, target, [HOST, *headers], peer, "http", "id-1")


def refusal(request: Raw, reading: Reading = READING) -> Code:
    with pytest.raises(Refused) as caught:
        read(request, reading)
    return caught.value.code
