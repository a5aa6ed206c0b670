"""Secrets that protect nothing: those that documents show, and those that nobody drew at random."""

from __future__ import annotations

import re
from itertools import pairwise
from urllib.parse import urlsplit

# a variable or a mark that nobody filled in
_MARKS = r"<[^<>]+>|\$[({]|\.\.\.|\*{3,}"
_IN_THEIRS = re.compile(rf"placeholder|change[-_ ]?me|replace[-_ ]?(?:me|this)|{_MARKS}", re.IGNORECASE)
"""In a secret that somebody else gave out: only what nobody gives out."""
_IN_OURS = re.compile(
    rf"openssl|example|replace|characters|your[-_ ]|insert[-_ ]|super[-_ ]?secret|secret[-_ ]?key|{_IN_THEIRS.pattern}",
    re.IGNORECASE,
)
"""In 44 random characters of base64 one of these stands once in some hundred million times."""
_NOTHING = frozenset(["none", "null", "nil", "undefined", "todo", "tbd", "x", "xxx"])
_LEAST = 8
"""Different characters, and different steps from one to the next; 32 random hexadecimal digits have some 14 and 18."""
PUBLISHED = frozenset(["cerbos:cerbosAdmin", "authz:authz"])
"""Credentials of the Admin API that stand in Cerbos' documentation and in our manifests."""


def require_own(secret: str, make: str) -> str:
    """A secret that somebody else chose. `make` says how to get one. Raises ValueError for a placeholder."""
    return _required(secret, make, _IN_THEIRS)


def require_drawn(secret: str, make: str) -> str:
    """A secret that is ours alone, to be drawn at random. Raises ValueError for a placeholder."""
    return _required(secret, make, _IN_OURS)


def require_own_password(url: str, make: str) -> str:
    """The URL. Raises ValueError where its password is a placeholder."""
    try:
        password = urlsplit(url).password
    except ValueError:
        raise ValueError("expected a URL") from None
    require_own(password or "", make)
    return url


def is_regular(secret: str) -> bool:
    """Return True for a text with a rule in it: few different characters, counted up, or one piece again and again."""
    steps = {ord(after) - ord(before) for before, after in pairwise(secret)}
    return len(set(secret)) < _LEAST or len(steps) < _LEAST or secret in (secret + secret)[1:-1]


def _required(secret: str, make: str, placeholders: re.Pattern[str]) -> str:
    found = placeholders.search(secret)
    # never show more of a secret than the word that makes it unusable
    word = found[0] if found else secret if secret.lower() in _NOTHING else ""
    if word:
        raise ValueError(f"found a placeholder (it has {word[:16]!r} in it), expected a secret of your own: {make}")
    return secret
