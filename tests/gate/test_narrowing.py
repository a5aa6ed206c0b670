"""What a port says in place of nothing changes nothing."""

from __future__ import annotations

from sidecar.gate.narrowing import Narrowed


def test_nothing_is_pushed_unless_it_is_said() -> None:
    assert Narrowed() == ((), (), "none", False)
