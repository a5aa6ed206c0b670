"""Generator of GraphQL documents, whole and damaged, of the shapes at which two readers could differ."""

from __future__ import annotations

from random import Random

_NAMES = ["a", "b", "id", "on", "query", "true", "null", "_x", "F0", "F1", "fragment"]
_GAPS = [" ", " ", "\n", ", ", "\r\n", " #x}\n", "\t"]
_TAGS = ["", "", "", "@skip(if:true)", "@include(if:$v)", "@skip(if:false)@include(if:true)"]
_SCALARS = [
    "0", "7", "-7", "12345678901234567890", "1.5", "-0.25", "1e3", "2.5E-3", "true", "false", "null", "E", "$v", "$w", '""', '""""""', '"x"', '"é \\t#{"',
    r'"\u0041\n\\"', r'"\uD83D\uDE00"', r'"\u{1F600}"', '"# } {"', '"""\n a\n  b\n"""', '"""\\"""}"""', '"""  x\r\n   y\n\n  """', '""" " "" # """',
]  # fmt: skip
_PIECES = [
    "{", "}", "(", ")", '"', '"""', "\\", "#", "\n", "\r\n", "...", "on ", "a", ":", "$v", "@skip", "fragment F0 on Q", "\ufeff", "1", "-", ".", "[", "]",
    "!", "=", "\u2028", ",", "é", " ", "\\u", "null", "query", "{a}", "x:", "(a:1)", '"""\\"""',
]  # fmt: skip


def _value(rng: Random, depth: int = 2) -> str:
    kind = rng.randrange(6) if depth else 5
    if kind == 0:
        return "[" + rng.choice(_GAPS).join(_value(rng, depth - 1) for _ in range(rng.randrange(4))) + "]"
    if kind == 1:
        return "{" + _members(rng, depth - 1) + "}"
    return rng.choice(_SCALARS)


def _members(rng: Random, depth: int) -> str:
    names = rng.sample(_NAMES, rng.randrange(1, 4))
    return rng.choice(_GAPS).join(f"{name} :{_value(rng, depth)}" for name in names)


def _selections(rng: Random, fragments: list[str], depth: int = 2) -> str:
    parts = []
    for _ in range(rng.randint(1, 3)):
        kind = rng.randrange(6)
        if kind == 0 and fragments:
            parts.append(f"...{rng.choice(fragments)}{rng.choice(_TAGS)}")
        elif kind == 1 and depth:
            on = rng.choice(["", "on Query", " on T "])
            parts.append(f"...{on}{rng.choice(_TAGS)}{_selections(rng, fragments, depth - 1)}")
        else:
            alias = rng.choice(["", "", "x:", "y : "])
            inner = _selections(rng, fragments, depth - 1) if depth and rng.random() < 0.4 else ""
            arguments = f"({_members(rng, 2)})" if rng.random() < 0.4 else ""
            parts.append(f"{alias}{rng.choice(_NAMES)}{arguments}{rng.choice(_TAGS)}{inner}")
    return "{" + rng.choice(_GAPS).join(parts) + rng.choice(_GAPS) + "}"


def document(rng: Random) -> str:
    """A document of one or two operations and three fragments, of which now and then one is a part of itself."""
    kind = rng.choice(["query", "mutation", "subscription"])
    head = rng.choice(["", f"{kind} Q", kind, f"{kind} Q($v:Boolean=true,$w:[ID!]!)"])
    more = [f"query R{_selections(rng, ['F2'], 1)}"] if " Q" in head and rng.random() < 0.5 else []
    spread = [["F1", "F2"], ["F2"], []] if rng.random() < 0.95 else [["F1"], ["F2"], ["F0"]]
    fragments = [f"fragment F{n} on Query{_selections(rng, spread[n], 2)}" for n in range(3)]
    return rng.choice(_GAPS).join([head + _selections(rng, ["F0", "F1", "F2"]), *fragments, *more])


def damaged(rng: Random, text: str) -> str:
    """The document with a few of its characters gone, and others in it."""
    for _ in range(rng.randint(1, 2)):
        at = rng.randint(0, len(text))
        text = text[:at] + rng.choice(["", *_PIECES]) + text[at + rng.randrange(3) :]
    return text
