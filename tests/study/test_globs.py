"""`study/globs.py`, held against Cerbos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.study.globs import is_glob, looks_like_glob, matches, overlap
from tests.stack import binary, older_binary
from tests.study.compiled import HEAD, results

GLOBS = [
    "*", "**", "view", "view*", "view:*", "view:**", "v?ew", "*:x", "v[aei]ew", "v[!aei]ew", "v[a-m]ew", "{view,edit}", "a.b",
    "v?e*", "v[aei]e*", "v[!aei]e*", "v[a-m]*", "{view,ed}*", "{v,x}*",
]  # fmt: skip
ACTIONS = ["view", "viewx", "view:x", "view:x:y", "vew", "edit", "voew", "v:ew", "a.b", "axb", "view:"]


@pytest.mark.parametrize("program", [binary, older_binary])
def test_a_glob_names_the_actions_that_it_names_to_cerbos(tmp_path: Path, program: Callable[[], Path]) -> None:
    """Each glob has a kind of its own."""
    for number, glob in enumerate(GLOBS):
        # a block: in JSON the older Cerbos takes braces within quotes for a fault
        (tmp_path / f"{number}.yaml").write_text(
            f"{HEAD}resourcePolicy:\n  resource: k{number}\n  version: default\n  rules:\n"
            f"    - effect: EFFECT_ALLOW\n      roles: [user]\n      actions:\n        - '{glob}'\n"
        )
    kinds = [f"k{number}" for number in range(len(GLOBS))]
    allowed = results(program(), tmp_path, kinds, ACTIONS)
    ours = {
        (kind, action) for kind, glob in zip(kinds, GLOBS, strict=True) for action in ACTIONS if matches(glob, action)
    }
    assert ours == allowed


def test_two_globs_may_overlap() -> None:
    assert overlap("view:*", "view:x")
    assert overlap("view", "*")
    assert overlap("view:*", "*:x")
    assert not overlap("view", "edit")
    assert not overlap("view:*", "edit:x")
    assert [is_glob(text) for text in ("view", "v*", "v?", "[v]", "{v}")] == [False, True, False, False, False]


def test_what_has_no_star_is_no_glob() -> None:
    assert [looks_like_glob(text) for text in ("view", "v*", "v?", "[v]", "{v}", "{v,*}")] == [
        False, False, True, True, True, False
    ]  # fmt: skip
