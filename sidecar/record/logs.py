"""Structured logs on stderr: one JSON object a line. The decision log is separate: `record/journal.py`."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import sys
import threading

from sidecar.record.outlet import Outlet

log = logging.getLogger("sidecar")

MAX_WAITING = 256 * 1024
"""Bytes of lines that may wait for a reader; further lines are dropped and counted."""


class JsonFormatter(logging.Formatter):
    """A log record as one line of ASCII JSON, with the fields that `extra={"fields": {...}}` brings."""

    def format(self, record: logging.LogRecord) -> str:
        """One record, one line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        entry = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        entry |= getattr(record, "fields", {})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=True, default=str)


class Stderr(logging.Handler):
    """Writes lines to stderr, and never waits until somebody reads them."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet
        self._dropped = 0
        self._ended = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, with those that were held before it."""
        if self._ended:
            return
        if self._outlet.waiting > MAX_WAITING:
            self._dropped += 1
        else:
            self._outlet.put([self.format(record) + "\n"])
        self.flush()

    def flush(self) -> None:
        """Write what is taken."""
        if self._ended:
            return
        assert self.lock is not None  # noqa: S101 - `Handler` makes it
        with self.lock, contextlib.suppress(OSError):
            if self._outlet.send() and self._dropped:
                dropped, self._dropped = self._dropped, 0
                log.warning("nobody read this log: %d lines of it are dropped", dropped)

    def close(self) -> None:
        """Give stderr back; again is nothing, for by then its number may be another file's."""
        if not self._ended:
            self._ended = True
            self._outlet.close()
        super().close()


def configure(level: str) -> None:
    """Send every logger of this process to stderr as JSON, and what Python would write there itself, waiting for the
    reader; libraries speak from warnings on."""
    handler = Stderr(Outlet.standard(2))
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(level.upper())
    logging.captureWarnings(True)
    sys.unraisablehook = threading.excepthook = _tell


def _tell(ended: sys.UnraisableHookArgs | threading.ExceptHookArgs) -> None:
    """Tell of an exception that ended a thread, or that nobody could catch."""
    log.error("an exception that nothing caught", exc_info=ended.exc_value)


def flush() -> None:
    """Write the lines that were not taken before."""
    for handler in logging.getLogger().handlers:
        handler.flush()
