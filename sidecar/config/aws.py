"""Names of AWS that depend on the region."""

from __future__ import annotations


def domain_of(region: str) -> str:
    """Return the domain that a region's endpoints are in; China has one of its own (AWS, "Service endpoints")."""
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
