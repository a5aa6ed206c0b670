"""Requests and specs as short texts, collected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from sidecar.gate.routing import parse_path
from sidecar.imports import openapi
from sidecar.imports.collect import Collected, Collector
from sidecar.imports.proposal import Proposal, propose
from sidecar.imports.sighting import Location, Sighting
from sidecar.imports.targets import read_path


def request(text: str, line: int = 1) -> Sighting:
    """`GET /a?b=1 200`; WS for a handshake."""
    method, target, *status = text.split()
    segments, names = read_path(target.encode())
    answered = int(status[0]) if status else 200
    websocket = method == "WS"
    return Sighting("GET" if websocket else method, segments, Location("a.log", line), names, answered, websocket)


def collect(*requests: str, specs: tuple[Mapping[str, Any], ...] = (), given: tuple[str, ...] = ()) -> Collected:
    """Requests after specs; `given` are templates of a person."""
    collector = Collector(map(parse_path, given))
    for number, spec in enumerate(specs):
        for sighting in openapi.sightings(spec, f"{number}.yaml"):
            collector.add(sighting)
    for line, text in enumerate(requests, 1):
        collector.add(request(text, line))
    return collector.collected()


def paths(*requests: str, **options: Any) -> list[str]:
    """The templates of requests."""
    return sorted(one.path for one in collect(*requests, **options).templates)


def proposed(*requests: str, **options: Any) -> dict[str, Proposal]:
    """Proposals by path."""
    return {one.path: one for one in propose(collect(*requests, **options)).proposals}


def spec(*operations: str, **more: Any) -> dict[str, Any]:
    """A spec of `GET /a/{b} operationId tag`; `more` are other members."""
    found: dict[str, Any] = {}
    for text in operations:
        method, path, *names = text.split()
        operation: dict[str, Any] = {"operationId": names[0]} if names else {}
        if names[1:]:
            operation["tags"] = names[1:]
        found.setdefault(path, {})[method.lower()] = operation
    return {"openapi": "3.1.0", "paths": found, **more}


def secrets() -> st.SearchStrategy[str]:
    """Values as clients send them in paths and queries: numbers, hashes, UUIDs, tokens, addresses and names."""
    numbers = st.integers(10**8, 10**15 - 1)
    return st.one_of(
        numbers.map(str),
        numbers.map(lambda number: f"{number:020x}7"),
        numbers.map(lambda number: f"{number:032x}"[:8] + "-4f89-11d3-9a0c-" + f"{number:012x}"),
        numbers.map(lambda number: f"zq{number % 97}{_letters(number)[:4]}{number % 997}"),
        numbers.map(lambda number: f"zq{_letters(number)}@x.io"),
        numbers.map(lambda number: f"Zq{_letters(number)[:4].upper()}{_letters(number)[4:]}"),
        numbers.map(lambda number: f"zq-{_letters(number)[:5]}-{_letters(number)[5:]}"),
    )


def _letters(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))
