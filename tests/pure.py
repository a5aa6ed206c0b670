"""A plugin for `make check`: only tests that start no process. `pytest -p tests.pure`

A file that names a way to start one is not read, unless it marks the tests that do. A test with a mark or a fixture of a
process is left out, and one that starts a process all the same fails and says so: no list of files has to be kept.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

FOLDERS = {"apps", "browser", "demo", "deploy", "faults", "foreign", "hostile"}
"""Folders whose tests share processes through modules of their own."""
WAYS = re.compile(
    r"\b(subprocess|running_sidecar|EmbeddedCerbos|real_cerbos|LocalCognito|HostedUI|binary\(\)|tests\.study\.compiled|commands\.sidecar|tests import guide_commands)"
)
MARKED = re.compile(r"(?m)^@pytest\.mark\.process$")
FIXTURES = {"session_stack", "cognito", "redis_process", "cerbos"}
"""Fixtures that start a process."""
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
"""Events of Python's audit (PEP 578)."""
_refused = False


def refuse(event: str, _: object) -> None:
    """Raises RuntimeError where a process is about to be started."""
    if event in STARTS:
        raise RuntimeError("this test starts a process: mark it with `process`, and `make check` leaves it out")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Refuse processes from now on: the first test begins, in a process that runs tests."""
    global _refused
    if not _refused:
        sys.addaudithook(refuse)
        _refused = True


def starts(path: Path) -> bool:
    """True for a file with tests that start processes: it names a way to, and marks no single tests."""
    text = path.read_text()
    return WAYS.search(text) is not None and not MARKED.search(text)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out whole files: the import of one may take longer than the tests of ten others."""
    if collection_path.is_dir():
        return True if collection_path.name in FOLDERS else None
    return True if collection_path.suffix == ".py" and starts(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out single tests, and what is measured or takes seconds."""
    left_out = [item for item in items if _left_out(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _left_out(item: pytest.Item) -> bool:
    marked = any(item.get_closest_marker(name) for name in ("process", "slow", "alone"))
    return marked or not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
