"""`upstreams` of `routes.yaml`, and `hosts` and `upstream` of its entries: their names, and the apps that they give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sidecar.config import parsers, units
from sidecar.config.shapes import Entry, Field, ListOf, MapOf, Mark, Reader, Record, Short, Text
from sidecar.config.suggest import did_you_mean
from sidecar.gate.hosts import entries_for, without_port
from sidecar.gate.verdict import Destination
from sidecar.wire.grammar import is_host

NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_DURATION = Text(units.duration, what="a duration such as 300ms or 2s")
_FILE = Text(pattern=r".+", what="the name of a PEM file")


def _url(text: str) -> str:
    try:
        return parsers.url(text)
    except ValueError as error:
        raise ValueError(f"found {text!r}, {error}") from None


def _server_name(text: str) -> str:
    try:
        return parsers.server_name(text)
    except ValueError as error:
        raise ValueError(f"found {text!r}, {error}") from None


def _host(text: str) -> str:
    """A host in its one spelling: in lower case, without a dot at the end."""
    host = text.lower()
    name = host.removeprefix("*.")
    if not is_host(name.encode("utf-8")) or "" in without_port(name).split("."):
        raise ValueError(
            f"found {text!r}, expected a host such as crm.example.com, crm.example.com:8443 or *.example.com, in ASCII "
            "(`xn--…`) and without a dot at its end"
        )
    return host


UPSTREAM = Record(
    {
        "url": Field(
            Text(_url, what="http(s)://host:port or unix:/path"),
            "where the app is: `http(s)://host:port`, or `unix:/path`", "", True,
        ),
        "ca": Field(_FILE, "PEM file of the CAs that it may be signed by; the system's without it", ""),
        "certificate": Field(_FILE, "PEM file of our own certificate, where it asks for one", ""),
        "key": Field(_FILE, "PEM file of its key, without a pass phrase", ""),
        "server_name": Field(
            Text(_server_name, what="a host's name"),
            "name that it is asked for, and that its certificate must have", "",
        ),
        "connect_timeout": Field(_DURATION, "for a connection; `SIDECAR_UPSTREAM_CONNECT_TIMEOUT` without it"),
        "head_timeout": Field(_DURATION, "for the head of an answer; `SIDECAR_UPSTREAM_HEAD_TIMEOUT` without it"),
        "idle_timeout": Field(
            _DURATION, "between two pieces of an answer; `SIDECAR_UPSTREAM_IDLE_TIMEOUT` without it"
        ),
    },
    "one of several apps; nothing of `SIDECAR_UPSTREAM_CA` and its kin is for it",
)  # fmt: skip
UPSTREAMS = Field(
    MapOf(Short(UPSTREAM, "url"), NAME, "an upstream's name"),
    "apps by name besides `SIDECAR_UPSTREAM`: a URL, or a mapping where the connection needs more", {},
)  # fmt: skip
HOSTS = ListOf(Text(_host, what="a host"), 1, single=True)
OF_ROUTE = {
    "hosts": Field(
        HOSTS,
        "only for these hosts, with `*.` for any first label; without it for all. Where any route has them, another "
        "host is 421, unless `SIDECAR_HOSTS` lists it", (),
    ),
    "upstream": Field(
        Text(pattern=NAME, what="the name of an upstream"), "the app behind it, a name of `upstreams`; without it "
        "`SIDECAR_UPSTREAM`", "",
    ),
}  # fmt: skip
OF_IDENTITY = Field(HOSTS, "only at these hosts, where tokens of others are nobody's; without it at all", ())


def read_upstreams(entries: Mapping[str, Entry], reader: Reader) -> dict[str, Destination]:
    """The apps of `upstreams` by name. One whose URL could not be read is known all the same, and what leads to it is
    not called a fault."""
    return {name: _destination(name, entry, reader) for name, entry in entries.items()}


def _destination(name: str, entry: Entry, reader: Reader) -> Destination:
    of_tls = [field for field in ("ca", "certificate", "key", "server_name") if entry[field]]
    if of_tls and entry["url"] and not entry["url"].startswith("https:"):
        reader.fault(entry.at(of_tls[0]), f"found it for {entry['url']}, expected it for an https upstream alone")
    if bool(entry["certificate"]) != bool(entry["key"]):
        reader.fault(entry.mark, "found one of `certificate` and `key`, expected both or none")
    return Destination(name, entry["url"] or "", *(entry[field] for field in Destination._fields[2:]))


def hosts_of(entry: Entry, reader: Reader) -> tuple[str, ...]:
    """The hosts of an entry, each once."""
    found: list[str] = []
    for host in entry["hosts"]:
        if host in found:
            reader.fault(entry.at("hosts"), f"found {host!r} twice, expected it once")
        else:
            found.append(host)
    return tuple(found)


def upstream_of(entry: Entry, upstreams: Mapping[str, Destination], reader: Reader) -> Destination | None:
    """The app of a route, None for that of the settings."""
    name = entry["upstream"]
    if not name or name in upstreams:
        return upstreams.get(name)
    known = f"one of {', '.join(upstreams)}" if upstreams else "a name of `upstreams`, which the file has not"
    reader.fault(entry.at("upstream"), f"found {name!r}, expected {known}{did_you_mean(name, upstreams)}")
    return None


def warn_unused(entries: Mapping[str, Entry], used: Iterable[Destination | None], reader: Reader) -> None:
    """Warn of apps to which nothing leads."""
    names = {each.name for each in used if each is not None}
    for name, entry in entries.items():
        if name not in names:
            reader.warn(entry.at("url"), "found no route that leads to it, expected one with `upstream`, or it removed")


class PlacedHosts(NamedTuple):
    """Hosts of one entry, and their place."""

    mark: Mark
    hosts: tuple[str, ...]

    def unlisted(self, listed: frozenset[str]) -> tuple[str, ...]:
        """Return the hosts that `SIDECAR_HOSTS` turns away whatever their port or first label is."""
        narrower = {entry for host in listed for entry in entries_for(host)}
        return tuple(
            host for host in self.hosts if host not in narrower and listed.isdisjoint(entries_for(host))
        )  # fmt: skip


def placed_hosts(entries: Iterable[Entry]) -> tuple[PlacedHosts, ...]:
    """The hosts of entries that name some, as far as they could be read."""
    return tuple(PlacedHosts(entry.at("hosts"), tuple(entry["hosts"])) for entry in entries if entry["hosts"])


def check_overlaps(entries: Iterable[PlacedHosts], reader: Reader) -> None:
    """See that of the hosts of `identity` no wildcard stands for a host of another: whose tokens were good there would
    depend on how one reads it. Warn of a host that several name."""
    listed, known = list(entries), dict[str, list[Mark]]()
    for mark, hosts in listed:
        for host in hosts:
            if host in known:
                reader.warn(mark, f"found {host!r}, as in line {known[host][0].line}: tokens of both pass there")
            known.setdefault(host, []).append(mark)
    for mark, hosts in listed:
        for host in hosts:
            others = [
                (wider, other) for wider in entries_for(host)[1:] for other in known.get(wider, ()) if other != mark
            ]
            for wider, other in others[:1]:
                reader.fault(
                    mark, f"found {host!r}, which {wider!r} in line {other.line} stands for too, expected each host in "
                    "one of them",
                )  # fmt: skip
