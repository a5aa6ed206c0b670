"""Files of a log, by name, pattern or pipe, as text or compressed by gzip."""

from __future__ import annotations

import glob
import io
import os
import stat
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sidecar.imports.files import STDIN, InputFile, open_source
from sidecar.imports.sighting import UnusableFile

_FOREIGN = (
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"), (b"\xfd7zXZ\0", "xz", "xz -dc"), (b"BZh", "bzip2", "bzip2 -dc"),
    (b"PK\3\4", "zip", "unzip -p"), (b"\xff\xfe", "UTF-16", "iconv -f UTF-16 -t UTF-8"),
)  # fmt: skip
"""First bytes of files that are not read -> their format, and a command that makes text of them."""


class LogFile(NamedTuple):
    """A file as it was named. `size` are its bytes as they are stored; None of a pipe, which can be read only once."""

    name: str
    size: int | None


def log_files(names: Iterable[str]) -> list[LogFile]:
    """Return the files of these names and patterns, each once. Raises UnusableFile with all that is wrong with them."""
    found: dict[object, LogFile] = {}
    problems: list[str] = []
    for name in (each for named in names for each in _named(named, problems)):
        try:
            status = os.stat(0 if name == STDIN else name)
        except OSError as error:
            problems.append(f"{name}: cannot be read: {error.strerror}")
            continue
        if stat.S_ISDIR(status.st_mode):
            problems.append(f"{name}: found a folder, expected a file: name those in it, such as {name}/*.log")
            continue
        size = status.st_size if stat.S_ISREG(status.st_mode) and name != STDIN else None
        found.setdefault((status.st_dev, status.st_ino), LogFile(name, size))
    if problems:
        raise UnusableFile(problems)
    return list(found.values())


def _named(name: str, problems: list[str]) -> list[str]:
    if name == STDIN or not glob.has_magic(name) or os.path.exists(name):
        return [name]
    found = sorted(glob.glob(name, recursive=True))
    if not found:
        problems.append(f"{name}: found no file of this pattern, expected one or more")
    return found


def open_log(file: LogFile, stdin: io.BufferedIOBase, progress: Callable[[int], None]) -> InputFile:
    """Open a file. `progress` gets the bytes of it that were read so far. Raises UnusableFile."""
    source = open_source(file.name, stdin, progress)
    for mark, form, command in _FOREIGN:
        if source.head.startswith(mark):
            source.stream.close()
            raise UnusableFile([
                f"{file.name}: found {form}, expected text, or text compressed by gzip: "
                f"{command} {file.name} | sidecar ... -"
            ])  # fmt: skip
    return source
