"""JSON values for properties."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

LEVELS = 8


def json_values(
    scalars: st.SearchStrategy[Any], names: st.SearchStrategy[str], most: int = 4
) -> st.SearchStrategy[Any]:
    """Lists, objects and scalars in each other, most of them no scalar. `st.recursive` counts leaves, and draws anew where
    there are too many: of values as large as these it takes two to three times as long."""
    # of five kinds of scalars and two others most are scalars, so that a value is small all the same
    values = scalars
    for _ in range(LEVELS):
        values = st.one_of(scalars, *_of(values, names, most))
    # one choice of three, where `values` itself would be seven of nine
    return st.one_of(st.tuples(values).map(lambda one: one[0]), *_of(values, names, most))


def _of(
    values: st.SearchStrategy[Any], names: st.SearchStrategy[str], most: int
) -> tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]:
    return st.lists(values, max_size=most), st.dictionaries(names, values, max_size=most)
