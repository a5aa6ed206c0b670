"""`mode` of a route or an action in `routes.yaml`: its names, and the mode that it gives."""

from __future__ import annotations

import re
from typing import Any

from sidecar.config import units
from sidecar.config.shapes import Choice, Entry, Field, Record, Text, TextOr, Whole
from sidecar.gate.budget import Budget
from sidecar.gate.mode import EVERYBODY, MODES, RouteMode

_MODE = Choice(MODES)


def _share(text: str) -> int:
    match = re.fullmatch(r"(\d{1,3})%", text)
    if match is None or int(match[1]) > EVERYBODY:
        raise ValueError(f"found {text!r}, expected whole percents such as 10%")
    return int(match[1])


MOST_REFUSALS, MOST_PRINCIPALS = 1000, 50
BUDGET = Record(
    {
        "refusals": Field(Whole(1, MOST_REFUSALS), "unexpected refusals; one more spends the budget", None, True),
        "principals": Field(
            Whole(2, MOST_PRINCIPALS),
            "different principals who have to be among those refused, so that one cannot open the route alone", 5,
        ),
        "within": Field(Text(units.duration, what="a duration such as 10m"), "the time that is looked back on", 600.0),
    },
    "how many refusals that nobody expects are borne",
)  # fmt: skip
SHARE = Record(
    {
        "enforce": Field(
            Text(_share, what="whole percents such as 10%"),
            "the share of principals for whom the route enforces, by a hash of their id", None, True,
        ),
        "otherwise": Field(
            Choice(MODES[1:]), "the mode for the others, and for whoever is not identified", "shadow-policy"
        ),
        "budget": Field(
            BUDGET, "opens the route: more unexpected refusals than these put it into `otherwise` for everybody"
        ),
    },
    "a mode for a share of the principals",
)  # fmt: skip
MODE = Field(
    TextOr(_MODE, SHARE),
    "`enforce`, `shadow-policy` or `shadow`, in place of `SIDECAR_MODE`; or a mapping: `enforce` for a share alone",
)


def mode_of(said: Any) -> RouteMode | None:
    """Return the mode that is said, None where none is."""
    if said is None:
        return None
    if isinstance(said, Entry):
        return RouteMode(said["enforce"] or 0, said["otherwise"], _budget(said["budget"]))
    return RouteMode(EVERYBODY if said == "enforce" else 0, said)


def _budget(said: Entry | None) -> Budget | None:
    return None if said is None else Budget(said["refusals"] or 1, said["principals"], said["within"])
