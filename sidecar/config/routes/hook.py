"""A lookup's `url` -> the hook that is asked by HTTP."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from sidecar.config.shapes import Entry, Mark, Reader
from sidecar.gate.hook import Hook
from sidecar.gate.lookup import ResourceField
from sidecar.gate.references import Reference, ReferenceSource, parse_reference
from sidecar.gate.values import COMPOUND
from sidecar.wire.grammar import NAME, PORT


def read_hook(entry: Entry, environ: Mapping[str, str], reader: Reader) -> Hook:
    """The hook of a lookup; `environ` gives its token. Faults are noted with `reader`."""
    origin, target = _hook_url(entry["url"], entry.at("url"), reader)
    for mark, message in _batch_faults(entry, target):
        reader.fault(mark, message)
    return Hook(origin, target, bearer_of(entry, environ, reader), _separator_of(entry))


def bearer_of(entry: Entry, environ: Mapping[str, str], reader: Reader) -> str:
    """The token that a lookup sends, "" for none. A fault is noted with `reader`."""
    bearer = environ.get(entry["bearer_env"], "").strip() if entry["bearer_env"] else ""
    if entry["bearer_env"] and not re.fullmatch(r"[\x21-\x7e]+", bearer):
        reader.fault(
            entry.at("bearer_env"),
            f"the variable {entry['bearer_env']} holds no token, expected one: set it, or leave `bearer_env` out",
        )
    return bearer


def _separator_of(entry: Entry) -> str:
    """The character between the ids of a lookup that takes them in one value."""
    separator: str = entry["batch"]["separator"] if entry["batch"] is not None else ""
    return separator


def _batch_faults(entry: Entry, target: Sequence[str | Reference | ResourceField]) -> Iterator[tuple[Mark, str]]:
    """Find what `batch` and the target cannot mean together."""
    if not target:
        return
    values = [part for part in target if isinstance(part, ResourceField)]
    if entry["batch"] is None:
        if ResourceField.IDS in values:
            yield entry.at("url"), "found {ids}, expected {id}, or `batch: true` beside it"
        return
    if values.count(ResourceField.IDS) != 1 or ResourceField.ID in values:
        yield (
            entry.at("url"),
            "found no {ids}, or not it alone, beside `batch`, expected {ids} once and no {id}: ?id={ids}",
        )
        return
    if any(isinstance(part, Reference) and part.source is ReferenceSource.LOOKUP for part in target):
        yield entry.at("url"), "found {lookup.…} beside `batch`, expected what is the same for all ids of a call"
    text = "".join(
        "{}" if isinstance(part, Reference) else "{ids}" if part is ResourceField.IDS else part for part in target
    )
    alone = re.search(r"[?&][^&={}]+=\{ids\}(?:&|$)", text)
    if "?" not in text.partition("{ids}")[0] or (alone is None and not _separator_of(entry)):
        expected = "the whole value of a parameter, ?id={ids}, or a part of one with a `separator`"
        yield entry.at("url"), f"found {{ids}} elsewhere, expected it as {expected}"


_HOOK_URL = re.compile(r"(https?://[^/?#]*)(/[^#]*)")
_HOOK_VALUE = re.compile(r"\{([^{}]*)\}")


def _hook_url(url: str, mark: Mark, reader: Reader) -> tuple[str, tuple[str | Reference | ResourceField, ...]]:
    """Cut a hook's URL into a fixed origin and a target with values in it (R17)."""
    match = _HOOK_URL.fullmatch(url)
    if match is None:
        reader.fault(mark, f"found {_without_password(url)!r}, expected http(s)://host:port/path without a fragment")
        return "", ()
    problem = _origin_problem(match[1]) or target_problem(match[2])
    if problem:
        reader.fault(mark, f"found {_without_password(url)!r}, {problem}")
        return "", ()
    try:
        return match[1], target_parts(match[2])
    except ValueError as error:
        reader.fault(mark, str(error))
        return "", ()


def _without_password(url: str) -> str:
    """A URL as it may stand in a log: without what is before an "@", which may be a password."""
    return re.sub(r"(//|^)[^/]*@", r"\1***@", url)


def _origin_problem(origin: str) -> str:
    if "{" in origin:
        return "expected scheme, host and port without {values}: a request never chooses who is asked"
    if "@" in origin:
        return "expected no user and password in it: use bearer_env"
    try:
        parts = urlsplit(origin)
        host, _ = parts.hostname or "", parts.port
        address = ipaddress.ip_address(host)
    except ValueError:
        return "" if re.fullmatch(rf"https?://{NAME}(?::{PORT})?", origin) else "expected http(s)://host:port"
    # 169.254.169.254 and its kin hand out a cloud's credentials to whoever can ask
    return "expected no link-local address" if address.is_link_local or host == "fd00:ec2::254" else ""


def target_problem(target: str) -> str:
    """Say what is wrong with a target that holds {values}, "" where nothing is."""
    path = target.partition("?")[0]
    if any(segment in (".", "..") for segment in path.split("/")):
        return "expected a path without dot segments"
    return "" if re.fullmatch(r"[!-~]+", target) else "expected visible ASCII, the rest percent-encoded"


def target_parts(target: str) -> tuple[str | Reference | ResourceField, ...]:
    """Literal text and values of a target in turn. Raises ValueError."""
    parts: list[str | Reference | ResourceField] = []
    end = 0
    for match in _HOOK_VALUE.finditer(target):
        parts.append(target[end : match.start()])
        known = match[1] in set(ResourceField)
        parts.append(ResourceField(match[1]) if known else _reference(match[1]))
        end = match.end()
    parts.append(target[end:])
    if any(isinstance(part, str) and type(part) is str and re.search(r"[{}]", part) for part in parts):
        raise ValueError(f"found a lone brace in {target!r}, expected {{id}} or {{source.name}}")
    return tuple(part for part in parts if part != "")


def _reference(text: str) -> Reference:
    reference = parse_reference(text)
    if reference.optional:
        raise ValueError(f"found {{{text}}}, expected no '?': only an attribute of a route may be left out")
    if reference.type in COMPOUND:
        raise ValueError(f"found {{{text}}}, expected a string, number, int or bool: it is one part of a URL")
    return reference
