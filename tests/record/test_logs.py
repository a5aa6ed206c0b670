"""Logs on stderr are one JSON object a line."""

import json
import logging
import subprocess
import sys

from sidecar.record.logs import JsonFormatter


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
