"""A paused process does nothing more, however busy the machine is."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack

from tests.paused import paused, stands_still

BUSY = "while True: pass"
MANY = f"import threading\nfor _ in range(2): threading.Thread(target=exec, args=({BUSY!r},)).start()\n"


def test_no_thread_runs_once_a_process_is_paused() -> None:
    """It shares a processor with another process that leaves little of it."""
    with ExitStack() as stack:
        one, other = (stack.enter_context(subprocess.Popen([sys.executable, "-c", text])) for text in (MANY, BUSY))
        stack.callback(one.kill)
        stack.callback(other.kill)
        for process in (one, other):
            os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
        os.sched_setscheduler(one.pid, os.SCHED_IDLE, os.sched_param(0))
        for _ in range(3):
            with paused(one.pid):
                assert stands_still(one.pid)
        assert not stands_still(one.pid)
