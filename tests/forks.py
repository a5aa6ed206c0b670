"""A plugin that runs tests in several processes, which fork after one collection. `pytest -p tests.forks --forks 3`

Processes of pytest-xdist collect everything for themselves, 13 s of CPU each, and agree with one that hands out tests and hears
of each result as it comes, which takes as long as most tests here do. A fork has what was collected, takes the next group of
tests from a pipe, and tells of a test once, when it is over.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import mmap
import os
import pickle
import select
import signal
import struct
import sys
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

import pytest
from _pytest.capture import CaptureManager
from _pytest.config import create_terminal_writer
from _pytest.threadexception import collect_thread_exception
from _pytest.unraisableexception import collect_unraisable, gc_collect_harder

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
    return next((group for start, group in GROUPS.items() if nodeid.startswith(start)), _file_of(nodeid))


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def rank_of(nodeid: str) -> int:
    """The place of a test's file among those that begin first."""
    return next((rank for rank, start in enumerate(LONGEST) if nodeid.startswith(start)), len(LONGEST))


AHEAD = (
    "tests/test_architecture.py", "tests/test_words.py", "tests/test_facts.py", "tests/imports/test_memory.py", "tests/study/test_batch.py",
    "tests/gate/test_own.py", "tests/test_remembered.py",
)  # fmt: skip
"""Files that compute much in few tests, which a process of their own runs while all others are collected."""

_NUMBER = struct.Struct("=i")
_NOTHING = -1
"""In the place of a test's number: this process runs none."""
_NAMES = -2
"""In the place of a test's number: these are the tests of a process that collected for itself."""
_FOLDER = "fork-"
_END_WITHIN = float(os.environ.get("END_FORKS_WITHIN", "20"))
"""Seconds that a process has to end what its tests share."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--forks`."""
    parser.addoption(
        "--forks", type=int, default=0, metavar="N", help="run tests in N processes, a group of them in one"
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Let a process run some files while all are collected, where all are asked for."""
    option = session.config.option
    all_of_them = session.config.args_source is pytest.Config.ArgsSource.TESTPATHS and not option.collectonly
    # what failed before is found in the whole collection
    before = any(getattr(option, name, False) for name in ("lf", "failedfirst", "newfirst", "stepwise"))
    if option.forks > 1 and all_of_them and not before:
        session.stash[_AHEAD] = fork(session, 0, partial(_collect_ahead, session))
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests that were collected; one process, or none to run in, is pytest's own affair."""
    count = session.config.option.forks
    if not count or session.config.option.collectonly or session.testsfailed:
        return None
    groups = groups_of(session.items)
    beside = [group for group in groups if not _is_alone(session.items[group[0]])]
    alone = [group for group in groups if group not in beside]
    for some, places in ((beside, range(1, count + 1)), (alone, range(count + 1, count + 2))):
        if some:
            Run(session, some, places).run()
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the process that began while all were collected, where nothing came of that."""
    if ahead := session.stash.get(_AHEAD, None):
        ahead.end()


class Standing:
    """What a process and the one that it forked from both see."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 2 * _NUMBER.size)
        self.at = _NOTHING

    @property
    def at(self) -> int:
        """The number of the test that it runs."""
        return int(_NUMBER.unpack_from(self._shared)[0])

    @at.setter
    def at(self, number: int) -> None:
        _NUMBER.pack_into(self._shared, 0, number)

    @property
    def stops(self) -> bool:
        """Whether it is to begin no other."""
        return bool(_NUMBER.unpack_from(self._shared, _NUMBER.size)[0])

    def stop(self) -> None:
        """Let it begin no other."""
        _NUMBER.pack_into(self._shared, _NUMBER.size, 1)


@dataclass
class Fork:
    """A process that runs tests, from our side. `numbers` are those of its tests here, where it has others for them."""

    pid: int
    said: Connection
    standing: Standing
    numbers: list[int] | None = None

    def __post_init__(self) -> None:
        self.ended = os.pidfd_open(self.pid)

    def end(self) -> None:
        """End it, as Ctrl-C does where it goes on, and by force where it does not heed that. All that it said was heard."""
        self.standing.stop()
        # nobody reads any more what it would wait to tell
        self.said.close()
        for number in (signal.SIGINT, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
        if not select.select([self.ended], [], [], _END_WITHIN)[0]:
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.ended)

    def number_of(self, theirs: int) -> int:
        """The number of a test here, or nothing where it is not among those that were collected."""
        return theirs if self.numbers is None else self.numbers[theirs]


_AHEAD = pytest.StashKey[Fork]()


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

    def __init__(self, session: pytest.Session, groups: list[list[int]], places: range) -> None:
        self._session = session
        self._groups = groups
        self._places = places[: len(groups)]
        self._untold = {number for group in groups for number in group}
        self._longest = Queue()
        self._others = Queue()

    def run(self) -> None:
        """Run the tests, and tell of each. Raises what pytest raises where the run is to stop early."""
        forks = self._begin()
        try:
            self._listen(forks)
        finally:
            for each in forks:
                each.end()
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)
        if self._untold:
            self._fail(min(self._untold), f"not run, like {len(self._untold) - 1} others: their processes ended before")

    def _begin(self) -> list[Fork]:
        ahead = self._session.stash.get(_AHEAD, None)
        for number, group in enumerate(self._groups):
            nodeid = self._session.items[group[0]].nodeid
            if ahead is None or _file_of(nodeid) not in AHEAD or _is_alone(self._session.items[group[0]]):
                (self._longest if rank_of(nodeid) < len(LONGEST) else self._others).put(number)
        forks = [fork(self._session, place, partial(self._take, place)) for place in self._places]
        for queue in (self._longest, self._others):
            queue.end()
            queue.close()
        if ahead is not None:
            del self._session.stash[_AHEAD]
            forks.append(ahead)
        return forks

    def _take(self, place: int, _: Teller) -> Iterator[int]:
        """The numbers of the tests of each group that nobody has taken, in the process of that place."""
        queues = [self._longest, self._others]
        for queue in queues:
            queue.end()
        # what takes long waits for processes more than it computes, so that some compute while it does
        for queue in queues if place % 2 else reversed(queues):
            for number in queue.taken():
                yield from self._groups[number]

    def _listen(self, forks: list[Fork]) -> None:
        going = list(forks)
        while going:
            ready = wait([each.said for each in going] + [each.ended for each in going])
            for each in list(going):
                # one that has ended says no more, though what a test of it began may still have the pipe
                goes_on = each.ended not in ready or each.said.poll()
                if not (self._hear(each) if each.said in ready else goes_on):
                    going.remove(each)
                    if each.standing.at != _NOTHING:
                        self._fail(each.number_of(each.standing.at), "its process ended in this test")
            if self._session.shouldfail or self._session.shouldstop:
                for each in forks:
                    each.standing.stop()

    def _hear(self, of: Fork) -> bool:
        """Hear what a process says, if it still does."""
        try:
            said = of.said.recv_bytes()
        except (EOFError, OSError):
            return False
        (number,) = _NUMBER.unpack_from(said)
        try:
            about = pickle.loads(said[_NUMBER.size :])
        except Exception as error:  # noqa: BLE001 - a class of a test may do anything
            self._fail(of.number_of(number), f"what it told cannot be read: {error!r}")
            return True
        if number == _NOTHING:
            self._session.config.hook.pytest_warning_recorded.call_historic(kwargs=about)
        elif number == _NAMES:
            here = {item.nodeid: number for number, item in enumerate(self._session.items)}
            of.numbers = [here.get(name, _NOTHING) for name in about]
        elif of.number_of(number) != _NOTHING:
            self._tell(of.number_of(number), [self._report_of(told) for told in about])
        return True

    def _tell(self, number: int, reports: list[pytest.TestReport]) -> None:
        hook = self._session.config.hook
        self._untold.discard(number)
        # as it says: a test finds out where it is by looking at files
        nodeid, location = reports[0].nodeid, reports[0].location
        hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)

    def _report_of(self, told: pytest.TestReport | dict[str, Any]) -> pytest.TestReport:
        if isinstance(told, pytest.TestReport):
            return told
        report = self._session.config.hook.pytest_report_from_serializable(config=self._session.config, data=told)
        assert isinstance(report, pytest.TestReport)
        return report

    def _fail(self, number: int, why: str) -> None:
        if number == _NOTHING:
            return
        self._untold.discard(number)
        item = self._session.items[number]
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
        self._session.config.hook.pytest_runtest_logreport(report=report)


# --- a process that runs tests ---


def fork(session: pytest.Session, place: int, take: Callable[[Teller], Iterator[int]]) -> Fork:
    """Begin a process that runs the tests whose numbers it takes."""
    hears, says = Pipe(duplex=False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        # nobody hears the one that begins while all are collected, and it is not to wait for that
        fcntl.fcntl(says, fcntl.F_SETPIPE_SZ, 1 << 20)
    standing = Standing()
    folder = session.config._tmp_path_factory.getbasetemp() / f"{_FOLDER}{place}"  # type: ignore[attr-defined]
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    if pid := os.fork():
        says.close()
        return Fork(pid, hears, standing)
    try:
        hears.close()
        code = _be(session, parent, folder, Teller(session.config, says), standing, take)
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends and says why
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _be(
    session: pytest.Session, parent: int, folder: Path, teller: Teller, standing: Standing,
    take: Callable[[Teller], Iterator[int]],
) -> int:  # fmt: skip
    tether(parent)
    os.setpgrp()
    try:
        _alone(session.config, folder)
        teller.listen()
        _run(session, take(teller), teller, standing)
    except KeyboardInterrupt:
        pass
    except BaseException:  # noqa: BLE001 - as above, and what its tests share ends, too
        _capture(session.config).stop_global_capturing()
        traceback.print_exc()
    else:
        return 0
    session._setupstate.teardown_exact(None)
    return 1


def _run(session: pytest.Session, numbers: Iterator[int], teller: Teller, standing: Standing) -> None:
    number = next(numbers, None)
    while number is not None and not standing.stops:
        standing.at = number
        following = next(numbers, None)
        item = session.items[number]
        item.config.hook.pytest_runtest_protocol(
            item=item, nextitem=None if following is None else session.items[following]
        )
        teller.tell(number)
        if session.shouldfail or session.shouldstop:
            break
        number = following
    session._setupstate.teardown_exact(None)
    if standing.at != _NOTHING:
        _look_at_what_is_left(session.items[standing.at])
        teller.tell(standing.at)
    standing.at = _NOTHING


def _look_at_what_is_left(item: pytest.Item) -> None:
    """Report what pytest finds as it ends: what was raised where nobody could catch it."""

    def look() -> None:
        gc_collect_harder(2)
        collect_unraisable(item.config)
        collect_thread_exception(item.config)

    call = pytest.CallInfo.from_call(look, "teardown")
    if call.excinfo is not None:
        item.ihook.pytest_runtest_logreport(report=item.ihook.pytest_runtest_makereport(item=item, call=call))


def _collect_ahead(session: pytest.Session, teller: Teller) -> Iterator[int]:
    config = session.config
    files = [file for file in map(config.rootpath.joinpath, AHEAD) if file.exists()]
    # what is asked for by its name is not ignored
    ignored = [config.hook.pytest_ignore_collect(collection_path=file, config=config) for file in files]
    asked = [str(file) for file, left_out in zip(files, ignored, strict=True) if not left_out]
    # of nothing pytest makes all
    items = session.perform_collect(asked) if asked else []
    gc.freeze()
    teller.tell_names([item.nodeid for item in items])
    for group in groups_of(items):
        if not _is_alone(items[group[0]]):
            yield from group


class Teller:
    """Tells the process that we were forked from of each test, once it is over."""

    def __init__(self, config: pytest.Config, says: Connection) -> None:
        self._config = config
        self._says = says
        self._reports: list[Any] = []
        self._listens = False

    def listen(self) -> None:
        """Hear of reports and warnings from now on: the process that we were forked from knows of those before."""
        self._config.pluginmanager.register(self, "teller")
        self._listens = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report of a part of the test."""
        # what failed holds frames and more that no other process can be told
        told = report
        if report.longrepr is not None:
            told = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._reports.append(told)

    def tell(self, number: int) -> None:
        """Tell of a test."""
        if self._reports:
            self._say(number, self._reports)
        self._reports = []

    def tell_names(self, names: list[str]) -> None:
        """Tell what the tests are called whose numbers follow."""
        self._say(_NAMES, names)

    def _say(self, number: int, about: Any) -> None:
        self._says.send_bytes(_NUMBER.pack(number) + pickle.dumps(about))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: tuple[str, int, str] | None
    ) -> None:
        """Tell of a warning. Its class may be one of a test, which no other process can make."""
        if self._listens:
            it = warning_message
            plain = pytest.PytestWarning(f"{it.category.__name__}: {it.message}")
            told = warnings.WarningMessage(plain, pytest.PytestWarning, it.filename, it.lineno)
            self._say(_NOTHING, {"warning_message": told, "when": when, "nodeid": nodeid, "location": location})


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
    config.pluginmanager.register(_Silent(config), "terminalreporter")
    capture.start_global_capturing()
    folder.mkdir(exist_ok=True)
    config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]


class _Silent:
    """In the place of the terminal's reporter, which the other process has: what writes of a test in need."""

    def __init__(self, config: pytest.Config) -> None:
        self._tw = create_terminal_writer(config, sys.stdout)


def _capture(config: pytest.Config) -> CaptureManager:
    found = config.pluginmanager.getplugin("capturemanager")
    assert isinstance(found, CaptureManager)
    return found
