"""A lookup's `upstream` -> its question to the protected app."""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.config.routes.hook import bearer_of, target_parts, target_problem
from sidecar.config.shapes import Entry, Reader
from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.lookup import ResourceField
from sidecar.gate.target import NO_ODDITIES, read_target
from sidecar.gate.verdict import Refused


def read_app_lookup(entry: Entry, environ: Mapping[str, str], reader: Reader) -> AppInquiry:
    """The target and the credentials of a lookup; `environ` gives its token. Faults are noted with `reader`."""
    mark, target, as_principal = entry.at("upstream"), entry["upstream"], entry["as"] == "principal"
    if as_principal and entry["bearer_env"]:
        reader.fault(entry.at("bearer_env"), "found it beside `as: principal`, expected one of the two")
    problem = "expected a path that begins with '/'" if not target.startswith("/") else target_problem(target)
    if problem:
        reader.fault(mark, f"found {target!r}, {problem}")
        return AppInquiry(())
    try:
        parts = target_parts(target)
    except ValueError as error:
        reader.fault(mark, str(error))
        return AppInquiry(())
    if ResourceField.IDS in parts:
        reader.fault(mark, "found {ids}, expected {id}: the app is asked about one at a time")
        return AppInquiry(())
    # as the paths of requests are read: the app must not read another one out of it
    sample = "".join(part if type(part) is str else "x" for part in parts).encode("ascii")
    try:
        path, _, query, oddities = read_target(sample)
    except Refused as refused:
        reader.fault(mark, f"found {target!r}, which servers may read differently: {refused.detail}")
        return AppInquiry(())
    if oddities != NO_ODDITIES or sample not in (path, path + b"?" + query):
        reader.fault(mark, f"found {target!r}, expected the plain form of the path, as {path.decode('ascii')!r}")
    return AppInquiry(parts, as_principal, bearer_of(entry, environ, reader))
