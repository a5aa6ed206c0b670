"""The plugin that runs tests in forks: nothing is lost or told twice, whatever a process does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from tests.stack import ROOT, wait_for

CONFTEST = """
import os, pathlib, pytest

@pytest.fixture(scope="session", autouse=True)
def whole(tmp_path_factory):
    yield
    with open(pathlib.Path(__file__).parent / "ended", "a") as file:
        file.write(f"{os.getpid()} {tmp_path_factory.getbasetemp()}\\n")
"""


def command(folder: Path, *arguments: str, forks: int = 2) -> list[str]:
    """Run the tests of a folder."""
    plain = [
        "-q",
        "-rA",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:benchmark",
        "-p",
        "tests.forks",
        "--override-ini=markers=alone",
    ]
    return [sys.executable, "-m", "pytest", *plain, f"--forks={forks}", f"--rootdir={folder}", *arguments, str(folder)]


ENVIRON = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Without the plugins that are installed, of which these runs need none: most of the time of each is their import."""


def run(folder: Path, *arguments: str, forks: int = 2, whole: bool = False, **files: str) -> tuple[int, str]:
    """Run such files, or the `whole` suite that they are, and return how it ended and what it said."""
    (folder / "conftest.py").write_text(CONFTEST)
    for name, text in files.items():
        (folder / f"{name}.py").write_text("import os, sys, time, pytest\n" + text)
    words = command(folder, *arguments, forks=forks)
    if whole:
        words[-1] = "--override-ini=testpaths=tests"
    done = subprocess.run(
        words,
        cwd=folder if whole else ROOT,
        env={**ENVIRON, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_each_test_is_told_of_once_with_what_it_wrote(tmp_path: Path) -> None:
    several = "@pytest.mark.parametrize('n', range(50))\ndef test_many(n):\n    print('wrote', n)\n    assert n != 7\n"
    code, text = run(tmp_path, test_one=several, test_two=several, test_three="def test_skip(): pytest.skip('why')\n")
    assert code == 1
    assert "2 failed, 98 passed, 1 skipped" in text
    assert len(re.findall(r"(?m)^FAILED .*\[7\]", text)) == 2
    assert text.count("Captured stdout call") >= 2
    assert re.findall(r"(?m)^wrote 7$", text) != []
    assert "why" in text


def test_a_file_stays_in_one_process_and_all_processes_end_what_they_began(tmp_path: Path) -> None:
    """Each has a temporary folder of its own; the one that collected runs no test, and so begins nothing."""
    pid = "def test_a(): time.sleep(0.3); print('in', __name__, os.getpid())\ndef test_b(): print('in', __name__, os.getpid())\n"
    code, text = run(tmp_path, test_one=pid, test_two=pid)
    assert code == 0, text
    told = {name: set(re.findall(rf"(?m)^in {name} (\d+)$", text)) for name in ("test_one", "test_two")}
    assert [len(pids) for pids in told.values()] == [1, 1], text
    ended = [line.split() for line in (tmp_path / "ended").read_text().splitlines()]
    assert {pid for pid, _ in ended} == told["test_one"] | told["test_two"]
    assert len({folder for _, folder in ended}) == len(ended) == 2


def test_one_process_begins_with_what_takes_long_and_the_next_with_the_rest(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    # each waits for the other process to have begun
    noted = """
        def test_a():
            with open(os.path.dirname(__file__) + "/../begun", "a") as file: file.write(f"{os.getpid()} {__name__}\\n")
            until = time.monotonic() + 20
            while len({line.split()[0] for line in open(os.path.dirname(__file__) + "/../begun")}) < 2 and time.monotonic() < until:
                time.sleep(0.01)
        """
    # a process takes a second file while it runs its first
    long, short = (
        ("test_overload", "test_promises", "test_strict", "test_cli"),
        ("test_a", "test_b", "test_c", "test_d"),
    )
    code, text = run(
        tmp_path, forks=2, whole=False, **dict.fromkeys([f"tests/{name}" for name in (*short, *long)], dedent(noted))
    )
    assert code == 0, text
    begun = [line.split() for line in (tmp_path / "begun").read_text().splitlines()]
    first = {pid: name for pid, name in reversed(begun)}
    assert sorted(first.values()) == ["test_a", "test_overload"]
    assert sorted(name for _, name in begun) == sorted((*short, *long))


AHEAD = "def test_before(): print('in', os.getpid()); open('ahead', 'w').close()\n"
"""Of a file that computes much."""
AFTER = """
until = time.monotonic() + 20
while not os.path.exists('ahead'):
    assert time.monotonic() < until, "nothing ran while this was collected"
    time.sleep(0.01)
def test_one(): print('in', os.getpid())
def test_two(): pass
"""


def test_what_computes_much_runs_while_all_others_are_collected(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    alone = "@pytest.mark.alone\ndef test_alone(): print('in', os.getpid())\n"
    files = {"tests/test_words": AHEAD + alone, "tests/test_a": AFTER}
    code, text = run(tmp_path, forks=2, whole=True, **files)
    assert code == 0, text
    assert "4 passed" in text
    assert len(set(re.findall(r"(?m)^in (\d+)$", text))) == 3, text


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_one_that_runs_while_others_are_collected_and_ends_is_told_of(tmp_path: Path, end: str) -> None:
    (tmp_path / "tests").mkdir()
    ends = AHEAD + f"def test_ends(): {end}\ndef test_after(): pass\n"
    code, text = run(tmp_path, forks=2, whole=True, **{"tests/test_words": ends, "tests/test_a": AFTER})
    assert code == 1
    assert "3 passed" in text
    assert "2 failed" in text
    assert re.search(r"test_words\.py::test_ends - its process ended in this test", text), text
    assert re.search(r"test_words\.py::test_after - not run, like 0 others", text), text


@pytest.mark.parametrize("interrupted", [True, False])
def test_one_that_runs_while_others_are_collected_ends_with_a_file_that_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    """Also where Ctrl-C is ignored, as it is in what a shell puts into the background."""
    (tmp_path / "tests").mkdir()
    waits = (
        AHEAD
        + "def test_waits():\n    with open('pid', 'w') as file: file.write(str(os.getpid()))\n    time.sleep(60)\n"
    )
    if not interrupted:
        waits = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + waits
    broken = AFTER.replace("os.path.exists('ahead')", "(os.path.exists('pid') and os.path.getsize('pid'))") + "1 / 0\n"
    monkeypatch.setitem(ENVIRON, "END_FORKS_WITHIN", "1")
    code, text = run(tmp_path, forks=2, whole=True, **{"tests/test_words": waits, "tests/test_a": broken})
    assert code == 2, text
    assert "ZeroDivisionError" in text
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_runs_alone_runs_after_all_others(tmp_path: Path) -> None:
    mark = "@pytest.mark.alone\ndef test_alone(): print('alone at', time.time())\n"
    busy = "def test_busy(): time.sleep(0.5); print('busy until', time.time())\n"
    code, text = run(tmp_path, test_a=mark + busy, test_b=busy, test_c=mark)
    assert code == 0, text
    until = [float(seconds) for seconds in re.findall(r"busy until (\S+)", text)]
    alone = [float(seconds) for seconds in re.findall(r"alone at (\S+)", text)]
    assert (len(until), len(alone)) == (2, 2)
    assert max(until) < min(alone)


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
@pytest.mark.parametrize("forks", [1, 2])
def test_a_process_that_ends_in_a_test_fails_it_and_what_it_had_still_to_run(
    tmp_path: Path, end: str, forks: int
) -> None:
    ends = f"def test_before(): pass\ndef test_ends(): {end}\ndef test_after(): pass\n"
    several = {f"test_{name}": "def test_one(): pass\ndef test_two(): pass\n" for name in "bcd"}
    code, text = run(tmp_path, forks=forks, whole=False, test_a=ends, **several)
    assert code == 1
    assert "its process ended in this test" in text
    # one test ended its process, and one stands for those that did not run
    (passed,) = {int(count) for count in re.findall(r"(\d+) passed", text)}
    # in CI a summary has the reasons once more
    (others,) = {int(count) for count in re.findall(r"not run, like (\d+) others: their processes ended before", text)}
    assert "2 failed" in text
    assert passed + 2 + others == 9, text


def test_the_first_failure_stops_all_where_that_is_asked_for(tmp_path: Path) -> None:
    slow = "".join(f"def test_{n}(): time.sleep(0.2)\n" for n in range(50))
    code, text = run(tmp_path, "-x", test_a="def test_fails(): assert 0\n", test_b=slow, test_c=slow)
    assert code == 1
    assert "stopping after 1 failures" in text
    assert sum(int(count) for count in re.findall(r"(\d+) passed", text)) < 50


def test_a_failure_at_the_end_of_a_session_is_one(tmp_path: Path) -> None:
    ends = "@pytest.fixture(scope='session')\ndef bad():\n    yield\n    raise OSError('too late')\n\ndef test_a(bad): pass\n"
    code, text = run(tmp_path, test_a=ends, test_b="def test_b(): pass\n")
    assert code == 1
    assert "too late" in text
    assert "2 passed, 1 error" in text


def test_a_test_that_waits_for_ever_fails_and_the_others_run(tmp_path: Path) -> None:
    """However it catches what goes wrong."""
    waits = """
def test_waits():
    threading.Thread(target=beside, name="beside", daemon=True).start()
    while True:
        try: waiting_here()
        except Exception: pass
def waiting_here(): time.sleep(60)
def beside(): time.sleep(60)
def test_after(): pass
"""
    limit = ["-p", "pytest_timeout", "--timeout=0.5", "--timeout-method=signal"]
    code, text = run(tmp_path, *limit, forks=2, test_a="import threading\n" + waits, test_b="def test_b(): pass\n")
    assert code == 1
    assert "1 failed, 2 passed" in text
    assert "Timeout (>0.5s)" in text
    assert "in waiting_here" in text or "waiting_here()" in text
    assert "in beside" in text


LEFT = """
class Cycle: pass
def test_leaves():
    cycle = Cycle()
    cycle.itself = cycle
    cycle.open = open(__file__)
"""


@pytest.mark.parametrize("forks", [1, 2])
def test_what_is_raised_as_a_process_ends_is_a_failure(tmp_path: Path, forks: int) -> None:
    """A file that was never closed, of which Python says so once it looks for what nobody holds."""
    trivial = "def test_trivial(): pass\n"
    code, text = run(tmp_path, "-W", "error", forks=forks, test_a=LEFT, test_b=trivial, test_c=trivial)
    assert code == 1
    assert "3 passed, 1 error" in text
    assert "unclosed file" in text


def test_a_process_that_a_test_leaves_behind_is_not_waited_for(tmp_path: Path) -> None:
    forks = "def test_forks():\n    left = os.fork()\n    if not left: time.sleep(20); os._exit(0)\n    open('left', 'w').write(str(left))\n"
    (tmp_path / "test_a.py").write_text("import os, time\n" + forks)
    (tmp_path / "test_b.py").write_text("def test_b(): pass\n")
    # to no pipe, which what is left would have, too
    with (tmp_path / "said").open("w") as said:
        environ = {**ENVIRON, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command(tmp_path), cwd=tmp_path, env=environ, stdout=said, timeout=40, check=False)
    assert done.returncode == 0
    assert "2 passed" in (tmp_path / "said").read_text()
    # it is still there
    os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)


def test_what_no_other_process_can_make_is_told_all_the_same(tmp_path: Path) -> None:
    odd = """
class Odd(UserWarning):
    def __init__(self, one, two): super().__init__("odd")
class Never:
    def __reduce__(self): return (int, ("no number",))
def test_warns():
    import warnings
    warnings.warn(Odd(1, 2))
def test_says(record_property): record_property("a", Never())
def test_after(): pass
"""
    code, text = run(tmp_path, forks=2, test_a=odd, test_b="def test_b(): pass\n")
    assert code == 1
    assert "1 failed, 3 passed, 1 warning" in text
    assert "Odd: odd" in text
    assert "what it told cannot be read: ValueError" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--lf", "-p", "cacheprovider"], "1 failed"), (["-m", "alone"], "1 passed"), (["-k", "test_fails"], "1 failed")],
)
def test_some_of_the_tests_are_run_as_they_are_of_one_process(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "tests").mkdir()
    alone = "@pytest.mark.alone\ndef test_alone(tmp_path_factory): tmp_path_factory.mktemp('a', numbered=False)\n"
    files = {"tests/test_words": AHEAD + alone, "tests/test_a": "def test_fails(): assert 0\ndef test_b(): pass\n"}
    if "--lf" in arguments:
        run(tmp_path, "-p", "cacheprovider", forks=2, whole=True, **files)
    code, text = run(tmp_path, *arguments, forks=2, whole=True, **files)
    assert f"\n{said}" in text, text
    assert code == (1 if "failed" in said else 0)


def test_a_warning_is_told_of(tmp_path: Path) -> None:
    code, text = run(tmp_path, test_a="import warnings\ndef test_a(): warnings.warn('be warned')\n")
    assert code == 0
    assert "be warned" in text
    assert "1 passed, 1 warning" in text


def test_an_interrupt_ends_all_processes(tmp_path: Path) -> None:
    slow = "def test_slow():\n    open(__file__ + f'.{os.getpid()}', 'w').close()\n    time.sleep(60)\n"
    for name in ("test_a", "test_b", "test_c"):
        (tmp_path / f"{name}.py").write_text("import os, time\n" + slow)
    with subprocess.Popen(
        command(tmp_path), cwd=ROOT, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), start_new_session=True,
    ) as process:  # fmt: skip
        wait_for(lambda: len([*tmp_path.glob("*.py.*")]) == 2)
        time.sleep(0.1)
        pids = [path.suffix[1:] for path in tmp_path.glob("*.py.*")]
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=20)[0]
    assert process.returncode == 2, text
    assert "KeyboardInterrupt" in text
    assert not any(Path("/proc", pid).exists() for pid in pids)
