"""Logs on stderr are one JSON object a line."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from sidecar.record.logs import JsonFormatter, Stderr
from sidecar.record.outlet import Outlet


def test_a_record_is_one_ascii_line_with_its_fields() -> None:
    record = logging.LogRecord("sidecar.cerbos", logging.INFO, "f.py", 1, "policies\nloaded %s", ("é",), None)
    record.fields = {"call": 7}
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line) | {"time": ""} == {
        "time": "", "level": "info", "logger": "sidecar.cerbos", "message": "policies\nloaded é", "call": 7,
    }  # fmt: skip


def test_a_traceback_is_a_field_and_libraries_speak_from_warnings_on() -> None:
    program = (
        "import logging, sidecar.record.logs as l; l.configure('info')\n"
        "logging.getLogger('httpx').info('quiet'); logging.getLogger('sidecar').info('heard')\n"
        "try: 1/0\nexcept ZeroDivisionError: logging.getLogger('sidecar').exception('oops')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heard, oops = (json.loads(line) for line in done.stderr.splitlines())
    assert heard["message"] == "heard"
    assert "ZeroDivisionError" in oops["traceback"]
    assert done.stdout == ""


def test_what_python_tells_on_stderr_itself_is_a_line_too() -> None:
    program = (
        "import sidecar.record.logs as l, threading, warnings; l.configure('info')\n"
        "class Bad:\n def __del__(self): 1/0\n"
        "Bad(); warnings.warn('old'); thread = threading.Thread(target=lambda: [][0]); thread.start(); thread.join()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    unraised, warned, ended = (json.loads(line) for line in done.stderr.splitlines())
    assert "ZeroDivisionError" in unraised["traceback"]
    assert "old" in warned["message"]
    assert "IndexError" in ended["traceback"]


def test_a_handler_that_is_closed_twice_closes_no_file_of_others() -> None:
    """`logging` closes a handler again where somebody has put it back, and at the end of the process."""
    handler = Stderr(Outlet.standard(2))
    handler.close()
    with Path(os.devnull).open("wb") as other:
        # the number is free, and this file is likely to have it now
        handler.emit(logging.makeLogRecord({"msg": "too late"}))
        handler.flush()
        handler.close()
        assert os.fstat(other.fileno())
