"""Names that servers may take for one another, though they are written in two ways."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from typing import Any

_INVISIBLE = ("Cf", "Cc")


def folded(name: str) -> str:
    """`name` as a reader without case sees it: two names with the same folded form are one name to some server.

    It is NFKC with the case folded (Unicode section 3.13, D146: the long s, the Kelvin sign and full-width letters are
    ASCII letters), the two i's of Turkish as `i` (java.lang.String.equalsIgnoreCase takes them for one), and no
    character that cannot be seen, as a zero-width space, which cultural comparisons of .NET and ICU pass over. A NUL
    ends it, as for readers in C.
    """
    if name.isascii() and name.isprintable():
        return name.casefold()
    upper = unicodedata.normalize("NFKC", name.partition("\0")[0]).upper()
    plain = unicodedata.normalize("NFKC", upper.casefold()).replace("\u0307", "")
    return "".join(char for char in plain if unicodedata.category(char) not in _INVISIBLE)


def respelled(value: Any, names: Iterable[str]) -> str | None:
    """A name in a JSON value, at any depth, that is not in `names` and that a reader without case takes for one of
    them."""
    exact = frozenset(names)
    wanted = {folded(name) for name in exact}
    rest = [value]
    while rest:
        part = rest.pop()
        if isinstance(part, dict):
            for name in part:
                if name not in exact and folded(name) in wanted:
                    return str(name)
            rest += part.values()
        elif isinstance(part, list):
            rest += part
    return None


def are_distinct(names: Collection[str]) -> bool:
    """Return whether no reader can take one of these names, all different, for another."""
    together = "".join(names)
    if together.isascii() and together.isprintable():
        # names without capitals are folded already
        return together == together.lower() or len(set(map(str.casefold, names))) == len(names)
    return len(set(map(folded, names))) == len(names)


_STEPS = re.compile(r"[\[\].:]+")


def steps_of(name: str) -> list[str]:
    """The names that a parameter may have for frameworks that read nested ones, folded: `a[b]` and `a.b` are `a`, with
    something in it, or `a_b`; `[a]`, ` a`, `a[]` and Spring's `!a` are `a`, and so are Zope's `a:int` and FHIR's
    `a:exact`."""
    steps = [step.strip().replace(" ", "_") for step in _STEPS.split(folded(name).lstrip("! "))]
    named = [step for step in steps if step]
    return ["_".join(named[:count]) for count in range(1, len(named) + 1)]
