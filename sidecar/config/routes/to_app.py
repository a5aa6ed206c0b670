"""`to_app` of `routes.yaml`: its names, and the rules for the gate that it gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sidecar.config.shapes import Choice, Entry, Field, MapOf, Mark, Reader, Record, Text
from sidecar.gate.headers import is_reservable
from sidecar.gate.lookup import Lookup
from sidecar.gate.references import Reference, ReferenceSource, Template, parse_template
from sidecar.gate.routing import Route
from sidecar.gate.to_app import AuthorizationRule, ToApp
from sidecar.gate.values import Type

MAX_HEADERS = 16
_HEADER = r"[A-Za-z][A-Za-z0-9-]{0,63}"
_OF_PRINCIPAL = (ReferenceSource.PRINCIPAL, ReferenceSource.CLAIMS)


def _template(text: str) -> Template:
    template = parse_template(text)
    for part in template.parts:
        if isinstance(part, Reference):
            _require_told(part)
        elif not part.isascii() or not part.isprintable():
            raise ValueError(f"found {part!r}, expected visible ASCII between the references")
    if not template.references:
        raise ValueError(f"found {text!r} without a reference, expected {{principal.…}} or {{claims.…}} in it")
    return template


def _require_told(reference: Reference) -> None:
    if reference.source not in _OF_PRINCIPAL:
        raise ValueError(f"found {{{reference}}}, expected {{principal.…}} or {{claims.…}}: it tells of who asks")
    if reference.name == "roles" and reference.source is ReferenceSource.PRINCIPAL and reference.type is not Type.LIST:
        raise ValueError(f"found {{{reference}}}, expected {{{reference}:list}}, which are joined with ','")
    if reference.type is Type.JSON:
        raise ValueError(f"found {{{reference}:json}}, expected another type: a header is one text")


TO_APP = Record(
    {
        "headers": Field(
            MapOf(Text(_template, what="a text with {principal.…} or {claims.…}"), _HEADER, "a header's name"),
            "header: what the app is told of the principal in it. A client's header of that name is removed everywhere",
            {},
        ),
        "authorization": Field(
            Choice(tuple(AuthorizationRule)),
            "`drop`: the app never gets the client's Authorization; `keep`: it gets one of another scheme than Bearer, "
            "too, beside a session; `forward`: it gets the bearer token, and any other is 401. Without it "
            "`forward`, and `drop` on a route with `mcp`",
        ),
    },
    "what the app is told of who asks",
)


def without_token(to_app: ToApp | None, entry: Entry | None) -> ToApp:
    """The same, with no token for the app unless `entry` of its route says so."""
    to_app = to_app or ToApp()
    said = entry is not None and entry["authorization"]
    return to_app if said else to_app._replace(authorization=AuthorizationRule.DROP)


def to_app_of(entry: Entry | None, default: ToApp | None, reader: Reader) -> ToApp | None:
    """Facts that the app is told where `entry` stands. Each name that it leaves out is that of `default`."""
    if entry is None:
        return default
    default = default or ToApp()
    headers = _headers(entry["headers"], entry.at("headers"), reader) if entry.has("headers") else default.headers
    rule = AuthorizationRule(entry["authorization"]) if entry["authorization"] else default.authorization
    return ToApp(headers, rule)


def check_read(
    to_app: ToApp | None, routes: Iterable[Route], lookups: Iterable[Lookup], mark: Mark, reader: Reader
) -> None:
    """Note each reference to a client's header that no client can send."""
    routes = tuple(routes)
    told = {
        name.decode("ascii") for one in (to_app, *(route.to_app for route in routes)) if one for name, _ in one.headers
    }
    for reference in dict.fromkeys(_read(routes, lookups)):
        if reference.source is ReferenceSource.HEADER and reference.name in told:
            reader.fault(
                mark, f"found {reference.name}, expected another: a client's is removed, and {{{reference}}} reads it"
            )


def _read(routes: Iterable[Route], lookups: Iterable[Lookup]) -> Iterator[Reference]:
    for route in routes:
        for _, ask in route.questions:
            for template in (ask.id, ask.scope, *ask.attributes.values()):
                yield from template.references if template is not None else ()
    for lookup in lookups:
        yield from lookup.references


def _headers(found: Mapping[str, Template], mark: Mark, reader: Reader) -> tuple[tuple[bytes, Template], ...]:
    names = [name.lower() for name in found]
    if len(set(names)) != len(names):
        reader.fault(mark, "found one header twice, expected each once, whatever its case")
    if len(names) > MAX_HEADERS:
        reader.fault(mark, f"found {len(names)} headers, expected at most {MAX_HEADERS}")
    for name in found:
        if not is_reservable(name.lower().encode("ascii")):
            reader.fault(
                mark, f"found {name}, expected a header that tells of who asks and of nothing else, as Remote-User"
            )
    return tuple((name.encode("ascii"), template) for name, template in zip(names, found.values(), strict=True))
