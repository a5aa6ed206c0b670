"""A plugin that runs tests in several processes, which fork after one collection. `pytest -p tests.forks --forks 3`

Processes of pytest-xdist collect everything for themselves, 13 s of CPU each, and agree with one that hands out tests and hears
of each result as it comes, which takes as long as most tests here do. A fork has what was collected, takes the next group of
tests from a pipe, and tells of a test once, when it is over.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import pickle
import signal
import struct
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, NoReturn

import pytest
from _pytest.capture import CaptureManager

from sidecar.tether import tether

GROUPS = {
    "tests/browser/": "browser",
    "tests/deploy/test_image.py": "engine",
    "tests/deploy/test_compose.py": "engine",
    "tests/deploy/test_k8s_pod.py": "engine",
    "tests/deploy/test_k8s_injected.py": "engine",
    "tests/test_mcp": "mcp",
}
"""Files that run in one process: they share one browser with its sites, or one container engine, its images and its ports, or
packages that take two seconds to import."""
LONGEST = (
    "tests/deploy/test_image.py", "tests/deploy/test_compose.py", "tests/deploy/test_k8s", "tests/browser/", "tests/pdp/test_policy_reload.py",
    "tests/hostile/", "tests/demo/", "tests/test_overload.py", "tests/deploy/", "tests/run/test_serving.py", "tests/study/test_lint.py",
    "tests/pages/test_login.py", "tests/foreign/", "tests/test_policies.py", "tests/test_big_bodies.py", "tests/test_promises.py",
    "tests/test_strict.py", "tests/test_remembered.py", "tests/run/", "tests/test_cli.py", "tests/test_policies_guide.py", "tests/pdp/",
    "tests/faults/", "tests/plans/test_witness.py", "tests/study/test_plannable_policies.py", "tests/sessions/test_redis.py",
    "tests/record/test_metrics.py", "tests/doors/test_websocket.py", "tests/net/",
)  # fmt: skip
"""What takes longest, in the order in which it begins, so that no process is left with it alone; all the rest is short."""


def group_of(nodeid: str) -> str:
    """The name under which tests run in one process: their file, or a group of files."""
    return next((group for start, group in GROUPS.items() if nodeid.startswith(start)), nodeid.partition("::")[0])


def rank_of(nodeid: str) -> int:
    """The place of a test's file among those that begin first."""
    return next((rank for rank, start in enumerate(LONGEST) if nodeid.startswith(start)), len(LONGEST))


_NUMBER = struct.Struct("=i")
_NOTHING = -1
"""In the place of a test's number: this process runs none."""
_FOLDER = "fork-"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--forks`."""
    parser.addoption(
        "--forks", type=int, default=0, metavar="N", help="run tests in N processes, a group of them in one"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests that were collected; one process, or none to run in, is pytest's own affair."""
    count = session.config.option.forks
    if not count or session.config.option.collectonly or session.testsfailed:
        return None
    groups = groups_of(session.items)
    beside = [group for group in groups if not _is_alone(session.items[group[0]])]
    for some, forks in ((beside, count), ([group for group in groups if group not in beside], 1)):
        if some:
            Run(session, some, forks).run()
    return True


@dataclass
class Fork:
    """A process that runs tests, from our side."""

    pid: int
    said: Connection


class Queue:
    """Numbers that are put before processes fork, each of which is taken by one of them: a pipe, of which reads are whole where
    writes were. It holds 16,384 of them."""

    def __init__(self) -> None:
        self._from, self._to = os.pipe()

    def put(self, number: int) -> None:
        """Put one at the end."""
        os.write(self._to, _NUMBER.pack(number))

    def end(self) -> None:
        """Put no more. What is there has been taken once all have said so."""
        os.close(self._to)

    def close(self) -> None:
        """Take none."""
        os.close(self._from)

    def taken(self) -> Iterator[int]:
        """Take each that nobody has taken."""
        while taken := os.read(self._from, _NUMBER.size):
            yield int(_NUMBER.unpack(taken)[0])


class Run:
    """A run of some groups of tests. Each test has its number among those that were collected."""

    def __init__(self, session: pytest.Session, groups: list[list[int]], count: int) -> None:
        self._session = session
        self._groups = groups
        self._forks = min(count, len(groups))
        self._untold = {number for group in groups for number in group}
        self._longest = Queue()
        self._others = Queue()
        # where each process is, and whether all are to stop
        self._shared = mmap.mmap(-1, _NUMBER.size * (self._forks + 1))

    def run(self) -> None:
        """Run the tests, and tell of each. Raises what pytest raises where the run is to stop early."""
        for number, group in enumerate(self._groups):
            long = rank_of(self._session.items[group[0]].nodeid) < len(LONGEST)
            (self._longest if long else self._others).put(number)
        base = self._session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        forks = [self._fork(place, base) for place in range(1, self._forks + 1)]
        for queue in (self._longest, self._others):
            queue.end()
            queue.close()
        try:
            self._listen({fork.said: place for place, fork in enumerate(forks, 1)})
        except KeyboardInterrupt:
            # they are groups of their own, as a terminal tells all of one group, and a second time would end their ends
            for fork in forks:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(fork.pid, signal.SIGINT)
            raise
        finally:
            self._put(0, 1)
            for fork in forks:
                os.waitpid(fork.pid, 0)
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)
        if self._untold:
            self._fail(min(self._untold), f"not run, like {len(self._untold) - 1} others: their processes ended before")

    # --- what all processes see ---

    def _put(self, place: int, number: int) -> None:
        _NUMBER.pack_into(self._shared, _NUMBER.size * place, number)

    def _get(self, place: int) -> int:
        return int(_NUMBER.unpack_from(self._shared, _NUMBER.size * place)[0])

    # --- the process that tells ---

    def _listen(self, open_: dict[Connection, int]) -> None:
        hook = self._session.config.hook
        while open_:
            for ready in wait(list(open_)):
                assert isinstance(ready, Connection)
                place = open_[ready]
                try:
                    number, about = pickle.loads(ready.recv_bytes())
                except EOFError:
                    del open_[ready]
                    ready.close()
                    if (number := self._get(place)) != _NOTHING:
                        self._fail(number, "its process ended in this test")
                    continue
                if number == _NOTHING:
                    hook.pytest_warning_recorded.call_historic(kwargs=about)
                    continue
                self._untold.discard(number)
                reports = [self._report_of(told) for told in about]
                # as it says: a test finds out where it is by looking at files
                nodeid, location = reports[0].nodeid, reports[0].location
                hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
                for report in reports:
                    hook.pytest_runtest_logreport(report=report)
                hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)
                if self._session.shouldfail or self._session.shouldstop:
                    self._put(0, 1)

    def _report_of(self, told: pytest.TestReport | dict[str, Any]) -> pytest.TestReport:
        if isinstance(told, pytest.TestReport):
            return told
        report = self._session.config.hook.pytest_report_from_serializable(config=self._session.config, data=told)
        assert isinstance(report, pytest.TestReport)
        return report

    def _fail(self, number: int, why: str) -> None:
        self._untold.discard(number)
        item = self._session.items[number]
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
        self._session.config.hook.pytest_runtest_logreport(report=report)

    # --- a process that runs tests ---

    def _fork(self, place: int, base: Path) -> Fork:
        hears, says = Pipe(duplex=False)
        sys.stdout.flush()
        sys.stderr.flush()
        self._put(place, _NOTHING)
        parent = os.getpid()
        if pid := os.fork():
            says.close()
            return Fork(pid, hears)
        hears.close()
        self._longest.end()
        self._others.end()
        self._be(place, parent, base / f"{_FOLDER}{place}", says)

    def _be(self, place: int, parent: int, folder: Path, says: Connection) -> NoReturn:
        code = 1
        try:
            tether(parent)
            os.setpgrp()
            # what tests leave is small, and the look for it at each 700th object is a tenth of what they take
            gc.set_threshold(5_000, 20, 50)
            config = self._session.config
            _alone(config, folder)
            teller = Teller(config, says)
            config.pluginmanager.register(teller, "teller")
            self._run_groups(place, teller)
            code = 0
        except KeyboardInterrupt:
            pass
        except BaseException:  # noqa: BLE001 - whatever it is, this process ends and says why
            _capture(self._session.config).stop_global_capturing()
            traceback.print_exc()
        finally:
            if code:
                self._session._setupstate.teardown_exact(None)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _run_groups(self, place: int, teller: Teller) -> None:
        numbers = self._numbers(place)
        number = next(numbers, None)
        while number is not None and not self._get(0):
            self._put(place, number)
            following = next(numbers, None)
            items = self._session.items
            item = items[number]
            item.config.hook.pytest_runtest_protocol(
                item=item, nextitem=None if following is None else items[following]
            )
            teller.tell(number)
            if self._session.shouldfail or self._session.shouldstop:
                break
            number = following
        self._session._setupstate.teardown_exact(None)
        self._put(place, _NOTHING)

    def _numbers(self, place: int) -> Iterator[int]:
        """The numbers of the tests of each group that nobody has taken."""
        queues = [self._longest, self._others]
        # what takes long waits for processes more than it computes, so that some compute while it does
        for queue in queues if place % 2 else reversed(queues):
            for number in queue.taken():
                yield from self._groups[number]


class Teller:
    """Tells the process that we were forked from of each test, once it is over."""

    def __init__(self, config: pytest.Config, says: Connection) -> None:
        self._config = config
        self._says = says
        self._reports: list[Any] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report of a part of the test."""
        # what failed holds frames and more that no other process can be told
        told = report
        if report.longrepr is not None:
            told = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._reports.append(told)

    def tell(self, number: int) -> None:
        """Tell of a test."""
        self._says.send_bytes(pickle.dumps((number, self._reports)))
        self._reports = []

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: tuple[str, int, str] | None
    ) -> None:
        """Tell of a warning."""
        about = {"warning_message": warning_message, "when": when, "nodeid": nodeid, "location": location}
        self._says.send_bytes(pickle.dumps((_NOTHING, about)))


def groups_of(items: Sequence[pytest.Item]) -> list[list[int]]:
    """The numbers of the tests that run in one process one after the other, what takes longest first. What runs alone is in
    other groups."""
    groups: dict[tuple[bool, str], list[int]] = {}
    for number, item in enumerate(items):
        groups.setdefault((_is_alone(item), group_of(item.nodeid)), []).append(number)
    return sorted(groups.values(), key=lambda group: rank_of(items[group[0]].nodeid))


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of a run, which all its processes see."""
    ours = factory.getbasetemp()
    return ours.parent if ours.name.startswith(_FOLDER) else ours


def _alone(config: pytest.Config, folder: Path) -> None:
    """Share with the other processes nothing that pytest holds: the terminal, the files of captured output, a folder."""
    config.pluginmanager.unregister(name="terminalreporter")
    capture = _capture(config)
    capture.stop_global_capturing()
    capture.start_global_capturing()
    folder.mkdir(exist_ok=True)
    config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]


def _capture(config: pytest.Config) -> CaptureManager:
    found = config.pluginmanager.getplugin("capturemanager")
    assert isinstance(found, CaptureManager)
    return found
