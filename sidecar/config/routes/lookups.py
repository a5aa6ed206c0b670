"""`lookups` of `routes.yaml` -> lookups of the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sidecar.config.routes.app_lookup import read_app_lookup
from sidecar.config.routes.function import read_function
from sidecar.config.routes.hook import read_hook
from sidecar.config.routes.statement import read_statement
from sidecar.config.shapes import Entry, Reader
from sidecar.gate.expressions import searcher
from sidecar.gate.hook import Hook
from sidecar.gate.lookup import Batch, Inquiry, Lookup, Missing


class SourceKind(NamedTuple):
    """A kind of source: what makes its inquiry of an entry and the environment, noting faults, and the fields that are
    said only of it."""

    read: Callable[[Entry, Mapping[str, str], Reader], Inquiry]
    fields: tuple[str, ...] = ()


SOURCES: Mapping[str, SourceKind] = {
    "url": SourceKind(read_hook, ("bearer_env", "batch")),
    "upstream": SourceKind(read_app_lookup, ("as", "bearer_env")),
    "function": SourceKind(read_function, ("as", "batch")),
    "sql": SourceKind(read_statement, ("database", "parameters", "batch")),
}
"""The field that names the source of a lookup -> its kind."""


def read_lookup(name: str, entry: Entry, environ: Mapping[str, str], reader: Reader) -> Lookup:
    """One lookup; `environ` gives its secrets. Faults are noted with `reader`."""
    unknown = set(entry["optional"]) - set(entry["attributes"])
    if unknown:
        reader.fault(entry.at("optional"), f"found {sorted(unknown)[0]!r}, expected names of `attributes`")
    _check_source(entry, reader)
    source = SOURCES.get(source_of(entry))
    # the name is known all the same, and what asks it is not called a fault
    inquiry = source.read(entry, environ, reader) if source is not None else Hook("", ())
    return Lookup(
        name, inquiry, entry["attributes"], frozenset(entry["optional"]),
        Missing(entry["missing"]), entry["timeout"], entry["cache"],
        _echo_of(entry),
        {place: part for attribute in entry["attributes"].values() for place, part in attribute.places.items()},
        Batch(entry["batch"]["max"], entry["batch"]["at"]) if entry["batch"] is not None else None,
    )  # fmt: skip


def _echo_of(entry: Entry) -> Any:
    """The expression that finds the id in an answer; in each of many rows there is one."""
    if entry["echo"] is not None:
        return entry["echo"].search
    return searcher("id") if entry["batch"] is not None and source_of(entry) == "sql" else None


def source_of(entry: Entry) -> str:
    """The field of a lookup that says whom it asks, "" where none does."""
    return next((field for field in SOURCES if entry.has(field)), "")


def _check_source(entry: Entry, reader: Reader) -> None:
    own, expected = source_of(entry), f"expected one of {', '.join(SOURCES)}"
    if not own:
        reader.fault(entry.mark, f"found nothing that says whom it asks, {expected}")
        return
    for field in SOURCES:
        if field != own and entry.has(field):
            reader.fault(entry.at(field), f"found it beside `{own}`, {expected}")
    for name in ("at", "separator") if entry["batch"] is not None and own != "url" else ():
        if entry["batch"][name]:
            reader.fault(entry["batch"].at(name), f"found it beside `{own}`, expected it beside `url`")
    for name in sorted({name for source in SOURCES.values() for name in source.fields} - {*SOURCES[own].fields}):
        if entry.has(name):
            places = " or ".join(f"`{field}`" for field, source in SOURCES.items() if name in source.fields)
            reader.fault(entry.at(name), f"found it beside `{own}`, expected it beside {places}")
