"""Lookups that read what another one gave: faults of each by itself, and of those that one route asks in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from sidecar.config.shapes import Mark, Reader
from sidecar.config.suggest import did_you_mean
from sidecar.gate.lookup import Lookup, Missing
from sidecar.gate.references import Reference, ReferenceSource
from sidecar.gate.values import COMPOUND, Type


def check_lookups(lookups: Mapping[str, Lookup], marks: Mapping[str, Mark], reader: Reader) -> None:
    """Note what lookups read of others that these cannot give. `marks` are their places."""
    for name, lookup in lookups.items():
        for reference in _read_of_others(lookup):
            fault = _reference_fault(lookup, reference, lookups)
            if fault:
                reader.fault(marks[name], f"found {{{reference}}}, expected {fault}")
            elif _may_be_absent(reference, lookups):
                why = f"`optional`, or `missing: empty`, of lookups.{lookup_of(reference)}"
                told = f"{{{reference}}} may be absent ({why}): such a request is 503 `lookup_incomplete`"
                reader.warn(marks[name], told)
    for circle in _circles(lookups):
        reader.fault(marks[circle[0]], f"found a circle of lookups, {' -> '.join(circle)}, expected an end of it")


def chain_faults(lookups: Sequence[Lookup]) -> Iterator[str]:
    """Find what lookups that are asked in this order cannot mean."""
    names = [lookup.name for lookup in lookups]
    owners: dict[str, str] = {}
    for at, lookup in enumerate(lookups):
        for need in lookup.needs:
            if need not in names[:at]:
                read = next(one for one in _read_of_others(lookup) if lookup_of(one) == need)
                order = f"`lookup: [{', '.join(dict.fromkeys((need, *names)))}]`"
                yield f"lookups.{lookup.name} reads {{{read}}}, expected {need} before it: {order}"
        for attribute in lookup.attributes:
            owner = owners.setdefault(attribute, lookup.name)
            if owner != lookup.name:
                yield f"lookups.{owner} and lookups.{lookup.name} both give {attribute!r}, expected another name in one"


def lookup_of(reference: Reference) -> str:
    """The name of the lookup whose attribute a reference reads."""
    return reference.name.partition(".")[0]


def _read_of_others(lookup: Lookup) -> Iterator[Reference]:
    return (reference for reference in lookup.references if reference.source is ReferenceSource.LOOKUP)


def _reference_fault(lookup: Lookup, reference: Reference, lookups: Mapping[str, Lookup]) -> str:
    """Return what would have to stand in place of a reference, "" where it is right."""
    name, _, attribute = reference.name.partition(".")
    other = lookups.get(name)
    if other is None:
        return f"one of `lookups`: {', '.join(lookups)}{did_you_mean(name, lookups)}"
    if other is lookup:
        return "another lookup than itself"
    said = other.attributes.get(attribute)
    if said is None:
        return (
            f"an attribute of lookups.{name}: {', '.join(other.attributes)}{did_you_mean(attribute, other.attributes)}"
        )
    if said.type in COMPOUND:
        return f"a string, number, int or bool, and lookups.{name} says that it is a {said.type}"
    if said.type not in (None, reference.type) and (said.type, reference.type) != (Type.INT, Type.NUMBER):
        return f"{{{reference}:{said.type}}}, since lookups.{name} says so"
    return ""


def _may_be_absent(reference: Reference, lookups: Mapping[str, Lookup]) -> bool:
    name, _, attribute = reference.name.partition(".")
    return attribute in lookups[name].optional or lookups[name].missing is Missing.EMPTY


def _circles(lookups: Mapping[str, Lookup]) -> Iterator[tuple[str, ...]]:
    """Find lookups of which each one reads the next, and the last one the first; no lookup is in two of them."""
    needs = {name: [need for need in lookup.needs if need != name] for name, lookup in lookups.items()}
    while True:
        try:
            TopologicalSorter(needs).prepare()
        except CycleError as error:
            # it lists them the other way round: each is needed by the next
            circle = tuple(reversed(error.args[1]))
        else:
            return
        yield circle
        needs = {
            name: [need for need in needed if need not in circle]
            for name, needed in needs.items()
            if name not in circle
        }
