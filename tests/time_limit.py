"""A plugin that ends a process of tests where one test takes too long, and says where it was. `pytest -p tests.time_limit`

pytest's own limit starts a thread for each test and waits for its end, a tenth of what a short test takes: the clock of the
process has no thread.
"""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Generator

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting `time_limit`."""
    parser.addini("time_limit", "seconds for one test; its process ends where it takes longer", default="0")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have the signal of the clock write where all threads are, and then end the process as it does."""
    faulthandler.register(signal.SIGALRM, file=config.stash[fault_handler_stderr_fd_key], chain=True)


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    """Leave the signal as it was."""
    faulthandler.unregister(signal.SIGALRM)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Set the clock for a test."""
    signal.setitimer(signal.ITIMER_REAL, float(item.config.getini("time_limit")))
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.hookimpl(tryfirst=True)
def pytest_enter_pdb() -> None:
    """Let somebody look for as long as it takes."""
    signal.setitimer(signal.ITIMER_REAL, 0)
