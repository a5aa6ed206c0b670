"""What a ratio could be at most, of the CPU of each process."""

from __future__ import annotations

import pytest

from bench.ceiling import PAIRS, ceiling, role_of, seconds
from bench.run import SHOTS


def test_a_request_takes_what_its_busiest_thread_takes_or_its_share_of_the_cores() -> None:
    assert seconds({"sidecar": 4.0, "cerbos": 2.0}, 2) == 4.0
    assert seconds({"sidecar": 4.0, "cerbos": 8.0}, 2) == 6.0
    # which has a thread for each core
    assert seconds({"sidecar": 1.0, "cerbos": 3.0}, 2) == 2.0


def test_a_goal_within_reach_says_how_much_of_our_cpu_may_be_left() -> None:
    peer = {"envoy": 5.0, "authorizer": 5.0, "cerbos": 6.0}
    assert ceiling({"sidecar": 4.0, "cerbos": 2.0}, peer, 4.0, 2) == (2.0, 8.0, 0.5)
    # the cores are the limit, and not our thread
    now, most, part = ceiling({"sidecar": 4.0, "cerbos": 6.0}, peer, 2.0, 2)
    assert (now, part) == (pytest.approx(1.6), pytest.approx(0.5))
    assert most == pytest.approx(8 / 3)


def test_a_goal_beyond_what_the_others_leave_says_so() -> None:
    found = ceiling({"sidecar": 4.0, "cerbos": 6.0}, {"envoy": 8.0, "cerbos": 8.0}, 3.0, 2)
    assert found.most < 3.0
    assert found.part == 0.0
    # another's one thread is the limit
    assert ceiling({"sidecar": 1.0, "envoy": 9.0}, {"envoy": 8.0}, 1.0, 2).part == 0.0


def test_processes_are_known_by_their_commands() -> None:
    commands = {
        "/x/cerbos-linux-x64 server --config=/tmp/cerbos-1/cerbos.yaml": "cerbos", "/x/.venv/bin/envoy -c /tmp/a.yaml": "envoy",
        "/x/python -m sidecar.cli run": "sidecar", "/x/python /x/bench/peers/authorizer.py 1": "authorizer",
        "nginx: worker process": "nginx", "/x/python -m moto": "",
    }  # fmt: skip
    assert {command: role_of(command) for command in commands} == commands


def test_each_load_of_a_pair_is_fired() -> None:
    assert {name for pair in PAIRS for name in (pair.load, pair.peer)} <= {shot.name for shot in SHOTS}
