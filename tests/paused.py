"""Processes that stand still for a while, as a peer that hangs does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stack import wait_for


def pause(*pids: int) -> None:
    """Stop these processes, and return once no thread of them runs.

    A signal only asks for it: one thread of the process must be given a processor to take the signal before the others stop.
    On a busy machine they go on for 60 ms until then, and answer.
    """
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(map(stands_still, pids)), what=f"{pids} stand still")


def resume(*pids: int) -> None:
    """Let these processes go on."""
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def paused(*pids: int) -> Iterator[None]:
    """Stop these processes until the end of the block."""
    try:
        pause(*pids)
        yield
    finally:
        resume(*pids)


def stands_still(pid: int) -> bool:
    """Each thread is stopped (proc(5): state T)."""
    return all(
        (task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in Path(f"/proc/{pid}/task").iterdir()
    )
