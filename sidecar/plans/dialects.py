"""All dialects by the names that routes have for them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sidecar.plans.dialect import FilterDialect
from sidecar.plans.django import Django
from sidecar.plans.header import Header
from sidecar.plans.json_server import JsonServer
from sidecar.plans.odata import OData
from sidecar.plans.postgrest import PostgRest
from sidecar.plans.rsql import Rsql

DIALECTS: Mapping[str, FilterDialect] = MappingProxyType(
    {
        "json-server": JsonServer(),
        "postgrest": PostgRest(),
        "odata": OData(),
        "rsql": Rsql(),
        "django": Django(),
        "header": Header(),
    }
)

SEARCHES: Mapping[str, tuple[str, ...]] = MappingProxyType({"json-server": ("q",), "odata": ("$search",)})
"""Parameters by which an app that speaks a dialect searches all fields of a row."""
