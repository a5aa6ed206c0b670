"""All dialects by the names that routes have for them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sidecar.plans.dialect import Dialect
from sidecar.plans.json_server import JsonServer

DIALECTS: Mapping[str, Dialect] = MappingProxyType({"json-server": JsonServer()})
