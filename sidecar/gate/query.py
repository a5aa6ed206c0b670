"""The query of a request: the one value of a name, the names that a client may send, and those that the sidecar sets.

Frameworks differ in whether case, a `[` or a `.` in a name matters, in which of several they take, and in whether `;`
separates. A name is what it says only where none of them can take it for another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from sidecar.gate.codes import Code
from sidecar.gate.values import utf8_text
from sidecar.gate.verdict import Refused
from sidecar.wire.spelling import folded, steps_of
from sidecar.wire.urlencoded import UNCLEAR, decoded, has_later_name

MAX_PARAMETERS = 256
"""Of a query that is read."""


class QueryRule(NamedTuple):
    """Names that a query may have: `names` as a form decodes them, None for any. A pair that a server may take for one
    of `removed`, in the form of `taken_for`, is taken out, whatever `names` says. `given`: the file says `query`."""

    names: frozenset[bytes] | None
    removed: frozenset[str] = frozenset()
    given: bool = True


def rule_of(names: Iterable[str] | None, removed: Iterable[str], *, given: bool = True) -> QueryRule:
    """The rule for names as `routes.yaml` has them. None allows any name."""
    gone = frozenset(_plain(name) for name in removed)
    if names is None:
        return QueryRule(None, gone, given)
    return QueryRule(frozenset(name.encode("ascii") for name in names if not taken_for(name) & gone), gone, given)


def admitted(query: bytes, rule: QueryRule) -> bytes:
    """The query that may go on, byte for byte what came but for the pairs that are removed.

    Raises Refused(QUERY_NOT_ALLOWED) for a name that the rule has not, and for one that cannot be read in one way.
    """
    names, removed = rule.names, rule.removed
    if names is None and not removed:
        return query
    if b";" in query:
        raise Refused(Code.QUERY_NOT_ALLOWED, "a ';', which separates parameters for some servers")
    if query.count(b"&") >= MAX_PARAMETERS:
        raise Refused(Code.QUERY_NOT_ALLOWED, f"more than {MAX_PARAMETERS} parameters")
    pairs = query.split(b"&")
    kept = [pair for pair in pairs if _stays(pair, names, removed)]
    return query if len(kept) == len(pairs) else b"&".join(kept)


def _stays(pair: bytes, names: frozenset[bytes] | None, removed: frozenset[str]) -> bool:
    raw = pair.partition(b"=")[0]
    # no allowed name has an escape, and none may be taken for one that is removed
    if (names is not None and raw in names) or not pair:
        return True
    name = _name(raw)
    if not taken_for(name).isdisjoint(removed):
        return False
    if names is not None and name.encode("utf-8") not in names:
        raise Refused(
            Code.QUERY_NOT_ALLOWED, f"found the parameter {name[:64]!r}, expected one that the route's `query` names"
        )
    return True


def _name(raw: bytes) -> str:
    try:
        name = _form(raw).decode("utf-8")
    except (Refused, UnicodeDecodeError):
        raise Refused(Code.QUERY_NOT_ALLOWED, f"a name that is not UTF-8 in whole escapes: {raw[:64]!r}") from None
    if UNCLEAR.search(name):
        raise Refused(Code.QUERY_NOT_ALLOWED, "a control character, or an escape of an escape, in a name")
    return name


MAX_NAMES = 32
"""Names of one query that a record shows."""
UNNAMED = "*"
"""Sign in a record for parameters whose names are not shown."""
_SHOWN = re.compile(r"(?:[$@]|[^\W\d])[\w.$:\[\]-]{0,63}")


def shown_names(query: bytes) -> tuple[str, ...]:
    """The names in a query for a record, each once and no value: one that is no plain name is `UNNAMED`."""
    if not query:
        return ()
    pairs = query.split(b"&", MAX_PARAMETERS)[:MAX_PARAMETERS]
    names = dict.fromkeys([_shown_name(pair) for pair in pairs if pair])
    return (*list(names)[:MAX_NAMES],)


def _shown_name(pair: bytes) -> str:
    raw, equals, _ = pair.partition(b"=")
    try:
        name = _form(raw).decode("utf-8")
    except (Refused, UnicodeDecodeError):
        return UNNAMED
    # a token alone would pass for a name
    return name if equals and _SHOWN.fullmatch(name) else UNNAMED


def with_values(query: bytes, values: Iterable[tuple[str, str]]) -> bytes:
    """`query` with these parameters after it, their values percent-encoded."""
    added = "&".join(f"{name}={quote(value, safe='')}" for name, value in values).encode("ascii")
    return query + b"&" + added if query else added


def query_value(query: bytes, name: str) -> str | None:
    """The one value of a query parameter, decoded as a form does; None where no server can find it in the query.

    Raises Refused(REFERENCE_INVALID) where the name comes twice, or in a spelling that only some take for it.
    """
    found = query_values(query, name)
    if len(found) > 1:
        raise Refused(Code.REFERENCE_INVALID, f"query.{name}: found {len(found)}, expected one")
    return found[0] if found else None


def query_values(query: bytes, name: str) -> list[str]:
    """All values of a query parameter, in order and decoded as a form does. Raises Refused(REFERENCE_INVALID) where one
    has a spelling that only some take for the name."""
    place = f"query.{name}"
    if b";" in query:
        raise Refused(Code.REFERENCE_INVALID, f"{place}: a ';' in the query")
    if query.count(b"&") >= MAX_PARAMETERS:
        raise Refused(Code.REFERENCE_INVALID, f"{place}: more than {MAX_PARAMETERS} parameters")
    pairs = [pair.partition(b"=") for pair in query.split(b"&")]
    keys = [utf8_text(_form(key), place) for key, _, _ in pairs]
    if any(UNCLEAR.search(key) for key in keys):
        raise Refused(Code.REFERENCE_INVALID, f"{place}: a control character, or an escape of an escape, in a name")
    wanted = names_of(name).whole
    found = [pair[2] for key, pair in zip(keys, pairs, strict=True) if not names_of(key).all.isdisjoint(wanted)]
    if found != [value for key, _, value in pairs if _form(key) == name.encode("ascii")]:
        raise Refused(Code.REFERENCE_INVALID, f"{place}: found another spelling of the name")
    if any(map(has_later_name, found)):
        raise Refused(Code.REFERENCE_INVALID, f"{place}: ']=' in the value, to which a name reaches for some servers")
    return [utf8_text(_form(value), place) for value in found]


def _form(data: bytes) -> bytes:
    try:
        return decoded(data)
    except ValueError as error:
        raise Refused(Code.REFERENCE_INVALID, f"{error} in the query") from None


_MANGLED = str.maketrans(". [", "___")
_BRACKETS = re.compile(r"[\[\]]*([^\[\]]*)")


def _plain(name: str) -> str:
    return folded(name).translate(_MANGLED)


def taken_for(key: str) -> set[str]:
    """The names that a key may have to a framework, folded and with '_' for '.', ' ' and a '[' that nothing closes.

    `a[b]` is `a` to PHP, qs and Rack; `[a]` is `a` to qs and Rack, and `a]` to Rack; `a:b` is `a` to Zope and FHIR.
    """
    plain = folded(key).strip()
    inner = _BRACKETS.match(plain)
    first = inner[1] if inner is not None else plain
    typed = plain.partition(":")[0]
    return {first.strip().translate(_MANGLED), typed.strip().translate(_MANGLED), plain.translate(_MANGLED)}


# most names: they mean nothing but themselves
_ONE_NAME = re.compile(r"[a-z0-9_-]+", re.ASCII | re.IGNORECASE)


class FoldedNames(NamedTuple):
    """Names that a parameter or a field may have to frameworks, folded: `all` of them, and those that are it as a
    whole, not what holds it."""

    all: frozenset[str]
    whole: frozenset[str]


def names_of(key: str) -> FoldedNames:
    """The names that a key may have, those of what it is nested in among them: `a[b]` and `a.b` are in `a`."""
    if _ONE_NAME.fullmatch(key):
        one = frozenset((key.casefold(),))
        return FoldedNames(one, one)
    steps = steps_of(key)
    return FoldedNames(frozenset(taken_for(key)).union(steps), frozenset((_plain(key), *steps[-1:])))


def are_one(first: FoldedNames, second: FoldedNames) -> bool:
    """Return whether some framework may take one of two for the other, or for what holds it."""
    return not (first.all.isdisjoint(second.whole) and second.all.isdisjoint(first.whole))
