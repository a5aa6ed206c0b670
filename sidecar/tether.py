"""Run as a script: `tether.py PARENT COMMAND...` becomes COMMAND, which the kernel kills when process PARENT dies.

A script and not a function between fork and exec: that may deadlock in a process that has threads.
It imports nothing of the package, so that it starts in a few milliseconds.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def tether(parent: int) -> None:
    """Ask for SIGKILL at the death of `parent`, where the kernel can do that (Linux); end here if it is dead already.

    prctl(2): the setting is kept across execve, and the signal comes when the *thread* that started us ends.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(f"process {parent} is gone")


def tethered(command: Sequence[str]) -> list[str]:
    """The command that becomes `command`, tied to the process that calls this."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


if __name__ == "__main__":
    tether(int(sys.argv[1]))
    # who is asked to reload before it has learnt how is not to end by it
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - our own command line, given as a list
